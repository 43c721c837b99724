//! The life of one Pod, on a thread of its own: from its network to the last word about it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Node;
use super::container::Container;
use super::volumes::Volumes;
use crate::support::network::{Cut, Sandbox};
use crate::support::runtime::block_on;
use crate::support::trial;

/// How often everything is looked at.
const TICK: Duration = Duration::from_millis(20);

/// How long a question to the API server may hold up everything else.
const PATIENCE: Duration = Duration::from_secs(2);

/// One Pod, as tests see it.
pub struct Pod {
    pub namespace: String,
    pub name: String,
    uid: String,
    object: Mutex<core::Pod>,
    state: Mutex<State>,
    gone: AtomicBool,
}

#[derive(Default)]
struct State {
    address: Option<Ipv4Addr>,
    ready: bool,
    over: bool,
    /// Log and process of each container that runs.
    containers: BTreeMap<String, Arc<Container>>,
}

impl Pod {
    pub(super) fn start(node: Arc<Node>, object: core::Pod) -> (Arc<Self>, JoinHandle<()>) {
        let pod = Arc::new(Self {
            namespace: object.namespace().unwrap(),
            name: object.name_any(),
            uid: object.uid().unwrap(),
            object: Mutex::new(object),
            state: Mutex::default(),
            gone: AtomicBool::new(false),
        });
        let living = pod.clone();
        let thread = std::thread::spawn(move || {
            let life = std::panic::AssertUnwindSafe(|| live(&node, &living));
            // The panic has said why on standard error, which is the test's.
            if std::panic::catch_unwind(life).is_err() {
                eprintln!("the node cannot run Pod {}/{}", living.namespace, living.name);
            }
            let containers = std::mem::take(&mut *living.state.lock().unwrap()).containers;
            for container in containers.values() {
                container.kill();
            }
            living.state.lock().unwrap().over = true;
        });
        (pod, thread)
    }

    /// The address, once it has one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.state.lock().unwrap().address
    }

    /// What its probes said last.
    pub fn is_ready(&self) -> bool {
        self.state.lock().unwrap().ready
    }

    /// It has ended, and the API server was told.
    pub fn is_over(&self) -> bool {
        self.state.lock().unwrap().over
    }

    /// A container that runs.
    pub fn container(&self, name: &str) -> Arc<Container> {
        let state = self.state.lock().unwrap();
        let found = state.containers.get(name).cloned();
        found.unwrap_or_else(|| panic!("Pod {} runs {:?}", self.name, state.containers.keys()))
    }

    /// All containers that run.
    pub fn containers(&self) -> Vec<Arc<Container>> {
        self.state.lock().unwrap().containers.values().cloned().collect()
    }

    /// Drops all packets between it and another address until the value is dropped.
    pub fn cut_off_from(&self, other: Ipv4Addr) -> Cut {
        Cut::new(self.address().expect("a Pod with an address"), other)
    }

    pub(super) fn update(&self, object: core::Pod) {
        *self.object.lock().unwrap() = object;
    }

    /// It is no longer in the API server: everything ends at once.
    pub(super) fn vanish(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(super) fn object(&self) -> core::Pod {
        self.object.lock().unwrap().clone()
    }

    /// For volumes and roots of containers.
    pub(super) fn folder(&self) -> PathBuf {
        trial::scratch().join("pods").join(&self.uid)
    }

    /// The end of the grace period, counted from now, once deletion was asked for.
    fn grace(&self) -> Option<Duration> {
        let object = self.object.lock().unwrap();
        object.metadata.deletion_timestamp.as_ref()?;
        let seconds = object.metadata.deletion_grace_period_seconds.unwrap_or(30);
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }
}

