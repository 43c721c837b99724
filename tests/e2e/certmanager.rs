//! What cert-manager does to a cluster while it gets a certificate from an ACME authority (HTTP-01): an Ingress of its
//! own beside the user's, for a token's path, while the Secret of the host does not exist yet. The authority asks over plain HTTP.

use serde_json::{Value, json};

use crate::support::ask::{self, settle};
use crate::support::load::{serial_of_chain, served};
use crate::support::manifests::{self, Ingress, apply, authority, issue, tls_secret};
use crate::support::trial::trials;
use crate::support::{ControlPlane, Handfast, wait_until};

trials!(challenges_are_answered_before_there_is_a_certificate_which_is_then_taken_up);

const CHALLENGES: &str = "/.well-known/acme-challenge";

/// The user's Ingress: everything by HTTPS, with a certificate that is to be made.
fn user(host: &str) -> Ingress {
    Ingress::new(&host.replace('.', "-"))
        .annotation("cert-manager.io/cluster-issuer", "letsencrypt")
        .annotation("nginx.ingress.kubernetes.io/ssl-redirect", "true")
        .annotation("nginx.ingress.kubernetes.io/force-ssl-redirect", "true")
        .annotation("nginx.ingress.kubernetes.io/whitelist-source-range", "192.0.2.0/24")
        .tls(&[host], &format!("{host}-tls"))
}

/// The solver's Ingress as cert-manager writes it; it names its class either way.
fn solver(host: &str, token: &str, kind: &str, by_annotation: bool) -> Value {
    let ingress = Ingress::new(&format!("cm-acme-http-solver-{token}"))
        .annotation("nginx.ingress.kubernetes.io/whitelist-source-range", "0.0.0.0/0,::/0")
        .label("acme.cert-manager.io/http01-solver", "true")
        .label("acme.cert-manager.io/http-domain", "1234567890")
        .label("acme.cert-manager.io/http-token", "1234567890");
    let ingress =
        if by_annotation { ingress.class("").annotation("kubernetes.io/ingress.class", "handfast") } else { ingress };
    ingress.rule(host, &[(kind, &format!("{CHALLENGES}/{token}"), "solver:8089")]).object()
}

/// The Secret that cert-manager makes of the authority's answer.
fn certificate(name: &str, host: &str, issued: &handfast::demo::pki::Issued) -> Value {
    let mut secret = tls_secret("default", name, issued);
    secret["metadata"]["annotations"] = json!({"cert-manager.io/certificate-name": name,
        "cert-manager.io/common-name": host, "cert-manager.io/issuer-kind": "ClusterIssuer",
        "cert-manager.io/issuer-name": "letsencrypt", "cert-manager.io/alt-names": host});
    secret["metadata"]["labels"] = json!({"controller.cert-manager.io/fao": "true"});
    secret
}

fn events(plane: &ControlPlane, ingress: &str) -> String {
    let selector = format!("--field-selector=involvedObject.kind=Ingress,involvedObject.name={ingress}");
    plane.kubectl(&[
        "get",
        "events",
        &selector,
        "--output=jsonpath={range .items[*]}{.type} {.reason}: {.message}\n{end}",
    ])
}

