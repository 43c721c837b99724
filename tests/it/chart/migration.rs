//! Values of ingress-nginx: what means the same is taken, what has no effect is said, and what would open or break
//! something is refused.

use super::{refused, render_one, set};

#[test]
fn a_values_file_of_ingress_nginx_is_taken_as_it_is() {
    let rendered = set("ingress-nginx");
    for arg in [
        "--adopt-class=nginx",
        "--controller-class=k8s.io/ingress-nginx",
        "--default-tls-secret=default/wildcard",
        "--drain-timeout=90s",
        "--http=[::]:80",
        "--ingress-class=nginx",
        "--keep-alive=30s",
        "--no-status=true",
        "--proxy-protocol=true",
        "--read-timeout=120s",
        "--trusted-proxies=10.0.0.0/8,fd00::/8",
        "--webhook-addr=[::]:8443",
        "--workers=4",
    ] {
        assert!(rendered.has_arg(arg), "{arg}: {:?}", rendered.args());
    }
    assert!(!rendered.args().iter().any(|arg| arg.contains("publish")));
    assert_eq!(rendered.container()["image"], concat!("handfast:", env!("CARGO_PKG_VERSION")));
    assert!(rendered.container().get("lifecycle").is_none());
    assert_eq!(rendered.pods()["spec"]["securityContext"]["runAsUser"], 65532);
    assert_eq!(rendered.object("Deployment", "edge-handfast")["spec"]["replicas"], 3);
    assert_eq!(rendered.object("PodDisruptionBudget", "edge-handfast")["spec"]["minAvailable"], 2);
    let service = &rendered.object("Service", "edge-handfast")["spec"];
    assert!(service["externalTrafficPolicy"] == "Local" && service["ports"][1]["nodePort"] == 32443);
    assert!(service["ports"][0].get("nodePort").is_none());
}

#[test]
fn what_has_no_effect_is_said_in_the_notes() {
    let notes = &set("ingress-nginx").notes;
    for said in [
        "controller.image names the image of ingress-nginx; used is handfast:",
        "both write the status of Ingresses: set controller.noStatus",
        "used is /readyz",
        "controller.lifecycle runs /wait-shutdown",
        "controller.config.server-tokens has no effect",
        "controller.extraArgs.v has no effect",
    ] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    assert!(!notes.contains("use-proxy-protocol") && !set("default").notes.contains("Of your values"));
    let believed = render_one("controller: {config: {use-forwarded-headers: \"true\"}}");
    assert!(believed.has_arg("--trusted-proxies=0.0.0.0/0,::/0") && believed.notes.contains("headers of everybody"));
    let snippets = render_one("controller: {allowSnippetAnnotations: true}");
    assert!(snippets.notes.contains("snippets are never executed"));
}

#[test]
fn what_would_be_missed_is_refused_with_what_to_do() {
    let rows = [
        ("tcp: {\"22\": git/ssh:22}", "TCP services are not built"),
        ("udp: {\"53\": dns/dns:53}", "UDP services are not built"),
        ("defaultBackend: {enabled: true}", "the defaultBackend of an Ingress"),
        ("controller: {config: {whitelist-source-range: 10.0.0.0/8}}", "use the annotation of the Ingresses"),
        ("controller: {config: {global-auth-url: \"https://auth\"}}", "controller.config.global-auth-url"),
        ("controller: {config: {ssl-protocols: TLSv1.3}}", "write it into a TlsPolicy"),
        ("controller: {config: {hsts-max-age: 300}}", "write it into a TlsPolicy"),
        ("controller: {extraArgs: {enable-ssl-passthrough: \"\"}}", "not built"),
        ("controller: {keda: {enabled: true}}", "write the ScaledObject into extraObjects"),
        ("controller: {addHeaders: {X-Frame-Options: DENY}}", "controller.addHeaders: not built"),
        ("controller: {ingressClassResource: {aliases: [public]}}", "controller.adoptClass: [public]"),
        ("controller: {customTemplate: {configMapName: template}}", "there is no template"),
    ];
    for (values, expected) in rows {
        let error = refused(values);
        assert!(error.contains(expected), "{values}: {error}");
    }
}

#[test]
fn beside_ingress_nginx_it_serves_the_same_and_writes_nothing() {
    let rendered = set("migration");
    assert!(rendered.has_arg("--adopt-class=nginx") && rendered.has_arg("--no-status=true"));
    assert!(rendered.notes.contains("beside it those of class nginx") && rendered.notes.contains("writes nothing"));
    let roles = rendered.kind("ClusterRole").chain(rendered.kind("Role"));
    for role in roles {
        let text = role["rules"].to_string();
        assert!(!text.contains("status") && !text.contains("events"), "{text}");
        // Which replica keeps what is held has to be known even so.
        let keeps = text.contains("last-good");
        assert_eq!(text.contains("leases"), keeps, "{text}");
    }
}
