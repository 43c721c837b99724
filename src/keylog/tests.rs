//! Real handshakes in memory, and a writer that can be stopped, broken and read.

use std::collections::BTreeSet;
use std::sync::mpsc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection, SupportedProtocolVersion,
};

use super::*;
use crate::clock;
use crate::demo::pki::{Authority, KeyType};

const PATIENCE: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);

/// What was written, and how the next writes go.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        text.lines().map(str::to_owned).collect()
    }
}

/// A clock that stands still until it is moved.
#[derive(Clone)]
struct Hands(Arc<Mutex<Instant>>);

impl Hands {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

fn start(output: impl Write + Send + 'static) -> (KeyLog, Writer, Hands) {
    let hands = Hands::new();
    let clock = hands.clone();
    let (keylog, writer) = KeyLog::start_with("keys.log".into(), output, move || *clock.0.lock().unwrap()).unwrap();
    (keylog, writer, hands)
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn client() -> IpAddr {
    IpAddr::from([192, 0, 2, 7])
}

fn operator() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 5))
}

/// A server with tickets, and its clients.
struct World {
    server: Arc<ServerConfig>,
    roots: Arc<RootCertStore>,
}

impl World {
    fn new() -> Self {
        let clock = clock::system();
        let authority = Authority::new("Test", clock()).unwrap();
        let issued = authority.issue(&["shop.test"], KeyType::EcdsaP256, clock(), -1..30).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(issued.root.as_bytes()).unwrap()).unwrap();
        let chain = CertificateDer::pem_slice_iter(issued.chain().as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        server.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        Self { server: Arc::new(server), roots: Arc::new(roots) }
    }

    /// A client that remembers sessions, and writes its own secrets.
    fn client(&self, version: &'static SupportedProtocolVersion) -> (Arc<ClientConfig>, Arc<Secrets>) {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let secrets = Arc::new(Secrets::default());
        config.key_log = secrets.clone();
        (Arc::new(config), secrets)
    }
}

#[derive(Debug, Default)]
struct Secrets(Mutex<BTreeSet<String>>);

impl rustls::KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.0.lock().unwrap().insert(format!("{label} {} {}", hex(client_random), hex(secret)));
    }
}

/// One whole handshake, tickets included; how it went by the server's account.
fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> HandshakeKind {
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let mut client = ClientConnection::new(client.clone(), ServerName::try_from("shop.test").unwrap()).unwrap();
    for _ in 0..20 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().unwrap();
        if wire.is_empty() && !client.wants_write() && !server.is_handshaking() {
            return server.handshake_kind().unwrap();
        }
    }
    panic!("the handshake does not end");
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn the_lines_are_the_secrets_that_the_client_has() {
    for version in VERSIONS {
        let (output, world) = (Output::default(), World::new());
        let (keylog, writer, _) = start(output.clone());
        let (client_config, secrets) = world.client(version);
        keylog.select(Target::Host(host("shop.test")), MINUTE, operator()).unwrap();
        handshake(&keylog.config_for(&world.server, Some(&host("shop.test")), client()), &client_config);
        assert_eq!(keylog.connections(), 1);
        writer.finish(PATIENCE);
        let lines = output.lines();
        assert_eq!(lines.iter().cloned().collect::<BTreeSet<_>>(), *secrets.0.lock().unwrap());
        let mut labels: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
        labels.sort_unstable();
        let expected: &[&str] = match version.version {
            rustls::ProtocolVersion::TLSv1_2 => &["CLIENT_RANDOM"],
            _ => &[
                "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
                "CLIENT_TRAFFIC_SECRET_0",
                "EXPORTER_SECRET",
                "SERVER_HANDSHAKE_TRAFFIC_SECRET",
                "SERVER_TRAFFIC_SECRET_0",
            ],
        };
        assert_eq!(labels, expected);
    }
}