fn live(node: &Arc<Node>, pod: &Arc<Pod>) {
    let object = pod.object();
    let spec = object.spec.clone().unwrap();
    let refused: &[(&str, bool)] = &[
        ("ephemeralContainers", spec.ephemeral_containers.is_some()),
        ("readinessGates", spec.readiness_gates.is_some()),
        ("hostPID", spec.host_pid == Some(true)),
        ("shareProcessNamespace", spec.share_process_namespace == Some(true)),
        ("dnsConfig", spec.dns_config.is_some()),
    ];
    for (field, is_set) in refused {
        assert!(!is_set, "this node does not know {field} of Pods");
    }
    for container in &spec.containers {
        let after_start = container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some());
        assert!(!after_start, "this node does not know hooks after the start");
        let on_node = |port: &core::ContainerPort| port.host_port.is_some() && spec.host_network != Some(true);
        assert!(!container.ports.iter().flatten().any(on_node), "this node does not know ports of the node");
    }
    let mut told = Told::default();
    let sandbox = (spec.host_network != Some(true)).then(|| Sandbox::new(node.plane.number));
    let address = sandbox.as_ref().map_or(node.plane.address, |sandbox| sandbox.address);
    pod.state.lock().unwrap().address = Some(address);
    let mut volumes = Volumes::new(node, pod, &spec);
    // Until the objects exist that volumes are made from, as kubelets wait.
    while let Err(missing) = volumes.refresh() {
        told.tell(node, pod, &status(pod, node, "Pending", &missing, &[]));
        if pod.is_gone() || pod.grace().is_some() {
            return remove(node, pod);
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let make = |container: &core::Container| Container::new(node, pod, container, address, sandbox.as_ref(), &volumes);
    for description in spec.init_containers.iter().flatten() {
        assert!(description.restart_policy.is_none(), "this node does not know sidecars");
        let container = Arc::new(make(description));
        pod.state.lock().unwrap().containers.insert(description.name.clone(), container.clone());
        container.run();
        while container.is_running() {
            if pod.is_gone() {
                return;
            }
            std::thread::park_timeout(TICK);
        }
        assert!(container.exit_code() == Some(0), "init container {} failed: {}", description.name, container.said());
        pod.state.lock().unwrap().containers.remove(&description.name);
    }
    let containers: Vec<Arc<Container>> = spec.containers.iter().map(|container| Arc::new(make(container))).collect();
    for container in &containers {
        pod.state.lock().unwrap().containers.insert(container.name.clone(), container.clone());
        container.run();
    }
    let again = spec.restart_policy.as_deref() != Some("Never");
    let always = spec.restart_policy.as_deref().is_none_or(|policy| policy == "Always");
    let mut ending: Vec<JoinHandle<()>> = Vec::new();
    let mut is_ending = false;
    let mut refreshed = Instant::now();
    loop {
        if pod.is_gone() {
            break;
        }
        if let Some(grace) = pod.grace()
            && !is_ending
        {
            is_ending = true;
            for container in &containers {
                let (container, pod) = (container.clone(), pod.clone());
                ending.push(std::thread::spawn(move || container.terminate(grace, &|| pod.is_gone())));
            }
        }
        for container in &containers {
            let restarts = always || (again && container.exit_code() != Some(0));
            container.tick(restarts && !is_ending);
        }
        let all_ended = containers.iter().all(|container| !container.is_running() && !container.will_restart());
        let ready = !all_ended && containers.iter().all(|container| container.is_ready());
        pod.state.lock().unwrap().ready = ready;
        let phase = match all_ended {
            true if containers.iter().all(|container| container.exit_code() == Some(0)) => "Succeeded",
            true => "Failed",
            false => "Running",
        };
        told.tell(node, pod, &status(pod, node, phase, "", &containers));
        if is_ending && all_ended && ending.iter().all(JoinHandle::is_finished) {
            // The network ends before the API server hears of it, as with kubelets.
            drop(sandbox);
            return remove(node, pod);
        }
        if refreshed.elapsed() > Duration::from_secs(1) {
            // An outage is no reason to end: what is there stays.
            let _ = volumes.refresh();
            refreshed = Instant::now();
        }
        std::thread::park_timeout(TICK);
    }
    for container in &containers {
        container.kill();
    }
}

/// The last word: the object goes.
fn remove(node: &Node, pod: &Pod) {
    while !pod.is_gone() {
        let pods: Api<core::Pod> = Api::namespaced(node.plane.client.clone(), &pod.namespace);
        let (name, uid) = (pod.name.clone(), pod.uid.clone());
        let removed = ask(async move {
            let preconditions = Preconditions { uid: Some(uid), resource_version: None };
            let now = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            pods.delete(&name, &DeleteParams { grace_period_seconds: Some(0), ..now }).await
        });
        match removed {
            Ok(_) => return,
            Err(problem) if problem.starts_with("404") || problem.starts_with("409") => return,
            Err(_) => std::thread::park_timeout(Duration::from_millis(200)),
        }
    }
}

/// Asks the API server something, for a bounded time. The error begins with the status where there is one.
pub(super) fn ask<T: Send + 'static>(
    question: impl Future<Output = kube::Result<T>> + Send + 'static,
) -> Result<T, String> {
    block_on(async move {
        match tokio::time::timeout(PATIENCE, question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(format!("{} {}", status.code, status.message)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    })
}

/// What the API server was told last.
#[derive(Default)]
struct Told {
    status: Value,
    tried: Option<Instant>,
    failed: bool,
}

impl Told {
    /// Tells it what is new. A failure is tried again a little later.
    fn tell(&mut self, node: &Node, pod: &Pod, status: &Value) {
        let wait = self.failed && self.tried.is_some_and(|tried| tried.elapsed() < Duration::from_millis(200));
        if self.status == *status || wait {
            return;
        }
        let pods: Api<core::Pod> = Api::namespaced(node.plane.client.clone(), &pod.namespace);
        let (name, patch) = (pod.name.clone(), json!({"metadata": {"uid": pod.uid}, "status": status}));
        let told = ask(async move { pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await });
        self.failed = told.is_err();
        self.tried = Some(Instant::now());
        if told.is_ok() {
            self.status = status.clone();
        }
    }
}

fn status(pod: &Pod, node: &Node, phase: &str, why: &str, containers: &[Arc<Container>]) -> Value {
    let state = pod.state.lock().unwrap();
    let condition = |name: &str, is_so: bool, reason: &str, message: &str| {
        let mut condition = json!({"type": name, "status": if is_so { "True" } else { "False" }});
        if !reason.is_empty() {
            condition["reason"] = reason.into();
            condition["message"] = message.into();
        }
        condition
    };
    let ready = state.ready;
    let reason = if ready { "" } else { "ContainersNotReady" };
    let mut status = json!({
        "phase": phase,
        "hostIP": node.plane.address, "hostIPs": [{"ip": node.plane.address}],
        "startTime": pod.object.lock().unwrap().metadata.creation_timestamp,
        "conditions": [
            condition("PodScheduled", true, "", ""),
            condition("Initialized", !containers.is_empty(), "", ""),
            condition("ContainersReady", ready, reason, why),
            condition("Ready", ready, reason, why),
        ],
        "containerStatuses": containers.iter().map(|container| container.status()).collect::<Vec<_>>(),
    });
    if let Some(address) = state.address {
        status["podIP"] = json!(address);
        status["podIPs"] = json!([{"ip": address}]);
    }
    status
}
