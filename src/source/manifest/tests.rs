//! Manifests as people write them, and what is said about them.

use super::*;

fn parsed(text: &str) -> Manifest {
    parse(&Scope("shop.yaml".into()), text.as_bytes()).unwrap()
}

/// The objects' names and the diagnostics, one per line.
fn outcome(text: &str) -> String {
    let manifest = parsed(text);
    let objects = manifest.objects.iter().map(|object| object.key().to_string());
    objects.chain(manifest.diagnostics.iter().map(ToString::to_string)).collect::<Vec<_>>().join("\n")
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(outcome(text), expected.join("\n"));
}

fn secret_data(text: &str) -> Vec<(String, String)> {
    let manifest = parsed(text);
    assert_eq!(manifest.diagnostics, []);
    let [Object::Secret(SecretObject(secret))] = manifest.objects.as_slice() else { panic!("{manifest:?}") };
    let data = secret.data.iter().flatten();
    data.map(|(name, value)| (name.clone(), String::from_utf8(value.0.clone()).unwrap())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn every_kind_is_read_and_gets_the_default_namespace() {
    check(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: web}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: handfast, namespace: ignored}
---
---
apiVersion: v1
kind: Service
metadata: {name: shop}
---
apiVersion: v1
kind: Secret
metadata: {name: shop, namespace: ''}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, creationTimestamp: null}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
",
        &[
            "Ingress web/shop",
            "IngressClass handfast",
            "Service default/shop",
            "Secret default/shop",
            "EndpointSlice default/shop-1",
        ],
    );
}

#[test]
fn lists_are_unfolded_and_items_of_a_typed_list_need_no_kind() {
    check(
        "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: a}}
- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Service, metadata: {name: b}}]}
- 7
---
apiVersion: networking.k8s.io/v1
kind: IngressList
items: [{metadata: {name: c}}, {metadata: {}}]
---
{apiVersion: v1, kind: ServiceList}
---
{apiVersion: v1, kind: List, items: none}
",
        &[
            "Service default/a",
            "Service default/b",
            "Ingress default/c",
            "error: File shop.yaml document 1 (line 2) items[2]: The document is not valid: it is a number, not an \
                 object with apiVersion and kind.",
            "error: File shop.yaml document 2 (line 9) items[1]: The document is not valid: Ingress: metadata.name \
                 is missing. (route-dropped)",
            "error: File shop.yaml document 4 (line 15): The document is not valid: items of the list is text, not \
                 a sequence.",
        ],
    );
}

#[test]
fn json_is_read_too() {
    let text = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a\/b"}}"#;
    let manifest = parse(&Scope("a.json".into()), text.replace("\\/b", "").as_bytes()).unwrap();
    assert_eq!(manifest.objects[0].key().to_string(), "Service default/a");
    let error = parse(&Scope("a.json".into()), b"{\n\"apiVersion\": v1}").unwrap_err();
    assert_eq!(error.to_string(), "error: File a.json: The file is not used: line 2: expected value. (route-dropped)");
}

#[test]
fn string_data_wins_over_data_and_line_breaks_in_base64_do_not_matter() {
    let text = "
apiVersion: v1
kind: Secret
metadata: {name: shop}
data:
  a: |
    b2xk
    IGE=
  b: b2xkIGI=
stringData: {b: new b, c: c}
";
    assert_eq!(secret_data(text), pairs(&[("a", "old a"), ("b", "new b"), ("c", "c")]));
    let only = "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: null, stringData: {a: b}}";
    assert_eq!(secret_data(only), pairs(&[("a", "b")]));
}

