//! The definition of TlsPolicy: what Kubernetes demands of a definition, what its rules say about policies, and that
//! Handfast says the same without an API server.

use std::collections::BTreeSet;
use std::path::Path;

use handfast::api::crd;
use handfast::api::tls_policy::{
    ChainCompletion, ChainRepair, CipherSuiteOrder, ClientAuth, ClientAuthMode, Fault, FindingAction, GroupOrder, Hsts,
    Preset, ProtocolVersion, TlsPolicySpec, definition,
};
use handfast::tls::chain::Finding;
use handfast::tls::clients::clients;
use kube_cel::cel::{Context, Program};
use kube_cel::{ErrorKind, KubeCelExt as _, Validator, compile_schema};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::binary::handfast;

fn schema() -> &'static Value {
    &definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// What an API server's CEL says about a policy with this spec: place and message.
fn said_by_cel(spec: &Value) -> Vec<(String, String)> {
    let errors = Validator::new().validate_compiled(&compile_schema(schema()), &json!({"spec": spec}), None);
    let errors = errors.err().map(kube_cel::ValidationErrors::into_vec).unwrap_or_default();
    let place = |error: kube_cel::ValidationError| {
        assert_eq!(error.kind, ErrorKind::ValidationFailure, "{error:?}");
        (error.field_path, error.message)
    };
    errors.into_iter().map(place).collect()
}

/// What Handfast says, by the rules alone or by the form.
fn said_by_us(spec: &Value) -> Vec<(String, String)> {
    let faults = TlsPolicySpec::read(spec).err().unwrap_or_default();
    faults.into_iter().map(|Fault { path, message }| (path, message)).collect()
}

/// Every node of the schema with its path.
fn nodes<'a>(node: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    found.push((path.to_owned(), node));
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        nodes(child, &format!("{path}.{name}"), found);
    }
    for (keyword, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(child) = node.get(keyword) {
            nodes(child, &format!("{path}{mark}"), found);
        }
    }
}

fn all_nodes() -> Vec<(String, &'static Value)> {
    let mut found = Vec::new();
    nodes(schema(), "", &mut found);
    assert!(found.len() > 25);
    found
}

#[test]
fn the_definition_in_the_repository_is_the_one_that_the_command_prints() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let files = crd::files();
    for (name, text) in &files {
        crate::docs::holds(&format!("crds/{name}"), text);
    }
    let names: BTreeSet<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, files.iter().map(|(name, _)| name.clone()).collect());
    let output = handfast(&["crd"]).output().unwrap();
    let expected: String = files.into_iter().map(|(_, text)| text).collect();
    assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(0), expected));
    assert!(output.stderr.is_empty());
}

#[test]
fn the_schema_is_structural() {
    const KEYWORDS: [&str; 18] = [
        "additionalProperties",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "properties",
        "required",
        "type",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];
    for (path, node) in all_nodes() {
        let node = node.as_object().unwrap();
        for keyword in node.keys().filter(|keyword| *keyword != "x-kubernetes-list-map-keys") {
            assert!(KEYWORDS.contains(&keyword.as_str()), "{path}: {keyword}");
        }
        let kind = node["type"].as_str().unwrap_or_else(|| panic!("{path} has no type"));
        assert!(["array", "boolean", "integer", "object", "string"].contains(&kind), "{path}: {kind}");
        assert!(!(node.contains_key("properties") && node.contains_key("additionalProperties")), "{path}");
        assert_eq!(node.contains_key("items"), kind == "array", "{path}");
        assert_eq!(
            node.contains_key("properties") || node.contains_key("additionalProperties"),
            kind == "object",
            "{path}"
        );
        let formats = ["int32", "int64", "date-time"];
        assert!(node.get("format").is_none_or(|format| formats.contains(&format.as_str().unwrap())), "{path}");
        for name in node.get("required").and_then(Value::as_array).into_iter().flatten() {
            assert!(node["properties"].get(name.as_str().unwrap()).is_some(), "{path}: {name}");
        }
        for keyword in ["maximum", "minimum", "maxItems", "minItems", "maxLength", "minLength", "maxProperties"] {
            assert!(node.get(keyword).is_none_or(|limit| limit.is_i64()), "{path}: {keyword}");
        }
    }
}

