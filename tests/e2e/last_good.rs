//! What outlives a replica: what is held, in a Secret that only one Role with resource names speaks of, and the objects of
//! the last configuration, on disk.

use std::collections::BTreeMap;
use std::time::Duration;

use handfast::demo::pki::{Authority, Issued, KeyType};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};

use crate::binary::issue;
use crate::support::load::{serial_of_chain, served};
use crate::support::rights::{installation, role};
use crate::support::runtime::block_on;
use crate::support::trial::{scratch, trials};
use crate::support::{ControlPlane, Handfast, Options, wait_until};

trials!(
    what_is_held_is_kept_in_the_secret_and_served_by_a_new_process,
    a_standby_that_never_saw_the_good_version_learns_it_and_keeps_it_when_it_leads,
    a_permission_that_is_taken_away_costs_the_copy_and_nothing_else,
    what_does_not_fit_into_a_secret_is_named_the_oldest_first,
    a_start_without_the_api_server_serves_what_was_saved,
);

/// The rights of a chart that serves the namespace `shop`.
const RIGHTS: [(Option<&str>, &str); 3] = [
    (None, "- {apiGroups: [networking.k8s.io], resources: [ingressclasses], verbs: [get, list, watch]}"),
    (
        Some("shop"),
        r#"
- {apiGroups: [""], resources: [services, secrets], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [get, list, watch]}
- {apiGroups: [networking.k8s.io], resources: [ingresses/status], verbs: [patch]}
- {apiGroups: [handfast.dev], resources: [tlspolicies], verbs: [get, list, watch]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
"#,
    ),
    (
        Some("edge"),
        r#"
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [handfast-leader], verbs: [get, update]}
"#,
    ),
];

const LAST_GOOD: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: last-good, namespace: edge, labels: {app: handfast}}\n";

/// What the copy takes.
fn last_good_role() -> String {
    let rules = r#"- {apiGroups: [""], resources: [secrets], resourceNames: [last-good], verbs: [get, patch]}"#;
    role("last-good", ("edge", "handfast"), Some("edge"), rules)
}

/// A cluster with the permissions of a chart that serves one namespace.
struct Cluster {
    plane: ControlPlane,
    kubeconfig: String,
    authority: Authority,
}

impl Cluster {
    fn start() -> Self {
        let plane = ControlPlane::start(Options::default());
        let kubeconfig = installation(&plane, &RIGHTS);
        plane.apply(LAST_GOOD);
        plane.apply(&last_good_role());
        Self { plane, kubeconfig, authority: Authority::new("Kept", UnixTime::now()).unwrap() }
    }

    fn handfast(&self, args: &[&str]) -> Handfast {
        let source = ["--source", "cluster", "--kubeconfig", &self.kubeconfig, "--watch-namespace", "shop"];
        let kept = ["--last-good-secret", "last-good", "--election-ttl", "5s"];
        Handfast::start(&self.plane, &[&source[..], &kept, args].concat())
    }

    /// Waits until a new process serves, and writes if there is no other.
    fn ready(&self, args: &[&str]) -> Handfast {
        let handfast = self.handfast(args);
        handfast.wait_until_ready();
        handfast
    }

    fn issue(&self, name: &str) -> Issued {
        issue(&self.authority, &[&host(name)], KeyType::EcdsaP256)
    }

