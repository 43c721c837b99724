//! Every connection is counted once, and as what it was.
//!
//! Thousands of connections of every kind meet the real binary at once. Each client knows what it has to be counted as;
//! at the end the metrics must say the same, to the last one: by host, version and reason, in total and per worker.
//!
//! Nothing here depends on a race. A connection that is closed in an orderly way half-closes and reads to the end, so
//! that no unread byte turns the close into a reset; one that is reset comes after a byte that the server has sent, or
//! after bytes that the kernel keeps for it (Linux gives a reader what had arrived before it tells of the reset).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast::demo::pki::{Authority, KeyType};
use handfast::metrics::{Metrics, Values, values};
use handfast::tls::clients::client;
use handfast::tls::offer::{NamedServer, Offer};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, SupportedProtocolVersion};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::backend::Backend;
use crate::binary::{PATIENCE, Server, host, issue, service, soak, wait_until};
use crate::client_auth::{Identity, client_ca, identity};
use crate::handshake::Client;
use crate::hellos::{message, records};

/// What is counted, in words, and how often.
type Counts = BTreeMap<String, u64>;

/// What a connection does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A full handshake, and a request.
    Request(&'static SupportedProtocolVersion),
    /// A full handshake, and a clean end without a request.
    NoRequest(&'static SupportedProtocolVersion),
    /// A handshake that resumes the last one of this client, if there was one, and a request.
    Resume(&'static SupportedProtocolVersion),
    /// Shows a good certificate, and makes a request.
    Identified,
    /// Shows none, and should.
    Unidentified(&'static SupportedProtocolVersion),
    /// Shows the certificate of another CA.
    Stranger,
    /// A client that trusts another CA.
    Distrusts(&'static SupportedProtocolVersion),
    /// Sends bytes that end in a refusal.
    Refused(usize),
    /// Closes, or resets, in the middle of its hello.
    HalfHello { reset: bool },
    /// Sends a hello, hears the certificate and closes, or resets.
    Certificate { reset: bool, hello: usize },
    /// Hears the certificate, and then sends bytes.
    Answers(usize),
    /// Connects, and closes or resets.
    Probe { reset: bool },
    /// Waits for the deadline.
    Waits(Wait),
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    BeforeHello,
    InHello,
    AfterCertificate,
}

/// How often each kind comes, out of their sum.
const MIX: &[(u32, Kind)] = &[
    (30, Kind::Request(&TLS13)),
    (10, Kind::Request(&TLS12)),
    (20, Kind::NoRequest(&TLS13)),
    (10, Kind::NoRequest(&TLS12)),
    (25, Kind::Resume(&TLS13)),
    (25, Kind::Resume(&TLS12)),
    (10, Kind::Identified),
    (10, Kind::Unidentified(&TLS13)),
    (10, Kind::Unidentified(&TLS12)),
    (5, Kind::Stranger),
    (10, Kind::Distrusts(&TLS13)),
    (10, Kind::Distrusts(&TLS12)),
    (40, Kind::HalfHello { reset: false }),
    (40, Kind::HalfHello { reset: true }),
    (15, Kind::Certificate { reset: false, hello: 0 }),
    (15, Kind::Certificate { reset: false, hello: 1 }),
    (15, Kind::Certificate { reset: true, hello: 0 }),
    (15, Kind::Certificate { reset: true, hello: 1 }),
    (60, Kind::Probe { reset: false }),
    (60, Kind::Probe { reset: true }),
];
/// How often each row of [`refusals`] and [`answers`] comes.
const EACH: u32 = 15;
/// How many connections wait for each deadline.
const WAITING: usize = 15;

/// Bytes that are refused: the host that it is counted under, the reason, and the bytes.
fn refusals() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let chrome = &client("chrome-150").unwrap().offer;
    let to = |name: &str| Offer { server_name: NamedServer::Name(name.into()), ..chrome.clone() };
    let hello = |offer: Offer| records(&message(&offer), 16384);
    // Without versions it is TLS 1.2 at most.
    let old = |suites: &[u16]| Offer {
        suites: suites.to_vec(),
        versions: None,
        key_shares: None,
        psk_modes: None,
        legacy_version: 0x0303,
        ..to("shop.test")
    };
    let mut malformed = hello(to("shop.test"));
    // The length of the session id.
    malformed[43] = 200;
    vec![
        ("", "unknown-host", hello(to("nowhere.test"))),
        ("", "no-server-name", hello(Offer { server_name: NamedServer::Absent, ..chrome.clone() })),
        ("plain.test", "host-without-tls", hello(to("plain.test"))),
        ("refused.test", "host-refused", hello(to("refused.test"))),
        ("", "plain-http", b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        ("", "proxy-header", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec()),
        ("", "ssh", b"SSH-2.0-OpenSSH_9\r\n".to_vec()),
        ("", "sslv2", b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10".to_vec()),
        ("", "not-tls", b"\0\0\0\x01hello".to_vec()),
        ("", "client-alert", b"\x15\x03\x01\x00\x02\x02\x28".to_vec()),
        ("", "malformed-hello", malformed),
        ("shop.test", "no-shared-version", hello(Offer { legacy_version: 0x0301, ..old(&[0xc013, 0x002f]) })),
        ("shop.test", "static-rsa-only", hello(old(&[0x009c, 0x002f]))),
        ("shop.test", "cbc-only", hello(old(&[0xc009, 0xc013]))),
        ("shop.test", "no-shared-suite", hello(old(&[0x009e, 0xc0ac]))),
        ("shop.test", "wrong-certificate-type", hello(old(&[0xc02f]))),
        ("shop.test", "no-shared-group", hello(Offer { groups: Some(vec![0x001e]), ..to("shop.test") })),
        ("shop.test", "sha1-only", hello(Offer { schemes: None, ..old(&[0xc02b]) })),
        ("shop.test", "no-shared-signature-scheme", hello(Offer { schemes: Some(vec![0x0503]), ..to("shop.test") })),
        ("shop.test", "no-shared-alpn", hello(Offer { alpn: Some(vec![(*b"spdy/3").into()]), ..to("shop.test") })),
    ]
}

/// What a client says after it has heard the certificate, in clear (which is how TLS 1.2 does it): the reason, and the
/// bytes.
fn answers() -> Vec<(&'static str, Vec<u8>)> {
    let alert = |description: u8| vec![0x15, 3, 3, 0, 2, 2, description];
    vec![
        ("client-cancelled", alert(0)),
        ("crypto-mismatch", alert(51)),
        ("client-alert", alert(40)),
        ("rejected-unspecified", alert(42)),
        ("rejected-unsupported", alert(43)),
        ("rejected-revoked", alert(44)),
        ("rejected-expired", alert(45)),
        ("rejected-unspecified", alert(46)),
        ("rejected-unknown-ca", alert(48)),
        ("rejected-staple", alert(113)),
        ("unexpected-message", vec![0x16, 3, 3, 0, 4, 20, 0, 0, 0]),
    ]
}

/// Everything that connections need, made once.
struct Scene {
    https: SocketAddr,
    /// Connections made so far.
    connected: AtomicUsize,
    mix: Vec<(u32, Kind)>,
    refusals: Vec<(&'static str, &'static str, Vec<u8>)>,
    answers: Vec<(&'static str, Vec<u8>)>,
    /// Hellos of TLS 1.3 and of TLS 1.2 to `shop.test`.
    hellos: [Vec<u8>; 2],
    /// By version: 1.3, 1.2.
    trusting: [Arc<ClientConfig>; 2],
    distrusting: [Arc<ClientConfig>; 2],
    identified: Arc<ClientConfig>,
    stranger: Arc<ClientConfig>,
}

impl Scene {
    fn new(server: &Server, good: &Identity, strange: &Identity) -> Self {
        let config = |client: Client| {
            let mut config = (*client.config(&server.authority)).clone();
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        let of = |trusts| {
            [&TLS13, &TLS12].map(|version| config(Client { versions: vec![version], trusts, ..Client::default() }))
        };
        let shows = |identity: &Identity| config(Client { identity: Some(identity.der()), ..Client::default() });
        let trusting = of(true);
        let hello = |config: &Arc<ClientConfig>| {
            let mut client = rustls::ClientConnection::new(config.clone(), "shop.test".try_into().unwrap()).unwrap();
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            bytes
        };
        let (refusals, answers) = (refusals(), answers());
        let refused = (0..refusals.len()).map(|row| (EACH, Kind::Refused(row)));
        let answering = (0..answers.len()).map(|row| (EACH, Kind::Answers(row)));
        Self {
            https: server.https,
            connected: AtomicUsize::new(0),
            mix: MIX.iter().copied().chain(refused).chain(answering).collect(),
            hellos: [0, 1].map(|version| hello(&trusting[version])),
            trusting,
            distrusting: of(false),
            identified: shows(good),
            stranger: shows(strange),
            refusals,
            answers,
        }
    }

    /// What the connection of this number does; the same in every run.
    fn kind(&self, number: usize) -> Kind {
        let sum = self.mix.iter().map(|(weight, _)| weight).sum();
        let mut drawn = fastrand::Rng::with_seed(number as u64).u32(0..sum);
        for (weight, kind) in &self.mix {
            match drawn.checked_sub(*weight) {
                Some(rest) => drawn = rest,
                None => return *kind,
            }
        }
        unreachable!("the number drawn is below the sum")
    }

    /// Makes a connection, and says what it has to be counted as.
    async fn connect(&self, kind: Kind, resuming: &[Arc<ClientConfig>; 2]) -> String {
        match kind {
            Kind::Request(version) => request(self, &self.trusting[of(version)], "shop.test").await,
            Kind::Resume(version) => request(self, &resuming[of(version)], "shop.test").await,
            Kind::Identified => request(self, &self.identified, "robots.test").await,
            Kind::NoRequest(version) => {
                let tcp = self.tcp().await;
                let name = ServerName::try_from("shop.test").unwrap();
                let mut stream =
                    TlsConnector::from(self.trusting[of(version)].clone()).connect(name, tcp).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                format!("{}, silent", completed("shop.test", &stream))
            }
            Kind::Unidentified(version) => {
                self.turned_away(&self.trusting[of(version)], "robots.test").await;
                failed("robots.test", "client-certificate-missing")
            }
            Kind::Stranger => {
                self.turned_away(&self.stranger, "robots.test").await;
                failed("robots.test", "client-certificate-unknown-ca")
            }
            Kind::Distrusts(version) => {
                self.turned_away(&self.distrusting[of(version)], "shop.test").await;
                failed("shop.test", "rejected-unknown-ca")
            }
            Kind::Refused(row) => {
                let (host, reason, bytes) = &self.refusals[row];
                let mut tcp = self.send(bytes).await;
                read_to_end(&mut tcp).await;
                failed(host, reason)
            }
            Kind::HalfHello { reset } => {
                let hello = &self.hellos[0];
                let tcp = self.send(&hello[..hello.len() / 2]).await;
                end(tcp, reset).await;
                failed("", if reset { "reset-in-hello" } else { "closed-in-hello" })
            }
            Kind::Certificate { reset, hello } => {
                let tcp = self.hear_certificate(hello).await;
                end(tcp, reset).await;
                failed("shop.test", if reset { "reset-after-certificate" } else { "closed-after-certificate" })
            }
            Kind::Answers(row) => {
                let (reason, bytes) = &self.answers[row];
                let mut tcp = self.hear_certificate(1).await;
                tcp.write_all(bytes).await.unwrap();
                read_to_end(&mut tcp).await;
                failed("shop.test", reason)
            }
            Kind::Probe { reset } => {
                let tcp = self.tcp().await;
                end(tcp, reset).await;
                "probe".into()
            }
            Kind::Waits(wait) => {
                let (mut tcp, host, reason) = match wait {
                    Wait::BeforeHello => (self.send(b"").await, "", "timeout-before-hello"),
                    Wait::InHello => (self.send(&self.hellos[0][..9]).await, "", "timeout-in-hello"),
                    Wait::AfterCertificate => {
                        (self.hear_certificate(0).await, "shop.test", "timeout-after-certificate")
                    }
                };
                read_to_end(&mut tcp).await;
                failed(host, reason)
            }
        }
    }

    async fn tcp(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.https).await.unwrap();
        self.connected.fetch_add(1, Ordering::Relaxed);
        tcp
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut tcp = self.tcp().await;
        tcp.write_all(bytes).await.unwrap();
        tcp
    }

    /// A connection on which the server's answer to a hello has begun to arrive.
    async fn hear_certificate(&self, hello: usize) -> TcpStream {
        let mut tcp = self.send(&self.hellos[hello]).await;
        assert_eq!(tcp.read_u8().await.unwrap(), 0x16);
        tcp
    }

    /// A handshake that fails for the client, or, in TLS 1.3, with its first read.
    async fn turned_away(&self, config: &Arc<ClientConfig>, name: &'static str) {
        let tcp = self.tcp().await;
        let name = ServerName::try_from(name).unwrap();
        if let Ok(mut stream) = TlsConnector::from(config.clone()).connect(name, tcp).await {
            stream.read_u8().await.expect_err("the server ends it");
        }
    }
}

fn of(version: &'static SupportedProtocolVersion) -> usize {
    usize::from(version.version == ProtocolVersion::TLSv1_2)
}

fn failed(host: &str, reason: &str) -> String {
    format!("failed {host} {reason}")
}

fn completed(host: &str, stream: &tokio_rustls::client::TlsStream<TcpStream>) -> String {
    let connection = stream.get_ref().1;
    let version = if connection.protocol_version() == Some(ProtocolVersion::TLSv1_2) { "1.2" } else { "1.3" };
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    format!("completed {host} {version} resumed={resumed}")
}

async fn request(scene: &Scene, config: &Arc<ClientConfig>, host: &'static str) -> String {
    let tcp = scene.tcp().await;
    let name = ServerName::try_from(host).unwrap();
    let mut stream = TlsConnector::from(config.clone()).connect(name, tcp).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    completed(host, &stream)
}

async fn end(mut tcp: TcpStream, reset: bool) {
    if reset {
        // Closing with a linger of nothing is a reset.
        SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
        return;
    }
    tcp.shutdown().await.unwrap();
    read_to_end(&mut tcp).await;
}

async fn read_to_end(tcp: &mut TcpStream) {
    let mut rest = Vec::new();
    tcp.read_to_end(&mut rest).await.unwrap();
}

/// Hosts of each kind that connections need.
fn hosts(backend: SocketAddr, clients_ca: &str) -> impl Fn(&Authority) -> Vec<(String, String)> {
    move |authority| {
        let issue = |name| issue(authority, &[name], KeyType::EcdsaP256);
        let clients = serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "clients"},
            "stringData": {"ca.crt": clients_ca}});
        let strict = serde_json::json!({"apiVersion": "handfast.dev/v1alpha1", "kind": "TlsPolicy",
            "metadata": {"name": "strict"}, "spec": {"clientAuth": {"mode": "required", "caSecret": "clients"}}});
        let (refused, text) = host("refused", "refused.test", Some(&issue("refused.test")), "echo", "");
        vec![
            host("shop", "shop.test", Some(&issue("shop.test")), "echo", ""),
            host("robots", "robots.test", Some(&issue("robots.test")), "echo", "handfast.dev/tls-policy: strict"),
            host("plain", "plain.test", None, "echo", ""),
            // Without its Secret, and without a default certificate.
            (refused, text.split("---").next().unwrap().to_owned()),
            service("echo", &[backend]),
            ("policy.yaml".into(), format!("{clients}\n---\n{strict}\n")),
        ]
    }
}

/// The deadline of handshakes: long enough for a machine that is busy with everything else, and short enough to wait for.
const DEADLINE: &str = "20s";

struct Played {
    server: Server,
    scene: Arc<Scene>,
    /// Keeps the backend running.
    backend: Backend,
}

fn play() -> Played {
    let backend = Backend::start("one");
    let ca = client_ca("Clients");
    let args = ["--workers", "2", "--handshake-timeout", DEADLINE];
    let server = Server::start(&hosts(backend.address, &ca.pem()), &args);
    let scene = Arc::new(Scene::new(&server, &identity(&ca), &identity(&client_ca("Strangers"))));
    Played { server, scene, backend }
}

/// Makes connections, many at a time, from two threads; what they have to be counted as.
fn connect_many(scene: &Arc<Scene>, count: usize) -> Counts {
    const AT_A_TIME: usize = 24;
    let next = Arc::new(AtomicUsize::new(0));
    let counts = Arc::new(Mutex::new(Counts::new()));
    let thread = || {
        let (scene, next, counts) = (scene.clone(), next.clone(), counts.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let tasks = (0..AT_A_TIME).map(|_| {
                    let (scene, next, counts) = (scene.clone(), next.clone(), counts.clone());
                    tokio::spawn(async move {
                        let resuming = [0, 1].map(|version| {
                            let mut config = (*scene.trusting[version]).clone();
                            config.resumption = Resumption::in_memory_sessions(8);
                            Arc::new(config)
                        });
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= count {
                                return;
                            }
                            let kind = scene.kind(number);
                            let connection = tokio::time::timeout(PATIENCE, scene.connect(kind, &resuming));
                            let counted = connection.await.unwrap_or_else(|_| panic!("{number}, {kind:?}: no end"));
                            *counts.lock().unwrap().entry(counted).or_default() += 1;
                        }
                    })
                });
                for task in tasks.collect::<Vec<_>>() {
                    task.await.unwrap();
                }
            });
        })
    };
    for thread in [thread(), thread()] {
        thread.join().unwrap();
    }
    let counts = counts.lock().unwrap();
    counts.clone()
}

