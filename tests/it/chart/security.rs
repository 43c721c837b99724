//! What the pods may do on their node: nothing that the level "restricted" of the Pod Security Standards forbids, but
//! for what somebody asks for who wants the ports of the node.

use serde_json::{Value, json};

use super::{Rendered, answer, render_one, set};

/// What of a pod the level "restricted" forbids.
fn violations(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut forbid = |is: bool, what: &str| {
        if is {
            found.push(what.to_owned());
        }
    };
    let spec = &pod["spec"];
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        forbid(spec[field] == true, field);
    }
    let harmless =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let kind = volume.as_object().unwrap().keys().find(|key| *key != "name").unwrap();
        forbid(!harmless.contains(&kind.as_str()), &format!("volume {kind}"));
    }
    let safe_sysctls = ["net.ipv4.ip_unprivileged_port_start"];
    for sysctl in spec["securityContext"]["sysctls"].as_array().into_iter().flatten() {
        forbid(!safe_sysctls.contains(&sysctl["name"].as_str().unwrap()), "sysctl");
    }
    let own = &spec["securityContext"];
    for container in spec["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        let either = |field: &str| context.get(field).or_else(|| own.get(field)).cloned().unwrap_or_default();
        forbid(context["allowPrivilegeEscalation"] != false, "allowPrivilegeEscalation");
        forbid(context["privileged"] == true, "privileged");
        forbid(either("runAsNonRoot") != true, "runAsNonRoot");
        forbid(either("runAsUser") == 0, "runAsUser 0");
        forbid(!matches!(either("seccompProfile")["type"].as_str(), Some("RuntimeDefault" | "Localhost")), "seccomp");
        forbid(context["capabilities"]["drop"] != json!(["ALL"]), "capabilities are not dropped");
        let added = context["capabilities"]["add"].as_array().into_iter().flatten();
        for capability in added {
            forbid(capability != "NET_BIND_SERVICE", &format!("capability {capability}"));
        }
        let ports = container["ports"].as_array().into_iter().flatten();
        forbid(ports.into_iter().any(|port| port.get("hostPort").is_some()), "hostPort");
    }
    found
}

fn of_controller(rendered: &Rendered) -> Vec<String> {
    violations(rendered.pods())
}

#[test]
fn pods_are_restricted_unless_they_want_the_ports_of_the_node() {
    for (name, rendered) in &answer().sets {
        let expected: &[&str] = match name.as_str() {
            "daemonset-host-network" => &["hostNetwork", "runAsNonRoot", "runAsUser 0", "hostPort"],
            "daemonset-host-port" => &["hostPort"],
            _ => &[],
        };
        assert_eq!(of_controller(rendered), expected, "{name}");
        let context = &rendered.container()["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(violations(rendered.object("Pod", "edge-handfast-test-ready")), Vec::<String>::new(), "{name}");
    }
    assert!(of_controller(&render_one("controller: {containerSecurityContext: {privileged: true}}")).len() == 1);
}

#[test]
fn the_process_is_root_only_for_ports_of_the_node_below_1024_and_with_one_capability_then() {
    let node = set("daemonset-host-network");
    let context = &node.container()["securityContext"];
    assert_eq!(context["capabilities"], json!({"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}));
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert!(node.has_arg("--http=[::]:80") && node.has_arg("--https=[::]:443"));
    assert_eq!(node.pods()["spec"]["dnsPolicy"], "ClusterFirstWithHostNet");

    let high = render_one("controller: {hostNetwork: true, containerPort: {http: 8080, https: 8443}}");
    assert_eq!(of_controller(&high), ["hostNetwork", "hostPort"]);
    let context = &high.container()["securityContext"];
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));

    // In a network of its own a pod may have low ports without any right.
    let own = render_one("controller: {containerPort: {http: 80, https: 443}}");
    assert_eq!(of_controller(&own), Vec::<String>::new());
    let sysctls = &own.pods()["spec"]["securityContext"]["sysctls"];
    assert_eq!(*sysctls, json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}]));
    assert!(set("default").pods()["spec"]["securityContext"].get("sysctls").is_none());
}

