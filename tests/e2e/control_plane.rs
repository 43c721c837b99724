//! The control plane itself: what the other tests stand on has to be there.

use crate::support::trial::trials;
use crate::support::{ControlPlane, Options};

trials!(the_definition_of_tls_policy_is_taken_and_its_rules_are_enforced);

fn crds() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/crds/tlspolicies.handfast.dev.yaml")).unwrap()
}

fn the_definition_of_tls_policy_is_taken_and_its_rules_are_enforced() {
    let plane = ControlPlane::start(Options::default());
    assert!(plane.kubectl(&["version"]).contains("Server Version: v1.37.2"));
    plane.apply(&crds());
    plane.kubectl(&["wait", "--for=condition=Established", "crd/tlspolicies.handfast.dev", "--timeout=60s"]);
    let policy = |spec: &str| {
        format!("apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: modern}}\nspec: {spec}\n")
    };
    plane.apply(&policy("{preset: modern}"));
}
