//! The real binary on a real directory, met by real clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use handfast::demo::pki::{Authority, KeyType};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::Message;

use crate::backend::Backend;
use crate::binary::{
    Server, addresses, host, issue, program, run_on, secret, service, signal, soak, until, wait_for_exit, wait_until,
};

fn shop(backend: SocketAddr) -> impl Fn(&Authority) -> Vec<(String, String)> {
    move |authority| {
        vec![
            host("shop", "shop.test", Some(&issue(authority, &["shop.test"], KeyType::EcdsaP256)), "echo", ""),
            host("rsa", "rsa.test", Some(&issue(authority, &["rsa.test"], KeyType::Rsa2048)), "echo", ""),
            host("wild", "*.wild.test", Some(&issue(authority, &["*.wild.test"], KeyType::EcdsaP256)), "echo", ""),
            host("plain", "plain.test", None, "echo", ""),
            service("echo", &[backend]),
        ]
    }
}

/// curl, resolving `host` to the server; output and exit status.
fn curl(server: &Server, host: &str, path: &str, args: &[&str]) -> (String, i32) {
    let port = server.https.port();
    let output = program("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--cacert"])
        .arg(server.ca())
        .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
        .args(args)
        .arg(format!("https://{host}:{port}{path}"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code().unwrap())
}

