//! Many hosts with a certificate each: what is compiled at first, and what a change compiles again.
//!
//! `make soak` has ten thousand hosts, other runs have a thousand. Counts of work are asserted. CPU time is measured
//! and shown, since it depends on the machine: `HANDFAST_SOAK=1 cargo test --release --test it scale -- --nocapture`.

use std::cell::Cell;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use handfast::compile::{Change, Compiled, Compiler, Object, Options, Scope, SecretObject, Units};
use handfast::demo::pki::{Authority, KeyType};
use handfast::tls::chain::TrustAnchors;
use handfast::trie::Trie;
use serde_json::{Value, json};

use crate::binary::soak;
use crate::manifests::{NOW, at};

fn object(value: Value) -> Object {
    let kind = value["kind"].as_str().unwrap().to_owned();
    fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).unwrap())
    }
    match kind.as_str() {
        "EndpointSlice" => Object::EndpointSlice(parse(value)),
        "Ingress" => Object::Ingress(parse(value)),
        "Secret" => Object::Secret(SecretObject(parse(value))),
        "Service" => Object::Service(parse(value)),
        "TlsPolicy" => Object::TlsPolicy(parse(value)),
        other => panic!("no host needs a {other}"),
    }
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": "default"})
}

fn secret(authority: &Authority, host: usize) -> Object {
    let issued = authority.issue(&[&domain(host)], KeyType::EcdsaP256, at(NOW), -10..80).unwrap();
    object(json!({"kind": "Secret", "metadata": metadata(&format!("tls-{host}")),
        "stringData": {"tls.crt": issued.chain(), "tls.key": issued.key}}))
}

fn domain(host: usize) -> String {
    format!("h{host}.example")
}

