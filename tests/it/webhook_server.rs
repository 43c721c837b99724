//! The webhook's server: TLS, limits, what is counted, and that it never stands in anybody's way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use handfast::clock::Clock;
use handfast::compile::{Change, Compiler, Options, Scope};
use handfast::config::{Cli, Command, WebhookArgs};
use handfast::demo::pki::{Authority, Issued, KeyType};
use handfast::metrics::Metrics;
use handfast::reconcile::{Batching, Message, Outputs, Publication, run};
use handfast::snapshot;
use handfast::source::Event;
use handfast::state::Sink;
use handfast::webhook::{self, Webhook, WebhookError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::binary::wait_until;
use crate::manifests::{NOW, at, objects, trust_anchors};
use crate::pki::Ca;

/// A webhook on loopback, with a reconciler behind it.
struct Server {
    address: SocketAddr,
    metrics: Metrics,
    inbox: mpsc::Sender<Message>,
    end: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    authority: Authority,
    _folder: tempfile::TempDir,
}

fn issue(authority: &Authority) -> Issued {
    authority.issue(&["handfast-webhook.ingress.svc"], KeyType::EcdsaP256, at(NOW), -10..80).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

fn args(more: &[&str]) -> WebhookArgs {
    let args = ["handfast", "run"].iter().chain(more);
    match Cli::parse_from(args).command {
        Command::Run(args) => args.webhook,
        other => panic!("{other:?}"),
    }
}

/// What `args` sets up, as long as it is not started.
fn parts(args: WebhookArgs, end: &CancellationToken) -> (Webhook, mpsc::Receiver<Message>) {
    let (inbox, messages) = mpsc::channel();
    let clock: Clock = Arc::new(|| at(NOW));
    let webhook = Webhook {
        listener: handfast::proxy::listener::listen("127.0.0.1:0".parse().unwrap(), 1, "x", "--x").unwrap().remove(0),
        args,
        cluster: None,
        inbox,
        watched: Arc::new(|_| true),
        metrics: Metrics::default(),
        clock,
        end: end.clone(),
    };
    (webhook, messages)
}

impl Server {
    async fn start(client_ca: Option<&str>, more: &[&str]) -> Self {
        let (mut server, messages) = Self::alone(client_ca, more).await;
        server.threads.insert(0, reconcile(messages, server.metrics.clone()));
        server
    }

    /// With the inbox of a reconciler that is not there.
    async fn alone(client_ca: Option<&str>, more: &[&str]) -> (Self, mpsc::Receiver<Message>) {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("Webhook", at(NOW)).unwrap();
        let issued = issue(&authority);
        let certificate = write(folder.path(), "tls.crt", &issued.chain());
        let key = write(folder.path(), "tls.key", &issued.key);
        let mut list = vec!["--webhook-cert", certificate.to_str().unwrap(), "--webhook-key", key.to_str().unwrap()];
        let client_ca = client_ca.map(|pem| write(folder.path(), "client-ca.crt", pem));
        if let Some(file) = &client_ca {
            list.extend(["--webhook-client-ca", file.to_str().unwrap()]);
        }
        list.extend(more);
        let end = CancellationToken::new();
        let (webhook, messages) = parts(args(&list), &end);
        let (address, metrics, inbox) =
            (webhook.listener.local_addr().unwrap(), webhook.metrics.clone(), webhook.inbox.clone());
        let threads = vec![webhook::start(webhook).unwrap()];
        inbox.send(Event::Change(Change::Replace(Scope("test".into()), objects(WORLD))).into()).unwrap();
        (Self { address, metrics, inbox, end, threads, authority, _folder: folder }, messages)
    }

    fn synced(self) -> Self {
        self.inbox.send(Event::Synced.into()).unwrap();
        wait_until("a first compilation", || self.metrics.compiles.get() == 1);
        self
    }

    /// A client that trusts the server's authority.
    fn client(&self, identity: Option<(&str, &str)>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.root().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(TheTime));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        }
    }

    async fn connect(&self, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("handfast-webhook.ingress.svc").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends text and reads to the end.
    async fn exchange(&self, config: ClientConfig, text: &[u8]) -> std::io::Result<String> {
        let mut stream = self.connect(config).await?;
        stream.write_all(text).await?;
        let mut answer = Vec::new();
        let result = stream.read_to_end(&mut answer).await;
        // Without close_notify is still an answer.
        if answer.is_empty() {
            result?;
        }
        Ok(String::from_utf8(answer).unwrap())
    }

    async fn post(&self, path: &str, body: &str) -> String {
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.exchange(self.client(None), text.as_bytes()).await.unwrap()
    }

    fn count(&self, kind: &str, outcome: &str) -> u64 {
        self.metrics.webhook_requests.with_label_values(&[kind, outcome]).get()
    }

    fn finish(self) {
        let Self { end, threads, inbox, .. } = self;
        end.cancel();
        drop(inbox);
        threads.into_iter().rev().for_each(|thread| thread.join().unwrap());
    }
}

/// The time of the tests, which is that of their certificates.
#[derive(Debug)]
struct TheTime;

impl TimeProvider for TheTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(at(NOW))
    }
}

