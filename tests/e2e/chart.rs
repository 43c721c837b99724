//! The chart in a real cluster: everything that it renders to is taken, the controller runs with exactly the rights that
//! it gives, and upgrades leave alone what the controller wrote.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handfast::demo::pki::{Authority, Issued, KeyType};
use rustls::pki_types::UnixTime;
use serde_json::Value;

use crate::binary::{host, issue, secret};
use crate::support::kubelet::NODE;
use crate::support::load::{Target, get};
use crate::support::programs::checkout;
use crate::support::trial::{scratch, trials};
use crate::support::{ControlPlane, Kubelet, Options, backends, wait_until};

trials!(
    the_api_server_takes_what_every_set_of_values_comes_to,
    upgrades_and_rollbacks_leave_alone_what_the_controller_wrote,
    the_definition_of_tls_policy_can_move_into_the_release_and_outlives_it,
    no_right_is_missing_and_none_is_unused,
    a_certificate_for_the_webhook_may_come_after_its_configuration,
);

fn chart() -> String {
    checkout("charts/handfast").display().to_string()
}

fn json(plane: &ControlPlane, args: &[&str]) -> Value {
    let text = plane.kubectl(&[args, &["--output=json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A namespace in which the API server warns of pods that are not restricted.
fn namespace(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{pod-security.kubernetes.io/warn: restricted}}}}\n---\n"
    )
}

/// A definition that takes anything.
fn definition(group: &str, kind: &str) -> String {
    let singular = kind.to_lowercase();
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {singular}s.{group}}}\n\
         spec:\n  group: {group}\n  scope: Namespaced\n  names: {{kind: {kind}, plural: {singular}s, singular: {singular}}}\n  \
         versions:\n  - name: v1\n    served: true\n    storage: true\n    schema:\n      openAPIV3Schema: \
         {{type: object, x-kubernetes-preserve-unknown-fields: true}}\n---\n"
    )
}

fn the_api_server_takes_what_every_set_of_values_comes_to() {
    let plane = ControlPlane::start(Options::default());
    let foreign = [
        ("monitoring.coreos.com", "ServiceMonitor"),
        ("monitoring.coreos.com", "PrometheusRule"),
        ("cert-manager.io", "Issuer"),
        ("cert-manager.io", "Certificate"),
    ];
    let definitions: String = foreign.iter().map(|(group, kind)| definition(group, kind)).collect();
    plane.apply(&definitions);
    plane.apply(&["ingress", "shop", "shop-test"].map(namespace).concat());
    for (group, kind) in foreign {
        let name = format!("crd/{}s.{group}", kind.to_lowercase());
        plane.kubectl(&["wait", "--for=condition=Established", &name, "--timeout=60s"]);
    }
    let mut sets: Vec<PathBuf> =
        fs::read_dir(checkout("charts/handfast/ci")).unwrap().map(|entry| entry.unwrap().path()).collect();
    sets.sort();
    assert!(sets.len() >= 6);
    for values in sets {
        let name = values.file_name().unwrap().to_str().unwrap();
        let rendered =
            plane.helm(&["template", "edge", &chart(), "--namespace=ingress", "--values", values.to_str().unwrap()]);
        let run = |args: &[&str]| {
            let (text, succeeded) = plane.kubectl_with_input(args, &rendered);
            assert!(succeeded, "{name}: kubectl {}: {text}", args.join(" "));
            text
        };
        run(&["apply", "--validate=strict", "--dry-run=server", "--filename=-"]);
        let text = run(&["apply", "--validate=strict", "--server-side", "--filename=-"]);
        // Only who asks for the ports of the node is told that this is not restricted.
        assert_eq!(text.contains("Warning"), name.contains("-host-"), "{name}: {text}");
        run(&["delete", "--filename=-", "--timeout=60s"]);
    }
}

/// helm with a release `edge` of the chart in namespace `edge`.
fn release(plane: &ControlPlane, args: &[&str]) -> String {
    plane.helm(&[args, &["edge", &chart(), "--namespace=edge"]].concat())
}

