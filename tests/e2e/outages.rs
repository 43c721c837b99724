//! What becomes of traffic and of changes when the API server is away, stands still, forgets, refuses, or cannot be
//! reached. Traffic must not notice; changes must be there within seconds of the end of the trouble, which are printed.
//!
//! What is promised is asserted: ten seconds after packets flow again, twenty after everything else.

mod cold;
mod leaders;
mod network;
mod permissions;
mod server;

use std::time::{Duration, Instant};

use handfast::demo::pki::{Authority, Issued, KeyType};
use rustls::pki_types::UnixTime;

use crate::binary::{host, issue, secret};
use crate::support::load::{Target, serial_of_chain, served};
use crate::support::trial::Trial;
use crate::support::{ControlPlane, Handfast, Options, backends, soak, wait_until};

pub fn trials() -> Vec<Trial> {
    [cold::trials(), leaders::trials(), network::trials(), permissions::trials(), server::trials()].concat()
}

/// Everything of a cluster that is not about a host: our class, the default one so that manifests need not name it.
const CLASS: &str = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\n\
                     metadata: {name: handfast, annotations: {ingressclass.kubernetes.io/is-default-class: \"true\"}}\n\
                     spec: {controller: handfast.dev/ingress-controller}\n---\n";

/// How long an outage is: short in the test command, long in a soak.
fn length(short: u64, long: u64) -> Duration {
    Duration::from_secs(if soak() { long } else { short })
}

/// Looks again and again for a while that something stays so.
fn throughout(time: Duration, mut check: impl FnMut()) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        check();
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// A control plane with a backend behind the Service `echo`, and a CA for the hosts.
struct World {
    authority: Authority,
    echo: backends::Service,
    plane: ControlPlane,
    /// Counts rounds of changes.
    rounds: u32,
}

/// Changes of one moment, of three kinds, that a controller has taken up or not.
struct Changes {
    /// The newest certificate of `shop.test`.
    serial: String,
    /// A host that was not there before.
    new: String,
    /// A host that was there before.
    gone: String,
}

impl World {
    fn start(options: Options) -> Self {
        let plane = ControlPlane::start(options);
        let authority = Authority::new("Test", UnixTime::now()).unwrap();
        plane.apply(CLASS);
        let echo = backends::Service::start(&plane, "default", "echo", 2);
        let world = Self { authority, echo, plane, rounds: 0 };
        world.plane.apply(&world.host("shop", &world.issue("shop.test")));
        world.plane.apply(&world.host("round-0", &world.issue("round-0.test")));
        world
    }

    /// With the definition of TlsPolicy.
    fn complete(options: Options) -> Self {
        let world = Self::start(options);
        world.plane.define_policies();
        world
    }

    fn handfast(&self, args: &[&str]) -> Handfast {
        Handfast::start(&self.plane, &[&["--source", "cluster", "--no-status"], args].concat())
    }

    fn issue(&self, name: &str) -> Issued {
        issue(&self.authority, &[name], KeyType::EcdsaP256)
    }

    /// Ingress and Secret `NAME` for the host `NAME.test`.
    fn host(&self, name: &str, issued: &Issued) -> String {
        host(name, &format!("{name}.test"), Some(issued), &self.echo.name, "").1
    }

    /// A new certificate for `shop.test`; its serial number.
    fn rotate(&self) -> String {
        let issued = self.issue("shop.test");
        self.plane.apply(&secret("shop", &issued));
        serial_of_chain(&issued.leaf)
    }

    /// A new certificate, a new Ingress, and one less.
    fn change(&mut self) -> Changes {
        let gone = format!("round-{}", self.rounds);
        self.rounds += 1;
        let new = format!("round-{}", self.rounds);
        let shop = self.issue("shop.test");
        let serial = serial_of_chain(&shop.leaf);
        let fresh = self.issue(&format!("{new}.test"));
        self.plane.apply(&format!("{}---\n{}", secret("shop", &shop), self.host(&new, &fresh)));
        self.plane.kubectl(&["delete", "ingress,secret", &gone, "--wait=false"]);
        Changes { serial, new: format!("{new}.test"), gone: format!("{gone}.test") }
    }

    fn target(&self, handfast: &Handfast) -> Target {
        let (host, path, roots) = ("shop.test".to_owned(), "/".to_owned(), self.authority.root());
        Target { address: handfast.https, host, path, roots }
    }

    /// The serial number of the certificate that a host is served with.
    fn serial(&self, handfast: &Handfast, host: &str) -> Option<String> {
        served(handfast.https, host, &self.authority.root()).ok()
    }

    fn is_at(&self, handfast: &Handfast, changes: &Changes) -> bool {
        self.serial(handfast, "shop.test").as_ref() == Some(&changes.serial)
            && self.serial(handfast, &changes.new).is_some()
            && self.serial(handfast, &changes.gone).is_none()
    }

    /// Waits until all changes are served; how long that took since `since`.
    fn caught_up(&self, what: &str, handfast: &Handfast, changes: &Changes, since: Instant) -> Duration {
        wait_until(&format!("{what}: {}, {} and no {}", changes.serial, changes.new, changes.gone), || {
            assert!(handfast.is_ready(), "it has lost its readiness");
            self.is_at(handfast, changes)
        });
        let took = since.elapsed();
        println!("{what}: caught up {:.1} s afterwards", took.as_secs_f64());
        assert!(took < Duration::from_secs(20), "{what}: that took {took:?}");
        took
    }
}

/// For how long the watch that is worst off has brought nothing, in seconds.
fn staleness(handfast: &Handfast) -> f64 {
    let (_, text) = handfast.admin("/metrics");
    let samples = text.lines().filter(|line| line.starts_with("handfast_watch_stale_seconds{"));
    samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).fold(0.0, f64::max)
}