#[test]
fn a_fault_is_named_with_its_field_and_a_secret_is_never_quoted() {
    let document = |rest: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{rest}");
    let place = "error: File shop.yaml document 1 (line 1): The document is not valid: Secret default/a: ";
    for (rest, reason) in [
        ("data: {tls.key: U0VDUkVU!}", r#"data["tls.key"]: it is not valid base64"#),
        ("data: {tls: 83690}", "data.tls: it is a number, expected a base64-encoded string"),
        ("data: SECRET expected SECRET", "data: it is text, expected a map"),
        ("stringData: {ok: a, key: [SECRET]}", "stringData.key: it is a sequence, expected a string"),
        ("data: SECRET\nstringData: {a: b}", "data: it is text, expected a map"),
    ] {
        check(&document(rest), &[&format!("{place}{reason}.")]);
    }
    let annotations = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: a
  annotations:
    nginx.ingress.kubernetes.io/ssl-redirect: no
    nginx.ingress.kubernetes.io/proxy-body-size: '8m'
";
    check(
        annotations,
        &["error: File shop.yaml document 1 (line 2): The document is not valid: Ingress default/a: \
               metadata.annotations[\"nginx.ingress.kubernetes.io/ssl-redirect\"]: it is true or false, expected a \
               string: write \"false\", in quotes. (route-dropped)"],
    );
    let ports = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}, {port: eighty}]}}";
    check(
        ports,
        &["error: File shop.yaml document 1 (line 1): The document is not valid: Service default/a: \
               spec.ports[1].port: invalid type: string \"eighty\", expected i32. (route-dropped)"],
    );
}

#[test]
fn unknown_fields_are_reported_and_the_object_counts() {
    check(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, anotations: {}}
spec:
  ingressClasName: x
  tls: null
  nothing: null
  rules:
  - host: a.example
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80, numer: 80}}}}
",
        &[
            "Ingress default/a",
            "warning: File shop.yaml document 1 (line 2): Field \"Ingress default/a metadata.anotations\" is unknown. The API server would refuse it.",
            "warning: File shop.yaml document 1 (line 2): Field \"Ingress default/a spec.ingressClasName\" is unknown. The API server would refuse it.",
            "warning: File shop.yaml document 1 (line 2): Field \"Ingress default/a \
                 spec.rules[0].http.paths[0].backend.service.port.numer\" is unknown. The API server would refuse it.",
        ],
    );
}

#[test]
fn empty_values_are_no_unknown_fields() {
    check(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, labels: {}, annotations: {}, creationTimestamp: null, finalizers: [], ownerReferences: []}
spec: {rules: [{http: {paths: []}}, {}], tls: [{hosts: []}, {}], defaultBackend: {resource: {kind: a, name: b}}}
status: {loadBalancer: {}}
---
{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [], selector: {}, type: ''}, status: {loadBalancer: {ingress: []}}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4, endpoints: [{addresses: [], conditions: {}}], ports: [{}]}
---
{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {}, stringData: {}, immutable: false, type: ''}
---
{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: a}, spec: {parameters: {kind: a, name: b}}}
",
        &["Ingress default/a", "Service default/a", "EndpointSlice default/a", "Secret default/a", "IngressClass a"],
    );
}

#[test]
fn kinds_of_other_programs_are_ignored_and_old_versions_of_ours_are_not() {
    check(
        "
{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}
---
{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: a}}
---
{apiVersion: v1, kind: ConfigMapList, items: []}
---
{apiVersion: extensions/v1beta1, kind: Ingress, metadata: {name: a}}
---
{kind: Secret, metadata: {name: a}}
---
{apiVersion: v1}
---
just text
",
        &[
            "info: File shop.yaml document 1 (line 2): Handfast does not use apps/v1 Deployment objects. The document is ignored.",
            "info: File shop.yaml document 2 (line 4): Handfast does not use serving.knative.dev/v1 Service objects. The \
                 document is ignored.",
            "info: File shop.yaml document 3 (line 6): Handfast does not use v1 ConfigMapList objects. The document is ignored.",
            "error: File shop.yaml document 4 (line 8): The document is not valid: Ingress default/a: apiVersion \
                 must be \"networking.k8s.io/v1\", it is \"extensions/v1beta1\"; there, backend.serviceName and \
                 servicePort are backend.service.name and service.port.number. (route-dropped)",
            "error: File shop.yaml document 5 (line 10): The document is not valid: Secret default/a: apiVersion \
                 must be \"v1\", there is none.",
            "error: File shop.yaml document 6 (line 12): The document is not valid: it has no kind.",
            "error: File shop.yaml document 7 (line 14): The document is not valid: it is text, not an object with \
                 apiVersion and kind.",
        ],
    );
}

