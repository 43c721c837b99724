//! Every flag, variable and default, parsed once. Nobody else reads the environment.

mod check;
mod cluster;
mod policies;
mod synonyms;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ipnet::IpNet;

use rustls::pki_types::UnixTime;

use crate::probe::target::Target;
use crate::telemetry::LogFormat;
use crate::tls::chain::Name;

pub use check::{CheckArgs, FailOn, OutputFormat};
pub use cluster::{ClusterArgs, StatusArgs, WebhookArgs};
pub use policies::{PolicyArgs, VersionArg};

/// The headings of `--help`: a flag stands under the one where its reader looks for it.
const ADMIN: &str = "Admin port";
const INGRESSES: &str = "Ingresses";
const LIMITS: &str = "Limits";
const LISTENERS: &str = "Listeners";
const LOGS: &str = "Logs and metrics";
const SOURCE: &str = "Source";
const STATE: &str = "Last good versions";
const TLS: &str = "TLS";

/// A Kubernetes ingress controller that lets no TLS handshake fail silently.
#[derive(Parser, Debug)]
#[command(
    name = "handfast",
    version,
    about,
    long_about = "A Kubernetes ingress controller that lets no TLS handshake fail silently.\n\n\
        Start with `handfast demo`. Every option can also be given as the variable named beside it.",
    arg_required_else_help = true,
    propagate_version = true,
    max_term_width = 110
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Check one certificate chain, without Kubernetes.
    ///
    /// Exit status: 0 if a strict client would accept the chain by RFC 5280 and RFC 9525 alone (warnings do not change
    /// it), 1 if not, 2 if a file cannot be read or the usage is wrong.
    Chain(ChainArgs),
    /// Check manifests without serving them: what would be served, what is wrong, and what to do.
    ///
    /// Of each host one word first, what its requests get: works; works, with losses; answers 503 (all paths, or which);
    /// refuses TLS; not served (why).
    ///
    /// Exit status: 0 without errors (see --fail-on), 1 with errors, 2 if the input cannot be read or the usage is wrong. A
    /// host whose paths all answer 503 is an error (host-answers-503 where no other finding says so), unless the input has
    /// no EndpointSlice at all: then Services are taken to have endpoints.
    Check(Box<CheckArgs>),
    /// List the known clients of `check --clients`, with the ids for requiredClients of a policy.
    Clients {
        /// How to print the list.
        #[arg(long, default_value = "table", value_name = "FORM")]
        output: ListOutput,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the CustomResourceDefinitions that a cluster needs, as YAML.
    ///
    /// To install or upgrade them: handfast crd | kubectl apply --server-side -f -
    Crd,
    /// Show Handfast at work: create certificates and manifests, serve them, and run a tour with real handshakes.
    Demo(DemoArgs),
    /// Explain a code, an effect or an annotation: the meaning, who must act, and what to do.
    Explain {
        /// The name, for example key-mismatch, host-refused or rewrite-target. Without it all names are listed.
        #[arg(value_name = "NAME")]
        code: Option<String>,
    },
    /// Show the last failed handshakes of a running controller: which client, which host, why, who must act, and what to
    /// do.
    ///
    /// It asks the admin port, from the same machine or through `kubectl port-forward`. Exit status: 0, or 2 if the port
    /// cannot be reached.
    Failures(FailuresArgs),
    /// Test any TLS server from outside: versions, cipher suites, groups, certificate chains, and what is wrong.
    ///
    /// Exit status: 0 without errors, 1 with errors or if a strict client would refuse a chain, 2 if the server cannot be
    /// reached or speaks no TLS, or the usage is wrong.
    ///
    /// It makes about a hundred connections, one after the other, and completes few of the handshakes.
    Probe(ProbeArgs),
    /// Ask a running controller whether it is ready, for scripts and `helm test`.
    ///
    /// Exit status: 0 if it is ready, 1 if it is not, 2 if it cannot be reached.
    Ready(ReadyArgs),
    /// Serve: terminate TLS and proxy HTTP for the Ingresses of a source.
    Run(Box<RunArgs>),
}

/// Options of `failures`.
#[derive(Args, Clone, Debug)]
pub struct FailuresArgs {
    /// Address of the admin port; a name or a URL (http://localhost:10254) also works.
    #[arg(long, env = "HANDFAST_ADMIN", default_value = "127.0.0.1:10254", value_name = "HOST[:PORT]", value_parser = admin_target)]
    pub admin: Target,