fn upgrades_and_rollbacks_leave_alone_what_the_controller_wrote() {
    let plane = ControlPlane::start(Options::default());
    let webhook = "--set=controller.admissionWebhooks.enabled=true";
    release(&plane, &["install", "--create-namespace", webhook]);
    // As the controller writes: a patch by name, a whole object, an entry of a list.
    let patch = |what: &[&str], kind: &str, patch: &str| {
        let manager = ["--namespace=edge", "--field-manager=handfast", "--type", kind, "--patch", patch];
        plane.kubectl(&[&["patch"][..], what, &manager].concat());
    };
    patch(&["secret", "edge-handfast-last-good"], "merge", r#"{"data":{"held":"aGVsZA=="}}"#);
    let mut kept = json(&plane, &["get", "secret", "edge-handfast-webhook", "--namespace=edge"]);
    kept["data"] = serde_json::json!({"tls.crt": "Y2VydA==", "tls.key": "a2V5"});
    let (text, succeeded) =
        plane.kubectl_with_input(&["replace", "--field-manager=handfast", "--filename=-"], &kept.to_string());
    assert!(succeeded, "{text}");
    let name = "ingresses.handfast.dev";
    let bundle = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K";
    let entry = format!(r#"{{"webhooks":[{{"name":"{name}","clientConfig":{{"caBundle":"{bundle}"}}}}]}}"#);
    let configuration = "validatingwebhookconfiguration";
    let (text, succeeded) = plane.try_kubectl(&[
        "patch",
        configuration,
        "edge-handfast-webhook",
        "--field-manager=handfast",
        "--type=strategic",
        "--patch",
        &entry,
    ]);
    assert!(succeeded, "{text}");

    let holds = |after: &str| {
        let last_good = json(&plane, &["get", "secret", "edge-handfast-last-good", "--namespace=edge"]);
        assert_eq!(last_good["data"]["held"], "aGVsZA==", "{after}");
        let kept = json(&plane, &["get", "secret", "edge-handfast-webhook", "--namespace=edge"]);
        assert_eq!(kept["data"]["tls.key"], "a2V5", "{after}");
        let found = json(&plane, &["get", configuration, "edge-handfast-webhook"]);
        let webhooks = found["webhooks"].as_array().unwrap();
        let entry = webhooks.iter().find(|webhook| webhook["name"] == name).unwrap();
        assert_eq!(entry["clientConfig"]["caBundle"], bundle, "{after}");
    };
    release(&plane, &["upgrade", webhook]);
    holds("an upgrade that changes nothing");
    release(
        &plane,
        &["upgrade", webhook, "--set=commonLabels.team=edge", "--set=controller.admissionWebhooks.timeoutSeconds=3"],
    );
    holds("an upgrade that changes labels and the configuration");
    release(&plane, &["upgrade", webhook, "--set=commonLabels.team=shop", "--server-side=false"]);
    holds("an upgrade by a three-way merge, as Helm 3 does it");
    plane.helm(&["rollback", "edge", "1", "--namespace=edge"]);
    holds("a rollback");
    // No key gets into what helm keeps of a release.
    let manifest = plane.helm(&["get", "manifest", "edge", "--namespace=edge"]);
    assert!(!manifest.contains("a2V5") && !manifest.contains("aGVsZA=="), "{manifest}");
    plane.helm(&["uninstall", "edge", "--namespace=edge"]);
    let (text, _) = plane.try_kubectl(&["get", "secret", "--namespace=edge", "--output=name"]);
    assert!(!text.contains("edge-handfast"), "{text}");
}

fn the_definition_of_tls_policy_can_move_into_the_release_and_outlives_it() {
    let plane = ControlPlane::start(Options::default());
    let has_definition = || plane.try_kubectl(&["get", "crd", "tlspolicies.handfast.dev"]).1;
    release(&plane, &["install", "--create-namespace"]);
    assert!(has_definition());
    release(&plane, &["upgrade", "--set=crds.install=true", "--take-ownership"]);
    release(&plane, &["upgrade", "--set=crds.install=true"]);
    plane.helm(&["uninstall", "edge", "--namespace=edge"]);
    assert!(has_definition(), "policies must not go with the controller");
    plane.kubectl(&["delete", "crd", "tlspolicies.handfast.dev"]);
    release(&plane, &["install", "--skip-crds", "--set=crds.install=true"]);
    assert!(has_definition());
}

/// What is kept of all requests of one service account.
struct Audit {
    log: PathBuf,
}

/// A request, as rules of RBAC speak of it.
#[derive(Debug)]
struct Request {
    verb: String,
    group: String,
    resource: String,
    namespace: String,
    name: String,
    status: u64,
}

impl Audit {
    /// With the flags of the API server that make it.
    fn new(account: &str) -> (Self, Vec<String>) {
        let (policy, log) = (scratch().join("audit.yaml"), scratch().join("audit.log"));
        let text = format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
             - {{level: Metadata, users: [\"system:serviceaccount:{account}\"]}}\n- {{level: None}}\n"
        );
        fs::write(&policy, text).unwrap();
        let flags = [
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", log.display()),
            "--audit-log-mode=blocking".to_owned(),
        ];
        (Self { log }, flags.into())
    }

    fn requests(&self) -> Vec<Request> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let read = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            let object = &event["objectRef"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let resource = match object["subresource"].as_str() {
                Some(part) => format!("{}/{part}", text(&object["resource"])),
                None => text(&object["resource"]),
            };
            Some(Request {
                verb: text(&event["verb"]),
                group: text(&object["apiGroup"]),
                resource,
                namespace: text(&object["namespace"]),
                name: text(&object["name"]),
                status: event["responseStatus"]["code"].as_u64()?,
            })
        };
        text.lines().filter_map(read).collect()
    }
}

/// One verb on one resource that a role allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// Empty for all.
    namespace: String,
    group: String,
    resource: String,
    /// Empty for all.
    name: String,
    verb: String,
}

impl Right {
    fn allows(&self, request: &Request) -> bool {
        (self.namespace.is_empty() || self.namespace == request.namespace)
            && (self.name.is_empty() || self.name == request.name)
            && (&self.group, &self.resource, &self.verb) == (&request.group, &request.resource, &request.verb)
    }
}

/// What the roles of the release allow.
fn rights(plane: &ControlPlane) -> BTreeSet<Right> {
    let mut found = BTreeSet::new();
    let kinds = ["get", "clusterroles,roles", "--all-namespaces", "--selector=app.kubernetes.io/instance=edge"];
    for role in json(plane, &kinds)["items"].as_array().unwrap() {
        for rule in role["rules"].as_array().unwrap() {
            let texts = |key: &str| -> Vec<String> {
                let list = rule[key].as_array().into_iter().flatten();
                list.map(|text| text.as_str().unwrap().to_owned()).collect()
            };
            let names = match texts("resourceNames") {
                names if names.is_empty() => vec![String::new()],
                names => names,
            };
            for (group, resource) in texts("apiGroups")
                .iter()
                .flat_map(|group| texts("resources").into_iter().map(move |resource| (group.clone(), resource)))
            {
                for name in &names {
                    found.extend(texts("verbs").into_iter().map(|verb| Right {
                        namespace: role["metadata"]["namespace"].as_str().unwrap_or_default().to_owned(),
                        group: group.clone(),
                        resource: resource.clone(),
                        name: name.clone(),
                        verb,
                    }));
                }
            }
        }
    }
    found
}

/// A cluster with one host, in which the chart is installed with one set of values after another.
struct Cluster {
    authority: Authority,
    kubelet: Kubelet,
    plane: ControlPlane,
    audit: Audit,
    _echo: backends::Service,
}

/// A set of values, and what comes of it.
struct Set {
    name: &'static str,
    values: &'static [&'static str],
    pods: usize,
    /// What is published; without, the address of the node.
    address: Option<&'static str>,
    /// What the controller asks for and does without.
    refused: &'static [&'static str],
}

