//! What the verdict of a host says is what its requests get: `check`, `/api/hosts`, metrics and log lines.

use std::fmt::Write as _;
use std::net::SocketAddr;

use handfast::demo::pki::{Authority, KeyType};
use handfast::failures::report::HostsReport;
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};

use crate::binary::{Server, handfast, host, issue, service};

const UP: &str = "127.0.0.1:80";

/// Exit status and standard output of `check` on these files.
fn check(files: &[(String, String)], args: &[&str]) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let path = directory.path().to_str().unwrap().to_owned();
    let output = handfast(&[&["check", &path], args].concat()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text + &String::from_utf8(output.stderr).unwrap())
}

fn check_json(files: &[(String, String)], args: &[&str]) -> (i32, Value) {
    let (status, text) = check(files, &[&["--output", "json"], args].concat());
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// A host without TLS, with one path to this Service.
fn plain(name: &str, service: &str, annotations: &str) -> (String, String) {
    host(name, &format!("{name}.test"), None, service, annotations)
}

/// A Service that has an endpoint, or none.
fn backend(name: &str, is_up: bool) -> (String, String) {
    let endpoint: SocketAddr = UP.parse().unwrap();
    service(name, if is_up { std::slice::from_ref(&endpoint) } else { &[] })
}

/// With a class, in place of none.
fn of_class((name, text): (String, String), class: &str) -> (String, String) {
    (name, text.replace("spec:\n", &format!("spec:\n  ingressClassName: {class}\n")))
}

const REWRITE: &str = "nginx.ingress.kubernetes.io/rewrite-target: /";
const BUFFERS: &str = "nginx.ingress.kubernetes.io/proxy-buffer-size: 8k";

#[test]
fn the_first_word_about_a_host_is_what_its_requests_get() {
    let rows: [(&str, &str, &str, i32, &str, &str); 5] = [
        ("well", "up", "", 0, "works", "✓ well.test  works, over plain HTTP only\n"),
        ("losing", "up", BUFFERS, 0, "works_with_losses", "! losing.test  works, with losses, over plain HTTP only\n"),
        (
            "closed",
            "up",
            REWRITE,
            1,
            "answers_503",
            "✗ closed.test  answers 503 (all paths): closed by configuration\n",
        ),
        ("idle", "down", "", 1, "answers_503", "✗ idle.test  answers 503 (all paths): no endpoints\n"),
        ("lost", "nowhere", "", 1, "answers_503", "✗ lost.test  answers 503 (all paths): no usable Service\n"),
    ];
    for (name, service, annotations, status, word, line) in rows {
        let files = [plain(name, service, annotations), backend("up", true), backend("down", false)];
        let (found, report) = check_json(&files, &[]);
        assert_eq!((found, &report["hosts"][0]["traffic"]), (status, &word.into()), "{report}");
        assert_eq!(report["verdict"] == "error", status == 1, "{report}");
        let ingress = report["objects"].as_array().unwrap().iter().find(|one| one["traffic"].is_string()).unwrap();
        assert_eq!(ingress["traffic"], word, "{report}");
        let (_, table) = check(&files, &[]);
        assert!(table.starts_with(line), "{table}");
    }
    // A redirect needs no backend.
    let redirect = "nginx.ingress.kubernetes.io/permanent-redirect: https://www.test/";
    let (status, report) = check_json(&[plain("moved", "nowhere", redirect), backend("up", true)], &[]);
    assert_eq!((status, &report["hosts"][0]["traffic"]), (0, &"works".into()), "{report}");
}

#[test]
fn a_host_that_nothing_reaches_has_an_error_that_says_so_and_can_be_ignored() {
    let files = [plain("idle", "down", ""), backend("up", true), backend("down", false)];
    let (status, report) = check_json(&files, &[]);
    let codes: Vec<&Value> =
        report["hosts"][0]["findings"].as_array().unwrap().iter().map(|finding| &finding["code"]).collect();
    assert_eq!((status, codes), (1, vec![&json!("host-answers-503"), &json!("no-endpoints")]), "{report}");
    assert_eq!(report["hosts"][0]["closed_paths"], json!([{"path": "/", "cause": "no_endpoints"}]));
    assert_eq!(report["summary"]["hosts"], json!({"answers_503": 1}));
    let (_, sarif) = check(&files, &["--output", "sarif"]);
    let sarif: Value = serde_json::from_str(&sarif).unwrap();
    let run = &sarif["runs"][0];
    assert_eq!(
        (&run["results"][0]["ruleId"], &run["results"][0]["level"]),
        (&"host-answers-503".into(), &"error".into())
    );
    assert_eq!(run["properties"]["summary"]["hosts"], json!({"answers_503": 1}));
    let (status, report) = check_json(&files, &["--ignore", "host-answers-503", "--ignore", "no-endpoints"]);
    assert_eq!((status, &report["hosts"][0]["findings"]), (0, &json!([])), "{report}");
    assert_eq!(report["hosts"][0]["traffic"], "answers_503", "what traffic gets is the same");
    let (status, text) = check(&files, &["--ignore", "no-endpoint"]);
    assert!(status == 2 && text.contains("Do you mean no-endpoints?"), "{text}");
}

#[test]
fn without_any_endpoint_slice_endpoints_are_not_judged() {
    let files = [plain("shop", "down", ""), backend("down", false)];
    let (status, report) = check_json(&files, &[]);
    let host = &report["hosts"][0];
    assert_eq!((status, &host["traffic"], &host["endpoints_assumed"]), (0, &"works".into(), &true.into()), "{report}");
    let (_, table) = check(&files, &[]);
    assert!(table.starts_with("? shop.test  works, over plain HTTP only, if its Services have endpoints\n"), "{table}");
    assert!(table.contains("The input has no EndpointSlice"), "{table}");
}

#[test]
fn some_paths_that_answer_503_are_named() {
    let (name, text) = plain("shop", "up", "");
    let path =
        "      - path: /cart\n        pathType: Exact\n        backend: {service: {name: down, port: {number: 80}}}\n";
    let files =
        [(name, text.replacen("---\n", &format!("{path}---\n"), 1)), backend("up", true), backend("down", false)];
    let (status, report) = check_json(&files, &[]);
    let host = &report["hosts"][0];
    assert_eq!((status, &host["traffic"]), (0, &"answers_503_partly".into()), "{report}");
    assert_eq!(host["closed_paths"], json!([{"path": "/cart (Exact)", "cause": "no_endpoints"}]));
    let (_, table) = check(&files, &[]);
    assert!(table.starts_with("! shop.test  answers 503 (1 of 2 paths: /cart (Exact)): no endpoints"), "{table}");
}

#[test]
fn a_host_of_another_class_is_not_served_unless_the_class_is_adopted() {
    let files = [of_class(plain("shop", "up", BUFFERS), "nginx"), backend("up", true)];
    let (status, report) = check_json(&files, &[]);
    assert_eq!((status, &report["hosts"][0]["traffic"]), (0, &"not_served".into()), "{report}");
    assert_eq!(report["summary"]["other_classes"], json!({"class nginx": 1}));
    let (_, table) = check(&files, &[]);
    assert!(
        table.contains("shop.test  not served: its class is nginx. Use --adopt-class nginx to serve it\n"),
        "{table}"
    );
    let (status, report) = check_json(&files, &["--adopt-class", "nginx"]);
    assert_eq!((status, &report["hosts"][0]["traffic"]), (0, &"works_with_losses".into()), "{report}");
    assert_eq!(report["summary"]["other_classes"], json!({}));
    // Only our own paths count on a host that another controller serves as well.
    let (name, text) = of_class(plain("other", "up", ""), "nginx");
    let files = [
        (name, text.replace("other.test", "shop.test")),
        plain("shop", "down", ""),
        backend("up", true),
        backend("down", false),
    ];
    let (status, report) = check_json(&files, &[]);
    assert_eq!((status, &report["hosts"][0]["traffic"]), (1, &"answers_503".into()), "{report}");
}

#[test]
fn a_host_whose_paths_can_match_nothing_is_not_served() {
    let (name, text) = plain("shop", "up", "");
    let files = [(name, text.replace("path: /\n", "path: /*\n")), backend("up", true)];
    let (status, report) = check_json(&files, &["--fail-on", "warning"]);
    assert_eq!((status, &report["hosts"][0]["traffic"]), (1, &"not_served".into()), "{report}");
    assert_eq!(report["hosts"][0]["findings"][0]["code"], "pattern-path", "{report}");
}

/// Three hundred Ingresses of which some lose something.
fn many() -> Vec<(String, String)> {
    let mut files = vec![backend("up", true)];
    for index in 0..300 {
        let annotations = match index % 3 {
            0 => String::new(),
            1 => BUFFERS.to_owned(),
            _ => format!("{BUFFERS}\n{REWRITE}"),
        };
        files.push(plain(&format!("host-{index:03}"), "up", &annotations));
    }
    files
}

#[test]
fn a_summary_of_three_hundred_ingresses_fits_on_one_screen() {
    let files = many();
    let (status, table) = check(&files, &["--summary"]);
    assert_eq!(status, 1);
    let mut expected = String::new();
    for what in ["hosts", "Ingresses"] {
        let _ = write!(
            expected,
            "   300  {what}\n       100  works\n       100  works, with losses\n       100  answers 503 (all paths)\n"
        );
    }
    assert!(table.starts_with(&expected), "{table}");
    assert!(table.contains("       100  error    restricting-annotation  on 100 objects, 100 hosts\n"), "{table}");
    assert!(table.contains("       200  warning  unsupported-annotation  on 200 objects, 200 hosts\n"), "{table}");
    assert!(table.contains("       100  nginx.ingress.kubernetes.io/rewrite-target\n"), "{table}");
    assert!(table.contains("       200  nginx.ingress.kubernetes.io/proxy-buffer-size\n"), "{table}");
    assert!(table.lines().count() < 24, "{table}");
    let (_, report) = check_json(&files, &["--summary"]);
    let fields: Vec<&String> = report.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["at", "summary", "verdict"]);
    let ignored = json!({
        "annotation": "nginx.ingress.kubernetes.io/proxy-buffer-size", "outcome": "ignored", "ingresses": 200,
    });
    assert_eq!(report["summary"]["annotations"][0], ignored);
    let (status, text) = check(&files[..1], &["--summary", "--output", "sarif"]);
    assert!(status == 2 && text.contains("--summary"), "{text}");
}

