//! Every flag, variable and default, parsed once. Nobody else reads the environment.

mod cluster;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ipnet::IpNet;

use rustls::pki_types::UnixTime;

use crate::probe::target::Target;
use crate::telemetry::LogFormat;
use crate::tls::chain::Name;

pub use cluster::{ClusterArgs, StatusArgs, WebhookArgs};

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
    /// Judge one certificate chain, without Kubernetes.
    ///
    /// Exit status: 0 if a strict client would accept the chain by RFC 5280 and RFC 9525 alone (warnings do not change
    /// it), 1 if not, 2 if a file cannot be read or the usage is wrong.
    Chain(ChainArgs),
    /// Judge manifests without serving them: what would be served, what is wrong, and what to do about it.
    ///
    /// Exit status: 0 without errors (see --fail-on), 1 with errors, 2 if the input cannot be read or the usage is wrong.
    Check(CheckArgs),
    /// List the well-known clients that `check --clients` judges, with the ids that a policy's requiredClients takes.
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
    /// Show everything at once: make certificates, write manifests, serve them, and play a tour with real handshakes.
    Demo(DemoArgs),
    /// Say what a code of a finding, a problem or a failed handshake means, whose fault it is, and what to do about it.
    Explain {
        /// The code, for example key-mismatch. Without it all codes are listed.
        code: Option<String>,
    },
    /// Show the last failed handshakes of a running controller: who failed where and why, whose fault it is, and what to
    /// do about it.
    ///
    /// Asks the admin listener, from the same machine or through `kubectl port-forward`. Exit status: 0, or 2 if it
    /// cannot be asked.
    Failures(FailuresArgs),
    /// Look at any TLS server as its clients do: versions, suites, groups, certificate chains, and what is wrong.
    ///
    /// Exit status: 0 without errors, 1 with errors or if a strict client would refuse a chain, 2 if the server cannot be
    /// reached or speaks no TLS, or the usage is wrong.
    ///
    /// It makes about a hundred connections, one after the other, and completes few of them. Each is closed in good order.
    Probe(ProbeArgs),
    /// Ask a running controller whether it is ready, for scripts and `helm test`.
    ///
    /// Exit status: 0 if it is, 1 if it is not, 2 if it cannot be asked.
    Ready(ReadyArgs),
    /// Serve: terminate TLS and proxy HTTP for the Ingresses of a source.
    Run(Box<RunArgs>),
}

/// Options of `failures`.
#[derive(Args, Clone, Debug)]
pub struct FailuresArgs {
    /// Address of the admin listener; a name or a URL (http://localhost:10254) works as well.
    #[arg(long, env = "HANDFAST_ADMIN", default_value = "127.0.0.1:10254", value_name = "HOST[:PORT]", value_parser = admin_target)]
    pub admin: Target,

    /// Only those of one virtual host; `*` is the one of rules without a host.
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,

    /// Go on and show what happens, until Ctrl-C.
    #[arg(long, conflicts_with = "shadow")]
    pub follow: bool,

    /// Show what shadow policies (handfast.dev/shadow-tls-policy) would have done instead: whom would the stricter
    /// policy lock out?
    #[arg(long)]
    pub shadow: bool,

    /// How many examples at most, the newest ones.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,

    /// How to print them: a table, or the JSON of /api/failures (with --follow one example a line).
    #[arg(long, default_value = "table", value_name = "FORM")]
    pub output: ListOutput,
}

/// Options of `ready`.
#[derive(Args, Clone, Debug)]
pub struct ReadyArgs {
    /// Address of the admin listener; a name or a URL (http://localhost:10254) works as well.
    #[arg(long, env = "HANDFAST_ADMIN", default_value = "127.0.0.1:10254", value_name = "HOST[:PORT]", value_parser = admin_target)]
    pub admin: Target,

    /// For how long to ask until it is ready.
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub wait: Duration,
}

