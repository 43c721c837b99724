//! What the compiler hands to the data plane: immutable, cheap to share, free of Kubernetes.
//!
//! `compile/ ──▶ Snapshot ──Publisher──▶ Reader ──▶ proxy/`
//!
//! A [`Snapshot`] is maps of `Arc`s that share what they have in common with those before ([`Trie`]). A recompile replaces
//! the few units that changed, so unchanged hosts keep their identity: session tickets keep decrypting and connection pools
//! keep their backend. What it changed is found without a look at the rest. Nothing reachable from here changes after publication;
//! counters, pools and in-flight state belong to a worker.

mod backend;
mod host_name;
mod reach;
mod render;
mod route;
mod traffic;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use serde::Serialize;

pub use backend::{Address, Backend, BackendKey, BackendState, Endpoint, PortKey};
pub use host_name::{BadHostName, HostName};
pub use reach::{Reach, Unreachable};
pub use route::{
    AddressList, Ambiguous, BadPath, NormalPath, PathMatch, Redirect, Route, RouteOptions, RouteTable, Target,
};

pub use traffic::{Closed, Paths, Traffic};

use crate::api::annotations::edit_distance;
use crate::tls::ServerTls;
use crate::tls::policy::Policy;
use crate::trie::Trie;

/// Everything the data plane needs to serve: hosts with their certificates and routes, and backends.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Virtual hosts by name: exact names, `*.` names, and [`HostName::catch_all`] for rules without a host.
    pub hosts: Trie<HostName, Arc<VirtualHost>>,
    /// Backends by namespace, Service and port. A route names its backend; it never holds it.
    pub backends: Trie<BackendKey, Arc<Backend>>,
    /// The operator's default certificate (`--default-tls-secret`), if it is usable.
    pub default_tls: Option<Arc<ServerTls>>,
    /// What the requests of each host get, for people: nothing is served by it.
    pub traffic: Trie<HostName, Traffic>,
}

impl Snapshot {
    /// The virtual host for a lower-case name: exact, then one-label wildcard, then the rules without a host.
    pub fn virtual_host(&self, name: &str) -> Option<&Arc<VirtualHost>> {
        self.named_host(name).or_else(|| self.hosts.get(""))
    }

    /// As [`Snapshot::virtual_host`], without falling back to the rules that name no host.
    pub fn named_host(&self, name: &str) -> Option<&Arc<VirtualHost>> {
        if name.is_empty() || name.starts_with("*.") {
            return None;
        }
        self.hosts.get(name).or_else(|| {
            // Exactly one label stands for the star (Kubernetes Ingress, RFC 9525 section 6.3).
            let (label, rest) = name.split_once('.')?;
            if label.is_empty() { None } else { self.hosts.get(format!("*.{rest}").as_str()) }
        })
    }

    /// Which certificate answers a ClientHello with this server name (lower case), or why none does.
    ///
    /// Exact host, then one-label wildcard, then the default certificate; the compiler has already put the
    /// default certificate into every host that is to use it.
    pub fn tls(&self, server_name: Option<&str>) -> TlsChoice<'_> {
        let host = server_name.and_then(|name| self.named_host(name));
        match host.map(|host| (host, &host.tls)) {
            Some((host, HostTls::Terminate(tls))) => TlsChoice::Serve { host: Some(host), tls },
            Some((host, HostTls::Refuse)) => TlsChoice::Refused(host),
            Some((host, HostTls::Absent)) => TlsChoice::Absent(host),
            None => match &self.default_tls {
                Some(tls) => TlsChoice::Serve { host: self.hosts.get(""), tls },
                None => TlsChoice::Unknown,
            },
        }
    }

    /// The host whose name is written most like this one, if any is much like it: a few letters differ. Looks at every host,
    /// so it is for what people read; what clients send must not be able to make it expensive.
    pub fn nearest_host(&self, name: &str) -> Option<&HostName> {
        const MOST: usize = 3;
        let most = MOST.min(name.len() / 3);
        let letters = letters(name);
        // Each letter that differs is one too many and one too few. This leaves few names for the real comparison.
        let near = |host: &&HostName| {
            let other = host.as_str();
            !host.is_catch_all() && other.len().abs_diff(name.len()) <= most && {
                let differ =
                    letters.iter().zip(self::letters(other)).map(|(one, other)| usize::from(one.abs_diff(other)));
                differ.sum::<usize>() <= 2 * most
            }
        };
        let scored = self.hosts.keys().filter(near).map(|host| (edit_distance(host.as_str(), name), host));
        scored.filter(|(distance, _)| *distance <= most).min().map(|(_, host)| host)
    }

    /// What the requests of a host get.
    pub fn traffic(&self, host: &VirtualHost) -> Traffic {
        self.traffic.get(&host.name).copied().unwrap_or_else(|| Traffic::of(host, self, false, true))
    }

    /// The backend that a route names. `None` only if the snapshot was built by hand without it.
    pub fn backend(&self, key: &BackendKey) -> Option<&Arc<Backend>> {
        self.backends.get(key)
    }

    /// Stable text without key material: golden tests, `handfast check --output text`, `/debug/snapshot`.
    pub fn render(&self) -> String {
        render::render(self)
    }
}

/// How often each letter occurs, others than those of host names together.
fn letters(name: &str) -> [u8; 32] {
    let mut counts = [0_u8; 32];
    for byte in name.bytes() {
        let count = &mut counts[usize::from(byte & 0x1f)];
        *count = count.saturating_add(1);
    }
    counts
}

