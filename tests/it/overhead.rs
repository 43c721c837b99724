//! What our own part of a handshake costs: the instructions of everything that rustls does not do, over those of the
//! whole server's side.
//!
//! The real binary, with everything switched on, under callgrind. Instructions are counted and not time, so the figure is
//! the same on every machine and can be asserted. It is a figure of optimised builds: debug builds run our code as it
//! stands in the source and the cryptography in assembler, which says little. `make test` builds the optimised binary and
//! says so (`HANDFAST_OPTIMIZED`); where nobody has, only the order of size is held.
//! `cargo test --release --test it overhead -- --nocapture` shows the figure.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use handfast::demo::pki::{Authority, KeyType};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConnection, HandshakeKind, ProtocolVersion};

use crate::binary::{addresses, host, issue, program, signal, static_release, wait_for_exit, wait_until};
use crate::handshake::Client;

/// Handshakes that are looked at; what happens once weighs little beside them.
const HANDSHAKES: usize = 100;

/// Our own part, by function: none of them calls another.
const OURS: &[&str] = &[
    "handfast::tls::offer::first_bytes",
    "handfast::tls::offer::hello::HelloReader::push",
    "handfast::proxy::handshake::preflight",
    "handfast::proxy::record::HandshakeRecord::new",
    "handfast::proxy::record::HandshakeRecord::complete",
    "<handfast::proxy::record::Unused as core::ops::drop::Drop>::drop",
];

/// Our own part as well, where the compiler has not made it a part of something else.
const OURS_TOO: &[&str] = &["core::ptr::drop_in_place<handfast::tls::offer::hello::Offer>"];

/// rustls' part. What tokio does is left out, which makes our part look larger than it is; the two records of the request
/// and of the end, a few thousandths, are in it.
const LIBRARY: &[&str] = &[
    "rustls::server::server_conn::connection::Acceptor::accept",
    "rustls::server::server_conn::Accepted::into_connection",
    "rustls::conn::ConnectionCore::process_new_packets",
];

/// The binary to look at, and the most that our part of it may be of the whole, in thousandths.
fn binary() -> (PathBuf, u64) {
    const OPTIMIZED: u64 = 20;
    const DEBUG: u64 = 200;
    let own = PathBuf::from(env!("CARGO_BIN_EXE_handfast"));
    if !cfg!(debug_assertions) {
        return (own, OPTIMIZED);
    }
    if std::env::var_os("HANDFAST_OPTIMIZED").is_none() {
        // `make test` names the optimised one.
        return (own, DEBUG);
    }
    let optimized = static_release();
    assert!(optimized.exists(), "{} is missing: `make static` makes it", optimized.display());
    (optimized, OPTIMIZED)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Instructions by function, with all that it calls, from a profile of callgrind (its format is in valgrind's manual).
fn inclusive(profile: &str) -> BTreeMap<String, u64> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut costs = BTreeMap::new();
    let mut function = "";
    for line in profile.lines() {
        // `fn=(12) name` at first, `fn=(12)` from then on; `cfn=` names the function that is called.
        if let Some(named) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            let (id, name) = named.split_once(") ").unwrap_or((named.trim_end_matches(')'), ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            if line.starts_with("fn=") {
                function = names[id];
            }
        } else if line.starts_with(['+', '-', '*']) || line.starts_with(|c: char| c.is_ascii_digit()) {
            // Position and cost: of the function itself, or, behind a line `calls=`, of what it calls.
            let cost = line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
            *costs.entry(function.to_owned()).or_default() += cost;
        }
    }
    costs
}

#[test]
fn our_part_of_a_handshake_is_small() {
    let authority = Authority::new("Test", UnixTime::now()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let issued = issue(&authority, &["shop.test"], KeyType::EcdsaP256);
    let (name, manifest) = host("shop", "shop.test", Some(&issued), "none", "handfast.dev/shadow-tls-policy: next");
    let policy = "apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {name: next}\nspec: {preset: modern}\n";
    std::fs::write(directory.path().join(name), manifest).unwrap();
    std::fs::write(directory.path().join("policy.yaml"), policy).unwrap();
    let (profile, file) = (directory.path().join("profile"), directory.path().join("addresses"));

    let (binary, most) = binary();
    let mut server = program("valgrind");
    server.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", profile.display()));
    server.arg(&binary).args(["run", "--workers", "1", "--handshake-timeout", "60s"]);
    server.args(["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    server.arg("--source").arg(directory.path()).arg("--addresses-file").arg(&file);
    let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut server = Running(server);
    wait_until("it serves", || file.exists());
    let address = addresses(&file);

    let mut client = Client { versions: vec![&TLS13], ..Client::default() };
    client.provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut config = (*client.config(&authority)).clone();
    config.resumption = rustls::client::Resumption::disabled();
    let config = std::sync::Arc::new(config);
    for _ in 0..HANDSHAKES {
        let name = ServerName::try_from("shop.test").unwrap();
        let mut connection = ClientConnection::new(config.clone(), name).unwrap();
        let mut socket = std::net::TcpStream::connect(address("https")).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).unwrap();
        }
        assert_eq!(connection.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
        // A request, because a client that makes none is looked at more closely.
        connection.writer().write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        rustls::Stream::new(&mut connection, &mut socket).read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&answer));
    }
    signal(server.0.id(), "TERM");
    assert!(wait_for_exit(&mut server.0).success());

    let costs = inclusive(&std::fs::read_to_string(&profile).unwrap());
    let cost = |name: &&str| {
        let found = costs.iter().filter(|(function, _)| *function == *name || without_parameters(function) == *name);
        found.map(|(_, cost)| cost / HANDSHAKES as u64).sum::<u64>()
    };
    for name in OURS.iter().chain(OURS_TOO).chain(LIBRARY) {
        println!("{:>9} {name}", cost(name));
        let known = cost(name) > 0 || OURS_TOO.contains(name);
        assert!(known, "no function {name}: has it another name now, or is it inlined?");
    }
    let ours: u64 = OURS.iter().chain(OURS_TOO).map(cost).sum();
    let library: u64 = LIBRARY.iter().map(cost).sum();
    let whole = ours + library;
    println!("{ours} of {whole} instructions a handshake are ours: {:.2} %", 100.0 * ours as f64 / whole as f64);
    assert!(
        1000 * ours < most * whole,
        "{ours} of {whole} instructions a handshake are ours: more than {most} in 1000"
    );
}

/// A function's name without its generic parameters, which some compilers write out.
fn without_parameters(function: &str) -> String {
    let mut depth = 0;
    let outside = |character: &char| {
        depth += i32::from(*character == '<');
        let outside = depth == 0;
        depth -= i32::from(*character == '>');
        outside
    };
    function.chars().filter(outside).collect::<String>().replace("::::", "::")
}