const SETS: [Set; 4] = [
    Set {
        name: "webhook",
        values: &[
            "--set=controller.admissionWebhooks.enabled=true",
            "--set=controller.updateStatusOnShutdown=true",
            "--set=controller.electionTTL=5s",
        ],
        pods: 2,
        address: Some("192.0.2.1"),
        refused: &[],
    },
    Set {
        name: "nodes",
        values: &[
            "--set=controller.kind=DaemonSet",
            "--set=controller.publishNodeAddresses=true",
            "--set=controller.service.type=ClusterIP",
        ],
        pods: 1,
        address: None,
        refused: &[],
    },
    Set {
        name: "selector",
        values: &[
            "--set=controller.scope.enabled=true",
            "--set=controller.scope.namespaceSelector=team=shop",
            "--set=controller.replicaCount=1",
        ],
        pods: 1,
        address: Some("192.0.2.2"),
        refused: &[],
    },
    Set {
        name: "roles",
        values: &[
            "--set=controller.scope.enabled=true",
            "--set=controller.scope.namespace=default",
            "--set=rbac.scope=true",
            "--set=controller.replicaCount=1",
        ],
        pods: 1,
        address: Some("192.0.2.3"),
        refused: &["ingressclasses"],
    },
];

const PUBLISHED: [&str; 4] = ["get", "ingress", "shop", "--output=jsonpath={.status.loadBalancer.ingress[0].ip}"];

