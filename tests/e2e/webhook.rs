//! The admission webhook, asked by a real API server: what people read from kubectl, and that it is in nobody's way.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handfast::demo::pki::{Authority, Issued, KeyType};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::UnixTime;

use crate::support::rights::installation;
use crate::support::runtime::block_on;
use crate::support::trial::{scratch, trials};
use crate::support::{ControlPlane, Handfast, Options, wait_until};

trials!(
    kubectl_shows_what_would_not_work_and_by_option_it_is_kept_out,
    replicas_share_a_certificate_that_they_have_made_themselves,
    a_huge_object_costs_bounded_time_and_a_webhook_that_is_down_costs_nothing,
    only_the_api_server_is_let_in_where_its_authority_is_known,
);

/// Rights as the chart writes them down, in all namespaces.
const EVERYWHERE: &str = r#"
- {apiGroups: [""], resources: [services, secrets], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [networking.k8s.io], resources: [ingresses, ingressclasses], verbs: [get, list, watch]}
- {apiGroups: [handfast.dev], resources: [tlspolicies], verbs: [get, list, watch]}
- {apiGroups: [admissionregistration.k8s.io], resources: [validatingwebhookconfigurations], resourceNames: [handfast], verbs: [get, patch]}
"#;

/// And for the Secret.
const AT_HOME: &str =
    r#"- {apiGroups: [""], resources: [secrets], resourceNames: [handfast-webhook], verbs: [get, update]}"#;

/// As the chart writes it down.
const INSTALLATION: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: handfast-webhook, namespace: edge}
---
apiVersion: v1
kind: Service
metadata: {name: handfast-webhook, namespace: edge}
spec: {ports: [{name: https, port: 443, targetPort: 9443}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: handfast}
webhooks:
- name: others.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  rules: [{apiGroups: [example.com], apiVersions: [v1], operations: [CREATE], resources: [things]}]
  clientConfig: {service: {name: others, namespace: edge}}
"#;

/// One of our webhooks.
fn webhook((group, version): (&str, &str), resources: &str, operations: &str, more: &str) -> String {
    format!(
        "- name: {resources}.handfast.dev\n  admissionReviewVersions: [v1]\n  sideEffects: None\n  failurePolicy: Ignore\n\
         \x20 timeoutSeconds: 5\n  rules: [{{apiGroups: ['{group}'], apiVersions: [{version}], operations: [{operations}], \
         resources: [{resources}], scope: Namespaced}}]\n\
         \x20 clientConfig: {{service: {{name: handfast-webhook, namespace: edge, path: /validate}}}}\n{more}"
    )
}

/// Other kinds of Secrets are not shown to it.
const CERTIFICATES: &str = "  matchConditions: [{name: certificates, expression: '(object == null ? oldObject : \
    object).type == \"kubernetes.io/tls\"'}]\n";

/// A cluster with the webhook's objects, and its Service behind kube-proxy.
struct Cluster {
    plane: ControlPlane,
    kubeconfig: String,
}

impl Cluster {
    fn start(options: Options) -> Self {
        let plane = ControlPlane::start(Options { proxy: true, ..options });
        let kubeconfig = installation(&plane, &[(None, EVERYWHERE), (Some("edge"), AT_HOME)]);
        let all = "CREATE, UPDATE, DELETE";
        let webhooks = [
            webhook(("networking.k8s.io", "v1"), "ingresses", "CREATE, UPDATE", ""),
            webhook(("handfast.dev", "v1alpha1"), "tlspolicies", all, ""),
            webhook(("", "v1"), "secrets", all, CERTIFICATES),
        ];
        plane.apply(&format!("{INSTALLATION}{}", webhooks.concat()));
        Self { plane, kubeconfig }
    }

    /// A replica that is ready.
    fn replica(&self, args: &[&str]) -> Handfast {
        let common = ["--source", "cluster", "--kubeconfig", &self.kubeconfig, "--no-status"];
        let webhook = ["--webhook-addr", "0.0.0.0:9443"];
        let replica = Handfast::start(&self.plane, &[&common[..], &webhook, args].concat());
        replica.wait_until_ready();
        replica
    }

    /// Puts replicas behind the Service, and waits until the API server is answered.
    fn serve(&self, replicas: &[&Handfast]) {
        let endpoints: Vec<String> = replicas
            .iter()
            .map(|replica| format!("{{addresses: [\"{}\"], conditions: {{ready: true}}}}", replica.sandbox.address))
            .collect();
        self.plane.apply(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: webhook, namespace: edge, labels: \
             {{kubernetes.io/service-name: handfast-webhook}}}}\naddressType: IPv4\n\
             ports: [{{name: https, port: 9443, protocol: TCP}}]\nendpoints: [{}]\n",
            endpoints.join(", ")
        ));
        wait_until("the API server asks", || {
            self.dry_run("{apiVersion: handfast.dev/v1alpha1, kind: TlsPolicy, metadata: {name: probe, namespace: shop}, spec: {groups: [nonsense]}}")
                .0
                .contains("bad-tls-policy")
        });
    }

    fn dry_run(&self, manifest: &str) -> (String, bool) {
        self.plane.kubectl_with_input(&["apply", "--dry-run=server", "--filename=-"], manifest)
    }

    fn configuration(&self) -> ValidatingWebhookConfiguration {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.plane.client());
        block_on(async move { api.get("handfast").await.unwrap() })
    }

    /// The CAs that the API server verifies the webhook with, by name of the entry.
    fn bundles(&self) -> Vec<(String, Option<String>)> {
        let text = |bytes: k8s_openapi::ByteString| String::from_utf8(bytes.0).unwrap();
        let webhooks = self.configuration().webhooks.unwrap().into_iter();
        webhooks.map(|webhook| (webhook.name, webhook.client_config.ca_bundle.map(text))).collect()
    }

    fn secret(&self) -> Secret {
        let api: Api<Secret> = Api::namespaced(self.plane.client(), "edge");
        block_on(async move { api.get("handfast-webhook").await.unwrap() })
    }
}

