//! The composition root: constructs all parts in order, and stops them in reverse.
//!
//! ```text
//! control (main thread): source, admin, signals, log lines
//! reconcile:             compiles and publishes
//! worker-N:              the data plane
//! access-log:            writes lines
//! webhook:               judges objects before they are there, if asked to
//! ```
//!
//! Start: sockets first, so that a port in use is the first thing said; then the source; then the first snapshot; only
//! then are connections accepted, so that no client meets an empty configuration.

mod writing;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::CommandFactory;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::access_log::{self, AccessLog};
use crate::admin::{self, Admin, Readiness};
use crate::clock;
use crate::commands::{self, DEFAULT_DIRECTORY};
use crate::compile::{Compiler, Held, HostOwnership, Options};
use crate::config::{AccessLogFormat, Cli, Command, CompileArgs, Environment, HostOwnershipArg, RunArgs};
use crate::demo;
use crate::failures::follow;
use crate::failures::summary::Line;
use crate::keylog::{self, KeyLog};
use crate::kubernetes::{self, Cluster};
use crate::mask::ClientAddresses;
use crate::metrics::Metrics;
use crate::open_files::{self, Shares};
use crate::proxy::http::HttpService;
use crate::proxy::listener::listen;
use crate::proxy::record::Observers;
use crate::proxy::settings::Settings;
use crate::proxy::worker::{Shutdown, WorkerSettings, Workers};
use crate::reconcile::{self, Batching, Message, Outputs, Publication};
use crate::snapshot::{self, AddressList, Reach};
use crate::source::cluster::seen::Seen;
use crate::source::cluster::{self, Saved};
use crate::source::{self, SourceConfig};
use crate::state::cluster::LastGood;
use crate::state::{self, Sink};
use crate::status;
use crate::telemetry;
use crate::webhook::{self, Webhook};

use writing::{Parts, Writing};

/// Runs a command; errors go to standard error with all their causes.
pub fn main(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Chain(args) => commands::chain(&args),
        Command::Check(args) => commands::check(&args),
        Command::Clients { output } => commands::clients(output),
        Command::Completions { shell } => completions(shell),
        Command::Crd => commands::crd(),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Failures(args) => commands::failures(&args),
        Command::Explain { code } => commands::explain(code.as_deref()),
        Command::Probe(args) => commands::probe(&args),
        Command::Ready(args) => commands::ready(&args),
        Command::Run(args) => block_on(run(*args)).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "handfast: {error:#}");
        ExitCode::from(2)
    })
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let result = runtime.block_on(future);
    // Nothing that is left may keep the process alive: what had to be waited for has been.
    runtime.shutdown_background();
    result
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "handfast", &mut script);
    commands::print(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Why the process ends by itself.
const BROKEN: &str = "the source or the reconcile thread ended because of a bug: please report it with the log";

/// How long the end waits for a reader of the access log, and for the disk of the key log.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// How long the end waits for the disk of the state directory.
const STATE_PATIENCE: Duration = Duration::from_secs(5);

/// How long it waits for that, for a last compilation, and for a last verdict of the webhook (six seconds).
const END_PATIENCE: Duration = Duration::from_secs(20);

/// `handfast run`: serves until a signal.
async fn run(args: RunArgs) -> anyhow::Result<()> {
    telemetry::start(args.log_format, &args.log)
        .with_context(|| format!("--log {:?}: write a level such as `info`, or target=level directives", args.log))?;
    // Before anything starts, so that a signal during the start is not lost.
    let mut signals = Signals::new()?;
    let running = tokio::select! {
        running = Running::start(args) => running?,
        name = signals.next() => {
            info!(signal = name, "Ended before the start was complete.");
            return Ok(());
        }
    };
    running.until_signal(signals).await
}

/// The addresses that are served.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Addresses {
    /// HTTP listener.
    pub http: SocketAddr,
    /// HTTPS listener.
    pub https: SocketAddr,
    /// Admin listener.
    pub admin: SocketAddr,
    /// Admission webhook, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<SocketAddr>,
}

/// A controller that serves.
pub struct Running {
    /// Where.
    pub addresses: Addresses,
    /// Its metrics.
    pub metrics: Metrics,
    /// What it publishes.
    pub publications: watch::Receiver<Option<Publication>>,
    readiness: Readiness,
    shutdown: Shutdown,
    workers: Workers,
    access_log: access_log::Writer,
    state: Option<state::Writer>,
    keylog: Option<keylog::Writer>,
    /// Tells the cluster.
    writing: Option<Writing>,
    /// Ends source, admin listener and log lines.
    end: CancellationToken,
    /// Cancelled when the source or the reconciler ends, which only a bug brings about as long as nothing ends them.
    broken: CancellationToken,
    reconcile: std::thread::JoinHandle<()>,
    webhook: Option<std::thread::JoinHandle<()>>,
    unready_delay: Duration,
    drain_timeout: Duration,
}

