//! What is to be said about each problem: severity, meaning, fault, remedy.
//!
//! Read by [`Problem`](super::Problem), `handfast explain` and docs/findings.md. Sorted by code.

use crate::tls::Severity;
use crate::tls::about::About;

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
        meaning: "An annotation that works here has a value that it cannot have. The annotation is ignored, or closes its routes if it restricts access.",
        fault: "whoever writes the Ingress",
        remedy: "correct the value as the message says",
    },
    About {
        code: "bad-backend",
        severity: Severity::Error,
        meaning: "A backend of an Ingress does not name exactly one Service port, so its path answers 503.",
        fault: "whoever writes the Ingress",
        remedy: "name one Service and one of its ports, by port.number (1 to 65535) or by port.name",
    },
    About {
        code: "bad-class-parameters",
        severity: Severity::Error,
        meaning: "The parameters of an IngressClass name something else than a TlsPolicy, so its Ingresses have the default policy.",
        fault: "whoever writes the IngressClass",
        remedy: "write apiGroup: handfast.dev, kind: TlsPolicy, scope: Namespace, and the policy's namespace and name",
    },
    About {
        code: "bad-endpoint",
        severity: Severity::Error,
        meaning: "An EndpointSlice names an address that traffic is never sent to: link-local (where clouds keep their metadata services), loopback, multicast, or no address at all.",
        fault: "whoever writes the EndpointSlice",
        remedy: "give the endpoint the address and port of the pod or server that takes the traffic",
    },
    About {
        code: "bad-external-name",
        severity: Severity::Error,
        meaning: "A Service of type ExternalName names a target that traffic is never sent to.",
        fault: "whoever writes the Service",
        remedy: "give externalName a public DNS name, or use a Service with endpoints",
    },
    About {
        code: "bad-host",
        severity: Severity::Error,
        meaning: "A host of an Ingress is no DNS name, so the rule claims nothing.",
        fault: "whoever writes the Ingress",
        remedy: "write a DNS name, or '*.' and a DNS name; a rule for all hosts has no host field at all",
    },
    About {
        code: "bad-path",
        severity: Severity::Error,
        meaning: "A path of an Ingress cannot be matched safely, so it is not served.",
        fault: "whoever writes the Ingress",
        remedy: "write a path that begins with '/', with valid percent escapes and no '..' above the root",
    },
    About {
        code: "bad-path-type",
        severity: Severity::Error,
        meaning: "The path type does not exist, so the path is not served.",
        fault: "whoever writes the Ingress",
        remedy: "write Exact, Prefix or ImplementationSpecific",
    },
    About {
        code: "bad-tls-policy",
        severity: Severity::Error,
        meaning: "A field of a TlsPolicy cannot be put in force, so the policy is not accepted. Hosts that had it keep the version that was accepted before.",
        fault: "whoever writes the TlsPolicy",
        remedy: "correct the field as the message says",
    },
    About {
        code: "canary",
        severity: Severity::Warning,
        meaning: "The Ingress is a canary, which is not built. It claims nothing, because it must not take the primary's paths.",
        fault: "whoever writes the Ingress",
        remedy: "delete the canary Ingress, or shift traffic in another way; the primary Ingress takes all requests",
    },
    About {
        code: "conflicting-secrets",
        severity: Severity::Warning,
        meaning: "Two Ingresses name different Secrets for one host. The older one counts, as with ingress-nginx.",
        fault: "whoever writes the Ingresses",
        remedy: "name the same Secret in all Ingresses of the host, or leave the tls entry to the oldest",
    },
    About {
        code: "conflicting-tls-settings",
        severity: Severity::Warning,
        meaning: "Two Ingresses of one host set the same TLS setting to different values. The older one counts, as with ingress-nginx.",
        fault: "whoever writes the Ingresses",
        remedy: "set the same value in all Ingresses of the host, or leave it to the oldest",
    },
    About {
        code: "cross-namespace",
        severity: Severity::Info,
        meaning: "Ingresses of several namespaces share the host. They merge, oldest first.",
        fault: "nobody, if both teams know",
        remedy: "nothing, if both teams know; --host-ownership namespace gives a host to one namespace",
    },
    About {
        code: "duplicate-object",
        severity: Severity::Warning,
        meaning: "Two files define the same object. The first one counts.",
        fault: "whoever writes the manifests",
        remedy: "delete one of the definitions, or give it another name",
    },
    About {
        code: "expired-revocation-list",
        severity: Severity::Error,
        meaning: "A revocation list is older than it says it may be, so nobody knows what its authority has revoked since. Where the previous lists are still current, they stay in force; otherwise certificates by this authority are refused.",
        fault: "whoever renews the lists in the Secret",
        remedy: "put the authority's current list into ca.crl of the Secret, each time before the old one ends",
    },
    About {
        code: "external-name-not-allowed",
        severity: Severity::Error,
        meaning: "The Service is of type ExternalName, and the operator has not allowed that: whoever may write a Service would choose where requests go.",
        fault: "the operator",
        remedy: "start with --allow-external-name if everybody who may create Services may choose where traffic goes",
    },
    About {
        code: "host-owned-elsewhere",
        severity: Severity::Error,
        meaning: "The operator gives each host to the namespace of its oldest Ingress, and this Ingress is in another one.",
        fault: "whoever writes the Ingress",
        remedy: "use another host, or ask the owning namespace for a rule; --host-ownership merge shares hosts",
    },
    About {
        code: "host-without-tls",
        severity: Severity::Info,
        meaning: "The Ingress has tls entries, and none of them names this host, so the host has no certificate and is served over plain HTTP only.",
        fault: "whoever writes the Ingress",
        remedy: "add the host to a tls entry of the Ingress; if plain HTTP is meant, do nothing",
    },
    About {
        code: "ineffective-tls-setting",
        severity: Severity::Warning,
        meaning: "An annotation says something about TLS on a host where nothing takes it up: the host has no certificate, or another Ingress chooses it.",
        fault: "whoever writes the Ingress",
        remedy: "add a tls entry for the host to this Ingress, or move the annotation to the Ingress that has it",
    },
    About {
        code: "invalid-document",
        severity: Severity::Error,
        meaning: "A document does not have the form of its kind. The last good version of the object stays, if there was one.",
        fault: "whoever writes the manifest",
        remedy: "correct the document; `kubectl apply --dry-run=server` names the field as well",
    },
    About {
        code: "kind-not-watched",
        severity: Severity::Error,
        meaning: "The API server refuses to list objects of a kind, so what they say is not known: permission is missing, or the kind is not installed. What was known of them before stays served.",
        fault: "whoever installs Handfast",
        remedy: "allow its service account get, list and watch (the chart does), and install the definitions: handfast crd | kubectl apply --server-side -f -",
    },
    About {
        code: "manifests-vanished",
        severity: Severity::Error,
        meaning: "All manifests of the directory are gone at once, or another directory has taken its place. What was served is served for a while, since a volume that is away looks like that.",
        fault: "whoever keeps the directory",
        remedy: "restore the manifests, or mount their volume again; delete files one by one to take effect at once",
    },
    About {
        code: "missing-revocation-list",
        severity: Severity::Warning,
        meaning: "A Secret with revocation lists has none of one of its authorities. Where lists are given, a certificate that no list speaks of is refused.",
        fault: "whoever fills the Secret",
        remedy: "put the list of each authority in ca.crt into ca.crl, one PEM block behind the other, or take the authority out of ca.crt",
    },
    About {
        code: "misspelt-kind",
        severity: Severity::Warning,
        meaning: "A document's kind is almost one that is served. It counts as broken, so nothing that its file held before is removed.",
        fault: "whoever writes the manifest",
        remedy: "correct the kind, or move the document out of the directory",
    },
    About {
        code: "no-default-certificate",
        severity: Severity::Error,
        meaning: "A tls entry without secretName asks for the default certificate, and there is none that can be served.",
        fault: "the operator",
        remedy: "name a Secret in spec.tls, or start with --default-tls-secret NAMESPACE/NAME and a usable Secret",
    },
    About {
        code: "no-endpoints",
        severity: Severity::Info,
        meaning: "Nothing behind the Service port takes traffic, so its paths answer 503. A Git repository holds no endpoints, so this is information only.",
        fault: "whoever runs the pods",
        remedy: "look at the pods behind the Service: the selector, the readiness probe, the EndpointSlice's label kubernetes.io/service-name, and its port's name",
    },
    About {
        code: "no-intermediates",
        severity: Severity::Warning,
        meaning: "A TlsPolicy completes chains from a bundle of intermediate certificates, and the operator has given none.",
        fault: "whoever runs Handfast",
        remedy: "start with --intermediates FILE, or remove chain.complete from the policy",
    },
    About {
        code: "no-manifests",
        severity: Severity::Warning,
        meaning: "The directory holds no file that could be a manifest, so nothing is served from it.",
        fault: "whoever starts the program",
        remedy: "name the directory that holds the manifests, or put files with these endings into it",
    },
    About {
        code: "no-workable-version",
        severity: Severity::Error,
        meaning: "Under the policy that is asked for no handshake with the host's certificate can work, whatever the client. Another policy stays in force.",
        fault: "whoever writes the TlsPolicy or the annotations",
        remedy: "allow cipher suites and versions that work with the key of the certificate, or add a certificate with a key of another type",
    },
    About {
        code: "objects-kept",
        severity: Severity::Warning,
        meaning: "Something in a file is broken or cut off, so what it no longer holds is kept from before.",
        fault: "whoever writes the manifest",
        remedy: "complete and correct the file: what a version without broken documents leaves out is removed",
    },
    About {
        code: "other-class",
        severity: Severity::Info,
        meaning: "The Ingress belongs to another controller's class, so it is not served here.",
        fault: "nobody, if another controller serves it",
        remedy: "nothing, if another controller serves it; otherwise set spec.ingressClassName: handfast, or name its class with --ingress-class",
    },
    About {
        code: "override-not-allowed",
        severity: Severity::Warning,
        meaning: "An annotation changes a setting of a policy that allows no overrides, so it has no effect.",
        fault: "whoever writes the Ingress",
        remedy: "remove the annotation, or have allowOverrides removed from the policy",
    },
    About {
        code: "path-conflict",
        severity: Severity::Warning,
        meaning: "Two rules claim the same path of a host. The older Ingress counts.",
        fault: "whoever writes the Ingresses",
        remedy: "delete one of the two rules, or change its path",
    },
    About {
        code: "pattern-path",
        severity: Severity::Warning,
        meaning: "A path is written as a regular expression or with a wildcard. Paths are compared as they are written, so no request matches it.",
        fault: "whoever writes the Ingress",
        remedy: "write a plain path with pathType: Prefix, which takes everything below it",
    },
    About {
        code: "redundant-certificate",
        severity: Severity::Warning,
        meaning: "A host has two certificates with keys of the same kind. Clients could not choose between them, so the first is served.",
        fault: "whoever writes the Ingress",
        remedy: "name one Secret for each kind of key: for example one ECDSA and one RSA certificate",
    },
    About {
        code: "redundant-shadow-policy",
        severity: Severity::Info,
        meaning: "The policy that is tried out comes to the same as the one in force, as far as a client's offer can be judged, so it cannot tell anything.",
        fault: "nobody",
        remedy: "remove the annotation shadow-tls-policy if the change has been made, or correct its value",
    },
    About {
        code: "rejected-by-policy",
        severity: Severity::Error,
        meaning: "A certificate could be served, and the policy of the host says reject for one of its findings, and there is no last good version. The host's other certificates are served, or the default certificate, or nothing.",
        fault: "whoever fills the Secret",
        remedy: "mend what the findings say about the certificate, or take their codes out of findingActions of the policy",
    },
    About {
        code: "required-client-locked-out",
        severity: Severity::Error,
        meaning: "A change would lock out a client that the policy names in requiredClients. Where a previous policy was in force, it stays in force.",
        fault: "whoever changes the policy or the certificate",
        remedy: "make the change so that the client can still connect, or remove it from requiredClients",
    },
    About {
        code: "resource-backend",
        severity: Severity::Error,
        meaning: "The backend is not a Service. Other kinds are not built, so its path answers 503.",
        fault: "whoever writes the Ingress",
        remedy: "use a Service as backend",
    },
    About {
        code: "restricting-annotation",
        severity: Severity::Error,
        meaning: "The annotation keeps requests away, or changes which requests reach a backend, in a way that is not built. Its routes are closed rather than opened to everybody.",
        fault: "nobody: it is not built",
        remedy: "delete the annotation if the route may be open without it; until then its routes answer 503",
    },
    About {
        code: "secret-not-found",
        severity: Severity::Error,
        meaning: "The Secret does not exist, so the host has no certificate of its own.",
        fault: "whoever writes the Ingress, or the certificate's issuer",
        remedy: "create the Secret in this namespace, or correct its name; with cert-manager, look at the Certificate's events",
    },
    About {
        code: "service-not-found",
        severity: Severity::Error,
        meaning: "The Service does not exist, so its paths answer 503.",
        fault: "whoever writes the Ingress",
        remedy: "create the Service in the Ingress's namespace, or correct its name",
    },
    About {
        code: "service-port-not-found",
        severity: Severity::Error,
        meaning: "The Service does not have the port that the Ingress names, so its paths answer 503.",
        fault: "whoever writes the Ingress",
        remedy: "name a port as the Service lists it under spec.ports: port.number for its number, port.name for its name",
    },
    About {
        code: "tls-host-without-rule",
        severity: Severity::Info,
        meaning: "A host in spec.tls has no rule, so its certificate is not served by this Ingress.",
        fault: "nobody, if another Ingress has the rule",
        remedy: "add a rule for the host, or delete it from spec.tls",
    },
    About {
        code: "tls-policy-not-accepted",
        severity: Severity::Error,
        meaning: "The policy that is asked for is wrong in itself. The host keeps the policy that it had; without one it has the default, unless clients must show certificates.",
        fault: "whoever writes the TlsPolicy",
        remedy: "correct the policy: its own findings say what is wrong",
    },
    About {
        code: "tls-policy-not-found",
        severity: Severity::Error,
        meaning: "The policy that is asked for does not exist. A host that had a policy keeps it. Otherwise its handshakes are refused and plain HTTP is not served, because the policy might demand certificates of clients.",
        fault: "whoever writes the Ingress, the IngressClass or the flag",
        remedy: "create the TlsPolicy, or correct its name; `handfast check` has to be given it too (`kubectl get …,tlspolicy`)",
    },
    About {
        code: "tls-settings-without-host",
        severity: Severity::Warning,
        meaning: "TLS settings of rules without a host cannot be put in force, because no server name selects them. If they demand certificates of clients, the rules are closed.",
        fault: "whoever writes the Ingress",
        remedy: "give the rules a host, or set the policy of the default certificate with --default-tls-policy",
    },
    About {
        code: "tls-without-host",
        severity: Severity::Warning,
        meaning: "A tls entry names a Secret for rules that have no host. Without a name nothing selects that certificate, so the default one answers.",
        fault: "whoever writes the Ingress",
        remedy: "give the rule a host, or start with --default-tls-secret to choose the default certificate",
    },
    About {
        code: "too-many-certificates",
        severity: Severity::Warning,
        meaning: "A host has more tls entries than there are kinds of keys, so most of them could never be served.",
        fault: "whoever writes the Ingress",
        remedy: "give the host one tls entry for each kind of key, and name hosts in tls entries",
    },
    About {
        code: "unenforced-tls-policy",
        severity: Severity::Error,
        meaning: "The policy of an Ingress demands certificates of clients, and the host has another policy, which an older Ingress chooses. Nothing would ask clients for their certificates, so the routes of this Ingress are closed.",
        fault: "whoever writes the Ingresses",
        remedy: "name the same policy in all Ingresses of the host, or give the routes a host of their own",
    },
    About {
        code: "unknown-annotation",
        severity: Severity::Warning,
        meaning: "An annotation has one of our prefixes and a name that does not exist.",
        fault: "whoever writes the Ingress",
        remedy: "correct the name, or delete the annotation",
    },
    About {
        code: "unknown-field",
        severity: Severity::Warning,
        meaning: "A field does not exist. The API server would refuse or drop it.",
        fault: "whoever writes the manifest",
        remedy: "correct the field's name or indentation, or delete it",
    },
    About {
        code: "unknown-ingress-class",
        severity: Severity::Info,
        meaning: "The Ingress names a class that does not exist, so nobody serves it.",
        fault: "whoever writes the Ingress",
        remedy: "create the IngressClass with spec.controller handfast.dev/ingress-controller, or correct ingressClassName",
    },
    About {
        code: "unknown-kind",
        severity: Severity::Info,
        meaning: "An object of a kind that is not used here.",
        fault: "nobody",
        remedy: "nothing, if the object is meant for another program",
    },
    About {
        code: "unreadable-directory",
        severity: Severity::Error,
        meaning: "The directory of manifests cannot be read any more. Its last content is served.",
        fault: "the operator",
        remedy: "restore the directory or its permissions; until then its last content is served",
    },
    About {
        code: "unreadable-file",
        severity: Severity::Error,
        meaning: "The file cannot be read, or is no YAML or JSON. Its last good content is served.",
        fault: "whoever writes the manifest",
        remedy: "make the file readable YAML or JSON, or delete it if nothing in it is needed",
    },
    About {
        code: "unserved-by-alias",
        severity: Severity::Info,
        meaning: "A list of cipher suites has aliases such as HIGH that also stand for suites that are not served: CBC, finite-field Diffie-Hellman, static RSA and others.",
        fault: "nobody: the list was written for OpenSSL",
        remedy: "nothing; to be exact, name the suites that are left",
    },
    About {
        code: "unserved-tls-names",
        severity: Severity::Warning,
        meaning: "A version, cipher suite, group or protocol is asked for by name and cannot be served. The others of the list are.",
        fault: "whoever writes the list",
        remedy: "remove the names, or write those that the message proposes; `handfast check --clients` says which clients connect with what is left",
    },
    About {
        code: "unsupported-annotation",
        severity: Severity::Warning,
        meaning: "The annotation exists in ingress-nginx and has no effect here.",
        fault: "nobody: it is not built",
        remedy: "delete the annotation, if the host works without it",
    },
    About {
        code: "unusable-client-ca",
        severity: Severity::Error,
        meaning: "A TlsPolicy demands certificates of clients, and the Secret that it names has no usable ca.crt, so the policy is not accepted.",
        fault: "whoever writes the TlsPolicy or the Secret",
        remedy: "put the CA that issues the clients' certificates into ca.crt of the Secret, as PEM",
    },
    About {
        code: "unusable-revocation-list",
        severity: Severity::Error,
        meaning: "A TlsPolicy demands certificates of clients, and the Secret that it names has a ca.crl that cannot be used. Without it revoked certificates would be let in, so the policy is not accepted.",
        fault: "whoever fills the Secret",
        remedy: "put the current list of each authority in ca.crt into ca.crl of the Secret, as PEM; delete ca.crl if nothing is to be looked up",
    },
    About {
        code: "unusable-shadow-policy",
        severity: Severity::Warning,
        meaning: "The policy that is to be tried out does not exist or is wrong in itself, so no client is judged by it. The host is served as before.",
        fault: "whoever writes the Ingress or the TlsPolicy",
        remedy: "create the TlsPolicy or correct it, as its own findings say, or correct the annotation shadow-tls-policy",
    },
    About {
        code: "unworkable-version",
        severity: Severity::Warning,
        meaning: "A protocol version is on with which no handshake can work with one of the host's certificates, whatever the client.",
        fault: "whoever writes the policy",
        remedy: "allow a cipher suite of the version that works with the key, or switch the version off",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

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
