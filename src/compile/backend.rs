//! A Service port to the endpoints behind it.
//!
//! `Service + EndpointSlices ──▶ Backend + problems`
//!
//! A port of an Ingress names a port of the Service; slices carry the Service's port *name* with the number that the
//! pods really use. Endpoints are chosen as kube-proxy does: the ready ones, and if there is none, those that are
//! shutting down and still serve. [`Reach`] says which addresses are never used.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::Endpoint as SliceEndpoint;

use super::diagnostic::{BadAddress, BadBackend};
use super::view::View;
use super::{Effect, Kind, Object, ObjectKey, Options, Problem};
use crate::snapshot::{Address, Backend, BackendKey, BackendState, Endpoint, HostName, PortKey, Reach, Unreachable};

/// A backend and what is wrong with it.
pub(super) struct Built {
    pub(super) backend: Backend,
    pub(super) problems: Vec<BackendProblem>,
}

/// One thing that is wrong with a backend.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum BackendProblem {
    /// With the reference: reported at every place that names the backend.
    Reference(Problem),
    /// With an object behind it.
    Object(ObjectKey, Box<str>, Problem, Effect),
}

/// Builds one backend.
pub(super) fn backend(view: &mut View<'_>, options: &Options, key: &BackendKey) -> Built {
    let service_key = ObjectKey { kind: Kind::Service, namespace: key.namespace.clone(), name: key.service.clone() };
    let service_name = format!("{}/{}", key.namespace, key.service);
    let own = options.own_service.as_ref();
    let missing = |problem| Built {
        backend: Backend { key: key.clone(), state: BackendState::Missing, endpoints: Arc::default() },
        problems: vec![problem],
    };
    if own.is_some_and(|(namespace, name)| **namespace == *key.namespace && **name == *key.service) {
        return missing(BackendProblem::Reference(Problem::BadBackend { error: BadBackend::Own }));
    }
    let Some(Object::Service(service)) = view.object(&service_key) else {
        return missing(BackendProblem::Reference(Problem::ServiceNotFound { service: service_name }));
    };
    let port_not_found = || {
        let port = key.port.to_string();
        missing(BackendProblem::Reference(Problem::ServicePortNotFound { service: service_name.clone(), port }))
    };
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let at_service = |field: &str, problem| {
            missing(BackendProblem::Object(service_key.clone(), field.into(), problem, Effect::RouteDropped))
        };
        if !options.allow_external_name {
            return at_service("spec.type", Problem::ExternalNameNotAllowed);
        }
        let Some(port) = external_port(service, &key.port) else { return port_not_found() };
        let name = spec.and_then(|spec| spec.external_name.as_deref()).unwrap_or_default();
        return match external_address(name, port, &options.reach) {
            Ok(address) => Built { backend: ready(key, BTreeSet::from([Endpoint { address }])), problems: Vec::new() },
            Err(error) => at_service("spec.externalName", Problem::BadExternalName { name: name.to_owned(), error }),
        };
    }
    let Some(port) = service_port(service, &key.port) else { return port_not_found() };
    let port_name = port.name.as_deref().unwrap_or_default();

    let own_addresses = own_service_addresses(view, options);
    let mut takes_traffic = BTreeSet::new();
    let mut drains = BTreeSet::new();
    let mut refused = Vec::new();
    for (slice_key, slice) in view.slices(&key.namespace, &key.service) {
        if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
            continue;
        }
        for port in slice.ports.iter().flatten() {
            let is_tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
            if !is_tcp || port.name.as_deref().unwrap_or_default() != port_name {
                continue;
            }
            // Without a number the consumer is to know the port; nothing here says which.
            let Some(number) = port.port else { continue };
            for (index, endpoint) in slice.endpoints.iter().enumerate() {
                let Some(state) = readiness(endpoint) else { continue };
                for address in &endpoint.addresses {
                    let judged = socket_address(address, number, &options.reach).and_then(|found| {
                        if own_addresses.contains(&found) { Err(Unreachable::Own.into()) } else { Ok(found) }
                    });
                    match judged {
                        Ok(address) => {
                            let endpoint = Endpoint { address: Address::Ip(address) };
                            match state {
                                Readiness::Drains => drains.insert(endpoint),
                                Readiness::Ready => takes_traffic.insert(endpoint),
                            };
                        }
                        Err(error) => {
                            let endpoint = format!("{address}:{number}");
                            let field = format!("endpoints[{index}]").into_boxed_str();
                            refused.push((slice_key.clone(), field, Problem::BadEndpoint { endpoint, error }));
                        }
                    }
                }
            }
        }
    }
    let endpoints = if takes_traffic.is_empty() { drains } else { takes_traffic };
    let is_empty = endpoints.is_empty();
    let effect = if is_empty { Effect::RouteDropped } else { Effect::None };
    let mut problems: Vec<BackendProblem> =
        refused.into_iter().map(|(key, field, problem)| BackendProblem::Object(key, field, problem, effect)).collect();
    if is_empty {
        let problem = Problem::NoEndpoints { port: key.port.to_string() };
        problems.push(BackendProblem::Object(service_key, "".into(), problem, Effect::RouteDropped));
    }
    Built { backend: ready(key, endpoints), problems }
}

