//! What an object needs to do anything: where it is missing, the file may be cut off there.
//!
//! The types accept objects with anything left out, and so does a text that ends too early. These are the parts that
//! the API server asks for, and the parts without which the object is of no use. It is no verdict on what is there.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend};

use crate::compile::{Object, SecretObject};

/// What the object lacks, if anything: a path and a word. Never quotes a value.
pub(super) fn missing(object: &Object) -> Option<String> {
    match object {
        Object::EndpointSlice(slice) => missing_in_slice(slice),
        Object::Ingress(ingress) => missing_in_ingress(ingress),
        Object::Secret(SecretObject(secret)) => missing_in_secret(secret),
        Object::Service(service) => {
            let spec = service.spec.as_ref();
            let needs_no_port = spec.is_some_and(|spec| {
                spec.type_.as_deref() == Some("ExternalName") || spec.cluster_ip.as_deref() == Some("None")
            });
            let has_ports = spec.and_then(|spec| spec.ports.as_ref()).is_some_and(|ports| !ports.is_empty());
            (!has_ports && !needs_no_port).then(|| "spec.ports is missing".to_owned())
        }
        Object::IngressClass(class) => {
            let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref());
            controller.is_none().then(|| "spec.controller is missing".to_owned())
        }
        // A policy without any field is the default policy.
        Object::TlsPolicy(_) => None,
    }
}

fn missing_in_slice(slice: &EndpointSlice) -> Option<String> {
    if slice.address_type.is_empty() {
        return Some("addressType is missing".into());
    }
    let index = slice.endpoints.iter().position(|endpoint| endpoint.addresses.is_empty())?;
    Some(format!("endpoints[{index}].addresses is missing"))
}

fn missing_in_ingress(ingress: &Ingress) -> Option<String> {
    let Some(spec) = &ingress.spec else { return Some("spec is missing".into()) };
    if let Some(backend) = &spec.default_backend
        && let Some(what) = missing_in_backend(backend)
    {
        return Some(format!("spec.defaultBackend{what} is missing"));
    }
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        return Some("spec.rules is missing".into());
    }
    for (index, rule) in rules.iter().enumerate() {
        let place = format!("spec.rules[{index}].http");
        let Some(http) = &rule.http else {
            if spec.default_backend.is_none() {
                return Some(format!("{place} is missing"));
            }
            continue;
        };
        if http.paths.is_empty() {
            return Some(format!("{place}.paths is missing"));
        }
        for (index, path) in http.paths.iter().enumerate() {
            if path.path_type.is_empty() {
                return Some(format!("{place}.paths[{index}].pathType is missing"));
            }
            if let Some(what) = missing_in_backend(&path.backend) {
                return Some(format!("{place}.paths[{index}].backend{what} is missing"));
            }
        }
    }
    None
}

fn missing_in_backend(backend: &IngressBackend) -> Option<&'static str> {
    let Some(service) = &backend.service else { return backend.resource.is_none().then_some("") };
    if service.name.is_empty() {
        return Some(".service.name");
    }
    match &service.port {
        Some(port) if port.name.is_some() || port.number.is_some() => None,
        Some(_) | None => Some(".service.port"),
    }
}

/// A certificate without its key, or text that begins as PEM and does not end so.
fn missing_in_secret(secret: &Secret) -> Option<String> {
    let Some(data) = &secret.data else { return Some("data is missing".into()) };
    let has = |name: &str| data.contains_key(name);
    let is_tls = secret.type_.as_deref() == Some("kubernetes.io/tls");
    for (name, other) in [("tls.crt", "tls.key"), ("tls.key", "tls.crt")] {
        if !has(name) && (is_tls || has(other)) {
            return Some(format!("data[{name:?}] is missing"));
        }
    }
    let is_cut = |value: &[u8]| {
        let value = value.trim_ascii();
        let last = value.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        value.starts_with(b"-----BEGIN ") && !(last.starts_with(b"-----END ") && last.ends_with(b"-----"))
    };
    let (name, _) = data.iter().find(|(_, value)| is_cut(&value.0))?;
    Some(format!("data[{name:?}] is cut off: its last line does not end a PEM block"))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::compile::Scope;

    fn missing(text: &str) -> Option<String> {
        let manifest = parse(&Scope("a.yaml".into()), text.as_bytes()).unwrap();
        assert_eq!((manifest.objects.len(), manifest.damaged), (1, false));
        manifest.incomplete.into_values().next().map(|incomplete| incomplete.error)
    }

    #[test]
    fn each_necessary_part_is_missed() {
        let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\n";
        let path = |rest: &str| format!("{ingress}spec: {{rules: [{{http: {{paths: [{{path: /{rest}}}]}}}}]}}");
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n";
        let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\n";
        for (text, expected) in [
            (ingress.to_owned(), "Ingress default/a: spec is missing"),
            (format!("{ingress}spec:\n  rules:\n"), "Ingress default/a: spec.rules is missing"),
            (format!("{ingress}spec:\n  rules:\n  - host: one"), "Ingress default/a: spec.rules[0].http is missing"),
            (path(""), "Ingress default/a: spec.rules[0].http.paths[0].pathType is missing"),
            (path(", pathType: Exact"), "Ingress default/a: spec.rules[0].http.paths[0].backend is missing"),
            (
                path(", pathType: Exact, backend: {service: {name: a}}"),
                "Ingress default/a: spec.rules[0].http.paths[0].backend.service.port is missing",
            ),
            (secret.to_owned(), "Secret default/a: data is missing"),
            (format!("{secret}stringData: {{tls.crt: a}}"), "Secret default/a: data[\"tls.key\"] is missing"),
            (
                format!("{secret}stringData: {{ca.crt: \"-----BEGIN CERTIFICATE-----\\nSECRET\"}}"),
                "Secret default/a: data[\"ca.crt\"] is cut off: its last line does not end a PEM block",
            ),
            (slice.to_owned(), "EndpointSlice default/a: addressType is missing"),
            (
                format!("{slice}addressType: IPv4\nendpoints: [{{}}]"),
                "EndpointSlice default/a: endpoints[0].addresses is missing",
            ),
        ] {
            assert_eq!(missing(&text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn complete_objects_lack_nothing() {
        for text in [
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}",
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: ExternalName, externalName: a.example}}",
            "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {user: YQ==}}",
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4}",
            "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a}, spec: {defaultBackend: {service: \
             {name: a, port: {name: http}}}, rules: [{host: a.example}]}}",
        ] {
            assert_eq!(missing(text), None, "{text}");
        }
    }
}
