//! The stand-in for scheduler and kubelet: a Deployment becomes processes that run as it says, and ends as it says.

use std::net::SocketAddr;

use handfast::demo::pki::{Authority, KeyType};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::ListParams;
use rustls::pki_types::UnixTime;

use crate::binary::{host, issue};
use crate::support::load::{Load, Shape, Target};
use crate::support::runtime::block_on;
use crate::support::trial::trials;
use crate::support::{ControlPlane, Kubelet, Options, backends, wait_until};

trials!(
    a_pod_runs_as_its_deployment_says,
    probes_and_the_grace_period_decide_over_a_pod,
    services_lead_to_ready_pods_also_while_they_are_replaced,
    played_pods_become_endpoints,
    the_chart_becomes_ready_as_a_deployment_and_as_a_daemon_set,
);

/// A Deployment that serves a ConfigMap of manifests, with all that restricted Pod Security asks for.
fn deployment(replicas: u8, more: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: edge}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: edge}}}}
  template:
    metadata: {{labels: {{app: edge}}}}
    spec:
      terminationGracePeriodSeconds: 30
      securityContext: {{runAsNonRoot: true, fsGroup: 65532, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: controller
        image: handfast
        args: [run, --source, /manifests, --http, "$(POD_IP):80", --https, "$(POD_IP):443", --admin, "$(POD_IP):10254", --state-dir, /state{more}]
        env:
        - {{name: POD_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
        - {{name: HANDFAST_WORKERS, valueFrom: {{resourceFieldRef: {{resource: limits.cpu}}}}}}
        resources: {{limits: {{cpu: 1500m}}}}
        ports: [{{name: https, containerPort: 443}}, {{name: admin, containerPort: 10254}}]
        readinessProbe: {{httpGet: {{path: /readyz, port: admin}}, periodSeconds: 1}}
        livenessProbe: {{httpGet: {{path: /healthz, port: admin}}, periodSeconds: 1, failureThreshold: 2}}
        startupProbe: {{httpGet: {{path: /healthz, port: admin}}, periodSeconds: 1, failureThreshold: 30}}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {{drop: [ALL], add: [NET_BIND_SERVICE]}}
        volumeMounts: [{{name: manifests, mountPath: /manifests}}, {{name: state, mountPath: /state}}]
      volumes: [{{name: manifests, configMap: {{name: manifests}}}}, {{name: state, emptyDir: {{}}}}]
"#
    )
}

/// A ConfigMap with one host and its backend.
fn manifests(authority: &Authority, backend: SocketAddr) -> String {
    let issued = issue(authority, &["shop.test"], KeyType::EcdsaP256);
    let mut data = serde_json::Map::new();
    let service = crate::binary::service("echo", &[backend]);
    for (name, text) in [host("shop", "shop.test", Some(&issued), "echo", ""), service] {
        data.insert(name, text.into());
    }
    let map =
        serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "manifests"}, "data": data});
    format!("{map}\n")
}

struct World {
    authority: Authority,
    echo: backends::Service,
    kubelet: Kubelet,
    plane: ControlPlane,
}

impl World {
    fn new(options: Options) -> Self {
        let plane = ControlPlane::start(options);
        let kubelet = Kubelet::start(&plane);
        let authority = Authority::new("Test", UnixTime::now()).unwrap();
        let echo = backends::Service::start(&plane, "default", "echo", 1);
        plane.apply(&manifests(&authority, echo.backends[0].address));
        Self { authority, echo, kubelet, plane }
    }

    fn target(&self, address: SocketAddr, path: &str) -> Target {
        Target { address, host: "shop.test".into(), path: path.into(), roots: self.authority.root() }
    }
}