impl Running {
    /// Starts everything; returns when connections are accepted.
    pub async fn start(args: RunArgs) -> anyhow::Result<Self> {
        let environment = Environment::read();
        let source = source_config(args.source.as_deref(), &environment)?;
        let mut options = match source {
            SourceConfig::Cluster => cluster_options(&args)?,
            SourceConfig::Directory(_) => run_options(&args)?,
        };
        let cluster = match source {
            SourceConfig::Cluster => Some(kubernetes::connect(&args.cluster, &environment).await?),
            SourceConfig::Directory(_) => None,
        };
        no_address_twice(&args)?;
        let files = open_files::raise();
        let workers = usize::from(args.workers.unwrap_or_else(default_workers));
        let http = listen(args.http, workers, "HTTP", "--http")?;
        let https = listen(args.https, workers, "HTTPS", "--https")?;
        let admin = listen(args.admin, 1, "the admin pages", "--admin")?;
        let webhook = args.webhook.webhook_addr.map(|address| listen(address, 1, "the webhook", "--webhook-addr"));
        let webhook = webhook.transpose()?.and_then(|mut listeners| listeners.pop());
        let addresses = Addresses {
            http: http[0].local_addr().context("cannot read the address of the HTTP listener")?,
            https: https[0].local_addr().context("cannot read the address of the HTTPS listener")?,
            admin: admin[0].local_addr().context("cannot read the address of the admin listener")?,
            webhook: webhook.as_ref().map(|listener| listener.local_addr()).transpose()?,
        };
        let reach = Arc::new(reach(&addresses, &environment, cluster.as_ref(), options.reach.loopback));
        options.reach = reach.clone();

        let shares = Shares::of(files.files, workers);
        let max_connections = max_connections(args.limits.max_connections, shares, files);

        let metrics = Metrics::new(args.metrics_per_host);
        let Kept { mut held, saved, sink, writer: state_writer } =
            open_state(args.state_dir.as_deref(), cluster.is_some(), &metrics)?;
        let holdings = sink.holdings();
        let (keylog, keylog_writer) = start_keylog(args.allow_keylog.as_deref())?;
        let clock = clock::system();
        let (publisher, reader) = snapshot::channel(Arc::default());
        let (publications, mut published) = watch::channel(None);
        let end = CancellationToken::new();
        let readiness = Readiness::default();
        let observers = Observers {
            addresses: ClientAddresses::new(args.mask_clients),
            ..Observers::new(metrics.clone(), workers, clock::system_time)
        };
        let Observers { failures, lost, .. } = observers.clone();
        let admin_state = Admin {
            metrics: metrics.clone(),
            reader: reader.clone(),
            readiness: readiness.clone(),
            failures: failures.clone(),
            lost: lost.clone(),
            expose_api: args.admin_expose_api,
            keylog: keylog.clone(),
        };
        for listener in admin {
            tokio::spawn(admin::serve(listener, admin_state.clone(), shares.admin, end.clone()));
        }

        let seen = match &cluster {
            Some(cluster) => Seen::new(&cluster.field_manager(&args.status.election_id)),
            None => Seen::default(),
        };
        let mut events = match (&source, &cluster) {
            (SourceConfig::Directory(path), _) => source::directory::open(path)?,
            (SourceConfig::Cluster, Some(reached)) => {
                info!(address = %reached.address, identity = %reached.identity, "Watching the cluster.");
                cluster::open(reached, &cluster_settings(&args), saved, &seen, &metrics)?
            }
            (SourceConfig::Cluster, None) => unreachable!("invariant: connected above"),
        };
        let (inbox, changes) = mpsc::channel();
        let questions = inbox.clone();
        let broken = CancellationToken::new();
        tokio::spawn({
            let (end, broken) = (end.clone(), broken.clone());
            async move {
                let event = end.run_until_cancelled(async {
                    while let Some(event) = events.next().await {
                        // The reconciler's end is noticed there.
                        let _ = inbox.send(event.into());
                    }
                });
                if event.await.is_some() {
                    error!("The source ended because of a bug.");
                    broken.cancel();
                }
            }
        });
        let mut last_good = None;
        if let (Some(cluster), Some(name)) = (&cluster, &args.cluster.last_good_secret) {
            let mut secret = LastGood::new(cluster.client.clone(), &cluster.namespace, name, &metrics);
            held.merge(secret.read(state::cluster::PATIENCE).await);
            last_good = Some(secret);
        }
        let mut compiler = Compiler::new(options);
        compiler.remember(&held);
        let outputs = Outputs { publisher, publications, metrics: metrics.clone(), state: sink };
        let reconcile = start_reconciler(changes, compiler, clock.clone(), outputs, &broken)?;
        let first = broken.run_until_cancelled(published.wait_for(Option::is_some)).await;
        if first.is_none_or(|first| first.is_err()) {
            return Err(anyhow!(BROKEN));
        }
        let webhook = match webhook {
            None => None,
            Some(listener) => Some(webhook::start(Webhook {
                listener,
                args: args.webhook.clone(),
                cluster: cluster.as_ref().map(|cluster| (cluster.client.clone(), cluster.namespace.clone())),
                inbox: questions.clone(),
                watched: webhook::watched(&args.cluster.watch_namespace, &seen),
                metrics: metrics.clone(),
                clock: clock.clone(),
                end: end.clone(),
            })?),
        };
        tokio::spawn(status::log(published.clone(), end.clone()));
        tokio::spawn(follow::forget(failures.clone(), lost, metrics.clone(), published.clone(), end.clone()));

        let (access_log, access_log_writer) = start_access_log(args.access_log, &metrics)?;
        let settings = Arc::new(http_settings(&args, workers, reach));
        let worker_settings = WorkerSettings {
            max_connections,
            max_handshakes: args.limits.max_handshakes,
            handshake_timeout: args.timeouts.handshake_timeout,
            proxy_protocol: args.proxy_protocol,
            keylog,
            ..WorkerSettings::default()
        };
        let shutdown = Shutdown::default();
        let service = || {
            HttpService::new(reader.clone(), settings.clone(), metrics.clone(), access_log.clone())
                .unready_from(shutdown.unready.clone())
        };
        let listeners = http.into_iter().zip(https).collect();
        let workers = Workers::start(listeners, &worker_settings, &reader, &observers, &shutdown, service)
            .context("cannot start the worker threads")?;
        let writing = cluster.as_ref().and_then(|cluster| {
            Writing::start(Parts {
                cluster,
                args: &args.status,
                seen: &seen,
                publications: &published,
                metrics: &metrics,
                last_good: last_good.map(|last_good| (last_good, holdings, questions)),
            })
        });
        let remarks = writing.as_ref().and_then(|writing| writing.remarks.clone());
        let tell = move |line: &Line| remarks.iter().for_each(|remarks| remarks.handshakes(line));
        tokio::spawn(follow::summarize(failures, reader.clone(), end.clone(), tell));
        let running = Self {
            addresses,
            metrics,
            publications: published,
            readiness,
            shutdown,
            workers,
            access_log: access_log_writer,
            state: state_writer,
            keylog: keylog_writer,
            writing,
            end,
            broken,
            reconcile,
            webhook,
            unready_delay: args.timeouts.unready_delay,
            drain_timeout: args.timeouts.drain_timeout,
        };
        if let Some(path) = &args.addresses_file
            && let Err(error) = write_addresses(path, &addresses)
        {
            running.abort().await;
            return Err(error);
        }
        running.readiness.serving();
        info!(http = %addresses.http, https = %addresses.https, admin = %addresses.admin, "Serving.");
        Ok(running)
    }

