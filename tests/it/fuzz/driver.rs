//! The fuzz target `driver`: a handshake against a client that does anything.
//!
//! ```text
//! input = client, host, switches, then steps: a flight of the client as it is, cut, changed or left out; any bytes;
//!         silence, an end, a reset; a peer that does not take what we write
//! ```
//!
//! The client is a real one, so that inputs reach the states behind the hello; or none, and then everything is bytes.
//! What must hold: the driver ends with one outcome, which fits what had arrived; it never waits for ever (time is
//! paused, so that every wait is either ended by its deadline or found here); no place for handshakes is lost; and no
//! reason says that the fault is ours.

use std::cell::RefCell;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use handfast::demo::pki::{Authority, KeyType};
use handfast::keylog::KeyLog;
use handfast::metrics::{Metrics, places};
use handfast::places::{Notice, Places};
use handfast::proxy::handshake::{NotEstablished, Terms, Trace, handshake, linger};
use handfast::snapshot::{HostName, HostTls, Reader, RouteTable, Snapshot, VirtualHost, channel};
use handfast::tls::chain::{Credential, TrustAnchors};
use handfast::tls::policy::{ClientAuth, Group, GroupOrder, Policy, Settings, server_tls_of};
use handfast::tls::reason::Reason;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Server names that clients ask for, by the second byte of an input; the snapshot has all but the last.
pub const NAMES: [&str; 12] = [
    "ecdsa.example",
    "rsa.example",
    "p384.example",
    "dual.example",
    "a.wild.example",
    "required.example",
    "optional.example",
    "modern.example",
    "old.example",
    "refused.example",
    "plain.example",
    "unknown.example",
];

/// How many clients there are, by the first byte of an input; the number itself stands for none.
pub const CLIENTS: usize = 9;

/// Bits of the third byte of an input.
pub mod switch {
    /// The client has been there before, and resumes.
    pub const RESUME: u8 = 1;
    /// There is a default certificate.
    pub const DEFAULT_CERTIFICATE: u8 = 2;
    /// The first bytes were read ahead.
    pub const READ_AHEAD: u8 = 4;
    /// After the last step the client goes on in good order; else it closes.
    pub const GO_ON: u8 = 8;
}

/// Steps of an input: each is this byte, then what it says.
#[allow(dead_code, reason = "the last one is what is left")]
pub mod step {
    /// The client's next flight.
    pub const FLIGHT: u8 = 0;
    /// The same in pieces of at most (byte + 1).
    pub const PIECES: u8 = 1;
    /// The same with one byte changed: position (2 bytes), what to add (1).
    pub const CHANGE: u8 = 2;
    /// Only so many bytes of it (2).
    pub const CUT: u8 = 3;
    /// These bytes: length (2), content.
    pub const BYTES: u8 = 4;
    /// The end of what the client sends.
    pub const END: u8 = 5;
    /// A reset.
    pub const RESET: u8 = 6;
    /// Nothing more, for ever.
    pub const SILENCE: u8 = 7;
    /// Nothing just now.
    pub const LATER: u8 = 8;
    /// The flight is lost.
    pub const LOSE: u8 = 9;
    /// From now on the peer takes nothing.
    pub const STUCK: u8 = 10;
    /// From now on writes fail.
    pub const BROKEN: u8 = 11;
    /// From now on the peer takes at most (byte + 1) at a time.
    pub const SLOW: u8 = 12;
    /// The client closes in good order, with a `close_notify`.
    pub const CLOSE: u8 = 13;
    /// The client sends application data: how much (1 byte).
    pub const DATA: u8 = 14;
    /// The client changes its keys (TLS 1.3).
    pub const UPDATE: u8 = 15;
    /// How many there are.
    pub const COUNT: u8 = 16;
}

/// Runs the target.
pub fn run(data: &[u8]) {
    thread_local! {
        static RUNTIME: RefCell<Runtime> = RefCell::new(
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap(),
        );
    }
    RUNTIME.with_borrow_mut(|runtime| {
        runtime.block_on(async {
            // No deadline of ours is as long.
            let hang = Duration::from_secs(24 * 3600);
            timeout(hang, perform(data)).await.expect("the driver waits for ever");
        });
    });
}