    /// Only failures of this host; `*` stands for rules without a host.
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,

    /// Keep running and show new failures, until Ctrl-C.
    #[arg(long, conflicts_with = "shadow")]
    pub follow: bool,

    /// Show which clients a shadow policy (handfast.dev/shadow-tls-policy) would lock out.
    #[arg(long)]
    pub shadow: bool,

    /// How many examples to show at most; the newest ones are shown.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,

    /// How to print them: a table, or the JSON of /api/failures (with --follow one example per line).
    #[arg(long, default_value = "table", value_name = "FORM")]
    pub output: ListOutput,
}

/// Options of `ready`.
#[derive(Args, Clone, Debug)]
pub struct ReadyArgs {
    /// Address of the admin port; a name or a URL (http://localhost:10254) also works.
    #[arg(long, env = "HANDFAST_ADMIN", default_value = "127.0.0.1:10254", value_name = "HOST[:PORT]", value_parser = admin_target)]
    pub admin: Target,

    /// How long to wait until it is ready.
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub wait: Duration,
}

/// Options of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Where objects come from: a directory of manifests (*.yaml, *.yml, *.json), or `cluster`.
    ///
    /// Default: `cluster` inside a pod, otherwise `./manifests`.
    #[arg(long, help_heading = SOURCE, env = "HANDFAST_SOURCE", value_name = "DIR|cluster")]
    pub source: Option<String>,

    /// What is done with Ingresses and certificates.
    #[command(flatten)]
    pub compile: CompileArgs,

    /// How the cluster is reached and what of it is served.
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// What is written to the cluster, and who writes it.
    #[command(flatten)]
    pub status: StatusArgs,

    /// The validating admission webhook.
    #[command(flatten)]
    pub webhook: WebhookArgs,

    /// Address of the HTTP listener. `[::]` also accepts IPv4.
    #[arg(long, help_heading = LISTENERS, env = "HANDFAST_HTTP", default_value = "[::]:8080", value_name = "ADDRESS", value_parser = address)]
    pub http: SocketAddr,

    /// Address of the HTTPS listener. `[::]` also accepts IPv4.
    #[arg(long, help_heading = LISTENERS, env = "HANDFAST_HTTPS", default_value = "[::]:8443", value_name = "ADDRESS", value_parser = address)]
    pub https: SocketAddr,

    /// Address of the admin port: /metrics, /healthz, /readyz, and pages for loopback peers only. / lists all pages.
    #[arg(long, help_heading = ADMIN, env = "HANDFAST_ADMIN", default_value = "127.0.0.1:10254", value_name = "ADDRESS", value_parser = address)]
    pub admin: SocketAddr,

    /// Let everyone who reaches the admin port use the pages below /api and /debug. Without this, only loopback peers
    /// can, such as `kubectl port-forward`.
    ///
    /// These pages show clients' addresses, and with --allow-keylog they make Handfast write TLS secrets. Use this only
    /// if a network policy or a firewall protects the port.
    #[arg(long, help_heading = ADMIN, env = "HANDFAST_ADMIN_EXPOSE_API", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub admin_expose_api: bool,

    /// Allow the admin pages to write TLS secrets of one host or one client to this file for a while, so that Wireshark
    /// can decrypt a capture: POST /api/keylog?host=NAME&for=60s (or client=ADDRESS), GET, DELETE.
    ///
    /// Off by default. The file is created with mode 0600 and appended to. An existing file must not be readable by
    /// others.
    #[arg(long, help_heading = ADMIN, env = "HANDFAST_ALLOW_KEYLOG", value_name = "FILE")]
    pub allow_keylog: Option<PathBuf>,

    /// Port at which clients reach the HTTPS listener, for redirects. Without it, redirects name no port.
    #[arg(long, help_heading = LISTENERS, env = "HANDFAST_HTTPS_PUBLIC_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub https_public_port: Option<u16>,

    /// Write the addresses of all listeners to this file as JSON, {"http":…,"https":…,"admin":…}, when they are ready.
    #[arg(long, help_heading = LISTENERS, env = "HANDFAST_ADDRESSES_FILE", value_name = "FILE")]
    pub addresses_file: Option<PathBuf>,

    /// Directory that keeps last good versions over a restart: of Secrets that are unusable now, and of policies that
    /// do not work now. With a cluster it also keeps all objects, to start while the API server does not answer.
    ///
    /// It is created with mode 0700 and contains private keys. One process per directory.
    #[arg(long, help_heading = STATE, env = "HANDFAST_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Worker threads. Default: one per available processor, 8 at most.
    #[arg(long, help_heading = LIMITS, env = "HANDFAST_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Networks whose X-Forwarded-* headers are trusted, comma separated.
    #[arg(long, help_heading = LISTENERS, env = "HANDFAST_TRUSTED_PROXIES", value_name = "CIDR,…", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,

    /// Expect a PROXY protocol header (version 1 or 2) on every connection to both listeners.
    ///
    /// Enable it only behind a load balancer that sends the header, because its addresses are trusted.
    #[arg(long, help_heading = LISTENERS, env = "HANDFAST_PROXY_PROTOCOL", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub proxy_protocol: bool,

    /// Time limits.
    #[command(flatten)]
    pub timeouts: TimeoutArgs,

    /// Size limits.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Whether metrics have a series for each host. If not, every `host` label is empty.
    #[arg(long, help_heading = LOGS, env = "HANDFAST_METRICS_PER_HOST", num_args = 0..=1, default_missing_value = "true", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set)]
    pub metrics_per_host: bool,

    /// Shorten clients' addresses to their network (/24 for IPv4, /48 for IPv6) in /api/failures, in `handfast failures`
    /// and in log lines about handshakes. The access log and X-Forwarded-For keep the whole address.
    #[arg(long, help_heading = LOGS, env = "HANDFAST_MASK_CLIENTS", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub mask_clients: bool,

    /// Format of the access log: one line per request on standard output.
    #[arg(long, help_heading = LOGS, env = "HANDFAST_ACCESS_LOG", default_value = "text", value_name = "FORMAT")]
    pub access_log: AccessLogFormat,

    /// Format of the log on standard error.
    #[arg(long, help_heading = LOGS, env = "HANDFAST_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Level of the log (error, warn, info, debug, trace), or directives such as `info,handfast::proxy=debug`.
    ///
    /// `debug` has one line per failed handshake.
    #[arg(long, help_heading = LOGS, env = "HANDFAST_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// What is done with Ingresses and certificates; the same for `run` and `check`.