#[test]
fn curl_gets_every_host_over_both_versions_of_http_and_tls() {
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &[]);
    for name in ["shop.test", "rsa.test", "a.wild.test"] {
        for (http, expected_http) in [("--http1.1", "1.1"), ("--http2", "2")] {
            for (tls, expected_tls) in [("1.2", "TLSv1.2"), ("1.3", "TLSv1.3")] {
                let flag = format!("--tlsv{tls}");
                let written = "%{http_version} %{http_code}\n";
                let args = ["-v", "-w", written, http, &flag, "--tls-max", tls];
                let (text, status) = curl(&server, name, "/hello?x=%2F", &args);
                assert_eq!(status, 0, "{text}");
                assert!(text.contains(&format!("{expected_http} 200\n")), "{name} {http} {tls}: {text}");
                assert!(text.contains(&format!("using {expected_tls} ")), "{name} {http} {tls}: {text}");
                assert!(text.contains("GET /hello?x=%2F\n"), "{text}");
                assert!(
                    text.contains("x-forwarded-proto: https\n") && text.contains("x-real-ip: 127.0.0.1\n"),
                    "{text}"
                );
                assert!(
                    text.contains(&format!("x-forwarded-host: {name}:"))
                        || text.contains(&format!("x-forwarded-host: {name}\n")),
                    "{text}"
                );
            }
        }
    }
    server.wait_for_metric("handfast_tls_handshakes_total", &[r#"host="shop.test""#, r#"version="1.2""#], 2.0);
    server.wait_for_metric("handfast_tls_handshakes_total", &[r#"host="*.wild.test""#], 4.0);
    server.wait_for_metric("handfast_http_requests_total", &[r#"code="200""#], 12.0);
    assert_eq!(server.metric("handfast_tls_handshake_failures_total", &[]), 0.0);
}

#[test]
fn openssl_agrees_on_each_group_that_it_knows() {
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &[]);
    // The same group has two names in OpenSSL, by version of TLS.
    let groups: [(&str, &[&str]); 4] = [
        ("X25519", &["X25519"]),
        ("P-256", &["P-256", "prime256v1"]),
        ("P-384", &["P-384", "secp384r1"]),
        ("X25519MLKEM768", &["X25519MLKEM768"]),
    ];
    for (group, names) in groups {
        for version in ["-tls1_2", "-tls1_3"] {
            let mut client = program("openssl");
            client.args(["s_client", version, "-groups", group, "-servername", "shop.test", "-connect"]);
            client.arg(server.https.to_string()).arg("-CAfile").arg(server.ca()).arg("-verify_return_error");
            let output = client.stdin(Stdio::null()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            if group == "X25519MLKEM768" && (text.contains("cannot be set") || version == "-tls1_2") {
                // OpenSSL before 3.5 does not know the group, and TLS 1.2 cannot use it; rustls clients prove it
                // elsewhere.
                continue;
            }
            assert!(text.contains("Verification: OK"), "{group} {version}: {text}");
            let key = text.lines().find(|line| line.contains("Temp Key") || line.contains("Negotiated TLS1.3 group"));
            let key = key.unwrap_or_default();
            assert!(names.iter().any(|name| key.contains(name)), "{group} {version}: {text}");
            // Leaf and intermediate, not the root.
            assert!(text.contains(" 1 s:CN = Test Intermediate") && !text.contains(" 2 s:"), "{text}");
        }
    }
}

#[test]
fn old_clients_and_wrong_names_get_the_alert_that_says_why() {
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &[]);
    let (text, status) = curl(&server, "nobody.test", "/", &[]);
    assert_eq!(status, 35, "{text}");
    assert!(text.contains("unrecognized name"), "{text}");
    let (text, _) = curl(&server, "plain.test", "/", &[]);
    assert!(text.contains("unrecognized name"), "{text}");
    let old = |version: &str| {
        let mut client = program("openssl");
        client.args(["s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-servername", "shop.test", "-connect"]);
        let output = client.arg(server.https.to_string()).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for version in ["-tls1", "-tls1_1"] {
        let text = old(version);
        assert!(text.contains("alert protocol version"), "{version}: {text}");
    }
    let failures = |reason: &str| {
        server.wait_for_metric(
            "handfast_tls_handshake_failures_total",
            &[&format!("reason=\"{reason}\"")],
            match reason {
                "no-shared-version" => 2.0,
                _ => 1.0,
            },
        );
    };
    failures("unknown-host");
    failures("host-without-tls");
    failures("no-shared-version");
}

#[test]
fn plain_http_is_redirected_where_the_host_has_tls() {
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &["--https-public-port", "8443"]);
    let get = |host: &str, path: &str| handfast::demo::client::get_plain(server.http, host, path).unwrap();
    let answer = get("shop.test", "/a%2Fb?q=1");
    assert_eq!(answer.status, 308);
    assert!(answer.text.to_lowercase().contains("location: https://shop.test:8443/a%2fb?q=1\r\n"), "{}", answer.text);
    assert_eq!(get("plain.test", "/").status, 200);
    assert_eq!(get("nobody.test", "/").status, 404);
    // A wildcard host's certificate counts as the host's own.
    let (name, text) = host("under", "under.wild.test", None, "echo", "");
    server.write(&name, &text);
    wait_until("the host is redirected", || get("under.wild.test", "/").status == 308);
    // A certificate authority's challenge is never redirected.
    assert_eq!(get("shop.test", "/.well-known/acme-challenge/token").status, 200);
}

/// A TLS connection by rustls, with one ALPN protocol.
async fn connect(
    server: &Server,
    name: &str,
    protocol: &str,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    connect_to(server.https, &server.ca(), name, protocol).await.unwrap()
}

async fn connect_to(
    address: SocketAddr,
    ca: &Path,
    name: &str,
    protocol: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&std::fs::read(ca).unwrap()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn request(path: &str, host: &str) -> http::Request<Empty<Bytes>> {
    http::Request::builder().uri(path).header("host", host).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_websocket_echoes_through_tls() {
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &[]);
    let stream = connect(&server, "shop.test", "http/1.1").await;
    let (mut socket, response) = tokio_tungstenite::client_async("ws://shop.test/websocket", stream).await.unwrap();
    assert_eq!(response.status(), 101);
    for size in [1, 100, 100_000] {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn ten_thousand_requests_over_kept_connections_have_no_error() {
    const CONNECTIONS: usize = 16;
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &[]);
    let each = if soak() { 10_000 } else { 625 };
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (address, ca) = (server.https, server.ca());
            tokio::spawn(async move {
                let stream = connect_to(address, &ca, "shop.test", "http/1.1").await.unwrap();
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
                let connection = tokio::spawn(connection);
                for index in 0..each {
                    let response = sender.send_request(request(&format!("/{index}"), "shop.test")).await.unwrap();
                    assert_eq!(response.status(), 200);
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    assert!(body.starts_with(format!("GET /{index}\n").as_bytes()));
                }
                drop(sender);
                connection.await.unwrap().unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let total = CONNECTIONS * each;
    assert_eq!(backend.requests(), total);
    // Connections to the backend are kept as well.
    let connections = backend.connections.load(Ordering::Relaxed);
    assert!(connections <= 2 * CONNECTIONS, "{connections} connections to the backend for {total} requests");
    server.wait_for_metric("handfast_http_requests_total", &[r#"code="200""#, r#"host="shop.test""#], total as f64);
    server.wait_for_metric("handfast_tls_handshakes_total", &[], CONNECTIONS as f64);
    wait_until("no connection is open", || server.metric("handfast_connections_active", &[]) == 0.0);
}

#[test]
fn large_bodies_stream_both_ways_with_flat_memory() {
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &[]);
    let size: u64 = if soak() { 1 << 30 } else { 128 << 20 };
    // Warm up, so that only the size of the body makes a difference.
    for http in ["--http1.1", "--http2"] {
        curl(&server, "shop.test", "/bytes/1000000", &[http, "-o", "/dev/null"]);
    }
    let before = server.peak_memory();
    for http in ["--http1.1", "--http2"] {
        let args = [http, "-o", "/dev/null", "-w", "%{size_download}"];
        let (text, status) = curl(&server, "shop.test", &format!("/bytes/{size}"), &args);
        assert_eq!((status, text.trim()), (0, size.to_string().as_str()), "{http}");

        let port = server.https.port();
        let mut upload = program("curl")
            .args(["--silent", "--show-error", http, "--max-time", "300", "-T", "-", "--cacert"])
            .arg(server.ca())
            .args(["--resolve", &format!("shop.test:{port}:127.0.0.1")])
            .arg(format!("https://shop.test:{port}/count"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = upload.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            let chunk = vec![0; 1 << 20];
            for _ in 0..size >> 20 {
                pipe.write_all(&chunk).unwrap();
            }
        });
        let output = upload.wait_with_output().unwrap();
        writer.join().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), size.to_string(), "{http}");
    }
    let grown = server.peak_memory().saturating_sub(before);
    assert!(grown < 24 << 20, "memory grew by {} MiB for bodies of {} MiB", grown >> 20, size >> 20);
}

#[test]
fn a_replaced_secret_serves_the_next_handshake_and_no_request_fails() {
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &[]);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = [true, false]
        .into_iter()
        .map(|kept| {
            let (address, ca, stop, done) = (server.https, server.ca(), stop.clone(), done.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    while !stop.load(Ordering::Relaxed) {
                        let stream = connect_to(address, &ca, "shop.test", "http/1.1").await.unwrap();
                        let (mut sender, connection) =
                            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
                        tokio::spawn(connection);
                        loop {
                            let response = sender.send_request(request("/", "shop.test")).await.unwrap();
                            assert_eq!(response.status(), 200);
                            response.into_body().collect().await.unwrap();
                            done.fetch_add(1, Ordering::Relaxed);
                            if !kept || stop.load(Ordering::Relaxed) {
                                break;
                            }
                            sender.ready().await.unwrap();
                        }
                    }
                });
            })
        })
        .collect();
    let leaf = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = connect(&server, "shop.test", "http/1.1").await;
            stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
        })
    };
    let mut served = leaf();
    for _ in 0..if soak() { 50 } else { 5 } {
        let issued = issue(&server.authority, &["shop.test"], KeyType::EcdsaP256);
        let (name, text) = host("shop", "shop.test", Some(&issued), "echo", "");
        server.write(&name, &text);
        wait_until("the new certificate is served", || leaf() != served);
        served = leaf();
        assert_eq!(served, CertificateDer::from_pem_slice(issued.leaf.as_bytes()).unwrap());
    }
    let enough = done.load(Ordering::Relaxed) + 20;
    wait_until("requests go on", || done.load(Ordering::Relaxed) > enough);
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().unwrap();
    }
    assert_eq!(server.metric("handfast_tls_handshake_failures_total", &[]), 0.0);
    assert_eq!(server.metric("handfast_upstream_failures_total", &[]), 0.0);
}