async fn perform(data: &[u8]) {
    let mut script = Script(data);
    let [client, name, switches] = [script.byte(), script.byte(), script.byte()];
    let world = world();
    let reader = &world.readers[usize::from(switches & switch::DEFAULT_CERTIFICATE != 0)];
    let name = NAMES[usize::from(name) % NAMES.len()];
    let client = match usize::from(client) % (CLIENTS + 1) {
        CLIENTS => None,
        client => {
            let mut config = world.clients[client].clone();
            config.resumption = Resumption::disabled();
            if switches & switch::RESUME != 0 {
                config.resumption = Resumption::in_memory_sessions(4);
                let mut before = Wire::new(Script(&[]), Some(connection(&config, name)));
                before.go_on = true;
                serve(reader, before, Vec::new()).await;
            }
            Some(connection(&config, name))
        }
    };
    let mut wire = Wire::new(script, client);
    wire.go_on = switches & switch::GO_ON != 0;
    let mut received = Vec::new();
    if switches & switch::READ_AHEAD != 0 {
        wire.advance();
        received = std::mem::take(&mut wire.pending);
    }
    serve(reader, wire, received).await;
}

fn connection(config: &ClientConfig, name: &'static str) -> ClientConnection {
    ClientConnection::new(Arc::new(config.clone()), ServerName::try_from(name).unwrap()).unwrap()
}

/// The server's side, and what must hold of it.
async fn serve(reader: &Reader, mut wire: Wire<'_>, received: Vec<u8>) {
    // One place: if a handshake kept it, the next would find none.
    static PLACES: LazyLock<Places> =
        LazyLock::new(|| Metrics::default().places("handshakes", 1, &[(0, places::HANDSHAKES)]));
    let ahead = received.len();
    static NO_KEYLOG: LazyLock<KeyLog> = LazyLock::new(KeyLog::default);
    let client = Ipv4Addr::LOCALHOST.into();
    let (notice, timeout_of_all) = (Notice::default(), Duration::from_secs(10));
    let terms = Terms { reader, places: &PLACES, notice: &notice, timeout: timeout_of_all, keylog: &NO_KEYLOG, client };
    match handshake(&mut wire, received, &terms).await {
        Ok(mut established) => {
            let trace = &established.trace;
            assert!(trace.offer.is_some() && trace.agreed && trace.tls.is_some());
            assert!(trace.alert_sent.is_none());
            plausible(trace, reader);
            let mut request = [0; 700];
            let exchange = async {
                while established.stream.read(&mut request).await? > 0 {
                    established.stream.write_all(b"answer").await?;
                    established.stream.flush().await?;
                }
                established.stream.shutdown().await
            };
            // However it ends.
            let _ = timeout(Duration::from_secs(60), exchange).await;
        }
        Err(NotEstablished::Probe) => {
            assert_eq!(ahead, 0);
            assert_eq!(wire.given, 0, "a probe sends nothing");
            assert!(wire.written.is_empty() && wire.answered == 0, "a probe gets nothing");
        }
        Err(NotEstablished::Failed(failure)) => {
            let silent = ahead + failure.io.given == 0;
            assert_eq!(silent, failure.reason == Reason::TimeoutBeforeHello, "{:?}", failure.reason);
            assert_ne!(failure.reason, Reason::Internal, "{:?}", failure.source);
            assert!(!matches!(failure.reason, Reason::Evicted | Reason::Overloaded));
            plausible(&failure.trace, reader);
            linger(failure.io).await;
        }
    }
}

/// What is known of a handshake fits together.
fn plausible(trace: &Trace, reader: &Reader) {
    assert!(trace.hello_size <= 80 * 1024, "{}", trace.hello_size);
    assert!(trace.server_name.iter().all(|name| **name == *name.to_lowercase()));
    assert!(trace.host.iter().all(|host| reader.load().hosts.contains_key(&host.name)));
    assert!(trace.offer.is_some() || trace.server_name.is_none() && trace.host.is_none() && trace.tls.is_none());
    assert!(trace.offer.is_none() || trace.hello_size > 40);
    assert!(!trace.agreed || trace.tls.is_some());
}

/// The input, read from the front. Behind its end there are zeros.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn short(&mut self) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()]))
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// How the stream ends for its reader.
#[derive(Clone, Copy)]
enum Ended {
    Closed,
    Reset,
    Silent,
}

/// How the peer takes what is written.
#[derive(Clone, Copy)]
enum Takes {
    AtMost(usize),
    Nothing,
    Fails,
}

/// The server's end of a connection, and the client behind it.
struct Wire<'a> {
    script: Script<'a>,
    client: Option<ClientConnection>,
    go_on: bool,
    /// The client has closed. What it hears then would make it send an alert behind its `close_notify`, which rustls
    /// asserts that it does not.
    closed: bool,
    /// On their way to the server.
    pending: Vec<u8>,
    /// Largest number of bytes that one read gives.
    piece: usize,
    ended: Option<Ended>,
    takes: Takes,
    /// Bytes from the server that the client has not read.
    written: Vec<u8>,
    /// Bytes from the server that the client has read.
    answered: usize,
    /// Bytes that the server has read.
    given: usize,
    /// Reads and writes; a loop that never ends would use them up.
    left: u32,
}