#[derive(Args, Clone, Debug)]
pub struct CompileArgs {
    /// Secret with the certificate for clients without SNI, unknown hosts, rules without a host, and `tls` entries
    /// without a secretName. Without it such handshakes are refused with `unrecognized_name`.
    #[arg(long, help_heading = TLS, env = "HANDFAST_DEFAULT_TLS_SECRET", value_name = "NAMESPACE/NAME", value_parser = namespaced_name)]
    pub default_tls_secret: Option<(String, String)>,

    /// The policies that the operator chooses for all hosts.
    #[command(flatten)]
    pub policies: PolicyArgs,

    /// How long the last usable version of a deleted Secret is served; 0s for not at all. If the Secret exists but is
    /// unusable, its last usable version is served without limit.
    #[arg(long, help_heading = STATE, env = "HANDFAST_LAST_GOOD_TTL", default_value = "24h", value_name = "TIME", value_parser = duration)]
    pub last_good_ttl: Duration,

    /// Serve Services of type ExternalName. Off by default, because every author of a Service could send requests
    /// anywhere.
    #[arg(long, help_heading = INGRESSES, env = "HANDFAST_ALLOW_EXTERNAL_NAME", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub allow_external_name: bool,

    /// Value of the annotation `kubernetes.io/ingress.class` that Handfast serves.
    #[arg(long, help_heading = INGRESSES, env = "HANDFAST_INGRESS_CLASS", default_value = "handfast", value_name = "NAME")]
    pub ingress_class: String,

    /// Whether Ingresses of other namespaces may add paths to a host, or the host belongs to the namespace of its
    /// oldest Ingress.
    #[arg(long, help_heading = INGRESSES, env = "HANDFAST_HOST_OWNERSHIP", default_value = "merge", value_name = "RULE")]
    pub host_ownership: HostOwnershipArg,

    /// Whom clients are taken to trust.
    #[command(flatten)]
    pub anchors: AnchorArgs,

    /// What may be missing in a chain.
    #[command(flatten)]
    pub intermediates: IntermediateArgs,
}