#[test]
fn names_are_those_that_the_api_server_takes() {
    let named = |kind: &str, metadata: &str| {
        let api_version = Form::of(kind).unwrap().api_version;
        let manifest = parsed(&format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {metadata}"));
        manifest.diagnostics.first().map(|diagnostic| diagnostic.problem.to_string())
    };
    let long = |length: usize| format!("{{name: {}}}", "a".repeat(length));
    for (kind, metadata) in [
        ("Secret", "{name: a.b-c.0}"),
        ("Service", "{name: 0-a, namespace: 7up}"),
        ("Secret", &long(253)),
        ("Service", &long(63)),
    ] {
        assert_eq!(named(kind, metadata), None, "{kind} {metadata}");
    }
    for (kind, metadata) in [
        ("Secret", "{name: a..b}"),
        ("Secret", "{name: A}"),
        ("Secret", "{name: a/b}"),
        ("Secret", "{name: -a}"),
        ("Secret", "{name: a, namespace: a.b}"),
        ("Secret", "{generateName: a}"),
        ("Secret", "{name: 1}"),
        ("Secret", "{name: ''}"),
        ("Service", "{name: a.b}"),
        ("Secret", &long(254)),
        ("Service", &long(64)),
    ] {
        assert!(named(kind, metadata).is_some_and(|problem| problem.contains("name")), "{kind} {metadata}");
    }
}

#[test]
fn a_broken_document_says_which_object_it_is_about() {
    let manifest = parsed(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: 1}\n---\n{apiVersion: v2, kind: Service, metadata: {name: b}}\n---\n{apiVersion: v1, kind: Service, metadata: {}, spec: 1}",
    );
    let broken: Vec<_> = manifest.broken.iter().map(|(index, key)| (*index, key.to_string())).collect();
    assert_eq!(broken, [(0, "Service default/a".to_owned()), (1, "Service default/b".to_owned())]);
    assert_eq!(manifest.diagnostics.len(), 3);
}

#[test]
fn garbage_gets_a_short_message_with_a_line() {
    let error = |bytes: &[u8]| parse(&Scope("x.yaml".into()), bytes).unwrap_err().to_string();
    let start = "error: File x.yaml: The file is not used: line ";
    let noise: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let ascii: Vec<u8> = noise.iter().map(|byte| 33 + byte % 90).collect();
    let brackets: Vec<u8> = noise.iter().map(|byte| b"[]{}:,-&*? \n"[usize::from(byte % 12)]).collect();
    for bytes in [&noise, &ascii, &brackets, &b"a: 1\n\xff".to_vec(), &b"a: \0".to_vec(), &b"a:\n\t- b: [".to_vec()] {
        let message = error(bytes);
        assert!(message.starts_with(start) && message.len() < 500, "{message}");
    }
    assert!(error(b"a: 1\n\xff").contains("line 2 is not valid UTF-8"));
    let word = "x".repeat(1 << 20);
    assert!(outcome(&word).len() < 200);
    assert!(outcome(&format!("apiVersion: v1\nkind: {word}\n")).len() < 600);
}

#[test]
fn a_byte_order_mark_does_not_matter() {
    check("\u{feff}{apiVersion: v1, kind: Service, metadata: {name: a}}", &["Service default/a"]);
}

