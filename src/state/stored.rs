//! What is held, one entry a text: the same on disk and in the cluster.
//!
//! `HeldSecret, PolicyOfHost ◀──▶ name + JSON`
//!
//! An entry has a name that is a file name and a key of a Secret at once, and that says what is in it: one that does not
//! fit its name is not used. Entries hold private keys, so nothing here says what they hold when something is wrong.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};

use crate::api::tls_policy::TlsPolicySpec;
use crate::compile::{ClientCa, Held, HeldPolicy, HeldSecret, Object, ObjectKey, PolicyOfHost, SecretObject};
use crate::snapshot::HostName;

/// One thing that is held.
#[derive(Clone, PartialEq)]
pub(super) enum Entry {
    Policy(HostName, PolicyOfHost),
    Secret(ObjectKey, HeldSecret),
}

/// All entries of what is held. Cheap: what is large in them is shared.
pub(super) fn entries(held: &Held) -> impl Iterator<Item = Entry> {
    let secrets = held.secrets.iter().map(|(key, secret)| Entry::Secret(key.clone(), secret.clone()));
    let policies = held.policies.iter().map(|(host, policy)| Entry::Policy(host.clone(), policy.clone()));
    secrets.chain(policies)
}

impl Entry {
    /// Its name. Letters, digits, `-`, `.` and `_` only, and not long.
    pub(super) fn name(&self) -> String {
        match self {
            Entry::Policy(host, _) => name("policy", &[host.as_str()]),
            Entry::Secret(key, _) => name("secret", &[&key.namespace, &key.name]),
        }
    }

    /// What it is, for people.
    pub(super) fn title(&self) -> String {
        match self {
            Entry::Policy(host, _) => format!("policy of {}", host.label()),
            Entry::Secret(key, _) => key.to_string(),
        }
    }

    pub(super) fn since(&self) -> UnixTime {
        match self {
            Entry::Policy(_, policy) => policy.since,
            Entry::Secret(_, secret) => secret.since,
        }
    }

    /// Holds the same, whoever has held it since when.
    pub(super) fn holds_the_same(&self, other: &Entry) -> bool {
        match (self, other) {
            (Entry::Secret(key, one), Entry::Secret(other_key, other)) => {
                key == other_key && one.deleted_at.is_some() == other.deleted_at.is_some() && one.secret == other.secret
            }
            (Entry::Policy(host, one), Entry::Policy(other_host, other)) => {
                host == other_host
                    && one.unclaimed_at.is_some() == other.unclaimed_at.is_some()
                    && one.owner == other.owner
                    && one.policy == other.policy
            }
            (Entry::Policy(..), Entry::Secret(..)) | (Entry::Secret(..), Entry::Policy(..)) => false,
        }
    }

    /// A number that its text is longer than, to be had without making the text.
    pub(super) fn at_least(&self) -> usize {
        let base64 = |length: usize| length / 3 * 4;
        match self {
            Entry::Policy(_, held) => base64(held.policy.client_ca.pem().len()),
            Entry::Secret(_, held) => {
                let data = held.secret.0.data.iter().flatten();
                data.map(|(name, value)| name.len() + base64(value.0.len())).sum()
            }
        }
    }

    /// Its text, which ends in a line feed.
    pub(super) fn text(&self) -> Vec<u8> {
        Stored::of(self).text()
    }

    /// Reads the text of an entry; otherwise what is wrong with it, in words that hold nothing of it.
    pub(super) fn parse(name: &str, text: &[u8]) -> Result<Self, String> {
        // The library's own words can quote what they are about.
        let stored: Stored = serde_json::from_slice(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Eof => "it ends too early".to_owned(),
            serde_json::error::Category::Io | serde_json::error::Category::Syntax => {
                format!("it is not JSON (line {}, column {})", error.line(), error.column())
            }
            // Positions are lost where a tag decides what comes.
            serde_json::error::Category::Data => "this version does not write such files".to_owned(),
        })?;
        // A field that this version does not know, or another spelling: half of a policy is worse than none.
        if stored.text() != text {
            return Err("it was changed, or another version wrote it".to_owned());
        }
        let entry = stored.entry()?;
        let belongs = entry.name();
        if belongs != name {
            return Err(format!("its content belongs into {belongs}"));
        }
        Ok(entry)
    }

    /// Adds it to others.
    pub(super) fn put_into(self, held: &mut Held) {
        match self {
            Entry::Policy(host, policy) => drop(held.policies.insert(host, policy)),
            Entry::Secret(key, secret) => drop(held.secrets.insert(key, secret)),
        }
    }
}

/// Whether an entry can have this name.
pub(super) fn is_name(name: &str) -> bool {
    ["policy_", "secret_"].iter().any(|kind| name.starts_with(kind)) && name.ends_with(".json")
}

