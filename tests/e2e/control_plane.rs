//! The control plane itself: what the other tests stand on has to be there.

use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{PostParams, WatchParams};
use kube::core::WatchEvent;
use kube::{Api, ResourceExt};

use crate::support::process::outcome;
use crate::support::runtime::block_on;
use crate::support::trial::trials;
use crate::support::{ControlPlane, Handfast, Options, programs, wait_until};

trials!(
    the_definition_of_tls_policy_is_taken_and_its_rules_are_enforced,
    packets_are_dropped_between_one_process_and_the_api_server,
    an_account_may_what_its_role_says_until_its_token_ends,
    the_api_server_stands_still_goes_on_and_comes_back_with_an_empty_memory,
    the_program_of_the_control_plane_is_formatted_and_its_modules_are_what_they_were,
);

fn the_definition_of_tls_policy_is_taken_and_its_rules_are_enforced() {
    let plane = ControlPlane::start(Options::default());
    assert!(plane.kubectl(&["version"]).contains("Server Version: v1.37.2"));
    plane.define_policies();
    let policy = |spec: &str| {
        format!("apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: modern}}\nspec: {spec}\n")
    };
    plane.apply(&policy("{preset: modern}"));
    let (text, succeeded) =
        plane.try_apply(&policy("{preset: intermediate, minVersion: TLSv1.3, maxVersion: TLSv1.2}"));
    assert!(!succeeded && text.contains("minVersion is newer than maxVersion: swap them"), "{text}");
    let (text, succeeded) = plane.try_apply(&policy("{preset: modern, nosuch: true}"));
    assert!(!succeeded && text.contains("unknown field \"spec.nosuch\""), "{text}");
}

fn packets_are_dropped_between_one_process_and_the_api_server() {
    let plane = ControlPlane::start(Options::default());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("none.yaml"), "apiVersion: v1\nkind: List\nitems: []\n").unwrap();
    let start = || Handfast::start(&plane, &["--source", directory.path().to_str().unwrap()]);
    let (one, other) = (start(), start());
    for handfast in [&one, &other] {
        handfast.wait_until_ready();
        handfast.wait_for_line("Serving.");
    }
    let asks = |handfast: &Handfast| {
        let kubectl = plane.command("kubectl");
        let mut command = handfast.sandbox.enter();
        command.arg(kubectl.get_program()).args(kubectl.get_args());
        command.arg("--kubeconfig").arg(plane.kubeconfig()).args(["--request-timeout=2s", "get", "namespaces"]);
        outcome(&mut command)
    };
    assert!(asks(&one).1 && asks(&other).1);
    let cut = one.cut_off(&plane);
    let (text, succeeded) = asks(&one);
    assert!(!succeeded && !text.contains("refused"), "nobody says a word: {text}");
    assert!(asks(&other).1 && one.is_ready(), "nobody else is meant");
    drop(cut);
    assert!(asks(&one).1);
}

fn an_account_may_what_its_role_says_until_its_token_ends() {
    let plane = ControlPlane::start(Options::default());
    plane.kubectl(&["create", "serviceaccount", "reader"]);
    plane.kubectl(&["create", "clusterrole", "reader", "--verb=get,list", "--resource=namespaces"]);
    plane.kubectl(&[
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=reader",
        "--serviceaccount=default:reader",
    ]);
    let (kubeconfig, file) = plane.account_kubeconfig("default", "reader");
    let asks = |what: &str| outcome(plane.command("kubectl").env("KUBECONFIG", &kubeconfig).args(["get", what]));
    assert!(asks("namespaces").1);
    let (text, succeeded) = asks("secrets");
    assert!(!succeeded && text.contains("system:serviceaccount:default:reader"), "{text}");

    std::fs::write(&file, plane.revocable_token("default", "reader", "lease-of-life")).unwrap();
    assert!(asks("namespaces").1);
    plane.kubectl(&["delete", "secret", "lease-of-life"]);
    wait_until("the token has ended", || !asks("namespaces").1);
}

fn the_api_server_stands_still_goes_on_and_comes_back_with_an_empty_memory() {
    let plane = ControlPlane::start(Options::default());
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
    let create = |name: &str| {
        let (maps, name) = (maps.clone(), name.to_owned());
        block_on(async move {
            let map = ConfigMap {
                metadata: kube::core::ObjectMeta { name: Some(name), ..Default::default() },
                ..Default::default()
            };
            let created = tokio::time::timeout(Duration::from_secs(2), maps.create(&PostParams::default(), &map)).await;
            created.map(|created| created.unwrap().resource_version().unwrap()).ok()
        })
    };
    let first = create("first").unwrap();
    plane.stop();
    assert_eq!(create("second"), None, "nobody answers");
    plane.resume();
    wait_until("it answers again", || create(&format!("third-{}", fastrand::u32(..))).is_some());

    // The first event of a watch that begins at a version: of the server that has seen it, and of one that has not.
    let watched = || {
        let (maps, version) = (maps.clone(), first.clone());
        block_on(async move {
            let mut events = maps.watch(&WatchParams::default().timeout(20), &version).await.unwrap().boxed();
            events.next().await
        })
    };
    assert!(matches!(watched(), Some(Ok(WatchEvent::Added(_)))));
    plane.kill();
    assert!(!plane.try_kubectl(&["get", "configmaps"]).1);
    plane.revive();
    wait_until("the stale watch is refused", || match watched() {
        Some(Ok(WatchEvent::Error(status))) => status.code == 410,
        Some(Err(kube::Error::Api(status))) => status.code == 410,
        _ => false,
    });
    assert!(plane.kubectl(&["get", "configmaps"]).contains("first"), "the data are the same");
}

/// It is vetted when it is built.
fn the_program_of_the_control_plane_is_formatted_and_its_modules_are_what_they_were() {
    assert_eq!(outcome(Command::new("gofmt").arg("-l").arg(programs::checkout("e2e"))), (String::new(), true));
    // The build fetches what it compiles; what is verified is the whole list.
    let (text, succeeded) = outcome(&mut programs::go(&["mod", "download"]));
    assert!(succeeded, "{text}");
    let (text, succeeded) = outcome(programs::go(&["mod", "verify"]).env("GOPROXY", "off"));
    assert!(succeeded, "{text}");
}
