//! Reasons why a backend or an address is not used: the ends of messages.

use crate::snapshot::{BadHostName, Unreachable};

/// Why a backend of an Ingress names no Service port.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBackend {
    /// Both a name and a number, or a Service and a resource.
    #[error("it names two targets, and only one is allowed")]
    Both,
    /// No Service.
    #[error("it names no Service")]
    NoService,
    /// Neither name nor number.
    #[error("it names no port")]
    NoPort,
    /// The Service of the controller itself.
    #[error("it is the Service of Handfast itself, so requests would go round in a circle")]
    Own,
    /// A number outside 1 to 65535.
    #[error("port {0} is not between 1 and 65535")]
    PortRange(i32),
}

/// Why an address is never connected to.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum BadAddress {
    /// No name that could be resolved.
    #[error("it is not a host name: {0}")]
    Name(BadHostName),
    /// No IP address.
    #[error("it is not an IP address")]
    NotAnAddress,
    /// A number outside 1 to 65535.
    #[error("port {0} is not between 1 and 65535")]
    PortRange(i32),
    /// A name that resolvers read as an IPv4 address.
    #[error("it would be read as an IPv4 address. Write it with four decimal numbers")]
    Numeric,
    /// An address that nothing may be sent to.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}