fn a_pod_runs_as_its_deployment_says() {
    let world = World::new(Options::default());
    // An object that a volume is made from comes late, as it often does.
    world.plane.apply(&deployment(1, ""));
    let pod = world.kubelet.wait_for_ready("default", 1).remove(0);
    world.plane.kubectl(&["rollout", "status", "deployment/edge", "--timeout=60s"]);
    let address = pod.address().unwrap();
    let answer = crate::support::load::get(&world.target((address, 443).into(), "/")).unwrap();
    assert_eq!(answer, (200, "echo-0".to_owned()));

    let container = pod.container("controller");
    let pid = container.pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    if crate::support::programs::has_users() {
        assert!(line("Uid:").starts_with("65532\t") && line("Gid:").starts_with("65532\t"), "{status}");
        for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(line(set), "0000000000000000", "{set}");
        }
    }
    assert_eq!(line("CapBnd:"), "0000000000000400", "NET_BIND_SERVICE and nothing else");
    assert_eq!(line("NoNewPrivs:"), "1");
    assert!(line("NSpid:").ends_with("\t1"), "the first process of its namespace: {status}");
    let inside = |path: &str| std::path::PathBuf::from(format!("/proc/{pid}/root{path}"));
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.split(' ').nth(3).unwrap().starts_with("ro,"), "{mounts}");
    let token = std::fs::read_to_string(inside("/var/run/secrets/kubernetes.io/serviceaccount/token")).unwrap();
    assert_eq!(token.split('.').count(), 3);
    let namespace = inside("/var/run/secrets/kubernetes.io/serviceaccount/namespace");
    assert_eq!(std::fs::read_to_string(namespace).unwrap(), "default");
    assert!(inside("/state").read_dir().unwrap().count() > 0, "it writes to the volume that it may write to");
    let environment = String::from_utf8(std::fs::read(format!("/proc/{pid}/environ")).unwrap()).unwrap();
    assert!(environment.contains("HANDFAST_WORKERS=2\0"), "1500m, rounded up: {environment}");
    let (version, succeeded) = container.exec(&["/handfast", "--version"]);
    assert!(succeeded && version.starts_with("handfast "), "{version}");

    // What changes in the ConfigMap arrives, as one.
    let before = crate::support::load::served((address, 443).into(), "shop.test", &world.authority.root()).unwrap();
    world.plane.apply(&manifests(&world.authority, world.echo.backends[0].address));
    wait_until("the next certificate is served", || {
        crate::support::load::served((address, 443).into(), "shop.test", &world.authority.root()).unwrap() != before
    });

    world.plane.kubectl(&["delete", "deployment", "edge", "--wait=true", "--timeout=60s"]);
    wait_until("the Pod is gone", || world.plane.kubectl(&["get", "pods", "--output=name"]).trim().is_empty());
    assert!(pod.is_over());
    assert!(container.said().contains("Draining"), "{}", container.said());
    assert_eq!(container.exit_code(), Some(0), "SIGTERM, and an orderly end");
}

fn probes_and_the_grace_period_decide_over_a_pod() {
    let world = World::new(Options::default());
    // A delay that outlasts every grace period.
    world.plane.apply(&deployment(1, ", --unready-delay, 600s"));
    let pod = world.kubelet.wait_for_ready("default", 1).remove(0);
    let container = pod.container("controller");
    // A process that stands still is unhealthy; it is killed, and started again.
    container.signal("STOP");
    wait_until("the container is started again", || container.restarts() == 1);
    world.kubelet.wait_for_ready("default", 1);
    let restarts = ["get", "pods", "--output=jsonpath={.items[*].status.containerStatuses[*].restartCount}"];
    wait_until("the API server knows", || world.plane.kubectl(&restarts).trim() == "1");

    // After SIGTERM it is not ready, and runs until the grace period ends.
    world.plane.kubectl(&["delete", "pod", &pod.name, "--grace-period=4", "--wait=false"]);
    wait_until("it is not ready any more", || !pod.is_ready());
    assert!(container.is_running());
    let replacement = || world.kubelet.pods("default").into_iter().find(|other| other.name != pod.name);
    wait_until("another one takes its place", || replacement().is_some_and(|other| other.is_ready()));
    wait_until("the Pod is gone", || pod.is_over());
    assert_eq!(container.exit_code(), Some(137), "killed at the end of its grace period");

    // Without grace it ends at once.
    let pod = world.kubelet.wait_for_ready("default", 1).remove(0);
    let container = pod.container("controller");
    world.plane.kubectl(&["delete", "pod", &pod.name, "--grace-period=0", "--force"]);
    wait_until("the Pod is gone", || pod.is_over());
    assert!(!container.is_running());
    world.kubelet.wait_for_ready("default", 1);
}