/// What may be missing in a chain.
#[derive(Args, Clone, Debug)]
pub struct IntermediateArgs {
    /// PEM file with CA certificates to complete chains that lack them: for hosts whose policy says so, or for the chain
    /// of `handfast chain`.
    #[arg(long, help_heading = TLS, env = "HANDFAST_INTERMEDIATES", value_name = "FILE")]
    pub intermediates: Option<PathBuf>,
}

/// Whom clients are taken to trust when a chain is judged. Nothing of it is served.
#[derive(Args, Clone, Debug)]
pub struct AnchorArgs {
    /// PEM file with roots that clients trust in addition to Mozilla's, for example those of a private CA.
    #[arg(long, help_heading = TLS, env = "HANDFAST_TRUST_ANCHORS", value_name = "FILE")]
    pub trust_anchors: Option<PathBuf>,

    /// Ignore Mozilla's roots: clients trust only the given anchors.
    #[arg(long, help_heading = TLS, env = "HANDFAST_ONLY_ANCHORS", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub only_anchors: bool,
}

/// Who may add to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostOwnershipArg {
    /// Ingresses of all namespaces merge, oldest first.
    Merge,
    /// The namespace of the oldest Ingress has the whole host.
    Namespace,
}

/// Time limits of `run`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Timeouts")]
pub struct TimeoutArgs {
    /// Longest time from the connection to the end of the TLS handshake.
    #[arg(long, env = "HANDFAST_HANDSHAKE_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = some_time)]
    pub handshake_timeout: Duration,

    /// Longest time for a client to send the head of a request.
    #[arg(long, env = "HANDFAST_HEADER_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = some_time)]
    pub header_timeout: Duration,

    /// Longest gap while a client sends a request's body.
    #[arg(long, env = "HANDFAST_BODY_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = some_time)]
    pub body_timeout: Duration,

    /// How long a client connection stays open between two requests.
    #[arg(long, env = "HANDFAST_KEEP_ALIVE", default_value = "75s", value_name = "TIME", value_parser = duration)]
    pub keep_alive: Duration,

    /// Longest time to connect to an endpoint.
    #[arg(long, env = "HANDFAST_CONNECT_TIMEOUT", default_value = "5s", value_name = "TIME", value_parser = some_time)]
    pub connect_timeout: Duration,

    /// Longest gap between two reads from an endpoint.
    #[arg(long, env = "HANDFAST_READ_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = some_time)]
    pub read_timeout: Duration,

    /// Longest gap between two writes to an endpoint.
    #[arg(long, env = "HANDFAST_SEND_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = some_time)]
    pub send_timeout: Duration,

    /// After SIGTERM: how long to accept connections while /readyz already fails, so that load balancers stop first.
    #[arg(long, env = "HANDFAST_UNREADY_DELAY", default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub unready_delay: Duration,

    /// After --unready-delay: how long open connections may take to finish. A second signal ends the wait.
    #[arg(long, env = "HANDFAST_DRAIN_TIMEOUT", default_value = "240s", value_name = "TIME", value_parser = duration)]
    pub drain_timeout: Duration,
}

/// Size limits of `run`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = LIMITS)]
pub struct LimitArgs {
    /// Client connections per worker. When there are more, the one that has waited longest for its client ends, between
    /// two requests or without one; a quarter of them is kept for each of the two listeners. Default: as many as the limit
    /// on open files allows, 16384 at most.
    #[arg(long, env = "HANDFAST_MAX_CONNECTIONS", value_name = "N", value_parser = some)]
    pub max_connections: Option<usize>,

    /// TLS handshakes in progress per worker, counted from the complete ClientHello. When there are more, the one that has
    /// waited longest for its client ends, and is counted as `evicted`.
    #[arg(long, env = "HANDFAST_MAX_HANDSHAKES", default_value_t = 1_024, value_name = "N", value_parser = some)]
    pub max_handshakes: usize,

    /// Largest head of a request (431 above).
    #[arg(long, env = "HANDFAST_MAX_HEADER_SIZE", default_value = "32KiB", value_name = "SIZE", value_parser = header_size)]
    pub max_header_size: usize,

    /// Most header fields of a request (431 above).
    #[arg(long, env = "HANDFAST_MAX_HEADERS", default_value_t = 100, value_name = "N", value_parser = some)]
    pub max_headers: usize,