/// The first host has a policy for itself.
fn ingress(host: usize) -> Object {
    let mut metadata = metadata(&format!("i-{host}"));
    metadata["annotations"] = json!({"handfast.dev/tls-policy": if host == 0 { "one" } else { "all" }});
    let backend = json!({"service": {"name": format!("web-{host}"), "port": {"number": 80}}});
    object(json!({"kind": "Ingress", "metadata": metadata, "spec": {
        "tls": [{"hosts": [domain(host)], "secretName": format!("tls-{host}")}],
        "rules": [{"host": domain(host),
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}}))
}

fn service(host: usize) -> Object {
    object(json!({"kind": "Service", "metadata": metadata(&format!("web-{host}")), "spec": {"ports": [{"port": 80}]}}))
}

fn slice(host: usize, address: &str) -> Object {
    let mut metadata = metadata(&format!("web-{host}-1"));
    metadata["labels"] = json!({"kubernetes.io/service-name": format!("web-{host}")});
    object(json!({"kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}], "endpoints": [{"addresses": [address]}]}))
}

fn policy(name: &str, spec: Value) -> Object {
    object(json!({"kind": "TlsPolicy", "metadata": metadata(name), "spec": spec}))
}

/// CPU time of this process so far, over all its threads, in milliseconds; the kernel counts in steps of ten.
fn cpu_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program, in parentheses, may contain anything; the times are the 14th and 15th field.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}

/// How many entries of two maps have to be looked at to find what differs, if the maps are what a change made of each other.
fn looks<K: Hash + Eq, V>(before: &Trie<K, V>, now: &Trie<K, V>) -> usize {
    let compared = Cell::new(0);
    // Those that are the same to the eye count as well: a map that was made anew shares nothing.
    let found = now.since(before, |_, _| {
        compared.set(compared.get() + 1);
        true
    });
    compared.get() + found.len()
}

/// The most entries that whoever follows publications has to look at, for all that is published.
fn looks_at(before: &Compiled, now: &Compiled) -> usize {
    let looks = [
        looks(&before.snapshot.hosts, &now.snapshot.hosts),
        looks(&before.snapshot.backends, &now.snapshot.backends),
        looks(&before.certificates, &now.certificates),
        looks(&before.ingresses, &now.ingresses),
        looks(&before.policies, &now.policies),
        now.diagnostics.since(&before.diagnostics).len(),
    ];
    looks.into_iter().max().unwrap()
}

/// Entries that stand beside one that changed: the leaves of the maps on which one change touches.
const NEIGHBOURS: usize = 40;

struct World {
    compiler: Compiler,
    hosts: usize,
    last: Option<Compiled>,
}

impl World {
    /// Applies each change, compiles after each, and shows the mean cost.
    #[expect(clippy::print_stderr, reason = "figures are for people")]
    fn measure(&mut self, what: &str, changes: Vec<Change>) -> Vec<Compiled> {
        let (count, cpu, wall) = (changes.len() as u64, cpu_time(), Instant::now());
        let mut results = Vec::new();
        for change in changes {
            self.compiler.apply(change);
            results.push(self.compiler.compile(at(NOW)));
        }
        self.last = results.last().cloned();
        let (cpu, wall) = (cpu_time() - cpu, wall.elapsed());
        let stats = results.last().unwrap().stats;
        let built = |units: Units| units.built;
        eprintln!(
            "{} hosts, {what}: {:.1} ms CPU, {:.1} ms elapsed (mean of {count}); \
             built: {} Ingresses, {} hosts, {} TLS configurations, {} backends",
            self.hosts,
            cpu as f64 / count as f64,
            wall.as_secs_f64() * 1000.0 / count as f64,
            built(stats.ingresses),
            built(stats.hosts),
            built(stats.tls),
            built(stats.backends),
        );
        for compiled in &results {
            assert!(compiled.diagnostics.is_empty(), "{what}: {}", compiled.diagnostics[0]);
            assert_eq!(compiled.snapshot.hosts.len(), self.hosts);
        }
        results
    }

    /// As [`World::measure`], and asserts how much each change builds: Ingresses, hosts, TLS configurations, backends.
    fn expect(&mut self, what: &str, changes: Vec<Change>, built: [usize; 4]) {
        let units = |built: usize| Units { built, reused: self.hosts - built };
        let expected = built.map(units);
        let mut before = self.last.clone();
        for compiled in self.measure(what, changes) {
            let stats = compiled.stats;
            assert_eq!([stats.ingresses, stats.hosts, stats.tls, stats.backends], expected, "{what}");
            let looks = before.map_or(0, |before| looks_at(&before, &compiled));
            let touched = built.into_iter().max().unwrap_or_default();
            assert!(looks <= (NEIGHBOURS * touched).min(self.hosts + NEIGHBOURS), "{what}: {looks} entries");
            before = Some(compiled);
        }
    }
}

#[test]
fn a_change_compiles_what_it_touches_and_the_certificates_of_other_hosts_are_not_read_again() {
    let hosts = if soak() { 10_000 } else { 1_000 };
    let rounds = 50;
    let authority = Authority::new("Test", at(NOW)).unwrap();
    let trust_anchors = TrustAnchors::public().with_file(authority.root().as_bytes()).unwrap();
    let options = Options { watch_without_class: true, trust_anchors: Arc::new(trust_anchors), ..Options::default() };
    let mut world = World { compiler: Compiler::new(options), hosts, last: None };
    let each =
        (0..hosts).flat_map(|host| [secret(&authority, host), ingress(host), service(host), slice(host, "10.0.0.1")]);
    let policies = [policy("one", json!({"preset": "modern"})), policy("all", json!({"preset": "intermediate"}))];
    let objects: Vec<Object> = each.chain(policies).collect();
    let scope = || Scope("test".into());
    let upsert = |object: Object| Change::Upsert(scope(), object);

    world.expect("the first compilation", vec![Change::Replace(scope(), objects)], [hosts; 4]);

    let again = (0..rounds).map(|host| upsert(ingress(host))).collect();
    world.expect("nothing new", again, [0; 4]);

    let renewed = (0..rounds).map(|host| upsert(secret(&authority, host))).collect();
    world.expect("one Secret renewed", renewed, [0, 1, 1, 0]);

    let groups = |round: usize| json!({"groups": if round.is_multiple_of(2) { ["X25519"] } else { ["secp256r1"] }});
    let changed = (0..rounds).map(|round| upsert(policy("one", groups(round)))).collect();
    world.expect("one TlsPolicy of one host changed", changed, [0, 1, 1, 0]);

    let changed = (0..4).map(|round| upsert(policy("all", groups(round)))).collect();
    world.expect("one TlsPolicy of all other hosts changed", changed, [0, hosts - 1, hosts - 1, 0]);

    let moved = (0..rounds).map(|host| upsert(slice(host, "10.0.0.2"))).collect();
    world.expect("one EndpointSlice changed", moved, [0, 0, 0, 1]);

    // One batch each, as they come from a cluster.
    for host in hosts..hosts + rounds {
        for object in [secret(&authority, host), service(host), slice(host, "10.0.0.1")] {
            world.compiler.apply(upsert(object));
        }
        world.hosts += 1;
        world.expect("one new Ingress with all that belongs to it", vec![upsert(ingress(host))], [1; 4]);
    }
}
