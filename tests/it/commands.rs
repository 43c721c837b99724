//! `check`, `chain`, `explain` and `ready` as people and pipelines run them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use handfast::demo::pki::{Authority, KeyType};
use handfast::explain;
use rustls::pki_types::UnixTime;
use serde_json::Value;

use crate::binary::{Server, handfast, host, issue, secret, service, wait_until};
use crate::pki::{Leaf, ca, leaf, leaf_with, must_staple, root};

/// A time at which certificates of the tests' own CA are valid.
const AT: &str = "2026-01-01";

fn run(args: &[&str]) -> (i32, String, String) {
    run_with(args, "")
}

/// Exit status, standard output and standard error.
fn run_with(args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = handfast(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end without having read anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(args: &[&str], input: &str) -> (i32, Value) {
    let (status, stdout, stderr) = run_with(args, input);
    assert_eq!(stderr, "", "{args:?}");
    (status, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")))
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

/// A complete chain, its root, and its leaf.
fn complete(files: &Files) -> (String, String, Leaf) {
    let root = root("Root");
    let intermediate = ca("Intermediate", &root);
    let leaf = leaf(&intermediate);
    let chain = files.write("chain.pem", &format!("{}{}", leaf.pem, intermediate.pem()));
    (chain, files.write("root.pem", &root.pem()), leaf)
}

#[test]
fn chain_is_accepted_only_as_a_strict_client_would() {
    let files = Files::new();
    let (chain, root, leaf) = complete(&files);
    let key = files.write("key.pem", &leaf.key);
    let other_key = files.write("other.pem", &crate::pki::leaf(&crate::pki::root("x")).key);
    let leaf_only = files.write("leaf.pem", &leaf.pem);
    let trusted = ["--trust-anchors", &root, "--at", AT];
    let rows: [(&[&str], i32, &str); 16] = [
        (&[&chain], 0, "accepted: 0 errors"),
        (&[&chain, "--name", "shop.example"], 0, "accepted for shop.example"),
        (&[&chain, "--name", "Shop.example."], 0, "accepted for shop.example"),
        (&[&chain, "--name", "my_app.example."], 1, "error name-not-covered"),
        (&[&chain, "--name", "shop.example.."], 2, ""),
        (&[&chain, "--only-anchors"], 0, "CN=Root, trusted by --trust-anchors"),
        (&[&chain, "--key", &key], 0, "accepted"),
        (&[&chain, "--name", "other.example"], 1, "error name-not-covered"),
        (&[&chain, "--name", "192.0.2.1"], 1, "name-not-covered"),
        (&[&chain, "--key", &other_key], 1, "error key-mismatch"),
        (&[&chain, "--key", &root], 1, "error no-key"),
        (&[&leaf_only], 1, "error missing-intermediate"),
        (&[&other_key], 1, "not-a-certificate"),
        (&["/nonexistent.pem"], 2, ""),
        (&[&chain, "--key", "/nonexistent.pem"], 2, ""),
        (&[&chain, "--name", "a..b"], 2, ""),
    ];
    for (args, status, words) in rows {
        let args = [&["chain"], args, &trusted].concat();
        let (found, stdout, stderr) = run(&args);
        assert_eq!(found, status, "{args:?}: {stdout}{stderr}");
        assert!(stdout.contains(words), "{args:?}: {stdout}");
        assert_eq!(stderr.is_empty(), status < 2, "{args:?}: {stderr}");
    }
    for (at, status) in [("2026-03-21", 0), ("2026-03-22T00:00:00Z", 0), ("2026-03-22T00:00:01Z", 1), ("2025-12-01", 1)]
    {
        let (found, stdout, _) = run(&["chain", &chain, "--trust-anchors", &root, "--at", at]);
        assert_eq!(found, status, "{at}: {stdout}");
    }
    // Without the root nobody is known to trust it. The last line says what refuses, which no severity tells.
    let (status, table, _) = run(&["chain", &chain, "--at", AT, "--name", "other.example"]);
    let last = table.lines().last().unwrap();
    assert_eq!(status, 1, "{table}");
    assert!(last.starts_with("refused for other.example because of name-not-covered, unanchored: 1 error"), "{table}");
    assert_eq!(run(&["chain", &chain, "--trust-anchors", &key]).0, 2);
    assert_eq!(run(&["chain"]).0, 2);
}

#[test]
fn chain_prints_one_json_document_and_reads_standard_input() {
    let files = Files::new();
    let root = root("Root");
    let leaf = leaf_with(&root, must_staple);
    let root = files.write("root.pem", &root.pem());
    let args = ["chain", "-", "--trust-anchors", &root, "--at", AT, "--name", "shop.example", "--output", "json"];
    let (status, report) = json(&args, &leaf.pem);
    assert_eq!((status, &report["accepted"], &report["verdict"]), (0, &true.into(), &"error".into()));
    assert_eq!(report["at"], "2026-01-01T00:00:00Z");
    assert_eq!(report["names"], serde_json::json!(["shop.example"]));
    let finding = &report["findings"][0];
    assert_eq!((&finding["code"], &finding["refused"]), (&"must-staple".into(), &false.into()));
    let fields: BTreeSet<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["accepted", "anchor", "at", "certificates", "findings", "fingerprint", "name", "names", "verdict"];
    assert_eq!(fields, BTreeSet::from(expected));
    let (status, report) = json(&args, "");
    assert_eq!((status, &report["findings"][0]["code"]), (1, &"no-certificate".into()));
}

/// A directory with one good host.
fn one_host(files: &Files) -> Authority {
    let authority = Authority::new("Test", UnixTime::now()).unwrap();
    let good = issue(&authority, &["good.test"], KeyType::EcdsaP256);
    let (name, text) = host("good", "good.test", Some(&good), "echo", "");
    files.write(&name, &text);
    let (name, text) = service("echo", &["127.0.0.1:80".parse().unwrap()]);
    files.write(&name, &text);
    authority
}

#[test]
fn check_judges_at_another_time_and_fails_as_strictly_as_asked() {
    let files = Files::new();
    one_host(&files);
    let path = files.path();
    let now = run(&["check", path]);
    assert_eq!(now.0, 0, "{}", now.1);
    let (status, table, _) = run(&["check", path, "--at", "2099-01-01"]);
    assert_eq!(status, 1);
    assert!(table.contains("error expired") && table.contains("at 2099-01-01T00:00:00Z"), "{table}");
    // A third of 31 days is left on the 21st.
    let soon = jiff::Timestamp::from_second(i64::try_from(UnixTime::now().as_secs()).unwrap() + 25 * 86_400).unwrap();
    let soon = soon.to_string();
    assert_eq!(run(&["check", path, "--at", &soon]).0, 0);
    let (status, table, _) = run(&["check", path, "--at", &soon, "--fail-on", "warning"]);
    assert_eq!(status, 1);
    assert!(table.contains("warning expires-soon"), "{table}");
    // The tree of its chain, with the finding at the leaf.
    assert!(table.contains("    │ 1: CN=good.test, ecdsa-p256, "), "{table}");
    assert!(table.contains("    │   warning expires-soon\n    │ └─ 2: CN=Test Intermediate, "), "{table}");
    assert!(table.contains("    │    └─ CN=Test Root, trusted by ca.crt\n"), "{table}");
    assert_eq!(run(&["check", path, "--at", "soon"]).0, 2);
}

#[test]
fn check_reads_one_file_or_standard_input() {
    let files = Files::new();
    let authority = one_host(&files);
    let file = Path::new(files.path()).join("good.yaml");
    let (status, table, stderr) = run(&["check", file.to_str().unwrap()]);
    // The Service stands in another file.
    assert!(status == 1 && table.contains("service-not-found") && table.contains("good.test"), "{table}{stderr}");
    let all: String = ["good.yaml", "service-echo.yaml"]
        .map(|name| std::fs::read_to_string(Path::new(files.path()).join(name)).unwrap() + "\n---\n")
        .concat();
    let (status, report) = json(&["check", "-", "--output", "json"], &all);
    assert_eq!((status, &report["hosts"][0]["serving"]), (0, &"current".into()), "{report}");
    // As `kubectl get … -o json` prints it.
    let issued = issue(&authority, &["listed.test"], KeyType::EcdsaP256);
    let secret: Value = serde_json::from_str(&secret("listed", &issued)).unwrap();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [secret]});
    let (status, report) = json(&["check", "-", "--output", "json"], &list.to_string());
    assert_eq!((status, &report["verdict"]), (0, &"ok".into()), "{report}");
    // One bad document is a finding, whatever else there is.
    let (status, report) = json(&["check", "-", "--output", "json"], &format!("{all}kind: Ingress\n"));
    assert_eq!((status, &report["objects"][0]["findings"][0]["code"]), (1, &"invalid-document".into()), "{report}");
    assert_eq!(run(&["check", "/nonexistent.yaml"]).0, 2);
}

#[test]
fn check_of_an_input_that_holds_nothing_is_neither_good_nor_bad() {
    let files = Files::new();
    // The last one is what `kubectl get … -o yaml` prints where it may read nothing, with exit status 1.
    let empty = ["", "\n", "---\n# nothing\n---\n", "null", "apiVersion: v1\nitems: []\nkind: List\n"];
    let broken = [("{[", "line 1"), ("a: [1\nb: 2\n", "line ")];
    let empty = empty.map(|text| (text, "it has no manifest"));
    for (text, words) in empty.into_iter().chain(broken) {
        for output in ["table", "json", "sarif", "snapshot"] {
            let (status, stdout, stderr) = run_with(&["check", "-", "--output", output], text);
            assert_eq!((status, stdout.as_str()), (2, ""), "{text:?}: {stderr}");
            assert!(stderr.contains("standard input") && stderr.contains(words), "{text:?}: {stderr}");
        }
        let file = files.write("input.yaml", text);
        let (status, stdout, stderr) = run(&["check", &file]);
        assert_eq!((status, stdout.as_str()), (2, ""), "{text:?}: {stderr}");
        assert!(stderr.contains(&file) && stderr.contains(words), "{text:?}: {stderr}");
    }
    let file = files.0.path().join("latin.yaml");
    std::fs::write(&file, b"kind: \xe9").unwrap();
    let (status, stdout, stderr) = run(&["check", file.to_str().unwrap()]);
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("not valid UTF-8"), "{stderr}");
}

#[test]
fn a_private_chain_is_complete_only_with_its_anchor() {
    let files = Files::new();
    let authority = one_host(&files);
    let path = Path::new(files.path()).join("good.yaml");
    let without: String = std::fs::read_to_string(&path).unwrap().replace("\"ca.crt\"", "\"other\"");
    std::fs::write(&path, without).unwrap();
    let anchors = files.write("root.pem", &authority.root());
    let found = |args: &[&str]| run(&[&["check", files.path(), "--fail-on", "warning"], args].concat());
    let (status, table, _) = found(&[]);
    assert!(status == 1 && table.contains("warning unanchored"), "{table}");
    let (status, table, _) = found(&["--trust-anchors", &anchors]);
    assert_eq!(status, 0, "{table}");
    assert_eq!(found(&["--trust-anchors", &anchors, "--only-anchors"]).0, 0);
    assert_eq!(found(&["--only-anchors"]).0, 1);
    let (status, _, stderr) = found(&["--trust-anchors", "/nonexistent.pem"]);
    assert!(status == 2 && stderr.contains("/nonexistent.pem"), "{stderr}");
    let (status, _, stderr) = found(&["--trust-anchors", path.to_str().unwrap()]);
    assert!(status == 2 && stderr.contains("--trust-anchors"), "{stderr}");
}

#[test]
fn sarif_has_a_rule_for_each_result_and_the_file_of_each_object() {
    let files = Files::new();
    one_host(&files);
    files.write("broken one.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: 7\n");
    let (status, log) = json(&["check", files.path(), "--at", "2099-01-01", "--output", "sarif"], "");
    assert_eq!((status, &log["version"]), (1, &"2.1.0".into()));
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert!(results.len() >= 2, "{log}");
    for result in results {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let file = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap();
        assert!(file.ends_with("good.yaml") || file.ends_with("broken%20one.yaml"), "{file}");
        assert!(result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"].is_string());
    }
    let ids: Vec<&str> = results.iter().map(|result| result["ruleId"].as_str().unwrap()).collect();
    assert!(ids.contains(&"expired") && ids.contains(&"invalid-document"), "{ids:?}");
    let expired = rules.iter().find(|rule| rule["id"] == "expired").unwrap();
    assert_eq!(expired["name"], "Expired");
}

#[test]
fn chain_is_completed_from_a_bundle() {
    let files = Files::new();
    let (_, trusted, _) = complete(&files);
    let chain = std::fs::read_to_string(files.0.path().join("chain.pem")).unwrap();
    let (leaf, intermediate) = chain.split_at(chain.rfind("-----BEGIN").unwrap());
    let (leaf, bundle) = (files.write("leaf.pem", leaf), files.write("bundle.pem", intermediate));
    let with =
        |bundle: &str| run(&["chain", &leaf, "--trust-anchors", &trusted, "--at", AT, "--intermediates", bundle]);
    let (status, table, _) = with(&bundle);
    assert_eq!(status, 0, "{table}");
    assert!(table.contains("added: CN=Intermediate") && table.contains("from the bundle of --intermediates"));
    assert!(table.contains("warning chain-completed"), "{table}");
    let (status, _, stderr) = with(&trusted);
    assert!(status == 2 && stderr.contains("has no intermediate certificate"), "{stderr}");
    let (status, _, stderr) = with(&files.write("x", "hello"));
    assert!(status == 2 && stderr.contains("--intermediates") && stderr.contains("no PEM certificate"), "{stderr}");
}

#[test]
fn check_says_which_clients_connect_only_if_asked() {
    let files = Files::new();
    one_host(&files);
    let path = files.path();
    let (status, report) = json(&["check", path, "--output", "json", "--fail-on", "warning"], "");
    assert_eq!((status, report["hosts"][0].get("clients")), (0, None));
    let args = ["check", path, "--clients", "--output", "json", "--fail-on", "warning"];
    let (status, report) = json(&args, "");
    assert_eq!(status, 1, "{report}");
    let host = &report["hosts"][0];
    let clients = host["clients"].as_array().unwrap();
    let of = |id: &str| clients.iter().find(|client| client["client"] == id).unwrap();
    assert_eq!(
        *of("chrome-150"),
        serde_json::json!({
            "client": "chrome-150", "name": "Chrome 150", "connects": true, "version": "1.3",
            "suite": "TLS_AES_128_GCM_SHA256", "group": "X25519MLKEM768", "certificate": "ecdsa-p256", "obstacle": null,
        })
    );
    let xp = of("chrome-49-xp");
    assert_eq!((&xp["connects"], &xp["version"]), (&false.into(), &Value::Null));
    assert_eq!(xp["obstacle"]["code"], "wrong-certificate-type");
    assert!(explain::explain(xp["obstacle"]["code"].as_str().unwrap()).is_some());
    // Java 7 could not be served by any policy, so only the other one counts.
    let finding = &host["findings"][0];
    assert_eq!((&finding["code"], &finding["effect"]), (&"clients-locked-out".into(), &"none".into()));
    assert_eq!((&finding["subject"], &host["verdict"]), (&"Ingress default/good".into(), &"warning".into()));
    let message = finding["message"].as_str().unwrap();
    assert!(message.starts_with("good.test: 1 of 49 known clients cannot connect (Chrome 49 (XP): "), "{message}");
    let ingress = report["objects"].as_array().unwrap().iter().find(|one| one["subject"] == "Ingress default/good");
    assert_eq!(ingress.unwrap()["findings"][0], *finding);

    let (_, table, _) = run(&["check", path, "--clients"]);
    assert!(table.contains("    clients: 47 of 49 known ones connect\n      TLS 1.3 "), "{table}");
    assert!(table.contains("      TLS 1.3 X25519MLKEM768 TLS_AES_128_GCM_SHA256 ecdsa-p256: "), "{table}");
    assert!(table.contains("      ✗ Chrome 49 (XP): cannot use a certificate with the host's kind of key"), "{table}");
    assert!(table.contains("        remedy: add a certificate with an RSA key to the host"), "{table}");
    assert!(table.contains("warning: 1 host, 0 errors, 1 warning"), "{table}");
    let (_, log) = json(&["check", path, "--clients", "--output", "sarif"], "");
    let run = &log["runs"][0];
    assert_eq!(run["results"][0]["ruleId"], "clients-locked-out");
    assert_eq!(run["tool"]["driver"]["rules"][0]["name"], "ClientsLockedOut");
}

#[test]
fn hosts_that_are_served_alike_are_told_once() {
    let files = Files::new();
    let authority = one_host(&files);
    let shared = issue(&authority, &["a.test", "b.test"], KeyType::Rsa2048);
    let own = issue(&authority, &["c.test"], KeyType::Rsa2048);
    for (name, issued) in [("a", &shared), ("b", &shared), ("c", &own)] {
        let (file, text) = host(name, &format!("{name}.test"), Some(issued), "echo", "");
        files.write(&file, &text);
    }
    let (_, table, _) = run(&["check", files.path(), "--clients"]);
    assert_eq!(table.matches(" known ones connect").count(), 2, "{table}");
    // Another certificate of the same kind, with its chain to the same root, is no other way of serving.
    assert_eq!(table.matches("    clients: as for a.test").count(), 2, "{table}");
    assert!(table.contains("a.test: 2 of 49 known clients cannot connect (IE 11 "), "{table}");
}

#[test]
fn check_says_whom_a_policy_would_lock_out_before_there_is_traffic() {
    let files = Files::new();
    let authority = one_host(&files);
    let issued = issue(&authority, &["a.test", "b.test", "c.test"], KeyType::EcdsaP256);
    for (name, annotation) in [
        ("a", "handfast.dev/shadow-tls-policy: next"),
        ("b", "handfast.dev/shadow-tls-policy: next"),
        ("c", "handfast.dev/tls-policy: next\nhandfast.dev/shadow-tls-policy: before"),
    ] {
        let (file, text) = host(name, &format!("{name}.test"), Some(&issued), "echo", annotation);
        files.write(&file, &text);
    }
    let policy = |name: &str, spec: &str| {
        let head = "apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata:";
        format!("{head} {{name: {name}, namespace: default}}\nspec: {{{spec}}}\n---\n")
    };
    files.write("policies.yaml", &(policy("next", "preset: modern") + &policy("before", "")));
    let (_, plain) = json(&["check", files.path(), "--output", "json"], "");
    assert!(plain["hosts"].as_array().unwrap().iter().all(|host| host.get("shadow").is_none()), "{plain}");

    let (status, report) = json(&["check", files.path(), "--clients", "--output", "json"], "");
    let shadow = |name: &str| {
        let hosts = report["hosts"].as_array().unwrap();
        hosts.iter().find(|host| host["host"] == name).unwrap().get("shadow").cloned()
    };
    assert_eq!((status, shadow("good.test")), (0, None), "{report}");
    let (a, c) = (shadow("a.test").unwrap(), shadow("c.test").unwrap());
    assert_eq!((&a["policy"], &a["gained"]), (&"default/next".into(), &Value::Array(vec![])));
    let of = |list: &Value, id: &str| list.as_array().unwrap().iter().find(|client| client["client"] == id).cloned();
    let lost = of(&a["lost"], "android-8-1").unwrap();
    assert_eq!((&lost["connects"], &lost["obstacle"]["code"]), (&false.into(), &"no-shared-version".into()));
    assert_eq!(lost["obstacle"]["remedy"], "enable TLS 1.2 in the policy");
    // Who does not connect now either is not lost, and who connects with both is not told.
    assert_eq!((of(&a["lost"], "java-7-7u25-7u80-defaults"), of(&a["lost"], "chrome-150")), (None, None));
    assert_eq!((&c["policy"], &c["lost"]), (&"default/before".into(), &Value::Array(vec![])));
    assert_eq!(of(&c["gained"], "android-8-1").unwrap()["version"], "1.2");
    assert_eq!(c["gained"].as_array().unwrap().len(), a["lost"].as_array().unwrap().len());

    let (_, table, _) = run(&["check", files.path(), "--clients"]);
    let number = a["lost"].as_array().unwrap().len();
    let words = "known clients connect now";
    let line = format!("    shadow policy default/next: 47 of 49 {words}, and {number} of them could not\n      ✗ ");
    assert!(table.contains(&line), "{table}");
    assert_eq!(table.matches("    shadow policy default/next: as for a.test\n").count(), 1, "{table}");
    assert!(table.contains(&format!("{words}, and 0 of them could not\n      ✓ ")), "{table}");
}

#[test]
fn clients_are_listed_with_the_ids_that_policies_take() {
    let (status, table, stderr) = run(&["clients"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let row = table.lines().find(|line| line.starts_with("java-8u31 ")).unwrap();
    assert!(row.ends_with("TLS 1.0 to TLS 1.2; lacks ISRG Root X1 and ISRG Root X2"), "{row}");
    let (status, list) = json(&["clients", "--output", "json"], "");
    let list = list.as_array().unwrap();
    assert_eq!((status, list.len()), (0, 49));
    for client in list {
        let id = client["client"].as_str().unwrap();
        assert!(handfast::tls::clients::client(id).is_some() && table.contains(&format!("\n{id} ")), "{id}");
    }
}

#[test]
fn explain_knows_every_code_and_helps_with_the_others() {
    let (status, list, _) = run(&["explain"]);
    assert_eq!(status, 0);
    for topic in explain::topics() {
        assert!(list.contains(&format!("\n  {} ", topic.code)), "{}", topic.code);
    }
    let (status, text, _) = run(&["explain", "KeyMismatch"]);
    assert_eq!(status, 0);
    for word in ["key-mismatch", "severity: error", "who must act: ", "what to do: "] {
        assert!(text.contains(word), "{text}");
    }
    assert!(run(&["explain", "rejected-unknown-ca"]).1.contains("who must act: certificate"));
    let (status, stdout, stderr) = run(&["explain", "mismatch"]);
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert!(stderr.contains("key-mismatch"), "{stderr}");
}

#[test]
fn ready_says_whether_a_controller_is_by_its_exit_status() {
    let mut server = Server::start(&|_| vec![service("echo", &[])], &["--unready-delay", "60s"]);
    let admin = server.admin.to_string();
    let (status, text, _) = run(&["ready", "--admin", &admin, "--wait", "60s"]);
    assert_eq!((status, &*text), (0, &*format!("{admin} is ready\n")));
    server.signal("TERM");
    wait_until("it is ready no longer", || run(&["ready", "--admin", &admin]).0 == 1);
    let (_, text, error) = run(&["ready", "--admin", &admin]);
    assert!(text.is_empty() && error.contains("is not ready"), "{error}");
    server.signal("TERM");
    assert!(server.wait().success());
    let (status, _, error) = run(&["ready", "--admin", &admin]);
    assert!(status == 2 && error.contains("Cannot reach the admin port at "), "{error}");
}

/// An Ingress that names the policy `strict`, and further documents.
fn with_policy(further: &str) -> String {
    let ingress = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, annotations: {handfast.dev/tls-policy: strict}}
spec: {rules: [{host: shop.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
";
    format!("{ingress}---\n{further}")
}

#[test]
fn a_policy_that_is_written_down_is_never_said_not_to_exist() {
    let policy = |metadata: &str, spec: &str| {
        format!("apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {metadata}\nspec: {spec}\n")
    };
    let rows = [
        (policy("{name: strict}", "{minVersoin: TLSv1.3}"), "TlsPolicy default/strict was refused"),
        (policy("{name: strict}", "{minVersion: TLSv9}"), "TlsPolicy default/strict was refused"),
        (
            policy("{name: strict, namespace: ops}", "{}"),
            "TlsPolicy strict exists in namespace ops, but not in namespace default",
        ),
        (policy("{name: strickt}", "{}"), "TlsPolicy default/strict does not exist"),
    ];
    for (document, expected) in rows {
        let (_, text, _) = run_with(&["check", "-"], &with_policy(&document));
        assert!(text.contains(expected), "{expected}\n{text}");
        assert_eq!(text.contains("strict does not exist"), expected.ends_with("does not exist"), "{text}");
    }
}

#[test]
fn a_wrong_flag_and_a_wrong_command_get_the_right_ones() {
    for (arguments, right) in [
        (&["check", "--format", "json"][..], "'--output'"),
        (&["chain", "chain.pem", "--cafile", "ca.pem"], "'--trust-anchors'"),
        (&["validate", "manifests"], "'check'"),
    ] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!((status, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(stderr.contains(right), "{arguments:?}: {stderr}");
    }
}

#[test]
fn the_configuration_of_ingress_nginx_is_recognised_in_a_directory() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ingress-nginx-controller, namespace: ingress-nginx}\n\
               data: {use-forwarded-headers: \"true\", ssl-protocols: TLSv1.3}\n";
    let files = Files::new();
    files.write("config.yaml", map);
    files.write("other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\ndata: {colour: red}\n");
    let (status, text, _) = run(&["check", files.path()]);
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains(
            "warning ingress-nginx-config: File config.yaml: document 1 (line 1): ConfigMap ingress-nginx-controller \
             looks like the configuration of ingress-nginx. It has no effect yet."
        ),
        "{text}"
    );
    assert_eq!(text.matches("ingress-nginx-config:").count(), 1, "{text}");
}
