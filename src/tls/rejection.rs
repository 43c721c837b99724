//! What a client's rejection of our certificate means, together with what we know about the certificate.
//!
//! `Reason × TlsSummary × server name × time ──explain──▶ one statement, who must act, what to do`
//!
//! A client says little: an unknown issuer, or nothing at all. What is wrong with our own chain says the rest, and if
//! nothing is wrong with it, that says something too: it is the client that has to change then.

use rustls::pki_types::UnixTime;

use super::chain::{AnchorDates, AnchorSource, Finding, OutlineEnd};
use super::reason::{Blame, Reason};
use super::{TlsSummary, rfc3339};

/// What a rejection comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Who must act.
    pub blame: Blame,
    /// What is known about the chain that fits what the client says.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}

/// Explains a rejection of what `served` is, by a client that asked for `server_name`, at `now`.
pub fn explain(reason: Reason, served: &TlsSummary, server_name: Option<&str>, now: UnixTime) -> Option<Rejection> {
    let flaw = |(detail, remedy): (String, String)| Rejection { blame: Blame::Certificate, detail, remedy };
    let dates = || {
        let found = expired(served, now).or_else(|| not_valid_yet(served, now)).or_else(|| anchor_dates(served, now));
        found.map(flaw)
    };
    let issuer = || gap(served).map(flaw);
    let name = || name_not_covered(served, server_name).map(flaw);
    let usage = || not_for_servers(served).map(flaw);
    let sound = |detail: &str, remedy: &str| Rejection {
        blame: Blame::Client,
        detail: detail.to_owned(),
        remedy: remedy.to_owned(),
    };
    match reason {
        Reason::RejectedExpired => {
            Some(dates().unwrap_or_else(|| {
                sound("no certificate that the host serves has expired", "correct the client's clock")
            }))
        }
        Reason::RejectedUnknownCa => Some(issuer().or_else(dates).unwrap_or_else(|| anchored(served))),
        Reason::ClosedAfterCertificate
        | Reason::EstablishedWithoutRequest
        | Reason::RejectedUnspecified
        | Reason::ResetAfterCertificate => {
            let found = issuer().or_else(dates).or_else(name).or_else(usage);
            Some(found.unwrap_or_else(|| {
                let sound = anchored(served);
                let remedy = match reason {
                    Reason::RejectedUnspecified => sound.remedy,
                    // It left without a word, as those do that want no more than to know that we are there.
                    _ => format!(
                        "nothing, if it is a health check or a browser that connects in advance; otherwise {}",
                        sound.remedy
                    ),
                };
                Rejection { remedy, ..sound }
            }))
        }
        Reason::RejectedUnsupported => usage(),
        // These say by themselves what they are about.
        _ => None,
    }
}

fn expired(served: &TlsSummary, now: UnixTime) -> Option<(String, String)> {
    let link = served.outline.path.iter().find(|link| link.not_after.as_secs() < now.as_secs())?;
    let detail = format!("certificate {} expired on {}", link.subject, rfc3339(link.not_after));
    Some((detail, "renew the certificate".to_owned()))
}

fn not_valid_yet(served: &TlsSummary, now: UnixTime) -> Option<(String, String)> {
    let link = served.outline.path.iter().find(|link| link.not_before.as_secs() > now.as_secs())?;
    let detail = format!("certificate {} is not valid before {}", link.subject, rfc3339(link.not_before));
    Some((detail, "wait, or have the certificate issued again with an earlier start date".to_owned()))
}

/// The dates of the root itself, which many clients look at.
fn anchor_dates(served: &TlsSummary, now: UnixTime) -> Option<(String, String)> {
    let OutlineEnd::Anchor { subject, .. } = &served.outline.end else { return None };
    let remedy = "have the CA issue its root again with the same name and key, and give that one to the clients";
    Some(match served.outline.anchor_dates(now)? {
        AnchorDates::Expired(end) => (format!("the root {subject} expired at {}", rfc3339(end)), remedy.to_owned()),
        AnchorDates::NotValidBefore(begin) => (
            format!("the root {subject} is not valid before {}", rfc3339(begin)),
            "wait, or check the CA's clock".to_owned(),
        ),
    })
}