    /// The Secret of a host; with so many bytes that mean nothing beside its certificate.
    fn put_secret(&self, name: &str, chain: &str, key: &str, ballast: usize) {
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": name, "namespace": "shop"}, "stringData": {"tls.crt": chain, "tls.key": key},
        });
        if ballast > 0 {
            secret["stringData"]["ca.crt"] = "x".repeat(ballast).into();
        }
        // Too large for the annotation of a client-side apply.
        let (said, succeeded) = self
            .plane
            .kubectl_with_input(&["apply", "--server-side", "--force-conflicts", "--filename=-"], &secret.to_string());
        assert!(succeeded, "{said}");
    }

    fn break_secret(&self, name: &str) {
        self.put_secret(name, "garbage", "garbage", 0);
    }

    fn put_host(&self, name: &str, issued: &Issued, ballast: usize) {
        self.put_secret(name, &issued.chain(), &issued.key, ballast);
        self.plane.apply(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{ingressClassName: handfast, tls: [{{hosts: [{host}], secretName: {name}}}], rules: [{{host: {host},\n\
             http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: echo, port: {{number: 80}}}}}}}}]}}}}]}}\n",
            host = host(name)
        ));
    }

    /// The serial number of what a client of a host sees.
    fn served(&self, handfast: &Handfast, name: &str) -> Result<String, String> {
        served(handfast.https, &host(name), &self.authority.root())
    }

    fn wait_until_served(&self, handfast: &Handfast, name: &str, issued: &Issued) {
        let serial = serial_of_chain(&issued.chain());
        wait_until(&format!("{name} is served"), || self.served(handfast, name).as_ref() == Ok(&serial));
    }

    /// What is in the Secret for what is held.
    fn kept(&self) -> BTreeMap<String, Vec<u8>> {
        let api: Api<Secret> = Api::namespaced(self.plane.client(), "edge");
        let secret = block_on(async move { api.get("last-good").await.unwrap() });
        secret.data.unwrap_or_default().into_iter().map(|(name, ByteString(text))| (name, text)).collect()
    }

    fn wait_until_kept(&self, names: &[&str]) {
        wait_until(&format!("{names:?} are kept"), || self.kept().keys().eq(names));
    }

    fn leads(&self, handfast: &Handfast) -> bool {
        handfast.metric("handfast_leader", &[]) == 1.0
    }
}

fn host(name: &str) -> String {
    format!("{name}.test")
}

/// How often the log says something.
fn said(handfast: &Handfast, text: &str) -> usize {
    handfast.process.said().matches(text).count()
}

