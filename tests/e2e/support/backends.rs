//! Backends: HTTP servers inside the test, at addresses of their own, behind Services of the cluster.
//!
//! Their EndpointSlices are either written by hand, which is quick and takes no controller, or come of Pods that the
//! test plays: they are on a node that nobody runs, and their status is patched, so the cluster's own controllers do
//! the rest.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::ControlPlane;
use super::kubelet::PLAYED;
use super::network::backend_address;
use super::runtime::block_on;
use crate::backend::Backend;

/// The port of all backends.
const PORT: u16 = 8080;

/// A Service with the backends behind it.
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// Each says its name, `NAME-INDEX`, in the header `X-Backend`.
    pub backends: Vec<Backend>,
}

impl Service {
    /// Starts `count` backends, and writes Service (port 80) and EndpointSlice.
    pub fn start(plane: &ControlPlane, namespace: &str, name: &str, count: usize) -> Self {
        let backends = start(plane, name, count);
        let service = Self { namespace: namespace.to_owned(), name: name.to_owned(), backends };
        plane.apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{ports: [{{name: http, port: 80, targetPort: {PORT}}}]}}\n"
        ));
        service.publish(plane, count);
        service
    }

    /// Writes the EndpointSlice with the first `count` backends.
    pub fn publish(&self, plane: &ControlPlane, count: usize) {
        let (namespace, name) = (&self.namespace, &self.name);
        let endpoints: Vec<_> = self.backends[..count]
            .iter()
            .map(|backend| json!({"addresses": [backend.address.ip()], "conditions": {"ready": true}}))
            .collect();
        plane.apply(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {PORT}, protocol: TCP}}]\nendpoints: {}\n",
            json!(endpoints)
        ));
    }

    /// Requests that have arrived at each backend.
    pub fn requests(&self) -> Vec<usize> {
        self.backends.iter().map(Backend::requests).collect()
    }
}

/// Starts backends, and plays a Pod for each, behind a Service that selects them: the cluster's controllers make the
/// EndpointSlice.
pub fn played(plane: &ControlPlane, namespace: &str, name: &str, count: usize) -> Service {
    let backends = start(plane, name, count);
    plane.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: {PORT}}}]}}\n"
    ));
    let pod = |index: usize| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}-{index}, namespace: {namespace}, labels: {{app: {name}}}}}\n\
             spec: {{nodeName: {PLAYED}, automountServiceAccountToken: false, containers: [{{name: played, image: played}}]}}\n"
        )
    };
    plane.apply(&(0..count).map(pod).collect::<String>());
    for (index, backend) in backends.iter().enumerate() {
        set_ready(plane, namespace, &format!("{name}-{index}"), backend.address, true);
    }
    Service { namespace: namespace.to_owned(), name: name.to_owned(), backends }
}

/// Says of a played Pod whether it is ready.
pub fn set_ready(plane: &ControlPlane, namespace: &str, name: &str, address: SocketAddr, ready: bool) {
    let (pods, name): (Api<Pod>, _) = (Api::namespaced(plane.client(), namespace), name.to_owned());
    let ready = if ready { "True" } else { "False" };
    let status = json!({"status": {
        "phase": "Running", "podIP": address.ip(), "podIPs": [{"ip": address.ip()}],
        "conditions": [{"type": "ContainersReady", "status": ready}, {"type": "Ready", "status": ready}],
    }});
    block_on(async move {
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    });
}

fn start(plane: &ControlPlane, name: &str, count: usize) -> Vec<Backend> {
    let backend = |index| {
        let address = backend_address(plane.number);
        Backend::start_at(&format!("{name}-{index}"), SocketAddr::from((address, PORT)))
    };
    (0..count).map(backend).collect()
}