/// `KIND_PART_PART.json`. No name of Kubernetes has an underscore or a capital letter; what else is no letter, digit, dot
/// or hyphen is written as `X` and its hexadecimal code. A long one ends in its digest, because names of files and of
/// entries of a Secret are shorter than two names can be.
fn name(kind: &str, parts: &[&str]) -> String {
    let mut name = kind.to_owned();
    for part in parts {
        name.push('_');
        for byte in part.bytes() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => name.push(byte.into()),
                byte => name.push_str(&format!("X{byte:02x}")),
            }
        }
    }
    if name.len() > 200 {
        let digest = crate::tls::sha256_hex(name.as_bytes());
        name.truncate(160);
        name = format!("{name}Y{}", &digest[..32]);
    }
    name + ".json"
}

/// The form of the text. `format` names kind and version: what another version writes is not guessed at.
#[derive(Serialize, Deserialize)]
#[serde(tag = "format", rename_all_fields = "camelCase")]
enum Stored {
    #[serde(rename = "handfast.dev/held-policy.v1")]
    Policy {
        since: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unclaimed_at: Option<u64>,
        host: String,
        owner: String,
        client_ca: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_crl: Option<String>,
        spec: Box<TlsPolicySpec>,
    },
    #[serde(rename = "handfast.dev/held-secret.v1")]
    Secret {
        since: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deleted_at: Option<u64>,
        secret: Box<Secret>,
    },
}

impl Stored {
    fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Policy(host, held) => Stored::Policy {
                since: held.since.as_secs(),
                unclaimed_at: held.unclaimed_at.map(|at| at.as_secs()),
                host: host.as_str().to_owned(),
                owner: held.owner.to_string(),
                client_ca: BASE64.encode(held.policy.client_ca.pem()),
                client_crl: held.policy.client_ca.revoked().map(|revoked| BASE64.encode(revoked)),
                spec: Box::new(held.policy.spec.clone()),
            },
            Entry::Secret(_, held) => Stored::Secret {
                since: held.since.as_secs(),
                deleted_at: held.deleted_at.map(|at| at.as_secs()),
                secret: Box::new((*held.secret.0).clone()),
            },
        }
    }

    fn entry(self) -> Result<Entry, String> {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        match self {
            Stored::Secret { since, deleted_at, secret } => {
                let secret = SecretObject(Arc::new(*secret));
                let key = Object::Secret(secret.clone()).key();
                Ok(Entry::Secret(key, HeldSecret { secret, since: time(since), deleted_at: deleted_at.map(time) }))
            }
            Stored::Policy { since, unclaimed_at, host, owner, client_ca, client_crl, spec } => {
                let host = match host.as_str() {
                    "" => HostName::catch_all(),
                    host => host.parse().map_err(|error| format!("its host is wrong: {error}"))?,
                };
                let client_ca = BASE64.decode(client_ca).map_err(|_| "its clientCa is not base64".to_owned())?;
                let client_crl = client_crl.map(|text| BASE64.decode(text)).transpose();
                let client_crl = client_crl.map_err(|_| "its clientCrl is not base64".to_owned())?;
                let client_ca = ClientCa::new(&client_ca, client_crl.as_deref());
                let policy = Arc::new(HeldPolicy { spec: *spec, client_ca });
                let unclaimed_at = unclaimed_at.map(time);
                let policy = PolicyOfHost { owner: owner.into(), policy, since: time(since), unclaimed_at };
                Ok(Entry::Policy(host, policy))
            }
        }
    }

    fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("invariant: Secrets and policies are JSON");
        text.push(b'\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{policy, secret};

    #[test]
    fn names_are_those_of_files_and_of_entries_of_a_secret() {
        let rows = [
            (secret("default", "shop", None), "secret_default_shop.json"),
            (secret("a-b", "c.d", None), "secret_a-b_c.d.json"),
            (policy("shop.example", true), "policy_shop.example.json"),
            (policy("*.shop.example", true), "policy_X2a.shop.example.json"),
            (policy("", true), "policy_.json"),
            (secret("X", "a_b", None), "secret_X58_aX5fb.json"),
        ];
        for (entry, expected) in rows {
            assert_eq!(entry.name(), expected);
            assert!(is_name(expected), "{expected}");
        }
        let long = |last: &str| secret(&"n".repeat(63), &format!("{}{last}", "n.".repeat(120)), None).name();
        assert!(long("a").len() < 253 && long("a") != long("b"), "{}", long("a"));
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        assert!(long("a").bytes().all(is_allowed));
    }

    #[test]
    fn an_entry_is_the_same_after_it_was_written_and_longer_than_was_foreseen() {
        let entries = [
            secret("default", "shop", None),
            secret("default", "shop", Some(1_800_000_000)),
            policy("", true),
            policy("*.shop.example", false),
        ];
        for entry in entries {
            let text = entry.text();
            assert!(Entry::parse(&entry.name(), &text).is_ok_and(|read| read == entry));
            assert!(entry.at_least() < text.len());
            assert!(entry.holds_the_same(&entry));
        }
        let [old, new] = [None, Some(1_800_000_000)].map(|deleted| secret("default", "shop", deleted));
        assert!(!old.holds_the_same(&new), "whether a Secret is gone decides until when it is kept");
    }
}
