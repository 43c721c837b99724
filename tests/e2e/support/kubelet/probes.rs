//! Probes of a container, each on a thread of its own, asked from the node as kubelets ask.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What the probes of one run of a container have found.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) started: AtomicBool,
    pub(super) ready: AtomicBool,
    pub(super) unhealthy: AtomicBool,
    /// The run is over: no more questions.
    pub(super) over: AtomicBool,
}

/// Where to ask.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: Ipv4Addr,
    pub(super) ports: Vec<core::ContainerPort>,
}

/// Begins to probe.
pub(super) fn start(container: &core::Container, target: &Target) -> Arc<Findings> {
    let findings = Arc::new(Findings::default());
    match &container.startup_probe {
        None => findings.started.store(true, Ordering::Relaxed),
        Some(probe) => spawn(probe, target, &findings, |findings, success| match success {
            true => {
                findings.started.store(true, Ordering::Relaxed);
                // It has done what it is for.
                false
            }
            false => {
                findings.unhealthy.store(true, Ordering::Relaxed);
                false
            }
        }),
    }
    match &container.readiness_probe {
        None => findings.ready.store(true, Ordering::Relaxed),
        Some(probe) => spawn_started(probe, target, &findings, |findings, success| {
            findings.ready.store(success, Ordering::Relaxed);
            true
        }),
    }
    if let Some(probe) = &container.liveness_probe {
        spawn_started(probe, target, &findings, |findings, success| {
            if !success {
                findings.unhealthy.store(true, Ordering::Relaxed);
            }
            true
        });
    }
    findings
}

/// As [`spawn`], once the startup probe has succeeded.
fn spawn_started(probe: &core::Probe, target: &Target, findings: &Arc<Findings>, act: fn(&Findings, bool) -> bool) {
    let (probe, target, findings) = (probe.clone(), target.clone(), findings.clone());
    std::thread::spawn(move || {
        while !findings.started.load(Ordering::Relaxed) {
            if findings.over.load(Ordering::Relaxed) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        ask_again_and_again(&probe, &target, &findings, act);
    });
}

fn spawn(probe: &core::Probe, target: &Target, findings: &Arc<Findings>, act: fn(&Findings, bool) -> bool) {
    let (probe, target, findings) = (probe.clone(), target.clone(), findings.clone());
    std::thread::spawn(move || ask_again_and_again(&probe, &target, &findings, act));
}

/// Asks until the run is over or `act` wants no more. `act` hears of a success or failure once it has come as often in a
/// row as the thresholds say.
fn ask_again_and_again(probe: &core::Probe, target: &Target, findings: &Findings, act: fn(&Findings, bool) -> bool) {
    let seconds = |value: Option<i32>, default: u64| {
        Duration::from_secs(
            value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default),
        )
    };
    let delay = Duration::from_secs(u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0));
    let (period, timeout) = (seconds(probe.period_seconds, 10), seconds(probe.timeout_seconds, 1));
    let (successes, failures) = (probe.success_threshold.unwrap_or(1), probe.failure_threshold.unwrap_or(3));
    let mut in_a_row = (false, 0);
    let mut next = Instant::now() + delay;
    loop {
        while Instant::now() < next {
            if findings.over.load(Ordering::Relaxed) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        next = Instant::now() + period;
        let success = ask(probe, target, timeout);
        in_a_row = (success, if in_a_row.0 == success { in_a_row.1 + 1 } else { 1 });
        if in_a_row.1 >= (if success { successes } else { failures }) && !act(findings, success) {
            return;
        }
    }
}

fn ask(probe: &core::Probe, target: &Target, timeout: Duration) -> bool {
    assert!(probe.exec.is_none() && probe.grpc.is_none(), "this node knows probes of HTTP and TCP only");
    if let Some(http) = &probe.http_get {
        assert!(http.scheme.as_deref().is_none_or(|scheme| scheme == "HTTP"), "this node does not probe HTTPS");
        assert!(http.host.is_none(), "this node does not know hosts of probes");
        return get(target, &http.port, http.path.as_deref().unwrap_or("/"), timeout).is_some();
    }
    let tcp = probe.tcp_socket.as_ref().expect("a probe asks something");
    TcpStream::connect_timeout(&socket(target, &tcp.port), timeout).is_ok()
}

/// Asks a page; `None` where no answer comes in time, or one that kubelets take for a failure.
pub(super) fn get(target: &Target, port: &IntOrString, path: &str, timeout: Duration) -> Option<()> {
    let deadline = Instant::now() + timeout;
    let address = socket(target, port);
    let mut stream = TcpStream::connect_timeout(&address, timeout).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: kube-probe/1.37\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.contains(&b'\n') {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        answer.extend_from_slice(&buffer[..read]);
        if Instant::now() > deadline {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&answer).into_owned();
    let status: u16 = line.split(' ').nth(1)?.parse().ok()?;
    (200..400).contains(&status).then_some(())
}

fn socket(target: &Target, port: &IntOrString) -> SocketAddr {
    let port = match port {
        IntOrString::Int(port) => *port,
        IntOrString::String(name) => {
            let named = target.ports.iter().find(|port| port.name.as_ref() == Some(name));
            named.unwrap_or_else(|| panic!("no port is called {name}")).container_port
        }
    };
    SocketAddr::from((target.address, u16::try_from(port).unwrap()))
}