fn what_is_held_is_kept_in_the_secret_and_served_by_a_new_process() {
    let cluster = Cluster::start();
    let good = cluster.issue("web");
    cluster.put_host("web", &good, 0);
    let first = cluster.ready(&[]);
    cluster.wait_until_served(&first, "web", &good);
    assert!(cluster.kept().is_empty(), "nothing is held while all is well");
    cluster.break_secret("web");
    cluster.wait_until_kept(&["secret_shop_web.json"]);
    let text = String::from_utf8(cluster.kept().remove("secret_shop_web.json").unwrap()).unwrap();
    let stored: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stored["format"], "handfast.dev/held-secret.v1");
    let labels =
        cluster.plane.kubectl(&["get", "secret", "last-good", "-n", "edge", "-o", "jsonpath={.metadata.labels}"]);
    assert!(labels.contains("handfast"), "what is not ours stays: {labels}");
    first.end();

    let second = cluster.ready(&[]);
    assert_eq!(cluster.served(&second, "web"), Ok(serial_of_chain(&good.chain())), "at once");
    assert_eq!(second.metric("handfast_host_serving", &[r#"state="last_good""#]), 1.0);
    assert_eq!(second.metric("handfast_last_good_secret_entries", &[]), 1.0);
    wait_until("it leads", || cluster.leads(&second));
    assert_eq!(cluster.kept().len(), 1);
    let mended = cluster.issue("web");
    cluster.put_secret("web", &mended.chain(), &mended.key, 0);
    cluster.wait_until_served(&second, "web", &mended);
    cluster.wait_until_kept(&[]);

    // A Secret that nobody refers to any more.
    cluster.break_secret("web");
    cluster.wait_until_kept(&["secret_shop_web.json"]);
    cluster.plane.kubectl(&["delete", "ingress", "web", "-n", "shop"]);
    cluster.wait_until_kept(&[]);
    let log = second.process.said();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("held cannot"), "{log}");
    assert_eq!(second.metric("handfast_last_good_secret_failures_total", &[]), 0.0);
}

fn a_standby_that_never_saw_the_good_version_learns_it_and_keeps_it_when_it_leads() {
    let cluster = Cluster::start();
    let good = cluster.issue("web");
    cluster.put_host("web", &good, 0);
    let leader = cluster.ready(&[]);
    cluster.wait_until_served(&leader, "web", &good);
    wait_until("it leads", || cluster.leads(&leader));
    // The permission comes late, so that the second replica starts when the Secret is broken and nothing is kept yet.
    cluster.plane.kubectl(&["delete", "rolebinding", "last-good", "-n", "edge"]);
    cluster.break_secret("web");
    wait_until("the leader holds it", || leader.metric("handfast_host_serving", &[r#"state="last_good""#]) == 1.0);
    let standby = cluster.ready(&[]);
    assert!(cluster.served(&standby, "web").is_err());
    assert!(cluster.kept().is_empty());
    cluster.plane.apply(&last_good_role());
    cluster.wait_until_kept(&["secret_shop_web.json"]);
    cluster.wait_until_served(&standby, "web", &good);
    drop(leader);
    wait_until("the standby leads", || cluster.leads(&standby));
    cluster.plane.kubectl(&["delete", "secret", "web", "-n", "shop"]);
    wait_until("it was written by the new leader", || {
        cluster.kept().values().any(|text| String::from_utf8_lossy(text).contains("deletedAt"))
    });
    cluster.wait_until_served(&standby, "web", &good);
}

fn a_permission_that_is_taken_away_costs_the_copy_and_nothing_else() {
    let cluster = Cluster::start();
    let good = cluster.issue("web");
    cluster.put_host("web", &good, 0);
    cluster.plane.kubectl(&["delete", "rolebinding", "last-good", "-n", "edge"]);
    let handfast = cluster.ready(&[]);
    cluster.wait_until_served(&handfast, "web", &good);
    wait_until("it leads", || cluster.leads(&handfast));
    cluster.break_secret("web");
    wait_until("it is held", || handfast.metric("handfast_host_serving", &[r#"state="last_good""#]) == 1.0);
    wait_until("it was tried", || handfast.metric("handfast_last_good_secret_failures_total", &[]) > 0.0);
    assert_eq!(cluster.served(&handfast, "web"), Ok(serial_of_chain(&good.chain())));
    assert_eq!(said(&handfast, "may not be used"), 1, "{}", handfast.process.said());
    assert!(cluster.kept().is_empty());
    cluster.plane.apply(&last_good_role());
    cluster.wait_until_kept(&["secret_shop_web.json"]);
    handfast.wait_for_line("works again");

    // Without the Secret it is the same.
    cluster.plane.kubectl(&["delete", "secret", "last-good", "-n", "edge"]);
    handfast.wait_for_line("does not exist");
    assert_eq!(cluster.served(&handfast, "web"), Ok(serial_of_chain(&good.chain())));
    cluster.plane.apply(LAST_GOOD);
    cluster.wait_until_kept(&["secret_shop_web.json"]);
    assert_eq!(said(&handfast, "does not exist"), 1);
}

fn what_does_not_fit_into_a_secret_is_named_the_oldest_first() {
    const LIMIT: usize = 900 << 10;
    let cluster = Cluster::start();
    // Six of them, in base64, are less than the limit; seven are more.
    let names: Vec<String> = (0..8).map(|number| format!("h{number}")).collect();
    let issued: Vec<Issued> = names.iter().map(|name| cluster.issue(name)).collect();
    for (name, issued) in names.iter().zip(&issued) {
        cluster.put_host(name, issued, 100_000);
    }
    let huge = cluster.issue("huge");
    cluster.put_host("huge", &huge, 800_000);
    let handfast = cluster.ready(&[]);
    cluster.wait_until_served(&handfast, "huge", &huge);
    wait_until("it leads", || cluster.leads(&handfast));
    for (index, name) in names.iter().enumerate() {
        cluster.break_secret(name);
        let held = (index + 1) as f64;
        wait_until("it is held", || handfast.metric("handfast_host_serving", &[r#"state="last_good""#]) == held);
        // What was held since is told in seconds.
        let until = std::time::Instant::now() + Duration::from_millis(1100);
        wait_until("a second has passed", || std::time::Instant::now() >= until);
    }
    let newest: Vec<String> = names[2..].iter().map(|name| format!("secret_shop_{name}.json")).collect();
    let newest: Vec<&str> = newest.iter().map(String::as_str).collect();
    cluster.wait_until_kept(&newest);
    let bytes: usize = cluster.kept().iter().map(|(name, text)| name.len() + text.len()).sum();
    assert!(bytes <= LIMIT && bytes > LIMIT / 2, "{bytes}");
    assert_eq!(handfast.metric("handfast_last_good_secret_bytes", &[]), bytes as f64);
    assert_eq!(handfast.metric("handfast_last_good_secret_dropped", &[]), 2.0);
    handfast.wait_for_line("More is held than fits into a Secret");
    let log = handfast.process.said();
    let named: String = log.lines().filter(|line| line.contains("More is held")).collect();
    let is_named = |name: &str| named.contains(&format!("Secret shop/{name}"));
    assert_eq!([is_named("h0"), is_named("h1"), is_named("h2")], [true, true, false], "{named}");
    cluster.break_secret("huge");
    handfast.wait_for_line("Secret shop/huge is too large");
    cluster.wait_until_kept(&newest);
    for (name, issued) in names.iter().zip(&issued).chain([(&"huge".to_owned(), &huge)]) {
        assert_eq!(cluster.served(&handfast, name), Ok(serial_of_chain(&issued.chain())), "{name}");
    }
    // There is room again for one that had none.
    cluster.put_secret("h7", &issued[7].chain(), &issued[7].key, 0);
    cluster.put_secret("h6", &issued[6].chain(), &issued[6].key, 0);
    let oldest: Vec<String> = names[..6].iter().map(|name| format!("secret_shop_{name}.json")).collect();
    cluster.wait_until_kept(&oldest.iter().map(String::as_str).collect::<Vec<_>>());
}

fn a_start_without_the_api_server_serves_what_was_saved() {
    let cluster = Cluster::start();
    let (web, api) = (cluster.issue("web"), cluster.issue("api"));
    cluster.put_host("web", &web, 0);
    cluster.put_host("api", &api, 0);
    let directory = scratch().join("state");
    let state = ["--state-dir", directory.to_str().unwrap()];
    let first = cluster.ready(&state);
    cluster.wait_until_served(&first, "api", &api);
    cluster.break_secret("web");
    wait_until("it is held", || first.metric("handfast_host_serving", &[r#"state="last_good""#]) == 1.0);
    first.process.signal("TERM");
    assert!(first.process.wait().success());
    let sandbox = first.end();
    cluster.plane.kill();

    let source = ["--source", "cluster", "--kubeconfig", &cluster.kubeconfig, "--watch-namespace", "shop"];
    let kept = ["--last-good-secret", "last-good", "--election-ttl", "5s"];
    let second = Handfast::start_in(sandbox, &cluster.plane, &[&source[..], &kept, &state].concat());
    second.wait_until_ready();
    assert_eq!(cluster.served(&second, "api"), Ok(serial_of_chain(&api.chain())));
    assert_eq!(cluster.served(&second, "web"), Ok(serial_of_chain(&web.chain())), "and what was held");
    second.wait_for_line("serves the saved objects of --state-dir");
    second.wait_for_line("cannot be reached");

    // What happens while it is away is caught up with.
    cluster.plane.revive();
    let renewed = cluster.issue("api");
    cluster.put_secret("api", &renewed.chain(), &renewed.key, 0);
    cluster.wait_until_served(&second, "api", &renewed);
    cluster.plane.kubectl(&["delete", "ingress", "api", "-n", "shop"]);
    wait_until("it is gone", || cluster.served(&second, "api").is_err());
    cluster.wait_until_kept(&["secret_shop_web.json"]);
    let log = second.process.said();
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}