/// The answer to "which certificate for this name?".
#[derive(Clone, Copy)]
pub enum TlsChoice<'a> {
    /// The host exists but has no certificate: no `tls` entry, no covering wildcard, no default certificate.
    Absent(&'a Arc<VirtualHost>),
    /// The host exists, and what is wrong with its certificate leaves nothing to serve.
    Refused(&'a Arc<VirtualHost>),
    /// Serve with this configuration. `host` is `None` when the default certificate answers a name (or no name)
    /// for which there is no host and no rule without a host.
    Serve {
        /// The virtual host that the connection is counted under.
        host: Option<&'a Arc<VirtualHost>>,
        /// What to serve.
        tls: &'a Arc<ServerTls>,
    },
    /// No host of this name (or no name was sent), and no default certificate.
    Unknown,
}

/// One host: how its TLS is answered, and where its requests go.
#[derive(Clone)]
pub struct VirtualHost {
    /// The name; [`HostName::catch_all`] for rules without a host.
    pub name: HostName,
    /// How a handshake for this host is answered.
    pub tls: HostTls,
    /// Which certificate that is.
    pub serving: Serving,
    /// Where the policy of its handshakes comes from.
    pub policy: PolicySource,
    /// The value of Strict-Transport-Security on HTTPS responses (RFC 6797), if it is sent.
    pub hsts: Option<Box<str>>,
    /// Requests over plain HTTP never reach a backend, whatever routes say: clients have to show a certificate.
    pub https_only: bool,
    /// A policy that is tried out: hellos of clients are judged by it as well, and nothing of it is in force. Only
    /// where TLS is terminated.
    pub shadow: Option<Arc<ShadowPolicy>>,
    /// Paths to backends.
    pub routes: RouteTable,
    /// Namespaces and names of the Ingresses that make it up, oldest first: whom to tell of what is wrong with it.
    pub ingresses: Box<[(Arc<str>, Arc<str>)]>,
}

impl VirtualHost {
    /// A host without a policy of its own, served with its own certificate if it has one.
    pub fn new(name: HostName, tls: HostTls, routes: RouteTable) -> Self {
        let serving = match tls {
            HostTls::Absent => Serving::None,
            HostTls::Refuse => Serving::Refused,
            HostTls::Terminate(_) => Serving::Current,
        };
        Self {
            name,
            tls,
            serving,
            policy: PolicySource::default(),
            hsts: None,
            https_only: false,
            shadow: None,
            routes,
            ingresses: Box::default(),
        }
    }
}

/// Where the policy of a host comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySource {
    /// Namespace and name of the TlsPolicy that is asked for; `None` is Handfast's own.
    pub name: Option<Box<str>>,
    /// Annotations of Ingresses change it.
    pub is_overridden: bool,
    /// It is not in force: the one from before is, or a general one.
    pub is_replaced: bool,
}

/// A policy that would be in force if somebody chose it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShadowPolicy {
    /// Namespace and name of the TlsPolicy.
    pub name: Box<str>,
    /// What it comes to, as it is written: without what annotations say.
    pub policy: Policy,
}

/// What the handshakes of a host get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Serving {
    /// The certificate that is configured now.
    Current,
    /// The operator's default certificate.
    Default,
    /// The last usable version of the certificate; what is configured now cannot be served.
    LastGood,
    /// No certificate is asked for; plain HTTP only.
    None,
    /// A refusal.
    Refused,
}

impl Serving {
    /// All of them.
    pub const ALL: [Serving; 5] =
        [Serving::Current, Serving::Default, Serving::LastGood, Serving::None, Serving::Refused];

    /// The word used in JSON and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Serving::Current => "current",
            Serving::Default => "default",
            Serving::LastGood => "last_good",
            Serving::None => "none",
            Serving::Refused => "refused",
        }
    }
}

/// How a handshake for one host is answered.
#[derive(Clone)]
pub enum HostTls {
    /// No certificate was asked for and none applies; plain HTTP only.
    Absent,
    /// A certificate was asked for, and nothing usable is there. The plain HTTP side still works.
    Refuse,
    /// Terminate TLS with this configuration.
    Terminate(Arc<ServerTls>),
}

/// The only way to replace the snapshot that the data plane reads. There is one, held by the reconciler.
pub struct Publisher(Arc<ArcSwap<Snapshot>>);

/// A cheap handle to the newest snapshot. Load it per handshake and per request; do not keep what it returns.
#[derive(Clone)]
pub struct Reader(Arc<ArcSwap<Snapshot>>);

/// Connects one publisher with any number of readers.
pub fn channel(first: Arc<Snapshot>) -> (Publisher, Reader) {
    let cell = Arc::new(ArcSwap::new(first));
    (Publisher(cell.clone()), Reader(cell))
}

impl Publisher {
    /// Makes `snapshot` the one that every later [`Reader::load`] returns.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.store(snapshot);
    }
}

impl Reader {
    /// The newest snapshot, without touching a shared reference count. Do not hold it across an await.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// The newest snapshot, to be kept as long as needed.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}

/// The address in its IPv4 form when it is an IPv4-mapped IPv6 address, as dual-stack sockets report it.
pub fn canonical_ip(address: IpAddr) -> IpAddr {
    address.to_canonical()
}