fn issue(name: &str) -> Issued {
    let authority = Authority::new("Test", UnixTime::now()).unwrap();
    authority.issue(&[name], KeyType::EcdsaP256, UnixTime::now(), -1..90).unwrap()
}

fn secret(name: &str, chain: &str, key: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\ntype: kubernetes.io/tls\n\
         data: {{tls.crt: {}, tls.key: {}}}\n",
        STANDARD.encode(chain),
        STANDARD.encode(key)
    )
}

fn ingress(name: &str, host: &str, secret: &str, annotations: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{name: {name}, namespace: shop, annotations: {{{annotations}}}}}\nspec:\n  ingressClassName: handfast\n\
         \x20 tls: [{{hosts: [{host}], secretName: {secret}}}]\n  rules:\n  - host: {host}\n    http: {{paths: [{{path: /, \
         pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}\n"
    )
}

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n---\n";

fn kubectl_shows_what_would_not_work_and_by_option_it_is_kept_out() {
    let cluster = Cluster::start(Options::default());
    let replica = cluster.replica(&[]);
    cluster.serve(&[&replica]);
    let plane = &cluster.plane;
    let (good, other) = (issue("a.example"), issue("a.example"));
    let applied = plane.apply(&format!("{SERVICE}{}", ingress("web", "a.example", "tls", "")));
    assert!(applied.contains("Warning: handfast: error secret-not-found: Ingress shop/web"), "{applied}");
    wait_until("the Ingress is known", || replica.metric("handfast_snapshot_hosts", &[]) == 1.0);
    let applied = plane.apply(&secret("tls", &good.chain(), &good.key));
    assert!(!applied.contains("error"), "{applied}");
    wait_until("the certificate is served", || {
        replica.metric("handfast_host_serving", &["a.example", "current"]) == 1.0
    });

    let mismatched = secret("tls", &good.chain(), &other.key);
    let (warned, let_in) = cluster.dry_run(&mismatched);
    assert!(let_in && warned.contains("secret/tls configured"), "{warned}");
    let line = warned.lines().find(|line| line.contains("key-mismatch")).unwrap();
    assert!(line.starts_with("Warning: handfast: error key-mismatch: Secret shop/tls data[tls.key]: "), "{line}");
    assert!(line.contains("Effect: last-good (a.example). What to do: ") && !line.contains("PRIVATE"), "{line}");

    // Nothing a user writes reaches the terminal as anything but text.
    let colourful =
        ingress("web", "a.example", "tls", r#"nginx.ingress.kubernetes.io/proxy-read-timeout: "\e[31mred\n""#);
    let (warned, _) = cluster.dry_run(&colourful);
    assert!(warned.contains("bad-annotation") && !warned.contains('\u{1b}'), "{warned}");

    let gone = plane.kubectl(&["delete", "secret", "tls", "--namespace=shop", "--dry-run=server"]);
    assert!(gone.contains("still-used: Secret shop/tls is still used by host a.example"), "{gone}");

    // What is none of ours, and what writes a status, costs nothing and says nothing.
    let before = replica.metric("handfast_webhook_requests_total", &["secret"]);
    plane.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: opaque, namespace: shop}\nstringData: {a: b}\n");
    assert_eq!(replica.metric("handfast_webhook_requests_total", &["secret"]), before);
    assert_eq!(replica.metric("handfast_webhook_requests_total", &["failed"]), 0.0);

    let denying = cluster.replica(&["--webhook-deny"]);
    cluster.serve(&[&denying]);
    drop(replica);
    let (mut denied, mut let_in) = (String::new(), true);
    // kube-proxy forgets the first replica within a moment; until then nobody answers there.
    wait_until("what has errors is kept out", || {
        (denied, let_in) = cluster.dry_run(&mismatched);
        !let_in
    });
    assert!(denied.contains("denied the request") || denied.contains("The request is invalid"), "{denied}");
    assert!(denied.contains("error key-mismatch: Secret shop/tls data[tls.key]"), "{denied}");
    let (text, let_in) = cluster.dry_run(&ingress("later", "b.example", "later", ""));
    assert!(let_in && text.contains("secret-not-found"), "{text}");
}

fn replicas_share_a_certificate_that_they_have_made_themselves() {
    let cluster = Cluster::start(Options::default());
    let (one, two) = (cluster.replica(&[]), cluster.replica(&[]));
    cluster.serve(&[&one, &two]);
    let ca = String::from_utf8(cluster.secret().data.unwrap()["ca.crt"].0.clone()).unwrap();
    let ours = Some(ca.clone());
    let entry = |name: &str, bundle: &Option<String>| (name.to_owned(), bundle.clone());
    let expected = [
        entry("others.example.com", &None),
        entry("ingresses.handfast.dev", &ours),
        entry("tlspolicies.handfast.dev", &ours),
        entry("secrets.handfast.dev", &ours),
    ];
    assert_eq!(cluster.bundles(), expected);
    // Each of them has it.
    for replica in [&one, &two] {
        cluster.serve(&[replica]);
    }
    let made = |replica: &Handfast| replica.process.said().matches("The webhook has written its certificate").count();
    assert_eq!(made(&one) + made(&two), 1);
    // A third one takes it over as it is.
    let version = cluster.secret().metadata.resource_version;
    let three = cluster.replica(&[]);
    cluster.serve(&[&three]);
    assert_eq!((cluster.secret().metadata.resource_version, made(&three)), (version, 0));
    for replica in [&one, &two, &three] {
        let said = replica.process.said();
        assert!(!said.contains("WARN") || !said.contains("webhook"), "{said}");
    }
}

fn a_huge_object_costs_bounded_time_and_a_webhook_that_is_down_costs_nothing() {
    let cluster = Cluster::start(Options::default());
    let replica = cluster.replica(&[]);
    cluster.serve(&[&replica]);
    let hosts: Vec<String> = (0..5_000)
        .map(|index| {
            format!("{{\"host\":\"h{index}.example\",\"http\":{{\"paths\":[{{\"path\":\"/\",\"pathType\":\"Prefix\",\"backend\":{{\"service\":{{\"name\":\"web\",\"port\":{{\"number\":80}}}}}}}}]}}}}")
        })
        .collect();
    let huge = format!(
        "{{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"Ingress\",\"metadata\":{{\"name\":\"huge\",\"namespace\":\"shop\"}},\
         \"spec\":{{\"ingressClassName\":\"handfast\",\"tls\":[{{\"secretName\":\"none\"}}],\"rules\":[{}]}}}}",
        hosts.join(",")
    );
    let create = ["create", "--filename=-"];
    let (text, let_in) = cluster.plane.kubectl_with_input(&create, &huge);
    assert!(let_in && text.contains("secret-not-found") && text.contains("4950 more hosts"), "{text}");
    wait_until("all hosts are there", || replica.metric("handfast_snapshot_hosts", &[]) == 5_000.0);

    let good = issue("*.example");
    let chain = good.chain().repeat(900_000 / good.chain().len());
    let (text, let_in) = cluster.plane.kubectl_with_input(&create, &secret("none", &chain, &good.key));
    assert!(let_in && text.contains("duplicate-certificate") && text.contains("more"), "{text}");
    assert!(text.lines().map(str::len).sum::<usize>() < 8_000, "{}", text.len());
    // Each was judged, and within the time that a verdict has.
    assert_eq!(replica.metric("handfast_webhook_requests_total", &["failed"]), 0.0);
    println!(
        "{} reviews in {} s",
        replica.metric("handfast_webhook_request_duration_seconds_count", &[]),
        replica.metric("handfast_webhook_request_duration_seconds_sum", &[])
    );

    replica.process.signal("STOP");
    let (text, let_in) = cluster.dry_run(&ingress("web", "x.example", "none", ""));
    assert!(let_in, "{text}");
    replica.process.signal("CONT");
    drop(replica);
    let (text, let_in) = cluster.dry_run(&ingress("web", "x.example", "none", ""));
    assert!(let_in, "{text}");
}

fn only_the_api_server_is_let_in_where_its_authority_is_known() {
    let folder = scratch().join("client");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| -> PathBuf {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    // An authority of one certificate: the one that the API server shows.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2120, 1, 1));
    let mut authority = CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap().pem();
    let kubeconfig = write(
        "webhooks.conf",
        &format!(
            "apiVersion: v1\nkind: Config\nusers:\n- name: handfast-webhook.edge.svc\n  user: {{client-certificate-data: {}, client-key-data: {}}}\n",
            STANDARD.encode(certificate),
            STANDARD.encode(key.serialize_pem())
        ),
    );
    let admission = write(
        "admission.yaml",
        &format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: ValidatingAdmissionWebhook\n\
             \x20 configuration: {{apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: \"{}\"}}\n",
            kubeconfig.display()
        ),
    );
    let flag = format!("--admission-control-config-file={}", admission.display());
    let cluster = Cluster::start(Options { api_flags: vec![flag], ..Options::default() });
    let client_ca = write("client-ca.crt", &authority.pem());
    let replica = cluster.replica(&["--webhook-client-ca", client_ca.to_str().unwrap()]);
    // Returns when the API server has been answered.
    cluster.serve(&[&replica]);
    // Somebody else is turned away in the handshake.
    let target = format!("https://{}:9443/validate", replica.sandbox.address);
    let output = std::process::Command::new("curl").args(["-sk", "-d", "{}", &target]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_eq!(replica.metric("handfast_webhook_requests_total", &["other"]), 0.0);
}