    /// Serves until SIGTERM or SIGINT, then drains; a second signal aborts the drain. The same when the source or the
    /// reconciler has ended, with an error: to serve what there was yesterday is no more than half of the work, and whoever
    /// starts this process again gets all of it back.
    pub async fn until_signal(self, mut signals: Signals) -> anyhow::Result<()> {
        let result = tokio::select! {
            name = signals.next() => {
                info!(signal = name, delay = ?self.unready_delay, deadline = ?self.drain_timeout, "Draining. A second signal ends Handfast immediately.");
                Ok(())
            }
            () = self.broken.cancelled() => {
                error!(delay = ?self.unready_delay, deadline = ?self.drain_timeout, "Draining, because changes can no longer be applied. A signal ends Handfast immediately.");
                Err(anyhow!(BROKEN))
            }
        };
        self.drain(signals).await;
        result
    }

    async fn drain(self, mut signals: Signals) {
        self.readiness.stopping();
        self.shutdown.unready.cancel();
        let abort = self.shutdown.abort.clone();
        let delay = self.unready_delay;
        let drain = self.shutdown.drain.clone();
        let deadline = self.drain_timeout;
        let mut stopped = std::pin::pin!(self.stopped());
        let steps = async {
            tokio::time::sleep(delay).await;
            drain.cancel();
            tokio::time::sleep(deadline).await;
            "the deadline"
        };
        let cause = tokio::select! {
            () = &mut stopped => return info!("All connections have ended."),
            cause = steps => cause,
            name = signals.next() => name,
        };
        warn!(cause, "Closing the remaining connections.");
        drain.cancel();
        abort.cancel();
        tokio::select! {
            () = stopped => {}
            name = signals.next() => warn!(signal = name, "Ending without waiting."),
        }
    }

