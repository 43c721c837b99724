//! Permissions and kinds that are missing, are taken away, and come back.

use std::time::{Duration, Instant};

use super::{CLASS, World, throughout};
use crate::binary::{host, issue, service};
use crate::support::load::{Load, Shape, served};
use crate::support::rights::role;
use crate::support::trial::trials;
use crate::support::{ControlPlane, Handfast, Options, wait_until};
use handfast::demo::pki::KeyType;

trials!(
    a_kind_that_is_refused_blocks_no_other_and_is_said_until_it_is_back,
    roles_in_two_namespaces_are_all_that_it_takes,
);

/// What a controller reads, but for what is left out.
fn rules(without: &str) -> String {
    let all = [
        ("", "services"),
        ("", "secrets"),
        ("discovery.k8s.io", "endpointslices"),
        ("networking.k8s.io", "ingresses"),
        ("networking.k8s.io", "ingressclasses"),
        ("handfast.dev", "tlspolicies"),
    ];
    let rule = |(group, resource): &(&str, &str)| {
        format!("- {{apiGroups: [\"{group}\"], resources: [{resource}], verbs: [get, list, watch]}}\n")
    };
    all.iter().filter(|(_, resource)| *resource != without).map(rule).collect()
}

/// A ServiceAccount with a ClusterRole of the same name.
fn cluster_role(name: &str, without: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: default}}\n{}",
        role(name, ("default", name), None, &rules(without))
    )
}

/// A controller as a service account.
fn as_account(world: &World, account: &str, args: &[&str]) -> Handfast {
    let (kubeconfig, _) = world.plane.account_kubeconfig("default", account);
    world.handfast(&[&["--kubeconfig", kubeconfig.to_str().unwrap()], args].concat())
}

fn not_watched(handfast: &Handfast) -> f64 {
    handfast.metric("handfast_diagnostics", &["reason=\"kind-not-watched\""])
}

/// Plain HTTP.
fn answers(handfast: &Handfast, host: &str) -> bool {
    handfast::demo::client::get_plain(handfast.http, host, "/").is_ok_and(|answer| answer.status == 200)
}

fn plain(name: &str) -> String {
    host(name, &format!("{name}.test"), None, "echo", "").1
}

fn a_kind_that_is_refused_blocks_no_other_and_is_said_until_it_is_back() {
    // Without the definition of TlsPolicy.
    let mut world = World::start(Options::default());
    world.plane.apply(&format!("{}---\n{}", cluster_role("poor", "secrets"), cluster_role("rich", "")));
    world.plane.apply(&plain("plain"));
    let poor = as_account(&world, "poor", &["--sync-timeout", "3s"]);
    let rich = as_account(&world, "rich", &["--sync-timeout", "3s"]);

    // From the start.
    poor.wait_until_ready();
    wait_until("both are said", || not_watched(&poor) == 2.0);
    for kind in ["secrets", "tlspolicies.handfast.dev"] {
        poor.wait_for_line(kind);
    }
    assert!(answers(&poor, "plain.test"), "what needs no Secret is served");
    assert_eq!(world.serial(&poor, "shop.test"), None);
    world.plane.apply(&plain("later"));
    wait_until("changes of other kinds are taken up", || answers(&poor, "later.test"));
    // It comes.
    world.plane.apply(&cluster_role("poor", ""));
    world.plane.define_policies();
    let granted = Instant::now();
    wait_until("permission and the kind are taken up", || {
        world.serial(&poor, "shop.test").is_some() && not_watched(&poor) == 0.0
    });
    println!("permission is taken up {:.1} s after it was given", granted.elapsed().as_secs_f64());

    // While it runs. An open watch goes on; it is refused when it is to go on after its connection is lost.
    rich.wait_until_ready();
    wait_until("nothing is missing", || not_watched(&rich) == 0.0 && world.serial(&rich, "shop.test").is_some());
    let shape = Shape { new_http2: 0, kept_http1: 0, ..Shape::default() };
    let load = Load::start(&[world.target(&rich)], shape);
    let cut = rich.cut_off(&world.plane);
    world.plane.apply(&cluster_role("rich", "secrets"));
    throughout(Duration::from_secs(7), || assert!(rich.is_ready()));
    drop(cut);
    wait_until("the refusal is said", || not_watched(&rich) == 1.0);
    let serial = world.rotate();
    world.plane.apply(&plain("latest"));
    wait_until("changes of other kinds are taken up", || answers(&rich, "latest.test"));
    assert!(world.serial(&rich, "shop.test").is_some_and(|served| served != serial), "the old one stays");
    world.plane.apply(&cluster_role("rich", ""));
    let granted = Instant::now();
    wait_until("what was missed is taken up", || world.serial(&rich, "shop.test").as_ref() == Some(&serial));
    wait_until("nothing is missing", || not_watched(&rich) == 0.0);
    println!("permission is taken up {:.1} s after it was given back", granted.elapsed().as_secs_f64());
    let changes = world.change();
    world.caught_up("afterwards", &rich, &changes, Instant::now());
    load.stop().assert_flawless();
}

fn roles_in_two_namespaces_are_all_that_it_takes() {
    let plane = ControlPlane::start(Options::default());
    let authority = handfast::demo::pki::Authority::new("Test", rustls::pki_types::UnixTime::now()).unwrap();
    plane.apply(CLASS);
    plane.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: edge, namespace: default}\n");
    for namespace in ["one", "two", "three"] {
        plane.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n"));
        let issued = issue(&authority, &[&format!("{namespace}.test")], KeyType::EcdsaP256);
        let (_, ingress) = host("shop", &format!("{namespace}.test"), Some(&issued), "echo", "");
        let (_, service) = service("echo", &[]);
        let (text, succeeded) = plane.kubectl_with_input(
            &["apply", "--namespace", namespace, "--filename=-"],
            &format!("{ingress}---\n{service}"),
        );
        assert!(succeeded, "{text}");
        if namespace == "three" {
            continue;
        }
        plane.apply(&role("edge", ("default", "edge"), Some(namespace), &rules("ingressclasses")));
    }
    plane.define_policies();
    let (kubeconfig, _) = plane.account_kubeconfig("default", "edge");
    let args = ["--source", "cluster", "--no-status", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let begun = Instant::now();
    let handfast =
        Handfast::start(&plane, &[&args[..], &["--watch-namespace", "one", "--watch-namespace", "two"]].concat());
    handfast.wait_until_ready();
    println!("ready {:.1} s after the start", begun.elapsed().as_secs_f64());
    // A no that is as it should be is not waited for.
    let lines = handfast.process.said();
    assert!(!lines.contains("Still waiting"), "{lines}");
    let shakes = |name: &str| served(handfast.https, name, &authority.root()).is_ok();
    assert!(shakes("one.test") && shakes("two.test"), "the class is known by its name");
    assert!(!shakes("three.test"), "nobody asked for this namespace");
    assert_eq!(not_watched(&handfast), 0.0, "{}", handfast.process.said());
    handfast.wait_for_line("IngressClasses cannot be read");
    wait_until("nothing is stale", || super::staleness(&handfast) == 0.0);
    // Nothing else is refused: there is no other permission that it would ask for.
    let lines = handfast.process.said();
    assert!(!lines.contains("is forbidden"), "{lines}");
}
