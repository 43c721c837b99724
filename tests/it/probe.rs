//! `handfast probe` against servers that are known: our own, OpenSSL's, the model, and listeners that misbehave.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};

use handfast::demo::pki::{Authority, KeyType};
use handfast::explain;
use handfast::probe::survey::{Refusal, Survey, survey};
use handfast::tls::Version;
use handfast::tls::answer::{BadAnswer, Flight, FlightReader, ServerHello, ServerShare, Wanted};
use handfast::tls::codes::SuiteFacts;
use handfast::tls::negotiate::{CredentialKind, negotiate};
use handfast::tls::offer::{NamedServer, Offer};
use handfast::tls::policy::{Group, Policy, Settings, Suite};
use handfast::tls::reason::Reason;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use rustls::pki_types::UnixTime;
use serde_json::Value;

use crate::binary::{Server, handfast, host, issue, program, service};
use crate::negotiate::credential;

/// Exit status, standard output and standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = handfast(&[&["probe"], args].concat()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(args: &[&str]) -> (i32, Value) {
    let (status, stdout, stderr) = run(&[args, &["--output", "json"]].concat());
    assert_eq!(stderr, "", "{args:?}");
    (status, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")))
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    names.into_iter().collect()
}

fn version<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["versions"].as_array().unwrap().iter().find(|version| version["version"] == name).unwrap()
}

fn suites<'a>(report: &'a Value, version_name: &str) -> Vec<&'a str> {
    let suites = version(report, version_name)["suites"].as_array().unwrap();
    suites.iter().map(|suite| suite["name"].as_str().unwrap()).collect()
}

