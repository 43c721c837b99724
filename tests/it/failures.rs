//! What is kept of failed handshakes and shown to people: the API, the terminal view, log lines, shadow policies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Output, Stdio};

use handfast::demo::pki::{Authority, KeyType};
use handfast::failures::report::{Entry, FailuresReport, HostsReport, ShadowReport};
use handfast::tls::clients::client;
use handfast::tls::offer::{NamedServer, Offer};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, SupportedProtocolVersion};
use serde::de::DeserializeOwned;

use crate::binary::{Server, handfast, host, issue, service, wait_until};
use crate::handshake::Client;
use crate::hellos::{message, records};

fn policy(name: &str, spec: &str) -> String {
    format!("apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// `shop.test`, `modern.test` with TLS 1.3 only, and `next.test`, which tries that out.
fn hosts(authority: &Authority) -> Vec<(String, String)> {
    let issued = |name| issue(authority, &[name], KeyType::EcdsaP256);
    vec![
        host("shop", "shop.test", Some(&issued("shop.test")), "echo", ""),
        host("modern", "modern.test", Some(&issued("modern.test")), "echo", "handfast.dev/tls-policy: strict"),
        host("next", "next.test", Some(&issued("next.test")), "echo", "handfast.dev/shadow-tls-policy: strict"),
        ("policy.yaml".into(), policy("strict", "{preset: modern}")),
        service("echo", &["127.0.0.1:9".parse().unwrap()]),
    ]
}

/// A handshake that is given up as soon as it is complete, or has failed.
fn connect(server: &Server, name: &str, version: &'static SupportedProtocolVersion, trusts: bool) -> bool {
    let config = Client { versions: vec![version], trusts, ..Client::default() }.config(&server.authority);
    let mut client = ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut socket = TcpStream::connect(server.https).unwrap();
    while client.is_handshaking() {
        if client.complete_io(&mut socket).is_err() {
            // The alert that says why.
            let _ = client.write_tls(&mut socket);
            return false;
        }
    }
    client.send_close_notify();
    let _ = client.complete_io(&mut socket);
    true
}

fn api<T: DeserializeOwned>(server: &Server, path: &str) -> T {
    let (status, body) = server.admin(path);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn failures(server: &Server) -> Vec<Entry> {
    api::<FailuresReport>(server, "/api/failures").failures
}

fn cli(server: &Server, args: &[&str]) -> (Option<i32>, String, String) {
    let admin = server.admin.to_string();
    let Output { status, stdout, stderr } =
        handfast(&[&["failures", "--admin", &admin], args].concat()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_failure_is_shown_with_whose_fault_it_is_and_what_to_do() {
    let mut server = Server::start(&hosts, &[]);
    assert!(!connect(&server, "modern.test", &TLS12, true));
    assert!(!connect(&server, "shop.test", &TLS13, false));
    assert!(!connect(&server, "shpo.test", &TLS13, true));
    wait_until("three failures are listed", || failures(&server).len() == 3);

    let found = failures(&server);
    let of = |reason: &str| found.iter().find(|entry| entry.reason == reason).unwrap();
    let old = of("no-shared-version");
    assert_eq!((&*old.host, &*old.blame, &*old.client), ("modern.test", "policy", "127.0.0.1"));
    assert_eq!(old.remedy, "enable TLS 1.2 in the policy");
    assert_eq!(old.alert_sent.as_deref(), Some("protocol_version"));
    let offered = old.offered.as_ref().unwrap();
    assert_eq!((&offered.versions[..], old.served.is_none()), (&["TLS 1.2".to_owned()][..], true));
    assert!(old.ja4.as_ref().unwrap().starts_with("t12d"));

    // The root is in ca.crt, so the chain is sound: it is the client that has to trust it.
    let rejected = of("rejected-unknown-ca");
    assert_eq!((&*rejected.host, &*rejected.blame), ("shop.test", "client"));
    assert_eq!(rejected.alert_received.as_deref(), Some("unknown_ca"));
    assert_eq!(
        rejected.detail.as_deref(),
        Some("the chain is complete and valid, and leads to the private root CN=Test Root")
    );
    assert_eq!(rejected.remedy, "add CN=Test Root to the client's trust store");
    assert_eq!(rejected.served.as_ref().unwrap().key, "ecdsa-p256");

    let unknown = of("unknown-host");
    assert_eq!((&*unknown.host, unknown.sni.as_deref()), ("", Some("shpo.test")));
    assert_eq!(unknown.nearest_host.as_deref(), Some("shop.test"));

    // Totals are those of the metrics.
    let report: FailuresReport = api(&server, "/api/failures?host=shop.test");
    assert_eq!((report.failures.len(), report.totals.unwrap()[0].count), (1, 1));
    let counted = server.metric("handfast_tls_handshake_failures_total", &[r#"host="shop.test""#, r#"blame="client""#]);
    assert_eq!(counted, 1.0);

    // A few lines of the log say so without anybody asking.
    let line = server.wait_for_line("TLS handshakes fail: enable TLS 1.2 in the policy");
    for word in ["WARN", "modern.test", "no-shared-version", "protocol_version"] {
        assert!(line.contains(word), "{word}: {line}");
    }
}

#[test]
fn the_terminal_view_shows_filters_and_follows() {
    let server = Server::start(&hosts, &[]);
    assert_eq!(cli(&server, &[]), (Some(0), "No handshake has failed.\n".into(), "".into()));
    assert!(!connect(&server, "modern.test", &TLS12, true));
    assert!(!connect(&server, "shop.test", &TLS13, false));
    wait_until("two failures are listed", || failures(&server).len() == 2);

    let (status, text, _) = cli(&server, &[]);
    assert_eq!(status, Some(0));
    for part in
        ["modern.test  no-shared-version  who must act: policy", "remedy: enable TLS 1.2", "Totals since the start"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, text, _) = cli(&server, &["--host", "shop.test"]);
    assert!(text.contains("rejected-unknown-ca") && !text.contains("modern.test"), "{text}");
    let (_, json, _) = cli(&server, &["--output", "json", "--limit", "1"]);
    assert_eq!(serde_json::from_str::<FailuresReport>(&json).unwrap().failures.len(), 1);

    let (status, _, stderr) = cli(&server, &["--host", "shpo.test"]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains("the nearest: shop.test"), "{stderr}");
    let (status, _, stderr) = cli(&server, &["--host", "not a host"]);
    assert!(status == Some(2) && stderr.contains("--host"), "{stderr}");
    let port = server.admin.port();
    for admin in [format!("localhost:{port}"), format!("http://localhost:{port}")] {
        let output = handfast(&["failures", "--admin", &admin]).output().unwrap();
        assert!(output.status.success(), "{admin}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = handfast(&["failures", "--admin", &nobody]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && stderr.contains("Cannot reach the admin port at "), "{stderr}");

    let admin = server.admin.to_string();
    let mut follower = handfast(&["failures", "--admin", &admin, "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("modern.test  no-shared-version")));
    assert!(!connect(&server, "modern.test", &TLS12, true));
    assert!(lines.any(|line| line.contains("modern.test  no-shared-version") && line.contains("×2 since")));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_client_that_leaves_without_a_byte_is_a_suspicion_and_no_failure() {
    let server = Server::start(&hosts, &[]);
    assert!(connect(&server, "shop.test", &TLS13, true));
    server.wait_for_metric("handfast_tls_established_without_request_total", &[r#"host="shop.test""#], 1.0);
    server.wait_for_metric("handfast_tls_handshakes_total", &[r#"host="shop.test""#], 1.0);
    assert_eq!(server.metric("handfast_tls_handshake_failures_total", &[]), 0.0);
    let [entry] = &failures(&server)[..] else { panic!("one is listed") };
    assert_eq!((&*entry.reason, &*entry.host, &*entry.blame), ("established-without-request", "shop.test", "client"));
    assert!(api::<FailuresReport>(&server, "/api/failures").totals.unwrap().is_empty());
    let hosts: HostsReport = api(&server, "/api/hosts?host=shop.test");
    let [host] = &hosts.hosts[..] else { panic!("one host is asked for") };
    let counts = host.counts.as_ref().unwrap();
    assert_eq!((counts.handshakes, counts.established_without_request, counts.hellos), (1, 1, 1));
    assert_eq!((counts.capabilities["max-tls-1.3"], counts.capabilities["server-name"]), (1, 1));
    assert_eq!((&*host.serving, host.certificates[0].names[0].as_str()), ("current", "shop.test"));
    assert_eq!((&*host.traffic, host.closed_paths.len(), &host.policy_name), ("works", 0, &None));
    assert_eq!(host.certificates[0].issuer, "CN=Test Intermediate");
}

#[test]
fn a_shadow_policy_says_who_would_be_lost_and_changes_nothing() {
    let server = Server::start(&hosts, &[]);
    assert!(connect(&server, "next.test", &TLS12, true), "nothing is enforced");
    assert!(connect(&server, "next.test", &TLS13, true));
    assert!(connect(&server, "next.test", &TLS12, true));
    let count = |outcome: &str| {
        server
            .metric("handfast_tls_shadow_handshakes_total", &[r#"host="next.test""#, &format!("outcome=\"{outcome}\"")])
    };
    wait_until("the verdicts are counted", || (count("kept"), count("lost-no-shared-version")) == (1.0, 2.0));
    let report: ShadowReport = api(&server, "/api/shadow");
    let [next] = &report.hosts[..] else { panic!("one host tries a policy out") };
    assert_eq!(
        (&*next.policy, next.outcomes.as_ref().unwrap()["lost-no-shared-version"], next.lost.len()),
        ("default/strict", 2, 1)
    );
    assert_eq!((next.lost[0].count, &*next.lost[0].blame), (2, "policy"));
    let (status, text, _) = cli(&server, &["--shadow"]);
    assert_eq!(status, Some(0));
    assert!(text.contains("2 of 3 ClientHellos connect now and would fail"), "{text}");

    // Another policy begins anew.
    server.write("policy.yaml", &policy("strict", "{minVersion: TLSv1.3, groups: [X25519]}"));
    wait_until("counts of the old policy are gone", || count("kept") + count("lost-no-shared-version") == 0.0);
    assert!(connect(&server, "next.test", &TLS12, true));
    wait_until("counts begin anew", || count("lost-no-shared-version") == 1.0);
}

#[test]
fn addresses_of_clients_are_masked_if_the_operator_wants_it() {
    let mut server = Server::start(&hosts, &["--mask-clients", "--log", "debug"]);
    assert!(!connect(&server, "modern.test", &TLS12, true));
    wait_until("the failure is listed", || failures(&server).len() == 1);
    assert_eq!(failures(&server)[0].client, "127.0.0.0/24");
    let line = server.wait_for_line("A TLS handshake failed.");
    assert!(line.contains("127.0.0.0/24") && !line.contains("127.0.0.1"), "{line}");
}

#[test]
fn a_server_name_that_is_none_is_shown_with_what_is_wrong_and_which_host_is_meant() {
    let server = Server::start(&hosts, &[]);
    let long = format!("{}.test", "x".repeat(64));
    let endless = "a.".repeat(500);
    // As it is sent; as it is shown, if otherwise; what is said of it, and the host that is meant.
    let rows: [(&str, &str, &str, Option<&str>); 12] = [
        ("[shop.test]", "", "the character '['", Some("shop.test")),
        ("shop.test:443", "", "the character ':'", Some("shop.test")),
        ("https://shop.test/cart", "", "the character ':'", Some("shop.test")),
        ("SHOP.test/", "", "the character '/'", Some("shop.test")),
        ("shöp.test", "", "the A-label", None),
        ("shop test", "", "the character ' '", Some("shop.test")),
        ("shop.test..", "", "empty", Some("shop.test")),
        (".shop.test", "", "empty", Some("shop.test")),
        (&long, "", "longer than 63", None),
        ("192.0.2.1:443", "", "the character ':'", None),
        ("a\u{1b}[2J\u{202e}\\b\0", "a\\u{1b}[2J\\u{202e}\\\\b\\u{0}", "the character", None),
        (&endless, "a.a.", "more than 253 characters", None),
    ];
    for (sent, shown, wrong, meant) in rows {
        let server_name = NamedServer::Malformed(sent.into());
        let offer = Offer { server_name, ..client("chrome-150").unwrap().offer.clone() };
        let mut stream = TcpStream::connect(server.https).unwrap();
        stream.write_all(&records(&message(&offer), 16_384)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [0x15, 3, 3, 0, 2, 2, 47], "{sent:?}");
        let shown = if shown.is_empty() { sent } else { shown };
        let is_shown = |entry: &Entry| entry.sni.as_deref().is_some_and(|sni| sni.starts_with(shown));
        wait_until("it is listed", || failures(&server).iter().any(is_shown));
        let entry = failures(&server).into_iter().find(is_shown).unwrap();
        assert_eq!((&*entry.reason, &*entry.blame, &*entry.host), ("malformed-server-name", "client", ""), "{sent:?}");
        assert!(entry.detail.as_deref().is_some_and(|detail| detail.contains(wrong)), "{sent:?}: {:?}", entry.detail);
        assert_eq!(entry.nearest_host.as_deref(), meant, "{sent:?}");
        assert!(entry.sni.unwrap().chars().count() <= 256);
    }
    let (_, text, _) = cli(&server, &[]);
    assert!(text.contains("(asked for shop.test:443)") && text.contains("do you mean shop.test?"), "{text}");
    assert!(!text.contains("(no server name)") && !text.contains('\u{1b}'), "{text}");
    // Names are for people; a label has a closed set of values.
    let counted =
        server.metric("handfast_tls_handshake_failures_total", &["host=\"\"", "reason=\"malformed-server-name\""]);
    assert_eq!(counted, 12.0);
    let metrics = server.admin("/metrics").1;
    assert!(!metrics.contains("shop.test:443") && !metrics.contains("https://"), "{metrics}");
}

#[test]
fn an_address_in_the_place_of_a_name_is_shown_and_a_dot_at_the_end_of_one_is_passed_over() {
    let server = Server::start(&hosts, &[]);
    let say = |server_name| {
        let offer = Offer { server_name, ..client("chrome-150").unwrap().offer.clone() };
        let mut stream = TcpStream::connect(server.https).unwrap();
        stream.write_all(&records(&message(&offer), 16_384)).unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        first[0]
    };
    assert_eq!(say(NamedServer::Address("2001:db8::1".parse().unwrap())), 0x15);
    wait_until("it is listed", || !failures(&server).is_empty());
    let found = failures(&server);
    assert_eq!((&*found[0].reason, found[0].sni.as_deref()), ("no-server-name", Some("2001:db8::1")));
    assert!(
        found[0].detail.as_deref().unwrap().contains("is not a server name and is ignored"),
        "{:?}",
        found[0].detail
    );
    // As nginx does, though RFC 6066 section 3 has no dot there: a ServerHello comes back.
    assert_eq!(say(NamedServer::Name("Shop.test.".into())), 0x16);
}
