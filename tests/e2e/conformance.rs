//! The behaviours that the Ingress API promises, as its upstream conformance suite lists them: default backend, hosts,
//! paths, classes, load balancing, status. Against a real API server, with all objects written by `kubectl apply`.

use serde_json::Value;

use crate::backend::Backend;
use crate::support::ask::{self, settle};
use crate::support::manifests::{self, Ingress, apply, authority, class, issue, namespace, tls_secret};
use crate::support::network::backend_address;
use crate::support::trial::trials;
use crate::support::{ControlPlane, Handfast, backends, wait_until};

trials!(
    hosts_paths_and_default_backends_are_as_the_api_promises,
    classes_decide_whose_an_ingress_is,
    ten_endpoints_share_the_requests_and_one_that_is_not_ready_gets_none,
);

const CLUSTER: [&str; 2] = ["--source", "cluster"];

/// Requests over plain HTTP, with who is to answer.
type Row = (&'static str, &'static str, &'static str);

fn expect(handfast: &Handfast, what: &str, rows: &[Row]) {
    let expected: Vec<String> = rows.iter().map(|(host, path, by)| format!("{host}{path}: {by}")).collect();
    settle(what, &expected, || {
        let ask = |(host, path, _): &Row| format!("{host}{path}: {}", ask::http(handfast.http, host, path));
        rows.iter().map(ask).collect()
    });
}

/// Backends with their Services, each called like what leads to it.
fn start(plane: &ControlPlane, names: &[(&str, &str)]) -> (Vec<Backend>, Vec<Value>) {
    let mut objects = Vec::new();
    let start = |(namespace, name): &(&str, &str)| {
        let (backend, written) = manifests::backend(plane, namespace, name);
        objects.extend(written);
        backend
    };
    (names.iter().map(start).collect(), objects)
}

/// The addresses in the status of an Ingress.
fn published(plane: &ControlPlane, namespace: &str, name: &str) -> String {
    plane.kubectl(&[
        "get",
        "ingress",
        "--namespace",
        namespace,
        name,
        "--output=jsonpath={.status.loadBalancer.ingress[*].ip}",
    ])
}

fn hosts_paths_and_default_backends_are_as_the_api_promises() {
    let plane = manifests::cluster();
    apply(&plane, vec![namespace("blue"), namespace("green")]);
    let names = ["any", "host", "wildcard", "exact", "prefix", "long", "slash"].map(|name| ("default", name)).to_vec();
    let (backends, objects) =
        start(&plane, &[names, vec![("blue", "web"), ("green", "web"), ("green", "other")]].concat());
    // One Service, two ports, named like nothing else.
    let address = backend_address(plane.number);
    let _ports = [("ports-web", 8080), ("ports-admin", 8081)]
        .map(|(name, port)| Backend::start_at(name, (address, port).into()));
    let authority = authority();
    let root = authority.root();
    apply(
        &plane,
        [
            objects,
            vec![
                manifests::service("default", "ports", &[(80, "web", 8080), (81, "admin", 8081)]),
                manifests::slice("default", "ports", &[("web", 8080), ("admin", 8081)], &[(address, 0).into()]),
                tls_secret("default", "foo", &issue(&authority, &["foo.bar.test"])),
                tls_secret("default", "wildcard", &issue(&authority, &["*.foo.test"])),
                Ingress::new("hosts")
                    .all("foo.bar.test", "host")
                    .all("*.foo.test", "wildcard")
                    .all("exact.foo.test", "host")
                    .tls(&["foo.bar.test"], "foo")
                    .tls(&["*.foo.test"], "wildcard")
                    .object(),
                Ingress::new("plain-hosts").all("plain.test", "host").all("*.plain.test", "wildcard").object(),
                Ingress::new("exact").rule("exact.test", &[("Exact", "/foo", "exact")]).object(),
                Ingress::new("prefix")
                    .rule(
                        "prefix.test",
                        &[("Prefix", "/foo", "prefix"), ("Prefix", "/aaa/bbb", "long"), ("Prefix", "/aaa", "prefix")],
                    )
                    .object(),
                Ingress::new("mixed")
                    .rule(
                        "mixed.test",
                        &[("Prefix", "/foo", "prefix"), ("Exact", "/foo", "exact"), ("Prefix", "/", "any")],
                    )
                    .object(),
                Ingress::new("slash")
                    .rule(
                        "slash.test",
                        &[("Exact", "/foo/", "exact"), ("Prefix", "/aaa/bbb/", "slash"), ("Prefix", "/aaa/", "prefix")],
                    )
                    .object(),
                Ingress::new("case")
                    .rule("case.test", &[("Exact", "/Foo", "exact"), ("Prefix", "/Bar", "prefix")])
                    .object(),
                Ingress::new("fallback")
                    .default_backend("any")
                    .rule("fallback.test", &[("Prefix", "/foo", "prefix")])
                    .object(),
                Ingress::new("ports")
                    .rule("ports.test", &[("Prefix", "/", "ports:web"), ("Prefix", "/admin", "ports:81")])
                    .object(),
                Ingress::new("blue").namespace("blue").all("shared.test", "web").object(),
                Ingress::new("green")
                    .namespace("green")
                    .rule("shared.test", &[("Prefix", "/green", "other")])
                    .all("green.test", "web")
                    .object(),
                Ingress::new("nobody").class("nobody").all("nobody.test", "host").object(),
            ],
        ]
        .concat(),
    );
    let handfast = Handfast::start(&plane, &[&CLUSTER[..], &["--publish-status-address", "192.0.2.10"]].concat());
    handfast.wait_until_ready();

    expect(
        &handfast,
        "hosts without TLS",
        &[
            ("plain.test", "/", "host"),
            ("plain.test", "/any/path?with=query", "host"),
            ("PLAIN.test", "/", "host"),
            ("plain.test:80", "/", "host"),
            ("one.plain.test", "/", "wildcard"),
            ("two.one.plain.test", "/", "404"),
            ("other.test", "/", "404"),
            ("nobody.test", "/", "404"),
            ("foo.bar.test", "/a?b", "308 https://foo.bar.test/a?b"),
            ("bar.foo.test", "/", "308 https://bar.foo.test/"),
        ],
    );
    let https = |host: &str| ask::https(handfast.https, &root, host, "/");
    let refused = "the handshake failed: received fatal alert: UnrecognisedName";
    let expected = ["host", "wildcard", "host", refused, refused, refused].map(|text| text.to_owned());
    let hosts = ["foo.bar.test", "one.foo.test", "exact.foo.test", "two.one.foo.test", "foo.test", "other.test"];
    settle("hosts with TLS", &expected, || hosts.map(https));

    expect(
        &handfast,
        "paths",
        &[
            ("exact.test", "/foo", "exact"),
            ("exact.test", "/foo?a=b", "exact"),
            ("exact.test", "/foo/", "404"),
            ("exact.test", "/foo/bar", "404"),
            ("exact.test", "/FOO", "404"),
            ("exact.test", "/bar", "404"),
            ("prefix.test", "/foo", "prefix"),
            ("prefix.test", "/foo/", "prefix"),
            ("prefix.test", "/foo/bar", "prefix"),
            ("prefix.test", "/foobar", "404"),
            ("prefix.test", "/FOO", "404"),
            ("prefix.test", "/aaa/bbb", "long"),
            ("prefix.test", "/aaa/bbb/", "long"),
            ("prefix.test", "/aaa/bbb/ccc", "long"),
            ("prefix.test", "/aaa/bbbccc", "prefix"),
            ("prefix.test", "/aaa/bb", "prefix"),
            ("prefix.test", "/aaa", "prefix"),
            ("prefix.test", "/aaaccc", "404"),
            ("prefix.test", "/", "404"),
            ("mixed.test", "/foo", "exact"),
            ("mixed.test", "/foo/", "prefix"),
            ("mixed.test", "/foo/bar", "prefix"),
            ("mixed.test", "/foobar", "any"),
            ("mixed.test", "/", "any"),
            ("slash.test", "/foo/", "exact"),
            ("slash.test", "/foo", "404"),
            ("slash.test", "/aaa/bbb", "slash"),
            ("slash.test", "/aaa/bbb/", "slash"),
            ("slash.test", "/aaa/bbb/ccc", "slash"),
            ("slash.test", "/aaa/bbbccc", "prefix"),
            ("slash.test", "/aaa", "prefix"),
            ("case.test", "/Foo", "exact"),
            ("case.test", "/foo", "404"),
            ("case.test", "/Bar/baz", "prefix"),
            ("case.test", "/bar/baz", "404"),
        ],
    );

    expect(
        &handfast,
        "ports by name and number, hosts of two namespaces, a default backend of an Ingress with rules",
        &[
            ("ports.test", "/", "ports-web"),
            ("ports.test", "/admin/x", "ports-admin"),
            ("shared.test", "/", "web"),
            ("shared.test", "/green/x", "other"),
            ("green.test", "/", "web"),
            ("fallback.test", "/foo/x", "prefix"),
            ("fallback.test", "/", "any"),
            ("exact.test", "/", "404"),
            ("other.test", "/", "404"),
        ],
    );
    // Two Services of one name are two.
    let web = |host: &str| ask::http(handfast.http, host, "/");
    assert_eq!([web("shared.test"), web("green.test")], ["web", "web"]);
    let requests: Vec<usize> = backends[7..9].iter().map(Backend::requests).collect();
    assert!(requests.iter().all(|count| *count >= 2), "both namespaces have answered: {requests:?}");

    // Status: of what is served, and of nothing else.
    for (namespace, name) in [("default", "hosts"), ("default", "fallback"), ("green", "green")] {
        wait_until(&format!("{name} has a status"), || published(&plane, namespace, name) == "192.0.2.10");
    }
    assert_eq!(published(&plane, "default", "nobody"), "");

    // An Ingress without rules takes what no rule of any Ingress matches, and goes again.
    apply(&plane, vec![Ingress::new("everything").default_backend("any").object()]);
    let rows = |other: &'static str| {
        [
            ("other.test", "/", other),
            ("two.one.plain.test", "/some/path", other),
            ("plain.test", "/", "host"),
            ("one.plain.test", "/", "wildcard"),
            ("mixed.test", "/foo", "exact"),
        ]
    };
    expect(&handfast, "a default backend for everything", &rows("any"));
    plane.kubectl(&["delete", "ingress", "everything"]);
    expect(&handfast, "the default backend is gone", &rows("404"));

    // Changes: another backend, another path, another host; then the end.
    apply(
        &plane,
        vec![Ingress::new("exact").rule("exact.test", &[("Exact", "/new", "long")]).all("moved.test", "any").object()],
    );
    expect(
        &handfast,
        "a changed Ingress",
        &[("exact.test", "/new", "long"), ("exact.test", "/foo", "404"), ("moved.test", "/", "any")],
    );
    plane.kubectl(&["delete", "ingress", "exact", "hosts"]);
    expect(
        &handfast,
        "deleted Ingresses",
        &[
            ("exact.test", "/new", "404"),
            ("moved.test", "/", "404"),
            ("foo.bar.test", "/", "404"),
            ("prefix.test", "/foo", "prefix"),
        ],
    );
    assert_eq!(https("foo.bar.test"), refused);
    // A Service that goes answers 503, and its path is not given to a shorter one.
    plane.kubectl(&["delete", "service", "exact"]);
    expect(&handfast, "a deleted Service", &[("mixed.test", "/foo", "503"), ("mixed.test", "/foo/", "prefix")]);
}