fn services_lead_to_ready_pods_also_while_they_are_replaced() {
    let world = World::new(Options { proxy: true, ..Options::default() });
    world.plane.apply(&deployment(2, ", --unready-delay, 5s"));
    world.plane.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: edge}\n\
         spec: {type: LoadBalancer, clusterIP: 10.96.0.10, selector: {app: edge}, ports: [{port: 443, targetPort: https}]}\n",
    );
    let status = r#"--patch={"status":{"loadBalancer":{"ingress":[{"ip":"10.97.0.1","ipMode":"VIP"}]}}}"#;
    world.plane.kubectl(&["patch", "service", "edge", "--subresource=status", "--type=merge", status]);
    let before = world.kubelet.wait_for_ready("default", 2);
    let targets = ["10.96.0.10:443", "10.97.0.1:443"].map(|address| world.target(address.parse().unwrap(), "/"));
    for target in &targets {
        wait_until("the Service answers", || crate::support::load::get(target).is_ok());
    }
    let load =
        Load::start(&targets, Shape { kept_http1: 1, new_http1: 1, kept_http2: 1, new_http2: 1, ..Shape::default() });
    load.wait_for(100);
    world.plane.kubectl(&["rollout", "restart", "deployment/edge"]);
    world.plane.kubectl(&["rollout", "status", "deployment/edge", "--timeout=100s"]);
    let after = world.kubelet.wait_for_ready("default", 2);
    assert!(after.iter().all(|pod| before.iter().all(|old| old.name != pod.name)));
    load.wait_for(100);
    let report = load.stop();
    println!("{report:?}");
    report.assert_flawless();
}

fn played_pods_become_endpoints() {
    let plane = ControlPlane::start(Options::default());
    let service = backends::played(&plane, "default", "shop", 10);
    let ready = || {
        let slices: Api<EndpointSlice> = Api::namespaced(plane.client(), "default");
        let wanted = ListParams::default().labels("kubernetes.io/service-name=shop");
        let slices = block_on(async move { slices.list(&wanted).await.unwrap() });
        let endpoints = slices.items.into_iter().flat_map(|slice| slice.endpoints);
        let ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
            endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))
        };
        endpoints.filter(ready).count()
    };
    wait_until("ten endpoints are ready", || ready() == 10);
    backends::set_ready(&plane, "default", "shop-3", service.backends[3].address, false);
    wait_until("nine endpoints are ready", || ready() == 9);
}

fn the_chart_becomes_ready_as_a_deployment_and_as_a_daemon_set() {
    let plane = ControlPlane::start(Options { proxy: true, ..Options::default() });
    let kubelet = Kubelet::start(&plane);
    let chart = crate::support::programs::checkout("charts/handfast");
    plane.kubectl(&["create", "namespace", "edge"]);
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    plane.kubectl(&["label", "namespace", "edge", restricted]);
    for kind in ["Deployment", "DaemonSet"] {
        let set = format!("controller.kind={kind}");
        let chart = chart.to_str().unwrap();
        plane.helm(&["upgrade", "--install", "edge", chart, "--namespace", "edge", "--set", &set]);
        let workload = format!("{}/edge-handfast", kind.to_lowercase());
        plane.kubectl(&["rollout", "status", &workload, "--namespace", "edge", "--timeout=60s"]);
    }
    for pod in kubelet.pods("edge") {
        assert_eq!(pod.container("controller").restarts(), 0);
    }
    plane.helm(&["uninstall", "edge", "--namespace", "edge"]);
}
