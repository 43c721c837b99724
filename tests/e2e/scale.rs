//! Many Ingresses with a certificate each, in a real API server: how long a start takes, what it costs in memory, and
//! what one change costs afterwards.
//!
//! `HANDFAST_SOAK=1` has five thousand, other runs have five hundred. Times, memory and CPU are shown, since they
//! depend on the machine; what a change builds is asserted by counters, because that must not grow with the cluster.

use std::time::{Duration, Instant};

use handfast::demo::pki::{Authority, Issued};
use serde_json::Value;

use crate::support::ask;
use crate::support::load::{serial_of_chain, served};
use crate::support::manifests::{self, Ingress, authority, create, issue, put, service, slice, tls_secret};
use crate::support::trial::{self, trials};
use crate::support::{ControlPlane, Handfast, soak, wait_until};

trials!(many_hosts_start_quickly_and_a_change_costs_what_it_touches);

fn host(index: usize) -> String {
    format!("h{index}.test")
}

fn name(index: usize) -> String {
    format!("h{index}")
}

/// Everything that one host has; the endpoint is the one backend that all share.
fn objects(index: usize, issued: &Issued, address: std::net::SocketAddr) -> [Value; 4] {
    let (host, name) = (host(index), name(index));
    let mut service = service("default", &name, &[(80, "", address.port())]);
    // The range of a test's ClusterIPs is small.
    service["spec"]["clusterIP"] = "None".into();
    [
        service,
        slice("default", &name, &[("", address.port())], &[address]),
        tls_secret("default", &name, issued),
        Ingress::new(&name).all(&host, &name).tls(&[&host], &name).object(),
    ]
}

/// CPU time of a process so far, over all its threads, in milliseconds; the kernel counts in steps of ten.
fn cpu_time(handfast: &Handfast) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", handfast.process.pid())).unwrap();
    // The name of the program, in parentheses, may contain anything; the times are the 14th and 15th field.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}

/// As [`cpu_time`], once it has not grown for a while.
fn cpu_time_at_rest(handfast: &Handfast) -> u64 {
    let (mut last, mut looks) = (cpu_time(handfast), 0);
    wait_until("Handfast rests", || {
        std::thread::park_timeout(Duration::from_millis(10));
        let now = cpu_time(handfast);
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        looks == 30
    });
    last
}

/// Units built so far: Ingresses, hosts, TLS configurations, backends.
fn built(handfast: &Handfast) -> [f64; 4] {
    ["ingress", "host", "tls", "backend"].map(|unit| {
        handfast.metric("handfast_compile_units_total", &[&format!("unit=\"{unit}\""), "outcome=\"built\""])
    })
}

struct World {
    plane: ControlPlane,
    hosts: usize,
    root: String,
    anchors: String,
}

impl World {
    /// Starts Handfast over objects that are there, shows how long it took, and asks for some of the hosts.
    fn start(&self, what: &str, sandbox: Option<crate::support::network::Sandbox>, more: &[&str]) -> Handfast {
        let args = [&["--source", "cluster", "--trust-anchors", &self.anchors][..], more].concat();
        let begun = Instant::now();
        let handfast = match sandbox {
            Some(sandbox) => Handfast::start_in(sandbox, &self.plane, &args),
            None => Handfast::start(&self.plane, &args),
        };
        handfast.wait_until_ready();
        let ready = begun.elapsed();
        // Ready means that everything is served: the certificates of all hosts, at the first look.
        assert_eq!(handfast.metric("handfast_snapshot_hosts", &[]), self.hosts as f64);
        assert_eq!(handfast.metric("handfast_host_serving", &["state=\"current\""]), self.hosts as f64);
        let step = (self.hosts / 100).max(1);
        for index in (0..self.hosts).step_by(step) {
            assert!(served(handfast.https, &host(index), &self.root).is_ok(), "{}", host(index));
        }
        println!(
            "{} hosts, {what}: ready, with all hosts served, after {ready:.2?}; {} MiB resident, {} ms CPU",
            self.hosts,
            handfast.memory() >> 20,
            cpu_time(&handfast)
        );
        handfast
    }

    /// Makes changes one after the other, each of which has to be seen by clients before the next one; shows what one costs, and returns what
    /// was built for all of them.
    fn measure(
        &self,
        handfast: &Handfast,
        what: &str,
        rounds: usize,
        mut change: impl FnMut(usize) -> Duration,
    ) -> [f64; 4] {
        // Pages with the metrics of thousands of hosts cost more than a change: none of them is asked for in between.
        let before = built(handfast);
        let cpu = cpu_time_at_rest(handfast);
        let mut times: Vec<Duration> = (0..rounds).map(&mut change).collect();
        // What was caused by the last one, writing a status for example, counts as well.
        let cpu = cpu_time_at_rest(handfast) - cpu;
        let after = built(handfast);
        times.sort();
        let difference = std::array::from_fn(|index| after[index] - before[index]);
        let [ingresses, hosts, tls, backends] = difference;
        println!(
            "{} hosts, {what}: seen by clients after {:.1?} (median of {rounds}, {:.1?} at most), {:.1} ms CPU each; \
             built in all: {ingresses} Ingresses, {hosts} hosts, {tls} TLS configurations, {backends} backends",
            self.hosts,
            times[rounds / 2],
            times[rounds - 1],
            cpu as f64 / rounds as f64,
        );
        difference
    }
}

