//! The text about each problem: severity, meaning, who must act, remedy.
//!
//! Read by [`Problem`](super::Problem), `handfast explain` and docs/findings.md. Sorted by code.

use super::Effect;
use crate::tls::Severity;
use crate::tls::about::About;

impl Effect {
    /// Every effect, sorted by its word.
    pub const ALL: [Effect; 7] = [
        Effect::Default,
        Effect::HostRefused,
        Effect::LastGood,
        Effect::None,
        Effect::PolicyHeld,
        Effect::Repaired,
        Effect::RouteDropped,
    ];

    /// For `handfast explain`: the effect on traffic, in whole sentences.
    pub fn meaning(self) -> &'static str {
        match self {
            Effect::Default => {
                "The host serves the default certificate (--default-tls-secret) instead of its own. Clients reject it \
                 unless it covers the host."
            }
            Effect::HostRefused => {
                "TLS handshakes for the host are refused with the alert unrecognized_name. Plain HTTP is served, unless \
                 the host's policy asks clients for certificates or may do so."
            }
            Effect::LastGood => {
                "The last usable version of the Secret is served instead of the current one. Clients notice nothing \
                 until that version expires. Of a deleted Secret it is served for the time of --last-good-ttl."
            }
            Effect::None => "Traffic is served as configured.",
            Effect::PolicyHeld => {
                "The host does not use the policy that it names. It keeps its previous policy, or without one the default \
                 policy."
            }
            Effect::Repaired => {
                "Handfast serves a repaired form, for example the certificates in the right order. Clients notice nothing."
            }
            Effect::RouteDropped => {
                "The paths that the finding names answer 503, or do not exist. Other paths of the host are served."
            }
        }
    }
}

/// The row of a code.
pub(super) fn about(code: &str) -> &'static About {
    let index = ROWS.binary_search_by_key(&code, |row| row.code);
    &ROWS[index.expect("invariant: each code has a row, and rows are sorted")]
}