impl Cluster {
    fn new() -> Self {
        let (audit, api_flags) = Audit::new("edge:edge-handfast");
        let plane = ControlPlane::start(Options { api_flags, ..Options::default() });
        let kubelet = Kubelet::start(&plane);
        plane.apply(&namespace("edge").replace("/warn", "/enforce"));
        plane.kubectl(&["label", "namespace", "default", "team=shop"]);
        let authority = Authority::new("Test", UnixTime::now()).unwrap();
        let echo = backends::Service::start(&plane, "default", "echo", 1);
        let (_, manifests) =
            host("shop", "shop.test", Some(&issue(&authority, &["shop.test"], KeyType::EcdsaP256)), "echo", "");
        plane.apply(&manifests.replacen("spec:\n", "spec:\n  ingressClassName: handfast\n", 1));
        Self { authority, kubelet, plane, audit, _echo: echo }
    }

    /// Has the controller do everything that it can with these values, and looks at what it asked for.
    fn play(&self, set: &Set) {
        let before = self.audit.requests().len();
        let run = Run { cluster: self, before };
        let plane = &self.plane;
        release(plane, &[&["install", "--set=controller.unreadyDelaySeconds=5"][..], set.values].concat());
        run.wait_until_served(set.pods);
        run.publish(set.address);
        run.refer_to_a_secret_that_is_no_certificate();
        run.break_the_certificate();
        if set.name == "webhook" {
            run.wait_until_done("patch", "validatingwebhookconfigurations");
        }
        run.wait_until_served(set.pods);
        let rights = rights(plane);
        if set.name == "webhook" {
            run.end_one_after_the_other();
        }
        // What is uninstalled loses its rights while it ends.
        let requests = run.requests();
        release_is_gone(self);
        let refused: Vec<_> = requests
            .iter()
            .filter(|request| request.status == 403 && !set.refused.contains(&request.resource.as_str()))
            .collect();
        assert!(refused.is_empty(), "{}: a right is missing: {refused:#?}", set.name);
        assert!(rights.len() > 20 && requests.len() > rights.len(), "{}: {rights:?}", set.name);
        let is_used = |right: &Right| requests.iter().any(|request| request.status != 403 && right.allows(request));
        let unused: Vec<_> = rights.iter().filter(|right| !is_used(right)).collect();
        assert!(unused.is_empty(), "{}: these are unused: {unused:#?}", set.name);
        println!("{}: {} rights, {} requests", set.name, rights.len(), requests.len());
    }
}

