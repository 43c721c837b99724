//! Values of ingress-nginx: what means the same is taken, what has no effect is said, and what would open or break
//! something is refused.

use super::{all_refused, render_one, set};

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
        "controller.image names the image of ingress-nginx. The chart uses handfast:",
        "both write the status of Ingresses: set controller.noStatus",
        "used is /readyz",
        "controller.lifecycle runs /wait-shutdown",
        "controller.config.server-tokens has no effect",
        "controller.extraArgs.v has no effect",
    ] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    assert!(!notes.contains("proxy-real-ip-cidr") && !set("default").notes.contains("About your values"));
    let believed = render_one("controller: {config: {use-forwarded-headers: \"true\"}}");
    assert!(believed.has_arg("--trusted-proxies=0.0.0.0/0,::/0") && believed.notes.contains("headers of everybody"));
    let snippets = render_one("controller: {allowSnippetAnnotations: true}");
    assert!(snippets.notes.contains("snippets are never executed"));
}

#[test]
fn values_of_ingress_nginx_that_name_no_class_are_told_that_nginx_is_not_adopted() {
    let said =
        "Ingresses of class nginx are not adopted: served are those of class handfast. Set controller.adoptClass";
    for values in [
        "controller: {config: {server-tokens: \"false\"}}",
        "controller: {image: {image: ingress-nginx/controller, tag: v1.15.1}, service: {externalTrafficPolicy: Local}}",
        "controller: {extraArgs: {default-ssl-certificate: default/wildcard}}",
        "controller: {extraArgs: {v: 2}}",
        "controller: {allowSnippetAnnotations: false}",
        "controller: {enableMimalloc: true}",
        "controller: {ingressClass: public, opentelemetry: {enabled: true}}",
        "defaultBackend: {enabled: false}",
    ] {
        let rendered = render_one(values);
        assert!(rendered.notes.contains(said), "{values}: {:?} {}", rendered.error, rendered.notes);
        let class = values.replacen("controller: {", "controller: {adoptClass: [nginx], ", 1);
        let class = if class == values { format!("{values}\ncontroller: {{adoptClass: [nginx]}}") } else { class };
        let notes = render_one(&class).notes;
        assert!(!notes.contains("not adopted") && notes.contains("those of class nginx"), "{class}: {notes}");
    }
    for served in [
        "controller: {config: {server-tokens: \"false\"}, ingressClassResource: {name: nginx}}",
        "controller: {config: {server-tokens: \"false\"}, ingressClassResource: {controllerValue: k8s.io/ingress-nginx}}",
        "controller: {config: {server-tokens: \"false\"}, ingressClassByName: true, ingressClass: nginx}",
    ] {
        let notes = render_one(served).notes;
        assert!(!notes.contains("not adopted") && !notes.contains("are not served"), "{served}: {notes}");
    }
    // Who comes from nowhere is told how, and of nothing wrong.
    let notes = &set("default").notes;
    assert!(notes.contains("--set controller.adoptClass='{nginx}'") && !notes.contains("not adopted"), "{notes}");
    assert!(!set("ingress-nginx").notes.contains("adoptClass"), "{}", set("ingress-nginx").notes);
}

#[test]
fn what_would_be_missed_is_refused_with_what_to_do() {
    let rows = [
        ("tcp: {\"22\": git/ssh:22}", "TCP services are not supported"),
        ("udp: {\"53\": dns/dns:53}", "UDP services are not supported"),
        ("defaultBackend: {enabled: true}", "the defaultBackend of an Ingress"),
        ("controller: {config: {whitelist-source-range: 10.0.0.0/8}}", "use the annotation of the Ingresses"),
        ("controller: {config: {global-auth-url: \"https://auth\"}}", "controller.config.global-auth-url"),
        ("controller: {config: {ssl-protocols: TLSv1.3}}", "write it into a TlsPolicy"),
        ("controller: {config: {hsts-max-age: 300}}", "write it into a TlsPolicy"),
        ("controller: {extraArgs: {enable-ssl-passthrough: \"\"}}", "not supported"),
        ("controller: {extraArgs: {enable-ssl-chain-completion: \"true\"}}", "a TlsPolicy says it: chain.complete"),
        ("controller: {keda: {enabled: true}}", "write the ScaledObject into extraObjects"),
        ("controller: {addHeaders: {X-Frame-Options: DENY}}", "controller.addHeaders is not supported"),
        ("controller: {ingressClassResource: {aliases: [public]}}", "controller.adoptClass: [public]"),
        ("controller: {customTemplate: {configMapName: template}}", "there is no template"),
    ];
    all_refused(&rows);
}

#[test]
fn only_the_name_of_an_image_tells_that_it_is_of_ingress_nginx() {
    let own =
        "controller: {image: {registry: reg.example.com, repository: edge/handfast, tag: v0.1.0, runAsUser: 1000}}";
    let rendered = render_one(own);
    assert_eq!(rendered.container()["image"], "reg.example.com/edge/handfast:v0.1.0");
    assert_eq!(rendered.pods()["spec"]["securityContext"]["runAsUser"], 1000);
    assert!(!rendered.notes.contains("About your values"), "{}", rendered.notes);
    let digest = format!("sha256:{}", "0".repeat(64));
    let pinned =
        render_one(&format!("controller: {{image: {{repository: edge/handfast, tag: v0.1.0, digest: \"{digest}\"}}}}"));
    assert_eq!(pinned.container()["image"], *format!("edge/handfast@{digest}"));
    let foreign = render_one("controller: {image: {repository: mirror/ingress-nginx/controller, tag: v1.15.1}}");
    assert_eq!(foreign.container()["image"], concat!("handfast:", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_proxy_protocol_is_not_believed_of_more_than_before_without_a_word() {
    all_refused(&[(
        "controller: {config: {use-proxy-protocol: \"true\", proxy-real-ip-cidr: 10.0.0.0/8}}",
        "the PROXY protocol is trusted from every peer, not only from 10.0.0.0/8",
    )]);
    // What believes everybody there may do so here.
    for networks in ["", ", proxy-real-ip-cidr: 0.0.0.0/0"] {
        let rendered = render_one(&format!(
            "controller: {{adoptClass: [nginx], config: {{use-proxy-protocol: \"true\"{networks}}}}}"
        ));
        assert!(
            rendered.has_arg("--proxy-protocol=true") && !rendered.notes.contains("About your values"),
            "{networks}"
        );
    }
    let unused = render_one("controller: {trustedProxies: [10.0.0.0/8], config: {proxy-real-ip-cidr: 192.0.2.0/24}}");
    assert!(unused.notes.contains("controller.config.proxy-real-ip-cidr has no effect"), "{}", unused.notes);
}

#[test]
fn beside_ingress_nginx_it_serves_the_same_and_writes_nothing() {
    let rendered = set("migration");
    assert!(rendered.has_arg("--adopt-class=nginx") && rendered.has_arg("--no-status=true"));
    assert!(rendered.notes.contains("and those of class nginx") && rendered.notes.contains("writes nothing"));
    let roles = rendered.kind("ClusterRole").chain(rendered.kind("Role"));
    for role in roles {
        let text = role["rules"].to_string();
        assert!(!text.contains("status") && !text.contains("events"), "{text}");
        // Which replica keeps what is held has to be known even so.
        let keeps = text.contains("last-good");
        assert_eq!(text.contains("leases"), keeps, "{text}");
    }
}