#[test]
fn what_the_controller_keeps_stays_in_memory() {
    let volume = &set("default").pods()["spec"]["volumes"][0];
    assert_eq!(volume["emptyDir"], json!({"medium": "Memory", "sizeLimit": "256Mi"}));
    // A folder in the volume, because the volume itself is open to others.
    assert!(set("default").has_arg("--state-dir=/var/lib/handfast/state"));
    let without = render_one("controller: {state: {enabled: false}, lastGood: {enabled: false}}");
    assert!(without.pods()["spec"].get("volumes").is_none() && without.kind("Secret").count() == 0);
    let disk = render_one("controller: {state: {medium: '', sizeLimit: ''}}");
    assert_eq!(disk.pods()["spec"]["volumes"][0]["emptyDir"], json!({}));
}

#[test]
fn only_certificates_are_shown_to_the_webhook() {
    let configuration = set("webhook").object("ValidatingWebhookConfiguration", "edge-handfast-webhook");
    let secrets =
        configuration["webhooks"].as_array().unwrap().iter().find(|webhook| webhook["name"] == "secrets.handfast.dev");
    let secrets = secrets.unwrap();
    assert_eq!(
        secrets["matchConditions"][0]["expression"],
        "(object == null ? oldObject : object).type == \"kubernetes.io/tls\""
    );
    // The set says Fail, and nothing that is deleted may wait for the controller.
    assert_eq!(secrets["rules"][0]["operations"], json!(["CREATE", "UPDATE"]));
    let without = render_one("controller: {admissionWebhooks: {enabled: true, secrets: false}}");
    let configuration = without.object("ValidatingWebhookConfiguration", "edge-handfast-webhook");
    assert!(!configuration.to_string().contains("secrets"), "{configuration}");
    assert_eq!(configuration["webhooks"][0]["failurePolicy"], "Ignore");
    let operations = |index: usize| &configuration["webhooks"][index]["rules"][0]["operations"];
    assert_eq!(*operations(0), json!(["CREATE", "UPDATE"]));
    assert_eq!(*operations(1), json!(["CREATE", "UPDATE", "DELETE"]));
    let scoped =
        render_one("controller: {scope: {enabled: true, namespace: shop}, admissionWebhooks: {enabled: true}}");
    let configuration = scoped.object("ValidatingWebhookConfiguration", "edge-handfast-webhook");
    let selector = &configuration["webhooks"][0]["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(*selector, json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop"]}));
}

#[test]
fn the_webhook_does_not_judge_the_certificate_without_which_it_cannot_answer() {
    let conditions = |name: &str| {
        let configuration = set(name).object("ValidatingWebhookConfiguration", "edge-handfast-webhook");
        let webhooks = configuration["webhooks"].as_array().unwrap();
        let secrets = webhooks.iter().find(|webhook| webhook["name"] == "secrets.handfast.dev").unwrap();
        let expressions = secrets["matchConditions"].as_array().unwrap()[1..].iter();
        expressions.map(|condition| condition["expression"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let but = |names: &str| vec![format!(r#"!(request.namespace == "ingress" && request.name in [{names}])"#)];
    assert_eq!(conditions("webhook-given"), but(r#""webhook-certificate""#));
    assert_eq!(conditions("webhook-cert-manager"), but(r#""edge-handfast-webhook","edge-handfast-webhook-ca""#));
    // What the controller makes itself is no certificate by its type.
    assert_eq!(conditions("webhook"), Vec::<String>::new());
    let selected = render_one(
        "controller: {scope: {enabled: true, namespaceSelector: team=shop}, admissionWebhooks: {enabled: true}}",
    );
    assert!(selected.notes.contains("objects of all namespaces are judged"), "{}", selected.notes);
}
