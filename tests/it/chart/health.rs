//! Annotations of the Service by which load balancers ask after us: what would fail is refused, or said in the notes.

use super::{all_refused, render};

const AZURE: &str = "service.beta.kubernetes.io/azure-load-balancer-health-probe";
const AWS: &str = "service.beta.kubernetes.io/aws-load-balancer-healthcheck";

/// Values of a Service with these keys and annotations.
fn service(keys: &str, annotations: &[(&str, &str)]) -> String {
    let annotations: Vec<String> = annotations.iter().map(|(key, value)| format!("\"{key}\": \"{value}\"")).collect();
    format!("controller: {{service: {{{keys} annotations: {{{}}}}}}}", annotations.join(", "))
}

#[test]
fn a_check_over_https_without_a_default_certificate_is_refused() {
    let path = format!("{AZURE}-request-path");
    let protocol = format!("{AZURE}-protocol");
    let rows = [
        service("appProtocol: true,", &[(&path, "/healthz")]),
        service("", &[(&protocol, "https")]),
        service("", &[(&protocol, "HTTPS"), (&path, "/healthz")]),
        service("", &[("service.beta.kubernetes.io/port_443_health-probe_protocol", "https")]),
        service("ports: {https: 8443},", &[("service.beta.kubernetes.io/port_8443_health-probe_protocol", "https")]),
        service("", &[(&format!("{AWS}-protocol"), "https"), (&format!("{AWS}-port"), "traffic-port")]),
        service("", &[("alb.ingress.kubernetes.io/healthcheck-protocol", "HTTPS")]),
        service("", &[("service.beta.kubernetes.io/do-loadbalancer-healthcheck-protocol", "https")]),
        service("", &[("load-balancer.hetzner.cloud/health-check-protocol", "https")]),
        service("", &[("service.beta.kubernetes.io/scw-loadbalancer-health-check-type", "https")]),
        format!("controller: {{service: {{internal: {{enabled: true, annotations: {{\"{protocol}\": https}}}}}}}}"),
    ];
    let said = "set controller.defaultTlsSecret, or have it ask over TCP";
    let refused: Vec<(&str, &str)> = rows.iter().map(|values| (values.as_str(), said)).collect();
    all_refused(&refused);
    all_refused(&[(&rows[0], "(annotation service.beta.kubernetes.io/port_443_health-probe_protocol: tcp)")]);
    // With one they are taken, however it is named.
    let taken: Vec<String> = rows
        .iter()
        .flat_map(|values| {
            ["defaultTlsSecret: default/wildcard,", "extraArgs: {default-ssl-certificate: default/wildcard},"]
                .map(|certificate| values.replacen("controller: {", &format!("controller: {{{certificate} "), 1))
        })
        .collect();
    for (values, rendered) in render(&taken.into_iter().map(|values| (values.clone(), values)).collect()).sets {
        assert_eq!(rendered.error, None, "{values}");
        assert!(!rendered.notes.contains("Of your values"), "{values}: {}", rendered.notes);
    }
}

#[test]
fn a_check_that_may_fail_is_named_in_the_notes() {
    let path = format!("{AZURE}-request-path");
    let protocol = format!("{AZURE}-protocol");
    let aws = |name: &str| format!("{AWS}-{name}");
    let tcp = ("service.beta.kubernetes.io/port_443_health-probe_protocol", "tcp");
    // What the notes say; nothing where the check gets its answer, or is none of ours.
    let rows: [(String, Option<&str>); 16] = [
        (service("", &[(&path, "/")]), Some("asks for /. Unless a rule without a host has it, that answers 404")),
        (service("", &[(&aws("path"), "/nginx-health")]), Some("asks for /nginx-health")),
        (service("", &[("alb.ingress.kubernetes.io/healthcheck-path", "/status")]), Some("asks for /status")),
        (service("", &[("service.beta.kubernetes.io/linode-loadbalancer-check-path", "/up")]), Some("asks for /up")),
        (
            service("", &[("service.beta.kubernetes.io/scw-loadbalancer-health-check-http-uri", "/up")]),
            Some("asks for /up"),
        ),
        (service("appProtocol: true,", &[tcp]), Some("request-path (left out): the load balancer asks for /.")),
        (service("", &[(&aws("protocol"), "http"), (&aws("path"), "/healthz")]), Some("that answers 400")),
        (service("", &[(&protocol, "http")]), Some("that answers 400")),
        (service("", &[(&path, "/healthz")]), None),
        (service("", &[(&path, "/healthz?x=1")]), None),
        (service("appProtocol: true,", &[(&path, "/healthz"), tcp]), None),
        (
            service(
                "appProtocol: true,",
                &[(&path, "/healthz"), ("service.beta.kubernetes.io/port_443_no_probe_rule", "true")],
            ),
            None,
        ),
        (service("enableHttps: false,", &[(&protocol, "http"), (&path, "/healthz")]), None),
        (service("targetPorts: {https: http},", &[(&aws("protocol"), "http"), (&aws("path"), "/healthz")]), None),
        (service("", &[(&aws("protocol"), "http"), (&aws("port"), "10254"), (&aws("path"), "/readyz")]), None),
        (service("externalTrafficPolicy: Local,", &[(&protocol, "https"), (&path, "/")]), None),
    ];
    let sets = rows.iter().map(|(values, _)| (values.clone(), values.clone())).collect();
    let answer = render(&sets);
    for (values, said) in &rows {
        let rendered = &answer.sets[values];
        assert_eq!(rendered.error, None, "{values}");
        match said {
            Some(said) => assert!(rendered.notes.contains(said), "{values}: {}", rendered.notes),
            None => assert!(!rendered.notes.contains("Of your values"), "{values}: {}", rendered.notes),
        }
    }
}
