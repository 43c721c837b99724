//! The commands that do not serve: `check`, `chain`, `clients`, `crd`, `explain`, `failures`, `probe`, `ready`. The shell around pure functions.
//!
//! `files, standard input, clock ──▶ check/, explain.rs, api/ ──▶ standard output, exit status`
//!
//! Exit status: 0 all is well, 1 something is wrong with what was judged, 2 it could not be judged.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde::de::DeserializeOwned;

use crate::api::crd;
use crate::app::directory_options;
use crate::check::{self, Verdict};
use crate::clock;
use crate::compile::{Change, Compiler, Diagnostic, Kind, ObjectKey, Options, Problem};
use crate::config::{
    AnchorArgs, ChainArgs, ChainOutput, CheckArgs, FailOn, FailuresArgs, IntermediateArgs, ListOutput, OutputFormat,
    ProbeArgs, ReadyArgs,
};
use crate::demo::client::{Answer, get_plain};
use crate::explain;
use crate::failures::report::{FailuresReport, ShadowReport};
use crate::failures::view::{self, Follower};
use crate::probe;
use crate::probe::target::Target;
use crate::snapshot::HostName;
use crate::source;
use crate::tls::chain::{Candidates, Chain, Credential, Name, TrustAnchors};

/// Where manifests are looked for if nobody says otherwise.
pub(crate) const DEFAULT_DIRECTORY: &str = "./manifests";

/// Largest input that is not a directory: a whole cluster in one stream.
const INPUT_LIMIT: u64 = 256 * 1024 * 1024;