    /// Idle connections to each backend that are kept open, over all workers.
    #[arg(long, env = "HANDFAST_UPSTREAM_KEEPALIVE", default_value_t = 320, value_name = "N")]
    pub upstream_keepalive: usize,
}

/// Form of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLogFormat {
    /// One JSON object per line.
    Json,
    /// None.
    Off,
    /// ingress-nginx's format.
    Text,
}

/// Options of `chain`.
#[derive(Args, Clone, Debug)]
pub struct ChainArgs {
    /// PEM file with the chain, as in `tls.crt`. `-` is standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// PEM file with the private key. The leaf is then the certificate of this key.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// DNS name or IP address that the certificate must cover.
    #[arg(long, value_name = "HOST", value_parser = name)]
    pub name: Option<Name>,

    /// Check as of this time instead of now: a date (midnight UTC) or an RFC 3339 time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub at: Option<UnixTime>,

    /// How to print the result.
    #[arg(long, default_value = "table", value_name = "FORM")]
    pub output: ChainOutput,

    /// Whom clients are taken to trust.
    #[command(flatten)]
    pub anchors: AnchorArgs,

    /// What may be missing in the chain.
    #[command(flatten)]
    pub intermediates: IntermediateArgs,
}

/// Options of `probe`.
#[derive(Args, Clone, Debug)]
pub struct ProbeArgs {
    /// The server: a host name or an address with a port (default 443). A URL also works.
    #[arg(value_name = "HOST[:PORT]")]
    pub target: Target,

    /// Server name to send, which the certificate must cover. Default: the host, if it is a name.
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    pub sni: Option<Name>,

    /// Also try the ClientHello of each known client: which can connect, with what, and why others cannot.
    ///
    /// `handfast clients` lists them.
    #[arg(long)]
    pub clients: bool,

    /// How to print the result.
    #[arg(long, default_value = "table", value_name = "FORM")]
    pub output: ListOutput,

    /// Timeout of each connection. All connections together take at most 36 times as long.
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,

    /// Whom clients are taken to trust.
    #[command(flatten)]
    pub anchors: AnchorArgs,
}

/// How `clients` and `probe` print their results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListOutput {
    /// One JSON document.
    Json,
    /// A table for people.
    Table,
}

/// How `chain` prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ChainOutput {
    /// One JSON document.
    Json,
    /// A tree for people.
    Table,
}

/// Options of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// End after the tour. Exit status: 0 if everything worked as announced, otherwise 1.
    #[arg(long)]
    pub once: bool,

    /// Directory for the demo's manifests, which are kept. Default: a temporary directory, deleted at the end.
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,

    /// Address of the HTTP listener. Default: port 8080 on loopback, or a free one.
    #[arg(long, env = "HANDFAST_HTTP", value_name = "ADDRESS", value_parser = address)]
    pub http: Option<SocketAddr>,

    /// Address of the HTTPS listener. Default: port 8443 on loopback, or a free one.
    #[arg(long, env = "HANDFAST_HTTPS", value_name = "ADDRESS", value_parser = address)]
    pub https: Option<SocketAddr>,

    /// Address of the admin listener. Default: port 10254 on loopback, or a free one.
    #[arg(long, env = "HANDFAST_ADMIN", value_name = "ADDRESS", value_parser = address)]
    pub admin: Option<SocketAddr>,
}

impl Cli {
    /// The command line of the process. Where it is wrong, this ends the process with a message.
    pub fn read() -> Self {
        let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
        synonyms::parse(&arguments).unwrap_or_else(|error| error.exit())
    }
}