/// Makes these connections all at once, in the background.
fn connect_at_once(scene: &Arc<Scene>, kinds: Vec<Kind>) -> std::thread::JoinHandle<Counts> {
    let scene = scene.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connect = |kind| {
                let scene = scene.clone();
                tokio::spawn(async move {
                    let connection = tokio::time::timeout(PATIENCE, scene.connect(kind, &scene.trusting));
                    connection.await.unwrap_or_else(|_| panic!("{kind:?}: no end"))
                })
            };
            let mut counts = Counts::new();
            for task in kinds.into_iter().map(connect).collect::<Vec<_>>() {
                *counts.entry(task.await.unwrap()).or_default() += 1;
            }
            counts
        })
    })
}

/// The samples of a metric: labels and value.
fn samples(text: &str, name: &str) -> Vec<(BTreeMap<String, String>, u64)> {
    let sample = |line: &str| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        let (labels, value) = rest.rsplit_once(' ').unwrap();
        let labels =
            labels.trim_start_matches('{').trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let label = |label: &str| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        };
        Some((labels.map(label).collect(), value.parse().unwrap()))
    };
    text.lines().filter_map(sample).collect()
}

fn sum(text: &str, name: &str) -> u64 {
    samples(text, name).iter().map(|(_, value)| value).sum()
}