/// Where the Service of the controller is reached: cluster addresses, external ones and those of its load balancer.
fn own_service_addresses(view: &mut View<'_>, options: &Options) -> BTreeSet<SocketAddr> {
    let Some((namespace, name)) = &options.own_service else { return BTreeSet::new() };
    let key = ObjectKey { kind: Kind::Service, namespace: namespace.as_str().into(), name: name.as_str().into() };
    let Some(Object::Service(service)) = view.object(&key) else { return BTreeSet::new() };
    let Some(spec) = &service.spec else { return BTreeSet::new() };
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let balanced = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).chain(spec.external_ips.iter().flatten());
    let addresses = addresses.chain(balanced.iter().filter_map(|ingress| ingress.ip.as_ref()));
    let addresses: BTreeSet<IpAddr> = addresses.filter_map(|address| address.parse().ok()).collect();
    let ports = tcp_ports(service).filter_map(|port| u16::try_from(port.port).ok());
    ports.flat_map(|port| addresses.iter().map(move |ip| SocketAddr::new(ip.to_canonical(), port))).collect()
}

enum Readiness {
    /// Shutting down, and still answering.
    Drains,
    Ready,
}

/// `None` if the endpoint takes no traffic. An unknown `ready` counts as true, an unknown `serving` as `ready`.
fn readiness(endpoint: &SliceEndpoint) -> Option<Readiness> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    if ready {
        return Some(Readiness::Ready);
    }
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(false);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    (serving && terminating).then_some(Readiness::Drains)
}

fn ready(key: &BackendKey, endpoints: BTreeSet<Endpoint>) -> Backend {
    let state = if endpoints.is_empty() { BackendState::NoEndpoints } else { BackendState::Ready };
    Backend { key: key.clone(), state, endpoints: endpoints.into_iter().collect() }
}

fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
}

fn service_port<'a>(service: &'a Service, wanted: &PortKey) -> Option<&'a ServicePort> {
    tcp_ports(service).find(|port| match wanted {
        PortKey::Name(name) => port.name.as_deref() == Some(name),
        PortKey::Number(number) => port.port == i32::from(*number),
    })
}

/// An ExternalName Service may list no ports; then the number in the Ingress is the port.
fn external_port(service: &Service, wanted: &PortKey) -> Option<u16> {
    match (service_port(service, wanted), wanted) {
        (Some(port), _) => u16::try_from(port.port).ok(),
        (None, PortKey::Number(number)) if tcp_ports(service).next().is_none() => Some(*number),
        (None, PortKey::Name(_) | PortKey::Number(_)) => None,
    }
}

fn external_address(name: &str, port: u16, reach: &Reach) -> Result<Address, BadAddress> {
    if let Ok(address) = name.parse::<IpAddr>() {
        let address = SocketAddr::new(address.to_canonical(), port);
        reach.external(address)?;
        return Ok(Address::Ip(address));
    }
    let host: HostName = name.strip_suffix('.').unwrap_or(name).parse().map_err(BadAddress::Name)?;
    if host.is_wildcard() {
        return Err(BadAddress::Name(crate::snapshot::BadHostName::Character('*')));
    }
    if is_numeric(host.as_str()) {
        return Err(BadAddress::Numeric);
    }
    let is_local = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"].contains(&host.as_str())
        || host.as_str().ends_with(".localhost");
    if is_local && !reach.loopback {
        return Err(Unreachable::Loopback.into());
    }
    Ok(Address::Name(host.as_str().into(), port))
}

/// Whether resolvers of C libraries read the name as an IPv4 address (`127.1`, `2130706433`, `0x7f.1`): its last label is
/// a number. No top-level domain is (RFC 3696 section 2).
fn is_numeric(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit())
}

fn socket_address(address: &str, port: i32, reach: &Reach) -> Result<SocketAddr, BadAddress> {
    let address: IpAddr = address.parse().map_err(|_| BadAddress::NotAnAddress)?;
    // The port may be wrong as well; the address is the graver mistake.
    let valid = u16::try_from(port).ok().filter(|port| *port > 0);
    reach.endpoint(SocketAddr::new(address, valid.unwrap_or_default()))?;
    let port = valid.ok_or(BadAddress::PortRange(port))?;
    Ok(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_read_as_addresses_are_no_names() {
        let reach = Reach::default();
        for name in ["127.1", "2130706433", "0x7f.1", "0", "0x7f000001", "0x", "shop.example.0x1", "1.2.3.4.5"] {
            assert_eq!(external_address(name, 80, &reach), Err(BadAddress::Numeric), "{name}");
        }
        for name in ["127.0.0.1", "::1", "localhost", "a.localhost"] {
            assert_eq!(external_address(name, 80, &reach), Err(Unreachable::Loopback.into()), "{name}");
        }
        for name in ["1e100.net", "0x.example.com", "3com.com", "10.in-addr.arpa", "db.internal."] {
            assert!(external_address(name, 80, &reach).is_ok(), "{name}");
        }
    }
}
