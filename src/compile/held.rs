//! What was usable last: served where what is there now cannot be.
//!
//! `accepted by every host ──▶ Held ──▶ the next compilation, or the next process (state.rs)`
//!
//! The compiler remembers the last usable version of each Secret and the last policy that worked for each host. This
//! history is part of its input: what it holds can be taken out ([`Compiled::held`](super::Compiled::held)) and given
//! to another compiler ([`Compiler::remember`](super::Compiler::remember)), which then serves the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::pki_types::UnixTime;

use super::{ObjectKey, SecretObject};
use crate::api::tls_policy::TlsPolicySpec;
use crate::snapshot::HostName;

/// What is served in place of something that cannot be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// The last usable version of Secrets that are unusable now.
    pub secrets: BTreeMap<ObjectKey, HeldSecret>,
    /// The last policy that worked, of hosts whose policy does not work now.
    pub policies: BTreeMap<HostName, Arc<HeldPolicy>>,
}

/// The last usable version of a Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldSecret {
    /// What it was.
    pub secret: SecretObject,
    /// Since when the Secret does not exist; `None` if it does.
    pub deleted_at: Option<UnixTime>,
}

/// The last policy that worked for a host, with everything that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldPolicy {
    /// The policy, with annotations already in it.
    pub spec: TlsPolicySpec,
    /// The certificates of its `clientAuth.caSecret`, as PEM; empty without one.
    pub client_ca: Box<[u8]>,
}