/// What the server has counted, in the words of the clients.
fn counted(text: &str) -> Counts {
    let mut counts = Counts::new();
    let mut add = |words: String, count: u64| *counts.entry(words).or_default() += count;
    for (labels, count) in samples(text, "handfast_tls_handshake_failures_total") {
        add(failed(&labels["host"], &labels["reason"]), count);
    }
    let silent = samples(text, "handfast_tls_established_without_request_total");
    for (labels, count) in &silent {
        add(format!("silent {}", labels["host"]), *count);
    }
    for (labels, count) in samples(text, "handfast_tls_handshakes_total") {
        let words = format!("completed {} {} resumed={}", labels["host"], labels["version"], labels["resumed"]);
        add(words, count);
    }
    add("probe".into(), sum(text, "handfast_tls_probes_total"));
    counts.retain(|_, count| *count > 0);
    counts
}

/// What clients say, in the form of [`counted`]: one that was silent is counted twice, and as a failure not at all.
fn expected(all: &[Counts]) -> Counts {
    let mut counts = Counts::new();
    for (words, count) in all.iter().flatten() {
        let words = match words.strip_suffix(", silent") {
            Some(words) => {
                *counts.entry(format!("silent {}", words.split(' ').nth(1).unwrap())).or_default() += count;
                words
            }
            None => words,
        };
        *counts.entry(words.to_owned()).or_default() += count;
    }
    counts
}

