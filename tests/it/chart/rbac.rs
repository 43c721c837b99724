//! What the controller may do in the cluster: a page of all rules, and that they are bound to who runs.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Rendered, answer, set, texts};
use crate::docs::holds;

/// One line per rule, sorted.
fn rules(rendered: &Rendered) -> Vec<String> {
    let mut lines = Vec::new();
    for role in rendered.objects.iter().filter(|object| object["kind"] == "Role" || object["kind"] == "ClusterRole") {
        let place =
            role["metadata"]["namespace"].as_str().map_or("cluster".to_owned(), |name| format!("namespace {name}"));
        for rule in role["rules"].as_array().unwrap() {
            let named = match texts(&rule["resourceNames"]) {
                names if names.is_empty() => String::new(),
                names => format!(" named {}", names.join(", ")),
            };
            for resource in texts(&rule["resources"]) {
                let group = texts(&rule["apiGroups"])[0];
                let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
                lines.push(format!("{place}: {resource}{named}: {}", texts(&rule["verbs"]).join(", ")));
            }
        }
    }
    lines.sort();
    lines
}

#[test]
fn every_right_is_written_down() {
    let mut text = String::from(
        "What the chart lets the controller do, for each set of values in charts/handfast/ci.\n\
         Made from the chart: HANDFAST_UPDATE_DOCS=1 cargo test chart\n",
    );
    for (name, rendered) in &answer().sets {
        let _ = write!(text, "\n{name}\n");
        for line in rules(rendered) {
            let _ = writeln!(text, "  {line}");
        }
    }
    holds("tests/chart/rbac.txt", &text);
}

#[test]
fn nothing_may_be_done_to_everything_or_by_everybody() {
    for (name, rendered) in &answer().sets {
        for line in rules(rendered) {
            assert!(!line.contains('*'), "{name}: {line}");
            let writes = ["update", "delete", "patch"].iter().any(|verb| line.contains(verb));
            let narrow = line.contains("/status") || line.contains(" named ") || line.contains("events.");
            assert!(!writes || narrow, "{name}: {line}");
        }
        let account = rendered.pods()["spec"]["serviceAccountName"].as_str().unwrap();
        rendered.object("ServiceAccount", account);
        let kinds = ["RoleBinding", "ClusterRoleBinding"];
        for binding in rendered.objects.iter().filter(|object| kinds.contains(&object["kind"].as_str().unwrap())) {
            let (role, own) = (&binding["roleRef"], &binding["metadata"]);
            let found = rendered.kind(role["kind"].as_str().unwrap()).any(|one| {
                one["metadata"]["name"] == role["name"] && one["metadata"].get("namespace") == own.get("namespace")
            });
            assert!(found, "{name}: {binding}");
            let [subject] = binding["subjects"].as_array().unwrap().as_slice() else { panic!("{name}: {binding}") };
            assert!(subject["name"] == account && subject["namespace"] == "ingress", "{name}: {subject}");
        }
    }
}

#[test]
fn a_namespaced_controller_has_no_right_outside_its_namespaces() {
    let rendered = set("namespaced");
    for kind in ["ClusterRole", "ClusterRoleBinding", "IngressClass"] {
        assert_eq!(rendered.kind(kind).count(), 0, "{kind}");
    }
    assert!(rendered.has_arg("--watch-namespace=shop,shop-test"));
    let places: Vec<&Value> = rendered.kind("Role").map(|role| &role["metadata"]["namespace"]).collect();
    assert_eq!(places, ["shop", "shop-test", "ingress", "ingress"]);
}
