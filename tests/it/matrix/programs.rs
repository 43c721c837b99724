//! Runs the clients of the matrix, each with a request, and says what they say.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::raw;
use super::row::Row;
use crate::binary::{PATIENCE, program};
use crate::python::{Requirements, environment};

/// Every client of the matrix.
pub const CLIENTS: [&str; 10] =
    ["curl", "gnutls", "java", "node", "nss", "openssl", "openssl-1.0.2", "python", "raw", "tlslite"];

/// What clients run in.
pub struct Programs {
    /// Where the files are that they are given.
    folder: PathBuf,
    python: PathBuf,
    java: Java,
}

impl Programs {
    pub fn new(folder: &Path) -> Self {
        let lists = [Requirements { file: "it/clients/requirements.txt", built: None }];
        let folder = folder.to_owned();
        for (database, ca) in [("nss-ca", "ca.pem"), ("nss-strangers", "strangers.pem")] {
            let path = folder.join(database);
            std::fs::create_dir(&path).unwrap();
            let database = format!("sql:{database}");
            for words in [&["-N", "--empty-password"][..], &["-A", "-n", "ca", "-t", "C,,", "-i", ca]] {
                let mut certutil = clean(program("certutil"));
                let output = certutil.args(words).args(["-d", &database]).current_dir(&folder).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        }
        let java = Java::start(&folder);
        Self { folder, python: environment("clients", &lists), java }
    }

    /// Everything that a client says.
    pub fn run(&mut self, address: SocketAddr, row: &Row) -> String {
        let port = address.port().to_string();
        let name = row.name.unwrap_or("localhost");
        let words = row.words.split_whitespace();
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        let at = [format!("name={name}"), format!("port={port}")];
        match row.client {
            "raw" => return raw::run(address, row),
            "java" => return self.java.ask(&format!("{} {}", at.join(" "), row.words)),
            _ => {}
        }
        let script = |interpreter: &Path, name: &str| {
            let mut command = Command::new(interpreter);
            command.arg(script(name)).args(&at).args(words.clone());
            command
        };
        let command = match row.client {
            "curl" => {
                let mut curl = program("curl");
                let (scheme, words): (_, Vec<&str>) = match row.words {
                    "http" => ("http", Vec::new()),
                    _ => ("https", words.collect()),
                };
                curl.args(["--silent", "--show-error", "--resolve", &format!("{name}:{port}:127.0.0.1")]);
                curl.args(words).arg(format!("{scheme}://{name}:{port}/"));
                curl
            }
            "gnutls" => {
                let mut gnutls = program("gnutls-cli");
                gnutls.args(["--port", &port, "--sni-hostname", name, "--verify-hostname", name]).args(words);
                gnutls.arg("127.0.0.1");
                gnutls
            }
            "node" => script(&PathBuf::from(program("node").get_program()), "handshake.js"),
            "nss" => {
                let mut nss = program("tstclnt");
                // From a file: at the end of standard input it would wait for ever.
                std::fs::write(self.folder.join("request"), &request).unwrap();
                nss.args(["-h", "127.0.0.1", "-p", &port, "-a", name, "-A", "request"]).args(words);
                nss
            }
            "openssl" => {
                let mut openssl = program("openssl");
                openssl.args(["s_client", "-connect", &address.to_string(), "-quiet", "-verify_return_error"]);
                if row.name.is_some() {
                    openssl.args(["-servername", name]);
                }
                openssl.args(words);
                openssl
            }
            "openssl-1.0.2" => script(&self.python, "openssl_102.py"),
            "python" => script(&self.python, "handshake.py"),
            "tlslite" => script(&self.python, "tlslite_ng.py"),
            other => panic!("no client {other}"),
        };
        self.output(command, &request)
    }

    /// Runs a command to its end.
    fn output(&self, command: Command, input: &str) -> String {
        let mut child = self.bounded(command).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A client that has failed already does not read. The others get no end of input before theirs: some would leave
        // without an answer.
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// The same command with an end, in the folder and without the settings of whoever runs the tests.
    fn bounded(&self, command: Command) -> Command {
        let mut timeout = clean(program("timeout"));
        timeout.arg(PATIENCE.as_secs().to_string()).arg(command.get_program()).args(command.get_args());
        timeout.current_dir(&self.folder).stdout(Stdio::piped());
        timeout
    }
}

/// What a client prints when it is told an alert.
pub fn spelling(client: &str, alert: &str) -> String {
    match client {
        "gnutls" => format!("Received alert [{}]", raw::alert_number(alert)),
        _ => alert.replace('_', " "),
    }
}

/// Makes what a client prints comparable with [`spelling`].
pub fn plain(said: &str) -> String {
    said.replace('_', " ").to_lowercase()
}

/// An environment without anybody's trust stores, proxies and options.
fn clean(mut command: Command) -> Command {
    let kept = ["HOME", "PATH", "XDG_CACHE_HOME"];
    command.env_clear().envs(kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients").join(name)
}

/// One virtual machine for all rows: it takes longer to start than all of them together.
struct Java {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl Java {
    fn start(folder: &Path) -> Self {
        let names: std::collections::BTreeSet<_> = super::row::rows().iter().filter_map(|row| row.name).collect();
        let hosts = names.into_iter().fold("127.0.0.1".to_owned(), |hosts, name| hosts + " " + name);
        std::fs::write(folder.join("hosts"), hosts).unwrap();
        let mut java = clean(program("java"));
        java.args(["-Djdk.net.hosts.file=hosts", "-Djdk.httpclient.allowRestrictedHeaders=connection"]);
        // One connection for each request, and none that waits for another one.
        java.args(["-Dsun.net.http.retryPost=false", "-Dhttp.keepAlive=false"]).arg(script("Handshake.java"));
        let mut child = java.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { stdin: child.stdin.take().unwrap(), child, answers }
    }

    fn ask(&mut self, words: &str) -> String {
        writeln!(self.stdin, "{words}").unwrap();
        self.answers.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{words}: {error}"))
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
