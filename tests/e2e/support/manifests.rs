//! Objects as users and controllers write them; what tests differ in is a parameter.

use std::net::SocketAddr;

use futures_util::StreamExt;
use handfast::demo::pki::{Authority, Issued, KeyType};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};

use super::network::backend_address;
use super::runtime::block_on;
use super::{ControlPlane, Options};
use crate::backend::Backend;

/// The port that backends listen at.
pub const BACKEND_PORT: u16 = 8080;

/// A control plane that knows TlsPolicies and the class `handfast`.
pub fn cluster() -> ControlPlane {
    let plane = ControlPlane::start(Options::default());
    plane.define_policies();
    apply(&plane, vec![class("handfast", "handfast.dev/ingress-controller")]);
    plane
}

/// `kubectl apply` of several objects at once.
pub fn apply(plane: &ControlPlane, objects: Vec<Value>) {
    plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
}

/// Writes one object, as `kubectl apply --server-side` does. Returns when the API server has answered.
pub fn put(plane: &ControlPlane, object: &Value) {
    let (client, object) = (plane.client(), object.clone());
    block_on(async move {
        let name = object["metadata"]["name"].as_str().unwrap();
        let parameters = PatchParams::apply("test").force();
        api(client, &object).patch(name, &parameters, &Patch::Apply(&object)).await.unwrap();
    });
}

/// Creates objects as fast as the API server takes them.
pub fn create(plane: &ControlPlane, objects: Vec<Value>) {
    const AT_ONCE: usize = 16;
    let client = plane.client();
    block_on(async move {
        let create = |object: Value| {
            let api = api(client.clone(), &object);
            async move {
                let object: DynamicObject = serde_json::from_value(object).unwrap();
                api.create(&PostParams::default(), &object).await.unwrap();
            }
        };
        futures_util::stream::iter(objects).map(create).buffer_unordered(AT_ONCE).collect::<()>().await;
    });
}

fn api(client: Client, object: &Value) -> Api<DynamicObject> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text(&object["kind"])));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

pub fn class(name: &str, controller: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name},
        "spec": {"controller": controller}})
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A Secret as certificate controllers write it.
pub fn secret(namespace: &str, name: &str, certificate: &str, key: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace}, "data": {"tls.crt": encode(certificate), "tls.key": encode(key)}})
}

fn encode(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A Secret that can be served.
pub fn tls_secret(namespace: &str, name: &str, issued: &Issued) -> Value {
    secret(namespace, name, &issued.chain(), &issued.key)
}

pub fn authority() -> Authority {
    Authority::new("Test", UnixTime::now()).unwrap()
}

pub fn issue(authority: &Authority, names: &[&str]) -> Issued {
    authority.issue(names, KeyType::EcdsaP256, UnixTime::now(), -1..90).unwrap()
}

/// A Service without a selector: ports by number, name (empty for none) and port of the backend.
pub fn service(namespace: &str, name: &str, ports: &[(u16, &str, u16)]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(port, name, target)| match *name {
            "" => json!({"port": port, "targetPort": target}),
            name => json!({"name": name, "port": port, "targetPort": target}),
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": {"ports": ports}})
}

/// The EndpointSlice `NAME-1` of a Service: all its ports, at these addresses.
pub fn slice(namespace: &str, service: &str, ports: &[(&str, u16)], addresses: &[SocketAddr]) -> Value {
    let ports: Vec<Value> =
        ports.iter().map(|(name, port)| json!({"name": name, "port": port, "protocol": "TCP"})).collect();
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address.ip()], "conditions": {"ready": true}})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "ports": ports, "endpoints": endpoints})
}

/// One running backend with the objects that lead to it by port 80. It says its Service's name in `X-Backend`.
pub fn backend(plane: &ControlPlane, namespace: &str, name: &str) -> (Backend, [Value; 2]) {
    let backend = Backend::start_at(name, SocketAddr::from((backend_address(plane.number), BACKEND_PORT)));
    let objects = [
        service(namespace, name, &[(80, "", BACKEND_PORT)]),
        slice(namespace, name, &[("", BACKEND_PORT)], &[backend.address]),
    ];
    (backend, objects)
}

/// An Ingress, written step by step.
pub struct Ingress(Value);

impl Ingress {
    /// Of the class `handfast`, in the namespace `default`.
    pub fn new(name: &str) -> Self {
        Self(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"ingressClassName": "handfast"}}))
    }

    pub fn namespace(mut self, name: &str) -> Self {
        self.0["metadata"]["namespace"] = name.into();
        self
    }

    /// Another class; none if it is empty.
    pub fn class(mut self, name: &str) -> Self {
        let spec = self.0["spec"].as_object_mut().unwrap();
        match name {
            "" => spec.remove("ingressClassName"),
            name => spec.insert("ingressClassName".into(), name.into()),
        };
        self
    }

    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = value.into();
        self
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }

    /// A rule with paths: type, path, Service; its port is 80, or what follows the Service's name after a colon.
    pub fn rule(mut self, host: &str, paths: &[(&str, &str, &str)]) -> Self {
        let paths: Vec<Value> = paths
            .iter()
            .map(|(kind, path, service)| json!({"pathType": kind, "path": path, "backend": target(service)}))
            .collect();
        let mut rule = json!({"http": {"paths": paths}});
        if !host.is_empty() {
            rule["host"] = host.into();
        }
        let spec = self.0["spec"].as_object_mut().unwrap();
        spec.entry("rules").or_insert_with(|| json!([])).as_array_mut().unwrap().push(rule);
        self
    }

    /// A rule for everything on a host.
    pub fn all(self, host: &str, service: &str) -> Self {
        self.rule(host, &[("Prefix", "/", service)])
    }

    pub fn tls(mut self, hosts: &[&str], secret: &str) -> Self {
        let spec = self.0["spec"].as_object_mut().unwrap();
        let entries = spec.entry("tls").or_insert_with(|| json!([]));
        entries.as_array_mut().unwrap().push(json!({"hosts": hosts, "secretName": secret}));
        self
    }

    pub fn default_backend(mut self, service: &str) -> Self {
        self.0["spec"]["defaultBackend"] = target(service);
        self
    }

    pub fn object(self) -> Value {
        self.0
    }
}

fn target(service: &str) -> Value {
    let (name, port) = service.split_once(':').unwrap_or((service, "80"));
    let port = match port.parse::<u16>() {
        Ok(number) => json!({"number": number}),
        Err(_) => json!({"name": port}),
    };
    json!({"service": {"name": name, "port": port}})
}