fn many_hosts_start_quickly_and_a_change_costs_what_it_touches() {
    let hosts = if soak() { 5_000 } else { 500 };
    let rounds = 20;
    let plane = manifests::cluster();
    // The EndpointSlices are written by hand; nobody else is to use the processors.
    plane.stop_controllers();
    let authority: Authority = authority();
    let (app, _) = manifests::backend(&plane, "default", "app");
    let (other, _) = manifests::backend(&plane, "default", "other");
    let anchors = trial::scratch().join("anchors.pem");
    std::fs::write(&anchors, authority.root()).unwrap();
    let begun = Instant::now();
    let all = (0..hosts).flat_map(|index| objects(index, &issue(&authority, &[&host(index)]), app.address)).collect();
    create(&plane, all);
    println!("{} objects were created in {:.1?}", 4 * hosts, begun.elapsed());
    let mut world = World { plane, hosts, root: authority.root(), anchors: anchors.to_str().unwrap().to_owned() };

    // Starts: without statuses; with a status for each Ingress; after the end of the one before.
    drop(world.start("cold, without statuses", None, &["--no-status"]));
    let publish = ["--publish-status-address", "192.0.2.10"];
    let handfast = world.start("cold, with statuses", None, &publish);
    let begun = Instant::now();
    let written = |handfast: &Handfast| handfast.metric("handfast_status_writes_total", &[]);
    wait_until_long("all statuses are written", || written(&handfast) >= hosts as f64);
    println!("{hosts} hosts: all statuses written {:.1?} after that", begun.elapsed());
    assert_eq!(written(&handfast), hosts as f64, "one write for each Ingress");
    let handfast = world.start("after a restart", Some(handfast.end()), &publish);
    assert_eq!(handfast.metric("handfast_diagnostics", &[]), 0.0, "{}", handfast.process.said());
    wait_until("it leads", || handfast.metric("handfast_leader", &[]) == 1.0);

    let root = authority.root();
    let until_serial = |host: &str, issued: &Issued, answered: Instant| {
        let serial = serial_of_chain(&issued.leaf);
        wait_until(&format!("the certificate of {host}"), || {
            served(handfast.https, host, &root).as_ref() == Ok(&serial)
        });
        answered.elapsed()
    };
    let compiles = handfast.metric("handfast_compiles_total", &[]);

    let difference = world.measure(&handfast, "one Secret renewed", rounds, |round| {
        let issued = issue(&authority, &[&host(round)]);
        put(&world.plane, &tls_secret("default", &name(round), &issued));
        until_serial(&host(round), &issued, Instant::now())
    });
    let rounds_built = rounds as f64;
    assert_eq!(difference, [0.0, rounds_built, rounds_built, 0.0], "a Secret builds the host that reads it");

    let difference = world.measure(&handfast, "one EndpointSlice changed", rounds, |round| {
        put(&world.plane, &slice("default", &name(round), &[("", other.address.port())], &[other.address]));
        let answered = Instant::now();
        wait_until("the new endpoint", || ask::https(handfast.https, &root, &host(round), "/") == "other");
        answered.elapsed()
    });
    assert_eq!(difference, [0.0, 0.0, 0.0, rounds_built], "an EndpointSlice builds its backend and no host");

    let difference =
        world.measure(&handfast, "one new Ingress with its Secret, Service and EndpointSlice", rounds, |round| {
            let index = hosts + round;
            let issued = issue(&authority, &[&host(index)]);
            let objects = objects(index, &issued, app.address);
            objects.iter().for_each(|object| put(&world.plane, object));
            until_serial(&host(index), &issued, Instant::now())
        });
    assert_eq!(difference, [rounds_built; 4], "a new Ingress builds what is its own");

    // Each change was compiled about once: what is written to statuses comes back from the API server, and wakes nobody.
    let compiles = handfast.metric("handfast_compiles_total", &[]) - compiles;
    println!("{hosts} hosts: {compiles} compilations for {} changes", 3 * rounds);
    world.hosts += rounds;
    wait_until("new Ingresses have a status", || written(&handfast) == rounds_built);
    assert_eq!(handfast.metric("handfast_host_serving", &["state=\"current\""]), world.hosts as f64);
    println!("{} MiB resident in the end", handfast.memory() >> 20);
}

/// As [`wait_until`], with the patience that thousands of writes take.
fn wait_until_long(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 600 s: {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}
