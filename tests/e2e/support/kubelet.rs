//! Stands in for scheduler and kubelet: binds Pods to the node, and runs each as it is described.
//!
//! `watch of Pods ──▶ bind ──▶ one thread a Pod (pod) ──▶ network, volumes, containers, probes ──▶ status`
//!
//! What a Pod says is done for real, with nothing but util-linux: its own network, a root with only what its image has,
//! volumes that are replaced as kubelets replace them, users, capabilities, probes from the node, hooks and the grace
//! period. What this stand-in does not know of it refuses loudly, so that a test never passes because something was
//! left out; seccomp profiles are the exception.

pub mod container;
pub mod pod;
mod probes;
mod volumes;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::core::v1::{Binding, ObjectReference};
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use super::network::node_address;
use super::{ControlPlane, runtime, wait_until};
use container::Image;
use pod::Pod;

/// The node; its Pods end when this is dropped.
pub struct Kubelet {
    node: Arc<Node>,
    watch: tokio::task::AbortHandle,
}

/// What its Pods share.
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) plane: Plane,
    pub(super) image: Image,
    pods: Mutex<HashMap<String, Arc<Pod>>>,
    /// The threads of all Pods that ever were.
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

/// What Pods need to know of the control plane.
pub(super) struct Plane {
    pub(super) number: u8,
    pub(super) client: Client,
    /// The node's address.
    pub(super) address: std::net::Ipv4Addr,
    /// Where Pods are told to find the API server: address and port.
    pub(super) api: (String, u16),
}

/// The name of the node that Pods run on.
pub const NODE: &str = "node-0";

/// The name of the node of Pods that tests play themselves: see [`crate::support::backends`].
pub const PLAYED: &str = "node-played";

impl Kubelet {
    /// Watches Pods from now on. Their containers all run Handfast, whatever their image is called.
    pub fn start(plane: &ControlPlane) -> Self {
        let api = match plane.has_proxy() {
            true => (format!("10.96.{}.1", plane.number), 443),
            false => (plane.address.to_string(), super::control_plane::PORT),
        };
        let node = Arc::new(Node {
            name: NODE,
            plane: Plane { number: plane.number, client: plane.client(), address: node_address(plane.number), api },
            image: Image::handfast(),
            pods: Mutex::default(),
            threads: Mutex::default(),
        });
        let watch = runtime::handle().spawn(watch(node.clone())).abort_handle();
        Self { node, watch }
    }

    /// The Pods of a namespace that run, by name. One that is ending is among them.
    pub fn pods(&self, namespace: &str) -> Vec<Arc<Pod>> {
        let pods = self.node.pods.lock().unwrap();
        let mut pods: Vec<_> =
            pods.values().filter(|pod| pod.namespace == namespace && !pod.is_over()).cloned().collect();
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        pods
    }

    /// Waits until exactly so many Pods of a namespace are there, and all of them ready.
    pub fn wait_for_ready(&self, namespace: &str, count: usize) -> Vec<Arc<Pod>> {
        wait_until(&format!("{count} Pods of {namespace} are ready, and no other is there"), || {
            let pods = self.pods(namespace);
            pods.len() == count && pods.iter().all(|pod| pod.is_ready())
        });
        self.pods(namespace)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.watch.abort();
        for pod in self.node.pods.lock().unwrap().values() {
            pod.vanish();
        }
        for thread in self.node.threads.lock().unwrap().drain(..) {
            let _ = thread.join();
        }
    }
}

/// Binds what has no node, and starts, tells and ends the threads of what is ours. Outages only make it late.
async fn watch(node: Arc<Node>) {
    let pods: Api<core::Pod> = Api::all(node.plane.client.clone());
    let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()).default_backoff());
    let mut listed = Vec::new();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Apply(pod))) => apply(&node, pod).await,
            Ok(Some(watcher::Event::InitApply(pod))) => {
                listed.push(pod.uid().unwrap_or_default());
                apply(&node, pod).await;
            }
            Ok(Some(watcher::Event::Delete(pod))) => vanish(&node, |uid| pod.uid().as_deref() == Some(uid)),
            Ok(Some(watcher::Event::Init)) => listed.clear(),
            Ok(Some(watcher::Event::InitDone)) => vanish(&node, |uid| !listed.iter().any(|listed| listed == uid)),
            Ok(None) => return,
            Err(_) => {}
        }
    }
}

async fn apply(node: &Arc<Node>, pod: core::Pod) {
    match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
        None | Some("") => bind(node, &pod).await,
        Some(name) if name == node.name => {
            let uid = pod.uid().unwrap_or_default();
            let known = node.pods.lock().unwrap().get(&uid).cloned();
            match known {
                Some(known) => known.update(pod),
                None => {
                    let (started, thread) = Pod::start(node.clone(), pod);
                    node.pods.lock().unwrap().insert(uid, started);
                    node.threads.lock().unwrap().push(thread);
                }
            }
        }
        Some(_) => {}
    }
}

async fn bind(node: &Node, pod: &core::Pod) {
    let namespace = pod.namespace().unwrap_or_default();
    let pods: Api<core::Pod> = Api::namespaced(node.plane.client.clone(), &namespace);
    let target =
        ObjectReference { kind: Some("Node".into()), name: Some(node.name.into()), ..ObjectReference::default() };
    let mut binding = Binding { target, ..Binding::default() };
    binding.metadata.name = Some(pod.name_any());
    let bound: Result<serde_json::Value, _> =
        pods.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await;
    // It may be gone, or the API server away; then the next list has it again.
    let _ = bound;
}

/// The node that a Pod of a DaemonSet is for.
fn wanted_node(pod: &core::Pod) -> Option<String> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields.filter(|field| field.key == "metadata.name").flat_map(|field| field.values.iter().flatten()).next().cloned()
}

fn vanish(node: &Node, is_gone: impl Fn(&str) -> bool) {
    for (uid, pod) in node.pods.lock().unwrap().iter() {
        if is_gone(uid) {
            pod.vanish();
        }
    }
}