/// A chain that leads to nobody whom clients are known to trust.
fn gap(served: &TlsSummary) -> Option<(String, String)> {
    if served.outline.is_temporary() {
        return Some((
            "the certificate is the temporary one of cert-manager, and no client trusts its issuer".to_owned(),
            Finding::TemporaryCertificate.remedy(),
        ));
    }
    match &served.outline.end {
        OutlineEnd::Anchor { .. } => None,
        OutlineEnd::Missing { issuer, is_public: true } => Some((
            format!("the chain lacks its intermediate {issuer}"),
            format!("put the certificate of {issuer} into tls.crt, or let the policy complete the chain"),
        )),
        OutlineEnd::Missing { issuer, is_public: false } => Some((
            format!("the chain ends at {issuer}, which is neither in tls.crt nor a public root"),
            format!(
                "put the certificate of {issuer} into tls.crt if it is an intermediate; if it is a private root, give it to the clients, and name it in ca.crt or --trust-anchors"
            ),
        )),
        OutlineEnd::SelfSigned => Some((
            "the certificate is self-signed".to_owned(),
            "have the certificate issued by a CA that the clients trust".to_owned(),
        )),
        OutlineEnd::Withdrawn { root, .. } => Some((
            format!("the chain leads to the public root {}: {}", root.name, root.words()),
            "have the certificate issued by a CA whose root clients have".to_owned(),
        )),
        OutlineEnd::UnknownRoot { subject } => Some((
            format!("the chain leads to {subject}, which is not a public root"),
            format!(
                "give {subject} to the clients, and name it in ca.crt or --trust-anchors, or have the certificate issued by a public CA"
            ),
        )),
    }
}

fn name_not_covered(served: &TlsSummary, server_name: Option<&str>) -> Option<(String, String)> {
    let name = server_name?;
    // RFC 9525 section 6.3: the name itself, or a star for exactly its first label.
    let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    let covers =
        |san: &str| san.eq_ignore_ascii_case(name) || wildcard.as_ref().is_some_and(|w| san.eq_ignore_ascii_case(w));
    if served.names.iter().any(|san| covers(san)) {
        return None;
    }
    const SHOWN: usize = 5;
    let mut names: Vec<&str> = served.names.iter().take(SHOWN).map(|name| &**name).collect();
    if served.names.len() > SHOWN {
        names.push("…");
    }
    Some((
        format!("the certificate does not cover {name}, only {}", names.join(", ")),
        format!("have the certificate issued for {name} too (subjectAltName)"),
    ))
}

fn not_for_servers(served: &TlsSummary) -> Option<(String, String)> {
    let (link, usage) = served.outline.path.iter().find_map(|link| Some((link, link.other_usage.as_ref()?)))?;
    Some((
        format!("certificate {} may not be used for servers, only for {usage}", link.subject),
        "have the certificate issued for servers (extended key usage serverAuth)".to_owned(),
    ))
}

