//! What `handfast check --clients` says about a policy that a host tries out (`handfast.dev/shadow-tls-policy`), before
//! there is any traffic.
//!
//! `ServerTls × ShadowPolicy ──judge twice──▶ who is lost, who is gained`
//!
//! Nothing of it is a finding: the policy is not in force, and to lock clients out may be what it is for.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::clients::{ClientReport, Groups, connects, fails, group_with};
use crate::snapshot::ShadowPolicy;
use crate::tls::ServerTls;
use crate::tls::clients::{self, Client, judge_all, judge_under};

/// What a policy would change for well-known clients; the same for all hosts that are served the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowReport(Arc<Judged>);

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Judged {
    policy: Box<str>,
    lost: Vec<ClientReport>,
    gained: Vec<ClientReport>,
    #[serde(skip)]
    text: String,
}

impl Serialize for ShadowReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Judged::serialize(&self.0, serializer)
    }
}

impl ShadowReport {
    /// Judges each client under the policy in force and under the other one. `without_name` is as for
    /// [`judge`](crate::tls::clients::judge).
    pub(super) fn judge(shadow: &ShadowPolicy, tls: &ServerTls, without_name: Option<&ServerTls>) -> Self {
        let (mut lost, mut gained) = (Vec::new(), Vec::new());
        let (mut out, mut into): (Groups<'_>, Vec<&Client>) = Default::default();
        let (mut connecting, mut known) = (0, 0);
        for (client, now) in judge_all(tls, without_name) {
            known += 1;
            connecting += usize::from(now.is_ok());
            match (now.is_ok(), judge_under(&shadow.policy, tls, without_name, client)) {
                (true, Ok(_)) | (false, Err(_)) => {}
                (true, Err(obstacle)) => {
                    let (message, remedy) =
                        (obstacle.message(client), obstacle.remedy_under(&shadow.policy, tls, client));
                    group_with(&mut out, format!("{message}\n        remedy: {remedy}"), client);
                    lost.push(fails(client, &obstacle, message, remedy));
                }
                (false, Ok(agreement)) => {
                    into.push(client);
                    let key = tls.summary_of(agreement.credential).key.to_string();
                    gained.push(connects(client, &agreement, key));
                }
            }
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "    shadow policy {}: {connecting} of {known} known clients connect now, and {} of them could not",
            shadow.name,
            lost.len()
        );
        for (what, clients) in &out {
            let _ = writeln!(text, "      ✗ {}: {what}", clients::names(clients));
        }
        if !into.is_empty() {
            let _ = writeln!(text, "      ✓ {}: would connect", clients::names(&into));
        }
        ShadowReport(Arc::new(Judged { policy: shadow.name.clone(), lost, gained, text }))
    }

    /// Namespace and name of the TlsPolicy.
    pub fn policy(&self) -> &str {
        &self.0.policy
    }

    /// Clients that connect now and would not.
    pub fn lost(&self) -> &[ClientReport] {
        &self.0.lost
    }

    /// Clients that do not connect now and would.
    pub fn gained(&self) -> &[ClientReport] {
        &self.0.gained
    }

    /// For the table.
    pub(super) fn text(&self) -> &str {
        &self.0.text
    }

    /// The same for results of one judgement.
    pub(super) fn identity(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }
}
