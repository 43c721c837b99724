//! Backends: a Service port and the endpoints behind it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::quote::shown;

/// Names a backend: namespace, Service and port, as an Ingress writes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendKey {
    /// Namespace of the Ingress and its Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub service: Arc<str>,
    /// Port of the Service.
    pub port: PortKey,
}

/// A Service port as an Ingress names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortKey {
    /// By name.
    Name(Arc<str>),
    /// By number.
    Number(u16),
}

/// A Service port and where its traffic may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub key: BackendKey,
    /// Whether there is anything to send to, and if not, why.
    pub state: BackendState,
    /// Where to send, sorted and without duplicates; empty unless `state` is [`BackendState::Ready`].
    pub endpoints: Arc<[Endpoint]>,
}

/// Whether a backend can take requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// The Service, its port, or the reference itself does not exist or may not be used: 503, and a diagnostic.
    Missing,
    /// The Service exists and nothing behind it is ready: 503.
    NoEndpoints,
    /// At least one endpoint takes traffic.
    Ready,
}

/// One place that a request can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its address.
    pub address: Address,
}

/// An address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A pod's address and port.
    Ip(SocketAddr),
    /// A DNS name and port (`ExternalName` Services).
    Name(Arc<str>, u16),
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", shown(&self.namespace), shown(&self.service), self.port)
    }
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortKey::Name(name) => f.write_str(shown(name)),
            PortKey::Number(number) => write!(f, "{number}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => write!(f, "{address}"),
            Address::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}
