//! TLS on the port for plain HTTP: what its clients are told and what is counted, and that all else goes on there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use handfast::demo::pki::{Authority, KeyType};
use handfast::failures::report::{Entry, FailuresReport};
use handfast::tls::clients::client;
use handfast::tls::offer::{NamedServer, Offer};

use crate::binary::{PATIENCE, Server, host, issue, program, service};
use crate::hellos::{message, records};

const ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 10];

fn site(authority: &Authority) -> Vec<(String, String)> {
    vec![
        host("shop", "shop.test", Some(&issue(authority, &["shop.test"], KeyType::EcdsaP256)), "echo", ""),
        host("wild", "*.wild.test", Some(&issue(authority, &["*.wild.test"], KeyType::EcdsaP256)), "echo", ""),
        service("echo", &["127.0.0.1:9".parse().unwrap()]),
    ]
}

fn hello(name: &str) -> Vec<u8> {
    let server_name = NamedServer::Name(name.into());
    records(&message(&Offer { server_name, ..client("chrome-150").unwrap().offer.clone() }), 16_384)
}

/// Sends pieces one by one, and returns all that comes until the server closes.
fn say<'a>(address: SocketAddr, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for piece in pieces {
        // A server that has heard enough does not take the rest.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn entries(server: &Server) -> Vec<Entry> {
    serde_json::from_str::<FailuresReport>(&server.admin("/api/failures").1).unwrap().failures
}

fn wait_for_failures(server: &Server, host: &str, expected: f64) {
    let host = format!("host=\"{host}\"");
    server.wait_for_metric(
        "handfast_tls_handshake_failures_total",
        &[&host, "reason=\"tls-on-http-port\"", "blame=\"client\""],
        expected,
    );
}

#[test]
fn a_hello_is_answered_with_an_alert_in_whatever_pieces_it_comes() {
    let server = Server::start(&site, &[]);
    let hello = hello("shop.test");
    for size in [hello.len(), 1_000, 24, 7, 1] {
        assert_eq!(say(server.http, hello.chunks(size)), ALERT, "pieces of {size} bytes");
    }
    wait_for_failures(&server, "shop.test", 5.0);
    let found = entries(&server);
    let [entry] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((&*entry.host, entry.sni.as_deref(), entry.count), ("shop.test", Some("shop.test"), 5));
    assert_eq!(entry.alert_sent.as_deref(), Some("unexpected_message"));
    assert!(entry.remedy.contains("use the HTTPS port"), "{}", entry.remedy);
    assert!(entry.looks_like.as_deref().is_some_and(|name| name.contains("Chrome")), "{:?}", entry.looks_like);
    // Each was one connection of TLS, and none a request.
    server.wait_for_metric("handfast_worker_tls_connections_ended_total", &["outcome=\"failed\""], 5.0);
    assert_eq!(server.metric("handfast_tls_connections_accepted_total", &[]), 5.0);
    server.wait_for_metric("handfast_tls_handshakes_in_progress", &[], 0.0);
    assert_eq!(server.metric("handfast_http_requests_total", &[]), 0.0);
    assert!(
        server
            .admin("/metrics")
            .1
            .contains("handfast_tls_alerts_total{alert=\"unexpected_message\",direction=\"sent\"} 5")
    );
}