fn challenges_are_answered_before_there_is_a_certificate_which_is_then_taken_up() {
    const HOSTS: [&str; 4] = ["field.test", "annotation.test", "unspecific.test", "edited.test"];
    let plane = manifests::cluster();
    let (app, app_objects) = manifests::backend(&plane, "default", "app");
    let (solved, _) = manifests::backend(&plane, "default", "solver");
    let challenge = |token: &str| format!("{CHALLENGES}/{token}");
    let edited = || {
        // Edit in place: the path is put into the user's own Ingress, and its annotations hold for it, too.
        user("edited.test").rule(
            "edited.test",
            &[("Prefix", "/", "app"), ("ImplementationSpecific", &challenge("edited"), "solver:8089")],
        )
    };
    let users = HOSTS[..3].iter().map(|host| user(host).all(host, "app").object());
    let mut objects: Vec<Value> = users.chain([edited().object()]).chain(app_objects).collect();
    objects.extend([
        manifests::service("default", "solver", &[(8089, "http", 8089)]),
        manifests::slice("default", "solver", &[("http", manifests::BACKEND_PORT)], &[solved.address]),
    ]);
    apply(&plane, objects);
    let handfast = Handfast::start(&plane, &["--source", "cluster", "--publish-status-address", "192.0.2.10"]);
    handfast.wait_until_ready();
    let root = authority();
    let http = |host: &str, path: &str| ask::http(handfast.http, host, path);

    // Before: everything is sent to HTTPS, where nobody can be served yet; that is said once, as a warning.
    settle("no certificate", &HOSTS.map(|host| format!("308 https://{host}/")), || HOSTS.map(|host| http(host, "/")));
    for host in HOSTS {
        let outcome = served(handfast.https, host, &root.root());
        assert!(outcome.is_err(), "{host}: {outcome:?}");
        let labels = [format!("host=\"{host}\""), "state=\"refused\"".to_owned()];
        assert_eq!(handfast.metric("handfast_host_serving", &[&labels[0], &labels[1]]), 1.0, "{host}");
        let name = host.replace('.', "-");
        wait_until(&format!("an Event for {host}"), || events(&plane, &name).contains("Warning SecretNotFound"));
    }

    // The solver's Ingresses: answered over plain HTTP, whoever asks, and nothing else is open for it.
    apply(
        &plane,
        vec![
            solver("field.test", "field", "Exact", false),
            solver("annotation.test", "annotation", "Exact", true),
            solver("unspecific.test", "unspecific", "ImplementationSpecific", true),
        ],
    );
    let asked = || {
        HOSTS.map(|host| {
            let token = host.strip_suffix(".test").unwrap();
            [http(host, &challenge(token)), http(host, "/"), http(host, &format!("{CHALLENGES}x"))]
        })
    };
    let expected = HOSTS
        .map(|host| ["solver".to_owned(), format!("308 https://{host}/"), format!("308 https://{host}{CHALLENGES}x")]);
    settle("challenges", &expected, asked);
    assert_eq!(handfast.metric("handfast_diagnostics", &["restricting-annotation"]), 0.0);
    let before = solved.requests();
    let answers: Vec<String> = (0..20).map(|_| http("field.test", &challenge("field"))).collect();
    assert!(answers.iter().all(|answer| answer == "solver"), "{answers:?}");
    assert_eq!(solved.requests(), before + 20);
    assert!(served(handfast.https, "field.test", &root.root()).is_err(), "the Secret does not exist yet");

    // The private key for the next certificate stands in a Secret of another type meanwhile: nobody minds.
    plane.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: field-tls-x1b2c, namespace: default, labels: {cert-manager.io/next-private-key: 'true'}}\ntype: Opaque\nstringData: {tls.key: unfinished}\n");

    // The certificates come, one after the other; each is served at once, and the solver goes.
    for host in HOSTS {
        let issued = issue(&root, &[host]);
        apply(&plane, vec![certificate(&format!("{host}-tls"), host, &issued)]);
        let serial = serial_of_chain(&issued.leaf);
        wait_until(&format!("a handshake for {host}"), || {
            served(handfast.https, host, &root.root()).as_ref() == Ok(&serial)
        });
        let token = host.strip_suffix(".test").unwrap();
        assert_eq!(http(host, &challenge(token)), "solver", "the solver is still there");
        match token {
            "edited" => apply(&plane, vec![user(host).all(host, "app").object()]),
            token => drop(plane.kubectl(&["delete", "ingress", &format!("cm-acme-http-solver-{token}")])),
        }
    }
    // Without a solver a challenge belongs to the application, which may answer it itself: it is never redirected.
    let expected = HOSTS.map(|host| ["app".to_owned(), format!("308 https://{host}/")]);
    settle("after all", &expected, || HOSTS.map(|host| [http(host, &challenge("next")), http(host, "/")]));
    assert!(app.requests() >= HOSTS.len());
    assert_eq!(handfast.metric("handfast_host_serving", &["state=\"current\""]), 4.0);
    assert_eq!(handfast.metric("handfast_diagnostics", &["secret-not-found"]), 0.0);
    wait_until("all have a status", || {
        let addresses =
            plane.kubectl(&["get", "ingress", "--output=jsonpath={.items[*].status.loadBalancer.ingress[*].ip}"]);
        addresses.split_whitespace().count() == HOSTS.len()
    });
}