fn reconcile(messages: mpsc::Receiver<Message>, metrics: Metrics) -> JoinHandle<()> {
    let (publisher, _) = snapshot::channel(Arc::default());
    let (publications, _) = watch::channel(None::<Publication>);
    let outputs = Outputs { publisher, publications, metrics, state: Sink::default() };
    let options = Options { watch_without_class: true, trust_anchors: trust_anchors(), ..Options::default() };
    let batching =
        Batching { quiet: Duration::from_millis(1), longest: Duration::from_millis(10), ..Batching::default() };
    let clock: Clock = Arc::new(|| at(NOW));
    std::thread::spawn(move || run(&messages, Compiler::new(options), &clock, batching, &outputs))
}

const WORLD: &str = "
{kind: Ingress, metadata: {name: web, namespace: shop}, spec: {tls: [{hosts: [a.example], secretName: tls}], rules: [
  {host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}
---
{kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}
---
{kind: Secret, metadata: {name: tls, namespace: shop}, stringData: {tls.crt: '$CERT(a.example)', tls.key: '$KEY(a.example)'}}";

/// Somebody puts garbage into the Secret of a host.
const GARBAGE: &str = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"705ab4f5",
    "kind":{"group":"","version":"v1","kind":"Secret"},"resource":{"group":"","version":"v1","resource":"secrets"},
    "name":"tls","namespace":"shop","operation":"CREATE","userInfo":{"username":"somebody"},
    "object":{"kind":"Secret","apiVersion":"v1","metadata":{"name":"tls","namespace":"shop"},"type":"kubernetes.io/tls",
    "data":{"tls.crt":"Z2FyYmFnZQ==","tls.key":"Z2FyYmFnZQ=="}},"oldObject":null,"dryRun":false}}"#;

#[tokio::test]
async fn a_review_comes_and_goes_over_tls_and_is_counted() {
    let server = Server::start(None, &[]).await.synced();
    let answer = server.post("/validate?timeout=5s", GARBAGE).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("content-type: application/json"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let review: serde_json::Value = serde_json::from_str(body).unwrap();
    let response = &review["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&"705ab4f5".into(), &true.into()), "{answer}");
    assert!(response["warnings"][0].as_str().unwrap().contains("last-good (a.example)"), "{answer}");
    assert_eq!((server.count("secret", "warned"), server.metrics.webhook_request_duration.get_sample_count()), (1, 1));
    server.finish();

    let server = Server::start(None, &["--webhook-deny"]).await.synced();
    let answer = server.post("/validate", GARBAGE).await;
    assert!(answer.contains(r#""allowed":false"#) && answer.contains(r#""code":422"#), "{answer}");
    assert_eq!(server.count("secret", "denied"), 1);
    server.finish();
}

#[tokio::test]
async fn what_is_no_review_is_told_what_is_taken() {
    let server = Server::start(None, &[]).await.synced();
    let status = |answer: &str| answer.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(status(&server.post("/", GARBAGE).await), "404");
    let get = b"GET /validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = server.exchange(server.client(None), get).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: POST"), "{answer}");
    assert_eq!(server.count("other", "failed"), 0);
    assert_eq!(status(&server.post("/validate", "{}").await), "400");
    assert_eq!(status(&server.post("/validate", &GARBAGE.replace("k8s.io/v1", "k8s.io/v2")).await), "400");
    let large = b"POST /validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 4000000\r\n\r\n";
    assert_eq!(status(&server.exchange(server.client(None), large).await.unwrap()), "413");
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    let chunked = "POST /validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = format!("{chunked}{}0\r\n\r\n", chunk.repeat(4));
    // Whoever goes on writing may find the connection closed; what is counted is the same.
    let _ = server.exchange(server.client(None), body.as_bytes()).await;
    wait_until("five that are no reviews", || server.count("other", "failed") == 4);
    server.finish();
}

#[tokio::test]
async fn only_clients_of_the_api_servers_authority_are_let_in() {
    let (ours, others) = (crate::pki::root("ours"), crate::pki::root("others"));
    let server = Server::start(Some(&ours.pem()), &[]).await.synced();
    // Whether clients may come is judged by the clock of this machine.
    let identity = |ca: &Ca| {
        let leaf = crate::pki::leaf_with(ca, |params| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2120, 1, 1));
        });
        (leaf.pem, leaf.key)
    };
    let text = format!(
        "POST /validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{GARBAGE}",
        GARBAGE.len()
    );
    let (certificate, key) = identity(&ours);
    let answer = server.exchange(server.client(Some((&certificate, &key))), text.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (certificate, key) = identity(&others);
    for client in [server.client(None), server.client(Some((&certificate, &key)))] {
        server.exchange(client, text.as_bytes()).await.unwrap_err();
    }
    assert_eq!(server.count("secret", "warned"), 1);
    server.finish();
}

#[tokio::test]
async fn while_nothing_has_been_compiled_objects_are_let_in() {
    let server = Server::start(None, &["--webhook-deny"]).await;
    let answer = server.post("/validate", GARBAGE).await;
    assert!(
        answer.contains(r#""allowed":true"#) && answer.contains("not checked: the controller was busy"),
        "{answer}"
    );
    assert_eq!(server.count("secret", "failed"), 1);
    server.finish();
}

/// A request whose body is still to come.
fn announced() -> String {
    let length = GARBAGE.len();
    format!("POST /validate HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n")
}

#[tokio::test]
async fn what_has_begun_at_the_end_is_answered_and_what_is_idle_is_closed() {
    let (server, messages) = Server::alone(None, &[]).await;
    let mut idle = server.connect(server.client(None)).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 404");
    let mut asking = server.connect(server.client(None)).await.unwrap();
    asking.write_all(format!("{}{GARBAGE}", announced()).as_bytes()).await.unwrap();
    let end = server.end.clone();
    let compiler = tokio::task::spawn_blocking(move || {
        let mut compiler = Compiler::new(Options { watch_without_class: true, ..Options::default() });
        compiler.apply(Change::Replace(Scope("test".into()), objects(WORLD)));
        compiler.compile(at(NOW));
        // The judge has put its first question when the end begins.
        for message in messages {
            if let Message::Ask(ask) = message {
                end.cancel();
                ask(&compiler);
            }
        }
    });
    let (mut rest, mut answer) = (Vec::new(), Vec::new());
    let _ = idle.read_to_end(&mut rest).await;
    let _ = asking.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("HTTP/1.1 200 OK") && answer.contains("last-good (a.example)"), "{answer}");
    assert_eq!(server.count("secret", "warned"), 1);
    server.finish();
    compiler.await.unwrap();
}

#[tokio::test]
async fn those_who_ask_nothing_lose_their_places_to_those_who_do() {
    const PLACES: usize = 64;
    let server = Server::start(None, &[]).await.synced();
    let mut silent = Vec::new();
    for index in 0..PLACES {
        let mut stream = server.connect(server.client(None)).await.unwrap();
        if index % 2 == 0 {
            stream.write_all(b"POST /validate HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        }
        silent.push(stream);
    }
    assert!(server.post("/", "").await.contains(" 404 "));
    for mut stream in silent {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert_eq!(said, b"");
    }
    server.finish();
}

#[tokio::test]
async fn whoever_holds_the_webhook_keeps_no_review_out() {
    let server = Server::start(None, &[]).await.synced();
    let review = async || {
        let answer = server.post("/validate", GARBAGE).await;
        assert!(answer.contains("last-good (a.example)"), "{answer}");
    };
    let mut attackers = Vec::new();
    // Silent before the handshake, within it, in a head, and in a body.
    for _ in 0..100 {
        attackers.push(TcpStream::connect(server.address).await.unwrap());
    }
    review().await;
    for _ in 0..100 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        attackers.push(stream);
    }
    review().await;
    let mut opened = Vec::new();
    for words in ["POST /validate HTTP/1.1\r\nhost: x\r\n", &announced()] {
        for _ in 0..70 {
            let mut stream = server.connect(server.client(None)).await.unwrap();
            stream.write_all(words.as_bytes()).await.unwrap();
            opened.push(stream);
        }
        review().await;
    }
    assert_eq!(server.count("secret", "warned"), 4);
    let evicted = |places: &str| server.metrics.places_evicted.with_label_values(&[places]).get();
    assert!(evicted("webhook") > 200 && evicted("webhook-bodies") > 50);
    drop((attackers, opened));
    server.finish();
}

#[tokio::test]
async fn no_more_bodies_are_held_than_have_a_place() {
    // Nobody answers the judge, so each verdict takes as long as it may.
    let (server, _messages) = Server::alone(None, &[]).await;
    const PLACES: usize = 8;
    let mut connections = Vec::new();
    let mut go_on = [0; 25];
    for _ in 0..PLACES {
        let mut connection = server.connect(server.client(None)).await.unwrap();
        connection.write_all(announced().as_bytes()).await.unwrap();
        connection.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        connections.push(connection);
    }
    for connection in &mut connections {
        connection.write_all(GARBAGE.as_bytes()).await.unwrap();
    }
    let mut one_more = server.connect(server.client(None)).await.unwrap();
    one_more.write_all(announced().as_bytes()).await.unwrap();
    one_more.read_exact(&mut go_on).await.unwrap();
    assert!(server.count("secret", "failed") > 0, "there was no place until one had been answered");
    drop((connections, one_more));
    server.finish();
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let issued = issue(&Authority::new("Webhook", at(NOW)).unwrap());
    let certificate = write(folder.path(), "tls.crt", &issued.chain());
    let key = write(folder.path(), "tls.key", &issued.key);
    let garbage = write(folder.path(), "garbage", "nothing");
    let missing = folder.path().join("missing");
    let told = |certificate: &Path, key: &Path, client_ca: &Path| {
        let [certificate, key, client_ca] = [certificate, key, client_ca].map(|path| path.to_str().unwrap());
        let list = ["--webhook-cert", certificate, "--webhook-key", key, "--webhook-client-ca", client_ca];
        let (webhook, _messages) = parts(args(&list), &CancellationToken::new());
        match webhook::start(webhook) {
            Err(WebhookError::File(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let text = told(&missing, &key, &certificate);
    assert!(text.starts_with("--webhook-cert ") && text.ends_with("missing: cannot read it"), "{text}");
    assert!(told(&garbage, &key, &certificate).contains("does not contain certificates in PEM form"));
    assert!(told(&certificate, &garbage, &certificate).contains("does not contain a private key in PEM form"));
    assert!(told(&certificate, &key, &garbage).contains("does not contain certificates of authorities"));
    let other = write(folder.path(), "other.key", &issue(&Authority::new("Webhook", at(NOW)).unwrap()).key);
    assert!(told(&certificate, &other, &certificate).contains("do not belong together"));
    let (webhook, _messages) = parts(args(&[]), &CancellationToken::new());
    assert!(matches!(webhook::start(webhook), Err(WebhookError::NoCertificate)));
}
