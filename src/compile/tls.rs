//! Secrets to TLS configurations, shared by content.
//!
//! `Secret ──digest──▶ Certificate (credential + ServerTls + findings), one per content and policy`
//!
//! Two Secrets with the same bytes share one [`Certificate`], and a Secret that is deleted and made again between two
//! compilations keeps it: the ticket keys inside stay, so sessions keep resuming.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use aws_lc_rs::digest;

use super::{ObjectKey, SecretObject};
use crate::tls::ServerTls;
use crate::tls::chain::{Credential, Finding, TrustAnchors};
use crate::tls::policy::{Policy, server_tls};

/// What came of one content under one policy.
pub(super) struct Certificate {
    content: Content,
    /// What could be parsed and matched.
    pub(super) credential: Option<Arc<Credential>>,
    /// What is served; `None` if nothing can be.
    pub(super) tls: Option<Arc<ServerTls>>,
    /// What is wrong whatever the time and the host.
    pub(super) findings: Vec<Finding>,
}

/// SHA-256 over all fields, and the policy. The trust anchors are the same for all.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Content {
    digest: [u8; 32],
    policy: Policy,
}

/// All certificates that units have asked for.
pub(super) struct Certificates {
    anchors: Arc<TrustAnchors>,
    by_secret: HashMap<ObjectKey, Arc<Certificate>>,
    by_content: HashMap<Content, Weak<Certificate>>,
    /// Kept until the compilation ends, so that an equal content finds its certificate again.
    retired: Vec<Arc<Certificate>>,
    built: usize,
}

impl Certificates {
    /// Without any, to be judged by these anchors.
    pub(super) fn new(anchors: Arc<TrustAnchors>) -> Self {
        Self { anchors, by_secret: HashMap::new(), by_content: HashMap::new(), retired: Vec::new(), built: 0 }
    }

    /// The certificate of a Secret, built if it is not there.
    pub(super) fn of_secret(&mut self, key: &ObjectKey, secret: &SecretObject) -> Arc<Certificate> {
        if let Some(certificate) = self.by_secret.get(key) {
            return certificate.clone();
        }
        let content = content(secret);
        let known = self.by_content.get(&content).and_then(Weak::upgrade);
        let certificate = known.unwrap_or_else(|| {
            let certificate = Arc::new(build(secret, content, &self.anchors));
            self.insert(&certificate);
            certificate
        });
        self.by_secret.insert(key.clone(), certificate.clone());
        certificate
    }

    /// Builds what the Secrets need in parallel if it is much: a first compilation. Each is then found by content.
    pub(super) fn prepare<'a>(&mut self, secrets: impl IntoIterator<Item = (&'a ObjectKey, &'a SecretObject)>) {
        // Below this many, threads cost more than they save. The number of threads is fixed, because asking the
        // machine for its cores is I/O, and more than these help nobody at start.
        const WORTH_IT: usize = 64;
        const THREADS: usize = 4;
        let mut seen = HashSet::new();
        let missing: Vec<(Content, &SecretObject)> = secrets
            .into_iter()
            .filter(|(key, _)| !self.by_secret.contains_key(*key))
            .map(|(_, secret)| (content(secret), secret))
            .filter(|(content, _)| !self.by_content.contains_key(content) && seen.insert(content.clone()))
            .collect();
        if missing.len() < WORTH_IT {
            return;
        }
        let certificates: Vec<Arc<Certificate>> = std::thread::scope(|scope| {
            let chunks = missing.chunks(missing.len().div_ceil(THREADS));
            let anchors = &self.anchors;
            let build_all = move |chunk: &[(Content, &SecretObject)]| -> Vec<Arc<Certificate>> {
                chunk.iter().map(|(content, secret)| Arc::new(build(secret, content.clone(), anchors))).collect()
            };
            let threads: Vec<_> = chunks.map(|chunk| scope.spawn(move || build_all(chunk))).collect();
            // A thread that panicked has built nothing; the units then build one by one and meet the same bug.
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        for certificate in certificates {
            self.insert(&certificate);
            self.retired.push(certificate);
        }
    }

    /// The Secret has changed, is gone, or nobody asks for it any more.
    pub(super) fn retire(&mut self, key: &ObjectKey) {
        self.retired.extend(self.by_secret.remove(key));
    }

    /// Lets go what was retired and not found again. Returns how many were built since this was last called, and how
    /// many there are.
    pub(super) fn finish(&mut self) -> (usize, usize) {
        for certificate in std::mem::take(&mut self.retired) {
            if let Some(certificate) = Arc::into_inner(certificate) {
                self.by_content.remove(&certificate.content);
            }
        }
        (std::mem::take(&mut self.built), self.by_content.len())
    }

    /// The certificate of a Secret, if a unit has asked for it.
    pub(super) fn known(&self, key: &ObjectKey) -> Option<&Arc<Certificate>> {
        self.by_secret.get(key)
    }

    fn insert(&mut self, certificate: &Arc<Certificate>) {
        self.built += 1;
        self.by_content.insert(certificate.content.clone(), Arc::downgrade(certificate));
    }
}

/// What is read of a Secret. `ca.crt` only says whom to trust when its chain is judged.
const FIELDS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

fn build(secret: &SecretObject, content: Content, anchors: &TrustAnchors) -> Certificate {
    let [tls_crt, tls_key, ca_crt] = FIELDS.map(|name| field(secret, name));
    let loaded = Credential::load(tls_crt, tls_key, ca_crt, anchors);
    let mut findings = loaded.findings;
    let tls = loaded.credential.as_ref().and_then(|credential| match server_tls(credential, &content.policy) {
        Ok(tls) => Some(Arc::new(tls)),
        Err(error) => {
            findings.push(Finding::UnsupportedKey { what: format!("refused by the TLS library ({error})") });
            None
        }
    });
    Certificate { content, credential: loaded.credential, tls, findings }
}

fn content(secret: &SecretObject) -> Content {
    let mut context = digest::Context::new(&digest::SHA256);
    for name in FIELDS {
        let bytes = field(secret, name);
        // The length keeps bytes from moving between the fields unnoticed.
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Content { digest, policy: Policy::default() }
}

fn field<'a>(secret: &'a SecretObject, name: &str) -> &'a [u8] {
    secret.0.data.as_ref().and_then(|data| data.get(name)).map_or(&[], |bytes| &bytes.0)
}
