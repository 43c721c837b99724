//! Limits under attack: who only waits loses its place, and those who mean it notice nothing.
//!
//! Each test has good clients between the attacker's connections, and counts: all of them succeed, and what the attack
//! holds stays bounded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use handfast::demo::pki::{Authority, KeyType};
use handfast::keylog::KeyLog;
use handfast::places::Notice;
use handfast::proxy::handshake::{NotEstablished, handshake};
use handfast::snapshot::RouteOptions;
use handfast::tls::reason::Reason;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::Backend;
use crate::binary::{PATIENCE, Server, host, issue, page, service, wait_until};
use crate::handshake::{World, places_for, terms};
use crate::http_support::{Proxy, Site, Start, Upstream, read_head, read_response, read_to_end, status, until};

fn shop(backend: SocketAddr) -> impl Fn(&Authority) -> Vec<(String, String)> {
    move |authority| {
        vec![
            host("shop", "shop.test", Some(&issue(authority, &["shop.test"], KeyType::EcdsaP256)), "echo", ""),
            host("plain", "plain.test", None, "echo", ""),
            service("echo", &[backend]),
        ]
    }
}

/// A good client of HTTPS: a new connection and a request that is answered.
fn https(server: &Server) {
    let ca = std::fs::read_to_string(server.ca()).unwrap();
    let answer = handfast::demo::client::get(server.https, "shop.test", "/", &ca, &TLS13);
    assert_eq!(answer.unwrap().status, 200);
}

/// A good client of HTTP.
fn http(server: &Server) {
    assert_eq!(handfast::demo::client::get_plain(server.http, "plain.test", "/").unwrap().status, 200);
}

/// The probes of the kubelet, and a scrape.
fn admin(server: &Server) {
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(page(server.admin, path).0, 200, "{path}");
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Connects and says this.
fn say(address: SocketAddr, words: &str) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(words.as_bytes()).unwrap();
    stream
}

/// Reads until the server has closed.
fn rest(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was not read on the other side makes the end a reset.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// A client that says hello, gets its answer and goes silent.
fn half_a_handshake(server: &Server, version: &'static SupportedProtocolVersion) -> (TcpStream, ClientConnection) {
    let (mut stream, mut client) = client(server, version);
    client.write_tls(&mut stream).unwrap();
    // The first byte says that the handshake has its place.
    stream.peek(&mut [0]).unwrap();
    (stream, client)
}

/// A client that completes its handshake and goes silent.
fn established(server: &Server) -> (TcpStream, ClientConnection) {
    let (mut stream, mut client) = client(server, &TLS13);
    while client.is_handshaking() {
        client.complete_io(&mut stream).unwrap();
    }
    (stream, client)
}

fn client(server: &Server, version: &'static SupportedProtocolVersion) -> (TcpStream, ClientConnection) {
    let mut roots = RootCertStore::empty();
    let ca = std::fs::read(server.ca()).unwrap();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(&ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), "shop.test".try_into().unwrap()).unwrap();
    (connect(server.https), client)
}

/// A complete hello takes a place, from the one that has waited longest; a silent connection does not.
pub async fn too_many(world: &World, hello: &[u8]) -> Reason {
    let places = places_for(1);
    let begin = async |bytes: &[u8]| {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(bytes).await.unwrap();
        (ours, theirs)
    };
    let (silent, _silent) = begin(b"").await;
    let (first, _first) = begin(hello).await;
    let (second, _second) = begin(hello).await;
    let keylog = KeyLog::default();
    let notices = [Notice::default(), Notice::default(), Notice::default()];
    let all = notices.each_ref().map(|notice| terms(world, &places, notice, &keylog));
    tokio::select! {
        biased;
        result = handshake(first, Vec::new(), &all[0]) => match result {
            Err(NotEstablished::Failed(failure)) => {
                assert!(notices[0].is_told() && !notices[1].is_told() && !notices[2].is_told());
                failure.reason
            }
            _ => panic!("the first one has to go"),
        },
        _ = handshake(silent, Vec::new(), &all[1]) => panic!("a silent client waits"),
        _ = handshake(second, Vec::new(), &all[2]) => panic!("the second client has its place"),
    }
}