fn classes_decide_whose_an_ingress_is() {
    let plane = manifests::cluster();
    let (_backends, objects) = start(&plane, &[("default", "web")]);
    const ANNOTATION: &str = "kubernetes.io/ingress.class";
    let of = |name: &str, class: &str| Ingress::new(name).class(class).all(&format!("{name}.test"), "web");
    let annotated = |name: &str, class: &str| of(name, "").annotation(ANNOTATION, class).object();
    apply(
        &plane,
        [
            objects,
            vec![
                class("second", "handfast.dev/ingress-controller"),
                class("nginx", "k8s.io/ingress-nginx"),
                class("traefik", "traefik.io/ingress-controller"),
                of("field", "handfast").object(),
                of("second", "second").object(),
                of("none", "").object(),
                of("nginx", "nginx").object(),
                of("traefik", "traefik").object(),
                of("missing", "missing").object(),
                annotated("old", "handfast"),
                annotated("old-edge", "edge"),
                annotated("old-nginx", "nginx"),
            ],
        ]
        .concat(),
    );
    const NAMES: [&str; 9] = ["field", "second", "none", "nginx", "traefik", "missing", "old", "old-edge", "old-nginx"];
    let served = |handfast: &Handfast| -> Vec<&str> {
        let is_served = |name: &&str| ask::http(handfast.http, &format!("{name}.test"), "/") == "web";
        NAMES.into_iter().filter(is_served).collect()
    };
    let versions = || {
        plane.kubectl(&[
            "get",
            "ingress",
            "nginx",
            "old-nginx",
            "--output=jsonpath={.items[*].metadata.resourceVersion}",
        ])
    };
    let untouched = versions();
    let start = |args: &[&str]| {
        Handfast::start(&plane, &[&CLUSTER[..], &["--publish-status-address", "192.0.2.10"], args].concat())
    };
    let plain = start(&[]);
    let without = start(&["--watch-ingress-without-class", "--no-status"]);
    let edge = start(&["--ingress-class", "edge", "--no-status"]);
    let shadow = start(&["--adopt-class", "nginx", "--no-status"]);
    let controller = start(&["--controller-class", "traefik.io/ingress-controller", "--no-status"]);
    for handfast in [&plain, &without, &edge, &shadow, &controller] {
        handfast.wait_until_ready();
    }
    settle("by field and annotation", &vec!["field", "second", "old"], || served(&plain));
    settle("without a class", &vec!["field", "second", "none", "old"], || served(&without));
    settle("another name for the annotation", &vec!["field", "second", "old-edge"], || served(&edge));
    settle("adopted", &vec!["field", "second", "nginx", "old", "old-nginx"], || served(&shadow));
    settle("another controller's name", &vec!["traefik", "old"], || served(&controller));
    // A class that does not exist is said; other controllers' are not our business.
    assert_eq!(plain.metric("handfast_diagnostics", &["unknown-ingress-class"]), 1.0);
    plain.wait_for_line("missing");
    wait_until("an Event about it", || {
        plane
            .kubectl(&["get", "events", "--field-selector=involvedObject.name=missing"])
            .contains("UnknownIngressClass")
    });
    // Whoever serves beside another controller writes nothing.
    wait_until("ours have a status", || published(&plane, "default", "second") == "192.0.2.10");
    for name in ["none", "nginx", "traefik", "missing", "old-edge", "old-nginx"] {
        assert_eq!(published(&plane, "default", name), "", "{name}");
    }
    assert_eq!(versions(), untouched);
    assert!(!plane.kubectl(&["get", "events", "--field-selector=involvedObject.name=nginx"]).contains("nginx"));

    // Adopted for real: the status is written, and the Ingress itself stays as it is.
    let generation = || plane.kubectl(&["get", "ingress", "nginx", "--output=jsonpath={.metadata.generation}{.spec}"]);
    let before = generation();
    drop((without, edge, controller));
    let real = start(&["--adopt-class", "nginx", "--election-id", "adopting"]);
    real.wait_until_ready();
    wait_until("the status of an adopted Ingress", || published(&plane, "default", "nginx") == "192.0.2.10");
    assert_eq!(generation(), before);
    drop((real, shadow));

    // The default class: who names none belongs to it, also if the Ingress was there before.
    let default = "ingressclass.kubernetes.io/is-default-class=true";
    plane.kubectl(&["annotate", "ingressclass", "handfast", default]);
    let defaulted = of("defaulted", "").object();
    wait_until("the API server knows the default class", || {
        let dry = ["create", "--dry-run=server", "--output=jsonpath={.spec.ingressClassName}", "--filename=-"];
        plane.kubectl_with_input(&dry, &defaulted.to_string()).0 == "handfast"
    });
    apply(&plane, vec![defaulted]);
    settle("by default", &vec!["field", "second", "none", "old"], || served(&plain));
    expect(&plain, "by default", &[("defaulted.test", "/", "web")]);

    // The class comes and goes with its object.
    plane.kubectl(&["delete", "ingressclass", "handfast"]);
    settle("the class is gone", &vec!["second", "old"], || served(&plain));
    apply(
        &plane,
        vec![class("handfast", "handfast.dev/ingress-controller"), class("missing", "handfast.dev/ingress-controller")],
    );
    settle("it is back, and the missing one is there", &vec!["field", "second", "missing", "old"], || served(&plain));
    // An Ingress that moves to another class is no longer served.
    apply(&plane, vec![of("field", "traefik").object()]);
    settle("moved away", &vec!["second", "missing", "old"], || served(&plain));
}