/// Accepted = completed + failed + probes, in total and for each worker.
fn add_up(text: &str) {
    let accepted = sum(text, "handfast_tls_connections_accepted_total");
    let completed = sum(text, "handfast_tls_handshakes_total");
    let failed = sum(text, "handfast_tls_handshake_failures_total");
    let probes = sum(text, "handfast_tls_probes_total");
    assert_eq!(accepted, completed + failed + probes, "{text}");
    let mut workers: BTreeMap<String, Counts> = BTreeMap::new();
    for (labels, count) in samples(text, "handfast_worker_tls_connections_accepted_total") {
        workers.entry(labels["worker"].clone()).or_default().insert("accepted".to_owned(), count);
    }
    for (labels, count) in samples(text, "handfast_worker_tls_connections_ended_total") {
        workers.entry(labels["worker"].clone()).or_default().insert(labels["outcome"].clone(), count);
    }
    assert_eq!(workers.len(), 2);
    let of = |outcome: &str| workers.values().map(|counts| counts.get(outcome).copied().unwrap_or(0)).sum::<u64>();
    assert_eq!(
        [of("accepted"), of("completed"), of("failed"), of("probe")],
        [accepted, completed, failed, probes],
        "{workers:?}"
    );
    for (worker, counts) in &workers {
        let ended: u64 = counts.iter().filter(|(outcome, _)| *outcome != "accepted").map(|(_, count)| count).sum();
        assert_eq!(counts["accepted"], ended, "worker {worker}: {counts:?}");
        assert!(ended > 0, "worker {worker} has done nothing");
    }
}

