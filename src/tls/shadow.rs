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

/// The text about each outcome; `lost` is followed by a reason.
pub static ABOUT: [About; 4] = [
    About {
        code: "failing",
        severity: Severity::Info,
        meaning: "The client cannot connect, neither with the current policy nor with the shadow policy (handfast_tls_shadow_handshakes_total).",
        fault: "nobody",
        remedy: "nothing for the shadow policy; `handfast failures` says why these clients fail",
    },
    About {
        code: "gained",
        severity: Severity::Info,
        meaning: "The client cannot connect with the current policy, but could with the shadow policy (handfast_tls_shadow_handshakes_total).",
        fault: "nobody",
        remedy: "nothing; use the shadow policy as the policy to let these clients in",
    },
    About {
        code: "kept",
        severity: Severity::Info,
        meaning: "The client can connect, both with the current policy and with the shadow policy (handfast_tls_shadow_handshakes_total).",
        fault: "nobody",
        remedy: "nothing: the shadow policy would not affect these clients",
    },
    About {
        code: "lost",
        severity: Severity::Info,
        meaning: "The client can connect with the current policy, but could not with the shadow policy, for the reason after lost- \
                  (handfast_tls_shadow_handshakes_total).",
        fault: "the author of the shadow policy",
        remedy: "look at these clients with `handfast failures --shadow`, and do not use the shadow policy before \
                 they are updated",
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