    /// Ends at once, without waiting for connections.
    pub async fn abort(self) {
        self.readiness.stopping();
        self.shutdown.unready.cancel();
        self.shutdown.drain.cancel();
        self.shutdown.abort.cancel();
        self.stopped().await;
    }

    /// Waits for the workers, then ends everything else in reverse order of construction.
    async fn stopped(self) {
        let Self { workers, access_log, state, keylog, writing, end, reconcile, webhook, .. } = self;
        // At once, so that another replica writes while this one drains.
        let written = writing.map(|writing| tokio::spawn(writing.finish()));
        // Joining blocks, and this runtime still serves the admin pages.
        let joined = tokio::task::spawn_blocking(move || {
            workers.join();
            access_log.finish(LOG_PATIENCE);
            if let Some(keylog) = keylog {
                keylog.finish(LOG_PATIENCE);
            }
        });
        let _ = joined.await;
        if let Some(written) = written {
            let _ = written.await;
        }
        end.cancel();
        let ended = tokio::task::spawn_blocking(move || {
            // It has a hand in the reconciler's inbox.
            let _ = webhook.map(std::thread::JoinHandle::join);
            let _ = reconcile.join();
            if let Some(state) = state {
                state.finish(STATE_PATIENCE);
            }
        });
        if tokio::time::timeout(END_PATIENCE, ended).await.is_err() {
            warn!("A part of Handfast does not stop. The process ends anyway.");
        }
    }
}

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the operating system's defaults.
    pub fn new() -> anyhow::Result<Self> {
        let take = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: take(SignalKind::terminate())?, interrupt: take(SignalKind::interrupt())? })
    }

    /// The name of the next signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// How Ingresses of a directory are compiled: nobody writes the IngressClass there, and backends are local processes.
pub fn directory_options(args: &CompileArgs) -> anyhow::Result<Options> {
    Ok(Options {
        ingress_class: args.ingress_class.as_str().into(),
        watch_without_class: true,
        report_other_classes: true,
        allow_external_name: args.allow_external_name,
        reach: Arc::new(Reach { loopback: true, ..Reach::default() }),
        default_tls_secret: args
            .default_tls_secret
            .as_ref()
            .map(|(namespace, name)| (namespace.as_str().into(), name.as_str().into())),
        host_ownership: match args.host_ownership {
            HostOwnershipArg::Merge => HostOwnership::Merge,
            HostOwnershipArg::Namespace => HostOwnership::Namespace,
        },
        default_tls_policy: args.policies.default_tls_policy.clone(),
        default_shadow_tls_policy: args.policies.default_shadow_tls_policy.clone(),
        min_tls_version: args.policies.min_tls_version.into(),
        intermediates: commands::intermediates(&args.intermediates)?,
        last_good_ttl: args.last_good_ttl,
        trust_anchors: commands::trust_anchors(&args.anchors)?,
        ..Options::default()
    })
}

/// Cancels `broken` when it ends, by a panic as well.
fn start_reconciler(
    changes: mpsc::Receiver<Message>,
    compiler: Compiler,
    clock: clock::Clock,
    outputs: Outputs,
    broken: &CancellationToken,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let end = broken.clone().drop_guard();
    let run = move || {
        let _end = end;
        reconcile::run(&changes, compiler, &clock, Batching::default(), &outputs);
    };
    std::thread::Builder::new().name("reconcile".into()).spawn(run).context("cannot start the reconcile thread")
}

/// What the last process left, and where this one puts what it leaves.
struct Kept {
    held: Held,
    saved: Saved,
    sink: Sink,
    writer: Option<state::Writer>,
}