/// Options of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Where objects come from: a directory of manifests (*.yaml, *.yml, *.json), or `cluster`.
    ///
    /// Default: `cluster` inside a pod, else `./manifests`.
    #[arg(long, env = "HANDFAST_SOURCE", value_name = "DIR|cluster")]
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

    /// Address of the HTTP listener. `[::]` takes IPv4 as well.
    #[arg(long, env = "HANDFAST_HTTP", default_value = "[::]:8080", value_name = "ADDRESS", value_parser = address)]
    pub http: SocketAddr,

    /// Address of the HTTPS listener. `[::]` takes IPv4 as well.
    #[arg(long, env = "HANDFAST_HTTPS", default_value = "[::]:8443", value_name = "ADDRESS", value_parser = address)]
    pub https: SocketAddr,

    /// Address of the admin listener: /metrics, /healthz and /readyz, and what is for loopback peers only; / lists the
    /// pages.
    #[arg(long, env = "HANDFAST_ADMIN", default_value = "127.0.0.1:10254", value_name = "ADDRESS", value_parser = address)]
    pub admin: SocketAddr,

    /// Let the admin pages below /api and /debug answer everyone who reaches the admin listener, instead of loopback
    /// peers only (which is where `kubectl port-forward` arrives).
    ///
    /// They show clients' addresses, and with --allow-keylog they can have TLS secrets written: use it only where
    /// something else decides who reaches the port.
    #[arg(long, env = "HANDFAST_ADMIN_EXPOSE_API", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub admin_expose_api: bool,

    /// Allow the admin pages to have TLS secrets of one host or one client written to this file for a while, so that
    /// Wireshark can decrypt a capture: POST /api/keylog?host=NAME&for=60s (or client=ADDRESS), GET, DELETE.
    ///
    /// Off by default. The file is made with mode 0600 and appended to; one that is there must not be open to others.
    #[arg(long, env = "HANDFAST_ALLOW_KEYLOG", value_name = "FILE")]
    pub allow_keylog: Option<PathBuf>,

    /// The port that clients reach the HTTPS listener on, for redirects; left out of them if not given.
    #[arg(long, env = "HANDFAST_HTTPS_PUBLIC_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub https_public_port: Option<u16>,

    /// Write the bound addresses to this file as JSON, {"http":…,"https":…,"admin":…}, once they are served.
    #[arg(long, env = "HANDFAST_ADDRESSES_FILE", value_name = "FILE")]
    pub addresses_file: Option<PathBuf>,

    /// Keep what is held here, so that a restart serves it again: the last usable version of Secrets that are unusable
    /// now, and the last working policy of hosts whose policy does not work now. Of a cluster also all objects, for a
    /// start while the API server does not answer.
    ///
    /// Made with mode 0700 if it does not exist; it holds private keys. One process per directory.
    #[arg(long, env = "HANDFAST_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Worker threads. Default: one per available processor, 8 at most.
    #[arg(long, env = "HANDFAST_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Networks whose X-Forwarded-* headers are believed, comma separated.
    #[arg(long, env = "HANDFAST_TRUSTED_PROXIES", value_name = "CIDR,…", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,

    /// Expect a PROXY protocol header (version 1 or 2) on every connection to both listeners.
    ///
    /// Switch it on only behind a load balancer that sends it: the header's addresses are believed.
    #[arg(long, env = "HANDFAST_PROXY_PROTOCOL", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub proxy_protocol: bool,

    /// Time limits.
    #[command(flatten)]
    pub timeouts: TimeoutArgs,

    /// Size limits.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Whether metrics have a series per virtual host. Without, every `host` label is empty.
    #[arg(long, env = "HANDFAST_METRICS_PER_HOST", num_args = 0..=1, default_missing_value = "true", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set)]
    pub metrics_per_host: bool,

    /// Cut the addresses of clients in /api/failures, in `handfast failures` and in log lines about handshakes to their
    /// network: /24 for IPv4, /48 for IPv6. The access log and X-Forwarded-For keep them whole.
    #[arg(long, env = "HANDFAST_MASK_CLIENTS", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub mask_clients: bool,

    /// One line per request on standard output.
    #[arg(long, env = "HANDFAST_ACCESS_LOG", default_value = "text", value_name = "FORMAT")]
    pub access_log: AccessLogFormat,

    /// Form of the log on standard error.
    #[arg(long, env = "HANDFAST_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Level of the log (error, warn, info, debug, trace), or directives such as `info,handfast::proxy=debug`.
    ///
    /// `debug` has one line per failed handshake.
    #[arg(long, env = "HANDFAST_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// What is done with Ingresses and certificates; the same for `run` and `check`.
