//! Who reaches which port of the pods.

use serde_json::{Value, json};

use super::{Rendered, answer, render_one, set};

/// The rules of the policy, if there is one.
fn rules(rendered: &Rendered) -> Option<&Vec<Value>> {
    let policy = rendered.find("NetworkPolicy", "edge-handfast")?;
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
    policy["spec"]["ingress"].as_array()
}

/// The peers that a port is open to; `None` for everyone.
fn peers<'a>(rules: &'a [Value], port: &Value) -> Option<&'a Vec<Value>> {
    let has_port = |rule: &&Value| rule["ports"].as_array().unwrap().iter().any(|one| one["port"] == *port);
    rules.iter().find(has_port).unwrap_or_else(|| panic!("{port} is closed"))["from"].as_array()
}

#[test]
fn every_port_of_the_pods_is_open_to_those_who_need_it_and_the_admin_port_never_to_everyone() {
    let mut with = 0;
    for (name, rendered) in &answer().sets {
        let Some(rules) = rules(rendered) else {
            assert_eq!(name, "daemonset-host-network");
            continue;
        };
        with += 1;
        for port in rendered.container()["ports"].as_array().unwrap() {
            let peers = peers(rules, &port["containerPort"]);
            assert_eq!(peers.is_some(), port["name"] == "metrics", "{name}: {port}");
            assert!(peers.is_none_or(|peers| !peers.is_empty()), "{name}: an empty list is everyone");
        }
    }
    assert!(with >= 8);
    let rules = rules(set("scaled")).unwrap();
    assert_eq!(rules.last().unwrap()["from"][0]["ipBlock"]["cidr"], "10.0.0.0/8");
}

/// Whether a selector takes these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let among = selector["matchExpressions"].as_array().into_iter().flatten();
    equal.into_iter().all(|(key, value)| labels[key] == *value)
        && among.into_iter().all(|one| {
            assert_eq!(one["operator"], "In");
            one["values"].as_array().unwrap().contains(&labels[one["key"].as_str().unwrap()])
        })
}

#[test]
fn scrapers_by_their_usual_labels_and_the_pod_of_helm_test_reach_the_admin_port_and_no_other_pod() {
    let rendered = set("default");
    let peers = peers(rules(rendered).unwrap(), &10254.into()).unwrap();
    let admitted = |labels: &Value, elsewhere: bool| {
        peers.iter().any(|peer| {
            assert!(peer.get("ipBlock").is_none());
            (peer.get("namespaceSelector").is_some() || !elsewhere) && selects(&peer["podSelector"], labels)
        })
    };
    for name in ["prometheus", "vmagent", "alloy", "opentelemetry-collector"] {
        assert!(admitted(&json!({"app.kubernetes.io/name": name}), true), "{name}");
    }
    let test = &rendered.object("Pod", "edge-handfast-test-ready")["metadata"]["labels"];
    assert!(admitted(test, false) && !admitted(test, true));
    for labels in [json!({}), json!({"app": "prometheus"}), json!({"app.kubernetes.io/name": "shop"})] {
        assert!(!admitted(&labels, false), "{labels}");
    }
    assert!(rendered.notes.contains("lets only these reach the admin port"), "{}", rendered.notes);
}

#[test]
fn no_peers_are_nobody() {
    for values in ["metricsFrom: []", "metricsFrom: null"] {
        let rendered = render_one(&format!("controller: {{networkPolicy: {{{values}}}}}"));
        let peers = peers(rules(&rendered).unwrap(), &10254.into()).unwrap();
        assert_eq!(peers.len(), 1, "{values}");
        assert_eq!(peers[0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"], "test");
    }
}

#[test]
fn there_is_no_policy_where_it_would_close_what_it_does_not_know_unless_it_is_asked_for() {
    let sidecar = "{name: x, image: x}";
    let rows = [
        ("hostNetwork: true", false),
        (&*format!("extraContainers: [{sidecar}]"), false),
        ("extraInitContainers: [{name: x, image: x, restartPolicy: Always}]", false),
        (&*format!("extraInitContainers: [{sidecar}]"), true),
        (&*format!("extraContainers: [{sidecar}], networkPolicy: {{enabled: true}}"), true),
        ("networkPolicy: {enabled: false}", false),
    ];
    for (values, expected) in rows {
        let rendered = render_one(&format!("controller: {{{values}}}"));
        assert_eq!(rendered.error, None, "{values}");
        assert_eq!(rules(&rendered).is_some(), expected, "{values}");
    }
    let node = render_one("controller: {hostNetwork: true, networkPolicy: {enabled: true}}");
    assert!(node.notes.contains("controller.networkPolicy has no effect with hostNetwork"), "{}", node.notes);
}
