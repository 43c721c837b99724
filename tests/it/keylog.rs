//! The key log: tshark decrypts what was asked for and nothing else; and who may ask.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;

use handfast::demo::client;
use handfast::demo::pki::{Authority, KeyType};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;

use crate::backend::Backend;
use crate::binary::{
    PATIENCE, Server, addresses, handfast, host, issue, program, service, signal, wait_for_exit, wait_until,
};

fn two_hosts(backend: SocketAddr) -> impl Fn(&Authority) -> Vec<(String, String)> {
    move |authority| {
        let ecdsa = |names: &[&str]| issue(authority, names, KeyType::EcdsaP256);
        vec![
            host("shop", "shop.test", Some(&ecdsa(&["shop.test"])), "echo", ""),
            host("other", "other.test", Some(&issue(authority, &["other.test"], KeyType::Rsa2048)), "echo", ""),
            host("wild", "*.wild.test", Some(&ecdsa(&["*.wild.test"])), "echo", ""),
            service("echo", &[backend]),
        ]
    }
}

/// A controller that may write `keys.log` in a directory of its own.
struct Allowed {
    server: Server,
    directory: tempfile::TempDir,
}

impl Allowed {
    fn start(backend: &Backend, args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys.log");
        let args = [&["--allow-keylog", file.to_str().unwrap()], args].concat();
        Self { server: Server::start(&two_hosts(backend.address), &args), directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("keys.log")
    }

    /// The labels of what is written.
    fn labels(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file()).unwrap();
        let mut labels: Vec<String> = text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        labels.sort();
        labels
    }

    /// A request that must be answered with JSON.
    fn json(&self, method: &str, query: &str) -> Value {
        let answer = ask(self.server.admin, method, &format!("/api/keylog{query}"), &["Host: localhost"]);
        assert_eq!(answer.status, 200, "{method} {query}: {}", answer.body);
        let head = answer.head.to_lowercase();
        assert!(head.contains("content-type: application/json") && head.contains("cache-control: no-store"), "{head}");
        serde_json::from_str(&answer.body).unwrap()
    }

    fn get(&self, name: &str, path: &str, version: &'static SupportedProtocolVersion) {
        let answer = client::get(self.server.https, name, path, &self.server.authority.root(), version).unwrap();
        assert_eq!(answer.status, 200);
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn ask(address: SocketAddr, method: &str, target: &str, headers: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "{method} {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
}

/// dumpcap on loopback, for one port.
struct Capture {
    child: Child,
    file: PathBuf,
    directory: tempfile::TempDir,
}

impl Capture {
    /// Returns when packets are being captured.
    fn start(port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("capture.pcapng");
        let mut command = program("dumpcap");
        command.args(["-i", "lo", "-f", &format!("tcp port {port}"), "-w"]).arg(&file);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, said) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut seen = Vec::new();
        // It names its file when it has begun. If it may not capture, it says so and ends.
        while !seen.last().is_some_and(|line: &String| line.starts_with("File: ")) {
            match said.recv_timeout(PATIENCE) {
                Ok(line) => seen.push(line),
                Err(_) => panic!(
                    "dumpcap cannot capture on loopback: run this test as root, or give dumpcap the right to \
                     (setcap cap_net_raw,cap_net_admin+eip). It said:\n{}",
                    seen.join("\n")
                ),
            }
        }
        Self { child, file, directory }
    }

    /// Fields of the packets that a filter lets through, one packet a line.
    fn packets(&self, options: &[&str], filter: &str, fields: &[&str]) -> Vec<String> {
        let mut command = program("tshark");
        command.arg("-r").arg(&self.file).args(["-n", "-Y", filter, "-T", "fields"]);
        fields.iter().for_each(|field| _ = command.args(["-e", field]));
        // Nobody's preferences.
        command.env("HOME", self.directory.path()).env("XDG_CONFIG_HOME", self.directory.path());
        // A file that still grows may end within a packet, which the exit status tells and nobody asked.
        let output = command.args(options).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.replace('\t', " ")).collect()
    }