/// Every code but those of chain findings.
pub(super) static ROWS: &[About] = &[
    About {
        code: "bad-annotation",
        severity: Severity::Error,
        meaning: "The value of a supported annotation is wrong. The annotation is ignored. If it restricts access, the paths of the Ingress answer 503.",
        fault: "the author of the Ingress",
        remedy: "correct the value as the message says",
    },
    About {
        code: "bad-backend",
        severity: Severity::Error,
        meaning: "A backend of an Ingress does not name exactly one Service port, so its path answers 503.",
        fault: "the author of the Ingress",
        remedy: "name one Service and one of its ports, by port.number (1 to 65535) or by port.name",
    },
    About {
        code: "bad-class-parameters",
        severity: Severity::Error,
        meaning: "The parameters of an IngressClass do not name a TlsPolicy. Handshakes of its Ingresses are refused, because the missing policy may ask clients for certificates.",
        fault: "the author of the IngressClass",
        remedy: "write apiGroup: handfast.dev, kind: TlsPolicy, scope: Namespace, and the policy's namespace and name",
    },
    About {
        code: "bad-endpoint",
        severity: Severity::Error,
        meaning: "An EndpointSlice names an address that never gets traffic: link-local (where clouds keep their metadata services), loopback, multicast, or not an address at all.",
        fault: "the author of the EndpointSlice",
        remedy: "give the endpoint the address and port of the pod or server",
    },
    About {
        code: "bad-external-name",
        severity: Severity::Error,
        meaning: "A Service of type ExternalName names a target that never gets traffic.",
        fault: "the author of the Service",
        remedy: "give externalName a public DNS name, or use a Service with endpoints",
    },
    About {
        code: "bad-host",
        severity: Severity::Error,
        meaning: "A host of an Ingress is not a DNS name, so the rule is not served.",
        fault: "the author of the Ingress",
        remedy: "write a DNS name, or '*.' and a DNS name; a rule for all hosts has no host field at all",
    },
    About {
        code: "bad-path",
        severity: Severity::Error,
        meaning: "A path of an Ingress cannot be matched safely, so it is not served.",
        fault: "the author of the Ingress",
        remedy: "write a path that begins with '/', with valid percent escapes and no '..' above the root",
    },
    About {
        code: "bad-path-type",
        severity: Severity::Error,
        meaning: "The path type is missing or does not exist, so the path is not served.",
        fault: "the author of the Ingress",
        remedy: "write Exact, Prefix or ImplementationSpecific",
    },
    About {
        code: "bad-tls-policy",
        severity: Severity::Error,
        meaning: "A field of a TlsPolicy is wrong, so the policy is not accepted. Hosts that use it keep the last accepted version.",
        fault: "the author of the TlsPolicy",
        remedy: "correct the field as the message says",
    },
    About {
        code: "below-min-tls-version",
        severity: Severity::Warning,
        meaning: "A TlsPolicy or an annotation asks for an older protocol version than the operator allows with --min-tls-version. The older version is not served. The rest of the policy is applied.",
        fault: "the author of the TlsPolicy or the annotation",
        remedy: "set the version of --min-tls-version or a newer one, or remove the setting; only the operator can allow older versions",
    },
    About {
        code: "canary",
        severity: Severity::Warning,
        meaning: "Canaries are not supported. The canary Ingress serves nothing, because it must not take the paths of the primary Ingress.",
        fault: "the author of the Ingress",
        remedy: "delete the canary Ingress, or shift traffic in another way; the primary Ingress takes all requests",
    },
    About {
        code: "conflicting-secrets",
        severity: Severity::Warning,
        meaning: "Two Ingresses name different Secrets for one host. The older Ingress decides, as with ingress-nginx.",
        fault: "the authors of the Ingresses",
        remedy: "name the same Secret in all Ingresses of the host, or leave the tls entry to the oldest",
    },
    About {
        code: "conflicting-tls-settings",
        severity: Severity::Warning,
        meaning: "Two Ingresses of one host set the same TLS setting to different values. The older Ingress decides, as with ingress-nginx.",
        fault: "the authors of the Ingresses",
        remedy: "set the same value in all Ingresses of the host, or leave it to the oldest",
    },
    About {
        code: "cross-namespace",
        severity: Severity::Info,
        meaning: "Ingresses of several namespaces share the host. They merge, oldest first.",
        fault: "nobody, if both teams agree",
        remedy: "nothing, if both teams agree; otherwise --host-ownership namespace gives each host to one namespace",
    },
    About {
        code: "duplicate-object",
        severity: Severity::Warning,
        meaning: "The same object is defined twice. The first definition is used.",
        fault: "the author of the manifests",
        remedy: "delete one of the definitions, or give it another name",
    },
    About {
        code: "expired-revocation-list",
        severity: Severity::Error,
        meaning: "A revocation list has expired, so later revocations are unknown. If the previous lists are still current, they are used. Otherwise certificates of this authority are refused.",
        fault: "the owner of the Secret",
        remedy: "put the authority's current list into ca.crl of the Secret, and renew it before it expires",
    },
    About {
        code: "external-name-not-allowed",
        severity: Severity::Error,
        meaning: "The Service is of type ExternalName, which the operator has not allowed. With it, every author of a Service can send requests anywhere.",
        fault: "the operator of Handfast",
        remedy: "start with --allow-external-name, if all authors of Services may choose where traffic goes",
    },
    About {
        code: "host-owned-elsewhere",
        severity: Severity::Error,
        meaning: "The operator gives each host to the namespace of its oldest Ingress, and this Ingress is in another one.",
        fault: "the author of the Ingress",
        remedy: "use another host, or ask the owning namespace for a rule; --host-ownership merge shares hosts",
    },
    About {
        code: "host-without-tls",
        severity: Severity::Info,
        meaning: "The Ingress has tls entries, and none of them names this host. The host has no certificate and is served over plain HTTP only.",
        fault: "the author of the Ingress",
        remedy: "add the host to a tls entry of the Ingress; if plain HTTP is intended, do nothing",
    },
    About {
        code: "ineffective-tls-setting",
        severity: Severity::Warning,
        meaning: "A TLS annotation has no effect on the host: the host has no certificate, or another Ingress chooses it.",
        fault: "the author of the Ingress",
        remedy: "add a tls entry for the host to this Ingress, or move the annotation to the Ingress that has it",
    },
    About {
        code: "ingress-nginx-config",
        severity: Severity::Warning,
        meaning: "A ConfigMap in the directory looks like the configuration of ingress-nginx. Handfast does not read it yet, so its options have no effect.",
        fault: "the operator of Handfast",
        remedy: "set the options that you need as flags of Handfast (`handfast run --help`) or as values of its chart, then remove the ConfigMap",
    },
    About {
        code: "invalid-document",
        severity: Severity::Error,
        meaning: "A document does not match the schema of its kind. If the object had a good version before, that version is served.",
        fault: "the author of the manifest",
        remedy: "correct the document; `kubectl apply --dry-run=server` also names the field",
    },
    About {
        code: "kind-not-watched",
        severity: Severity::Error,
        meaning: "The API server refuses to list objects of a kind: permission is missing, or the kind is not installed. Objects that were known before are still served.",
        fault: "the operator of Handfast",
        remedy: "give Handfast's service account get, list and watch (the chart does), and install the definitions: handfast crd | kubectl apply --server-side -f -",
    },
    About {
        code: "laxer-than-default",
        severity: Severity::Info,
        meaning: "The policy of a host, which an Ingress or its class chooses, allows what the operator's --default-tls-policy does not: older versions, other cipher suites or groups, clients without certificates.",
        fault: "nobody, if the operator agrees; otherwise the author of the Ingress or the TlsPolicy",
        remedy: "nothing, if the operator agrees; otherwise remove the annotation that chooses the policy, or correct the policy; --min-tls-version prevents older versions on every host",
    },
    About {
        code: "manifests-vanished",
        severity: Severity::Error,
        meaning: "All manifests of the directory are gone at once, or another directory is in its place. An unmounted volume looks like this, so the objects are served for a while.",
        fault: "the owner of the directory",
        remedy: "restore the manifests, or mount their volume again; to remove objects immediately, delete their files one by one",
    },
    About {
        code: "missing-revocation-list",
        severity: Severity::Warning,
        meaning: "A Secret with revocation lists lacks the list of one of its authorities. If there are lists, a certificate that no list covers is refused.",
        fault: "the owner of the Secret",
        remedy: "put the list of each authority in ca.crt into ca.crl, one PEM block after the other, or remove the authority from ca.crt",
    },
    About {
        code: "misspelt-kind",
        severity: Severity::Warning,
        meaning: "The kind of a document looks like a misspelt one. The document counts as broken, so no object of its file is removed.",
        fault: "the author of the manifest",
        remedy: "correct the kind, or move the document out of the directory",
    },
    About {
        code: "no-default-certificate",
        severity: Severity::Error,
        meaning: "A tls entry without secretName uses the default certificate, and no default certificate can be served.",
        fault: "the operator of Handfast",
        remedy: "name a Secret in spec.tls, or start with --default-tls-secret NAMESPACE/NAME and a usable Secret",
    },
    About {
        code: "no-endpoints",
        severity: Severity::Info,
        meaning: "The Service port has no ready endpoint, so its paths answer 503. Manifests in Git have no endpoints, so this is information only.",
        fault: "the owner of the Service's pods",
        remedy: "look at the pods behind the Service: the selector, the readiness probe, the EndpointSlice's label kubernetes.io/service-name, and its port's name",
    },
    About {
        code: "no-intermediates",
        severity: Severity::Warning,
        meaning: "A TlsPolicy completes chains from a bundle of intermediate certificates, and the operator has not provided one.",
        fault: "the operator of Handfast",
        remedy: "start with --intermediates FILE, or remove chain.complete from the policy",
    },
    About {
        code: "no-manifests",
        severity: Severity::Warning,
        meaning: "The directory has no file that could be a manifest, so nothing is served from it.",
        fault: "the person who starts Handfast",
        remedy: "name the directory with the manifests, or put files with these endings into it",
    },
    About {
        code: "no-workable-version",
        severity: Severity::Error,
        meaning: "No client can complete a handshake with this policy and the host's certificate. Another policy is used.",
        fault: "the author of the TlsPolicy or the annotations",
        remedy: "allow versions and cipher suites that work with the certificate's key, or add a certificate with another type of key",
    },
    About {
        code: "objects-kept",
        severity: Severity::Warning,
        meaning: "A document in the file is broken or cut off. Objects that are no longer in the file are kept.",
        fault: "the author of the manifest",
        remedy: "complete and correct the file: objects that are then missing from it are removed",
    },
    About {
        code: "other-class",
        severity: Severity::Info,
        meaning: "The Ingress belongs to another controller's class, so Handfast does not serve it.",
        fault: "nobody, if another controller serves it",
        remedy: "nothing, if another controller serves it; otherwise set spec.ingressClassName: handfast, or use the option that the message names",
    },
    About {
        code: "override-not-allowed",
        severity: Severity::Warning,
        meaning: "An annotation changes a setting of a policy that does not allow overrides, so it has no effect.",
        fault: "the author of the Ingress",
        remedy: "remove the annotation, or remove allowOverrides: false from the policy",
    },
    About {
        code: "path-conflict",
        severity: Severity::Warning,
        meaning: "Two rules have the same path on one host. The older Ingress decides.",
        fault: "the authors of the Ingresses",
        remedy: "delete one of the two rules, or change its path",
    },
    About {
        code: "pattern-path",
        severity: Severity::Warning,
        meaning: "A path is written as a regular expression or with a wildcard. Paths are compared as they are written, so no request matches it.",
        fault: "the author of the Ingress",
        remedy: "write a plain path with pathType: Prefix, which includes everything below it",
    },
    About {
        code: "redundant-certificate",
        severity: Severity::Warning,
        meaning: "A host has two certificates with the same kind of key. Clients cannot choose between them, so the first is served.",
        fault: "the author of the Ingress",
        remedy: "name one Secret for each kind of key: for example one ECDSA and one RSA certificate",
    },
    About {
        code: "redundant-shadow-policy",
        severity: Severity::Info,
        meaning: "The shadow policy treats every client as the current policy does, so trying it shows nothing.",
        fault: "nobody",
        remedy: "remove the annotation shadow-tls-policy if the change is made, or correct its value",
    },
    About {
        code: "rejected-by-policy",
        severity: Severity::Error,
        meaning: "The policy of the host rejects certificates with one of these findings, and there is no last good version. The host's other certificates are served, or the default certificate, or nothing.",
        fault: "the owner of the Secret",
        remedy: "fix the certificate as its findings say, or remove their codes from findingActions of the policy",
    },
    About {
        code: "required-client-locked-out",
        severity: Severity::Error,
        meaning: "A change would lock out a client that the policy names in requiredClients. The previous policy stays in use, if there is one.",
        fault: "the author of the policy, or the owner of the certificate",
        remedy: "change the policy or the certificate so that the client can connect, or remove it from requiredClients",
    },
    About {
        code: "resource-backend",
        severity: Severity::Error,
        meaning: "The backend is not a Service. Other kinds are not supported, so its path answers 503.",
        fault: "the author of the Ingress",
        remedy: "use a Service as backend",
    },
    About {
        code: "restricting-annotation",
        severity: Severity::Error,
        meaning: "The annotation restricts or rewrites requests and is not supported. To be safe, the paths of its Ingress answer 503 instead of being open to everybody.",
        fault: "the author of the Ingress",
        remedy: "delete the annotation if the paths may be open without it; `handfast explain` with its name says what to do instead",
    },
    About {
        code: "secret-not-found",
        severity: Severity::Error,
        meaning: "The Secret does not exist, so the host has no certificate of its own.",
        fault: "the author of the Ingress, or the issuer of the certificate",
        remedy: "create the Secret in this namespace, or correct its name; with cert-manager, look at the events of the Certificate",
    },
    About {
        code: "service-not-found",
        severity: Severity::Error,
        meaning: "The Service does not exist, so its paths answer 503.",
        fault: "the author of the Ingress",
        remedy: "create the Service in the Ingress's namespace, or correct its name",
    },
    About {
        code: "service-port-not-found",
        severity: Severity::Error,
        meaning: "The Service does not have the port that the Ingress names, so its paths answer 503.",
        fault: "the author of the Ingress",
        remedy: "name a port as the Service lists it under spec.ports: port.number for its number, port.name for its name",
    },
    About {
        code: "tls-host-without-rule",
        severity: Severity::Info,
        meaning: "A host in spec.tls has no rule in this Ingress, so the Ingress does not serve its certificate.",
        fault: "nobody, if another Ingress has the rule",
        remedy: "add a rule for the host, or delete it from spec.tls",
    },
    About {
        code: "tls-policy-not-accepted",
        severity: Severity::Error,
        meaning: "The named policy has errors. The host keeps its previous policy. Without one it gets the default policy, unless the named policy asks clients for certificates.",
        fault: "the author of the TlsPolicy",
        remedy: "correct the policy as its own findings say",
    },
    About {
        code: "tls-policy-not-found",
        severity: Severity::Error,
        meaning: "The named policy does not exist. A host that had a policy keeps it. Otherwise its handshakes are refused and plain HTTP is not served, because the policy may ask clients for certificates.",
        fault: "the author of the Ingress or the IngressClass, or the operator of Handfast",
        remedy: "create the TlsPolicy, or correct its name; `handfast check` needs it in its input too (`kubectl get …,tlspolicy`)",
    },
    About {
        code: "tls-settings-without-host",
        severity: Severity::Warning,
        meaning: "TLS settings of rules without a host have no effect, because no server name selects them. If they ask clients for certificates, the paths answer 503.",
        fault: "the author of the Ingress",
        remedy: "give the rules a host, or set the policy of the default certificate with --default-tls-policy",
    },
    About {
        code: "tls-without-host",
        severity: Severity::Warning,
        meaning: "A tls entry names a Secret for rules without a host. No server name selects that certificate, so the default certificate is served.",
        fault: "the author of the Ingress",
        remedy: "give the rule a host, or start with --default-tls-secret to choose the default certificate",
    },
    About {
        code: "too-many-certificates",
        severity: Severity::Warning,
        meaning: "A host has more tls entries than there are kinds of keys, so most of them can never be served.",
        fault: "the author of the Ingress",
        remedy: "give the host one tls entry for each kind of key, and name hosts in tls entries",
    },
    About {
        code: "tool-file",
        severity: Severity::Info,
        meaning: "A file of Kustomize or Helm (kustomization.yaml, Chart.yaml, values.yaml) is next to the manifests. It defines no object, and Handfast does not run the program.",
        fault: "nobody",
        remedy: "nothing, or render the manifests first: `kubectl kustomize DIRECTORY` or `helm template CHART`",
    },
    About {
        code: "unenforced-tls-policy",
        severity: Severity::Error,
        meaning: "The policy of an Ingress asks clients for certificates, but an older Ingress chooses another policy for the host. Clients are not asked for certificates, so to be safe the paths of this Ingress answer 503.",
        fault: "the authors of the Ingresses",
        remedy: "name the same policy in all Ingresses of the host, or use a separate host for these paths",
    },
    About {
        code: "unknown-annotation",
        severity: Severity::Warning,
        meaning: "An annotation has the prefix of Handfast or ingress-nginx and a name that does not exist.",
        fault: "the author of the Ingress",
        remedy: "correct the name, or delete the annotation",
    },
    About {
        code: "unknown-field",
        severity: Severity::Warning,
        meaning: "A field does not exist. The API server would refuse or drop it.",
        fault: "the author of the manifest",
        remedy: "correct the field's name or indentation, or delete it",
    },
    About {
        code: "unknown-ingress-class",
        severity: Severity::Info,
        meaning: "The Ingress names a class that does not exist, so it is not served.",
        fault: "the author of the Ingress",
        remedy: "create the IngressClass with spec.controller handfast.dev/ingress-controller, correct ingressClassName, or use --adopt-class",
    },
    About {
        code: "unknown-kind",
        severity: Severity::Info,
        meaning: "Handfast does not use objects of this kind.",
        fault: "nobody",
        remedy: "nothing, if the object is meant for another program",
    },
    About {
        code: "unreadable-directory",
        severity: Severity::Error,
        meaning: "The directory of manifests can no longer be read. Its last content is served.",
        fault: "the operator of Handfast",
        remedy: "restore the directory or its permissions; until then its last content is served",
    },
    About {
        code: "unreadable-file",
        severity: Severity::Error,
        meaning: "The file cannot be read, or is not YAML or JSON. Its last good content is served.",
        fault: "the author of the manifest",
        remedy: "correct the file, or delete it if it is not needed",
    },
    About {
        code: "unserved-by-alias",
        severity: Severity::Info,
        meaning: "A list of cipher suites has aliases such as HIGH. They also include suites that Handfast does not serve: CBC, finite-field Diffie-Hellman, static RSA and others.",
        fault: "nobody",
        remedy: "nothing; to silence this, name the suites that the message lists",
    },
    About {
        code: "unserved-tls-names",
        severity: Severity::Warning,
        meaning: "The list names a version, cipher suite, group or protocol that Handfast does not serve. The others in the list are served.",
        fault: "the author of the list",
        remedy: "remove the names, or use those that the message proposes; `handfast check --clients` says which clients can still connect",
    },
    About {
        code: "unsupported-annotation",
        severity: Severity::Warning,
        meaning: "Handfast does not support this annotation of ingress-nginx and ignores it. The message says why.",
        fault: "the author of the Ingress",
        remedy: "delete the annotation if the host works without it; `handfast explain` with its name says what to do instead",
    },
    About {
        code: "unusable-client-ca",
        severity: Severity::Error,
        meaning: "A TlsPolicy asks clients for certificates, but its Secret has no usable ca.crt. The policy is not accepted.",
        fault: "the author of the TlsPolicy, or the owner of the Secret",
        remedy: "put the CA that issues the clients' certificates into ca.crt of the Secret, in PEM",
    },
    About {
        code: "unusable-revocation-list",
        severity: Severity::Error,
        meaning: "A TlsPolicy asks clients for certificates, but ca.crl of its Secret cannot be used. Without it revoked certificates would be accepted, so the policy is not accepted.",
        fault: "the owner of the Secret",
        remedy: "put the current list of each authority in ca.crt into ca.crl of the Secret, in PEM; delete ca.crl to check no revocations",
    },
    About {
        code: "unusable-shadow-policy",
        severity: Severity::Warning,
        meaning: "The shadow policy does not exist or has errors, so it is not tried on any client. The host is served as before.",
        fault: "the author of the Ingress or the TlsPolicy",
        remedy: "create the TlsPolicy or correct it, as its own findings say, or correct the annotation shadow-tls-policy or --default-shadow-tls-policy",
    },
    About {
        code: "unworkable-version",
        severity: Severity::Warning,
        meaning: "A protocol version is on that cannot work with one of the host's certificates, whichever client connects.",
        fault: "the author of the policy",
        remedy: "allow a cipher suite of the version that works with the key, or switch the version off",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_sorted_by_their_words() {
        assert!(Effect::ALL.is_sorted_by_key(|effect| effect.code()));
    }

    #[test]
    fn each_code_has_exactly_one_row_and_rows_are_sorted() {
        let source = include_str!("diagnostic.rs");
        let codes = source
            .split_once("pub fn code(&self) -> &'static str {\n        match self {\n            Problem")
            .unwrap()
            .1;
        let codes = codes.split_once("/// How bad").unwrap().0;
        let mut codes: Vec<&str> =
            codes.lines().filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\",")).collect();
        codes.sort_unstable();
        assert!(codes.len() > 30);
        assert_eq!(codes, ROWS.iter().map(|row| row.code).collect::<Vec<_>>());
    }
}
