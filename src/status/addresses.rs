//! Which addresses Ingresses are reached at.
//!
//! ```text
//! --publish-status-address ─┐
//! --publish-service ──watch─┼──▶ addresses, sorted, or not known ──▶ plan
//! nodes of our replicas ────┘
//! ```
//!
//! What is not known is not written, and takes nothing away: a load balancer that has no address for a moment, or a Service
//! that somebody replaces, must not remove names from DNS. For the same reason the ClusterIP of a Service of type
//! LoadBalancer is never published in place of an address that is still to come.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress as Address;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::config::StatusArgs;
use crate::kubernetes::{Cluster, Complaints, Guard, cause};

/// Sorted; `None` if they are not known.
pub(super) type Addresses = Option<Arc<[Address]>>;

/// How often replicas and their nodes are looked at.
const NODES_INTERVAL: Duration = Duration::from_secs(15);

/// How long what a node said of its addresses holds.
const NODE_AGE: Duration = Duration::from_secs(5 * 60);

/// How long one watch of the Service goes on; load balancers drop connections that are silent for longer.
const WATCH_SECONDS: u32 = 200;

/// Longest wait for the head of an answer, and shortest time between two starts of the watch.
const WATCH_PATIENCE: Duration = Duration::from_secs(30);
const WATCH_PACE: Duration = Duration::from_secs(1);

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Written down by the operator.
    Fixed(Vec<String>),
    /// Of this Service: namespace, name.
    Service(String, String),
    /// Of the nodes that run replicas.
    Nodes {
        /// Internal ones, also where there are external ones.
        internal: bool,
    },
    /// Nowhere: no addresses are published.
    Nothing,
}

impl Source {
    pub(super) fn of(args: &StatusArgs) -> Self {
        if !args.publish_status_address.is_empty() {
            Self::Fixed(args.publish_status_address.clone())
        } else if let Some((namespace, name)) = &args.publish_service {
            Self::Service(namespace.clone(), name.clone())
        } else if args.publish_node_addresses {
            Self::Nodes { internal: args.report_node_internal_ip }
        } else {
            Self::Nothing
        }
    }
}

/// Tells the addresses, and each change to them, for ever.
pub(super) async fn follow(source: &Source, cluster: &Cluster, addresses: &watch::Sender<Addresses>) {
    let tell = |now: Addresses| {
        let changed = |before: &mut Addresses| {
            let differs = now.is_some() && *before != now;
            if differs {
                let shown: Vec<&str> = now.iter().flat_map(|now| now.iter()).filter_map(text).collect();
                info!(addresses = shown.join(","), "These addresses are published.");
                before.clone_from(&now);
            }
            differs
        };
        addresses.send_if_modified(changed);
    };
    match source {
        Source::Fixed(written) => tell(sorted(written.iter().map(String::as_str))),
        Source::Service(namespace, name) => match cluster.watch_client(Guard::watch(WATCH_PATIENCE, WATCH_PACE, || {}))
        {
            Ok(client) => follow_service(&client, namespace, name, tell).await,
            Err(error) => warn!(%error, "The Service of --publish-service cannot be watched."),
        },
        Source::Nodes { internal } => follow_nodes(cluster, *internal, tell).await,
        Source::Nothing => {}
    }
    std::future::pending().await
}

fn text(address: &Address) -> Option<&str> {
    address.ip.as_deref().or(address.hostname.as_deref())
}

/// Addresses and names without order, as a status has them; `None` without any.
fn sorted<'a>(texts: impl Iterator<Item = &'a str>) -> Addresses {
    let texts: BTreeSet<&str> = texts.map(str::trim).filter(|text| !text.is_empty()).collect();
    let address = |text: &str| match text.parse::<IpAddr>() {
        Ok(ip) => Address { ip: Some(ip.to_string()), ..Address::default() },
        Err(_) => Address { hostname: Some(text.to_owned()), ..Address::default() },
    };
    let mut addresses: Vec<Address> = texts.into_iter().map(address).collect();
    addresses.sort_by_key(|address| (address.hostname.clone(), address.ip.clone()));
    addresses.dedup();
    (!addresses.is_empty()).then(|| addresses.into())
}

/// What a Service is reached at from outside the cluster, or inside where that is all there is.
fn of_service(service: &Service) -> Addresses {
    let spec = service.spec.as_ref()?;
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    if kind == "ExternalName" {
        return sorted(spec.external_name.iter().map(String::as_str));
    }
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let balanced = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let balanced = balanced.iter().filter_map(|one| one.ip.as_deref().or(one.hostname.as_deref()));
    let external = spec.external_ips.iter().flatten().map(String::as_str);
    let found = sorted(balanced).or_else(|| sorted(external));
    if kind == "LoadBalancer" {
        return found;
    }
    found.or_else(|| {
        let internal = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).map(String::as_str);
        sorted(internal.filter(|ip| *ip != "None"))
    })
}

