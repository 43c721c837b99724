//! What the operator decides about the TLS of all hosts; the same for `run` and `check`.

use clap::{Args, ValueEnum};

use super::{TLS, namespaced_name};
use crate::tls::Version;

/// The policies that the operator chooses for all hosts.
#[derive(Args, Clone, Debug)]
pub struct PolicyArgs {
    /// TlsPolicy of hosts for which neither an Ingress (handfast.dev/tls-policy) nor the parameters of its IngressClass
    /// name one. Without it: Mozilla's "intermediate", in the server's order.
    #[arg(long, help_heading = TLS, env = "HANDFAST_DEFAULT_TLS_POLICY", value_name = "NAMESPACE/NAME", value_parser = namespaced_name)]
    pub default_tls_policy: Option<(String, String)>,

    /// TlsPolicy that is tried on every host that has no shadow policy of its own (handfast.dev/shadow-tls-policy): each
    /// client's ClientHello is checked against it too, and the host is served as before. `handfast failures --shadow` and
    /// the metric handfast_tls_shadow_handshakes_total show the clients that it would lock out.
    #[arg(long, help_heading = TLS, env = "HANDFAST_DEFAULT_SHADOW_TLS_POLICY", value_name = "NAMESPACE/NAME", value_parser = namespaced_name)]
    pub default_shadow_tls_policy: Option<(String, String)>,

    /// Oldest protocol version that is served. A TlsPolicy or an annotation that asks for an older one is applied without
    /// it, with a warning (below-min-tls-version).
    #[arg(
        long,
        help_heading = TLS,
        env = "HANDFAST_MIN_TLS_VERSION",
        default_value = "TLSv1.2",
        value_name = "VERSION",
        ignore_case = true
    )]
    pub min_tls_version: VersionArg,
}

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VersionArg {
    /// RFC 5246.
    #[value(name = "TLSv1.2", alias = "1.2")]
    Tls12,
    /// RFC 8446.
    #[value(name = "TLSv1.3", alias = "1.3")]
    Tls13,
}

impl From<VersionArg> for Version {
    fn from(version: VersionArg) -> Self {
        match version {
            VersionArg::Tls12 => Version::Tls12,
            VersionArg::Tls13 => Version::Tls13,
        }
    }
}