#[test]
fn a_broken_file_takes_nothing_down_and_is_named() {
    let backend = Backend::start("one");
    let mut server = Server::start(&shop(backend.address), &[]);
    server.write("shop.yaml", "kind: [Ingress\n\t: }");
    let line = server.wait_for_line("unreadable-file");
    assert!(line.contains("shop.yaml"), "{line}");
    for name in ["shop.test", "rsa.test"] {
        assert_eq!(curl(&server, name, "/", &["-o", "/dev/null"]).1, 0);
    }
    assert_eq!(server.metric("handfast_diagnostics", &[r#"reason="unreadable-file""#]), 1.0);
    // Repaired, with a new certificate: taken up, and said to be solved.
    let issued = issue(&server.authority, &["shop.test"], KeyType::EcdsaP256);
    server.write("shop.yaml", &host("shop", "shop.test", Some(&issued), "echo", "").1);
    let line = server.wait_for_line("No longer a problem");
    assert!(line.contains("shop.yaml"), "{line}");
    assert_eq!(server.metric("handfast_diagnostics", &[r#"reason="unreadable-file""#]), 0.0);
}

#[test]
fn a_broken_certificate_refuses_its_host_alone() {
    let backend = Backend::start("one");
    let address = backend.address;
    let manifests = move |authority: &Authority| {
        let mut files = shop(address)(authority);
        let mut mismatched = issue(authority, &["broken.test"], KeyType::EcdsaP256);
        mismatched.key = issue(authority, &["broken.test"], KeyType::EcdsaP256).key;
        files.push(host("broken", "broken.test", Some(&mismatched), "echo", ""));
        files.push(host("empty", "empty.test", Some(&mismatched), "echo", ""));
        let nothing = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: empty}\ndata: {}\n";
        let empty = files.last_mut().unwrap();
        empty.1 = empty.1.split("---\n").next().unwrap().to_owned() + nothing;
        files
    };
    let server = Server::start(&manifests, &[]);
    assert_eq!(curl(&server, "shop.test", "/", &["-o", "/dev/null"]).1, 0);
    for (index, name) in ["broken.test", "empty.test"].iter().enumerate() {
        let (text, status) = curl(&server, name, "/", &[]);
        assert!(status == 35 && text.contains("unrecognized name"), "{text}");
        let reason = r#"reason="host-refused""#;
        server.wait_for_metric("handfast_tls_handshake_failures_total", &[reason], (index + 1) as f64);
        // The plain HTTP side still answers.
        assert_eq!(handfast::demo::client::get_plain(server.http, name, "/").unwrap().status, 308);
    }
    assert!(server.admin("/debug/snapshot").1.contains("host broken.test\n  tls: refuse\n"));
}

#[test]
fn every_connection_is_counted_exactly_once() {
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &["--workers", "2", "--handshake-timeout", "2s"]);
    let connect = || TcpStream::connect(server.https).unwrap();
    let mut open = Vec::new();
    let rounds = if soak() { 500 } else { 20 };
    for round in 0..rounds {
        // Good, refused, rejected, not TLS, broken, silent, probed.
        curl_once(&server, "shop.test");
        curl_once(&server, "nobody.test");
        let mut plain = connect();
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        plain.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 400"), "{text}");
        connect().write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
        drop(connect());
        if round % 10 == 0 {
            open.push(connect());
        }
    }
    let accepted = (rounds * 5 + open.len()) as f64;
    wait_until("all connections are accounted for", || {
        let sum = server.metric("handfast_tls_handshakes_total", &[])
            + server.metric("handfast_tls_handshake_failures_total", &[])
            + server.metric("handfast_tls_probes_total", &[]);
        assert!(sum <= accepted, "{sum} of {accepted}");
        sum == accepted
    });
    assert_eq!(server.metric("handfast_tls_connections_accepted_total", &[]), accepted);
    assert_eq!(server.metric("handfast_tls_probes_total", &[]), rounds as f64);
    let failures =
        |reason: &str| server.metric("handfast_tls_handshake_failures_total", &[&format!("reason=\"{reason}\"")]);
    assert_eq!(failures("timeout-before-hello"), open.len() as f64);
    assert_eq!(failures("plain-http"), rounds as f64);
    assert_eq!(failures("unknown-host"), rounds as f64);
    assert_eq!(failures("internal"), 0.0);
    assert_eq!(server.metric("handfast_panics_total", &[]), 0.0);
}

fn curl_once(server: &Server, name: &str) {
    let _ = handfast::demo::client::get(
        server.https,
        name,
        "/",
        &std::fs::read_to_string(server.ca()).unwrap(),
        &rustls::version::TLS13,
    );
}

#[test]
fn of_too_many_handshakes_the_one_that_has_waited_longest_ends() {
    let backend = Backend::start("one");
    let args = ["--workers", "1", "--max-handshakes", "2"];
    let server = Server::start(&shop(backend.address), &args);
    // Clients that say hello and nothing else.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    let hello = || {
        let name = ServerName::try_from("shop.test").unwrap();
        let mut client = rustls::ClientConnection::new(config.clone(), name).unwrap();
        let mut stream = TcpStream::connect(server.https).unwrap();
        client.write_tls(&mut stream).unwrap();
        stream
    };
    let answered = |mut stream: TcpStream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream
    };
    let mut waiting: Vec<TcpStream> = (0..4).map(|_| answered(hello())).collect();
    let labels = [r#"blame="server""#, r#"host="shop.test""#, r#"reason="evicted""#];
    server.wait_for_metric("handfast_tls_handshake_failures_total", &labels, 2.0);
    for stream in waiting.drain(..2) {
        // All of the answer, and behind it the end.
        assert!(std::io::BufReader::new(stream).bytes().count() > 500);
    }
    assert_eq!(curl(&server, "shop.test", "/", &["-o", "/dev/null"]).1, 0);
    server.wait_for_metric("handfast_tls_handshake_failures_total", &labels, 3.0);
    assert_eq!(server.metric("handfast_places_evicted_total", &[r#"places="handshakes""#]), 3.0);
    drop(waiting);
    // What one of them has not read makes the end a reset.
    server.wait_for_metric("handfast_tls_handshake_failures_total", &[r#"reason="reset-after-certificate""#], 1.0);
}

#[test]
fn a_proxy_protocol_header_gives_the_clients_address_and_is_required() {
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &["--proxy-protocol"]);
    // curl sends version 1 with its own address.
    let (text, status) = curl(&server, "shop.test", "/", &["--haproxy-protocol"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("x-real-ip: 127.0.0.1\n"), "{text}");
    let mut plain = TcpStream::connect(server.http).unwrap();
    plain
        .write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4242 80\r\nGET / HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    plain.read_to_string(&mut text).unwrap();
    assert!(text.contains("x-real-ip: 192.0.2.7\n") && text.contains("x-forwarded-for: 192.0.2.7\n"), "{text}");
    assert_eq!(curl(&server, "shop.test", "/", &[]).1, 35);
    let labels = [r#"blame="network""#, r#"reason="proxy-header-missing""#];
    server.wait_for_metric("handfast_tls_handshake_failures_total", &labels, 1.0);
}

#[test]
fn the_default_certificate_answers_unknown_names_and_rules_without_a_host() {
    let backend = Backend::start("one");
    let address = backend.address;
    let manifests = move |authority: &Authority| {
        let fallback = issue(authority, &["fallback.test"], KeyType::EcdsaP256);
        let (name, text) = host("any", "any.test", None, "echo", "");
        vec![
            (name, text.replace("  - host: \"any.test\"\n    http", "  - http")),
            ("fallback.yaml".into(), secret("fallback", &fallback)),
            service("echo", &[address]),
        ]
    };
    let server = Server::start(&manifests, &["--default-tls-secret", "default/fallback"]);
    let (text, status) = curl(&server, "fallback.test", "/", &[]);
    assert!(status == 0 && text.starts_with("GET /\n"), "{text}");
    let (text, status) = curl(&server, "other.test", "/", &["--insecure"]);
    assert!(status == 0 && text.starts_with("GET /\n"), "{text}");
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let backend = Backend::start("one");
    let mut server = Server::start(&shop(backend.address), &[]);
    let send = |stream, path: &'static str| async move {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request(path, "shop.test")).await.unwrap();
        let head = response.headers().clone();
        response.into_body().collect().await.unwrap();
        drop(sender);
        connection.await.unwrap().unwrap();
        head
    };
    let running = tokio::spawn(send(connect(&server, "shop.test", "http/1.1").await, "/wait"));
    let idle = connect(&server, "shop.test", "http/1.1").await;
    until("the request has arrived", || backend.requests() == 1).await;
    assert_eq!(server.admin("/readyz").0, 200);
    server.signal("TERM");
    server.wait_for_line("Draining");
    until("nothing is accepted any more", || std::net::TcpStream::connect(server.https).is_err()).await;
    assert_eq!(server.admin("/readyz").0, 503);
    backend.go.cancel();
    let head = running.await.unwrap();
    assert_eq!(head["connection"], "close");
    drop(idle);
    assert!(server.wait().success());
}

#[test]
fn connections_that_were_queued_when_the_drain_began_are_served() {
    let backend = Backend::start("one");
    let mut server = Server::start(&shop(backend.address), &[]);
    // While the process stands still, the kernel accepts for it.
    server.signal("STOP");
    let (http, https, root) = (server.http, server.https, std::fs::read_to_string(server.ca()).unwrap());
    let clients: Vec<_> = (0..4)
        .map(|index| {
            let root = root.clone();
            let plain = TcpStream::connect(http).unwrap();
            let tls = TcpStream::connect(https).unwrap();
            std::thread::spawn(move || {
                let plain = handfast::demo::client::get_plain_over(plain, "plain.test", &format!("/{index}"));
                let tls = handfast::demo::client::get_over(tls, "shop.test", "/", &root, &rustls::version::TLS13);
                (plain.unwrap().status, tls.unwrap().status)
            })
        })
        .collect();
    server.signal("TERM");
    server.signal("CONT");
    for client in clients {
        assert_eq!(client.join().unwrap(), (200, 200));
    }
    assert!(server.wait().success());
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_the_process_alive() {
    let backend = Backend::start("one");
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [host("plain", "plain.test", None, "echo", ""), service("echo", &[backend.address])] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let file = directory.path().join("addresses");
    let mut child = run_on(directory.path(), &file).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // Kept, and never read.
    let _stdout = child.stdout.take().unwrap();
    wait_until("it serves", || file.exists());
    let http = addresses(&file)("http");
    // More lines than the pipe holds.
    let path = format!("/{}", "a".repeat(8_000));
    for _ in 0..20 {
        assert_eq!(handfast::demo::client::get_plain(http, "plain.test", &path).unwrap().status, 200);
    }
    signal(child.id(), "TERM");
    assert!(wait_for_exit(&mut child).success());
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once() {
    let backend = Backend::start("one");
    let mut server = Server::start(&shop(backend.address), &[]);
    let stream = connect(&server, "shop.test", "http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = tokio::spawn(async move { sender.send_request(request("/wait", "shop.test")).await });
    until("the request has arrived", || backend.requests() == 1).await;
    server.signal("TERM");
    server.wait_for_line("Draining");
    server.signal("INT");
    assert!(server.wait().success());
    assert!(request.await.unwrap().is_err());
}

#[test]
fn the_unready_delay_keeps_accepting_while_readiness_fails() {
    let backend = Backend::start("one");
    let mut server = Server::start(&shop(backend.address), &["--unready-delay", "600s"]);
    server.signal("TERM");
    server.wait_for_line("Draining");
    assert_eq!(server.admin("/readyz").0, 503);
    assert_eq!(curl(&server, "shop.test", "/", &["-o", "/dev/null"]).1, 0);
    server.signal("TERM");
    assert!(server.wait().success());
}

#[test]
fn metrics_have_the_conventional_form() {
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &[]);
    curl(&server, "shop.test", "/", &["-o", "/dev/null"]);
    let (status, text) = server.admin("/metrics");
    assert_eq!(status, 200);
    for name in
        ["handfast_build_info", "handfast_certificate_not_after_timestamp_seconds", "handfast_compile_units_total"]
    {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing:\n{text}");
    }
    assert!(server.metric("handfast_certificate_not_after_timestamp_seconds", &[r#"secret="shop""#]) > 1.7e9);
    let mut promtool =
        program("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn nothing_secret_is_shown_anywhere() {
    let backend = Backend::start("one");
    let mut server = Server::start(&shop(backend.address), &["--log", "trace"]);
    curl(&server, "shop.test", "/", &["-o", "/dev/null"]);
    let files = std::fs::read_to_string(server.directory.path().join("shop.yaml")).unwrap();
    let key_start = files.find("PRIVATE KEY-----\\n").unwrap() + "PRIVATE KEY-----\\n".len();
    let key = &files[key_start..key_start + 40];
    let mut shown = server.admin("/debug/snapshot").1;
    server.signal("TERM");
    server.wait_for_line("All connections have ended");
    shown.push_str(&server.log());
    assert!(shown.contains("shop.test") && !shown.contains(key));
    assert!(server.wait().success());
}

/// nginx's and haproxy's operators have `curl` at hand, not our client: the demo must do as written.
#[test]
fn the_demo_is_as_it_says() {
    let mut demo: Command = crate::binary::handfast(&["demo", "--once"]);
    let output = demo.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Everything worked as announced."), "{text}");
    let directory = text.lines().next().unwrap().rsplit_once(' ').unwrap().1.trim_end_matches('.');
    assert!(directory.contains("handfast-demo-") && !Path::new(directory).exists(), "{directory}");
}
