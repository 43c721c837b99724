//! The state directory: what is held outlives the real binary, and a configuration compiles again from what was saved.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use handfast::clock::Clock;
use handfast::compile::{Change, Compiled, Compiler, Kind, ObjectKey, Options, Scope};
use handfast::demo::pki::{Authority, KeyType};
use handfast::metrics::Metrics;
use handfast::reconcile::{Batching, Message, Outputs};
use handfast::snapshot;
use handfast::source::Event;
use handfast::state::{self, Holding, KINDS};
use prometheus::IntCounter;
use proptest::collection::vec;
use proptest::prelude::*;
use rustls::pki_types::UnixTime;

use crate::backend::Backend;
use crate::binary::{PATIENCE, Server, host, issue, program, run_on, service, wait_for_exit, wait_until};
use crate::incremental::{Step, any_options, any_step, connected};
use crate::manifests::{NOW, at};

/// Whether curl trusts what is served for `shop.test`.
fn is_served(server: &Server, ca: &Path) -> bool {
    let port = server.https.port();
    let output = program("curl")
        .args(["--silent", "--max-time", "60", "--resolve", &format!("shop.test:{port}:127.0.0.1"), "--cacert"])
        .arg(ca)
        .arg(format!("https://shop.test:{port}/"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    output.status.success()
}

#[test]
fn a_host_whose_secret_is_unusable_is_served_as_before_after_a_restart() {
    let backend = Backend::start("one");
    let authority = Authority::new("Kept", UnixTime::now()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let ca = place.path().join("ca.pem");
    std::fs::write(&ca, authority.root()).unwrap();
    let directory = place.path().join("state");
    let state = ["--state-dir", directory.to_str().unwrap()];
    let good = host("shop", "shop.test", Some(&issue(&authority, &["shop.test"], KeyType::EcdsaP256)), "echo", "");
    let broken = good.1.replace("BEGIN PRIVATE KEY", "BEGIN NOTHING");
    assert_ne!(broken, good.1);
    let manifests = |shop: &(String, String)| {
        let files = vec![shop.clone(), service("echo", &[backend.address])];
        move |_: &Authority| files.clone()
    };

    let server = Server::start(&manifests(&good), &state);
    assert!(is_served(&server, &ca));
    let files = || crate::binary::listing(&directory);
    assert_eq!(files(), [".lock"], "nothing is held while all is well");
    server.write("shop.yaml", &broken);
    wait_until("the Secret is held on disk", || files().contains(&"secret_default_shop.json".to_owned()));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("secret_default_shop.json"))), (0o700, 0o600));
    assert!(is_served(&server, &ca));
    // Without any notice.
    server.signal("KILL");
    drop(server);

    std::fs::write(directory.join("secret_default_other.json"), "{").unwrap();
    let mut server = Server::start(&manifests(&(good.0.clone(), broken)), &state);
    assert!(is_served(&server, &ca), "{}", server.log());
    server.wait_for_metric("handfast_host_serving", &[r#"host="shop.test",state="last_good""#], 1.0);
    let log = server.log();
    assert!(log.contains("Last good versions are loaded") && log.contains("secrets=1"), "{log}");
    assert!(log.contains("secret_default_other.json is not used: it ends too early. Remove it"), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");

    // Two of them would undo what the other writes.
    let mut second = run_on(server.directory.path(), &place.path().join("addresses.json"));
    let mut second = second.args(state).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(wait_for_exit(&mut second).code(), Some(2));
    let mut error = String::new();
    std::io::Read::read_to_string(&mut second.stderr.take().unwrap(), &mut error).unwrap();
    assert!(error.contains("another process uses it"), "{error}");

    // Repaired: nothing is held any more.
    server.write("shop.yaml", &good.1);
    wait_until("the file is gone", || !files().contains(&"secret_default_shop.json".to_owned()));
    server.wait_for_metric("handfast_host_serving", &[r#"host="shop.test",state="current""#], 1.0);
    server.signal("TERM");
    assert!(server.wait().success());
    assert_eq!(files(), [".lock", "secret_default_other.json"]);
}

/// Opens the directory of a writer that has ended. A process that another test starts at this moment has the lock as
/// well, until it is the program that it is to be.
fn open_again(directory: &Path) -> state::State {
    let started = std::time::Instant::now();
    loop {
        match state::open(directory) {
            Err(state::StateError::InUse { .. }) if started.elapsed() < PATIENCE => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// Writes what a compiler has, and compiles what another process reads of it.
fn again(directory: &Path, options: &Options, compiler: &Compiler, compiled: &Compiled, now: u64) -> Compiled {
    let failures = IntCounter::new("failures", "x").unwrap();
    let (sink, writer) = state::open(directory).unwrap().start(true, failures.clone()).unwrap();
    sink.hold(Holding { held: compiled.held.clone(), remembered: 0 });
    sink.save(KINDS.into_iter().map(|kind| (kind, compiler.objects(kind))).collect(), at(now));
    drop(sink);
    writer.finish(Duration::from_secs(60));
    assert_eq!(failures.get(), 0);
    let state = open_again(directory);
    let saved = state.saved.unwrap();
    let loaded = saved.load();
    assert_eq!((state.problems, loaded.problems, saved.saved_at()), (vec![], vec![], at(now)));
    let mut compiler = Compiler::new(options.clone());
    compiler.remember(&state.held);
    for (scope, objects) in loaded.objects {
        compiler.apply(Change::Replace(scope, objects));
    }
    compiler.compile(at(now))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_was_saved_compiles_to_what_was_served(options in any_options(), steps in vec(any_step(), 1..24)) {
        let directory = tempfile::tempdir().unwrap();
        let mut compiler = Compiler::new(options.clone());
        compiler.apply(Change::Replace(Scope("a.yaml".into()), connected()));
        compiler.compile(at(NOW));
        for step in steps {
            match step {
                // What could not be read is no object, and neither is what one scope defines twice.
                Step::Change(Change::Rejected(..)) => {}
                Step::Change(Change::Replace(scope, mut objects)) => {
                    let mut seen = std::collections::HashSet::new();
                    objects.retain(|object| seen.insert(object.key()));
                    compiler.apply(Change::Replace(scope, objects));
                }
                Step::Change(change) => compiler.apply(change),
                Step::Compile(now) => drop(compiler.compile(at(now))),
            }
        }
        let before = compiler.compile(at(NOW));
        let after = again(&directory.path().join("state"), &options, &compiler, &before, NOW);
        prop_assert_eq!(before.snapshot.render(), after.snapshot.render());
        prop_assert_eq!(&before.diagnostics, &after.diagnostics);
        prop_assert_eq!(&before.held, &after.held);
    }
}

/// A reconciler with this state directory, on events that are sent to it.
fn reconcile(
    directory: &Path,
    saving: Duration,
) -> (std::sync::mpsc::Sender<Message>, std::thread::JoinHandle<()>, state::Writer) {
    let failures = IntCounter::new("failures", "x").unwrap();
    let (state, writer) = state::open(directory).unwrap().start(true, failures).unwrap();
    let (publisher, _) = snapshot::channel(Arc::default());
    let (publications, _) = tokio::sync::watch::channel(None);
    let outputs = Outputs { publisher, publications, metrics: Metrics::default(), state };
    let clock: Clock = Arc::new(|| at(NOW));
    let batching = Batching { quiet: Duration::from_millis(1), longest: Duration::from_millis(50), saving };
    let compiler = Compiler::new(Options { watch_without_class: true, ..Options::default() });
    let (inbox, changes) = channel();
    let thread = std::thread::spawn(move || handfast::reconcile::run(&changes, compiler, &clock, batching, &outputs));
    (inbox, thread, writer)
}

fn saved(directory: &Path) -> Vec<ObjectKey> {
    // Another process has the lock: what is there is looked at beside it.
    let copy = tempfile::tempdir().unwrap();
    let objects = directory.join("objects");
    std::fs::create_dir(copy.path().join("objects")).unwrap();
    for entry in std::fs::read_dir(objects).into_iter().flatten() {
        let entry = entry.unwrap();
        // A file may be put in place of another meanwhile.
        let _ = std::fs::copy(entry.path(), copy.path().join("objects").join(entry.file_name()));
    }
    let found = state::open(copy.path()).unwrap().saved;
    let loaded = found.map(|found| found.load().objects).unwrap_or_default();
    let mut keys: Vec<ObjectKey> =
        loaded.iter().flat_map(|(_, objects)| objects.iter().map(handfast::compile::Object::key)).collect();
    keys.sort();
    keys
}

#[test]
fn objects_are_saved_some_time_after_they_were_published_and_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let scope = || Scope("all".into());
    let (inbox, thread, writer) = reconcile(directory.path(), Duration::from_millis(20));
    inbox.send(Event::Change(Change::Replace(scope(), connected())).into()).unwrap();
    inbox.send(Event::Synced.into()).unwrap();
    let mut keys: Vec<ObjectKey> = connected().iter().map(handfast::compile::Object::key).collect();
    keys.sort();
    wait_until("the first configuration is saved", || saved(directory.path()) == keys);
    inbox.send(Event::Change(Change::Delete(scope(), ObjectKey::new(Kind::Secret, "x", "s3"))).into()).unwrap();
    keys.retain(|key| &*key.name != "s3");
    wait_until("the change is saved", || saved(directory.path()) == keys);
    drop(inbox);
    thread.join().unwrap();
    writer.finish(Duration::from_secs(60));

    // What was not due yet is saved at the end; what was never published is not.
    let (inbox, thread, writer) = reconcile(directory.path(), Duration::from_secs(3600));
    inbox.send(Event::Change(Change::Replace(scope(), Vec::new())).into()).unwrap();
    drop(inbox);
    thread.join().unwrap();
    writer.finish(Duration::from_secs(60));
    assert_eq!(saved(directory.path()), keys);
    let (inbox, thread, writer) = reconcile(directory.path(), Duration::from_secs(3600));
    inbox.send(Event::Synced.into()).unwrap();
    drop(inbox);
    thread.join().unwrap();
    writer.finish(Duration::from_secs(60));
    assert_eq!(saved(directory.path()), []);
}