#[test]
fn what_many_have_in_common_is_told_once() {
    let files = many();
    let (_, table) = check(&files, &[]);
    assert_eq!(table.matches("proxy-buffer-size").count(), 1, "{table}");
    assert_eq!(table.matches("rewrite-target").count(), 1, "{table}");
    assert!(table.contains("      on 200 objects: Ingress default/host-001, "), "{table}");
    assert!(table.contains(
        "host-001.test  works, with losses, over plain HTTP only\n    as others, below: unsupported-annotation\n"
    ));
    // Where three have it, each is told in full.
    let (_, table) = check(&files[..8], &[]);
    assert_eq!(table.matches("rewrite-target").count(), 2, "{table}");
}

#[test]
fn quiet_leaves_out_what_is_well() {
    let files = many();
    let (_, table) = check(&files[..4], &["--quiet"]);
    assert!(!table.contains("host-000.test"), "{table}");
    assert!(table.contains("! host-001.test") && table.contains("✗ host-002.test"), "{table}");
    let (status, table) = check(&[plain("shop", "up", ""), backend("up", true)], &["--quiet"]);
    assert!(status == 0 && table.starts_with("ok: 1 host, "), "{table}");
}

#[test]
fn policy_versions_issuer_and_days_left_stand_by_each_host() {
    let authority = Authority::new("Test", UnixTime::now()).unwrap();
    let issued = issue(&authority, &["shop.test"], KeyType::EcdsaP256);
    let files =
        [host("shop", "shop.test", Some(&issued), "up", "handfast.dev/ssl-protocols: TLSv1.3"), backend("up", true)];
    let (_, table) = check(&files, &[]);
    assert!(table.contains("✓ shop.test  works\n    certificate: ecdsa-p256 by CN=Test Intermediate, "), "{table}");
    assert!(table.contains(" days left; TLS 1.3; policy: default and annotations\n"), "{table}");
    let (_, report) = check_json(&files, &[]);
    let shop = &report["hosts"][0];
    assert_eq!(shop["policy"], json!({"name": null, "overridden": true, "replaced": false, "versions": ["1.3"]}));
    assert!(shop["certificates"][0]["days_left"].as_i64().unwrap() >= 29, "{shop}");
}

