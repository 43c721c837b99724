//! Reasons why a backend or an address is not used: the ends of messages.

use crate::snapshot::BadHostName;

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
    /// A number outside 1 to 65535.
    #[error("port {0} is not between 1 and 65535")]
    PortRange(i32),
}

/// Why an address is never connected to.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum BadAddress {
    /// Link-local: metadata services of clouds live there.
    #[error("it is a link-local address")]
    LinkLocal,
    /// Loopback: Handfast's own listeners, among others.
    #[error("it is a loopback address, which leads back to Handfast's own machine")]
    Loopback,
    /// Multicast or broadcast.
    #[error("it is a multicast or broadcast address")]
    Multicast,
    /// No name that could be resolved.
    #[error("it is not a host name: {0}")]
    Name(BadHostName),
    /// No IP address.
    #[error("it is not an IP address")]
    NotAnAddress,
    /// A number outside 1 to 65535.
    #[error("port {0} is not between 1 and 65535")]
    PortRange(i32),
    /// `0.0.0.0` or `::`.
    #[error("it is the unspecified address")]
    Unspecified,
}
