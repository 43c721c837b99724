//! The chart's own Deployment, replaced under traffic: what it says of probes, delays and grace periods costs no request.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::support::load::{Load, Shape, Target, get, serial_of_chain};
use crate::support::manifests::{self, Ingress, apply, authority, issue, put, tls_secret};
use crate::support::trial::trials;
use crate::support::{ControlPlane, Kubelet, Options, programs, wait_until};

trials!(a_rolling_update_of_the_chart_fails_no_request);

/// Hosts that are served; clients ask for the first and the last of them.
const HOSTS: usize = 30;

fn host(index: usize) -> String {
    format!("host-{index}.test")
}

/// helm with the release `edge`, which has two replicas behind a load balancer.
fn release(plane: &ControlPlane, command: &str, values: &[&str]) {
    let chart = programs::checkout("charts/handfast");
    plane.helm(&[&[command, "edge", chart.to_str().unwrap(), "--namespace=edge"], values].concat());
}

/// The addresses of the chart's Service: its own, and one that a load balancer gives it.
fn addresses(plane: &ControlPlane) -> [SocketAddr; 2] {
    let service = ["service", "edge-handfast", "--namespace=edge"];
    let own = plane.kubectl(&[&["get"], &service[..], &["--output=jsonpath={.spec.clusterIP}"]].concat());
    let status = r#"--patch={"status":{"loadBalancer":{"ingress":[{"ip":"10.97.0.1","ipMode":"VIP"}]}}}"#;
    plane.kubectl(&[&["patch"], &service[..], &["--subresource=status", "--type=merge", status]].concat());
    [format!("{own}:443"), "10.97.0.1:443".to_owned()].map(|address| address.parse().unwrap())
}

fn held(plane: &ControlPlane) -> usize {
    let data = "--output=jsonpath={.data}";
    let data = plane.kubectl(&["get", "secret", "edge-handfast-last-good", "--namespace=edge", data]);
    serde_json::from_str::<Value>(&data).map_or(0, |data| data.as_object().unwrap().len())
}

fn a_rolling_update_of_the_chart_fails_no_request() {
    let plane = ControlPlane::start(Options { proxy: true, ..Options::default() });
    let kubelet = Kubelet::start(&plane);
    plane.apply("{apiVersion: v1, kind: Namespace, metadata: {name: edge, labels: {pod-security.kubernetes.io/enforce: restricted}}}");
    release(&plane, "install", &[]);
    let authority = authority();
    let (_echo, [service, slice]) = manifests::backend(&plane, "default", "echo");
    let mut objects = vec![service, slice];
    let mut serials = Vec::new();
    for index in 0..HOSTS {
        let (name, issued) = (format!("host-{index}"), issue(&authority, &[&host(index)]));
        serials.push(serial_of_chain(&issued.chain()));
        objects.push(tls_secret("default", &name, &issued));
        objects.push(Ingress::new(&name).all(&host(index), "echo").tls(&[&host(index)], &name).object());
    }
    apply(&plane, objects);
    let before = kubelet.wait_for_ready("edge", 2);
    let ending: Vec<_> = before.iter().map(|pod| pod.container("controller")).collect();
    let target = |address, index, path: &str| Target {
        address,
        host: host(index),
        path: path.to_owned(),
        roots: authority.root(),
    };
    let [own, balanced] = addresses(&plane);
    let hosts = [(own, 0), (balanced, HOSTS - 1)];
    for (address, index) in hosts {
        wait_until("the Service answers", || get(&target(address, index, "/")).is_ok_and(|answer| answer.0 == 200));
    }

    // Quick requests and such as take a second, on kept and on new connections.
    let shape = Shape { kept_http1: 1, new_http1: 1, kept_http2: 1, new_http2: 1, pause: Duration::from_millis(10) };
    let quick = Load::start(&hosts.map(|(address, index)| target(address, index, "/")), shape);
    let slow = Load::start(&hosts.map(|(address, index)| target(address, index, "/slow/1000")), shape);
    quick.wait_for(100);
    slow.wait_for(16);
    // A Secret becomes unusable; what new replicas serve in its place they have never seen.
    put(&plane, &manifests::secret("default", "host-0", "garbage", "garbage"));
    wait_until("the last good version is kept", || held(&plane) > 0);
    release(&plane, "upgrade", &["--set=controller.podAnnotations.revision=two"]);
    plane.kubectl(&["rollout", "status", "deployment/edge-handfast", "--namespace=edge", "--timeout=100s"]);
    let after = kubelet.wait_for_ready("edge", 2);
    assert!(after.iter().all(|pod| before.iter().all(|old| old.name != pod.name)), "all of them are new");
    quick.wait_for(100);
    slow.wait_for(16);
    for (name, report) in [("quick", quick.stop()), ("slow", slow.stop())] {
        println!("{name}: {} requests, slowest {:.1} s", report.requests, report.slowest.as_secs_f64());
        report.assert_flawless();
        let mut seen: Vec<&String> = report.certificates.keys().collect();
        let mut wanted = [&serials[0], &serials[HOSTS - 1]];
        seen.sort();
        wanted.sort();
        assert_eq!(seen, wanted, "each host has shown the certificate of its own");
    }
    for container in ending {
        assert_eq!((container.exit_code(), container.restarts()), (Some(0), 0), "an orderly end");
    }
}