#[test]
fn what_no_selection_covers_keeps_the_configuration_that_it_has() {
    let (output, world) = (Output::default(), World::new());
    let (keylog, writer, _) = start(output.clone());
    let shop = host("shop.test");
    let is_tapped = |host: Option<&HostName>, client: [u8; 4]| {
        !Arc::ptr_eq(&keylog.config_for(&world.server, host, client.into()), &world.server)
    };
    assert!(!is_tapped(Some(&shop), [192, 0, 2, 7]));
    keylog.select(Target::Host(shop.clone()), MINUTE, operator()).unwrap();
    assert!(is_tapped(Some(&shop), [10, 0, 0, 1]));
    for other in [Some(&host("other.test")), Some(&host("*.shop.test")), Some(&HostName::catch_all()), None] {
        assert!(!is_tapped(other, [10, 0, 0, 1]), "{other:?}");
    }
    keylog.select(Target::Client(client()), MINUTE, operator()).unwrap();
    assert!(is_tapped(None, [192, 0, 2, 7]));
    assert!(!is_tapped(None, [192, 0, 2, 8]));
    keylog.end(Some(&Target::Host(shop.clone())), operator()).unwrap();
    assert!(!is_tapped(Some(&shop), [10, 0, 0, 1]));
    assert!(is_tapped(Some(&shop), [192, 0, 2, 7]));
    handshake(&keylog.config_for(&world.server, None, [10, 0, 0, 1].into()), &world.client(VERSIONS[0]).0);
    writer.finish(PATIENCE);
    assert!(output.lines().is_empty());
}

#[test]
fn a_key_log_that_is_not_allowed_selects_nothing() {
    let (keylog, world) = (KeyLog::default(), World::new());
    let refused = keylog.select(Target::Client(client()), MINUTE, operator()).unwrap_err();
    assert!(refused.to_string().contains("--allow-keylog"));
    assert_eq!(keylog.end(None, operator()), Err(NotSelected::NotAllowed));
    assert_eq!(keylog.selected(), Err(NotSelected::NotAllowed));
    assert!(Arc::ptr_eq(&keylog.config_for(&world.server, None, client()), &world.server));
}

#[test]
fn a_selection_ends_with_its_time_also_for_handshakes_that_go_on() {
    let (output, world) = (Output::default(), World::new());
    let (keylog, writer, hands) = start(output.clone());
    keylog.select(Target::Client(client()), MINUTE, operator()).unwrap();
    let before = keylog.config_for(&world.server, None, client());
    hands.advance(MINUTE - Duration::from_millis(1));
    assert!(before.key_log.will_log("x") && keylog.selected().unwrap().len() == 1);
    hands.advance(Duration::from_millis(1));
    handshake(&before, &world.client(VERSIONS[1]).0);
    assert!(keylog.selected().unwrap().is_empty());
    assert!(Arc::ptr_eq(&keylog.config_for(&world.server, None, client()), &world.server));
    // The writer looks at the clock when something happens, and takes what is over off the list.
    let length = || keylog.0.as_ref().unwrap().selected.load(Ordering::Acquire);
    keylog.select(Target::Host(host("other.test")), MINUTE, operator()).unwrap();
    wait_until(|| length() == 1);
    writer.finish(PATIENCE);
    assert_eq!((length(), keylog.connections()), (0, 0));
    assert!(output.lines().is_empty());
}

#[test]
fn the_writer_ends_a_selection_at_its_time_without_being_asked() {
    let (keylog, writer) = KeyLog::start_with("keys.log".into(), Output::default(), Instant::now).unwrap();
    // A later end first: the writer must not sleep until then.
    keylog.select(Target::Client(client()), MINUTE, operator()).unwrap();
    keylog.select(Target::Host(host("shop.test")), Duration::from_millis(5), operator()).unwrap();
    wait_until(|| keylog.0.as_ref().unwrap().selected.load(Ordering::Acquire) == 1);
    writer.finish(PATIENCE);
}