/// Nothing is wrong with the chain as far as we can see.
fn anchored(served: &TlsSummary) -> Rejection {
    let (detail, remedy) = match &served.outline.end {
        OutlineEnd::Anchor { subject, source: AnchorSource::Public } => (
            format!("the chain is complete and valid, and leads to the public root {subject}"),
            "check the client's trust store: it may be too old for this root, or have only private roots".to_owned(),
        ),
        OutlineEnd::Anchor { subject, source: AnchorSource::Operator | AnchorSource::Secret } => (
            format!("the chain is complete and valid, and leads to the private root {subject}"),
            format!("add {subject} to the client's trust store"),
        ),
        OutlineEnd::Missing { .. }
        | OutlineEnd::SelfSigned
        | OutlineEnd::UnknownRoot { .. }
        | OutlineEnd::Withdrawn { .. } => {
            ("nothing else is wrong with the chain".to_owned(), "check the client's trust store".to_owned())
        }
    };
    Rejection { blame: Blame::Client, detail, remedy }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::tls::chain::{Link, Outline, Role};

    fn at(secs: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(secs))
    }

    fn served(end: OutlineEnd, valid: std::ops::Range<u64>) -> TlsSummary {
        let link = Link {
            place: 1,
            added_from: None,
            subject: "CN=shop.example".into(),
            issuer: "CN=E7".into(),
            not_before: at(valid.start),
            not_after: at(valid.end),
            key: "ecdsa-p256".into(),
            other_usage: None,
            role: Role::Leaf,
        };
        TlsSummary {
            fingerprint: "00".into(),
            names: vec!["shop.example".into(), "*.shop.example".into()],
            not_before: link.not_before,
            not_after: link.not_after,
            key: "ecdsa-p256".into(),
            chain_length: 1,
            outline: Arc::new(Outline { path: vec![link], end, ..Outline::default() }),
        }
    }

    fn public_root() -> OutlineEnd {
        OutlineEnd::Anchor { subject: "CN=ISRG Root X1".into(), source: AnchorSource::Public }
    }

    #[test]
    fn an_unknown_issuer_and_a_missing_intermediate_are_one_statement() {
        let gap = OutlineEnd::Missing { issuer: "CN=E7".into(), is_public: true };
        let found = explain(Reason::RejectedUnknownCa, &served(gap, 0..100), Some("shop.example"), at(50)).unwrap();
        assert_eq!(found.blame, Blame::Certificate);
        assert_eq!(found.detail, "the chain lacks its intermediate CN=E7");
        assert!(found.remedy.starts_with("put the certificate of CN=E7 into tls.crt"), "{}", found.remedy);
    }

    #[test]
    fn the_temporary_certificate_of_cert_manager_is_told_by_name_and_points_to_its_order() {
        let end = |issuer: &str| OutlineEnd::Missing { issuer: issuer.into(), is_public: false };
        let temporary = served(end("CN=cert-manager.local"), 0..100);
        for reason in [Reason::RejectedUnknownCa, Reason::ClosedAfterCertificate, Reason::RejectedUnspecified] {
            let found = explain(reason, &temporary, Some("shop.example"), at(50)).unwrap();
            assert_eq!(found.blame, Blame::Certificate);
            assert!(found.detail.contains("the temporary one of cert-manager"), "{}", found.detail);
            assert!(found.remedy.contains("kubectl describe certificate"), "{}", found.remedy);
        }
        for other in ["CN=cert-manager.locale", "O=Shop, CN=cert-manager.local"] {
            let found = explain(Reason::RejectedUnknownCa, &served(end(other), 0..100), None, at(50)).unwrap();
            assert!(!found.detail.contains("temporary"), "{}", found.detail);
        }
        let mut below = temporary.clone();
        let link = below.outline.path[0].clone();
        Arc::make_mut(&mut below.outline).path.push(link);
        let found = explain(Reason::RejectedUnknownCa, &below, None, at(50)).unwrap();
        assert!(!found.detail.contains("temporary"), "an issuer that was kept is another one: {}", found.detail);
    }

    #[test]
    fn an_expired_certificate_and_a_wrong_clock_are_told_apart() {
        let explain = |now| explain(Reason::RejectedExpired, &served(public_root(), 10..100), None, at(now)).unwrap();
        assert_eq!((explain(50).blame, &*explain(50).remedy), (Blame::Client, "correct the client's clock"));
        assert_eq!(explain(101).blame, Blame::Certificate);
        assert_eq!(explain(101).detail, "certificate CN=shop.example expired on 1970-01-01T00:01:40Z");
        assert!(explain(5).detail.contains("is not valid before"));
    }

    #[test]
    fn a_silent_end_is_explained_by_what_is_wrong_and_blamed_on_the_client_if_nothing_is() {
        let tls = served(public_root(), 0..100);
        let found = explain(Reason::ClosedAfterCertificate, &tls, Some("other.example"), at(50)).unwrap();
        assert_eq!(found.detail, "the certificate does not cover other.example, only shop.example, *.shop.example");
        for name in ["shop.example", "a.shop.example"] {
            let found = explain(Reason::ClosedAfterCertificate, &tls, Some(name), at(50)).unwrap();
            assert_eq!(found.blame, Blame::Client, "{name}");
        }
        let deep = explain(Reason::EstablishedWithoutRequest, &tls, Some("a.b.shop.example"), at(50)).unwrap();
        assert_eq!(deep.blame, Blame::Certificate);
    }

    #[test]
    fn a_certificate_that_is_not_for_servers_is_to_blame() {
        let mut tls = served(public_root(), 0..100);
        assert_eq!(explain(Reason::RejectedUnsupported, &tls, None, at(50)), None);
        Arc::make_mut(&mut tls.outline).path[0].other_usage = Some("clientAuth".into());
        for reason in [Reason::RejectedUnspecified, Reason::ClosedAfterCertificate, Reason::RejectedUnsupported] {
            let found = explain(reason, &tls, Some("shop.example"), at(50)).unwrap();
            assert_eq!(found.blame, Blame::Certificate);
            assert_eq!(found.detail, "certificate CN=shop.example may not be used for servers, only for clientAuth");
        }
    }

    #[test]
    fn alerts_that_speak_for_themselves_are_left_alone() {
        assert_eq!(explain(Reason::RejectedRevoked, &served(public_root(), 0..100), None, at(50)), None);
        assert_eq!(explain(Reason::NoSharedSuite, &served(public_root(), 0..100), None, at(50)), None);
    }
}