#[test]
fn every_field_of_a_spec_is_bounded_and_explained() {
    for (path, node) in all_nodes().into_iter().filter(|(path, _)| path.starts_with(".spec")) {
        let limit = match node["type"].as_str().unwrap() {
            "array" => "maxItems",
            "integer" => "maximum",
            "string" if node.get("enum").is_none() => "maxLength",
            "object" if node.get("additionalProperties").is_some() => "maxProperties",
            _ => "type",
        };
        assert!(node.get(limit).is_some(), "{path} has no {limit}");
        if node["type"] == "array" {
            assert_eq!(node["x-kubernetes-list-type"], "atomic", "{path}");
        }
        if !path.ends_with("[]") && !path.ends_with("{}") {
            let description = node["description"].as_str().unwrap_or_default();
            assert!(description.len() > 20 && description.ends_with('.'), "{path}: {description:?}");
            for word in ["  ", "\n", "[`", "::"] {
                assert!(!description.contains(word), "{path}: {description:?}");
            }
        }
    }
    let conditions = &schema()["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    assert!(conditions["items"]["required"].as_array().unwrap().contains(&"type".into()));
}

#[test]
fn the_definition_names_what_it_defines() {
    let definition = definition();
    assert_eq!(definition["apiVersion"], "apiextensions.k8s.io/v1");
    let spec = &definition["spec"];
    let names = &spec["names"];
    assert_eq!((&spec["group"], &spec["versions"][0]["name"]), (&"handfast.dev".into(), &"v1alpha1".into()));
    let full = format!("{}.{}", names["plural"].as_str().unwrap(), spec["group"].as_str().unwrap());
    assert_eq!(definition["metadata"]["name"], full.as_str());
    let versions = spec["versions"].as_array().unwrap();
    assert_eq!(versions.iter().filter(|version| version["storage"] == true).count(), 1);
    assert_eq!(versions[0]["subresources"], json!({"status": {}}));
    let columns = versions[0]["additionalPrinterColumns"].as_array().unwrap();
    let paths: Vec<&str> = columns.iter().map(|column| column["jsonPath"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        [
            ".spec.preset",
            ".spec.minVersion",
            ".status.conditions[?(@.type==\"Accepted\")].status",
            ".status.conditions[?(@.type==\"Accepted\")].reason",
            ".metadata.creationTimestamp",
        ]
    );
}

#[test]
fn every_rule_compiles_and_blames_a_field_that_exists() {
    let mut rules = 0;
    for (path, node) in all_nodes() {
        for rule in node.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
            rules += 1;
            let cel = rule["rule"].as_str().unwrap();
            Program::compile(cel).unwrap_or_else(|error| panic!("{path}: {cel}: {error}"));
            let message = rule["message"].as_str().unwrap();
            // The API server takes 2048 characters in one line.
            assert!(message.len() < 300 && !message.contains('\n'), "{path}: {message}");
            if let Some(field) = rule.get("fieldPath") {
                let field = field.as_str().unwrap().strip_prefix('.').unwrap();
                assert!(node["properties"].get(field).is_some(), "{path}: {field}");
            }
            // A coarse form of the API server's estimate, which counts on the limits of lists and texts.
            let warnings = kube_cel::estimate_rule_cost(cel, &compile_schema(node));
            assert!(warnings.is_empty(), "{path}: {warnings:?}");
        }
    }
    assert_eq!(rules, 7);
}

#[test]
fn the_rules_say_what_is_wrong() {
    let year = 31_536_000;
    for (spec, expected) in [
        (json!({}), ""),
        (json!({"preset": "modern"}), ""),
        (json!({"preset": "modern", "minVersion": "TLSv1.2"}), ""),
        (json!({"preset": "modern", "minVersion": "TLSv1.2", "maxVersion": "TLSv1.2"}), ""),
        (json!({"minVersion": "TLSv1.3", "maxVersion": "TLSv1.3"}), ""),
        (
            json!({"minVersion": "TLSv1.3", "maxVersion": "TLSv1.2"}),
            "spec.minVersion: minVersion is newer than maxVersion: swap them",
        ),
        (
            json!({"preset": "modern", "maxVersion": "TLSv1.2"}),
            "spec.maxVersion: preset modern begins with TLSv1.3, so maxVersion TLSv1.2 leaves no version: use preset \
             intermediate",
        ),
        (json!({"preset": "intermediate", "maxVersion": "TLSv1.2"}), ""),
        (
            json!({"minVersion": "TLSv1.3", "cipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_X"]}),
            "spec.cipherSuites: cipherSuites names only suites of TLS 1.2, and minVersion is TLSv1.3: add suites of \
             TLS 1.3 (TLS_AES_128_GCM_SHA256), or remove cipherSuites",
        ),
        (json!({"minVersion": "TLSv1.3", "cipherSuites": ["HIGH:!aNULL:!MD5"]}), ""),
        (json!({"minVersion": "TLSv1.3", "cipherSuites": ["ECDHE-X:TLS_AES_128_GCM_SHA256"]}), ""),
        (json!({"minVersion": "TLSv1.3", "cipherSuites": ["ECDHE-X", "TLS_CHACHA20_POLY1305_SHA256"]}), ""),
        (json!({"minVersion": "TLSv1.2", "cipherSuites": ["ECDHE-X"]}), ""),
        (json!({"hsts": {"maxAge": 0}}), ""),
        (json!({"hsts": {"maxAge": year, "includeSubDomains": true, "preload": true}}), ""),
        (json!({"hsts": {"maxAge": 1, "includeSubDomains": true, "preload": false}}), ""),
        (
            json!({"hsts": {"maxAge": year, "preload": true}}),
            "spec.hsts.includeSubDomains: preload needs includeSubDomains (hstspreload.org): set it to true, or remove \
             preload",
        ),
        (
            json!({"hsts": {"maxAge": year - 1, "includeSubDomains": true, "preload": true}}),
            "spec.hsts.maxAge: preload needs a maxAge of at least 31536000, a year (hstspreload.org): raise it, or \
             remove preload",
        ),
        (json!({"findingActions": {"expired": "reject", "key-mismatch": "holdLastGood"}}), ""),
        (
            json!({"findingActions": {"expird": "reject"}}),
            "spec.findingActions: a code here is not a finding about certificates: `handfast explain` lists them",
        ),
        (
            json!({"findingActions": {"expired": "serve", "no-key": "serve"}}),
            "spec.findingActions: serve is not possible with encrypted-key, key-mismatch, no-certificate, no-key, \
             several-keys, unparsable-key, unsupported-key, because nothing can be served then: write holdLastGood or reject",
        ),
    ] {
        let lines = |said: Vec<(String, String)>| {
            said.into_iter().map(|(path, message)| format!("{path}: {message}")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(lines(said_by_cel(&spec)), expected, "{spec}");
        let ours = lines(said_by_us(&spec));
        assert!(ours == expected || ours.starts_with(&format!("{expected} (")), "{spec}: {ours}");
    }
    let misspelt = said_by_us(&json!({"findingActions": {"expird": "reject"}}));
    assert!(misspelt[0].1.ends_with(" (\"expird\", do you mean expired?)"), "{misspelt:?}");
}

#[test]
fn several_broken_rules_are_said_together() {
    let spec = json!({
        "minVersion": "TLSv1.3",
        "maxVersion": "TLSv1.2",
        "hsts": {"maxAge": 1, "preload": true},
        "findingActions": {"x": "serve"},
    });
    assert_eq!(said_by_cel(&spec).len(), 4);
    assert_eq!(said_by_us(&spec).len(), 4);
}

/// What the patterns of the schema say, asked of an engine for regular expressions.
#[test]
fn forms_of_text_are_judged_as_their_regular_expressions_do() {
    let texts = [
        "",
        "a",
        "-",
        "a-",
        "-a",
        "a-b",
        "a.b",
        "a..b",
        ".a",
        "a.",
        "a.-b",
        "A",
        "a_b",
        "a b",
        " ",
        "0",
        "9.9",
        "ä",
        "a\n",
        "\n",
        "HIGH:!aNULL:!MD5",
        "ECDHE+AESGCM:@STRENGTH",
        "@SECLEVEL=2",
        "a;b,c",
        "a|b",
        "a/b",
        "*X25519/P-256",
        "?x",
        "a$",
        "a^",
        "a\\",
        "a\"",
        "'",
        "(",
        "X25519MLKEM768",
    ];
    let patterns: BTreeSet<&str> = all_nodes().iter().filter_map(|(_, node)| node.get("pattern")?.as_str()).collect();
    assert_eq!(patterns.len(), 3);
    let field = |pattern: &str, text: &str| {
        let spec = match pattern {
            _ if pattern.contains('!') => json!({"cipherSuites": [text]}),
            _ if pattern.contains('*') && pattern.contains('?') && pattern.contains("A-Z") => json!({"groups": [text]}),
            _ => json!({"clientAuth": {"mode": "required", "caSecret": text}}),
        };
        TlsPolicySpec::read(&spec).is_ok()
    };
    for pattern in patterns {
        let program = Program::compile("text.matches(pattern)").unwrap();
        for text in texts {
            let mut context = Context::default().with_all();
            context.add_variable("text", text).unwrap();
            context.add_variable("pattern", pattern).unwrap();
            let matches = program.execute(&context).unwrap() == true.into();
            assert_eq!(field(pattern, text), matches, "{pattern} {text:?}");
        }
    }
}

#[test]
fn check_refuses_a_policy_as_an_api_server_would_and_takes_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let policy = |name: &str, spec: &Value| {
        let metadata = json!({"name": name, "namespace": "web"});
        json!({"apiVersion": "handfast.dev/v1alpha1", "kind": "TlsPolicy", "metadata": metadata, "spec": spec})
    };
    let wrong = json!({"preset": "modern", "maxVersion": "TLSv1.2"});
    for (name, spec) in [("good", json!({"preset": "modern"})), ("wrong", wrong.clone())] {
        std::fs::write(directory.path().join(format!("{name}.json")), policy(name, &spec).to_string()).unwrap();
    }
    let path = directory.path().to_str().unwrap();
    let output = handfast(&["check", path, "--output", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let objects = report["objects"].as_array().unwrap();
    let findings = |subject: &str| objects.iter().find(|object| object["subject"] == subject).map(|o| &o["findings"]);
    assert_eq!(findings("File good.json"), None, "{report}");
    let found = &findings("File wrong.json").unwrap()[0];
    assert_eq!(found["code"], "invalid-document");
    let (place, message) = &said_by_cel(&wrong)[0];
    assert!(
        found["message"].as_str().unwrap().contains(&format!("TlsPolicy web/wrong: {place}: {message}")),
        "{found}"
    );
}

/// Names that exist; the rest of a choice is made by the strategies.
fn some_codes() -> impl Strategy<Value = String> {
    let codes: Vec<String> = Finding::all().map(|about| about.code.to_owned()).chain(["expird".to_owned()]).collect();
    proptest::sample::select(codes)
}

fn specs() -> impl Strategy<Value = TlsPolicySpec> {
    let version = || prop_oneof![Just(ProtocolVersion::Tls12), Just(ProtocolVersion::Tls13)];
    let suite = prop_oneof![
        Just("ECDHE-RSA-AES128-GCM-SHA256"),
        Just("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        Just("TLS_AES_128_GCM_SHA256"),
        Just("TLS_CHACHA20_POLY1305_SHA256"),
        Just("HIGH:!aNULL:!MD5"),
        Just("ECDHE-A:TLS_AES_128_GCM_SHA256"),
    ];
    let hsts =
        (prop_oneof![Just(0), Just(31_535_999), Just(31_536_000), Just(315_360_000)], any::<bool>(), any::<bool>());
    let hsts = hsts.prop_map(|(max_age, include_sub_domains, preload)| Hsts { max_age, include_sub_domains, preload });
    let action =
        prop_oneof![Just(FindingAction::HoldLastGood), Just(FindingAction::Reject), Just(FindingAction::Serve)];
    let ids: Vec<String> = clients().iter().map(|client| client.id.to_owned()).collect();
    let orders = (
        proptest::option::of(prop_oneof![
            Just(CipherSuiteOrder::Client),
            Just(CipherSuiteOrder::Server),
            Just(CipherSuiteOrder::ServerUnlessChaCha20First)
        ]),
        proptest::option::of(prop_oneof![Just(GroupOrder::Client), Just(GroupOrder::Server)]),
        proptest::option::of(any::<bool>()),
    );
    let values = (
        proptest::option::of(prop_oneof![Just(Preset::Intermediate), Just(Preset::Modern)]),
        proptest::option::of(version()),
        proptest::option::of(version()),
        proptest::option::of(proptest::collection::vec(suite.prop_map(str::to_owned), 1..4)),
        proptest::option::of(hsts),
        proptest::collection::btree_map(some_codes(), action, 0..4),
        proptest::collection::vec(proptest::sample::select(ids), 0..3),
    );
    (values, orders).prop_map(|(values, (cipher_suite_order, group_order, session_tickets))| {
        let (preset, min_version, max_version, cipher_suites, hsts, finding_actions, required_clients) = values;
        TlsPolicySpec {
            preset,
            min_version,
            max_version,
            cipher_suites,
            cipher_suite_order,
            groups: session_tickets.map(|_| vec!["X25519".to_owned(), "prime256v1:secp384r1".to_owned()]),
            group_order,
            alpn: session_tickets.map(|both| if both { vec!["h2".into(), "http/1.1".into()] } else { Vec::new() }),
            session_tickets,
            hsts,
            client_auth: group_order
                .map(|_| ClientAuth { mode: ClientAuthMode::Optional, ca_secret: "our-ca.v1".into() }),
            chain: preset.map(|_| ChainRepair { complete: Some(ChainCompletion::FromCluster) }),
            finding_actions,
            required_clients,
            allow_overrides: session_tickets,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn without_an_api_server_the_verdict_is_the_same(spec in specs()) {
        let document = serde_json::to_value(&spec).unwrap();
        let theirs = said_by_cel(&document);
        let ours = said_by_us(&document);
        let verdict = spec.validate().err().unwrap_or_default();
        prop_assert_eq!(verdict.len(), ours.len());
        prop_assert_eq!(theirs.len(), ours.len(), "{:?}\n{:?}", theirs, ours);
        // Order is no matter.
        for (path, message) in &theirs {
            let same = |(our_path, our_message): &(String, String)| our_path == path && our_message.starts_with(message);
            prop_assert!(ours.iter().any(same), "{path}: {message}: {ours:?}");
        }
        if theirs.is_empty() {
            prop_assert_eq!(TlsPolicySpec::read(&document).unwrap(), spec);
        }
    }
}
