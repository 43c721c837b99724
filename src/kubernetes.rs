//! How the API server is reached: one configuration, two clients.
//!
//! `kubeconfig or service account ──▶ Cluster ──▶ watches (source/cluster), single requests (status, leader, state)`
//!
//! The two differ in what they do about trouble. A watch has a policy of its own for starting again, so its client
//! retries nothing and waits for no answer for long; a single request is tried again by the client itself.

#[cfg(test)]
pub(crate) mod fake;

use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::Instant;

use crate::config::{ClusterArgs, Environment};

/// Why the cluster cannot be reached at all. That it does not answer is no reason: it may later.
#[derive(thiserror::Error, Debug)]
pub enum ConnectError {
    /// There is no configuration, or it makes no sense.
    #[error(
        "cannot find out how to reach the cluster: name a kubeconfig with --kubeconfig, or manifests with --source DIR"
    )]
    Infer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file cannot be used.
    #[error("--kubeconfig {file}: cannot use it")]
    Kubeconfig {
        /// As configured.
        file: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate or a token of the configuration cannot be used.
    #[error("cannot make a client from the cluster's configuration")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A way to the API server, and who we are there.
#[derive(Clone)]
pub struct Cluster {
    /// For lists and watches: no retries, short patience.
    pub watch: Client,
    /// For single requests.
    pub client: Client,
    /// Our own namespace: of the pod, else of the kubeconfig's context.
    pub namespace: Arc<str>,
    /// The pod's name, or something else that no other replica is called by.
    pub identity: Arc<str>,
}

/// How long the API server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the configuration. Does not talk to the API server.
pub async fn connect(args: &ClusterArgs, environment: &Environment) -> Result<Cluster, ConnectError> {
    let mut config = configuration(args, environment).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let namespace = environment.pod_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config.clone()).map_err(|error| ConnectError::Client(error.into()))?;
    let watch = Client::try_from(config).map_err(|error| ConnectError::Client(error.into()))?;
    let identity = environment.pod_name.clone().unwrap_or_else(|| format!("handfast-{:016x}", fastrand::u64(..)));
    Ok(Cluster { watch, client, namespace: namespace.into(), identity: identity.into() })
}

async fn configuration(args: &ClusterArgs, environment: &Environment) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    if let Some(file) = &args.kubeconfig {
        let failed = |source| ConnectError::Kubeconfig { file: file.display().to_string(), source };
        let kubeconfig = Kubeconfig::read_from(file).map_err(|error| failed(error.into()))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| failed(error.into()));
    }
    // A pod's own account comes first there: a kubeconfig that somebody left in an image is not what is meant.
    if environment.in_pod && args.context.is_none() {
        return Config::incluster().map_err(|error| ConnectError::Infer(error.into()));
    }
    Config::from_kubeconfig(&options).await.map_err(|error| ConnectError::Infer(error.into()))
}

/// What an error says, for a log line: the server's own words, or the chain of causes on our side.
pub fn cause(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return if status.message.is_empty() { format!("status {}", status.code) } else { status.message.clone() };
    }
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        let said = error.to_string();
        // Many errors say what their cause says.
        if !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
        next = error.source();
    }
    text
}

/// Says the same complaint at growing intervals, however often there is reason to.
#[derive(Debug, Default)]
pub struct Complaints {
    last: Option<(String, Instant, Duration)>,
}

impl Complaints {
    const SHORTEST: Duration = Duration::from_secs(30);
    const LONGEST: Duration = Duration::from_secs(15 * 60);

    /// Whether it is to be said now: it is another than the last, or that was long ago.
    pub fn is_due(&mut self, what: &str, now: Instant) -> bool {
        let wait = match &self.last {
            Some((said, at, wait)) if said == what => {
                if now.saturating_duration_since(*at) < *wait {
                    return false;
                }
                (*wait * 2).min(Self::LONGEST)
            }
            Some(_) | None => Self::SHORTEST,
        };
        self.last = Some((what.to_owned(), now, wait));
        true
    }

    /// All is well again. True if there was a complaint.
    pub fn settled(&mut self) -> bool {
        self.last.take().is_some()
    }
}
