//! What Handfast writes to a cluster: by one replica, only what differs, and never against somebody who insists.
//!
//! Every replica has a service account with exactly the permissions that are written down here.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::{Ingress, IngressLoadBalancerIngress};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use handfast::demo::pki::{Authority, Issued, KeyType};
use rustls::pki_types::UnixTime;

use crate::support::rights::installation;
use crate::support::runtime::block_on;
use crate::support::trial::trials;
use crate::support::{ControlPlane, Handfast, Options, soak, wait_until};

trials!(
    one_of_two_replicas_writes_and_the_other_takes_over,
    addresses_follow_a_service_and_go_with_the_class,
    a_controller_that_insists_is_not_fought,
    problems_become_events_on_ingresses_and_their_solution_too,
    conditions_of_a_policy_follow_it,
    two_installations_leave_to_each_other_what_is_the_others,
    many_statuses_are_written_fast_and_a_shared_problem_is_told_on_a_few,
    with_no_status_nothing_is_written,
);

/// What it takes to read and to write what is written here, in all namespaces.
const EVERYWHERE: &str = r#"
- {apiGroups: [""], resources: [services, secrets], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [networking.k8s.io], resources: [ingresses, ingressclasses], verbs: [get, list, watch]}
- {apiGroups: [handfast.dev], resources: [tlspolicies], verbs: [get, list, watch]}
- {apiGroups: [networking.k8s.io], resources: [ingresses/status], verbs: [patch]}
- {apiGroups: [handfast.dev], resources: [tlspolicies/status], verbs: [patch]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
"#;

/// And for the Leases.
const AT_HOME: &str = r#"
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [handfast-leader, inner], verbs: [get, update]}
"#;

/// A cluster where Handfast may do what it needs to.
struct Cluster {
    plane: ControlPlane,
    kubeconfig: String,
}

impl Cluster {
    fn start() -> Self {
        let plane = ControlPlane::start(Options::default());
        let kubeconfig = installation(&plane, &[(None, EVERYWHERE), (Some("edge"), AT_HOME)]);
        Self { plane, kubeconfig }
    }

    fn handfast(&self, args: &[&str]) -> Handfast {
        let common = ["--source", "cluster", "--kubeconfig", &self.kubeconfig, "--election-ttl", "5s"];
        Handfast::start(&self.plane, &[&common[..], args].concat())
    }

    fn ingress(&self, name: &str) -> Ingress {
        let api: Api<Ingress> = Api::namespaced(self.plane.client(), "default");
        let name = name.to_owned();
        block_on(async move { api.get(&name).await.unwrap() })
    }

    /// The addresses in the status, joined.
    fn addresses(&self, name: &str) -> String {
        addresses(&self.ingress(name))
    }

    fn wait_for_addresses(&self, name: &str, wanted: &str) {
        wait_until(&format!("{name} has {wanted:?}"), || self.addresses(name) == wanted);
    }

    /// Writes the status as another controller does.
    fn foreign_status(&self, name: &str, ip: &str) {
        let api: Api<Ingress> = Api::namespaced(self.plane.client(), "default");
        let (name, ip) = (name.to_owned(), ip.to_owned());
        block_on(async move {
            let mut ingress = api.get(&name).await.unwrap();
            let address = IngressLoadBalancerIngress { ip: Some(ip), ..Default::default() };
            let status = ingress.status.get_or_insert_default();
            status.load_balancer.get_or_insert_default().ingress = Some(vec![address]);
            let parameters = PostParams { field_manager: Some("another".into()), ..PostParams::default() };
            api.replace_status(&name, &parameters, &ingress).await.unwrap();
        });
    }

    /// Every Event of ours, as `Type Reason kind/name`, with how often it was seen.
    fn events(&self) -> Vec<(String, i32)> {
        let events = self.all_events();
        let ours = events
            .iter()
            .filter(|event| event.reporting_controller.as_deref() == Some("handfast.dev/ingress-controller"));
        let mut lines: Vec<(String, i32)> = ours
            .map(|event| {
                let text = |field: &Option<String>| field.clone().unwrap_or_default();
                let on = event.regarding.clone().unwrap_or_default();
                let (kind, name) = (text(&on.kind), text(&on.name));
                let line = format!("{} {} {kind}/{name}", text(&event.type_), text(&event.reason));
                (line, event.series.as_ref().map_or(1, |series| series.count))
            })
            .collect();
        lines.sort();
        lines
    }

    fn all_events(&self) -> Vec<Event> {
        let api: Api<Event> = Api::all(self.plane.client());
        block_on(async move { api.list(&ListParams::default()).await.unwrap().items })
    }