#[test]
fn the_end_of_a_selection_tells_how_many_connections_it_had() {
    let (output, world) = (Output::default(), World::new());
    let (keylog, writer, _) = start(output.clone());
    let shop = Target::Host(host("shop.test"));
    keylog.select(shop.clone(), MINUTE, operator()).unwrap();
    keylog.select(Target::Client(client()), MINUTE, operator()).unwrap();
    for name in ["shop.test", "shop.test", "other.test"] {
        handshake(&keylog.config_for(&world.server, Some(&host(name)), client()), &world.client(VERSIONS[1]).0);
    }
    let counts = |selected: &[Selected]| {
        let one = |selected: &Selected| (selected.host.clone(), selected.client, selected.connections);
        selected.iter().map(one).collect::<Vec<_>>()
    };
    let of_shop = (Some("shop.test".to_owned()), None, 2);
    assert_eq!(counts(&keylog.selected().unwrap()), [of_shop.clone(), (None, Some(client()), 3)]);
    assert_eq!(counts(&keylog.end(Some(&shop), operator()).unwrap()), [of_shop]);
    assert_eq!(counts(&keylog.end(None, operator()).unwrap()), [(None, Some(client()), 3)]);
    assert!(keylog.end(None, operator()).unwrap().is_empty());
    assert_eq!(keylog.connections(), 3, "one that two selections cover counts once");
    writer.finish(PATIENCE);
    assert_eq!(output.lines().len(), 15);
}

#[test]
fn a_selection_that_is_asked_for_again_goes_on_for_longer() {
    let (keylog, writer, hands) = start(Output::default());
    let target = || Target::Client(client());
    let before = keylog.select(target(), MINUTE, operator()).unwrap();
    let world = World::new();
    let connect = || handshake(&keylog.config_for(&world.server, None, client()), &world.client(VERSIONS[1]).0);
    connect();
    let longer = keylog.select(target(), 3 * MINUTE, operator()).unwrap();
    assert!(longer.until > before.until && longer.connections == 1, "{longer:?}");
    let shorter = keylog.select(target(), MINUTE, operator()).unwrap();
    assert_eq!(shorter.until, longer.until, "it ends no earlier");
    assert_eq!(keylog.selected().unwrap().len(), 1);
    hands.advance(2 * MINUTE);
    connect();
    assert_eq!(keylog.selected().unwrap()[0].connections, 2);
    hands.advance(MINUTE);
    assert!(keylog.selected().unwrap().is_empty());
    // One whose time is over is not extended.
    assert_eq!(keylog.select(target(), MINUTE, operator()).unwrap().connections, 0);
    writer.finish(PATIENCE);
}

#[test]
fn there_are_eight_selections_at_most() {
    let (keylog, writer, _) = start(Output::default());
    for index in 0..8 {
        keylog.select(Target::Client(IpAddr::from([10, 0, 0, index])), MINUTE, operator()).unwrap();
    }
    let ninth = || keylog.select(Target::Client(client()), MINUTE, operator());
    assert_eq!(ninth(), Err(NotSelected::TooMany));
    keylog.end(Some(&Target::Client(IpAddr::from([10, 0, 0, 3]))), operator()).unwrap();
    ninth().unwrap();
    writer.finish(PATIENCE);
}

/// In TLS 1.2 both connections have one master secret, so that a line of one would decrypt the other as well.
#[test]
fn a_selected_connection_resumes_none_and_is_resumed_by_none() {
    for version in VERSIONS {
        let (keylog, writer, _) = start(Output::default());
        let world = World::new();
        let connect = |client_config| handshake(&keylog.config_for(&world.server, None, client()), client_config);
        let (client_config, _) = world.client(version);
        assert_eq!(connect(&client_config), HandshakeKind::Full);
        assert_eq!(connect(&client_config), HandshakeKind::Resumed, "without a selection sessions are resumed");
        keylog.select(Target::Client(client()), MINUTE, operator()).unwrap();
        assert_eq!(connect(&client_config), HandshakeKind::Full);
        let (fresh, _) = world.client(version);
        assert_eq!(connect(&fresh), HandshakeKind::Full);
        keylog.end(None, operator()).unwrap();
        assert_eq!(connect(&fresh), HandshakeKind::Full, "it has got no ticket");
        assert_eq!(connect(&fresh), HandshakeKind::Resumed);
        writer.finish(PATIENCE);
    }
}

