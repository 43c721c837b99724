//! The validating admission webhook: what is wrong with an object, said to whoever writes it, before it is there.
//!
//! ```text
//! API server ──AdmissionReview──▶ serve.rs ──▶ judge.rs ──asks──▶ reconcile: the compiler
//!                                    ▲           │ ◀─Sample──        what the object touches
//!                keeper.rs ──certificate         ▼
//!                                          compiled twice, compared (compile/neighbourhood.rs), words.rs
//! ```
//!
//! The compiler itself is the judge, on what would be, so there is no second opinion about anything. The reconciler is
//! asked for the little that an object touches and nothing more; everything else happens on threads of the webhook. What
//! cannot be judged is let in: the webhook helps, and guards nothing.

pub mod certificate;
pub mod judge;
mod keeper;
pub mod review;
mod serve;
pub mod words;

use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::judge::Rules;
use self::keeper::{Files, Keeper};
use self::serve::Server;
use crate::clock::Clock;
use crate::config::WebhookArgs;
use crate::metrics::Metrics;
use crate::reconcile::Message;
use crate::source::cluster::seen::Seen;

pub use keeper::FileError;

/// Why the webhook cannot be started.
#[derive(thiserror::Error, Debug)]
pub enum WebhookError {
    /// A file is not what it should be.
    #[error("the webhook cannot be started")]
    File(#[from] FileError),
    /// Nobody keeps a certificate.
    #[error("--webhook-addr needs --webhook-cert and --webhook-key where no cluster is watched")]
    NoCertificate,
    /// The operating system gives us no thread.
    #[error("cannot start the thread of the webhook: is the limit on processes reached?")]
    Thread(#[source] std::io::Error),
}

/// Whether the Ingresses of a namespace are served.
pub type Watched = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The namespaces of `--watch-namespace` and `--watch-namespace-selector`.
pub fn watched(namespaces: &[String], seen: &Seen) -> Watched {
    let (namespaces, seen) = (namespaces.to_vec(), seen.clone());
    Arc::new(move |namespace| match &seen.objects().selected {
        Some(selected) => selected.contains(namespace),
        None => namespaces.is_empty() || namespaces.iter().any(|name| name == namespace),
    })
}

/// What the webhook is made of.
pub struct Webhook {
    /// Where it listens: `--webhook-addr`.
    pub listener: TcpListener,
    /// The options.
    pub args: WebhookArgs,
    /// For the certificate that it makes itself: a client for single requests, and our own namespace.
    pub cluster: Option<(Client, Arc<str>)>,
    /// The reconciler's.
    pub inbox: mpsc::Sender<Message>,
    /// Which namespaces are served.
    pub watched: Watched,
    /// Gets counts and times.
    pub metrics: Metrics,
    /// The time of day.
    pub clock: Clock,
    /// When it is to end.
    pub end: CancellationToken,
}

/// Starts the webhook: its server on a thread of its own, and what keeps its certificate on the current runtime. Files
/// are read at once, so that a wrong one is told at the start.
pub fn start(webhook: Webhook) -> Result<JoinHandle<()>, WebhookError> {
    let Webhook { listener, args, cluster, inbox, watched, metrics, clock, end } = webhook;
    let files = Files::read(&args)?;
    let (offered, offers) = watch::channel(None);
    let offered = Arc::new(offered);
    let rules = Rules { deny: args.webhook_deny };
    match (args.webhook_cert.is_some(), cluster) {
        (true, _) => {
            offered.send_replace(Some(files.config(&args)?));
            tokio::spawn(keeper::follow_files(args, files, offered, end.clone()));
        }
        (false, Some((client, namespace))) => {
            let keeper = Keeper { client, namespace, args, files, clock: clock.clone(), offered };
            tokio::spawn(keeper.run(end.clone()));
        }
        (false, None) => return Err(WebhookError::NoCertificate),
    }
    let server = Arc::new(Server::new(rules, watched, inbox, clock, metrics));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("webhook-judge")
        .max_blocking_threads(1)
        .build()
        .map_err(WebhookError::Thread)?;
    let run = move || {
        runtime.block_on(serve::serve(listener, server, offers, end));
        // A verdict may be on its way, and the reconciler waits for its inbox to be closed.
        runtime.shutdown_timeout(Duration::from_secs(3));
    };
    std::thread::Builder::new().name("webhook".into()).spawn(run).map_err(WebhookError::Thread)
}