#[test]
fn what_is_never_used_is_left_out() {
    let manifest = parsed(
        "
apiVersion: v1
kind: Secret
metadata:
  name: a
  annotations: {kubectl.kubernetes.io/last-applied-configuration: SECRET, b: c}
  managedFields: [{manager: kubectl, time: 2026-01-01T00:00:00Z, fieldsV1: {'f:data': {}}}]
",
    );
    assert_eq!(manifest.diagnostics, []);
    let metadata = manifest.objects[0].metadata();
    assert_eq!(metadata.annotations.as_ref().unwrap().len(), 1);
    assert_eq!(metadata.managed_fields, None);
}

#[test]
fn kinds_that_are_almost_ours_are_asked_about() {
    check(
        "
{apiVersion: networking.k8s.io/v1, kind: ingress, metadata: {name: a}}
---
{apiVersion: v1, kind: Services, metadata: {name: a}}
---
{apiVersion: serving.knative.dev/v1, kind: service, metadata: {name: a}}
---
{apiVersion: v1, kind: Endpoints, metadata: {name: a}}
",
        &[
            "warning: File shop.yaml document 1 (line 2): Kind ingress is unknown, so the document is ignored. \
                 Do you mean Ingress? (route-dropped)",
            "warning: File shop.yaml document 2 (line 4): Kind Services is unknown, so the document is ignored. \
                 Do you mean Service? (route-dropped)",
            "info: File shop.yaml document 3 (line 6): Handfast does not use serving.knative.dev/v1 service objects. The \
                 document is ignored.",
            "info: File shop.yaml document 4 (line 8): Handfast does not use v1 Endpoints objects. The document is ignored.",
        ],
    );
    let manifest = parsed("{apiVersion: v1, kind: Endpoints, metadata: {name: a}}");
    assert_eq!(manifest.diagnostics[0].problem.remedy(), "write an EndpointSlice (discovery.k8s.io/v1)");
}

#[test]
fn templates_are_recognised() {
    for text in [
        "{{- if .Values.ingress }}\napiVersion: v1\n{{- end }}\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Release.Name }}\n",
        "{apiVersion: v1, kind: Service, metadata: {name: '{{ .Release.Name }}'}}",
    ] {
        let problem = match parse(&Scope("shop.yaml".into()), text.as_bytes()) {
            Ok(manifest) => manifest.diagnostics[0].problem.to_string(),
            Err(diagnostic) => diagnostic.problem.to_string(),
        };
        assert!(problem.ends_with("; it looks like a template: render it first (helm template …)"), "{problem}");
    }
}

fn policy(spec: &str) -> String {
    format!("apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: a}}\nspec: {spec}\n")
}

#[test]
fn policies_are_read_as_they_are_written() {
    let manifest = parsed(&policy(
        "{preset: modern, minVersion: TLSv1.2, cipherSuites: ['HIGH:!aNULL:!MD5'], hsts: {maxAge: 300}, \
         clientAuth: {mode: required, caSecret: our-ca}, findingActions: {expired: reject}, allowOverrides: false}",
    ));
    assert_eq!(manifest.diagnostics, []);
    let [Object::TlsPolicy(policy)] = manifest.objects.as_slice() else { panic!("{manifest:?}") };
    let spec = serde_json::to_value(&policy.spec).unwrap();
    assert_eq!(spec["cipherSuites"], serde_json::json!(["HIGH:!aNULL:!MD5"]));
    assert_eq!((&spec["preset"], &spec["minVersion"]), (&"modern".into(), &"TLSv1.2".into()));
    assert_eq!(spec["hsts"]["includeSubDomains"], false);
}