impl<'a> Wire<'a> {
    fn new(script: Script<'a>, client: Option<ClientConnection>) -> Self {
        Self {
            script,
            client,
            go_on: false,
            closed: false,
            pending: Vec::new(),
            piece: usize::MAX,
            ended: None,
            takes: Takes::AtMost(usize::MAX),
            written: Vec::new(),
            answered: 0,
            given: 0,
            left: 2_000_000,
        }
    }

    /// Takes a step; true if the reader has to be told to come again.
    fn advance(&mut self) -> bool {
        self.piece = usize::MAX;
        if self.script.0.is_empty() {
            self.pending = if self.go_on { self.flight() } else { Vec::new() };
            if self.pending.is_empty() {
                self.ended = Some(Ended::Closed);
            }
            return false;
        }
        match self.script.byte() % step::COUNT {
            step::FLIGHT => self.pending = self.flight(),
            step::PIECES => {
                self.piece = usize::from(self.script.byte()) + 1;
                self.pending = self.flight();
            }
            step::CHANGE => {
                let (at, by) = (self.script.short(), self.script.byte());
                self.pending = self.flight();
                if !self.pending.is_empty() {
                    let at = at % self.pending.len();
                    self.pending[at] = self.pending[at].wrapping_add(by);
                }
            }
            step::CUT => {
                let length = self.script.short();
                self.pending = self.flight();
                self.pending.truncate(length);
            }
            step::BYTES => {
                let length = self.script.short();
                self.pending = self.script.bytes(length).to_vec();
            }
            step::END => self.ended = Some(Ended::Closed),
            step::RESET => self.ended = Some(Ended::Reset),
            step::SILENCE => self.ended = Some(Ended::Silent),
            step::LATER => return true,
            step::LOSE => drop(self.flight()),
            step::STUCK => self.takes = Takes::Nothing,
            step::BROKEN => self.takes = Takes::Fails,
            step::SLOW => self.takes = Takes::AtMost(usize::from(self.script.byte()) + 1),
            step::CLOSE => {
                if let Some(client) = &mut self.client {
                    client.send_close_notify();
                    self.closed = true;
                }
            }
            step::DATA => {
                let data = vec![b'x'; usize::from(self.script.byte())];
                if let Some(client) = &mut self.client {
                    // A full buffer takes less.
                    let _ = io::Write::write(&mut client.writer(), &data);
                }
            }
            // step::UPDATE
            _ => {
                if let Some(client) = &mut self.client {
                    // TLS 1.2 has no such message, and before the end of a handshake there is none.
                    let _ = client.refresh_traffic_keys();
                }
            }
        }
        false
    }

    /// What the client says to all that it has heard.
    fn flight(&mut self) -> Vec<u8> {
        let Some(client) = &mut self.client else { return Vec::new() };
        let mut unread = &self.written[..];
        while !unread.is_empty() && !self.closed {
            // Errors of the client become alerts, which are its flight.
            if !matches!(client.read_tls(&mut unread), Ok(1..)) || client.process_new_packets().is_err() {
                break;
            }
        }
        self.answered += self.written.len();
        self.written.clear();
        let mut bytes = Vec::new();
        while client.wants_write() && matches!(client.write_tls(&mut bytes), Ok(1..)) {}
        bytes
    }

    fn count(&mut self) {
        self.left -= 1;
        assert!(self.left > 0, "the driver reads or writes for ever");
    }
}

