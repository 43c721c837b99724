//! What a change of a policy does to handshakes, shown by talking TLS to the real binary while it serves a directory.
//!
//! A policy that cannot work, works half, or locks out a client that has to connect is written over one that is in
//! force. What was negotiated before and after proves which of the two serves; each policy chooses something that no
//! other one does.

use std::net::TcpStream;
use std::process::Stdio;

use handfast::demo::pki::{Authority, KeyType};
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CipherSuite, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion,
    SupportedProtocolVersion,
};

use crate::binary::{PATIENCE, Server, host, issue, listing, program, service, wait_until};
use crate::handshake::Client;

/// What a handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    pub version: ProtocolVersion,
    pub suite: CipherSuite,
    pub group: NamedGroup,
    /// The server asked for another key share.
    pub retried: bool,
    pub leaf: CertificateDer<'static>,
}

/// One handshake, or the alert that ended it.
pub fn meet(server: &Server, name: &str, client: Client) -> Result<Met, AlertDescription> {
    let config = client.config(&server.authority);
    let mut connection = ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut socket = TcpStream::connect(server.https).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut socket) {
            match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::AlertReceived(alert)) => return Err(*alert),
                _ => panic!("{name}: {error:?}"),
            }
        }
    }
    Ok(Met {
        version: connection.protocol_version().unwrap(),
        suite: connection.negotiated_cipher_suite().unwrap().suite(),
        group: connection.negotiated_key_exchange_group().unwrap().name(),
        retried: connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest),
        leaf: connection.peer_certificates().unwrap()[0].clone().into_owned(),
    })
}

/// A client of one version.
pub fn only(version: &'static SupportedProtocolVersion) -> Client {
    Client { versions: vec![version], ..Client::default() }
}