#[test]
fn a_policy_as_a_cluster_prints_it_is_taken_without_its_status() {
    let manifest = parsed(
        "
apiVersion: v1
kind: List
items:
- apiVersion: handfast.dev/v1alpha1
  kind: TlsPolicy
  metadata: {name: a, namespace: web, generation: 2, uid: 7c1f, resourceVersion: '7', creationTimestamp: null}
  spec: {preset: null, requiredClients: [], findingActions: {}, alpn: [], chain: {}, hsts: null}
  status:
    conditions:
    - {type: Accepted, status: 'True', reason: Accepted, message: '', lastTransitionTime: 2026-01-01T00:00:00Z}
    - of another form
---
{apiVersion: handfast.dev/v1alpha1, kind: TlsPolicyList, items: [{metadata: {name: b}, spec: {}, status: {}}]}
",
    );
    assert_eq!(manifest.diagnostics, []);
    assert_eq!(manifest.incomplete, BTreeMap::new());
    let keys: Vec<String> = manifest.objects.iter().map(|object| object.key().to_string()).collect();
    assert_eq!(keys, ["TlsPolicy web/a", "TlsPolicy default/b"]);
    for object in &manifest.objects {
        let Object::TlsPolicy(policy) = object else { panic!("{object:?}") };
        assert_eq!((policy.spec.preset, &policy.status), (None, &None));
    }
}

#[test]
fn a_policy_that_an_api_server_would_refuse_is_refused_with_field_and_remedy() {
    let said = |text: &str| {
        let manifest = parsed(text);
        assert_eq!((manifest.objects.len(), manifest.diagnostics.len(), manifest.broken.len()), (0, 1, 1), "{text}");
        assert_eq!(manifest.broken[0].1.to_string(), "TlsPolicy default/a");
        let problem = manifest.diagnostics[0].problem.to_string();
        problem.strip_prefix("The document is not valid: TlsPolicy default/a: ").unwrap().to_owned()
    };
    for (spec, expected) in [
        ("{minVersion: TLSv1.1}", "spec.minVersion: it is \"TLSv1.1\", expected one of \"TLSv1.2\", \"TLSv1.3\""),
        ("{cipherSuites: HIGH}", "spec.cipherSuites: it is text, expected a sequence: write [\"HIGH\"]"),
        ("{hsts: {maxAge: a year}}", "spec.hsts.maxAge: it is text, expected a whole number"),
        ("{clientAuth: {mode: required}}", "spec.clientAuth.caSecret: it is missing"),
        (
            "{minVersion: TLSv1.3, maxVersion: TLSv1.2}",
            "spec.minVersion: minVersion is newer than maxVersion: swap them",
        ),
        (
            "{requiredClients: [java-8u32], alpn: [h3]}",
            "spec.alpn[0]: it is \"h3\", expected one of \"h2\", \"http/1.1\"; spec.requiredClients[0]: there is no \
             \"java-8u32\" (do you mean java-8u31?)",
        ),
        (
            "{findingActions: {keymismatch: reject}}",
            "spec.findingActions: a code here is not a finding about certificates: `handfast explain` lists them \
             (\"keymismatch\", do you mean key-mismatch?)",
        ),
        ("", "spec is missing: write `spec: {}` for the default policy"),
        ("[]", "spec: it is a sequence, expected a mapping"),
    ] {
        assert_eq!(said(&policy(spec)), expected);
    }
    let labels = policy("{}").replace("{name: a}", "{name: a, labels: {b: 1}}");
    assert_eq!(said(&labels), "metadata.labels.b: it is a number, expected a string: write \"1\", in quotes");
    let version = policy("{}").replace("v1alpha1", "v1");
    assert_eq!(said(&version), "apiVersion must be \"handfast.dev/v1alpha1\", it is \"handfast.dev/v1\"");
}