#[test]
fn a_running_controller_says_the_same_word_and_says_when_it_changes() {
    let mut server = Server::start(&|_| vec![plain("shop", "web", ""), backend("web", false)], &[]);
    let state = |server: &Server, word: &str, value: f64| {
        let labels = [r#"host="shop.test""#.to_owned(), format!("state=\"{word}\"")];
        server.wait_for_metric("handfast_host_traffic", &[&labels[0], &labels[1]], value);
    };
    let word = |server: &Server| -> (String, usize) {
        let (_, text) = server.admin("/api/hosts?host=shop.test");
        let report: HostsReport = serde_json::from_str(&text).unwrap();
        (report.hosts[0].traffic.clone(), report.hosts[0].closed_paths.len())
    };
    state(&server, "answers_503", 1.0);
    assert_eq!(word(&server), ("answers_503".to_owned(), 1));
    // The certificate is another matter.
    server.wait_for_metric("handfast_host_serving", &[r#"host="shop.test",state="none""#], 1.0);
    const CLOSED: &str = "What requests get: answers 503 (all paths).";
    if !server.log().contains(CLOSED) {
        server.wait_for_line(CLOSED);
    }
    let (name, text) = backend("web", true);
    server.write(&name, &text);
    state(&server, "works", 1.0);
    state(&server, "answers_503", 0.0);
    assert_eq!(word(&server), ("works".to_owned(), 0));
    server.wait_for_line("What requests get: works.");
}
