//! `handfast demo`: a tour that needs nothing but this binary.
//!
//! It makes a certificate authority, writes manifests, serves them with the real controller and a backend that echoes,
//! and plays client: healthy requests, a refused host, a rejected certificate, and the counters that moved. What it
//! says is checked against what happens; a difference is a failed demo.

pub mod client;
pub mod echo;
mod manifests;
pub mod pki;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio_util::sync::CancellationToken;

use self::client::{Answer, ClientError};
use crate::app::{Addresses, Running, Signals};
use crate::check;
use crate::clock;
use crate::config::{AccessLogFormat, DemoArgs, RunArgs};
use crate::tls::Version;

/// Plays the demo. The exit status says whether everything was as said.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let directory = Directory::create(args.directory.as_deref())?;
    let once = args.once;
    let demo = async {
        let demo = Demo::start(&directory, args).await?;
        let differences = demo.tour().await?;
        if !once {
            demo.say_what_to_try(&directory)?;
        }
        anyhow::Ok((demo, differences))
    };
    let (demo, differences) = tokio::select! {
        demo = demo => demo?,
        // Dropping `directory` cleans up.
        _ = signals.next() => return Ok(ExitCode::FAILURE),
    };
    if !once {
        signals.next().await;
        say("\nEnding.")?;
    }
    demo.end.cancel();
    demo.running.abort().await;
    Ok(if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the manifests are; a temporary one is removed with this value.
struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    fn create(given: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        if let Some(path) = given {
            builder
                .recursive(true)
                .create(path)
                .with_context(|| format!("cannot create --directory {}", path.display()))?;
            let mut entries =
                std::fs::read_dir(path).with_context(|| format!("cannot read --directory {}", path.display()))?;
            if entries.next().is_some() {
                bail!("--directory {} is not empty: name a new directory", path.display());
            }
            return Ok(Self { path: path.to_owned(), temporary: false });
        }
        let path = std::env::temp_dir().join(format!("handfast-demo-{:016x}", fastrand::u64(..)));
        builder.create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path, temporary: true })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // Left behind only if somebody else changes it meanwhile.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

struct Demo {
    running: Running,
    root: String,
    end: CancellationToken,
}

impl Demo {
    async fn start(directory: &Directory, args: DemoArgs) -> anyhow::Result<Self> {
        let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen for the demo's backend")?;
        let address = backend.local_addr().context("cannot read the address of the demo's backend")?;
        let now = (clock::system())();
        let root = manifests::write(&directory.path, address, now)?;
        let end = CancellationToken::new();
        tokio::spawn(echo::serve(backend, end.clone()));

        say(&format!("Manifests of five hosts, with certificates of a new CA, are in {}.", directory.path.display()))?;
        for host in manifests::HOSTS {
            say(&format!("  {:<20} {}", host.host, host.note))?;
        }
        let free = |given: Option<SocketAddr>, port: u16| {
            given.unwrap_or_else(|| {
                let preferred = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                // A first look should not fail because another program has the usual port.
                if TcpListener::bind(preferred).is_ok() {
                    preferred
                } else {
                    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
                }
            })
        };
        let run = RunArgs {
            source: Some(directory.path.to_string_lossy().into_owned()),
            http: free(args.http, 8080),
            https: free(args.https, 8443),
            admin: free(args.admin, 10254),
            admin_expose_api: false,
            allow_keylog: None,
            access_log: AccessLogFormat::Off,
            addresses_file: None,
            https_public_port: None,
            state_dir: None,
            workers: Some(1),
            ..RunArgs::defaults()
        };
        let https = run.https;
        let run = RunArgs { https_public_port: Some(https.port()).filter(|port| *port != 0 && *port != 443), ..run };
        let running = Running::start(run).await?;
        Ok(Self { running, root, end })
    }