impl AsyncRead for Wire<'_> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.count();
        loop {
            if !self.pending.is_empty() {
                let size = self.pending.len().min(self.piece).min(buf.remaining());
                buf.put_slice(&self.pending[..size]);
                self.pending.drain(..size);
                self.given += size;
                return Poll::Ready(Ok(()));
            }
            match self.ended {
                Some(Ended::Closed) => return Poll::Ready(Ok(())),
                Some(Ended::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Some(Ended::Silent) => return Poll::Pending,
                None => {}
            }
            if self.advance() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.count();
        match (self.takes, self.ended) {
            (Takes::Fails, _) | (_, Some(Ended::Reset)) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            (Takes::Nothing, _) => Poll::Pending,
            (Takes::AtMost(most), _) => {
                let size = bytes.len().min(most);
                self.written.extend_from_slice(&bytes[..size]);
                Poll::Ready(Ok(size))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct World {
    /// Without and with a default certificate.
    readers: [Reader; 2],
    clients: [ClientConfig; CLIENTS],
}

fn world() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(|| {
        let authority = Authority::new("Fuzz", UnixTime::now()).unwrap();
        let clients_ca = ca();
        World { readers: readers(&authority, &clients_ca), clients: clients(&authority, &clients_ca) }
    });
    &WORLD
}

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn readers(authority: &Authority, clients_ca: &Ca) -> [Reader; 2] {
    let terminate = |keys: &[KeyType], settings: Settings| {
        let names = [NAMES[0], NAMES[1], NAMES[2], NAMES[3], "*.wild.example", NAMES[5], NAMES[6], NAMES[7], NAMES[8]];
        let load = |key: &KeyType| {
            let issued = authority.issue(&names, *key, UnixTime::now(), -1..30).unwrap();
            let loaded = Credential::load(issued.chain().as_bytes(), issued.key.as_bytes(), b"", &TrustAnchors::none());
            loaded.credential.unwrap()
        };
        let credentials: Vec<Arc<Credential>> = keys.iter().map(load).collect();
        let borrowed: Vec<&Credential> = credentials.iter().map(|credential| &**credential).collect();
        HostTls::Terminate(Arc::new(server_tls_of(&borrowed, &Policy::new(settings).unwrap()).unwrap()))
    };
    let asking = |required| {
        let authorities = Arc::new(TrustAnchors::none().with_file(clients_ca.pem().as_bytes()).unwrap());
        Settings { client_auth: Some(ClientAuth { required, authorities, revoked: None }), ..Settings::default() }
    };
    let (p256, rsa) = (KeyType::EcdsaP256, KeyType::Rsa2048);
    let groups = vec![Group::Secp384r1, Group::Secp256r1];
    let hosts = [
        ("ecdsa.example", terminate(&[p256], Settings::default())),
        ("rsa.example", terminate(&[rsa], Settings::default())),
        ("p384.example", terminate(&[KeyType::EcdsaP384], Settings::default())),
        ("dual.example", terminate(&[rsa, p256], Settings { group_order: GroupOrder::Server, ..Settings::default() })),
        ("*.wild.example", terminate(&[p256], Settings { groups, ..Settings::default() })),
        ("required.example", terminate(&[p256], asking(true))),
        ("optional.example", terminate(&[p256], asking(false))),
        ("modern.example", terminate(&[p256], Settings::modern())),
        (
            "old.example",
            terminate(&[p256], Settings { max: handfast::tls::Version::Tls12, ..Settings::intermediate() }),
        ),
        ("refused.example", HostTls::Refuse),
        ("plain.example", HostTls::Absent),
    ];
    let host = |(name, tls): (&str, HostTls)| {
        let name: HostName = name.parse().unwrap();
        (name.clone(), Arc::new(VirtualHost::new(name, tls, RouteTable::default())))
    };
    let without = Snapshot { hosts: hosts.map(host).into(), ..Snapshot::default() };
    let HostTls::Terminate(tls) = without.hosts["ecdsa.example"].tls.clone() else { unreachable!() };
    let with = Snapshot { default_tls: Some(tls), ..without.clone() };
    // Without their publishers the readers stay as they are.
    [without, with].map(|snapshot| channel(Arc::new(snapshot)).1)
}

fn clients(authority: &Authority, clients_ca: &Ca) -> [ClientConfig; CLIENTS] {
    let default = aws_lc_rs::default_provider;
    let groups = |groups: &[&'static dyn rustls::crypto::SupportedKxGroup]| CryptoProvider {
        kx_groups: groups.to_vec(),
        ..default()
    };
    let both: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    let config = |provider: CryptoProvider, versions: &[&'static SupportedProtocolVersion], root: &str| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
    };
    let trusting = authority.root();
    let plain = |provider, versions| config(provider, versions, &trusting).with_no_client_auth();
    let identified = |issuer: &Ca, purpose: ExtendedKeyUsagePurpose, versions| {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        config(default(), versions, &trusting).with_client_auth_cert(chain, key).unwrap()
    };
    let mut with_protocols = plain(default(), both);
    with_protocols.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (right, wrong) = (ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth);
    [
        with_protocols,
        plain(default(), &[&TLS12]),
        plain(groups(&[aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1]), &[&TLS13]),
        plain(groups(&[aws_lc_rs::kx_group::SECP384R1]), both),
        config(default(), both, &Authority::new("Other", UnixTime::now()).unwrap().root()).with_no_client_auth(),
        identified(clients_ca, right.clone(), both),
        identified(clients_ca, right.clone(), &[&TLS12]),
        identified(&ca(), right, both),
        identified(clients_ca, wrong, &[&TLS12]),
    ]
}
