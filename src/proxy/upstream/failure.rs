//! Why an endpoint gave no response.

use std::error::Error;
use std::io;

use http::StatusCode;

/// Each way in which a request gets no response, or no complete one, from an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamFailure {
    /// The backend does not exist or may not be used: a diagnostic says why.
    BackendMissing,
    /// The connection ended in the middle of a response.
    BodyReset,
    /// The endpoint stopped sending in the middle of a response.
    BodyTimeout,
    /// Nothing listens at the address.
    ConnectRefused,
    /// No connection in time. Usual cause: a pod or node that is gone, or a network policy that drops packets.
    ConnectTimeout,
    /// The address cannot be reached.
    ConnectUnreachable,
    /// The name of an `ExternalName` Service leads to an address that nothing is sent to: this machine, a metadata service,
    /// the API server, or Handfast itself.
    ForbiddenAddress,
    /// The request has been through Handfast too often: it goes round in a circle.
    Loop,
    /// The backend has no endpoint that is ready.
    NoEndpoints,
    /// The process has no file left for a connection, although idle ones were closed: its limit on open files is too low.
    NoFiles,
    /// The endpoint sent something that is not an HTTP/1.1 response.
    Protocol,
    /// No response began in time after the request had been sent.
    ReadTimeout,
    /// The connection ended before a response began.
    Reset,
    /// The name of an `ExternalName` Service has no address.
    Resolve,
    /// The endpoint stopped reading the request.
    SendTimeout,
}

impl UpstreamFailure {
    /// All of them.
    pub const ALL: [UpstreamFailure; 15] = [
        UpstreamFailure::BackendMissing,
        UpstreamFailure::BodyReset,
        UpstreamFailure::BodyTimeout,
        UpstreamFailure::ConnectRefused,
        UpstreamFailure::ConnectTimeout,
        UpstreamFailure::ConnectUnreachable,
        UpstreamFailure::ForbiddenAddress,
        UpstreamFailure::Loop,
        UpstreamFailure::NoEndpoints,
        UpstreamFailure::NoFiles,
        UpstreamFailure::Protocol,
        UpstreamFailure::ReadTimeout,
        UpstreamFailure::Reset,
        UpstreamFailure::Resolve,
        UpstreamFailure::SendTimeout,
    ];

    /// The value of the `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            UpstreamFailure::BackendMissing => "backend-missing",
            UpstreamFailure::BodyReset => "body-reset",
            UpstreamFailure::BodyTimeout => "body-timeout",
            UpstreamFailure::ConnectRefused => "connect-refused",
            UpstreamFailure::ConnectTimeout => "connect-timeout",
            UpstreamFailure::ConnectUnreachable => "connect-unreachable",
            UpstreamFailure::ForbiddenAddress => "forbidden-address",
            UpstreamFailure::Loop => "loop",
            UpstreamFailure::NoEndpoints => "no-endpoints",
            UpstreamFailure::NoFiles => "no-files",
            UpstreamFailure::Protocol => "protocol",
            UpstreamFailure::ReadTimeout => "read-timeout",
            UpstreamFailure::Reset => "reset",
            UpstreamFailure::Resolve => "resolve",
            UpstreamFailure::SendTimeout => "send-timeout",
        }
    }

    /// What the client gets. Failures in the middle of a response have sent their status already.
    pub fn status(self) -> StatusCode {
        match self {
            UpstreamFailure::BackendMissing | UpstreamFailure::NoEndpoints | UpstreamFailure::NoFiles => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            UpstreamFailure::BodyReset
            | UpstreamFailure::ConnectRefused
            | UpstreamFailure::ConnectUnreachable
            | UpstreamFailure::ForbiddenAddress
            | UpstreamFailure::Protocol
            | UpstreamFailure::Reset
            | UpstreamFailure::Resolve => StatusCode::BAD_GATEWAY,
            // RFC 5842 section 7.2.
            UpstreamFailure::Loop => StatusCode::LOOP_DETECTED,
            UpstreamFailure::BodyTimeout
            | UpstreamFailure::ConnectTimeout
            | UpstreamFailure::ReadTimeout
            | UpstreamFailure::SendTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// One line for the client: enough to know whom to ask, nothing about the inside.
    pub fn reason(self) -> &'static str {
        match self {
            UpstreamFailure::BackendMissing => "the service behind this path does not exist",
            UpstreamFailure::BodyReset | UpstreamFailure::Reset => "the service closed the connection",
            UpstreamFailure::BodyTimeout | UpstreamFailure::ReadTimeout => "the service did not answer in time",
            UpstreamFailure::ConnectRefused
            | UpstreamFailure::ConnectUnreachable
            | UpstreamFailure::ForbiddenAddress
            | UpstreamFailure::Resolve => "the service cannot be reached",
            UpstreamFailure::Loop => "the service behind this path leads back to this proxy",
            UpstreamFailure::ConnectTimeout => "the service cannot be reached in time",
            UpstreamFailure::NoEndpoints => "the service behind this path has no ready endpoint",
            UpstreamFailure::NoFiles => "there is no file left for a connection to the service",
            UpstreamFailure::Protocol => "the service sent an invalid response",
            UpstreamFailure::SendTimeout => "the service did not read the request in time",
        }
    }

    /// Whether it counts towards leaving the endpoint out. A slow answer does not: it would take a loaded service's
    /// endpoints away one by one.
    pub(super) fn blames_endpoint(self) -> bool {
        match self {
            UpstreamFailure::ConnectRefused
            | UpstreamFailure::ConnectTimeout
            | UpstreamFailure::ConnectUnreachable
            | UpstreamFailure::Protocol
            | UpstreamFailure::Reset
            | UpstreamFailure::Resolve => true,
            UpstreamFailure::BackendMissing
            | UpstreamFailure::BodyReset
            | UpstreamFailure::BodyTimeout
            | UpstreamFailure::ForbiddenAddress
            | UpstreamFailure::Loop
            | UpstreamFailure::NoEndpoints
            | UpstreamFailure::NoFiles
            | UpstreamFailure::ReadTimeout
            | UpstreamFailure::SendTimeout => false,
        }
    }
}

/// What a failed exchange says about the endpoint.
pub(in crate::proxy) fn classify(error: &hyper::Error) -> UpstreamFailure {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::TimedOut => UpstreamFailure::SendTimeout,
                _ => UpstreamFailure::Reset,
            };
        }
        source = cause.source();
    }
    if error.is_parse() { UpstreamFailure::Protocol } else { UpstreamFailure::Reset }
}
