//! Secrets to TLS configurations, shared by content.
//!
//! `Secret ──digest──▶ Certificate (credential + findings)`, and `Certificates × Policy ──▶ ServerTls`
//!
//! Two Secrets with the same bytes share one [`Certificate`], and hosts with the same certificates and policy share one
//! `ServerTls`: the ticket keys inside stay as long as a host uses them, so sessions keep resuming.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use aws_lc_rs::digest;

use super::{ObjectKey, SecretObject};
use crate::tls::ServerTls;
use crate::tls::chain::{Candidates, Credential, Finding, TrustAnchors};
use crate::tls::policy::{Policy, server_tls_of};

/// What came of one content.
pub(super) struct Certificate {
    content: Content,
    /// What can be served; `None` if nothing can.
    pub(super) credential: Option<Arc<Credential>>,
    /// What is wrong whatever the time and the host.
    pub(super) findings: Vec<Finding>,
}

/// SHA-256 over all fields, and over the certificates that complete the chain. The trust anchors are the same for all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Content {
    secret: [u8; 32],
    /// Zero if none are needed.
    added: [u8; 32],
}

/// What a configuration is made of.
type Parts = (Vec<Content>, Policy);

/// All certificates that units have asked for.
pub(super) struct Certificates {
    anchors: Arc<TrustAnchors>,
    by_secret: HashMap<ObjectKey, Arc<Certificate>>,
    by_content: HashMap<Content, Weak<Certificate>>,
    servers: HashMap<Parts, Server>,
    /// By address, to find them again.
    parts: HashMap<usize, Parts>,
    /// Certificates of other Secrets that may fill gaps, by namespace.
    pools: HashMap<Arc<str>, Arc<Candidates>>,
    /// Kept until the compilation ends, so that an equal content finds them again.
    retired: Vec<Arc<Certificate>>,
    /// Addresses of configurations that may have no user.
    touched: Vec<usize>,
    built: usize,
}

/// A configuration, and how many hosts are served with it.
struct Server {
    tls: Arc<ServerTls>,
    users: usize,
}

impl Certificates {
    /// Without any, to be judged by these anchors.
    pub(super) fn new(anchors: Arc<TrustAnchors>) -> Self {
        Self {
            anchors,
            by_secret: HashMap::new(),
            by_content: HashMap::new(),
            servers: HashMap::new(),
            parts: HashMap::new(),
            pools: HashMap::new(),
            retired: Vec::new(),
            touched: Vec::new(),
            built: 0,
        }
    }

    /// The certificate of a Secret, built if it is not there.
    pub(super) fn of_secret(&mut self, key: &ObjectKey, secret: &SecretObject) -> Arc<Certificate> {
        if let Some(certificate) = self.by_secret.get(key) {
            return certificate.clone();
        }
        let certificate = self.of_content(secret);
        self.by_secret.insert(key.clone(), certificate.clone());
        certificate
    }

    /// The certificate of a version of a Secret that need not be the one that is there now.
    pub(super) fn of_content(&mut self, secret: &SecretObject) -> Arc<Certificate> {
        let content = content(secret);
        let known = self.by_content.get(&content).and_then(Weak::upgrade);
        known.unwrap_or_else(|| self.insert(build(secret, content, &self.anchors)))
    }