#[test]
fn whatever_begins_with_tls_is_counted_once_under_the_host_that_it_names() {
    let server = Server::start(&site, &[]);
    let endless: Vec<u8> = {
        // A hello of 60,000 bytes, one a record, which nobody has to read to its end.
        let message = [&[1, 0, 0xea, 0x60], &[0; 60_000][..]].concat();
        records(&message, 1)
    };
    let ssl2 = b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10".to_vec();
    let rows: [(&str, &str, Vec<Vec<u8>>); 6] = [
        ("a.wild.test", "*.wild.test", vec![hello("a.wild.test")]),
        ("nobody.test", "", vec![hello("nobody.test")]),
        ("", "", vec![ssl2[..1].to_vec(), ssl2[1..2].to_vec(), ssl2[2..].to_vec()]),
        ("", "", vec![b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00".to_vec()]),
        ("", "", vec![b"\x16GET / HTTP/1.1\r\n".to_vec()]),
        ("", "", vec![endless]),
    ];
    let mut counts = std::collections::BTreeMap::new();
    for (name, host, pieces) in &rows {
        let answer = say(server.http, pieces.iter().map(|piece| &piece[..]));
        let is_long = pieces.iter().map(Vec::len).sum::<usize>() > 64 * 1024;
        // The record has the version of the hello. Of a client that goes on and on the end is a reset, which may overtake it.
        let is_alert = answer.starts_with(&ALERT[..2]) && answer[3..] == ALERT[3..];
        assert!(is_alert || is_long && answer.is_empty(), "{name} {host}: {answer:02x?}");
        let count: &mut f64 = counts.entry(*host).or_default();
        *count += 1.0;
        wait_for_failures(&server, host, *count);
    }
    let found = entries(&server);
    assert!(found.iter().any(|entry| entry.host == "*.wild.test" && entry.sni.as_deref() == Some("a.wild.test")));
    let details: Vec<&str> = found.iter().filter_map(|entry| entry.detail.as_deref()).collect();
    assert_eq!(found.len(), 2, "one client each: {details:?}");
}

#[test]
fn everything_else_on_the_port_goes_on_as_before() {
    let server = Server::start(&site, &["--header-timeout", "1s"]);
    let port = server.http.port();
    let request = format!("GET /x HTTP/1.1\r\nHost: nobody.test:{port}\r\nConnection: close\r\n\r\n");
    for size in [request.len(), 5, 1] {
        let answer = say(server.http, request.as_bytes().chunks(size));
        assert!(answer.starts_with(b"HTTP/1.1 404 "), "pieces of {size}: {}", String::from_utf8_lossy(&answer));
    }
    // One byte of a request and no more is a slow request.
    assert!(say(server.http, [&b"G"[..]]).starts_with(b"HTTP/1.1 408 "));
    // What is neither has HTTP's answer, whatever its first byte.
    for noise in [&b"\x80\x2e\x02\x03\x01\r\n\r\n"[..], b"\x17\x03\x03\r\n\r\n", b"\xff\xff\xff\r\n\r\n"] {
        let answer = say(server.http, [noise]);
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{noise:02x?}: {}", String::from_utf8_lossy(&answer));
    }
    let curl = program("curl")
        .args([
            "--silent",
            "--show-error",
            "--http2-prior-knowledge",
            "-w",
            "%{http_version} %{http_code}",
            "-o",
            "/dev/null",
        ])
        .arg(format!("http://127.0.0.1:{port}/x"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "2 404", "{curl:?}");
    assert_eq!(server.metric("handfast_tls_connections_accepted_total", &[]), 0.0);
    assert_eq!(entries(&server).len(), 0);
}

#[test]
fn behind_a_proxy_header_the_client_is_the_one_that_it_names() {
    let server = Server::start(&site, &["--proxy-protocol"]);
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.8 5000 80\r\n";
    let hello = hello("shop.test");
    let together = [header, &hello[..]].concat();
    let mut local = b"\r\n\r\n\0\r\nQUIT\n\x20\x31\x00\x05abcde".to_vec();
    local.extend_from_slice(&hello);
    assert_eq!(say(server.http, [&together[..]]), ALERT);
    assert_eq!(say(server.http, [&header[..], &hello[..1], &hello[1..]]), ALERT);
    assert_eq!(say(server.http, [&local[..]]), ALERT);
    wait_for_failures(&server, "shop.test", 3.0);
    let mut clients: Vec<(String, u64)> =
        entries(&server).into_iter().map(|entry| (entry.client, entry.count)).collect();
    clients.sort();
    assert_eq!(clients, [("127.0.0.1".to_owned(), 1), ("192.0.2.7".to_owned(), 2)]);
}
