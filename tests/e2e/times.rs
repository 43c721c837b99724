//! How long it takes from the API server's answer until clients see what was written, and that nobody who is being
//! served notices anything of it. Times are shown, since they depend on the machine; correctness is asserted.

use std::time::{Duration, Instant};

use handfast::demo::pki::Issued;

use crate::support::ask;
use crate::support::load::{Load, Shape, Target, serial_of_chain, served};
use crate::support::manifests::{self, Ingress, apply, authority, issue, put, secret, tls_secret};
use crate::support::trial::trials;
use crate::support::{ControlPlane, Handfast, soak, wait_until};

trials!(new_hosts_and_certificates_are_served_within_moments_and_no_request_fails);

/// What is measured, and how long it took each time.
struct Times(&'static str, Vec<Duration>);

impl Times {
    fn show(mut self) {
        self.1.sort();
        let (count, median) = (self.1.len(), self.1[self.1.len() / 2]);
        println!("{}: median {median:.1?} of {count} ({:.1?} to {:.1?})", self.0, self.1[0], self.1[count - 1]);
    }
}

/// The state of a host's certificate, as metrics tell it.
fn is_serving(handfast: &Handfast, host: &str, state: &str) -> bool {
    let labels = [format!("host=\"{host}\""), format!("state=\"{state}\"")];
    handfast.metric("handfast_host_serving", &[&labels[0], &labels[1]]) == 1.0
}

/// Shakes hands until a new certificate is shown; until then it has to be the one before, and never nothing.
fn until_shown(handfast: &Handfast, host: &str, root: &str, before: &Issued, after: &Issued) -> Duration {
    let (before, after) = (serial_of_chain(&before.leaf), serial_of_chain(&after.leaf));
    let started = Instant::now();
    loop {
        let shown = served(handfast.https, host, root);
        if shown.as_ref() == Ok(&after) {
            return started.elapsed();
        }
        assert_eq!(shown, Ok(before.clone()), "neither the certificate before nor the one after");
        assert!(started.elapsed() < Duration::from_secs(60), "the new certificate is not shown");
    }
}

fn new_hosts_and_certificates_are_served_within_moments_and_no_request_fails() {
    const HOST: &str = "live.test";
    let rounds = if soak() { 50 } else { 7 };
    let plane = manifests::cluster();
    let authority = authority();
    let root = authority.root();
    let (_app, objects) = manifests::backend(&plane, "default", "app");
    let mut current = issue(&authority, &[HOST]);
    apply(&plane, objects.to_vec());
    apply(
        &plane,
        vec![
            tls_secret("default", "live", &current),
            Ingress::new("live").all(HOST, "app").tls(&[HOST], "live").object(),
        ],
    );
    let args = ["--source", "cluster", "--publish-status-address", "192.0.2.10"];
    let handfast = Handfast::start(&plane, &args);
    handfast.wait_until_ready();
    wait_until("the host is served", || is_serving(&handfast, HOST, "current"));
    let target = Target { address: handfast.https, host: HOST.into(), path: "/".into(), roots: root.clone() };
    let shape = Shape { kept_http1: 2, new_http1: 1, kept_http2: 1, new_http2: 1, pause: Duration::from_millis(10) };
    let load = Load::start(&[target], shape);
    load.wait_for(50);

    // New hosts, by the client that is fastest, and by kubectl.
    let mut times = Times(
        "from the answer about a new Ingress, Secret, Service and EndpointSlice to the first good handshake",
        vec![],
    );
    for round in 0..rounds {
        times.1.push(new_host(&plane, &handfast, &format!("new-{round}"), round % 2 == 0));
    }
    times.show();
    let (issued, host) = (issue(&authority, &["applied.test"]), "applied.test");
    let begun = Instant::now();
    apply(
        &plane,
        vec![
            tls_secret("default", "applied", &issued),
            Ingress::new("applied").all(host, "app").tls(&[host], "applied").object(),
        ],
    );
    let applied = Instant::now();
    wait_until("what kubectl has applied is served", || served(handfast.https, host, &root).is_ok());
    println!(
        "kubectl apply took {:.1?}; {:.1?} later the first handshake was good",
        applied - begun,
        applied.elapsed()
    );

    // New certificates of a host that is being served.
    let mut times = Times("from the answer about a Secret to a handshake with the new certificate", vec![]);
    let mut serials = vec![serial_of_chain(&current.leaf)];
    for _ in 0..rounds {
        let next = issue(&authority, &[HOST]);
        put(&plane, &tls_secret("default", "live", &next));
        times.1.push(until_shown(&handfast, HOST, &root, &current, &next));
        serials.push(serial_of_chain(&next.leaf));
        current = next;
        load.wait_for(20);
    }
    times.show();

    // A Secret that turns to garbage, in three ways: what was good last is served, and then what is good again.
    let other = issue(&authority, &[HOST]);
    let mut times = Times("from garbage to a new certificate again", vec![]);
    let garbage = [("-----BEGIN NONSENSE-----\n", "no key"), (&*current.chain(), &*other.key), ("", "")]
        .map(|(certificate, key)| (certificate.to_owned(), key.to_owned()));
    for (certificate, key) in garbage {
        if key.is_empty() {
            plane.kubectl(&["delete", "secret", "live"]);
        } else {
            put(&plane, &secret("default", "live", &certificate, &key));
        }
        wait_until("the last good one is served", || is_serving(&handfast, HOST, "last_good"));
        load.wait_for(50);
        assert_eq!(served(handfast.https, HOST, &root), Ok(serial_of_chain(&current.leaf)));
        let next = issue(&authority, &[HOST]);
        put(&plane, &tls_secret("default", "live", &next));
        times.1.push(until_shown(&handfast, HOST, &root, &current, &next));
        wait_until("it is the current one", || is_serving(&handfast, HOST, "current"));
        serials.push(serial_of_chain(&next.leaf));
        current = next;
    }
    times.show();

    load.wait_for(50);
    let report = load.stop();
    report.assert_flawless();
    println!(
        "{} requests meanwhile, none failed, the slowest took {:.1?}; new connections saw {} of {} certificates",
        report.requests,
        report.slowest,
        report.certificates.len(),
        serials.len()
    );
    assert!(report.certificates.keys().all(|serial| serials.contains(serial)), "{report:#?}");
    assert!(report.certificates.contains_key(serials.last().unwrap()), "{report:#?}");
    assert_eq!(report.backends.keys().collect::<Vec<_>>(), ["app"]);
}

/// Writes everything that a host needs; the last object is its Ingress, or its Secret. Returns how long it took from
/// the last answer until the first good handshake; the first request has to be answered as well.
fn new_host(plane: &ControlPlane, handfast: &Handfast, name: &str, ingress_last: bool) -> Duration {
    let authority = authority();
    let (root, host) = (authority.root(), format!("{name}.test"));
    let issued = issue(&authority, &[&host]);
    let (_backend, [service, slice]) = manifests::backend(plane, "default", name);
    let secret = tls_secret("default", name, &issued);
    let ingress = Ingress::new(name).all(&host, name).tls(&[&host], name).object();
    let last = if ingress_last { [secret, ingress] } else { [ingress, secret] };
    for object in [service, slice].iter().chain(&last) {
        put(plane, object);
    }
    let started = Instant::now();
    while served(handfast.https, &host, &root).is_err() {
        assert!(started.elapsed() < Duration::from_secs(60), "{host} is not served");
    }
    let took = started.elapsed();
    assert_eq!(ask::https(handfast.https, &root, &host, "/"), name);
    took
}