/// A client with these groups, and a key share for the first.
pub fn with_groups(groups: &[&'static dyn SupportedKxGroup]) -> Client {
    let mut client = Client::default();
    client.provider.kx_groups = groups.to_vec();
    client
}

/// What a modern client gets.
fn parameters(server: &Server, name: &str) -> (ProtocolVersion, NamedGroup) {
    let met = meet(server, name, Client::default()).unwrap_or_else(|alert| panic!("{name}: {alert:?}"));
    (met.version, met.group)
}

/// Everything that `openssl s_client` says.
pub fn s_client(server: &Server, name: &str, args: &[&str]) -> String {
    let mut client = program("openssl");
    client.args(["s_client", "-servername", name, "-connect", &server.https.to_string()]).args(args);
    let output = client.arg("-CAfile").arg(server.ca()).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Waits until so many problems of a kind are reported. What serves then is what was compiled with them.
pub fn wait_for_reports(server: &Server, reason: &str, count: f64) {
    let label = format!("reason=\"{reason}\"");
    wait_until(&format!("{count} reports of {reason}"), || server.metric("handfast_diagnostics", &[&label]) == count);
}

/// A policy named `strict`.
fn policy(spec: &str) -> String {
    format!("apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: strict}}\nspec: {spec}\n")
}

const STRICT: &str = "handfast.dev/tls-policy: strict";

/// `ecdsa.test` and `rsa.test` with the policy `strict`, and `other.test` without.
fn hosts(spec: &str) -> impl Fn(&Authority) -> Vec<(String, String)> {
    let policy = policy(spec);
    move |authority| {
        let issued = |name, key| issue(authority, &[name], key);
        vec![
            host("ecdsa", "ecdsa.test", Some(&issued("ecdsa.test", KeyType::EcdsaP256)), "echo", STRICT),
            host("rsa", "rsa.test", Some(&issued("rsa.test", KeyType::Rsa2048)), "echo", STRICT),
            host("other", "other.test", Some(&issued("other.test", KeyType::EcdsaP256)), "echo", ""),
            ("policy.yaml".into(), policy.clone()),
            service("echo", &["127.0.0.1:9".parse().unwrap()]),
        ]
    }
}

const IN_TLS13: ProtocolVersion = ProtocolVersion::TLSv1_3;

#[test]
fn a_policy_that_cannot_work_with_a_key_leaves_the_previous_one_in_force_for_this_host_alone() {
    let mut server = Server::start(&hosts("{groups: [secp384r1]}"), &[]);
    let other = parameters(&server, "other.test");
    assert_eq!(parameters(&server, "ecdsa.test"), (IN_TLS13, NamedGroup::secp384r1));

    let rsa_only = "{maxVersion: TLSv1.2, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256], groups: [X25519]}";
    server.write("policy.yaml", &policy(rsa_only));
    let line = server.wait_for_line("no-workable-version");
    for word in ["ERROR", "TlsPolicy default/strict", "policy-held", "ecdsa.test"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert!(!line.contains("rsa.test"), "{line}");
    assert_eq!(server.metric("handfast_diagnostics", &[r#"severity="error""#]), 1.0);
    assert_eq!(parameters(&server, "ecdsa.test"), (IN_TLS13, NamedGroup::secp384r1));
    assert_eq!(meet(&server, "ecdsa.test", with_groups(&[aws_lc_rs::kx_group::X25519])), refused());
    let rsa = meet(&server, "rsa.test", Client::default()).unwrap();
    let expected = CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
    assert_eq!((rsa.version, rsa.suite, rsa.group), (ProtocolVersion::TLSv1_2, expected, NamedGroup::X25519));
    assert_eq!(parameters(&server, "other.test"), other);

    // The host goes on living under its old policy: here with a new certificate.
    let renewed = issue(&server.authority, &["ecdsa.test"], KeyType::EcdsaP256);
    let before = meet(&server, "ecdsa.test", Client::default()).unwrap();
    server.write("ecdsa.yaml", &host("ecdsa", "ecdsa.test", Some(&renewed), "echo", STRICT).1);
    let after = || meet(&server, "ecdsa.test", Client::default()).unwrap();
    wait_until("the new certificate is served", || after().leaf != before.leaf);
    assert_eq!(Met { leaf: before.leaf.clone(), ..after() }, before);

    // With a key for which it works the policy is in force.
    let rsa = issue(&server.authority, &["ecdsa.test"], KeyType::Rsa2048);
    server.write("ecdsa.yaml", &host("ecdsa", "ecdsa.test", Some(&rsa), "echo", STRICT).1);
    wait_for_reports(&server, "no-workable-version", 0.0);
    assert_eq!(parameters(&server, "ecdsa.test"), (ProtocolVersion::TLSv1_2, NamedGroup::X25519));
}

fn refused() -> Result<Met, AlertDescription> {
    Err(AlertDescription::HandshakeFailure)
}

#[test]
fn a_policy_that_is_held_outlives_the_process_where_there_is_a_state_directory() {
    const IMPOSSIBLE: &str = "{maxVersion: TLSv1.2, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}";
    let place = tempfile::tempdir().unwrap();
    let state = ["--state-dir", place.path().to_str().unwrap()];
    let held = (IN_TLS13, NamedGroup::secp384r1);

    let server = Server::start(&hosts("{groups: [secp384r1]}"), &state);
    server.write("policy.yaml", &policy(IMPOSSIBLE));
    wait_for_reports(&server, "no-workable-version", 1.0);
    wait_until("the policy is held on disk", || listing(place.path()).iter().any(|name| name.contains("ecdsa.test")));
    assert_eq!(parameters(&server, "ecdsa.test"), held);
    // Without any notice.
    server.signal("KILL");
    drop(server);

    let server = Server::start(&hosts(IMPOSSIBLE), &state);
    assert_eq!(parameters(&server, "ecdsa.test"), held);
    assert_eq!(parameters(&server, "rsa.test").0, ProtocolVersion::TLSv1_2);
    server.write("policy.yaml", &policy("{groups: [X25519]}"));
    wait_until("the repaired policy is in force", || {
        parameters(&server, "ecdsa.test") == (IN_TLS13, NamedGroup::X25519)
    });
    wait_until("nothing is held", || !listing(place.path()).iter().any(|name| name.contains("ecdsa.test")));

    // A process that knows nothing serves by the default, which is better than nothing.
    let server = Server::start(&hosts(IMPOSSIBLE), &[]);
    assert_eq!(parameters(&server, "ecdsa.test"), parameters(&server, "other.test"));
}

#[test]
fn a_policy_that_works_in_one_of_two_versions_is_served_and_warned_of() {
    let mut server = Server::start(&hosts("{groups: [secp384r1]}"), &[]);
    server.write("policy.yaml", &policy("{cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256], groups: [X25519]}"));
    let line = server.wait_for_line("unworkable-version");
    for word in ["WARN", "TlsPolicy default/strict", "ecdsa.test", "1.2"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert_eq!(parameters(&server, "ecdsa.test"), (IN_TLS13, NamedGroup::X25519));
    assert_eq!(meet(&server, "ecdsa.test", only(&TLS12)), refused());
    assert_eq!(meet(&server, "rsa.test", only(&TLS12)).unwrap().group, NamedGroup::X25519);
    server.wait_for_metric("handfast_tls_handshake_failures_total", &[r#"reason="no-shared-suite""#], 1.0);
}

#[test]
fn whatever_happens_to_a_policy_the_one_that_worked_stays_until_another_one_works() {
    let server = Server::start(&hosts("{groups: [secp384r1]}"), &[]);
    let held = (IN_TLS13, NamedGroup::secp384r1);
    let accepted = [("{groups: [secp256r1]}", NamedGroup::secp256r1), ("{groups: [secp384r1]}", NamedGroup::secp384r1)];
    let rows = [
        (
            "nothing is left of the suites",
            Some(policy("{cipherSuites: [AES128-SHA], maxVersion: TLSv1.2}")),
            "bad-tls-policy",
        ),
        ("no such group", Some(policy("{groups: [secp521r1]}")), "bad-tls-policy"),
        ("the versions are reversed", Some(policy("{minVersion: TLSv1.3, maxVersion: TLSv1.2}")), "invalid-document"),
        ("no CA for clients", Some(policy("{clientAuth: {mode: optional, caSecret: none}}")), "unusable-client-ca"),
        ("no such value", Some(policy("{preset: ancient}")), "invalid-document"),
        ("no such field", Some(policy("{gruops: [X25519]}")), "invalid-document"),
        ("broken YAML", Some("kind: [TlsPolicy\n\t: }".to_owned()), "unreadable-file"),
        ("deleted", None, "tls-policy-not-found"),
    ];
    for (what, text, reason) in rows {
        assert_eq!(parameters(&server, "ecdsa.test"), held, "before: {what}");
        match text {
            Some(text) => server.write("policy.yaml", &text),
            None => std::fs::remove_file(server.directory.path().join("policy.yaml")).unwrap(),
        }
        wait_until(&format!("{what}: reported as {reason}"), || {
            server.metric("handfast_diagnostics", &[&format!("reason=\"{reason}\"")]) > 0.0
        });
        for name in ["ecdsa.test", "rsa.test"] {
            assert_eq!(parameters(&server, name), held, "{what}");
        }
        for (spec, group) in accepted {
            server.write("policy.yaml", &policy(spec));
            wait_until(&format!("after {what}: {spec}"), || parameters(&server, "rsa.test").1 == group);
            assert_eq!(parameters(&server, "ecdsa.test").1, group, "after {what}: {spec}");
            wait_for_reports(&server, reason, 0.0);
        }
    }
}

#[test]
fn a_policy_that_locks_out_a_required_client_waits_until_the_client_is_let_go() {
    let mut server = Server::start(&hosts("{preset: intermediate, requiredClients: [java-8u161]}"), &[]);
    let old = || meet(&server, "ecdsa.test", only(&TLS12)).map(|met| met.version);
    assert_eq!(old(), Ok(ProtocolVersion::TLSv1_2));
    server.write("policy.yaml", &policy("{preset: modern, requiredClients: [java-8u161]}"));
    let line = server.wait_for_line("policy-held");
    for word in ["ERROR", "required-client-locked-out", "java-8u161", "TlsPolicy default/strict"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let old = || meet(&server, "ecdsa.test", only(&TLS12)).map(|met| met.version);
    assert_eq!(old(), Ok(ProtocolVersion::TLSv1_2));
    server.write("policy.yaml", &policy("{preset: modern}"));
    wait_for_reports(&server, "required-client-locked-out", 0.0);
    assert_eq!(old(), Err(AlertDescription::ProtocolVersion));
    assert_eq!(parameters(&server, "ecdsa.test").0, IN_TLS13);
    let text = s_client(&server, "rsa.test", &["-tls1_2"]);
    assert!(text.contains("alert protocol version"), "{text}");
}

/// The order of a client without AES hardware, which Handfast's default respects.
const CHACHA20_FIRST: &str =
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384";

#[test]
fn annotations_set_what_the_lines_of_an_nginx_configuration_do() {
    let annotated = [
        (
            "block",
            "handfast.dev/ssl-protocols: \"TLSv1.2 TLSv1.3\"\nhandfast.dev/ssl-ciphers: \"HIGH:!aNULL:!MD5\"\n\
             handfast.dev/ssl-prefer-server-ciphers: \"on\"",
        ),
        (
            "aliases",
            "nginx.ingress.kubernetes.io/ssl-ciphers: \"HIGH:!aNULL:!MD5\"\n\
             nginx.ingress.kubernetes.io/ssl-prefer-server-ciphers: \"true\"",
        ),
        (
            "clients",
            "nginx.ingress.kubernetes.io/ssl-ciphers: \"HIGH:!aNULL:!MD5\"\n\
             nginx.ingress.kubernetes.io/ssl-prefer-server-ciphers: \"false\"",
        ),
        ("curve", "handfast.dev/ssl-ecdh-curve: secp384r1"),
        ("newest", "handfast.dev/ssl-protocols: TLSv1.3"),
        ("plain", ""),
    ];
    let manifests = |authority: &Authority| {
        let mut files = vec![service("echo", &["127.0.0.1:9".parse().unwrap()])];
        for (name, annotations) in annotated {
            let domain = format!("{name}.test");
            let issued = issue(authority, &[&domain], KeyType::EcdsaP256);
            files.push(host(name, &domain, Some(&issued), "echo", annotations));
        }
        files
    };
    let server = Server::start(&manifests, &[]);
    // HIGH puts 256 bits first; so does the server then, whatever the client prefers.
    let chosen = [
        ("block", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("aliases", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("clients", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("plain", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ];
    for (name, suite) in chosen {
        let text = s_client(&server, &format!("{name}.test"), &["-tls1_2", "-cipher", CHACHA20_FIRST]);
        assert!(text.contains(&format!("TLSv1.2, Cipher is {suite}\n")), "{name}: {text}");
        // What the list leaves out cannot be had at all.
        let text = s_client(&server, &format!("{name}.test"), &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"]);
        assert!(text.contains("alert handshake failure"), "{name}: {text}");
        assert_eq!(meet(&server, &format!("{name}.test"), only(&TLS13)).unwrap().version, IN_TLS13);
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let key = |name: &str| {
            let text = s_client(&server, name, &[version, "-groups", "X25519:P-256:P-384"]);
            text.lines().find(|line| line.starts_with("Server Temp Key: ")).unwrap_or(&text).to_owned()
        };
        assert!(key("curve.test").contains("secp384r1"), "{version}: {}", key("curve.test"));
        assert!(key("plain.test").contains("X25519"), "{version}: {}", key("plain.test"));
    }
    let text = s_client(&server, "newest.test", &["-tls1_2"]);
    assert!(text.contains("alert protocol version"), "{text}");
    assert_eq!(parameters(&server, "newest.test").0, IN_TLS13);
}

#[test]
fn the_servers_order_of_groups_wins_over_the_clients_even_at_the_price_of_a_round_trip() {
    let server = Server::start(&hosts("{groups: [secp384r1, X25519, secp256r1], groupOrder: client}"), &[]);
    let (x25519, p384) = (aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP384R1);
    let p256 = aws_lc_rs::kx_group::SECP256R1;
    let both = |name: &str, version: &'static SupportedProtocolVersion, groups: &[&'static dyn SupportedKxGroup]| {
        let client = Client { versions: vec![version], ..with_groups(groups) };
        meet(&server, name, client).map(|met| (met.group, met.retried))
    };
    for version in [&TLS12, &TLS13] {
        for name in ["ecdsa.test", "rsa.test"] {
            assert_eq!(both(name, version, &[x25519, p384]), Ok((NamedGroup::X25519, false)));
        }
    }
    server.write("policy.yaml", &policy("{groups: [secp384r1, X25519, secp256r1], groupOrder: server}"));
    wait_until("the order is the server's", || {
        both("rsa.test", &TLS13, &[x25519, p384]) == Ok((NamedGroup::secp384r1, true))
    });
    for name in ["ecdsa.test", "rsa.test"] {
        assert_eq!(both(name, &TLS13, &[x25519, p384]), Ok((NamedGroup::secp384r1, true)));
        assert_eq!(both(name, &TLS13, &[p384, x25519]), Ok((NamedGroup::secp384r1, false)));
        assert_eq!(both(name, &TLS13, &[p256, x25519]), Ok((NamedGroup::X25519, true)));
        // There are no key shares in the hello of TLS 1.2.
        assert_eq!(both(name, &TLS12, &[p256, x25519, p384]), Ok((NamedGroup::secp384r1, false)));
        assert_eq!(both(name, &TLS12, &[p256]), Ok((NamedGroup::secp256r1, false)));
    }
}
