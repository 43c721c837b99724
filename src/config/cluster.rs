//! Options of `run` that are about a cluster: how it is reached, what of it is watched, and what is written to it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{INGRESSES, STATE, address, duration, namespaced_name, some_time};

/// How the cluster is reached and what of it is served.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// File that says how to reach the cluster. Default: as for kubectl (KUBECONFIG, ~/.kube/config); inside a pod its
    /// service account.
    #[arg(long, env = "HANDFAST_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig. Default: its current context.
    #[arg(long, env = "HANDFAST_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,

    /// Serve only these namespaces; repeatable, or comma separated. Nothing else is watched, so Roles in these
    /// namespaces are enough. Default: all namespaces.
    #[arg(long, help_heading = INGRESSES, env = "HANDFAST_WATCH_NAMESPACE", value_name = "NAME,…", value_delimiter = ',', value_parser = object_name)]
    pub watch_namespace: Vec<String>,

    /// Serve only Ingresses of namespaces whose labels match, for example `team=shop,stage!=test`.
    #[arg(
        long,
        help_heading = INGRESSES,
        env = "HANDFAST_WATCH_NAMESPACE_SELECTOR",
        value_name = "SELECTOR",
        conflicts_with = "watch_namespace"
    )]
    pub watch_namespace_selector: Option<String>,

    /// Also serve Ingresses that name no class.
    #[arg(long, help_heading = INGRESSES, env = "HANDFAST_WATCH_INGRESS_WITHOUT_CLASS", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub watch_ingress_without_class: bool,

    /// `spec.controller` of the IngressClasses that Handfast serves.
    #[arg(
        long,
        help_heading = INGRESSES,
        env = "HANDFAST_CONTROLLER_CLASS",
        default_value = "handfast.dev/ingress-controller",
        value_name = "NAME"
    )]
    pub controller_class: String,

    /// Also serve the Ingresses of this class, whichever controller it belongs to; repeatable, or comma separated. For
    /// migrations: `--adopt-class nginx --no-status` serves next to ingress-nginx without changing an Ingress.
    #[arg(long, help_heading = INGRESSES, env = "HANDFAST_ADOPT_CLASS", value_name = "NAME,…", value_delimiter = ',')]
    pub adopt_class: Vec<String>,

    /// How long the start waits for kinds of objects that the API server refuses to list (403, 404). After that the other
    /// kinds are served. Without Ingresses the start keeps waiting. While the API server does not answer at all, the
    /// saved objects of --state-dir are served; without them the start keeps waiting.
    #[arg(long, env = "HANDFAST_SYNC_TIMEOUT", default_value = "20s", value_name = "TIME", value_parser = some_time)]
    pub sync_timeout: Duration,

    /// Secret in the pod's own namespace that keeps last good versions, so that a new replica serves them too. It must
    /// exist, and Handfast needs the rights to get and patch it. The replica that has the Lease writes it, also with
    /// --no-status.
    #[arg(long, help_heading = STATE, env = "HANDFAST_LAST_GOOD_SECRET", value_name = "NAME", value_parser = object_name)]
    pub last_good_secret: Option<String>,
}

/// What is written to the cluster, and who writes it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Status")]
pub struct StatusArgs {
    /// Write no addresses, conditions or Events to the cluster. For running next to another controller.
    #[arg(long, env = "HANDFAST_NO_STATUS", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub no_status: bool,

    /// Addresses or names for `status.loadBalancer` of Ingresses, comma separated. Wins over --publish-service.
    #[arg(long, env = "HANDFAST_PUBLISH_STATUS_ADDRESS", value_name = "ADDRESS,…", value_delimiter = ',')]
    pub publish_status_address: Vec<String>,

    /// Service whose addresses are published: those of its load balancer, else externalIPs, else its ClusterIPs.
    #[arg(long, env = "HANDFAST_PUBLISH_SERVICE", value_name = "NAMESPACE/NAME", value_parser = namespaced_name)]
    pub publish_service: Option<(String, String)>,

