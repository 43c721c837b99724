//! What an operator in a hurry does: wrong flags, missing directories, ports in use, files full of garbage.

use std::process::{Command, Output, Stdio};

use crate::backend::Backend;
use crate::binary::{Server, addresses, handfast, host, issue, run_on, service, signal, wait_for_exit};
use handfast::demo::pki::{Authority, KeyType};
use rustls::pki_types::UnixTime;

fn output(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = handfast(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn help_and_version_answer() {
    let (status, help, _) = output(&["--help"]);
    assert_eq!(status, Some(0));
    for command in ["run", "check", "demo", "completions"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    let (status, version, _) = output(&["--version"]);
    assert_eq!((status, version.trim()), (Some(0), concat!("handfast ", env!("CARGO_PKG_VERSION"))));
    for shell in ["bash", "zsh", "fish"] {
        assert!(output(&["completions", shell]).1.contains("handfast"));
    }
}

#[test]
fn wrong_usage_ends_with_status_2_and_a_hint() {
    let rows: [(&[&str], &str); 7] = [
        (&["rum"], "run"),
        (&["run", "--htpp", "x"], "--http"),
        (&["run", "--http", "8080"], "--http"),
        (&["run", "--source", "/nonexistent/manifests"], "/nonexistent/manifests"),
        (&["run", "--source", "/dev/null"], "/dev/null"),
        (&["run", "--source", "cluster", "--kubeconfig", "/nonexistent/config"], "/nonexistent/config"),
        (&["check", "/nonexistent/manifests"], "/nonexistent/manifests"),
    ];
    for (args, hint) in rows {
        let mut args = args.to_vec();
        if args[0] == "run" {
            args.extend(["--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
            if !args.contains(&"--http") && !args.contains(&"--htpp") {
                args.extend(["--http", "127.0.0.1:0"]);
            }
        }
        let (status, stdout, stderr) = output(&args);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(hint), "{args:?}: {stderr}");
    }
    let (status, _, stderr) =
        output(&["run", "--log", "a=b=c", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains("--log"), "{stderr}");
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--http", "--https", "--admin"] {
        let mut args = vec!["run", "--source", directory.path().to_str().unwrap(), flag, &address];
        for other in ["--http", "--https", "--admin"].iter().filter(|other| **other != flag) {
            args.extend([*other, "127.0.0.1:0"]);
        }
        let (status, _, stderr) = output(&args);
        assert_eq!(status, Some(2), "{stderr}");
        assert!(stderr.contains(&address) && stderr.contains(flag) && stderr.contains("another process"), "{stderr}");
    }
}

#[test]
fn two_controllers_do_not_share_a_port() {
    let backend = Backend::start("one");
    let server = Server::start(&|_| vec![service("echo", &[backend.address])], &[]);
    let https = server.https.to_string();
    let (status, _, stderr) = output(&[
        "run",
        "--source",
        server.directory.path().to_str().unwrap(),
        "--https",
        &https,
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains(&https), "{stderr}");
}

#[test]
fn bad_documents_are_reported_one_by_one_and_the_rest_is_served() {
    let backend = Backend::start("one");
    let address = backend.address;
    let manifests = move |authority: &Authority| {
        let good = issue(authority, &["good.test"], KeyType::EcdsaP256);
        let impossible =
            host("impossible", "impossible.test", None, "echo", "").1.replace("path: /", "path: /a/../../b");
        vec![
            host("good", "good.test", Some(&good), "echo", ""),
            ("z-again.yaml".into(), host("good", "again.test", None, "echo", "").1),
            ("impossible.yaml".into(), impossible),
            ("garbage.yaml".into(), "\u{1}\u{2}{[".repeat(1 << 18)),
            ("other.yaml".into(), "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n".into()),
            ("notes.txt".into(), "not a manifest".into()),
            service("echo", &[address]),
        ]
    };
    let server = Server::start(&manifests, &[]);
    for reason in ["duplicate-object", "bad-path", "unreadable-file", "unknown-kind"] {
        assert_eq!(server.metric("handfast_diagnostics", &[&format!("reason=\"{reason}\"")]), 1.0, "{reason}");
    }
    let get = |name: &str| handfast::demo::client::get_plain(server.http, name, "/").unwrap().status;
    assert_eq!((get("good.test"), get("impossible.test")), (308, 404));
    let path = server.directory.path().to_str().unwrap();
    let (status, table, _) = output(&["check", path]);
    assert_eq!(status, Some(1));
    for word in ["garbage.yaml", "good.test", "impossible.test", "bad-path", "duplicate-object"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let (status, json, stderr) = output(&["check", path, "--output", "json"]);
    assert_eq!((status, stderr.as_str()), (Some(1), ""));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["verdict"], "error");
    assert!(
        report["hosts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|host| host["host"] == "good.test" && host["serving"] == "current")
    );
}

#[test]
fn check_ends_with_0_without_errors_and_takes_an_empty_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(output(&["check", path]).0, Some(0));
    let authority = Authority::new("Test", UnixTime::now()).unwrap();
    let good = issue(&authority, &["good.test"], KeyType::EcdsaP256);
    let (name, text) = host("good", "good.test", Some(&good), "echo", "");
    std::fs::write(directory.path().join(name), text).unwrap();
    let (name, text) = service("echo", &["127.0.0.1:80".parse().unwrap()]);
    std::fs::write(directory.path().join(name), text).unwrap();
    let (status, table, _) = output(&["check", path]);
    assert_eq!(status, Some(0), "{table}");
    let (status, snapshot, _) = output(&["check", "--source", path, "--output", "snapshot"]);
    assert_eq!(status, Some(0));
    assert!(snapshot.starts_with("host good.test\n  tls: ecdsa-p256 "), "{snapshot}");
}

#[test]
fn interrupting_the_demo_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo: Command = handfast(&["demo"]);
    let mut child = demo.env("TMPDIR", temporary.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("Ctrl-C ends the demo")));
    assert_eq!(crate::binary::listing(temporary.path()).len(), 1);
    signal(child.id(), "INT");
    assert!(wait_for_exit(&mut child).success());
    assert!(crate::binary::listing(temporary.path()).is_empty());
}

#[test]
fn the_demo_keeps_a_directory_that_was_asked_for_and_overwrites_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("demo");
    let path = directory.to_str().unwrap();
    let (status, text, stderr) = output(&["demo", "--once", "--directory", path]);
    assert_eq!(status, Some(0), "{text}{stderr}");
    assert!(crate::binary::listing(&directory).contains(&"mismatch.yaml".to_owned()));
    let (status, _, stderr) = output(&["demo", "--once", "--directory", path]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains("not empty"), "{stderr}");
    // What was written is what `check` reads.
    let (status, table, _) = output(&["check", path]);
    assert_eq!(status, Some(1));
    assert!(table.contains("key-mismatch") && table.contains("expired"), "{table}");
}

#[test]
fn options_come_from_variables_too_and_flags_win() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("addresses");
    let child = handfast(&["run", "--http", "127.0.0.1:0", "--log-format", "json"])
        .env("HANDFAST_SOURCE", directory.path())
        .env("HANDFAST_HTTP", "not an address, and not looked at")
        .env("HANDFAST_HTTPS", "[::]:0")
        .env("HANDFAST_ADMIN", "127.0.0.1:0")
        .env("HANDFAST_ADDRESSES_FILE", &file)
        .env("HANDFAST_LOG", "info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    // The reader ends with this statement; the log goes on into nowhere, and nothing comes of it.
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let serving = lines
        .map_while(Result::ok)
        .map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .find(|line| line["message"] == "Serving.");
    let addresses: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(serving.unwrap()["http"], addresses["http"]);
    // Both address families on one socket.
    let https: std::net::SocketAddr = addresses["https"].as_str().unwrap().parse().unwrap();
    std::net::TcpStream::connect(("127.0.0.1", https.port())).unwrap();
    signal(child.id(), "TERM");
    assert!(wait_for_exit(&mut child).success());
}

#[test]
fn the_admin_pages_answer_what_they_have_and_nothing_else() {
    let backend = Backend::start("one");
    let server = Server::start(&|_| vec![service("echo", &[backend.address])], &[]);
    for page in ["/metrics", "/healthz", "/readyz", "/debug/snapshot", "/"] {
        assert_eq!(server.admin(page).0, 200, "{page}");
    }
    assert_eq!(server.admin("/nothing").0, 404);
    let mut stream = std::net::TcpStream::connect(server.admin).unwrap();
    std::io::Write::write_all(&mut stream, b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 405 ") && text.to_lowercase().contains("allow: get, head"), "{text}");
}

#[test]
fn the_access_log_has_a_line_per_request_on_standard_output() {
    let backend = Backend::start("one");
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [host("plain", "plain.test", None, "echo", ""), service("echo", &[backend.address])] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let file = directory.path().join("addresses");
    let mut child = run_on(directory.path(), &file)
        .args(["--access-log", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    crate::binary::wait_until("it serves", || file.exists());
    let http = addresses(&file)("http");
    for path in ["/a?q=1", "/b"] {
        assert_eq!(handfast::demo::client::get_plain(http, "plain.test", path).unwrap().status, 200);
    }
    signal(child.id(), "TERM");
    let output = {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text).unwrap();
        text
    };
    assert!(wait_for_exit(&mut child).success());
    let lines: Vec<serde_json::Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{output}");
    assert_eq!((&lines[0]["path"], &lines[0]["query"]), (&"/a".into(), &"q=1".into()));
    assert_eq!((&lines[1]["status"], &lines[1]["ingress"]), (&200.into(), &"default/plain".into()));
}