fn ten_endpoints_share_the_requests_and_one_that_is_not_ready_gets_none() {
    let plane = manifests::cluster();
    let service = backends::played(&plane, "default", "echo", 10);
    apply(&plane, vec![Ingress::new("echo").all("echo.test", "echo").object()]);
    let handfast = Handfast::start(&plane, &CLUSTER);
    handfast.wait_until_ready();
    let ask = || ask::http(handfast.http, "echo.test", "/");
    // How many of the next requests each endpoint gets; all of them are answered.
    let spread = |count: usize| {
        let before = service.requests();
        for _ in 0..count {
            assert!(ask().starts_with("echo-"), "an endpoint answers");
        }
        let after = service.requests();
        after.iter().zip(before).map(|(after, before)| after - before).collect::<Vec<usize>>()
    };
    wait_until("an endpoint answers", || ask().starts_with("echo-"));
    let busy = |counts: &[usize]| counts.iter().filter(|count| **count > 0).count();
    wait_until("all ten are known", || busy(&spread(40)) == 10);
    let counts = spread(200);
    assert_eq!((counts.iter().sum::<usize>(), busy(&counts)), (200, 10), "{counts:?}");

    // Two stop being ready, one of them comes back, and no request fails meanwhile.
    let set = |index: usize, ready: bool| {
        let address = service.backends[index].address;
        backends::set_ready(&plane, "default", &format!("echo-{index}"), address, ready);
    };
    set(3, false);
    set(7, false);
    // Not how many get nothing: of nine, one in forty such rounds leaves another one out.
    let get_nothing = |indexes: &[usize]| {
        let counts = spread(50);
        indexes.iter().all(|index| counts[*index] == 0)
    };
    wait_until("they get nothing", || get_nothing(&[3, 7]));
    let counts = spread(100);
    assert_eq!((counts[3], counts[7], busy(&counts)), (0, 0, 8), "{counts:?}");
    set(3, true);
    wait_until("one is back", || !get_nothing(&[3]));
    // A Pod that is deleted, and then all of them.
    plane.kubectl(&["delete", "pod", "echo-0", "--grace-period=0", "--force"]);
    wait_until("it is gone", || get_nothing(&[0]));
    (0..10).filter(|index| *index != 0).for_each(|index| set(index, false));
    wait_until("nobody is ready", || ask() == "503");
    set(5, true);
    wait_until("one is enough", || ask() == "echo-5");
}