impl RunArgs {
    /// The defaults of all options, without looking at the command line or the environment.
    pub fn defaults() -> Self {
        // Variables are looked up during parsing; those of the process must not leak into tests and the demo.
        let without_variables = |run: clap::Command| run.mut_args(|arg| arg.env(None::<&'static str>));
        let command = Cli::command().mut_subcommand("run", without_variables);
        let parsed = command.try_get_matches_from(["handfast", "run"]).and_then(|found| Cli::from_arg_matches(&found));
        let Ok(Cli { command: Command::Run(args) }) = parsed else {
            unreachable!("invariant: `run` has no required options")
        };
        *args
    }
}

/// What the environment says about where we run.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// True inside a Kubernetes pod.
    pub in_pod: bool,
    /// The pod's name, where its manifest passes it on (POD_NAME).
    pub pod_name: Option<String>,
    /// The pod's namespace (POD_NAMESPACE).
    pub pod_namespace: Option<String>,
    /// The pod's addresses (POD_IPS, separated by commas).
    pub pod_ips: Vec<IpAddr>,
    /// Where pods reach the API server (KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT).
    pub api_server: Option<SocketAddr>,
}

impl Environment {
    /// Reads it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn read() -> Self {
        // The kubelet sets this variable in every container.
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let api_host = text("KUBERNETES_SERVICE_HOST").and_then(|host| host.parse().ok());
        let api_port = text("KUBERNETES_SERVICE_PORT").map_or(Some(443), |port| port.parse().ok());
        let pod_ips = text("POD_IPS").unwrap_or_default();
        Self {
            in_pod: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            pod_name: text("POD_NAME"),
            pod_namespace: text("POD_NAMESPACE"),
            pod_ips: pod_ips.split(',').filter_map(|address| address.trim().parse().ok()).collect(),
            api_server: api_host.zip(api_port).map(|(host, port)| SocketAddr::new(host, port)),
        }
    }
}

fn namespaced_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write NAMESPACE/NAME, for example default/wildcard".to_owned()),
    }
}

/// A date or a time.
fn time(text: &str) -> Result<UnixTime, String> {
    let error = || "write a date such as 2026-12-24, or a time such as 2026-12-24T18:00:00Z".to_owned();
    let midnight = |date: jiff::civil::Date| date.to_zoned(jiff::tz::TimeZone::UTC).map(|time| time.timestamp());
    let time = match text.parse::<jiff::Timestamp>() {
        Ok(time) => time,
        Err(_) if text.len() == "2026-12-24".len() => text.parse().and_then(midnight).map_err(|_| error())?,
        Err(_) => return Err(error()),
    };
    let seconds = u64::try_from(time.as_second()).map_err(|_| "the time lies before 1970".to_owned())?;
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

fn name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|error: crate::snapshot::BadHostName| error.to_string())
}

/// A name that a hello can carry (RFC 6066 section 3).
fn server_name(text: &str) -> Result<Name, String> {
    match name(text)? {
        Name::Address(_) => Err("an address is not a server name: write the name of a host".to_owned()),
        Name::Host(host) if host.is_wildcard() => Err("it stands for many hosts: name one of them".to_owned()),
        name => Ok(name),
    }
}

/// A length of time. Longer than any program runs, it would overflow the clock.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write for example 30s or 2m"))?;
    match duration.as_secs() {
        0..=2_147_483_647 => Ok(duration),
        _ => Err("at most 68years".to_owned()),
    }
}

/// A length of time without which nothing could happen.
fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("0s leaves no time: write for example 10s".to_owned()),
        time => Ok(time),
    }
}

/// A number of things without which nobody could be served.
fn some(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("0 would serve nobody: write a number from 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("write a number from 1".to_owned()),
    }
}

/// Where the admin listener of a running controller is.
fn admin_target(text: &str) -> Result<Target, String> {
    const PORT: u16 = 10_254;
    let authority = match text.split_once("://") {
        None => text,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) => {
            return Err(format!("the admin listener speaks plain HTTP, not {scheme}: write HOST:PORT"));
        }
    };
    let authority = authority.split('/').next().unwrap_or_default();
    let has_port = authority.rsplit_once(':').is_some_and(|(host, _)| host.ends_with(']') || !host.contains(':'));
    let whole = match authority.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{PORT}"),
        Err(_) if has_port || authority.is_empty() => authority.to_owned(),
        Err(_) => format!("{authority}:{PORT}"),
    };
    whole.parse().map_err(|error: crate::probe::target::BadTarget| error.to_string())
}

/// An address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write ADDRESS:PORT, for example 127.0.0.1:8080 or [::]:8080 (all addresses); names are not resolved".to_owned()
    })
}

/// A network, or a single address.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| "write a network such as 10.0.0.0/8 or fd00::/8, or an address".to_owned())
}

/// hyper needs room for at least one line of the usual length.
fn header_size(text: &str) -> Result<usize, String> {
    let size: bytesize::ByteSize = text.parse()?;
    match usize::try_from(size.as_u64()) {
        Ok(size @ 8_192..=16_777_216) => Ok(size),
        _ => Err("the size must lie between 8KiB and 16MiB".to_owned()),
    }
}

#[cfg(test)]
mod tests;
