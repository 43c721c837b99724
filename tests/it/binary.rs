//! Runs the real binary and watches it from outside.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use handfast::demo::pki::{Authority, Issued, KeyType};
use rustls::pki_types::UnixTime;

/// How long anything may take before the test gives up. Generous: machines are shared, and nothing waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// True for the long versions: `make soak`.
pub fn soak() -> bool {
    std::env::var_os("HANDFAST_SOAK").is_some()
}

/// A command with a clean environment.
pub fn handfast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handfast"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// Where `make static` puts the optimised binary.
pub fn static_release() -> PathBuf {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let triple = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // The tests' own one is target/debug/handfast or target/release/handfast.
    let target = Path::new(env!("CARGO_BIN_EXE_handfast")).ancestors().nth(2).unwrap();
    target.join(triple).join("release/handfast")
}

/// `handfast run` on a directory, with free ports on loopback; the addresses go to `addresses`.
pub fn run_on(directory: &Path, addresses: &Path) -> Command {
    let mut command = handfast(&["run", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.arg("--source").arg(directory).arg("--addresses-file").arg(addresses);
    command
}

/// The same command under a limit on open files.
fn limited(command: &Command, soft: u32, hard: u32) -> Command {
    let script = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$0\" \"$@\"");
    let mut limited = Command::new("sh");
    limited.args(["-c", &script]).arg(command.get_program()).args(command.get_args()).env_clear().stdin(Stdio::null());
    limited
}

/// The addresses that a controller wrote.
pub fn addresses(file: &Path) -> impl Fn(&str) -> SocketAddr {
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    move |name| json[name].as_str().unwrap().parse().unwrap()
}

/// A running controller on a directory of its own.
pub struct Server {
    child: Child,
    /// Its manifests.
    pub directory: tempfile::TempDir,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
    pub authority: Authority,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    /// Writes the manifests, starts, and waits until it serves.
    pub fn start(manifests: &dyn Fn(&Authority) -> Vec<(String, String)>, args: &[&str]) -> Self {
        Self::start_with_files(manifests, args, None)
    }

    /// The same under a limit on open files: the soft one and the hard one.
    pub fn start_with_files(
        manifests: &dyn Fn(&Authority) -> Vec<(String, String)>,
        args: &[&str],
        files: Option<(u32, u32)>,
    ) -> Self {
        let authority = Authority::new("Test", UnixTime::now()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in manifests(&authority) {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        std::fs::write(directory.path().join("ca.pem"), authority.root()).unwrap();
        let addresses_file = directory.path().join("addresses.json.out");
        let mut command = run_on(directory.path(), &addresses_file);
        command.args(args);
        if let Some((soft, hard)) = files {
            command = limited(&command, soft, hard);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { return };
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let nowhere = "127.0.0.1:0".parse().unwrap();
        let seen = Vec::new();
        let mut server = Self { child, directory, http: nowhere, https: nowhere, admin: nowhere, authority, log, seen };
        server.wait_for_line("Serving.");
        let address = addresses(&addresses_file);
        (server.http, server.https, server.admin) = (address("http"), address("https"), address("admin"));
        server
    }

    /// The first line of the log, from now on, that contains `text`.
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?} in the log:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Writes a manifest as editors and kubelets do: a new file takes the old one's place.
    pub fn write(&self, name: &str, text: &str) {
        let temporary = self.directory.path().join(format!(".{name}.new"));
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.directory.path().join(name)).unwrap();
    }

    /// All lines of the log that have been looked at.
    pub fn log(&self) -> String {
        self.seen.join("\n")
    }

    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A page of the admin listener.
    pub fn admin(&self, path: &str) -> (u16, String) {
        page(self.admin, path)
    }

    /// The sum of a metric's samples whose labels contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.admin("/metrics").1, name, labels)
    }

    /// Waits until a metric has a value: what a client sees comes before what the server counts.
    pub fn wait_for_metric(&self, name: &str, labels: &[&str], expected: f64) {
        wait_until(&format!("{name}{labels:?} = {expected}"), || {
            let found = self.metric(name, labels);
            assert!(found <= expected, "{name}{labels:?} is {found}, more than {expected}");
            found == expected
        });
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.child)
    }

    /// Largest resident size so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(status.success());
}

pub fn wait_for_exit(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until("the process ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Looks again and again until it is so, or patience ends.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// As [`wait_until`], while the tasks of this runtime go on.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client program that the tests need; `make test` installs it.
pub fn program(name: &str) -> Command {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).stdout(Stdio::null()).status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "{name} is missing: `make test` installs it, or do it yourself"
    );
    Command::new(name)
}

pub fn issue(authority: &Authority, names: &[&str], key: KeyType) -> Issued {
    authority.issue(names, key, UnixTime::now(), -1..30).unwrap()
}

/// An Ingress for one host with one path, and its Secret if there is a certificate.
pub fn host(name: &str, host: &str, issued: Option<&Issued>, service: &str, annotations: &str) -> (String, String) {
    let tls = issued.map_or_else(String::new, |_| format!("  tls:\n  - hosts: [\"{host}\"]\n    secretName: {name}\n"));
    let annotations: String = annotations.lines().map(|line| format!("    {line}\n")).collect();
    let annotations = if annotations.is_empty() { annotations } else { format!("  annotations:\n{annotations}") };
    let ingress = format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n{annotations}spec:\n{tls}  rules:\n  - host: \"{host}\"\n    http:\n      paths:\n      - path: /\n        pathType: Prefix\n        backend:\n          service:\n            name: {service}\n            port:\n              number: 80\n"
    );
    let secret = issued.map_or_else(String::new, |issued| secret(name, issued));
    (format!("{name}.yaml"), format!("{ingress}---\n{secret}"))
}

pub fn secret(name: &str, issued: &Issued) -> String {
    let value = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": issued.chain(), "tls.key": issued.key, "ca.crt": issued.root},
    });
    format!("{value}\n")
}

/// A Service with the endpoints given.
pub fn service(name: &str, endpoints: &[SocketAddr]) -> (String, String) {
    let mut text =
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n");
    for (index, endpoint) in endpoints.iter().enumerate() {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{index}, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nports: [{{port: {}}}]\nendpoints: [{{addresses: [\"{}\"]}}]\n",
            endpoint.port(),
            endpoint.ip()
        );
    }
    (format!("service-{name}.yaml"), text)
}

/// Files of a directory, for comparisons.
pub fn listing(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A page of an admin listener.
pub fn page(admin: SocketAddr, path: &str) -> (u16, String) {
    let answer = handfast::demo::client::get_plain(admin, "localhost", path).unwrap();
    let body = answer.text.split_once("\r\n\r\n").unwrap().1.to_owned();
    (answer.status, body)
}

/// The sum of a metric's samples, of all that a page holds, whose labels contain all of `labels`.
pub fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = metrics.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}