async fn follow_service(client: &Client, namespace: &str, name: &str, tell: impl Fn(Addresses)) {
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut complaints = Complaints::default();
    let (mut found, mut had) = (false, true);
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                // The words of a watch say what it was doing; its cause says why that failed.
                let error = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                if complaints.is_due(&error, Instant::now()) {
                    warn!(%namespace, %name, error, "The Service of --publish-service cannot be watched; addresses stay as they are.");
                }
                continue;
            }
        };
        complaints.settled();
        match event {
            watcher::Event::Init => found = false,
            watcher::Event::InitApply(service) | watcher::Event::Apply(service) => {
                (found, had) = (true, true);
                let addresses = of_service(&service);
                if addresses.is_none() {
                    info!(%namespace, %name, "The Service of --publish-service has no address yet.");
                }
                tell(addresses);
            }
            watcher::Event::Delete(_) => had = say_missing(namespace, name, had),
            watcher::Event::InitDone if !found => had = say_missing(namespace, name, had),
            watcher::Event::InitDone => {}
        }
    }
}

fn say_missing(namespace: &str, name: &str, had: bool) -> bool {
    if had {
        warn!(%namespace, %name, "The Service of --publish-service does not exist; addresses stay as they are.");
    }
    false
}

async fn follow_nodes(cluster: &Cluster, internal: bool, tell: impl Fn(Addresses)) {
    let mut nodes = Nodes { api: Api::all(cluster.client.clone()), known: HashMap::new() };
    let mut complaints = Complaints::default();
    loop {
        match nodes.addresses(cluster, internal).await {
            Ok(addresses) => {
                complaints.settled();
                tell(addresses);
            }
            Err(error) => {
                let error = cause(&error);
                if complaints.is_due(&error, Instant::now()) {
                    warn!(error, "The nodes of our replicas cannot be found out; addresses stay as they are.");
                }
            }
        }
        sleep(NODES_INTERVAL).await;
    }
}

/// Nodes, and what they said.
struct Nodes {
    api: Api<Node>,
    known: HashMap<String, (Instant, Node)>,
}

impl Nodes {
    /// The addresses of the nodes that run replicas which serve.
    async fn addresses(&mut self, cluster: &Cluster, internal: bool) -> Result<Addresses, kube::Error> {
        let replicas = replicas(cluster).await?;
        let names: BTreeSet<&str> = replicas.iter().filter(|pod| serves(pod)).filter_map(node_name).collect();
        let now = Instant::now();
        self.known.retain(|name, (at, _)| names.contains(name.as_str()) && now < *at + NODE_AGE);
        let mut addresses = Vec::new();
        for name in names {
            if !self.known.contains_key(name) {
                let Some(node) = self.api.get_opt(name).await? else { continue };
                self.known.insert(name.to_owned(), (now, node));
            }
            let node = self.known.get(name);
            addresses.extend(node.into_iter().flat_map(|(_, node)| of_node(node, internal)));
        }
        Ok(sorted(addresses.iter().map(String::as_str)))
    }
}

/// External addresses if there are any and they are wanted, else internal ones.
fn of_node(node: &Node, internal: bool) -> Vec<String> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let of_kind = |kind: &str| {
        addresses.iter().filter(|one| one.type_ == kind).map(|one| one.address.clone()).collect::<Vec<_>>()
    };
    let external = if internal { Vec::new() } else { of_kind("ExternalIP") };
    if external.is_empty() { of_kind("InternalIP") } else { external }
}

/// The pods that are replicas of ours: those of our namespace with our labels.
async fn replicas(cluster: &Cluster) -> Result<Vec<Pod>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let own = pods.get(&cluster.identity).await?;
    let labels = own.metadata.labels.unwrap_or_default();
    Ok(pods.list(&ListParams::default().labels(&selector(&labels)).match_any()).await?.items)
}

/// Whether another replica than this one runs, and is not about to end.
pub(super) async fn is_another_running(cluster: &Cluster) -> Result<bool, kube::Error> {
    let runs = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    };
    let own = Some(&*cluster.identity);
    Ok(replicas(cluster).await?.iter().any(|pod| pod.metadata.name.as_deref() != own && runs(pod)))
}

/// What all replicas have in common: the labels of charts, or else every label that no controller of pods has put there.
fn selector(labels: &BTreeMap<String, String>) -> String {
    const OF_CHARTS: [&str; 3] =
        ["app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"];
    const OF_CONTROLLERS: [&str; 5] = [
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
    ];
    let pairs = |wanted: &dyn Fn(&str) -> bool| {
        let pairs = labels.iter().filter(|(key, _)| wanted(key)).map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    };
    if labels.contains_key(OF_CHARTS[0]) {
        pairs(&|key| OF_CHARTS.contains(&key))
    } else {
        pairs(&|key| !OF_CONTROLLERS.contains(&key))
    }
}

fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Whether traffic to the pod's node reaches it.
fn serves(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
