//! How the API server is reached: one configuration, and clients that differ in what they do about trouble.
//!
//! ```text
//! kubeconfig or service account ──▶ Cluster ──▶ client          single requests (status, leader, state, webhook)
//!                                          └──▶ watch_client    lists and watches (source/cluster)
//! ```
//!
//! No client retries: a watch has a policy of its own for starting again, and whoever makes a single request knows best
//! whether it is still wanted. A [`Guard`] bounds how long a client waits and how often it asks.
//!
//! Connections send keep-alive probes. A watch may be silent for minutes, and one whose packets vanish looks the same:
//! without probes it would be noticed by nobody until the server's next packet gets through, which its kernel sends
//! later and later.

mod complaints;
#[cfg(test)]
pub(crate) mod fake;
mod guard;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use crate::config::{ClusterArgs, Environment};
use token::TokenFile;

pub use complaints::{Complaints, cause, causes};
pub use guard::Guard;

/// Why the cluster cannot be reached at all. That it does not answer is no reason: it may later.
#[derive(thiserror::Error, Debug)]
pub enum ConnectError {
    /// There is no configuration, or it makes no sense.
    #[error(
        "cannot find out how to reach the cluster: name a kubeconfig with --kubeconfig, or manifests with --source DIR"
    )]
    Infer(#[source] BoxError),
    /// The file cannot be used.
    #[error("cannot use --kubeconfig {file}")]
    Kubeconfig {
        /// As configured.
        file: String,
        /// What is wrong.
        source: BoxError,
    },
    /// A certificate or a token of the configuration cannot be used.
    #[error("cannot create a client from the configuration of the cluster")]
    Client(#[source] BoxError),
    /// It asks for a feature that is not supported.
    #[error("the kubeconfig names the proxy {proxy}: proxies to the API server are not supported")]
    Proxy {
        /// Its URL.
        proxy: String,
    },
}

/// A way to the API server, and who we are there.
#[derive(Clone)]
pub struct Cluster {
    /// For single requests.
    pub client: Client,
    /// Our own namespace: of the pod, else of the kubeconfig's context.
    pub namespace: Arc<str>,
    /// The pod's name, or something else that no other replica is called by.
    pub identity: Arc<str>,
    /// Where the API server is, for people.
    pub address: Arc<str>,
    config: Arc<Config>,
}

/// How long the API server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection is silent before it is asked whether it lives, and the time between two questions.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// How long nothing that was sent may be acknowledged, questions included. Then the connection is given up, which costs
/// one request. It has to be short: the server's kernel sends what was lost again after 0.2 s, and then doubles the time.
/// A connection that outlives an outage of 5 s hears of it at most 3 s afterwards; after one of 8 s it would be 6 s.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// How long a single request may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How the field managers of all installations begin.
pub const MANAGER: &str = "handfast/";

/// Reads the configuration. Does not talk to the API server.
pub async fn connect(args: &ClusterArgs, environment: &Environment) -> Result<Cluster, ConnectError> {
    let mut config = configuration(args, environment).await?;
    if let Some(proxy) = &config.proxy_url {
        return Err(ConnectError::Proxy { proxy: proxy.to_string() });
    }
    config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("handfast/", env!("CARGO_PKG_VERSION")))));
    let namespace = environment.pod_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let identity = environment.pod_name.clone();
    let identity = identity.unwrap_or_else(|| format!("handfast-{:016x}", fastrand::u64(..)));
    let client = client(&config, Guard::patient(PATIENCE))?;
    Ok(Cluster {
        client,
        namespace: namespace.into(),
        identity: identity.into(),
        address: config.cluster_url.to_string().into(),
        config: Arc::new(config),
    })
}

impl Cluster {
    /// The field manager of our writes (at most 128 characters): one for each installation, which takes nothing for its
    /// own that another one has written.
    pub fn field_manager(&self, election_id: &str) -> String {
        format!("{MANAGER}{}/{election_id}", self.namespace).chars().take(128).collect()
    }

    /// Where the API server is, if its URL has an address and no name.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        let url = &self.config.cluster_url;
        let host = url.host()?.trim_matches(['[', ']']).parse().ok()?;
        let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
        Some(SocketAddr::new(host, port))
    }

    /// One that this client reaches, for tests.
    #[cfg(test)]
    pub(crate) fn with_client(client: Client, namespace: &str, identity: &str) -> Self {
        let config = Config::new("http://localhost".parse().expect("invariant: a URL"));
        let address = config.cluster_url.to_string().into();
        Self { client, namespace: namespace.into(), identity: identity.into(), address, config: Arc::new(config) }
    }

    /// A client for one watch, with a connection of its own.
    pub fn watch_client(&self, guard: Guard) -> Result<Client, ConnectError> {
        client(&self.config, guard)
    }
}

async fn configuration(args: &ClusterArgs, environment: &Environment) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    if let Some(file) = &args.kubeconfig {
        let failed = |source: BoxError| ConnectError::Kubeconfig {
            file: file.display().to_string(),
            source: first_line(&*source),
        };
        let kubeconfig = Kubeconfig::read_from(file).map_err(|error| failed(error.into()))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| failed(error.into()));
    }
    // A pod's own account comes first there: a kubeconfig that somebody left in an image is not what is meant.
    if environment.in_pod && args.context.is_none() {
        return Config::incluster().map_err(|error| ConnectError::Infer(error.into()));
    }
    Config::from_kubeconfig(&options).await.map_err(|error| ConnectError::Infer(error.into()))
}

/// What an error says, without what it shows of the file: keys and tokens are in it.
fn first_line(error: &dyn std::error::Error) -> BoxError {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned().into()
}

fn client(config: &Config, guard: Guard) -> Result<Client, ConnectError> {
    let failed = |error: kube::Error| ConnectError::Client(error.into());
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let tls = config.rustls_https_connector_with_connector(tcp).map_err(failed)?;
    let token = TokenFile::of(&config.auth_info).map_err(|error| ConnectError::Client(error.into()))?;
    let other = if token.is_some() { None } else { config.auth_layer().map_err(failed)? };
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(token)
        .option_layer(other)
        .layer(config.extra_headers_layer().map_err(failed)?)
        .layer(guard)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build(tls));
    Ok(Client::new(service, config.default_namespace.clone()))
}