/// Every label has one of the values that the page of metrics names.
fn labels_are_closed(text: &str) {
    let mut judged = 0;
    for about in Metrics::default().about().iter().filter(|about| about.kind != "histogram") {
        for (labels, _) in samples(text, &about.name) {
            for (label, value) in labels {
                let Some(Values::Words(words)) = values(&about.name, &label) else { continue };
                assert!(words.contains(&value.to_string()), "{}: {label}={value}", about.name);
                judged += 1;
            }
        }
    }
    assert!(judged > 50, "{judged}");
}

/// Waits until the server has seen the end of all connections but these, and returns its metrics.
fn at_rest(server: &Server, accepted: u64, open: u64) -> String {
    let mut text = String::new();
    let active = |text: &str| {
        let active = samples(text, "handfast_connections_active").into_iter();
        active.filter(|(labels, _)| labels["listener"] == "https").map(|(_, count)| count).sum::<u64>()
    };
    wait_until("all connections have ended", || {
        text = server.admin("/metrics").1;
        sum(&text, "handfast_tls_connections_accepted_total") >= accepted
            && sum(&text, "handfast_tls_handshakes_in_progress") == 0
            && active(&text) == open
    });
    text
}

#[test]
fn every_connection_is_counted_once_and_as_what_it_was() {
    let count = if soak() { 100_000 } else { 10_000 };
    let Played { server, scene, backend } = play();
    let waits = [Wait::BeforeHello, Wait::InHello, Wait::AfterCertificate].into_iter().map(Kind::Waits);
    let waiting = connect_at_once(&scene, waits.cycle().take(3 * WAITING).collect());

    let making = std::thread::spawn({
        let scene = scene.clone();
        move || connect_many(&scene, count)
    });
    // Meanwhile the configuration changes: other certificates, other routes; as fast as it is taken up.
    let compiles = || server.metric("handfast_compiles_total", &[]);
    for round in 0.. {
        let before = compiles();
        let issued = issue(&server.authority, &["shop.test"], KeyType::EcdsaP256);
        let annotations = format!("nginx.ingress.kubernetes.io/proxy-body-size: {}m", round % 7 + 1);
        let (name, text) = host("shop", "shop.test", Some(&issued), "echo", &annotations);
        server.write(&name, &text);
        wait_until("the change is compiled", || compiles() > before);
        if making.is_finished() {
            break;
        }
    }
    let made = making.join().unwrap();
    let waited = waiting.join().unwrap();

    let connections: u64 = made.values().chain(waited.values()).sum();
    assert_eq!(connections, (count + 3 * WAITING) as u64);
    let text = at_rest(&server, connections, 0);
    assert_eq!(sum(&text, "handfast_tls_connections_accepted_total"), connections);
    let expected = expected(&[made, waited]);
    assert_eq!(counted(&text), expected);
    add_up(&text);
    labels_are_closed(&text);
    assert_eq!(sum(&text, "handfast_panics_total"), 0);
    assert!(sum(&text, "handfast_compiles_total") > 3, "the configuration did not change");
    // The mix has what it says it has.
    for words in ["completed shop.test 1.3 resumed=true", "completed shop.test 1.2 resumed=true", "silent shop.test"] {
        assert!(expected.contains_key(words), "{words}: {expected:?}");
    }
    assert!(expected.len() > 40, "{expected:?}");
    drop(backend);
}

