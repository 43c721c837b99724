//! Which addresses come of which objects.

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::fake::{Fake, Fault};

fn words(addresses: Addresses) -> Vec<String> {
    addresses.iter().flat_map(|all| all.iter()).filter_map(text).map(str::to_owned).collect()
}

fn service(spec: Value, balanced: Value) -> Service {
    serde_json::from_value(json!({"spec": spec, "status": {"loadBalancer": {"ingress": balanced}}})).unwrap()
}

#[test]
fn what_the_operator_writes_is_sorted_addresses_first_and_each_once() {
    let written = ["lb.example", " 192.0.2.2", "192.0.2.1", "2001:DB8::1", "192.0.2.2", ""];
    let addresses = sorted(written.into_iter()).unwrap();
    let ips: Vec<_> = addresses.iter().filter_map(|address| address.ip.as_deref()).collect();
    assert_eq!(ips, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    assert_eq!(addresses.last().unwrap().hostname.as_deref(), Some("lb.example"));
    assert_eq!(addresses.len(), 4);
    assert_eq!(sorted([" "].into_iter()), None);
}

#[test]
fn a_service_is_reached_at_its_load_balancer_else_at_external_addresses_else_inside() {
    let balanced =
        json!([{"ip": "192.0.2.1", "ports": [{"port": 443, "protocol": "TCP"}]}, {"hostname": "lb.example"}]);
    let ips = json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"]});
    let with = |more: Value| {
        let mut spec = ips.clone();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    for (spec, balanced, expected) in [
        (with(json!({"type": "LoadBalancer"})), balanced.clone(), vec!["192.0.2.1", "lb.example"]),
        (with(json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.7"]})), json!([]), vec!["198.51.100.7"]),
        // It is going to have another address than that.
        (with(json!({"type": "LoadBalancer"})), json!([]), vec![]),
        (with(json!({"type": "NodePort", "externalIPs": ["198.51.100.7"]})), json!([]), vec!["198.51.100.7"]),
        (with(json!({"type": "ClusterIP"})), json!([]), vec!["10.96.0.9", "fd00::9"]),
        (with(json!({})), json!([]), vec!["10.96.0.9", "fd00::9"]),
        (json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!([]), vec![]),
        (json!({"type": "ExternalName", "externalName": "edge.example"}), json!([]), vec!["edge.example"]),
    ] {
        let addresses = of_service(&service(spec.clone(), balanced));
        assert_eq!(words(addresses.clone()), expected, "{spec}");
        assert_eq!(addresses.is_none(), expected.is_empty());
        let ports = addresses.iter().flat_map(|all| all.iter()).filter(|address| address.ports.is_some());
        assert_eq!(ports.count(), 0, "ports of a load balancer are not those of an Ingress");
    }
}

#[test]
fn a_node_has_external_addresses_or_else_internal_ones() {
    let node = |addresses: Value| serde_json::from_value(json!({"status": {"addresses": addresses}})).unwrap();
    let both = node(json!([
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "ExternalIP", "address": "192.0.2.1"},
        {"type": "Hostname", "address": "node-1"},
    ]));
    assert_eq!(of_node(&both, false), ["192.0.2.1"]);
    assert_eq!(of_node(&both, true), ["10.0.0.1"]);
    assert_eq!(of_node(&node(json!([{"type": "InternalIP", "address": "10.0.0.1"}])), false), ["10.0.0.1"]);
}

#[test]
fn replicas_are_told_by_labels_that_outlive_a_rollout() {
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let of_chart = labels(&[
        ("app.kubernetes.io/name", "handfast"),
        ("app.kubernetes.io/instance", "edge"),
        ("app.kubernetes.io/version", "1.2.3"),
        ("pod-template-hash", "abc"),
    ]);
    assert_eq!(selector(&of_chart), "app.kubernetes.io/instance=edge,app.kubernetes.io/name=handfast");
    let others = labels(&[("app", "handfast"), ("pod-template-hash", "abc"), ("controller-revision-hash", "x")]);
    assert_eq!(selector(&others), "app=handfast");
}

/// A pod on a node; with a readiness, and perhaps on its way out.
fn pod(name: &str, node: &str, ready: &str, is_ending: bool) -> Value {
    let mut pod = json!({"metadata": {"name": name, "labels": {"app": "handfast"}}, "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    if is_ending {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    pod
}

#[tokio::test(start_paused = true)]
async fn nodes_of_replicas_that_serve_are_published_and_an_outage_changes_nothing() {
    const PODS: &str = "/api/v1/namespaces/edge/pods";
    let fake = Fake::default();
    let pods = |pods: Vec<Value>| fake.put(PODS, json!({"metadata": {}, "items": pods}));
    fake.put(&format!("{PODS}/replica-1"), pod("replica-1", "n1", "True", false));
    for index in 1..5 {
        let address = json!([{"type": "InternalIP", "address": format!("10.0.0.{index}")}]);
        fake.put(
            &format!("/api/v1/nodes/n{index}"),
            json!({"metadata": {"name": format!("n{index}")}, "status": {"addresses": address}}),
        );
    }
    pods(vec![
        pod("replica-1", "n1", "True", false),
        pod("replica-2", "n2", "True", false),
        pod("replica-3", "n3", "False", false),
        pod("replica-4", "n4", "True", true),
    ]);
    let cluster = crate::status::cluster::tests::cluster(&fake);
    let addresses = watch::Sender::new(None);
    let mut found = addresses.subscribe();
    tokio::spawn(async move { follow(&Source::Nodes { internal: false }, &cluster, &addresses).await });
    found.changed().await.unwrap();
    assert_eq!(words(found.borrow_and_update().clone()), ["10.0.0.1", "10.0.0.2"]);
    let asked = fake.state().asked.iter().find(|asked| asked.path == PODS).unwrap().query.clone();
    assert!(asked.contains("labelSelector=app%3Dhandfast"), "{asked}");
    // Nobody answers; then no replica is ready; then one is.
    fake.script(|_| Some(Fault::Status(500)));
    sleep(10 * NODES_INTERVAL).await;
    fake.script(|_| None);
    pods(vec![pod("replica-1", "n1", "False", false)]);
    sleep(10 * NODES_INTERVAL).await;
    assert!(!found.has_changed().unwrap());
    pods(vec![pod("replica-1", "n1", "True", false)]);
    found.changed().await.unwrap();
    assert_eq!(words(found.borrow_and_update().clone()), ["10.0.0.1"]);
    let nodes = fake.state().asked.iter().filter(|asked| asked.path.starts_with("/api/v1/nodes/")).count();
    assert!(nodes <= 4, "nodes are remembered: {nodes}");
}