#[derive(Args, Clone, Debug)]
pub struct CompileArgs {
    /// Secret with the certificate for clients without SNI, unknown hosts, rules without a host, and `tls` entries
    /// without a secretName. Without it such handshakes are refused with `unrecognized_name`.
    #[arg(long, env = "HANDFAST_DEFAULT_TLS_SECRET", value_name = "NAMESPACE/NAME", value_parser = namespaced_name)]
    pub default_tls_secret: Option<(String, String)>,

    /// TlsPolicy of hosts for which neither an Ingress (handfast.dev/tls-policy) nor the parameters of its IngressClass
    /// name one. Without it: Mozilla's "intermediate", in the server's order.
    #[arg(long, env = "HANDFAST_DEFAULT_TLS_POLICY", value_name = "NAMESPACE/NAME", value_parser = namespaced_name)]
    pub default_tls_policy: Option<(String, String)>,

    /// How long the last usable version of a Secret is served after the Secret was deleted; 0s for not at all.
    /// Versions of Secrets that exist and cannot be used are served without limit.
    #[arg(long, env = "HANDFAST_LAST_GOOD_TTL", default_value = "24h", value_name = "TIME", value_parser = duration)]
    pub last_good_ttl: Duration,

    /// Serve Services of type ExternalName. Off, because whoever may write a Service chooses where requests go.
    #[arg(long, env = "HANDFAST_ALLOW_EXTERNAL_NAME", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub allow_external_name: bool,

    /// Value of the annotation `kubernetes.io/ingress.class` that means us.
    #[arg(long, env = "HANDFAST_INGRESS_CLASS", default_value = "handfast", value_name = "NAME")]
    pub ingress_class: String,

    /// Whether Ingresses of other namespaces may add paths to a host, or the host belongs to the namespace of its
    /// oldest Ingress.
    #[arg(long, env = "HANDFAST_HOST_OWNERSHIP", default_value = "merge", value_name = "RULE")]
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
    /// PEM file with CA certificates that complete chains which lack them: those of hosts whose policy says so, or the
    /// chain that `handfast chain` judges.
    #[arg(long, env = "HANDFAST_INTERMEDIATES", value_name = "FILE")]
    pub intermediates: Option<PathBuf>,
}

/// Whom clients are taken to trust when a chain is judged. Nothing of it is served.
#[derive(Args, Clone, Debug)]
pub struct AnchorArgs {
    /// PEM file with roots that clients trust beside Mozilla's, for example those of a private CA.
    #[arg(long, env = "HANDFAST_TRUST_ANCHORS", value_name = "FILE")]
    pub trust_anchors: Option<PathBuf>,

    /// Leave Mozilla's roots out: clients trust the given anchors only.
    #[arg(long, env = "HANDFAST_ONLY_ANCHORS", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
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
    /// From accept to the end of the TLS handshake.
    #[arg(long, env = "HANDFAST_HANDSHAKE_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = some_time)]
    pub handshake_timeout: Duration,

    /// For a client to send a request's head.
    #[arg(long, env = "HANDFAST_HEADER_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = some_time)]
    pub header_timeout: Duration,

    /// Longest gap while a client sends a request's body.
    #[arg(long, env = "HANDFAST_BODY_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = some_time)]
    pub body_timeout: Duration,

    /// How long a client connection is kept between two requests.
    #[arg(long, env = "HANDFAST_KEEP_ALIVE", default_value = "75s", value_name = "TIME", value_parser = duration)]
    pub keep_alive: Duration,

    /// To connect to an endpoint.
    #[arg(long, env = "HANDFAST_CONNECT_TIMEOUT", default_value = "5s", value_name = "TIME", value_parser = some_time)]
    pub connect_timeout: Duration,

    /// Longest gap between two reads from an endpoint.
    #[arg(long, env = "HANDFAST_READ_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = some_time)]
    pub read_timeout: Duration,

    /// Longest gap between two writes to an endpoint.
    #[arg(long, env = "HANDFAST_SEND_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = some_time)]
    pub send_timeout: Duration,

    /// After SIGTERM: how long to keep accepting while /readyz already fails, so that load balancers look away first.
    #[arg(long, env = "HANDFAST_UNREADY_DELAY", default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub unready_delay: Duration,