    /// A certificate whose chain has a gap, with the chain completed from the candidates; as it is if they are of no use.
    pub(super) fn completed(
        &mut self,
        secret: &SecretObject,
        certificate: Arc<Certificate>,
        candidates: &Candidates,
    ) -> Arc<Certificate> {
        if candidates.is_empty() {
            return certificate;
        }
        let [tls_crt, tls_key, ca_crt] = FIELDS.map(|name| field(secret, name));
        let loaded = Credential::load_completed(tls_crt, tls_key, ca_crt, &self.anchors, candidates);
        let Some(credential) = loaded.credential.filter(|credential| !credential.has_gap()) else { return certificate };
        let mut context = digest::Context::new(&digest::SHA256);
        for certificate in credential.chain() {
            context.update(&(certificate.len() as u64).to_be_bytes());
            context.update(certificate);
        }
        let content = Content { added: finish(context), ..certificate.content };
        let known = self.by_content.get(&content).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            self.insert(Certificate { content, credential: Some(credential), findings: loaded.findings })
        })
    }

    /// Certificates that may fill gaps in the chains of a namespace: the public parts of its Secrets.
    pub(super) fn pool<'a>(
        &mut self,
        namespace: &Arc<str>,
        secrets: impl Iterator<Item = (&'a ObjectKey, &'a SecretObject)>,
    ) -> Arc<Candidates> {
        if let Some(pool) = self.pools.get(namespace) {
            return pool.clone();
        }
        let mut candidates = Candidates::new();
        for (key, secret) in secrets {
            for name in ["tls.crt", "ca.crt"] {
                // What cannot be read is said where the Secret is used.
                let _ = candidates.add_pem(field(secret, name), &key.to_string());
            }
        }
        let pool = Arc::new(candidates);
        self.pools.insert(namespace.clone(), pool.clone());
        pool
    }

    /// Secrets of the namespace have changed.
    pub(super) fn forget_pool(&mut self, namespace: &str) {
        self.pools.remove(namespace);
    }

    /// How these certificates are served under the policy. The error is the TLS library's, and says that it does not
    /// take what our own checks have let through.
    pub(super) fn server(
        &mut self,
        certificates: &[Arc<Certificate>],
        policy: &Policy,
    ) -> Result<Arc<ServerTls>, String> {
        let contents: Vec<Content> = certificates.iter().map(|certificate| certificate.content).collect();
        let parts = (contents, policy.clone());
        if let Some(server) = self.servers.get(&parts) {
            return Ok(server.tls.clone());
        }
        let server = Arc::new(server_of(certificates, policy)?);
        self.insert_server(parts, server.clone());
        Ok(server)
    }

    /// Builds what the Secrets need in parallel if it is much: a first compilation. Each is then found by content. With
    /// a policy, its configuration is built as well.
    pub(super) fn prepare<'a>(
        &mut self,
        secrets: impl IntoIterator<Item = (&'a ObjectKey, &'a SecretObject, Option<&'a Policy>)>,
    ) {
        // Below this many, threads cost more than they save. The number of threads is fixed, because asking the
        // machine for its cores is I/O, and more than these help nobody at start.
        const WORTH_IT: usize = 64;
        const THREADS: usize = 4;
        let mut seen = HashSet::new();
        let missing: Vec<(Content, &SecretObject, Option<&Policy>)> = secrets
            .into_iter()
            .filter(|(key, ..)| !self.by_secret.contains_key(*key))
            .map(|(_, secret, policy)| (content(secret), secret, policy))
            .filter(|(content, ..)| self.by_content.get(content).is_none_or(|known| known.strong_count() == 0))
            .filter(|(content, ..)| seen.insert(*content))
            .collect();
        if missing.len() < WORTH_IT {
            return;
        }
        let anchors = &self.anchors;
        let build = |(content, secret, policy): &(Content, &SecretObject, Option<&Policy>)| {
            let certificate = Arc::new(build(secret, *content, anchors));
            let server = policy.filter(|_| certificate.credential.is_some()).and_then(|policy| {
                let server = server_of(std::slice::from_ref(&certificate), policy).ok()?;
                Some((policy.clone(), Arc::new(server)))
            });
            (certificate, server)
        };
        let built: Vec<_> = std::thread::scope(|scope| {
            let chunks = missing.chunks(missing.len().div_ceil(THREADS));
            let threads: Vec<_> =
                chunks.map(|chunk| scope.spawn(move || chunk.iter().map(build).collect::<Vec<_>>())).collect();
            // A thread that panicked has built nothing; the units then build one by one and meet the same bug.
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        for (certificate, server) in built {
            self.by_content.insert(certificate.content, Arc::downgrade(&certificate));
            if let Some((policy, server)) = server {
                self.insert_server((vec![certificate.content], policy), server);
            }
            self.retired.push(certificate);
        }
    }

    /// The Secret has changed, is gone, or nobody asks for it any more.
    pub(super) fn retire(&mut self, key: &ObjectKey) {
        self.retired.extend(self.by_secret.remove(key));
    }

    /// A host is served with this.
    pub(super) fn use_server(&mut self, server: &Arc<ServerTls>) {
        self.change_users(server, 1);
    }

    /// A host is not served with this any more.
    pub(super) fn release_server(&mut self, server: &Arc<ServerTls>) {
        self.change_users(server, -1);
    }

    fn change_users(&mut self, server: &Arc<ServerTls>, by: isize) {
        let address = Arc::as_ptr(server).addr();
        self.touched.push(address);
        if let Some(server) = self.parts.get(&address).and_then(|parts| self.servers.get_mut(parts)) {
            server.users = server.users.saturating_add_signed(by);
        }
    }

    /// Lets go what was retired and not found again. Returns how many configurations were built since this was last
    /// called, and how many are in use.
    pub(super) fn finish(&mut self) -> (usize, usize) {
        for certificate in std::mem::take(&mut self.retired) {
            if let Some(certificate) = Arc::into_inner(certificate) {
                self.by_content.remove(&certificate.content);
            }
        }
        for address in std::mem::take(&mut self.touched) {
            let is_used = |parts: &Parts| self.servers.get(parts).is_some_and(|server| server.users > 0);
            if self.parts.get(&address).is_some_and(|parts| !is_used(parts))
                && let Some(parts) = self.parts.remove(&address)
            {
                self.servers.remove(&parts);
            }
        }
        (std::mem::take(&mut self.built), self.servers.len())
    }

    fn insert(&mut self, certificate: Certificate) -> Arc<Certificate> {
        let certificate = Arc::new(certificate);
        self.by_content.insert(certificate.content, Arc::downgrade(&certificate));
        // Somebody may hold it for this compilation only.
        self.retired.push(certificate.clone());
        certificate
    }

    fn insert_server(&mut self, parts: Parts, tls: Arc<ServerTls>) {
        self.built += 1;
        let address = Arc::as_ptr(&tls).addr();
        // Somebody may have asked in vain.
        self.touched.push(address);
        self.parts.insert(address, parts.clone());
        self.servers.insert(parts, Server { tls, users: 0 });
    }
}

/// What is read of a Secret. `ca.crt` only says whom to trust when its chain is judged.
const FIELDS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

fn build(secret: &SecretObject, content: Content, anchors: &TrustAnchors) -> Certificate {
    let [tls_crt, tls_key, ca_crt] = FIELDS.map(|name| field(secret, name));
    let loaded = Credential::load(tls_crt, tls_key, ca_crt, anchors);
    Certificate { content, credential: loaded.credential, findings: loaded.findings }
}

fn server_of(certificates: &[Arc<Certificate>], policy: &Policy) -> Result<ServerTls, String> {
    let credentials: Vec<&Credential> =
        certificates.iter().filter_map(|certificate| certificate.credential.as_deref()).collect();
    server_tls_of(&credentials, policy).map_err(|error| error.to_string())
}

fn content(secret: &SecretObject) -> Content {
    let mut context = digest::Context::new(&digest::SHA256);
    for name in FIELDS {
        let bytes = field(secret, name);
        // The length keeps bytes from moving between the fields unnoticed.
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    }
    Content { secret: finish(context), added: [0; 32] }
}

fn finish(context: digest::Context) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// The bytes of one field of a Secret; empty if it has none of this name.
pub(super) fn field<'a>(secret: &'a SecretObject, name: &str) -> &'a [u8] {
    entry(secret, name).unwrap_or_default()
}

/// The same where it matters whether there is an empty field or none.
pub(super) fn entry<'a>(secret: &'a SecretObject, name: &str) -> Option<&'a [u8]> {
    secret.0.data.as_ref().and_then(|data| data.get(name)).map(|bytes| bytes.0.as_slice())
}