/// `saves_objects` if the source may not be there at the next start.
fn open_state(path: Option<&Path>, saves_objects: bool, metrics: &Metrics) -> anyhow::Result<Kept> {
    let Some(path) = path else {
        return Ok(Kept { held: Held::default(), saved: Saved::default(), sink: Sink::default(), writer: None });
    };
    let mut state = state::open(path)?;
    for problem in &state.problems {
        warn!("{problem}.");
    }
    let held = std::mem::take(&mut state.held);
    if !held.is_empty() {
        info!(
            directory = %path.display(),
            secrets = held.secrets.len(),
            policies = held.policies.len(),
            "Last good versions are loaded from the state directory."
        );
    }
    let saved = state.saved.clone().filter(|_| saves_objects).map_or_else(Saved::default, |saved| {
        Saved::later(saved.saved_at(), move || {
            let loaded = saved.load();
            for problem in &loaded.problems {
                warn!("{problem}.");
            }
            loaded.objects
        })
    });
    let (sink, writer) = state.start(saves_objects, metrics.state_write_failures.clone())?;
    Ok(Kept { held, saved, sink, writer: Some(writer) })
}

fn start_keylog(path: Option<&Path>) -> anyhow::Result<(KeyLog, Option<keylog::Writer>)> {
    let Some(path) = path else { return Ok((KeyLog::default(), None)) };
    let (keylog, writer) = KeyLog::start(path)?;
    info!(file = %path.display(), "TLS secrets may be written on request (--allow-keylog).");
    Ok((keylog, Some(writer)))
}

fn source_config(source: Option<&str>, environment: &Environment) -> anyhow::Result<SourceConfig> {
    match source {
        None if environment.in_pod => Ok(SourceConfig::Cluster),
        Some("cluster") => Ok(SourceConfig::Cluster),
        Some("") => Err(anyhow!("--source is empty: name a directory, or write `cluster`")),
        None => Ok(SourceConfig::Directory(PathBuf::from(DEFAULT_DIRECTORY))),
        Some(path) => Ok(SourceConfig::Directory(PathBuf::from(path))),
    }
}

/// How the Ingresses of a directory are compiled while they are served.
fn run_options(args: &RunArgs) -> anyhow::Result<Options> {
    Ok(Options {
        controller: args.cluster.controller_class.clone(),
        adopted_classes: args.cluster.adopt_class.clone(),
        ..directory_options(&args.compile)?
    })
}

/// How the Ingresses of a cluster are compiled: classes are objects there, other controllers' Ingresses are theirs, and
/// this pod's own ports are no backends.
fn cluster_options(args: &RunArgs) -> anyhow::Result<Options> {
    Ok(Options {
        watch_without_class: args.cluster.watch_ingress_without_class,
        report_other_classes: false,
        reach: Arc::default(),
        own_service: args.status.publish_service.clone(),
        ..run_options(args)?
    })
}

fn cluster_settings(args: &RunArgs) -> cluster::Settings {
    cluster::Settings {
        namespaces: args.cluster.watch_namespace.iter().cloned().collect(),
        selector: args.cluster.watch_namespace_selector.clone(),
        class: (args.compile.ingress_class.clone(), args.cluster.controller_class.clone()),
        default_tls_secret: args.compile.default_tls_secret.clone(),
        tls_policies: [&args.compile.policies.default_tls_policy, &args.compile.policies.default_shadow_tls_policy]
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
        sync_timeout: args.cluster.sync_timeout,
    }
}

/// Places for client connections per worker: what is asked for, as far as there are files for them.
fn max_connections(asked: Option<usize>, shares: Shares, files: open_files::Limit) -> usize {
    const REMEDY: &str = "raise the hard limit (LimitNOFILE of the container runtime, `ulimit -Hn`)";
    let open_files::Limit { files, before } = files;
    let fits = shares.connections;
    debug!(files, before, connections = fits, "Open files and client connections per worker.");
    match asked {
        Some(asked) if asked > shares.most_connections => {
            let most = shares.most_connections;
            warn!(files, "--max-connections {asked} needs more open files than there are, so it is {most}: {REMEDY}.");
            most
        }
        Some(asked) => asked,
        None => {
            if fits < FEW_CONNECTIONS {
                warn!(files, "The limit on open files is low: each worker takes {fits} client connections; {REMEDY}.");
            }
            fits
        }
    }
}

/// Fewer connections per worker than this are worth a warning.
const FEW_CONNECTIONS: usize = 1_024;