fn codes(findings: &Value) -> Vec<&str> {
    findings.as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[test]
fn our_own_server_speaks_exactly_what_its_policies_say() {
    const PRESETS: [(&str, KeyType); 3] =
        [("default", KeyType::EcdsaP256), ("modern", KeyType::Rsa2048), ("narrow", KeyType::Rsa2048)];
    let manifests = |authority: &Authority| {
        let mut files = vec![service("echo", &["127.0.0.1:9".parse().unwrap()])];
        let policy =
            "apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {name: modern}\nspec: {preset: modern}\n";
        files.push(("policy.yaml".to_owned(), policy.to_owned()));
        for (name, key) in PRESETS {
            let annotations = match name {
                "modern" => "handfast.dev/tls-policy: modern",
                "narrow" => {
                    "handfast.dev/ssl-protocols: TLSv1.2\nhandfast.dev/ssl-ciphers: ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256\nhandfast.dev/ssl-ecdh-curve: secp384r1:prime256v1\nhandfast.dev/ssl-prefer-server-ciphers: \"false\""
                }
                _ => "",
            };
            let issued = issue(authority, &[&format!("{name}.test")], key);
            files.push(host(name, &format!("{name}.test"), Some(&issued), "echo", annotations));
        }
        files
    };
    let server = Server::start(&manifests, &[]);
    let (address, ca) = (server.https.to_string(), server.ca());
    let probe = |name: &str| {
        let (status, report) = json(&[&address, "--sni", name, "--trust-anchors", ca.to_str().unwrap()]);
        assert_eq!((status, &report["incomplete"]), (0, &Value::Null), "{report}");
        for old in ["TLS 1.1", "TLS 1.0", "SSL 3.0"] {
            assert_eq!(version(&report, old)["spoken"], false, "{report}");
        }
        assert_eq!(
            (&report["server_name"], &report["chains"][0]["accepted"]),
            (&name.into(), &true.into()),
            "{report}"
        );
        assert_eq!(report["chains"].as_array().unwrap().len(), 1, "{report}");
        assert_eq!(strings(&report["alpn"]), ["h2", "http/1.1"], "{report}");
        for nobody in ["without_name", "unknown_name"] {
            assert_eq!(report[nobody]["outcome"], "refused", "{report}");
        }
        let unknown = report["unknown_name"]["detail"].as_str().unwrap();
        assert!(unknown.contains("unrecognized_name"), "{unknown}");
        assert_eq!(report["handfast"]["suites_lost"], serde_json::json!([]));
        report
    };
    let tls13: Vec<&str> =
        Suite::ALL.into_iter().filter(|suite| suite.version() == Version::Tls13).map(Suite::iana).collect();
    let groups = set(["X25519MLKEM768", "x25519", "secp256r1", "secp384r1"]);

    let report = probe("default.test");
    assert_eq!((&report["verdict"], codes(&report["findings"])), (&"ok".into(), vec![]), "{report}");
    assert_eq!(set(suites(&report, "TLS 1.3")), set(tls13.clone()));
    let ecdsa = Suite::ALL.into_iter().map(Suite::iana).filter(|name| name.contains("_ECDSA_"));
    assert_eq!(set(suites(&report, "TLS 1.2")), set(ecdsa));
    for name in ["TLS 1.3", "TLS 1.2"] {
        assert_eq!(version(&report, name)["suite_order"], "server-unless-chacha20-first", "{report}");
    }
    assert_eq!(suites(&report, "TLS 1.3")[0], "TLS_AES_128_GCM_SHA256");
    let found = version(&report, "TLS 1.3");
    assert_eq!((set(strings(&found["groups"])), &found["group_order"]), (groups.clone(), &"client".into()));
    let found = version(&report, "TLS 1.2");
    assert_eq!(set(strings(&found["groups"])), set(["x25519", "secp256r1", "secp384r1"]));
    assert_eq!(report["tickets"], serde_json::json!({"tls12": true, "tls13": true}));
    assert_eq!(report["asks_for_certificate"], false);

    let report = probe("modern.test");
    assert_eq!(codes(&report["findings"]), ["no-tls12"]);
    assert_eq!((set(suites(&report, "TLS 1.3")), suites(&report, "TLS 1.2")), (set(tls13), vec![]));
    assert_eq!(set(strings(&version(&report, "TLS 1.3")["groups"])), groups);
    assert_eq!(report["tickets"], serde_json::json!({"tls12": null, "tls13": true}));

    let report = probe("narrow.test");
    assert_eq!((&report["verdict"], codes(&report["findings"])), (&"warning".into(), vec!["no-tls13"]), "{report}");
    let found = version(&report, "TLS 1.2");
    let named = ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"];
    assert_eq!((set(suites(&report, "TLS 1.2")), &found["suite_order"]), (set(named), &"client".into()));
    assert_eq!(set(strings(&found["groups"])), set(["secp384r1", "secp256r1"]));
    assert_eq!(version(&report, "TLS 1.3")["spoken"], false);

    // A probe is no client that rejects a certificate, and leaves nothing of ours in disorder.
    for reason in [
        "reason=\"closed-after-certificate\"",
        "reason=\"reset-after-certificate\"",
        "reason=\"internal\"",
        "reason=\"malformed-hello\"",
    ] {
        assert_eq!(server.metric("handfast_tls_handshake_failures_total", &[reason]), 0.0, "{reason}");
    }
}

#[test]
fn clients_connect_as_the_model_says() {
    let manifests = |authority: &Authority| {
        let ecdsa = issue(authority, &["both.test"], KeyType::EcdsaP256);
        let rsa = issue(authority, &["both.test"], KeyType::Rsa2048);
        let annotation = "handfast.dev/additional-tls-secrets: rsa";
        vec![
            service("echo", &["127.0.0.1:9".parse().unwrap()]),
            host("both", "both.test", Some(&ecdsa), "echo", annotation),
            ("rsa.yaml".to_owned(), crate::binary::secret("rsa", &rsa)),
        ]
    };
    let server = Server::start(&manifests, &[]);
    let ca = server.ca();
    let anchors = ["--trust-anchors", ca.to_str().unwrap()];
    let (status, report) =
        json(&[&[&*server.https.to_string(), "--sni", "both.test", "--clients"], &anchors[..]].concat());
    assert_eq!(status, 0, "{report}");
    let keys: Vec<&str> = report["chains"]
        .as_array()
        .unwrap()
        .iter()
        .map(|chain| chain["certificates"][0]["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["ecdsa-p256", "rsa-2048"]);

    let directory = server.directory.path().to_str().unwrap();
    let checked = handfast(&["check", directory, "--clients", "--output", "json"]).args(anchors).output().unwrap();
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let model = checked["hosts"][0]["clients"].as_array().unwrap();
    let met = report["clients"].as_array().unwrap();
    assert_eq!((met.len(), model.len()), (49, 49));
    for (met, model) in met.iter().zip(model) {
        for field in ["client", "connects", "version", "suite", "group", "certificate"] {
            assert_eq!(met[field], model[field], "{field}: {met} {model}");
        }
        if met["connects"] == false {
            assert_eq!(met["obstacle"]["code"], model["obstacle"]["code"], "{met}");
        }
    }
    assert_eq!(report["handfast"]["clients_lost"], serde_json::json!([]));
    let (_, table, _) = run(&[&[&*server.https.to_string(), "--sni", "both.test", "--clients"], &anchors[..]].concat());
    assert!(
        table.contains("\nclients: 48 of 49 known ones connect\n  TLS 1.3 x25519 TLS_AES_128_GCM_SHA256 ecdsa-p256: 1"),
        "{table}"
    );
    assert!(
        table.contains("\n  ✗ Java 7 (7u25..7u80 defaults): supports at most TLS 1.0\n    remedy: update the client\n"),
        "{table}"
    );
    assert!(
        table.contains(
            "the default policy supports everything that this server does; all known clients could still connect"
        ),
        "{table}"
    );
}

/// `openssl s_server`, as old as it can be made.
struct OpenSsl {
    child: Child,
    port: u16,
    _files: tempfile::TempDir,
}

impl OpenSsl {
    fn start(key: KeyType, args: &[&str]) -> (Self, String) {
        let authority = Authority::new("Old", UnixTime::now()).unwrap();
        let issued = issue(&authority, &["old.test"], key);
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (leaf, key, chain) =
            (write("leaf", &issued.leaf), write("key", &issued.key), write("chain", &issued.intermediate));
        let root = write("root", &issued.root);
        let mut command = program("openssl");
        command.args(["s_server", "-www", "-accept", "127.0.0.1:0", "-cert", &leaf, "-key", &key]);
        command.args(["-cert_chain", &chain]).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port =
            lines.by_ref().find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok());
        // Whatever it says has to go somewhere.
        std::thread::spawn(move || lines.count());
        (Self { child, port: port.unwrap(), _files: files }, root)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_with_cbc_and_static_rsa_is_told_what_fails_and_what_to_do() {
    let list = "ECDHE-RSA-AES128-SHA:AES128-SHA:AES256-SHA256:@SECLEVEL=0";
    let (server, root) = OpenSsl::start(KeyType::Rsa2048, &["-tls1_2", "-cipher", list, "-serverpref"]);
    let args = [&*server.address(), "--sni", "old.test", "--trust-anchors", &root, "--clients"];
    let (status, report) = json(&args);
    assert_eq!(status, 1, "{report}");
    let named =
        ["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_AES_256_CBC_SHA256"];
    assert_eq!(suites(&report, "TLS 1.2"), named);
    assert_eq!(version(&report, "TLS 1.2")["suite_order"], "server");
    assert_eq!(version(&report, "TLS 1.3")["spoken"], false);
    assert_eq!(codes(&report["findings"]), ["no-aead", "no-tls13", "static-key-exchange"], "{report}");
    assert_eq!(
        (&report["chains"][0]["accepted"], &report["chains"][0]["findings"]),
        (&true.into(), &serde_json::json!([]))
    );
    assert_eq!(report["chains"][0]["certificates"].as_array().unwrap().len(), 2);
    let groups = strings(&version(&report, "TLS 1.2")["groups"]);
    assert_eq!(set(groups), set(["x25519", "secp256r1", "x448", "secp521r1", "secp384r1"]));
    assert_eq!(report["handfast"]["suites_lost"].as_array().unwrap().len(), 3);
    let clients = report["clients"].as_array().unwrap();
    let of = |id: &str| clients.iter().find(|client| client["client"] == id).unwrap();
    assert_eq!((&of("android-4-4-2")["connects"], &of("android-4-4-2")["suite"]), (&true.into(), &named[0].into()));
    let rustls = clients.iter().find(|client| client["client"].as_str().unwrap().starts_with("rustls")).unwrap();
    assert_eq!((&rustls["connects"], &rustls["obstacle"]["code"]), (&false.into(), &"no-shared-suite".into()));
    assert!(
        rustls["obstacle"]["remedy"].as_str().unwrap().contains("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        "{rustls}"
    );
    for code in codes(&report["findings"]) {
        assert!(explain::explain(code).is_some(), "{code}");
    }
    let (_, table, _) = run(&args);
    for words in [
        "\nTLS 1.2, in the server's order\n  TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA  (CBC)\n  TLS_RSA_WITH_AES_128_CBC_SHA  (no forward secrecy, CBC)\n",
        "\nnot supported: TLS 1.3, TLS 1.1, TLS 1.0, SSL 3.0\n",
        "\nerror no-aead: No cipher suite of TLS 1.2 is authenticated (AEAD).\n  remedy: add ECDHE suites",
        "accepted for old.test\n",
        "\nerror: 1 error, 2 warnings after ",
    ] {
        assert!(table.contains(words), "{words:?}\n{table}");
    }
}

#[test]
fn a_server_without_any_current_version_is_looked_at_all_the_same() {
    let list = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    let (server, root) = OpenSsl::start(KeyType::Rsa2048, &["-tls1", "-cipher", list]);
    let (status, report) = json(&[&server.address(), "--sni", "other.test", "--trust-anchors", &root]);
    assert_eq!(status, 1);
    let spoken: Vec<&Value> =
        report["versions"].as_array().unwrap().iter().filter(|version| version["spoken"] == true).collect();
    assert_eq!((spoken.len(), &spoken[0]["version"]), (1, &"TLS 1.0".into()), "{report}");
    let found = codes(&report["findings"]);
    for code in ["no-current-version", "broken-suite", "no-aead", "legacy-version", "static-key-exchange"] {
        assert!(found.contains(&code), "{code}: {found:?}");
    }
    // The certificate came in clear, from a server that no library here speaks to.
    assert_eq!(codes(&report["chains"][0]["findings"]), ["name-not-covered"], "{report}");
    assert_eq!(report["without_name"]["outcome"], "same-certificate");
    assert_eq!(report["handfast"]["versions_lost"], serde_json::json!(["TLS 1.0"]));
}

#[test]
fn every_suite_of_openssl_is_found_whose_list_it_is() {
    let list = "ALL:COMPLEMENTOFALL:!PSK:!SRP:!aECDSA:!aDSS:@SECLEVEL=0";
    let (server, root) = OpenSsl::start(KeyType::Rsa2048, &["-no_tls1", "-no_tls1_1", "-cipher", list]);
    let (_, report) = json(&[&server.address(), "--sni", "old.test", "--trust-anchors", &root]);
    let told = program("openssl").args(["ciphers", "-stdname", "-s", "-tls1_2", list]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let expected = set(told.lines().map(|line| line.split(' ').next().unwrap()));
    assert!(expected.len() > 50, "{told}");
    assert_eq!(set(suites(&report, "TLS 1.2")), expected);
    assert_eq!(version(&report, "TLS 1.3")["suites"].as_array().unwrap().len(), 3);
    assert_eq!(report["incomplete"], Value::Null);
}

#[test]
fn a_curve_that_an_ecdsa_certificate_needs_hides_no_group() {
    let (server, _) = OpenSsl::start(KeyType::EcdsaP256, &["-no_tls1_3", "-groups", "X25519:P-256:P-384"]);
    let (_, report) = json(&[&server.address(), "--sni", "old.test"]);
    let groups = strings(&version(&report, "TLS 1.2")["groups"]);
    assert_eq!(set(groups), set(["x25519", "secp256r1", "secp384r1"]), "{report}");
}

#[test]
fn a_client_certificate_is_asked_for_in_every_version() {
    for versions in ["-tls1_3", "-no_tls1_3"] {
        let (server, _) = OpenSsl::start(KeyType::EcdsaP256, &[versions, "-verify", "1"]);
        let (_, report) = json(&[&server.address(), "--sni", "old.test"]);
        assert_eq!(report["asks_for_certificate"], true, "{versions}: {report}");
        assert_eq!(report["chains"].as_array().unwrap().len(), 1, "{versions}: {report}");
    }
}

/// A listener that treats each connection, counted from 0, like this.
fn listen(treat: impl Fn(usize, TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        listener.incoming().flatten().enumerate().for_each(|(index, stream)| treat(index, stream))
    });
    address
}

/// A listener that says this, and then waits for the client to close.
fn say(text: &'static [u8]) -> SocketAddr {
    listen(move |_, mut stream| {
        std::thread::spawn(move || {
            let _ = stream.write_all(text);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
    })
}

#[test]
fn what_is_no_tls_server_is_told_in_one_line_with_a_remedy() {
    let unused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    // Kept and never answered: the deadline has to end it.
    let silent = listen(|_, stream| std::mem::forget(stream));
    let half = say(b"\x16\x03\x03\x00\x50\x02\x00\x00\x4c\x03\x03half a ServerHello");
    let closing = listen(|_, stream| drop(stream));
    let rows: [(SocketAddr, &str, &str); 12] = [
        (say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "it speaks plain HTTP", "probe the port for HTTPS"),
        (say(b"220 mx.test ESMTP\r\n"), "begins in clear, with \"220 mx.test ESMTP\"", "STARTTLS is not supported"),
        (say(b"* OK IMAP4rev1\r\n"), "begins in clear", "993"),
        (say(b"SSH-2.0-x\r\n"), "it speaks SSH", "another port"),
        (
            say(b"\x05\x00\x1b[31m\x07 is this TLS? No.\r\n"),
            "\"...[31m. is this TLS? No.\", is not TLS",
            "from the first byte on",
        ),
        (say(b"\x15\x03\x01\x00\x02\x02\x70"), "unrecognized_name", "--sni"),
        (say(b"\x15\x03\x01\x00\x02\x02\x28"), "handshake_failure", "no server name was sent"),
        (say(b"\x16\x03\x03\x00\x04\x0b\x00\x00\x00"), "order of messages", "not from a TLS server"),
        (closing, "", "the port may not speak TLS"),
        (unused, "nothing listens", "Is the port right"),
        (silent, "no answer came in time", "sent nothing within 300ms"),
        (half, "no answer came in time", "--timeout"),
    ];
    for (address, problem, remedy) in rows {
        let (status, stdout, stderr) = run(&[&address.to_string(), "--timeout", "300ms"]);
        assert_eq!((status, stdout.as_str()), (2, ""), "{problem}: {stderr}");
        assert!(stderr.contains(problem) && stderr.contains(remedy), "{problem}, {remedy}: {stderr}");
        assert!(stderr.starts_with("handfast: 127.0.0.1:") && stderr.trim_end().lines().count() == 1, "{stderr}");
        // Nothing that a terminal obeys: neither what the server says nor progress, which nobody watches here.
        assert!(!stderr.trim_end().contains(char::is_control), "{stderr:?}");
    }
    let (status, _, stderr) = run(&["nobody.invalid", "--timeout", "60s"]);
    assert!(status == 2 && stderr.contains("nobody.invalid cannot be looked up: check the spelling"), "{stderr}");
    for (args, words) in [
        (&["http://shop.test/"][..], "write HOST:PORT"),
        (&["shop.test:https"][..], "from 1 to 65535"),
        (&["shop.test", "--sni", "*.test"][..], "name one of them"),
        (&["shop.test", "--timeout", "0s"][..], "leaves no time"),
        (&[][..], "HOST[:PORT]"),
    ] {
        let (status, stdout, stderr) = run(args);
        assert!((status, stdout.as_str()) == (2, "") && stderr.contains(words), "{args:?}: {stderr}");
    }
}

/// A ServerHello of TLS 1.2 with the first suite of the list that a web server of 2015 would take.
fn server_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([1; 32]);
    body.extend([0, 0xc0, 0x2f, 0]);
    let message = [&[2, 0, 0, u8::try_from(body.len()).unwrap()], &body[..]].concat();
    [&[0x16, 3, 3, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat()
}

#[test]
fn a_server_that_stops_answering_ends_the_probe() {
    let answer_then_nothing = |answered: usize| {
        listen(move |index, mut stream| {
            // The first connection only looks whether anybody is there.
            if (1..=answered).contains(&index) {
                let _ = stream.write_all(&server_hello());
                let _ = stream.read(&mut [0; 4096]);
            } else {
                std::mem::forget(stream);
            }
        })
    };
    let (status, stdout, stderr) = run(&[&answer_then_nothing(1).to_string(), "--timeout", "300ms"]);
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert!(stderr.contains("answered one ClientHello, then it answered no further ClientHello"), "{stderr}");
    // What was found until then is told, and that it may not be all.
    let (status, report) = json(&[&answer_then_nothing(7).to_string(), "--timeout", "300ms"]);
    assert_eq!((status, &report["verdict"]), (1, &"error".into()), "{report}");
    assert!(report["incomplete"].as_str().unwrap().starts_with("the server stopped answering after "), "{report}");
    assert_eq!(suites(&report, "TLS 1.2"), ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!(report["chains"], serde_json::json!([]));
}

#[test]
fn hosts_are_written_as_people_write_them() {
    let (server, _) = OpenSsl::start(KeyType::EcdsaP256, &[]);
    let (_, report) = json(&[&format!("https://localhost:{}/cart?x=1", server.port)]);
    assert_eq!(
        (&report["target"], &report["server_name"]),
        (&format!("localhost:{}", server.port).into(), &"localhost".into())
    );
    assert_eq!(codes(&report["chains"][0]["findings"])[0], "name-not-covered");
    // Not every resolver knows a name below localhost, nor one with an underscore.
    let (_, report) = json(&[&format!("https://My_app.localhost.:{}/", server.port)]);
    assert_eq!(
        (&report["target"], &report["server_name"]),
        (&format!("my_app.localhost:{}", server.port).into(), &"my_app.localhost".into())
    );
    let (_, report) = json(&[&server.address(), "--sni", "my_app.test."]);
    assert_eq!((&report["server_name"], &report["chains"][0]["name"]), (&"my_app.test".into(), &"my_app.test".into()));
    // An address is no server name, and the certificate has to cover it all the same.
    let (_, report) = json(&[&server.address()]);
    assert_eq!((&report["server_name"], &report["chains"][0]["name"]), (&Value::Null, &"127.0.0.1".into()));
    assert_eq!(report["without_name"]["outcome"], "same-certificate");
}

/// The model as a server.
fn ask_model(policy: &Policy, kinds: &[CredentialKind], offer: &Offer) -> Result<Flight, Refusal> {
    let agreement = negotiate(policy, kinds, offer).map_err(|reason| match reason {
        Reason::NoSharedVersion => Refusal::Alert(70),
        _ => Refusal::Alert(40),
    })?;
    let is_tls13 = agreement.version == Version::Tls13;
    let hello = ServerHello {
        version: if is_tls13 { 0x0304 } else { 0x0303 },
        suite: agreement.suite.code(),
        group: is_tls13.then(|| agreement.group.code()),
        is_retry: agreement.hello_retry,
        compression: 0,
        alpn: None,
        extensions: vec![0xff01],
    };
    let key_exchange = (!is_tls13).then(|| ServerShare::Curve(agreement.group.code()));
    Ok(Flight { hello: Some(hello), key_exchange, is_done: true, ..Flight::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_survey_of_the_model_finds_its_policy(
        suites in subsequence(Suite::ALL.to_vec(), 1..=9).prop_shuffle(),
        groups in subsequence(Group::ALL.to_vec(), 1..=7).prop_shuffle(),
        kinds in select(vec![vec![CredentialKind::EcdsaP256], vec![CredentialKind::Rsa], vec![CredentialKind::EcdsaP256, CredentialKind::Rsa]]),
        versions in select(vec![(Version::Tls12, Version::Tls13), (Version::Tls12, Version::Tls12), (Version::Tls13, Version::Tls13)]),
        orders in 0..6_usize,
    ) {
        use handfast::tls::policy::{GroupOrder, SuiteOrder};
        let suite_order = [SuiteOrder::Client, SuiteOrder::Server, SuiteOrder::ServerUnlessChaCha20First][orders % 3];
        let group_order = [GroupOrder::Client, GroupOrder::Server][orders / 3];
        let settings = Settings { min: versions.0, max: versions.1, suites, groups, suite_order, group_order, ..Settings::default() };
        let Ok(policy) = Policy::new(settings) else { return Ok(()) };
        let mut asked = 0;
        let Survey { versions: found, .. } = survey(
            &mut |_, offer, _: Wanted| {
                asked += 1;
                ask_model(&policy, &kinds, offer)
            },
            &NamedServer::Absent,
        );
        prop_assert!(asked < 100, "{}", asked);
        for version in [Version::Tls12, Version::Tls13] {
            let code = if version == Version::Tls13 { 0x0304 } else { 0x0303 };
            let usable = |suite: &Suite| kinds.iter().any(|kind| kind.works_with(*suite));
            let expected: BTreeSet<u16> = policy.suites(version).filter(usable).map(Suite::code).collect();
            let here = found.iter().find(|found| found.version == code);
            let suites: BTreeSet<u16> = here.map(|here| here.suites.iter().copied().collect()).unwrap_or_default();
            prop_assert_eq!(&suites, &expected);
            let Some(here) = here else { continue };
            let expected: Vec<u16> = policy.groups(version).map(Group::code).collect();
            prop_assert_eq!(here.groups.iter().copied().collect::<BTreeSet<_>>(), expected.iter().copied().collect());
            if expected.len() > 1 {
                prop_assert_eq!(here.group_order, Some(group_order));
            }
            if group_order == GroupOrder::Server {
                prop_assert_eq!(&here.groups, &expected);
            }
            let is_chacha20 = |code: &u16| SuiteFacts::of(*code).unwrap().name.contains("CHACHA20");
            if here.suites.iter().filter(|code| !is_chacha20(code)).count() > 1 && kinds.len() == 1 {
                let has_chacha20 = here.suites.iter().any(is_chacha20);
                // Without such a suite, or with one that is first anyhow, nothing tells the two apart.
                let expected = match suite_order {
                    SuiteOrder::ServerUnlessChaCha20First if !has_chacha20 => vec![SuiteOrder::Server],
                    SuiteOrder::ServerUnlessChaCha20First => vec![SuiteOrder::Server, suite_order],
                    other => vec![other],
                };
                prop_assert!(expected.contains(&here.suite_order.unwrap()), "{:?}", here);
            }
        }
    }

    #[test]
    fn arbitrary_answers_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), header in any::<bool>()) {
        let bytes = if header { [&[0x16, 3, 3, 1, 0, 2, 0, 0, 200, 3, 3][..], &bytes].concat() } else { bytes };
        prop_assert_eq!(read(&bytes, bytes.len().max(1)), read(&bytes, 1));
    }

    #[test]
    fn damaged_flights_are_survived(changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6), piece in 1..900_usize) {
        let mut bytes = real_flight();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        let whole = read(&bytes, bytes.len());
        prop_assert_eq!(&whole, &read(&bytes, piece));
        if changes.is_empty() {
            let flight = whole.unwrap();
            prop_assert_eq!(flight.hello.map(|hello| hello.suite), Some(0xc02b));
            prop_assert_eq!(flight.certificates.map(|chain| chain.len()), Some(2));
            prop_assert!(flight.is_done && flight.key_exchange == Some(ServerShare::Curve(0x001d)));
        }
    }
}

fn read(bytes: &[u8], piece: usize) -> Result<Flight, BadAnswer> {
    let mut reader = FlightReader::default();
    for piece in bytes.chunks(piece) {
        reader.read(piece)?;
    }
    reader.end()?;
    Ok(reader.into_flight())
}

/// What rustls answers in TLS 1.2.
fn real_flight() -> Vec<u8> {
    static FLIGHT: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let policy = Policy::new(Settings { max: Version::Tls12, ..Settings::default() }).unwrap();
        let tls = handfast::tls::policy::server_tls(&credential(CredentialKind::EcdsaP256), &policy).unwrap();
        let mut offer = handfast::tls::clients::client("android-8-1").unwrap().offer.clone();
        offer.suites = vec![0xc02b];
        let hello = crate::hellos::records(&crate::hellos::message(&offer), 16384);
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut &hello[..]).unwrap();
        let accepted = acceptor.accept().unwrap_or_else(|(error, _)| panic!("{error}")).unwrap();
        let config = tls.config_for(Some(&offer)).clone();
        let mut connection = accepted.into_connection(config).unwrap_or_else(|(error, _)| panic!("{error}"));
        let mut flight = Vec::new();
        connection.write_tls(&mut flight).unwrap();
        flight
    });
    FLIGHT.clone()
}
