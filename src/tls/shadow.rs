//! What a policy that is not in force would have done to a client.
//!
//! `Policy × credentials × Offer × what happens now ──judge──▶ Verdict`

use super::Severity;
use super::about::About;
use super::negotiate::{CredentialKind, negotiate};
use super::offer::Offer;
use super::policy::Policy;
use super::reason::Reason;

/// How a handshake under another policy compares with the one that took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Client and host agree on nothing, now and then.
    Failing,
    /// It does not connect now, and would.
    Gained,
    /// It connects, now and then.
    Kept,
    /// It connects now, and would not.
    Lost(Reason),
}

impl Verdict {
    /// The value of the `outcome` label.
    pub fn label(self) -> String {
        match self {
            Verdict::Failing => "failing".to_owned(),
            Verdict::Gained => "gained".to_owned(),
            Verdict::Kept => "kept".to_owned(),
            Verdict::Lost(reason) => format!("lost-{}", reason.label()),
        }
    }
}

/// What is to be said about each outcome; `lost` is followed by a reason.
pub static ABOUT: [About; 4] = [
    About {
        code: "failing",
        severity: Severity::Info,
        meaning: "Client and host agree on nothing, now and under the shadow policy (handfast_tls_shadow_handshakes_total).",
        fault: "nobody, as far as the shadow policy goes",
        remedy: "nothing for the shadow policy; `handfast failures` says why these clients fail now",
    },
    About {
        code: "gained",
        severity: Severity::Info,
        meaning: "The client cannot connect now, and could under the shadow policy (handfast_tls_shadow_handshakes_total).",
        fault: "nobody",
        remedy: "nothing; put the shadow policy in force to let these clients in",
    },
    About {
        code: "kept",
        severity: Severity::Info,
        meaning: "Client and host agree now, and would under the shadow policy (handfast_tls_shadow_handshakes_total).",
        fault: "nobody",
        remedy: "nothing: these clients would not notice the shadow policy",
    },
    About {
        code: "lost",
        severity: Severity::Info,
        meaning: "The client connects now, and would not under the shadow policy, for the reason behind lost- \
                  (handfast_tls_shadow_handshakes_total).",
        fault: "whoever wants the shadow policy in force",
        remedy: "look at these clients with `handfast failures --shadow`, and do not put the shadow policy in force before \
                 they can do without",
    },
];

/// Compares. `agreed` says whether client and host agree on something under the policy in force; whether the client
/// then likes the certificate is no matter of policies.
pub fn judge(policy: &Policy, kinds: &[CredentialKind], offer: &Offer, agreed: bool) -> Verdict {
    match (agreed, negotiate(policy, kinds, offer)) {
        (true, Ok(_)) => Verdict::Kept,
        (true, Err(reason)) => Verdict::Lost(reason),
        (false, Ok(_)) => Verdict::Gained,
        (false, Err(_)) => Verdict::Failing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::clients::client;
    use crate::tls::policy::Settings;

    #[test]
    fn each_client_is_kept_lost_gained_or_failing() {
        let kinds = [CredentialKind::EcdsaP256];
        let (modern, default) = (Policy::new(Settings::modern()).unwrap(), Policy::default());
        let judge = |id: &str, policy, agreed| judge(policy, &kinds, &client(id).unwrap().offer, agreed).label();
        assert_eq!(judge("chrome-150", &modern, true), "kept");
        assert_eq!(judge("java-8u161", &modern, true), "lost-no-shared-version");
        assert_eq!(judge("java-8u161", &default, false), "gained");
        assert_eq!(judge("java-7-7u25-7u80-defaults", &modern, false), "failing");
        for outcome in [Verdict::Failing, Verdict::Gained, Verdict::Kept, Verdict::Lost(Reason::CbcOnly)] {
            let label = outcome.label();
            assert!(ABOUT.iter().any(|about| label.split('-').next() == Some(about.code)), "{label}");
        }
    }
}