    fn patch_service_status(&self, name: &str, status: Value) {
        let api: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(self.plane.client(), "edge");
        let name = name.to_owned();
        block_on(async move {
            let patch = Patch::Merge(json!({"status": status}));
            api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        });
    }
}

fn addresses(ingress: &Ingress) -> String {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let all = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let text = |one: &IngressLoadBalancerIngress| one.ip.clone().or(one.hostname.clone()).unwrap_or_default();
    all.iter().map(text).collect::<Vec<_>>().join(",")
}

fn ingress(name: &str, class: &str, more: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  ingressClassName: {class}\n  rules:\n  - host: {name}.example\n    http: {{paths: [{{path: /, \
         pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}\n{more}"
    )
}

fn with_tls(name: &str, secret: &str) -> String {
    ingress(name, "handfast", &format!("  tls: [{{hosts: [{name}.example], secretName: {secret}}}]\n"))
}

/// A Service with an endpoint that nobody listens at.
fn service() -> String {
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec: {ports: [{port: 80}]}\n\
     ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web, namespace: default, labels: \
     {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{name: '', port: 80, protocol: TCP}]\n\
     endpoints: [{addresses: [10.78.0.200], conditions: {ready: true}}]\n"
        .to_owned()
}

fn issue(names: &[&str]) -> Issued {
    let authority = Authority::new("Test", UnixTime::now()).unwrap();
    authority.issue(names, KeyType::EcdsaP256, UnixTime::now(), -1..90).unwrap()
}

fn secret(name: &str, chain: &str, key: &str) -> String {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\ntype: kubernetes.io/tls\n\
         data: {{tls.crt: {}, tls.key: {}}}\n",
        encode(chain),
        encode(key)
    )
}

fn leads(handfast: &Handfast) -> bool {
    handfast.metric("handfast_leader", &[]) == 1.0
}

fn writes(handfast: &Handfast, labels: &[&str]) -> f64 {
    handfast.metric("handfast_status_writes_total", labels)
}

fn one_of_two_replicas_writes_and_the_other_takes_over() {
    let cluster = Cluster::start();
    cluster.plane.apply(&format!("{}{}", service(), ingress("first", "handfast", "")));
    let args = ["--publish-status-address", "192.0.2.10"];
    let mut replicas = vec![cluster.handfast(&args), cluster.handfast(&args)];
    replicas.iter().for_each(Handfast::wait_until_ready);
    cluster.wait_for_addresses("first", "192.0.2.10");
    wait_until("one leads", || replicas.iter().filter(|replica| leads(replica)).count() == 1);
    let leader = replicas.iter().position(leads).unwrap();
    let leader = replicas.remove(leader);
    assert_eq!((writes(&leader, &[]), writes(&replicas[0], &[])), (1.0, 0.0));

    // Killed: its Lease runs out.
    leader.process.kill();
    let killed = Instant::now();
    cluster.plane.apply(&ingress("second", "handfast", ""));
    cluster.wait_for_addresses("second", "192.0.2.10");
    println!("a status was written {:?} after the leader was killed, with a Lease of 5 s", killed.elapsed());
    let heir = replicas.remove(0);
    assert!(leads(&heir));
    assert_eq!(writes(&heir, &[]), 1.0, "what the other one had written is not written again");

    // Ended: its Lease is given back.
    let third = cluster.handfast(&args);
    third.wait_until_ready();
    heir.process.signal("TERM");
    let ended = Instant::now();
    wait_until("the third leads", || leads(&third));
    println!("the third led {:?} after the leader was told to end", ended.elapsed());
    heir.wait_for_line("The Lease is given back.");
    let leases: Api<Lease> = Api::namespaced(cluster.plane.client(), "edge");
    let lease = block_on(async move { leases.get("handfast-leader").await.unwrap() }).spec.unwrap();
    assert_eq!(lease.lease_transitions, Some(2), "{lease:?}");
    cluster.plane.apply(&ingress("third", "handfast", ""));
    cluster.wait_for_addresses("third", "192.0.2.10");
}

fn addresses_follow_a_service_and_go_with_the_class() {
    let cluster = Cluster::start();
    let balancer = |kind: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: edge, namespace: edge}}\nspec: {{type: {kind}, ports: [{{port: 443}}]}}\n"
        )
    };
    cluster.plane.apply(&format!("{}{}{}", service(), ingress("a", "handfast", ""), ingress("b", "handfast", "")));
    cluster.plane.apply(&balancer("LoadBalancer"));
    let handfast = cluster.handfast(&["--publish-service", "edge/edge"]);
    handfast.wait_until_ready();
    handfast.wait_for_line("has no address yet");
    wait_until("it leads", || leads(&handfast));
    assert_eq!(cluster.addresses("a"), "", "the ClusterIP of a load balancer is not its address");

    cluster.patch_service_status(
        "edge",
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.20"}, {"hostname": "lb.example"}]}}),
    );
    cluster.wait_for_addresses("a", "192.0.2.20,lb.example");
    cluster.wait_for_addresses("b", "192.0.2.20,lb.example");
    cluster.patch_service_status("edge", json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.21"}]}}));
    cluster.wait_for_addresses("a", "192.0.2.21");
    // What is unknown for a while takes nothing away.
    cluster.patch_service_status("edge", json!({"loadBalancer": {"ingress": null}}));
    cluster.plane.apply(&ingress("c", "handfast", ""));
    cluster.wait_for_addresses("c", "192.0.2.21");
    assert_eq!(cluster.addresses("a"), "192.0.2.21");
    let fields = cluster.ingress("a").metadata.managed_fields.unwrap();
    let ours: Vec<_> = fields
        .iter()
        .filter(|entry| entry.manager.as_deref().is_some_and(|manager| manager.starts_with("handfast/")))
        .collect();
    assert_eq!(ours.len(), 1);
    assert_eq!((ours[0].operation.as_deref(), ours[0].subresource.as_deref()), (Some("Apply"), Some("status")));

    // Another class: what is ours goes.
    cluster.plane.apply(&ingress("a", "other", ""));
    cluster.wait_for_addresses("a", "");
    assert_eq!(cluster.addresses("b"), "192.0.2.21");
    assert!(handfast.metric("handfast_status_writes_total", &["cleared"]) >= 1.0);
    // Back again.
    cluster.plane.apply(&ingress("a", "handfast", ""));
    cluster.wait_for_addresses("a", "192.0.2.21");
    // ClusterIP, where that is what the Service is.
    cluster.plane.kubectl(&["delete", "service", "-n", "edge", "edge"]);
    cluster.plane.apply(&balancer("ClusterIP"));
    wait_until("the ClusterIP is published", || cluster.addresses("b").starts_with("10.96.0."));
}