#[test]
fn connections_that_a_drain_still_takes_are_counted_as_any_other() {
    const QUEUED: usize = 400;
    let Played { mut server, scene, backend } = play();
    // A request that lasts keeps the process, and with it the metrics, until all has been looked at.
    let lasting = std::thread::spawn({
        let (https, root) = (server.https, server.authority.root());
        move || {
            let tcp = std::net::TcpStream::connect(https).unwrap();
            handfast::demo::client::get_over(tcp, "shop.test", "/wait", &root, &TLS13).unwrap().status
        }
    });
    wait_until("the request has arrived", || backend.requests() == 1);
    // While the process stands still, the kernel accepts for it.
    server.signal("STOP");
    let queued = connect_at_once(&scene, (0..QUEUED).map(|number| scene.kind(number)).collect());
    wait_until("all are connected", || scene.connected.load(Ordering::Relaxed) == QUEUED);
    server.signal("TERM");
    server.signal("CONT");
    let mut made = queued.join().unwrap();
    *made.entry("completed shop.test 1.3 resumed=false".into()).or_default() += 1;
    let text = at_rest(&server, QUEUED as u64 + 1, 1);
    // Who is silent while we drain says nothing by it: we close such connections.
    let mut expected = expected(&[made]);
    expected.retain(|words, _| !words.starts_with("silent"));
    assert_eq!(counted(&text), expected);
    add_up(&text);
    backend.go.cancel();
    assert_eq!(lasting.join().unwrap(), 200);
    assert!(server.wait().success());
}