    /// After that: how long open connections may take to finish. A second signal ends the wait.
    #[arg(long, env = "HANDFAST_DRAIN_TIMEOUT", default_value = "240s", value_name = "TIME", value_parser = duration)]
    pub drain_timeout: Duration,
}

/// Size limits of `run`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Client connections per worker; more are closed at once.
    #[arg(long, env = "HANDFAST_MAX_CONNECTIONS", default_value_t = 16_384, value_name = "N", value_parser = some)]
    pub max_connections: usize,

    /// TLS handshakes in progress per worker, counted from the complete ClientHello; more are closed at once and counted as `overloaded`.
    #[arg(long, env = "HANDFAST_MAX_HANDSHAKES", default_value_t = 1_024, value_name = "N", value_parser = some)]
    pub max_handshakes: usize,

    /// Bytes of a request's head (431 above).
    #[arg(long, env = "HANDFAST_MAX_HEADER_SIZE", default_value = "32KiB", value_name = "SIZE", value_parser = header_size)]
    pub max_header_size: usize,

    /// Header fields of a request (431 above).
    #[arg(long, env = "HANDFAST_MAX_HEADERS", default_value_t = 100, value_name = "N", value_parser = some)]
    pub max_headers: usize,

    /// Idle connections kept to each backend, over all workers.
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

/// Options of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Directory of manifests, one file, or `-` for standard input. Default: ./manifests.
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,

    /// The same as the path given without a flag, which wins.
    #[arg(long, env = "HANDFAST_SOURCE", value_name = "PATH")]
    pub source: Option<PathBuf>,

    /// What is done with Ingresses and certificates.
    #[command(flatten)]
    pub compile: CompileArgs,

    /// How to print the result.
    #[arg(long, env = "HANDFAST_OUTPUT", default_value = "table", value_name = "FORM")]
    pub output: OutputFormat,

    /// Judge at this time instead of now: a date (midnight UTC) or an RFC 3339 time.
    #[arg(long, env = "HANDFAST_AT", value_name = "TIME", value_parser = time)]
    pub at: Option<UnixTime>,

    /// Say as well which well-known clients connect to each host, with what, and why others do not.
    ///
    /// A host that locks clients out, though some policy or certificate would let them in, gets the warning
    /// clients-locked-out. `handfast clients` lists the clients and their ids.
    #[arg(long, env = "HANDFAST_CLIENTS", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub clients: bool,

    /// The mildest finding that makes the exit status 1.
    #[arg(long, env = "HANDFAST_FAIL_ON", default_value = "error", value_name = "SEVERITY")]
    pub fail_on: FailOn,
}

/// Which findings make `check` fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Errors.
    Error,
    /// Errors and warnings.
    Warning,
}

/// Options of `chain`.
#[derive(Args, Clone, Debug)]
pub struct ChainArgs {
    /// PEM file with the chain: what `tls.crt` would hold. `-` is standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// PEM file with the private key. With it the leaf is the certificate of this key.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// DNS name or IP address that the certificate has to cover.
    #[arg(long, value_name = "HOST", value_parser = name)]
    pub name: Option<Name>,

    /// Judge at this time instead of now: a date (midnight UTC) or an RFC 3339 time.
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
    /// The server: a host name or an address with a port, 443 if none is given. A URL works as well.
    #[arg(value_name = "HOST[:PORT]")]
    pub target: Target,

    /// Server name to ask for, and that the certificate has to cover. Default: the host, if it is a name.
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    pub sni: Option<Name>,

    /// Say the hello of each well-known client too: which of them connect, with what, and why others do not.
    ///
    /// `handfast clients` lists them.
    #[arg(long)]
    pub clients: bool,

    /// How to print the result.
    #[arg(long, default_value = "table", value_name = "FORM")]
    pub output: ListOutput,

    /// For each connection. All together take 36 times as long at most.
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

/// How `check` prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// One JSON document.
    Json,
    /// SARIF 2.1.0, for sites that show findings beside the lines of a change.
    Sarif,
    /// What the data plane would serve, as text (the form of /debug/snapshot), and nothing else.
    Snapshot,
    /// A table for people.
    Table,
}

/// Options of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// End after the tour: exit 0 if all was as said, 1 if not.
    #[arg(long)]
    pub once: bool,

    /// Write the demo's manifests here and keep them. Default: a temporary directory, removed at the end.
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
}