fn a_controller_that_insists_is_not_fought() {
    let cluster = Cluster::start();
    cluster.plane.apply(&format!("{}{}{}", service(), ingress("ours", "handfast", ""), ingress("theirs", "other", "")));
    cluster.foreign_status("ours", "203.0.113.9");
    cluster.foreign_status("theirs", "203.0.113.9");
    let handfast = cluster.handfast(&["--publish-status-address", "192.0.2.30"]);
    // What stands there from before is taken over; what is another controller's is not touched.
    cluster.wait_for_addresses("ours", "192.0.2.30");
    assert_eq!(writes(&handfast, &["taken-over"]), 1.0);
    assert_eq!(cluster.addresses("theirs"), "203.0.113.9");
    // Somebody changes it back each time that we write.
    let mut changed = 0;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(8) {
        if cluster.addresses("ours") == "192.0.2.30" {
            cluster.foreign_status("ours", "203.0.113.9");
            changed += 1;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    println!("another writer that changed the status back had to do that {changed} times in 8 s");
    assert!(changed <= 2, "the next time is after 5 s, then after 20 s");
    assert_eq!(cluster.addresses("theirs"), "203.0.113.9");
}

fn problems_become_events_on_ingresses_and_their_solution_too() {
    let cluster = Cluster::start();
    let (good, other) = (issue(&["a.example", "b.example"]), issue(&["a.example"]));
    cluster.plane.apply(&format!("{}{}{}", service(), with_tls("a", "tls"), with_tls("b", "tls")));
    cluster.plane.apply(&secret("tls", &good.chain(), &other.key));
    let handfast = cluster.handfast(&[]);
    let lines = |type_: &str, reason: &str, names: &[&str]| {
        names.iter().map(|name| format!("{type_} {reason} Ingress/{name}")).collect::<Vec<_>>()
    };
    let has = |wanted: &[String]| {
        let events = cluster.events();
        wanted.iter().all(|wanted| events.iter().any(|(line, _)| line == wanted))
    };
    wait_until("the mismatched key is told", || has(&lines("Warning", "KeyMismatch", &["a", "b"])));
    let described = cluster.plane.kubectl(&["describe", "ingress", "a"]);
    assert!(described.contains("KeyMismatch") && described.contains("handfast.dev/ingress-controller"), "{described}");
    let event = cluster.all_events().into_iter().find(|event| event.reason.as_deref() == Some("KeyMismatch")).unwrap();
    assert_eq!(event.related.unwrap().kind.as_deref(), Some("Secret"));
    let on_secrets = cluster
        .all_events()
        .into_iter()
        .filter(|event| event.regarding.as_ref().is_some_and(|on| on.kind.as_deref() == Some("Secret")));
    assert_eq!(on_secrets.count(), 0);

    // A replica that comes later finds what was told.
    let before = cluster.events();
    handfast.process.signal("TERM");
    handfast.process.wait();
    let next = cluster.handfast(&[]);
    next.wait_until_ready();
    wait_until("the next one has looked", || next.metric("handfast_events_total", &["known"]) >= 2.0);
    assert_eq!(cluster.events(), before);
    assert_eq!(next.metric("handfast_events_total", &["written"]), 0.0);

    cluster.plane.apply(&secret("tls", &good.chain(), &good.key));
    wait_until("the solution is told", || has(&lines("Normal", "KeyMismatchSolved", &["a", "b"])));
    // It comes again and again. What was good meanwhile is served now, which is something else; then it is a series.
    let counts = |reason: &str| -> Vec<i32> {
        let events = cluster.events();
        events
            .iter()
            .filter(|(line, _)| line.ends_with(&format!("{reason} Ingress/a")))
            .map(|(_, count)| *count)
            .collect()
    };
    cluster.plane.apply(&secret("tls", &good.chain(), &other.key));
    wait_until("it is told with its new effect", || counts("KeyMismatch") == [1, 1]);
    cluster.plane.apply(&secret("tls", &good.chain(), &good.key));
    wait_until("the second solution is one more", || counts("KeyMismatchSolved") == [2]);
    cluster.plane.apply(&secret("tls", &good.chain(), &other.key));
    wait_until("it is told as one more", || counts("KeyMismatch") == [1, 2]);
}

fn conditions_of_a_policy_follow_it() {
    let cluster = Cluster::start();
    let policy = |spec: &str| {
        format!(
            "---\napiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: strict, namespace: default}}\nspec: {spec}\n"
        )
    };
    cluster.plane.apply(&policy("{preset: modern}"));
    let handfast = cluster.handfast(&[]);
    let conditions = || {
        let text = cluster.plane.kubectl(&["get", "tlspolicy", "strict", "-o", "json"]);
        let object: Value = serde_json::from_str(&text).unwrap();
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        (all, object["metadata"]["generation"].as_i64().unwrap())
    };
    let is = |status: &str| {
        let (all, generation) = conditions();
        all.len() == 2
            && all[0]["type"] == "Accepted"
            && all[0]["status"] == status
            && all[0]["observedGeneration"] == generation
    };
    wait_until("it is accepted", || is("True"));
    let (accepted, _) = conditions();
    cluster.plane.apply(&policy("{preset: modern, alpn: [h2]}"));
    wait_until("the second version is accepted", || is("True"));
    let (second, _) = conditions();
    assert_eq!(second[0]["observedGeneration"], 2);
    assert_eq!(second[0]["lastTransitionTime"], accepted[0]["lastTransitionTime"]);
    cluster.plane.apply(&policy("{preset: modern, clientAuth: {mode: required, caSecret: missing}}"));
    wait_until("the third is not", || is("False"));
    let (third, _) = conditions();
    println!("{}", serde_json::to_string_pretty(&third).unwrap());
    // The policy is told, too.
    let told =
        || cluster.events().iter().any(|(line, _)| line.ends_with("TlsPolicy/strict") && line.starts_with("Warning"));
    wait_until("an Event is on the policy", told);
    let settled = writes(&handfast, &["tls-policy"]);
    cluster.plane.apply(&ingress("a", "handfast", ""));
    wait_until("an Ingress is served", || handfast.metric("handfast_snapshot_hosts", &[]) == 1.0);
    assert_eq!(writes(&handfast, &["tls-policy"]), settled);
}

fn two_installations_leave_to_each_other_what_is_the_others() {
    let cluster = Cluster::start();
    let asking = |name: &str, class: &str| {
        ingress(name, class, "")
            .replace("namespace: default}", "namespace: default, annotations: {handfast.dev/tls-policy: strict}}")
    };
    cluster.plane.apply(&format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: inner}}\nspec: {{controller: \
         handfast.dev/inner}}\n---\napiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: strict, \
         namespace: default}}\nspec: {{preset: modern}}\n{}{}{}{}",
        service(),
        asking("outer", "handfast"),
        asking("inner", "inner"),
        asking("moving", "inner")
    ));
    let outer = cluster.handfast(&["--publish-status-address", "192.0.2.60"]);
    let inner = ["--controller-class", "handfast.dev/inner", "--election-id", "inner"];
    let inner = cluster.handfast(&[&inner[..], &["--publish-status-address", "192.0.2.61"]].concat());
    for (name, address) in [("outer", "192.0.2.60"), ("inner", "192.0.2.61"), ("moving", "192.0.2.61")] {
        cluster.wait_for_addresses(name, address);
    }
    assert!(leads(&outer) && leads(&inner));
    // One of them says what the policy is to it, and the other one leaves it there.
    let policy = || -> Value {
        serde_json::from_str(&cluster.plane.kubectl(&["get", "tlspolicy", "strict", "-o", "json"])).unwrap()
    };
    let word = || policy()["status"]["conditions"][1]["message"].as_str().unwrap_or_default().to_owned();
    let contested = || writes(&outer, &["tls-policy", "contested"]) + writes(&inner, &["tls-policy", "contested"]);
    wait_until("one of them is silent", || contested() >= 1.0);
    let (said, version) = (word(), policy()["metadata"]["resourceVersion"].clone());
    assert!(["The policy applies to 1 host.", "The policy applies to 2 hosts."].contains(&&*said), "{said}");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        assert_eq!(policy()["metadata"]["resourceVersion"], version, "{}", word());
    }
    // Whoever loses an Ingress takes its own address away, and not the other's.
    cluster.plane.apply(&asking("moving", "handfast"));
    cluster.wait_for_addresses("moving", "192.0.2.60");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(6) {
        assert_eq!(cluster.addresses("moving"), "192.0.2.60");
        assert_eq!(cluster.addresses("inner"), "192.0.2.61");
    }
    assert_eq!(writes(&outer, &["cleared"]) + writes(&inner, &["cleared"]), 0.0);
}