    /// Plays the client; returns how often something was not as said.
    async fn tour(&self) -> anyhow::Result<usize> {
        let addresses = self.running.addresses;
        say(&format!(
            "\nServing https on {}, http on {}, metrics on {}.",
            addresses.https, addresses.http, addresses.admin
        ))?;
        let publication = self.running.publications.borrow().clone();
        let compiled = publication.ok_or_else(|| anyhow!("nothing has been published"))?.compiled;
        let now = (clock::system())();
        say("\n`handfast check` says:\n")?;
        say(&check::report(&check::Input::new(&compiled.snapshot, &compiled.diagnostics, now)).table())?;

        let before = counters(addresses).await?;
        let mut differences = 0;
        let mut step = |text: String, as_said: bool| {
            differences += usize::from(!as_said);
            say(&format!("{} {text}", if as_said { "  ok " } else { "  UNEXPECTED " }))
        };
        say("The tour:\n")?;
        for (host, version) in
            [("ecdsa.localhost", &TLS13), ("rsa.localhost", &TLS12), ("anything.apps.localhost", &TLS13)]
        {
            let answer = self.get(host, version).await?;
            let expected =
                if version.version == rustls::ProtocolVersion::TLSv1_2 { Version::Tls12 } else { Version::Tls13 };
            match answer {
                Ok(answer) => {
                    let tls = answer.version.map_or("?", Version::label);
                    let text =
                        format!("https://{host}/ answers {} over TLS {tls} ({})", answer.status, answer.parameters);
                    step(text, answer.status == 200 && answer.version == Some(expected))?;
                }
                Err(error) => step(format!("https://{host}/: {error}"), false)?,
            }
        }
        let plain = blocking(move || client::get_plain(addresses.http, "ecdsa.localhost", "/")).await?;
        match plain {
            Ok(answer) => step(
                format!("http://ecdsa.localhost/ is redirected to https ({})", answer.status),
                answer.status == 308,
            )?,
            Err(error) => step(format!("http://ecdsa.localhost/: {error}"), false)?,
        }
        for (host, alert) in [
            ("mismatch.localhost", "UnrecognisedName"),
            ("nobody.localhost", "UnrecognisedName"),
            ("expired.localhost", "certificate expired"),
        ] {
            match self.get(host, &TLS13).await? {
                Ok(answer) => step(format!("https://{host}/ answers {}, but should fail", answer.status), false)?,
                Err(error) => {
                    step(format!("https://{host}/ fails in the client: {error}"), error.to_string().contains(alert))?
                }
            }
        }

        say("\nThe server counted (/metrics):\n")?;
        let expected = [
            (r#"handfast_tls_handshakes_total{host="ecdsa.localhost",resumed="false",version="1.3"}"#, 1.0),
            (r#"handfast_tls_handshakes_total{host="rsa.localhost",resumed="false",version="1.2"}"#, 1.0),
            (r#"handfast_tls_handshakes_total{host="*.apps.localhost",resumed="false",version="1.3"}"#, 1.0),
            (r#"handfast_http_requests_total{code="308",host="ecdsa.localhost"}"#, 1.0),
            (
                r#"handfast_tls_handshake_failures_total{blame="certificate",host="mismatch.localhost",reason="host-refused"}"#,
                1.0,
            ),
            (r#"handfast_tls_handshake_failures_total{blame="client",host="",reason="unknown-host"}"#, 1.0),
            (
                r#"handfast_tls_handshake_failures_total{blame="certificate",host="expired.localhost",reason="rejected-expired"}"#,
                1.0,
            ),
        ];
        let missing = |after: &BTreeMap<String, f64>| {
            let moved = |name: &str| after.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
            expected.iter().filter(|(name, by)| moved(name) != *by).count()
        };
        // The last client is gone before the server has read its alert: look again until it has.
        let mut after = counters(addresses).await?;
        for _ in 0..100 {
            if missing(&after) == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            after = counters(addresses).await?;
        }
        for (name, by) in expected {
            let moved = after.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
            step(format!("{name} +{moved}"), moved == by)?;
        }
        let end = match differences {
            0 => "\nEverything worked as announced.".to_owned(),
            count => format!("\n{count} of the steps did not work as announced."),
        };
        say(&end)?;
        Ok(differences)
    }

    async fn get(
        &self,
        host: &'static str,
        version: &'static SupportedProtocolVersion,
    ) -> anyhow::Result<Result<Answer, ClientError>> {
        let (address, root) = (self.running.addresses.https, self.root.clone());
        blocking(move || client::get(address, host, "/", &root, version)).await
    }

    fn say_what_to_try(&self, directory: &Directory) -> anyhow::Result<()> {
        let Addresses { http, https, admin, webhook: _ } = self.running.addresses;
        let directory = directory.path.display();
        let mut text = String::from("\nTry it yourself, in another terminal:\n\n");
        let _ = write!(
            text,
            "  curl --cacert {directory}/ca.pem https://ecdsa.localhost:{https}/
  curl --cacert {directory}/ca.pem --tls-max 1.2 --http1.1 https://rsa.localhost:{https}/
  curl --cacert {directory}/ca.pem https://mismatch.localhost:{https}/
  curl -i http://ecdsa.localhost:{http}/
  handfast failures --admin 127.0.0.1:{admin}
  curl -s http://localhost:{admin}/metrics | grep handfast_tls
  curl -s http://localhost:{admin}/debug/snapshot
  handfast check {directory}

Edit a file in {directory}, and the next handshake sees it. Ctrl-C ends the demo.",
            https = https.port(),
            http = http.port(),
            admin = admin.port(),
        );
        say(&text)
    }
}

/// Runs a blocking client beside the controller.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the demo's client ended because of a bug")
}

/// All samples of /metrics.
async fn counters(addresses: Addresses) -> anyhow::Result<BTreeMap<String, f64>> {
    let answer = blocking(move || client::get_plain(addresses.admin, "localhost", "/metrics")).await??;
    let samples = answer.text.lines().filter(|line| !line.starts_with('#'));
    Ok(samples
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect())
}

fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