/// `handfast check`.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let path = args.path.as_deref().or(args.source.as_deref()).unwrap_or(Path::new(DEFAULT_DIRECTORY));
    if path.as_os_str() == "cluster" && !path.exists() {
        bail!("check reads manifests, not a cluster. Name a directory, a file, or - for standard input");
    }
    let at = args.at.unwrap_or_else(|| (clock::system())());
    // A snapshot is what would be served; everything else is about all Ingresses, whoever serves them today.
    let every_class = args.output != OutputFormat::Snapshot;
    if args.summary && matches!(args.output, OutputFormat::Sarif | OutputFormat::Snapshot) {
        bail!("--summary prints counts as a table or JSON: leave it out, or write --output table or --output json");
    }
    let adopted_classes = args.adopt_class.clone();
    let options = Options { every_class, adopted_classes, ..directory_options(&args.compile)? };
    let changes = manifests(path)?;
    let files = files(path, &changes);
    let compile = |options: Options| {
        let mut compiler = Compiler::new(options);
        changes.iter().cloned().for_each(|change| compiler.apply(change));
        let compiled = compiler.compile(at);
        (compiler, compiled)
    };
    let (compiler, compiled) = compile(options.clone());
    // What traffic gets is what would be served, without the Ingresses of others.
    let is_others = |diagnostic: &Diagnostic| matches!(diagnostic.problem, Problem::OtherClass { .. });
    let served = compiled.diagnostics.iter().any(is_others);
    let served = served.then(|| compile(Options { every_class: false, ..options }).1.snapshot);
    let ingresses: Vec<ObjectKey> = compiler.objects(Kind::Ingress).into_iter().map(|(key, _, _)| key).collect();
    let mut report = check::report(&check::Input {
        snapshot: &compiled.snapshot,
        served: served.as_deref(),
        diagnostics: &compiled.diagnostics,
        ingresses: &ingresses,
        endpoints_are_known: !compiler.objects(Kind::EndpointSlice).is_empty(),
        ignored: &args.ignore,
        at,
    });
    report.add_policies(&compiled.policies);
    if args.clients {
        report.add_clients(&compiled.snapshot);
    }
    let text = match args.output {
        OutputFormat::Json if args.summary => {
            pretty(&serde_json::json!({"verdict": report.verdict, "at": report.at, "summary": report.summary}))?
        }
        OutputFormat::Json => pretty(&report)?,
        OutputFormat::Sarif => pretty(&check::sarif::log(&report, &files))?,
        OutputFormat::Snapshot => compiled.snapshot.render(),
        OutputFormat::Table => report.text(check::Form { is_quiet: args.quiet, is_summary: args.summary }),
    };
    print(text.as_bytes())?;
    let limit = match args.fail_on {
        FailOn::Error => Verdict::Error,
        FailOn::Warning => Verdict::Warning,
    };
    Ok(if report.verdict >= limit { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `handfast chain`.
pub(crate) fn chain(args: &ChainArgs) -> anyhow::Result<ExitCode> {
    let anchors = trust_anchors(&args.anchors)?;
    let candidates = intermediates(&args.intermediates)?;
    let at = args.at.unwrap_or_else(|| (clock::system())());
    let tls_crt = read(&args.file)?;
    let (chain, findings) = match &args.key {
        None => Chain::load_completed(&tls_crt, b"", &anchors, &candidates),
        Some(key) => {
            let loaded = Credential::load_completed(&tls_crt, &read(key)?, b"", &anchors, &candidates);
            match loaded.credential.and_then(Arc::into_inner) {
                Some(credential) => (Some(credential.into_chain()), loaded.findings),
                // The key is of no use; what can be said of the chain is said all the same.
                None => {
                    let (chain, mut findings) = Chain::load_completed(&tls_crt, b"", &anchors, &candidates);
                    let new = |finding: &crate::tls::chain::Finding| !findings.contains(finding);
                    let about_key: Vec<_> = loaded.findings.into_iter().filter(new).collect();
                    findings.extend(about_key);
                    (chain, findings)
                }
            }
        }
    };
    let report = check::chain::judge(chain.as_ref(), findings, args.name.as_ref(), at);
    let text = match args.output {
        ChainOutput::Json => pretty(&report)?,
        ChainOutput::Table => report.table(),
    };
    print(text.as_bytes())?;
    Ok(if report.accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `handfast clients`.
pub(crate) fn clients(output: ListOutput) -> anyhow::Result<ExitCode> {
    let text = match output {
        ListOutput::Json => pretty(&check::clients::entries())?,
        ListOutput::Table => check::clients::list(),
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `handfast crd`.
pub(crate) fn crd() -> anyhow::Result<ExitCode> {
    let text: String = crd::files().into_iter().map(|(_, text)| text).collect();
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `handfast explain`.
pub(crate) fn explain(code: Option<&str>) -> anyhow::Result<ExitCode> {
    let text = match code {
        None => explain::list(),
        Some(code) => match explain::explain(code) {
            Some(text) => text,
            None => match explain::similar(code).as_slice() {
                [] => {
                    bail!("No code, effect or annotation has the name {code:?}. `handfast explain` lists all of them")
                }
                similar => {
                    bail!("No code, effect or annotation has the name {code:?}. Do you mean {}?", similar.join(" or "))
                }
            },
        },
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `handfast probe`.
pub(crate) fn probe(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let anchors = trust_anchors(&args.anchors)?;
    if args.timeout.is_zero() {
        bail!("--timeout 0s leaves no time for an answer. Write for example 5s");
    }
    let options = probe::Options { name: args.sni.clone(), clients: args.clients, timeout: args.timeout };
    // Where somebody watches, one line tells how far it is, and makes room for the result at the end.
    let is_watched = std::io::stderr().is_terminal();
    let line = |text: &str| {
        if is_watched {
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        }
    };
    let progress = |what: &str, connections: usize| line(&format!("{}: {what} ({connections})", args.target));
    let seen = probe::probe(&args.target, &options, &progress);
    line("");
    let report = probe::report::report(&seen?, &anchors, (clock::system())());
    print_as(args.output, &report, || report.table())?;
    Ok(if report.verdict == Verdict::Error { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `handfast ready`.
pub(crate) fn ready(args: &ReadyArgs) -> anyhow::Result<ExitCode> {
    let deadline = Instant::now() + args.wait;
    loop {
        let answer = fetch(&args.admin, "/readyz");
        if let Ok(Answer { status: 200, .. }) = answer {
            print(format!("{} is ready\n", args.admin).as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let body = body(&answer?).trim().to_owned();
            let _ = writeln!(std::io::stderr(), "handfast: {} is not ready: {body}", args.admin);
            return Ok(ExitCode::FAILURE);
        }
        std::thread::sleep(left.min(Duration::from_millis(500)));
    }
}

/// `handfast failures`.
pub(crate) fn failures(args: &FailuresArgs) -> anyhow::Result<ExitCode> {
    let host = match args.host.as_deref() {
        None => String::new(),
        Some("*") => "&host=*".to_owned(),
        Some(name) => {
            let name = HostName::asked_for(name).with_context(|| format!("--host {name:?}"))?;
            format!("&host={name}")
        }
    };
    let query = format!("?limit={}{host}", args.limit);
    if args.shadow {
        let report: ShadowReport = ask(&args.admin, &format!("/api/shadow{query}"))?;
        return print_as(args.output, &report, || view::shadow(&report));
    }
    let path = format!("/api/failures{query}");
    let mut report: FailuresReport = ask(&args.admin, &path)?;
    if !args.follow {
        return print_as(args.output, &report, || view::table(&report));
    }
    let mut follower = Follower::default();
    loop {
        for one in follower.news(&report.failures) {
            let text = match args.output {
                ListOutput::Json => {
                    let mut line = serde_json::to_string(one).context("cannot write JSON")?;
                    line.push('\n');
                    line
                }
                ListOutput::Table => view::entry(one),
            };
            if !print_on(text.as_bytes())? {
                return Ok(ExitCode::SUCCESS);
            }
        }
        // A look a second is what a person can follow. Through a restart of the controller it goes on asking.
        std::thread::sleep(Duration::from_secs(1));
        match ask(&args.admin, &path) {
            Ok(newer) => report = newer,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "handfast: {error:#}");
                std::thread::sleep(Duration::from_secs(4));
            }
        }
    }
}

/// What a page of the admin listener says.
fn ask<T: DeserializeOwned>(admin: &Target, path: &str) -> anyhow::Result<T> {
    let answer = fetch(admin, path)?;
    match answer.status {
        200 => serde_json::from_str(body(&answer))
            .with_context(|| format!("{admin} answers {path} in another format. Is it the admin port of Handfast?")),
        status => bail!("{admin} answers {path} with {status}: {}", body(&answer).trim()),
    }
}

/// Asks the admin listener for a page.
fn fetch(admin: &Target, path: &str) -> anyhow::Result<Answer> {
    addresses(admin)
        .and_then(|addresses| {
            let mut answers = addresses.into_iter().map(|address| get_plain(address, &address.to_string(), path));
            let first = answers.next().context("the name has no address")?;
            // The next address, while there is one and the last has not answered.
            Ok(answers.fold(first, |answer, next| answer.or(next))?)
        })
        .map_err(|error| {
            anyhow!(
                "Cannot reach the admin port at {admin}: {error:#}. Is Handfast running there? Name its address with \
                 --admin, or use `kubectl port-forward`"
            )
        })
}

fn body(answer: &Answer) -> &str {
    answer.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// The addresses of a host; loopback, which may see all pages, first.
fn addresses(target: &Target) -> anyhow::Result<Vec<SocketAddr>> {
    match &target.host {
        Name::Address(address) => Ok(vec![SocketAddr::new(*address, target.port)]),
        Name::Host(name) => {
            let found = (name.as_str(), target.port).to_socket_addrs().context("the name cannot be resolved")?;
            let mut addresses: Vec<SocketAddr> = found.collect();
            addresses.sort_by_key(|address| !address.ip().is_loopback());
            Ok(addresses)
        }
    }
}

fn print_as(
    output: ListOutput,
    report: &impl serde::Serialize,
    table: impl FnOnce() -> String,
) -> anyhow::Result<ExitCode> {
    let text = match output {
        ListOutput::Json => pretty(report)?,
        ListOutput::Table => table(),
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Whom clients are taken to trust.
pub(crate) fn trust_anchors(args: &AnchorArgs) -> anyhow::Result<Arc<TrustAnchors>> {
    let anchors = if args.only_anchors { TrustAnchors::none() } else { TrustAnchors::public() };
    let Some(path) = &args.trust_anchors else { return Ok(Arc::new(anchors)) };
    let anchors = anchors.with_file(&read(path)?).with_context(|| format!("--trust-anchors {}", path.display()))?;
    Ok(Arc::new(anchors))
}

/// What may complete a chain that lacks an intermediate certificate. A file that holds none is a mistake.
pub(crate) fn intermediates(args: &IntermediateArgs) -> anyhow::Result<Arc<Candidates>> {
    let mut candidates = Candidates::new();
    let Some(path) = &args.intermediates else { return Ok(Arc::new(candidates)) };
    let name = || format!("--intermediates {}", path.display());
    if let Some(error) = candidates.add_pem(&read(path)?, "the bundle of --intermediates").into_iter().next() {
        return Err(error).with_context(name);
    }
    if candidates.is_empty() {
        bail!("{}: it has no intermediate certificate. Roots and server certificates cannot complete a chain", name());
    }
    Ok(Arc::new(candidates))
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(bytes: &[u8]) -> anyhow::Result<()> {
    print_on(bytes).map(|_| ())
}

/// The same; false if nobody reads any more.
fn print_on(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// The objects of a directory, of one file, or of standard input (`-`).
fn manifests(path: &Path) -> anyhow::Result<Vec<Change>> {
    if path.is_dir() || !(path == Path::new("-") || path.exists()) {
        return Ok(source::directory::read(path)?);
    }
    let content = read(path)?;
    let scope = match path.file_name() {
        Some(name) if path != Path::new("-") => name.to_string_lossy().into_owned(),
        _ if content.trim_ascii_start().starts_with(b"{") => "stdin.json".to_owned(),
        _ => "stdin.yaml".to_owned(),
    };
    source::directory::read_one(&scope, &content)
        .with_context(|| format!("cannot read manifests from {}", name_of(path)))
}

/// The file of each object, as its subject is written in reports.
fn files(path: &Path, changes: &[Change]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for change in changes {
        let (scope, keys) = match change {
            Change::Replace(scope, objects) => (scope, objects.iter().map(|object| object.key()).collect()),
            Change::Rejected(scope, _) => (scope, Vec::new()),
            Change::Delete(..) | Change::Upsert(..) => continue,
        };
        let file = if path.is_dir() { path.join(&*scope.0) } else { path.to_owned() };
        if file == Path::new("-") {
            continue;
        }
        let file = file.to_string_lossy();
        let file = file.strip_prefix("./").unwrap_or(&file);
        for key in keys.into_iter().chain([ObjectKey::new(Kind::File, "", &scope.0)]) {
            files.entry(key.to_string()).or_insert_with(|| file.to_owned());
        }
    }
    files
}

/// A file, or standard input for `-`.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    let result = if path == Path::new("-") {
        std::io::stdin().lock().take(INPUT_LIMIT + 1).read_to_end(&mut content)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(INPUT_LIMIT + 1).read_to_end(&mut content))
    };
    let name = name_of(path);
    result.with_context(|| format!("cannot read {name}"))?;
    if content.len() as u64 > INPUT_LIMIT {
        return Err(anyhow!("{name} has more than 256 MiB. Split it"));
    }
    Ok(content)
}

fn name_of(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

fn pretty(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    text.push('\n');
    Ok(text)
}