    /// Waits until `count` connections have ended in the file, then stops.
    fn stop_after(&mut self, count: usize) {
        wait_until(&format!("the ends of {count} connections are captured"), || {
            let mut streams = self.packets(&[], "tcp.flags.fin == 1 || tcp.flags.reset == 1", &["tcp.stream"]);
            streams.sort();
            streams.dedup();
            streams.len() == count
        });
        signal(self.child.id(), "INT");
        assert!(wait_for_exit(&mut self.child).success());
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tshark_decrypts_the_selected_host_in_both_versions_and_nothing_else() {
    let backend = Backend::start("one");
    let mut allowed = Allowed::start(&backend, &[]);
    let port = allowed.server.https.port();
    let mut capture = Capture::start(port);
    let versions = [&TLS12, &TLS13];
    for version in versions {
        allowed.get("shop.test", "/before", version);
    }
    assert!(allowed.labels().is_empty());
    let begun = allowed.json("POST", "?host=shop.test&for=10m");
    assert_eq!(begun["file"], allowed.file().to_str().unwrap());
    assert_eq!((&begun["host"], &begun["client"]), (&"shop.test".into(), &Value::Null));
    let line = allowed.server.wait_for_line("TLS secrets are written from now on");
    for part in ["WARN", "peer=127.0.0.1:", "host=\"shop.test\"", begun["until"].as_str().unwrap(), "keys.log"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    for version in versions {
        allowed.get("other.test", "/other", version);
        allowed.get("shop.test", "/during", version);
    }
    let expected = [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_RANDOM",
        "CLIENT_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_TRAFFIC_SECRET_0",
    ];
    wait_until("the secrets of two connections are in the file", || allowed.labels().len() >= expected.len());
    assert_eq!(allowed.json("GET", "")["selections"][0]["connections"], 2);
    assert_eq!(allowed.json("DELETE", "?host=shop.test")["ended"][0]["connections"], 2);
    let line = allowed.server.wait_for_line("TLS secrets of these connections are no longer written");
    assert!(line.contains("connections=2") && line.contains("host=\"shop.test\""), "{line}");
    for version in versions {
        allowed.get("shop.test", "/after", version);
    }
    assert!(allowed.json("GET", "")["selections"].as_array().unwrap().is_empty());
    assert_eq!(allowed.labels(), expected);
    assert_eq!(fs::metadata(allowed.file()).unwrap().permissions().mode() & 0o7777, 0o600);

    capture.stop_after(8);
    let tls = format!("tcp.port=={port},tls");
    let http = format!("tls.port=={port},http");
    let mut names =
        capture.packets(&["-d", &tls], "tls.handshake.type == 1", &["tls.handshake.extensions_server_name"]);
    names.sort();
    assert_eq!(names, [["other.test"; 2].as_slice(), ["shop.test"; 6].as_slice()].concat());
    let plain = |options: &[&str], filter, fields: &[&str]| {
        capture.packets(&[&["-d", &tls, "-d", &http], options].concat(), filter, fields)
    };
    assert!(plain(&[], "http", &["http.request.uri"]).is_empty());
    let keys = format!("tls.keylog_file:{}", allowed.file().display());
    let keys = ["-o", keys.as_str()];
    assert_eq!(plain(&keys, "http.request", &["http.host", "http.request.uri"]), ["shop.test /during"; 2]);
    assert_eq!(plain(&keys, "http.response", &["http.response.code"]), ["200"; 2]);
}

#[test]
fn a_client_is_told_by_the_address_that_proxy_protocol_reports() {
    let backend = Backend::start("one");
    let allowed = Allowed::start(&backend, &["--proxy-protocol"]);
    let begun = allowed.json("POST", "?client=::ffff:203.0.113.7");
    assert_eq!((&begun["client"], &begun["host"]), (&"203.0.113.7".into(), &Value::Null));
    for (address, connections) in [("203.0.113.8", 0), ("203.0.113.7", 1), ("127.0.0.1", 1)] {
        let mut stream = TcpStream::connect(allowed.server.https).unwrap();
        write!(stream, "PROXY TCP4 {address} 198.51.100.1 4242 443\r\n").unwrap();
        let root = allowed.server.authority.root();
        assert_eq!(client::get_over(stream, "other.test", "/", &root, &TLS12).unwrap().status, 200);
        assert_eq!(allowed.json("GET", "")["connections"], connections, "{address}");
    }
    wait_until("the secret is in the file", || allowed.labels() == ["CLIENT_RANDOM"]);
}

#[test]
fn what_cannot_be_selected_is_refused_with_what_to_write_instead() {
    let backend = Backend::start("one");
    let allowed = Allowed::start(&backend, &[]);
    let refused = |method: &str, query: &str| {
        let answer = ask(allowed.server.admin, method, &format!("/api/keylog{query}"), &["Host: [::1]:1"]);
        (answer.status, answer.body)
    };
    let rows: [(&str, &str, u16, &str); 10] = [
        ("POST", "", 400, "exactly one host or one client"),
        ("POST", "?host=shop.test&client=127.0.0.1", 400, "cannot be given together"),
        ("POST", "?host=shop.test&for=11m", 400, "from 1s to 10m"),
        ("POST", "?host=shop.test&for=0s", 400, "from 1s to 10m"),
        ("POST", "?host=shop.test&file=/etc/passwd", 400, "takes no parameter \"file\"; it takes host"),
        ("POST", "?client=localhost", 400, "the address of a client"),
        ("POST", "?host=shpo.test", 404, "the nearest: shop.test, "),
        ("POST", "?host=a.wild.test", 404, "*.wild.test serves this name"),
        ("GET", "?host=shop.test", 400, "takes no parameter"),
        ("PUT", "?host=shop.test", 405, "GET, HEAD, POST, DELETE"),
    ];
    for (method, query, status, text) in rows {
        let (found, body) = refused(method, query);
        assert!(found == status && body.contains(text), "{method} {query}: {found} {body}");
    }
    assert!(allowed.json("GET", "")["selections"].as_array().unwrap().is_empty());
    assert_eq!(allowed.json("POST", "?host=*.wild.test")["host"], "*.wild.test");
    for index in 1..8 {
        allowed.json("POST", &format!("?client=2001:db8::{index}&for=1m"));
    }
    assert_eq!(refused("POST", "?client=2001:db8::8").0, 429);
    assert_eq!(allowed.json("DELETE", "")["ended"].as_array().unwrap().len(), 8);
}

#[test]
fn pages_of_other_sites_and_names_that_they_could_have_are_refused() {
    let backend = Backend::start("one");
    let allowed = Allowed::start(&backend, &[]);
    let status = |method: &str, headers: &[&str]| {
        ask(allowed.server.admin, method, "/api/keylog?client=127.0.0.1", headers).status
    };
    for headers in [
        ["Host: localhost", "Origin: https://evil.example"],
        ["Host: localhost", "Origin: null"],
        ["Host: localhost", "Sec-Fetch-Site: cross-site"],
        ["Host: localhost", "Sec-Fetch-Site: same-site"],
        ["Host: evil.example", "Accept: */*"],
        ["Host: localhost.evil.example:10254", "Accept: */*"],
    ] {
        assert_eq!(status("POST", &headers), 403, "{headers:?}");
        assert_eq!(ask(allowed.server.admin, "GET", "/debug/snapshot", &headers).status, 403, "{headers:?}");
    }
    assert!(allowed.json("GET", "")["selections"].as_array().unwrap().is_empty());
    // Monitoring asks for any name; pages of other sites may not even do that.
    assert_eq!(ask(allowed.server.admin, "GET", "/metrics", &["Host: handfast.ingress.svc"]).status, 200);
    assert_eq!(ask(allowed.server.admin, "GET", "/metrics", &["Host: x", "Origin: https://evil.example"]).status, 403);
    assert_eq!(status("POST", &["Host: localhost"]), 200);
}

#[test]
fn without_the_flag_nothing_is_selected_and_the_flag_is_named() {
    let backend = Backend::start("one");
    let server = Server::start(&two_hosts(backend.address), &[]);
    for method in ["GET", "POST", "DELETE"] {
        let answer = ask(server.admin, method, "/api/keylog", &["Host: localhost"]);
        assert!(answer.status == 403 && answer.body.contains("--allow-keylog FILE"), "{method}: {}", answer.body);
    }
}

#[test]
fn a_file_that_is_removed_ends_the_selection_and_serving_goes_on() {
    let backend = Backend::start("one");
    let mut allowed = Allowed::start(&backend, &[]);
    allowed.json("POST", "?client=127.0.0.1");
    fs::remove_file(allowed.file()).unwrap();
    allowed.get("shop.test", "/", &TLS13);
    let line = allowed.server.wait_for_line("Cannot write the key log");
    assert!(line.contains("ERROR") && line.contains("has been removed; restart"), "{line}");
    assert!(allowed.json("GET", "")["selections"].as_array().unwrap().is_empty());
    allowed.get("shop.test", "/", &TLS12);
    assert!(!allowed.file().exists());
}

#[test]
fn a_file_that_others_may_read_by_now_ends_the_selection_with_a_true_count() {
    let backend = Backend::start("one");
    let mut allowed = Allowed::start(&backend, &[]);
    allowed.json("POST", "?client=127.0.0.1&for=1m");
    let longer = allowed.json("POST", "?client=127.0.0.1&for=5m");
    let line = allowed.server.wait_for_line("are written for longer");
    assert!(line.contains("peer=127.0.0.1:") && line.contains(longer["until"].as_str().unwrap()), "{line}");
    assert_eq!(allowed.json("GET", "")["selections"].as_array().unwrap().len(), 1);
    fs::set_permissions(allowed.file(), fs::Permissions::from_mode(0o644)).unwrap();
    allowed.get("shop.test", "/", &TLS13);
    let line = allowed.server.wait_for_line("Cannot write the key log");
    assert!(line.contains("open to other users now (mode 0644): chmod 600"), "{line}");
    let line = allowed.server.wait_for_line("TLS secrets of these connections are no longer written");
    assert!(line.contains("connections=0") && line.contains("the file cannot be written"), "{line}");
    assert_eq!(allowed.json("GET", "")["connections"], 0);
    assert!(allowed.labels().is_empty());
}

#[test]
fn a_file_that_cannot_hold_secrets_keeps_handfast_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("open"), "").unwrap();
    fs::set_permissions(at("open"), fs::Permissions::from_mode(0o644)).unwrap();
    symlink(at("open"), at("link")).unwrap();
    let fails = |path: &Path, remedy: &str| {
        let mut command = handfast(&["run", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin"]);
        command.arg("127.0.0.1:0").arg("--source").arg(directory.path()).arg("--allow-keylog").arg(path);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("--allow-keylog {}: ", path.display())) && text.contains(remedy), "{text}");
    };
    fails(&at("open"), "chmod 600");
    fails(&at("link"), "symbolic link");
    fails(directory.path(), "not a regular file");
    fails(&at("none/keys.log"), "an existing directory");
    // Another process has it.
    let taken = fs::File::create(at("taken")).unwrap();
    fs::set_permissions(at("taken"), fs::Permissions::from_mode(0o600)).unwrap();
    taken.lock().unwrap();
    fails(&at("taken"), "another process writes it");
}

/// An address of this machine that is not loopback, if it has one. Nothing is sent to find out.
fn own_address() -> Option<IpAddr> {
    let address = |bind: &str, to: &str| {
        let socket = UdpSocket::bind(bind).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
    };
    address("0.0.0.0:0", "192.0.2.1:9").or_else(|| address("[::]:0", "[2001:db8::1]:9"))
}

/// Where the machine has loopback only, the decision is tested in `src/admin/gate.rs` alone.
#[test]
fn peers_from_elsewhere_get_metrics_and_health_and_the_rest_only_if_exposed() {
    let Some(own) = own_address() else { return };
    let directory = tempfile::tempdir().unwrap();
    for exposed in [false, true] {
        let file = directory.path().join("addresses");
        let mut command = handfast(&["run", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "[::]:0"]);
        command.arg("--source").arg(directory.path()).arg("--addresses-file").arg(&file);
        if exposed {
            command.env("HANDFAST_ADMIN_EXPOSE_API", "true");
        }
        command.env("HANDFAST_ALLOW_KEYLOG", directory.path().join("keys.log"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("it serves", || file.exists());
        let port = addresses(&file)("admin").port();
        let status = |ip: IpAddr, method: &str, target: &str, host: &str| {
            ask(SocketAddr::new(ip, port), method, target, &[&format!("Host: {host}")]).status
        };
        for target in ["/", "/metrics", "/healthz", "/readyz"] {
            assert_eq!(status(own, "GET", target, "handfast.svc"), 200, "{target}");
        }
        let expected = if exposed { 200 } else { 403 };
        for (method, target) in
            [("GET", "/debug/snapshot"), ("GET", "/api/keylog"), ("POST", "/api/keylog?client=192.0.2.1")]
        {
            assert_eq!(status(own, method, target, "localhost"), expected, "{target}");
            assert_eq!(status(own, method, target, "handfast.svc"), expected, "{target}");
            assert_eq!(status("127.0.0.1".parse().unwrap(), method, target, "localhost"), 200, "{target}");
        }
        signal(child.id(), "TERM");
        assert!(wait_for_exit(&mut child).success());
        fs::remove_file(file).unwrap();
    }
}