/// The alert that a client finds at the end.
fn alert((mut stream, mut client): (TcpStream, ClientConnection)) -> Option<AlertDescription> {
    loop {
        match client.read_tls(&mut stream) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return None,
        }
        match client.process_new_packets() {
            Ok(state) if state.peer_has_closed() => return Some(AlertDescription::CloseNotify),
            Ok(_) => {}
            Err(rustls::Error::AlertReceived(alert)) => return Some(alert),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn half_handshakes_cost_good_clients_nothing_and_end_with_an_alert() {
    const PLACES: usize = 8;
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &["--workers", "1", "--max-handshakes", "8"]);
    let mut attackers = Vec::new();
    let mut good = 0;
    for round in 0..20 {
        for _ in 0..5 {
            attackers.push(half_a_handshake(&server, if round % 2 == 0 { &TLS13 } else { &TLS12 }));
        }
        https(&server);
        good += 1;
    }
    let evicted = (attackers.len() - PLACES) as f64;
    let labels = [r#"reason="evicted""#, r#"blame="server""#, r#"host="shop.test""#];
    // The newest good client has left a place.
    wait_until("all but those who have places have ended", || {
        let ended = server.metric("handfast_tls_handshake_failures_total", &labels);
        assert!(ended <= evicted + 1.0, "{ended}");
        ended >= evicted
    });
    assert_eq!(server.metric("handfast_tls_handshakes_total", &[]), f64::from(good));
    assert_eq!(server.metric("handfast_places_refused_total", &[]), 0.0);
    for (index, attacker) in attackers.drain(..PLACES * 10).enumerate() {
        let expected = match index / 5 % 2 {
            // Encrypted, and the only alert that can be there.
            0 => AlertDescription::CloseNotify,
            _ => AlertDescription::InternalError,
        };
        assert_eq!(alert(attacker), Some(expected), "{index}");
    }
}

#[test]
fn idle_connections_to_one_listener_leave_the_other_all_it_needs() {
    const PLACES: usize = 40;
    let backend = Backend::start("one");
    let server = Server::start(&shop(backend.address), &["--workers", "1", "--max-connections", "40"]);
    let kept = "GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n";
    let ways = ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n", kept, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"];
    let mut attackers = Vec::new();
    for way in ways {
        for _ in 0..PLACES {
            let stream = say(server.http, way);
            if way == kept {
                stream.peek(&mut [0]).unwrap();
            }
            attackers.push(stream);
        }
        for _ in 0..5 {
            https(&server);
            http(&server);
        }
        wait_until("those who have no place are gone, but for a few", || {
            server.metric("handfast_connections_active", &[r#"listener="http""#]) <= (PLACES + PLACES / 8) as f64
        });
    }
    for attacker in &attackers[..PLACES * 3] {
        rest(attacker);
    }
    // The same the other way round: silent connections, and handshakes that go on.
    let silent: Vec<_> = (0..PLACES).map(|_| connect(server.https)).collect();
    let half: Vec<_> = (0..PLACES).map(|_| half_a_handshake(&server, &TLS12)).collect();
    let unused: Vec<_> = (0..PLACES).map(|_| established(&server)).collect();
    // The same again, so that all of these lose their places.
    let more: Vec<_> = (0..PLACES).map(|_| established(&server)).collect();
    for _ in 0..5 {
        https(&server);
        http(&server);
    }
    for attacker in &silent {
        assert_eq!(rest(attacker), [0x15, 3, 3, 0, 2, 2, 80], "internal_error");
    }
    for attacker in half {
        assert_eq!(alert(attacker), Some(AlertDescription::InternalError));
    }
    for attacker in unused {
        assert_eq!(alert(attacker), Some(AlertDescription::CloseNotify));
    }
    assert_eq!(server.metric("handfast_places_refused_total", &[]), 0.0);
    // They did not reject the certificate: we ended them.
    assert_eq!(server.metric("handfast_tls_established_without_request_total", &[]), 0.0);
    assert!(server.metric("handfast_places_evicted_total", &[r#"places="http""#]) >= (PLACES * 4) as f64);
    assert!(server.metric("handfast_places_evicted_total", &[r#"places="https""#]) >= PLACES as f64);
    admin(&server);
    drop(more);
}

/// An endpoint that answers `/slow` when it is told to, and everything else at once.
async fn slow(go: &tokio_util::sync::CancellationToken) -> Upstream {
    let go = go.clone();
    Upstream::start(move |mut stream, _, seen| {
        let go = go.clone();
        async move {
            while let Some(head) = read_head(&mut stream, &seen).await {
                if head.starts_with("GET /slow ") {
                    go.cancelled().await;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_runs_is_never_ended_for_a_newcomer_and_what_is_idle_ends_in_good_order() {
    let go = tokio_util::sync::CancellationToken::new();
    let endpoint = slow(&go).await;
    let site = Site::simple("shop", &[endpoint.address]);
    let proxy = Proxy::start_with(site, Start { places: 4, ..Start::default() }).await;
    let evicted = || proxy.metrics.places_evicted.with_label_values(&["http"]).get();
    // One request of each version runs, and one connection of each version is idle.
    let mut running = proxy.connect().await;
    running.write_all(b"GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    let mut running2 = proxy.http2::<Empty<Bytes>>().await;
    let response = running2.send_request(Request::get("http://shop/slow").body(Empty::new()).unwrap());
    let response = tokio::spawn(response);
    until("both run", || endpoint.seen().matches("GET /slow ").count() == 2).await;
    let mut idle2 = proxy.http2::<Empty<Bytes>>().await;
    let first = idle2.send_request(Request::get("http://shop/").body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "ok");
    let mut idle = proxy.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    assert_eq!(status(&read_response(&mut idle).await), 200);
    // Each newcomer gets an answer; the first takes the place of the connection that has been idle for longest.
    assert_eq!(status(&proxy.get("shop", "/").await), 200);
    until("GOAWAY", || idle2.is_closed()).await;
    assert_eq!(evicted(), 1);
    let silent = proxy.connect().await;
    until("it has its place", || proxy.open.load(std::sync::atomic::Ordering::Relaxed) == 4).await;
    for _ in 0..10 {
        assert_eq!(status(&proxy.get("shop", "/").await), 200);
    }
    assert_eq!(read_to_end(&mut idle).await, "", "closed between two requests");
    drop(silent);
    go.cancel();
    assert!(read_response(&mut running).await.ends_with("ok"));
    let response = response.await.unwrap().unwrap();
    assert_eq!(
        (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes()),
        (200, "ok".into())
    );
}

#[tokio::test]
async fn a_response_that_its_client_takes_slowly_is_work() {
    let endpoint = Upstream::start(|mut stream, _, seen| async move {
        let size = 8 << 20;
        read_head(&mut stream, &seen).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&vec![b'x'; size]).await;
    })
    .await;
    let site = Site::simple("shop", &[endpoint.address]).route("shop", "/none", "none", RouteOptions::default());
    let proxy = Proxy::start_with(site, Start { places: 2, ..Start::default() }).await;
    let mut slow = proxy.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await.unwrap();
    slow.read_exact(&mut [0; 100]).await.unwrap();
    for _ in 0..10 {
        assert_eq!(status(&proxy.get("shop", "/none").await), 503);
    }
    // Everybody else waits until all has left us but what this client has not read.
    let mut rest = vec![0; 7 << 20];
    slow.read_exact(&mut rest).await.unwrap();
    for _ in 0..10 {
        assert_eq!(status(&proxy.get("shop", "/none").await), 503);
    }
    assert!(read_to_end(&mut slow).await.len() > 900_000);
}

#[test]
fn the_limit_on_open_files_is_raised_and_shared_so_that_nothing_stops_where_it_is_low() {
    let backend = Backend::start("one");
    let limits = |server: &Server| {
        let text = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
        line.split_whitespace().skip(3).take(2).map(|word| word.parse().unwrap()).collect::<Vec<u32>>()
    };
    let server = Server::start_with_files(&shop(backend.address), &["--workers", "1"], Some((64, 512)));
    assert_eq!(limits(&server), [512, 512]);
    drop(server);

    let rows: [&[&str]; 2] = [&["--workers", "1"], &["--workers", "1", "--max-connections", "100000"]];
    for args in rows {
        let server = Server::start_with_files(&shop(backend.address), args, Some((256, 256)));
        let mut attackers = Vec::new();
        for _ in 0..5 {
            attackers.extend((0..60).map(|_| connect(server.http)));
            https(&server);
            http(&server);
            admin(&server);
        }
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
        assert!(open < 256, "{open} files");
        assert!(server.metric("handfast_places_evicted_total", &[r#"places="http""#]) > 100.0);
    }
}

#[test]
fn a_low_limit_on_open_files_is_said_with_its_remedy() {
    let backend = Backend::start("one");
    let server = Server::start_with_files(&shop(backend.address), &["--workers", "1"], Some((256, 256)));
    assert!(server.log().contains("The limit on open files is low: each worker takes"), "{}", server.log());
    let args = ["--workers", "1", "--max-connections", "100000"];
    let server = Server::start_with_files(&shop(backend.address), &args, Some((256, 256)));
    let log = server.log();
    assert!(log.contains("--max-connections 100000 needs more open files") && log.contains("LimitNOFILE"), "{log}");
}

#[test]
fn whoever_holds_the_admin_port_keeps_no_probe_out() {
    let backend = Backend::start("one");
    // With so few files the admin port has sixteen places.
    let server = Server::start_with_files(&shop(backend.address), &["--workers", "1"], Some((256, 256)));
    let ways = [
        "",
        "GET /healthz HTTP/1.1\r\nhost: x\r\n",
        "POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ];
    let mut attackers = Vec::new();
    for way in ways {
        for _ in 0..40 {
            let stream = say(server.admin, way);
            attackers.push(stream);
        }
        for _ in 0..5 {
            admin(&server);
        }
    }
    let evicted = |places: &str| server.metric("handfast_places_evicted_total", &[&format!("places=\"{places}\"")]);
    assert!(evicted("admin") > 40.0);
    assert_eq!(server.metric("handfast_places_refused_total", &[]), 0.0);
}