/// Uninstalls the release, and takes away what else the controller wrote, so that the next one has all of it to do.
fn release_is_gone(cluster: &Cluster) {
    let plane = &cluster.plane;
    plane.helm(&["uninstall", "edge", "--namespace=edge"]);
    wait_until("all replicas have ended", || cluster.kubelet.pods("edge").is_empty());
    plane.kubectl(&["delete", "lease", "edge-handfast-leader", "--namespace=edge"]);
    plane.kubectl(&["delete", "events.events.k8s.io", "--all"]);
    plane.kubectl(&["annotate", "ingress", "shop", "handfast.dev/tls-policy-"]);
    plane.kubectl(&["delete", "tlspolicy/clients", "secret/clients"]);
    plane.apply(&secret("shop", &issue(&cluster.authority, &["shop.test"], KeyType::EcdsaP256)));
}

/// One installation.
struct Run<'a> {
    cluster: &'a Cluster,
    /// How many requests were there before.
    before: usize,
}

impl Run<'_> {
    fn requests(&self) -> Vec<Request> {
        self.cluster.audit.requests().split_off(self.before)
    }

    fn has_done(&self, verb: &str, resource: &str) -> bool {
        let done = |request: &Request| request.verb == verb && request.resource == resource && request.status < 300;
        self.requests().iter().any(done)
    }

    fn wait_until_done(&self, verb: &str, resource: &str) {
        wait_until(&format!("{verb} {resource}"), || self.has_done(verb, resource));
    }

    fn wait_until_served(&self, pods: usize) {
        for pod in self.cluster.kubelet.wait_for_ready("edge", pods) {
            let (address, roots) = ((pod.address().unwrap(), 8443).into(), self.cluster.authority.root());
            let target = Target { address, host: "shop.test".into(), path: "/".into(), roots };
            wait_until("the host is served", || get(&target).is_ok_and(|answer| answer.0 == 200));
        }
    }

    /// Gives the Service its address, where that is what is published.
    fn publish(&self, address: Option<&str>) {
        let plane = &self.cluster.plane;
        let node = "--output=jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
        let expected = match address {
            Some(address) => {
                let status = format!(r#"--patch={{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{address}"}}]}}}}}}"#);
                let service = ["service", "edge-handfast", "--namespace=edge", "--subresource=status", "--type=merge"];
                plane.kubectl(&[&["patch"][..], &service, &[&status]].concat());
                address.to_owned()
            }
            None => plane.kubectl(&["get", "node", NODE, node]),
        };
        wait_until("the address is published", || plane.kubectl(&PUBLISHED) == expected);
    }

    /// It is read by name, and the policy that names it gets conditions.
    fn refer_to_a_secret_that_is_no_certificate(&self) {
        let plane = &self.cluster.plane;
        let authority = Authority::new("Clients", UnixTime::now()).unwrap();
        let roots = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "clients"}, "stringData": {"ca.crt": authority.root()},
        });
        plane.apply(&format!(
            "{roots}\n---\napiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: clients}}\n\
             spec: {{clientAuth: {{mode: optional, caSecret: clients}}}}\n"
        ));
        plane.kubectl(&["annotate", "ingress", "shop", "handfast.dev/tls-policy=clients"]);
        self.wait_until_done("get", "secrets");
        self.wait_until_done("patch", "tlspolicies/status");
    }

    /// What was served stays served and is kept; what is wrong is told, and told again.
    fn break_the_certificate(&self) {
        let plane = &self.cluster.plane;
        let good = secret("shop", &issue(&self.cluster.authority, &["shop.test"], KeyType::EcdsaP256));
        let broken = r#"--patch={"stringData":{"tls.crt":"garbage"}}"#;
        let mut rounds = 0;
        wait_until("an Event is told again", || {
            rounds += 1;
            assert!(rounds < 100, "{:?}", self.requests().iter().filter(|one| one.status >= 400).collect::<Vec<_>>());
            plane.kubectl(&["patch", "secret", "shop", "--type=merge", broken]);
            self.wait_until_done("create", "events");
            plane.apply(&good);
            self.has_done("patch", "events")
        });
        plane.kubectl(&["patch", "secret", "shop", "--type=merge", broken]);
        let held =
            || json(plane, &["get", "secret", "edge-handfast-last-good", "--namespace=edge"]).get("data").is_some();
        wait_until("the last good version is kept", held);
    }

    /// The last replica takes its addresses away.
    fn end_one_after_the_other(&self) {
        let (plane, kubelet) = (&self.cluster.plane, &self.cluster.kubelet);
        let scale = |count: &str| plane.kubectl(&["scale", "deployment", "edge-handfast", "--namespace=edge", count]);
        scale("--replicas=1");
        let last = kubelet.wait_for_ready("edge", 1).remove(0);
        let leader =
            ["get", "lease", "edge-handfast-leader", "--namespace=edge", "--output=jsonpath={.spec.holderIdentity}"];
        wait_until("the last replica writes", || plane.kubectl(&leader).starts_with(&last.name));
        scale("--replicas=0");
        wait_until("all replicas have ended", || kubelet.pods("edge").is_empty());
        assert_eq!(plane.kubectl(&PUBLISHED), "");
    }
}

