//! Service accounts with exactly the rights that a test writes down.

use super::ControlPlane;

/// A role, its binding to an account (namespace and name), and the rules: in a namespace, or in all of them.
pub fn role(name: &str, account: (&str, &str), namespace: Option<&str>, rules: &str) -> String {
    let (kind, place) = match namespace {
        None => ("ClusterRole", String::new()),
        Some(namespace) => ("Role", format!(", namespace: {namespace}")),
    };
    let (home, account) = account;
    let group = "rbac.authorization.k8s.io";
    format!(
        "---\napiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: {name}{place}}}\nrules:\n{}\n\
         ---\napiVersion: {group}/v1\nkind: {kind}Binding\nmetadata: {{name: {name}{place}}}\n\
         roleRef: {{apiGroup: {group}, kind: {kind}, name: {name}}}\n\
         subjects: [{{kind: ServiceAccount, name: {account}, namespace: {home}}}]\n",
        rules.trim()
    )
}

/// What an installation stands on: TlsPolicies, its class, the namespaces `edge` and `shop`, and in `edge` the account
/// `handfast` with these rights. Returns its kubeconfig.
pub fn installation(plane: &ControlPlane, rights: &[(Option<&str>, &str)]) -> String {
    plane.define_policies();
    let mut manifests = "
apiVersion: v1
kind: Namespace
metadata: {name: edge}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: handfast, namespace: edge}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: handfast}
spec: {controller: handfast.dev/ingress-controller}
"
    .to_owned();
    for (namespace, rules) in rights {
        manifests.push_str(&role("handfast", ("edge", "handfast"), *namespace, rules));
    }
    plane.apply(&manifests);
    plane.account_kubeconfig("edge", "handfast").0.to_str().unwrap().to_owned()
}