#[test]
fn a_misspelt_setting_makes_a_policy_invalid_because_without_it_hosts_could_be_opened() {
    for (spec, expected) in [
        (
            "{clientauth: {mode: required, caSecret: our-ca}}",
            "spec.clientauth does not exist (do you mean clientAuth?)",
        ),
        (
            "{minVerson: TLSv1.3, hsts: {maxAge: 1, includeSubdomains: true}, wholly: different}",
            "spec.hsts.includeSubdomains does not exist (do you mean includeSubDomains?); spec.minVerson does not exist \
             (do you mean minVersion?); spec.wholly does not exist: delete it, or correct its name",
        ),
        ("{'client.auth': 1}", "spec[\"client.auth\"] does not exist: delete it, or correct its name"),
    ] {
        let manifest = parsed(&policy(spec));
        assert_eq!((manifest.objects.len(), manifest.diagnostics.len(), manifest.damaged), (0, 1, true), "{spec}");
        // Who has an older version of the policy keeps it.
        assert_eq!(manifest.broken[0].1.to_string(), "TlsPolicy default/a");
        let problem = format!("The document is not valid: TlsPolicy default/a: {expected}");
        assert_eq!(manifest.diagnostics[0].problem.to_string(), problem);
    }
    // A field without a value says nothing, and outside of the spec nothing is set.
    assert_eq!(parsed(&policy("{clientauth: null}")).diagnostics, []);
    check(
        &policy("{}").replace("{name: a}", "{name: a, lables: {}}"),
        &[
            "TlsPolicy default/a",
            "warning: File shop.yaml document 1 (line 1): Field \"TlsPolicy default/a metadata.lables\" is unknown. The \
             API server would refuse it.",
        ],
    );
}

#[test]
fn a_policy_of_another_program_is_none_of_ours() {
    check(
        "{apiVersion: traffic.example.com/v1, kind: TlsPolicy, metadata: {name: a}}\n---\n{apiVersion: \
         handfast.dev/v1alpha1, kind: TLSPolicy, metadata: {name: a}}",
        &[
            "info: File shop.yaml document 1 (line 1): Handfast does not use traffic.example.com/v1 TlsPolicy objects. The \
                 document is ignored.",
            "warning: File shop.yaml document 2 (line 3): Kind TLSPolicy is unknown, so the document is ignored. \
                 Do you mean TlsPolicy?",
        ],
    );
}

#[test]
fn files_of_kustomize_and_helm_are_no_broken_manifests() {
    let said = |file: &str, text: &str| {
        let manifest = parse(&Scope(file.into()), text.as_bytes()).unwrap();
        let codes: Vec<_> = manifest.diagnostics.iter().map(|diagnostic| diagnostic.problem.code()).collect();
        (manifest.objects.len(), codes.join(" "))
    };
    let kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [shop.yaml]\n";
    let values = "controller: {replicaCount: 2}\n---\nimage: nginx\n";
    for (file, text) in [
        ("kustomization.yaml", kustomization),
        ("kustomization.yml", "resources: [shop.yaml]\nnamePrefix: a-\n"),
        ("Kustomization.yaml", "kind: Kustomization\nresources: []\n"),
        ("component.yaml", "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"),
        ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n"),
        ("requirements.yaml", "dependencies: []\n"),
        ("values.yaml", values),
        ("values.yml", values),
        ("values-prod.yaml", "kind: DaemonSet\n"),
        ("values.prod.yaml", values),
        ("shop-values.yaml", values),
        ("values.schema.json", "{\"$schema\": \"http://json-schema.org/schema#\", \"type\": \"object\"}"),
    ] {
        assert_eq!(said(file, text), (0, "tool-file".to_owned()), "{file}");
    }
    // Their names say nothing about objects.
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n";
    assert_eq!(said("values.yaml", service), (1, String::new()));
    assert_eq!(said("values.yaml", &format!("{service}---\nspec: {{}}\n")), (1, "invalid-document".to_owned()));
    let misspelt = service.replace("kind: Service", "kind: Servic");
    assert_eq!(said("values.yaml", &misspelt), (0, "misspelt-kind".to_owned()));
    let list = "kind: List\nitems: [{apiVersion: v1, kind: Service, metadata: {name: a}}]";
    assert_eq!(said("kustomization.yaml", list), (1, String::new()));
    for file in ["valuesheet.yaml", "my-chart.yaml", "kustomization-notes.yaml"] {
        assert_eq!(said(file, "a: 1\n"), (0, "invalid-document".to_owned()), "{file}");
    }
    let manifest = parse(&Scope("Chart.yaml".into()), b"a: 1").unwrap();
    assert!(manifest.diagnostics[0].to_string().contains("a file of Helm"), "{manifest:?}");
}