/// Two listeners on one port would look like a port in use by somebody else.
fn no_address_twice(args: &RunArgs) -> anyhow::Result<()> {
    let mut listeners = vec![("--http", args.http), ("--https", args.https), ("--admin", args.admin)];
    listeners.extend(args.webhook.webhook_addr.map(|address| ("--webhook-addr", address)));
    for (index, (flag, address)) in listeners.iter().enumerate() {
        let same = listeners[..index].iter().find(|(_, other)| other == address && address.port() != 0);
        if let Some((other, _)) = same {
            return Err(anyhow!("{other} and {flag} have the same address, {address}: give each its own port"));
        }
    }
    Ok(())
}

/// One per processor that we may use; a large machine without a limit does not mean 64 workers.
fn default_workers() -> u16 {
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(available.min(8)).unwrap_or(1)
}

/// What may be reached from here: everything but ourselves, and by name not the API server.
fn reach(addresses: &Addresses, environment: &Environment, cluster: Option<&Cluster>, loopback: bool) -> Reach {
    let Addresses { http, https, admin, webhook } = *addresses;
    Reach {
        loopback,
        own_addresses: environment.pod_ips.clone(),
        listeners: [http, https, admin].into_iter().chain(webhook).collect(),
        api_server: environment.api_server.into_iter().chain(cluster.and_then(Cluster::socket_address)).collect(),
    }
}

fn http_settings(args: &RunArgs, workers: usize, reach: Arc<Reach>) -> Settings {
    Settings {
        client_body_timeout: args.timeouts.body_timeout,
        client_header_timeout: args.timeouts.header_timeout,
        client_idle_timeout: args.timeouts.keep_alive,
        connect_timeout: args.timeouts.connect_timeout,
        header_count: args.limits.max_headers,
        header_size: args.limits.max_header_size,
        https_public_port: args.https_public_port,
        reach,
        read_timeout: args.timeouts.read_timeout,
        send_timeout: args.timeouts.send_timeout,
        trusted_proxies: AddressList::new(args.trusted_proxies.iter().copied()),
        upstream_idle: (args.limits.upstream_keepalive / workers).max(1),
        ..Settings::default()
    }
}

fn start_access_log(format: AccessLogFormat, metrics: &Metrics) -> anyhow::Result<(AccessLog, access_log::Writer)> {
    let format = match format {
        AccessLogFormat::Json => access_log::Format::Json,
        AccessLogFormat::Off => access_log::Format::Off,
        AccessLogFormat::Text => access_log::Format::Text,
    };
    AccessLog::start(format, std::io::stdout(), clock::system_time, metrics.access_log_dropped.clone())
        .context("cannot start the access log's thread")
}

/// Written to a temporary name and renamed, so that a reader never sees half of it.
fn write_addresses(path: &Path, addresses: &Addresses) -> anyhow::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let json = serde_json::to_string(addresses).context("cannot write JSON")?;
    std::fs::write(&temporary, format!("{json}\n"))
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("cannot write --addresses-file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Event;

    #[tokio::test]
    async fn a_reconciler_that_panics_is_noticed() {
        let (inbox, changes) = mpsc::channel();
        let (publisher, _reader) = snapshot::channel(Arc::default());
        let (publications, _published) = watch::channel(None);
        let outputs = Outputs { publisher, publications, metrics: Metrics::default(), state: Sink::default() };
        let broken = CancellationToken::new();
        let compiler = Compiler::new(Options::default());
        let thread = start_reconciler(changes, compiler, clock::system(), outputs, &broken).unwrap();
        inbox.send(Event::Synced.into()).unwrap();
        inbox.send(Message::Ask(Box::new(|_| panic!("a bug")))).unwrap();
        broken.cancelled().await;
        assert!(thread.join().is_err());
    }

    #[tokio::test]
    async fn without_its_reconciler_the_process_drains_and_ends_with_an_error() {
        let place = tempfile::tempdir().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut args = RunArgs { http: any, https: any, admin: any, ..RunArgs::defaults() };
        args.source = Some(place.path().display().to_string());
        args.workers = Some(1);
        args.timeouts.unready_delay = Duration::ZERO;
        let running = Running::start(args).await.unwrap();
        let (readiness, http) = (running.readiness.clone(), running.addresses.http);
        assert_eq!(readiness.check(), Ok(()));
        running.broken.cancel();
        let error = running.until_signal(Signals::new().unwrap()).await.unwrap_err();
        assert_eq!(error.to_string(), BROKEN);
        assert!(readiness.check().is_err());
        assert!(std::net::TcpStream::connect(http).is_err(), "it listens");
    }
}