fn no_right_is_missing_and_none_is_unused() {
    let cluster = Cluster::new();
    for set in &SETS {
        cluster.play(set);
    }
}

fn a_certificate_for_the_webhook_may_come_after_its_configuration() {
    let plane = ControlPlane::start(Options { proxy: true, ..Options::default() });
    let kubelet = Kubelet::start(&plane);
    plane.apply(&["edge", "shop"].map(namespace).concat());
    let name = "edge-handfast-webhook.edge.svc";
    let authority = Authority::new("Test", UnixTime::now()).unwrap();
    let webhook = "controller.admissionWebhooks";
    let (existing, bundle) = ("existingSecret=certificate", STANDARD.encode(authority.root()));
    let values = ["enabled=true", "deny=true", "failurePolicy=Fail", existing, &format!("caBundle={bundle}")];
    let values = values.map(|value| format!("--set={webhook}.{value}"));
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    release(&plane, &[&["install", "--set=controller.unreadyDelaySeconds=5"], &values[..]].concat());
    // Nobody answers, so no certificate gets in but the one that is waited for.
    let certificate = |name: &str, issued: &Issued| {
        let manifest = secret(name, issued);
        move |plane: &ControlPlane| plane.kubectl_with_input(&["apply", "--namespace=edge", "--filename=-"], &manifest)
    };
    let issued = || issue(&authority, &[name], KeyType::EcdsaP256);
    let other = certificate("other", &issued());
    wait_until("the API server knows the webhook", || {
        let (text, succeeded) = other(&plane);
        if succeeded {
            plane.kubectl(&["delete", "secret", "other", "--namespace=edge"]);
        }
        !succeeded && text.contains("failed calling webhook")
    });
    let (text, succeeded) = certificate("certificate", &issued())(&plane);
    assert!(succeeded, "{text}");
    kubelet.wait_for_ready("edge", 2);
    let policy = "apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {name: probe, namespace: shop}\n\
                  spec: {groups: [nonsense]}\n";
    wait_until("the webhook answers", || {
        let (text, succeeded) = plane.try_apply(policy);
        assert!(!succeeded, "{text}");
        text.contains("bad-tls-policy")
    });
    // It is renewed while nobody answers, too.
    plane.kubectl(&["scale", "deployment", "edge-handfast", "--namespace=edge", "--replicas=0"]);
    wait_until("all replicas have ended", || kubelet.pods("edge").is_empty());
    let (text, succeeded) = certificate("certificate", &issued())(&plane);
    assert!(succeeded, "{text}");
    assert!(!other(&plane).1);
}