impl Environment {
    /// Reads it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn read() -> Self {
        // The kubelet sets this variable in every container.
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            in_pod: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            pod_name: text("POD_NAME"),
            pod_namespace: text("POD_NAMESPACE"),
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
        Name::Address(_) => Err("an address is no server name: write the name of a host".to_owned()),
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
        Duration::ZERO => Err("that would leave no time for anything: write for example 10s".to_owned()),
        time => Ok(time),
    }
}

/// A number of things without which nobody could be served.
fn some(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("that would serve nobody: write a number from 1".to_owned()),
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
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_option_of_run_and_check_has_a_variable() {
        Cli::command().debug_assert();
        let command = Cli::command();
        for name in ["run", "check"] {
            let command = command.find_subcommand(name).unwrap();
            for option in command.get_arguments().filter(|option| option.get_long().is_some()) {
                let long = option.get_long().unwrap();
                if matches!(long, "help" | "version") {
                    continue;
                }
                let variable = option.get_env().map(|name| name.to_string_lossy().into_owned());
                let expected = format!("HANDFAST_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(variable, Some(expected), "--{long} of {name}");
            }
        }
    }

    #[test]
    fn nothing_is_a_value_where_it_has_a_meaning() {
        for args in
            [["--keep-alive", "0s"], ["--drain-timeout", "0s"], ["--unready-delay", "0s"], ["--last-good-ttl", "0s"]]
        {
            assert!(Cli::try_parse_from([&["handfast", "run"], &args[..]].concat()).is_ok(), "{args:?}");
        }
    }

    #[test]
    fn the_admin_listener_is_named_by_address_name_or_url() {
        let rows = [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("127.0.0.1", "127.0.0.1:10254"),
            ("localhost:10254", "localhost:10254"),
            ("localhost", "localhost:10254"),
            ("http://localhost:10254/api/failures", "localhost:10254"),
            ("HTTP://[::1]", "[::1]:10254"),
            ("[::1]:2", "[::1]:2"),
            ("::1", "[::1]:10254"),
        ];
        for (text, expected) in rows {
            assert_eq!(admin_target(text).unwrap().to_string(), expected, "{text}");
        }
        assert!(admin_target("").is_err() && admin_target("http://").is_err());
    }

    #[test]
    fn bad_values_say_what_to_write() {
        let error = |args: &[&str]| Cli::try_parse_from(args).unwrap_err().to_string();
        assert!(error(&["handfast", "run", "--default-tls-secret", "wild"]).contains("NAMESPACE/NAME"));
        assert!(error(&["handfast", "run", "--trusted-proxies", "10.0.0.0/99"]).contains("10.0.0.0/8"));
        assert!(error(&["handfast", "run", "--max-header-size", "1"]).contains("8KiB"));
        assert!(error(&["handfast", "run", "--keep-alive", "500000000000y"]).contains("68years"));
        assert!(error(&["handfast", "run", "--http", "8080"]).contains("[::]:8080"));
        assert!(error(&["handfast", "run", "--workers", "0"]).contains("--workers"));
        for limit in ["--max-connections", "--max-handshakes", "--max-headers"] {
            assert!(error(&["handfast", "run", limit, "0"]).contains("serve nobody"), "{limit}");
            assert!(error(&["handfast", "run", limit, "many"]).contains("a number from 1"), "{limit}");
        }
        for limit in ["handshake", "header", "body", "connect", "read", "send"] {
            let limit = format!("--{limit}-timeout");
            assert!(error(&["handfast", "run", &limit, "0s"]).contains("no time for anything"), "{limit}");
        }
        assert!(error(&["handfast", "failures", "--admin", "https://localhost"]).contains("plain HTTP, not https"));
        assert!(error(&["handfast", "failures", "--admin", "localhost:x"]).contains("is no port"));
        assert!(error(&["handfast", "check", "--at", "tomorrow"]).contains("2026-12-24"));
        assert!(error(&["handfast", "check", "--at", "1960-01-01"]).contains("1970"));
        assert!(error(&["handfast", "chain", "x.pem", "--name", "a..b"]).contains("--name"));
        assert!(error(&["handfast", "probe", "shop.example:0"]).contains("from 1 to 65535"));
        assert!(error(&["handfast", "probe", "shop.example", "--sni", "192.0.2.1"]).contains("no server name"));
    }
}