#[test]
fn an_error_of_the_file_ends_all_selections_and_the_next_line_is_whole() {
    /// Takes a few bytes, then fails once.
    struct FullOnce {
        output: Output,
        left: Option<usize>,
    }
    impl Write for FullOnce {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.left {
                None => self.output.write(bytes),
                Some(0) => {
                    self.left = None;
                    Err(io::Error::other("no space left"))
                }
                Some(left) => {
                    let taken = left.min(bytes.len());
                    self.left = Some(left - taken);
                    self.output.write(&bytes[..taken])
                }
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (output, world) = (Output::default(), World::new());
    let (keylog, writer, _) = start(FullOnce { output: output.clone(), left: Some(20) });
    for target in [Target::Client(client()), Target::Host(host("shop.test"))] {
        keylog.select(target, MINUTE, operator()).unwrap();
    }
    let connect = || handshake(&keylog.config_for(&world.server, None, client()), &world.client(VERSIONS[0]).0);
    assert_eq!(connect(), HandshakeKind::Full);
    wait_until(|| keylog.selected().unwrap().is_empty());
    wait_until(|| keylog.connections() == 0);
    keylog.select(Target::Client(client()), MINUTE, operator()).unwrap();
    assert_eq!(connect(), HandshakeKind::Full);
    writer.finish(PATIENCE);
    let lines = output.lines();
    assert_eq!((lines.len(), lines[0].len()), (2, 20), "{lines:?}");
    assert!(lines[1].starts_with("CLIENT_RANDOM ") && lines[1].len() > 100, "{lines:?}");
}

#[test]
fn connections_whose_lines_wait_while_the_file_fails_are_not_written_and_do_not_count() {
    /// Takes one line, and fails at the second when the test lets it.
    struct Failing {
        output: Output,
        lines: usize,
        entered: mpsc::Sender<()>,
        release: mpsc::Receiver<()>,
    }
    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.lines += 1;
            if self.lines == 2 {
                let _ = self.entered.send(());
                let _ = self.release.recv();
                return Err(io::Error::other("no space left"));
            }
            self.output.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (entered, has_entered) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let (output, world) = (Output::default(), World::new());
    let (keylog, writer, _) = start(Failing { output: output.clone(), lines: 0, entered, release: released });
    keylog.select(Target::Client(client()), MINUTE, operator()).unwrap();
    let selection = keylog.0.as_ref().unwrap().selections()[0].clone();
    let connect = || handshake(&keylog.config_for(&world.server, None, client()), &world.client(VERSIONS[0]).0);
    (0..4).for_each(|_| _ = connect());
    has_entered.recv_timeout(PATIENCE).unwrap();
    assert_eq!(selection.status().connections, 4, "the others wait");
    release.send(()).unwrap();
    wait_until(|| selection.status().connections == 1);
    writer.finish(PATIENCE);
    let Selected { connections, lines_lost, .. } = selection.status();
    assert_eq!((connections, lines_lost, keylog.connections(), output.lines().len()), (1, 3, 1, 1));
}

#[test]
fn a_file_that_hangs_loses_lines_and_holds_up_no_handshake() {
    struct Stuck {
        entered: mpsc::Sender<()>,
        release: mpsc::Receiver<()>,
    }
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            // Waits until the test lets go.
            let _ = self.release.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (entered, has_entered) = mpsc::channel();
    let (release, stuck) = mpsc::channel();
    let (keylog, writer, _) = start(Stuck { entered, release: stuck });
    keylog.select(Target::Client(client()), MINUTE, operator()).unwrap();
    let world = World::new();
    let tapped = keylog.config_for(&world.server, None, client());
    let line = || tapped.key_log.log("LABEL", &[1; 32], &[2; 48]);
    line();
    has_entered.recv_timeout(PATIENCE).unwrap();
    // One hangs in the file, and these fill the channel.
    (0..CAPACITY).for_each(|_| line());
    let lost = || keylog.selected().unwrap()[0].lines_lost;
    assert_eq!(lost(), 0);
    let hung = keylog.config_for(&world.server, None, client());
    assert_eq!(handshake(&hung, &world.client(VERSIONS[1]).0), HandshakeKind::Full);
    assert_eq!(lost(), 5);
    assert_eq!(keylog.connections(), 1, "a connection of which nothing was written does not count");
    drop(release);
    writer.finish(PATIENCE);
}

/// Looks again and again until it is so, or patience ends.
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