    /// Publish the addresses of the nodes that run a replica, for pods with hostNetwork or hostPorts.
    #[arg(long, env = "HANDFAST_PUBLISH_NODE_ADDRESSES", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL", conflicts_with = "publish_service")]
    pub publish_node_addresses: bool,

    /// With --publish-node-addresses: publish internal addresses, even if nodes have external ones.
    #[arg(long, env = "HANDFAST_REPORT_NODE_INTERNAL_IP", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub report_node_internal_ip: bool,

    /// Remove published addresses from Ingresses when the last replica ends. Off by default, because DNS would lose the
    /// names during a restart and get them back late.
    #[arg(long, env = "HANDFAST_UPDATE_STATUS_ON_SHUTDOWN", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub update_status_on_shutdown: bool,

    /// Lease in the pod's own namespace. The replica that holds it writes to the cluster.
    #[arg(long, env = "HANDFAST_ELECTION_ID", default_value = "handfast-leader", value_name = "NAME", value_parser = object_name)]
    pub election_id: String,

    /// Another replica takes over if the writing one is silent for this long.
    #[arg(long, env = "HANDFAST_ELECTION_TTL", default_value = "15s", value_name = "TIME", value_parser = election_ttl)]
    pub election_ttl: Duration,
}

/// The validating admission webhook.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Webhook")]
pub struct WebhookArgs {
    /// Address of the validating admission webhook (HTTPS). Off without it.
    #[arg(long, env = "HANDFAST_WEBHOOK_ADDR", value_name = "ADDRESS", value_parser = address)]
    pub webhook_addr: Option<SocketAddr>,

    /// Deny objects with errors, instead of only warning.
    #[arg(long, env = "HANDFAST_WEBHOOK_DENY", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub webhook_deny: bool,

    /// PEM file with the webhook's certificate chain; read again when it changes. Without it the webhook creates its own
    /// certificate and keeps it in --webhook-secret.
    #[arg(long, env = "HANDFAST_WEBHOOK_CERT", value_name = "FILE", requires = "webhook_key")]
    pub webhook_cert: Option<PathBuf>,

    /// PEM file with the key of --webhook-cert.
    #[arg(long, env = "HANDFAST_WEBHOOK_KEY", value_name = "FILE", requires = "webhook_cert")]
    pub webhook_key: Option<PathBuf>,

    /// Secret in the pod's own namespace for the certificate that the webhook creates. It must exist.
    #[arg(long, env = "HANDFAST_WEBHOOK_SECRET", default_value = "handfast-webhook", value_name = "NAME", value_parser = object_name)]
    pub webhook_secret: String,

    /// Service in the pod's own namespace through which the API server reaches the webhook; it is the name in the
    /// certificate.
    #[arg(long, env = "HANDFAST_WEBHOOK_SERVICE", default_value = "handfast-webhook", value_name = "NAME", value_parser = object_name)]
    pub webhook_service: String,

    /// ValidatingWebhookConfiguration that gets the CA of the webhook's own certificate.
    #[arg(long, env = "HANDFAST_WEBHOOK_CONFIGURATION", default_value = "handfast", value_name = "NAME")]
    pub webhook_configuration: String,

    /// PEM file with the CA of the API server's client certificate. Other clients are refused.
    #[arg(long, env = "HANDFAST_WEBHOOK_CLIENT_CA", value_name = "FILE")]
    pub webhook_client_ca: Option<PathBuf>,
}

/// A name that objects can have (RFC 1123, as Kubernetes reads it).
fn object_name(text: &str) -> Result<String, String> {
    let is_fine = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(is_fine) {
        return Ok(text.to_owned());
    }
    Err("not a name of an object: write lower-case letters, digits and hyphens".to_owned())
}

/// Below this, a slow answer of the API server would cost the Lease.
fn election_ttl(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < Duration::from_secs(5) => {
            Err("write at least 5s, so that a slow answer does not cost the Lease".to_owned())
        }
        time => Ok(time),
    }
}