fn many_statuses_are_written_fast_and_a_shared_problem_is_told_on_a_few() {
    let count = if soak() { 5000 } else { 500 };
    let cluster = Cluster::start();
    let (good, other) = (issue(&["*.example"]), issue(&["*.example"]));
    cluster.plane.apply(&service());
    cluster.plane.apply(&secret("tls", &good.chain(), &other.key));
    let handfast = cluster.handfast(&["--publish-status-address", "192.0.2.40"]);
    handfast.wait_until_ready();
    wait_until("it leads", || leads(&handfast));
    let started = Instant::now();
    let api: Api<Ingress> = Api::namespaced(cluster.plane.client(), "default");
    let created = block_on(async move {
        use futures_util::{StreamExt as _, stream};
        let create = |index: usize| {
            let name = format!("i{index}");
            let api = api.clone();
            async move {
                let object = json!({"metadata": {"name": name}, "spec": {
                    "ingressClassName": "handfast",
                    "tls": [{"hosts": [format!("{name}.example")], "secretName": "tls"}],
                    "rules": [{"host": format!("{name}.example"), "http": {"paths": [{"path": "/", "pathType": "Prefix",
                        "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}});
                api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
            }
        };
        stream::iter(0..count).map(create).buffer_unordered(8).count().await
    });
    assert_eq!(created, count);
    println!("{count} Ingresses were created in {:?}", started.elapsed());
    let total = count as f64;
    wait_until("all are served", || handfast.metric("handfast_snapshot_hosts", &[]) == total);
    let (served, written) = (started.elapsed(), writes(&handfast, &["written"]));
    println!("they were served after {served:?}; by then {written} statuses were written");
    wait_until("all statuses are written", || writes(&handfast, &["written"]) == total);
    println!("all statuses were written after {:?}", started.elapsed());
    assert_eq!(cluster.addresses(&format!("i{}", count - 1)), "192.0.2.40");
    wait_until("nothing waits", || handfast.metric("handfast_status_queue_length", &[]) == 0.0);
    let events = cluster.events().iter().filter(|(line, _)| line.starts_with("Warning KeyMismatch")).count();
    println!("{events} Events were written about one Secret");
    assert_eq!(events, 20);
    assert_eq!(writes(&handfast, &[]), total, "each was written once");
}

fn with_no_status_nothing_is_written() {
    let cluster = Cluster::start();
    cluster.plane.apply(&format!("{}{}", service(), with_tls("a", "missing")));
    let handfast = cluster.handfast(&["--no-status", "--publish-status-address", "192.0.2.50"]);
    handfast.wait_until_ready();
    // Its neighbour that may write has done all of it.
    let other = cluster.handfast(&[]);
    wait_until("the other one tells", || !cluster.events().is_empty());
    assert!(leads(&other) && !leads(&handfast));
    assert_eq!(cluster.addresses("a"), "");
    assert_eq!((writes(&handfast, &[]), handfast.metric("handfast_events_total", &[])), (0.0, 0.0));
}
