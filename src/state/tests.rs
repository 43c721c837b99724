//! The state directory, and what its neighbours' tests are made of.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::api::tls_policy::TlsPolicySpec;
use crate::compile::{ClientCa, HeldPolicy, Object, PolicyOfHost, SecretObject};
use crate::snapshot::HostName;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

const KEY: &str = "very private key";

const SINCE: u64 = 1_700_000_000;

fn time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub(super) fn secret(namespace: &str, name: &str, deleted_at: Option<u64>) -> Entry {
    let metadata = ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..ObjectMeta::default() };
    let data = BTreeMap::from([("tls.key".to_owned(), ByteString(KEY.into()))]);
    let secret = SecretObject(Arc::new(Secret { metadata, data: Some(data), ..Secret::default() }));
    let key = Object::Secret(secret.clone()).key();
    Entry::Secret(key, HeldSecret { secret, since: time(SINCE), deleted_at: deleted_at.map(time) })
}

pub(super) fn large_secret(namespace: &str, name: &str, bytes: usize) -> Entry {
    let Entry::Secret(key, mut held) = secret(namespace, name, None) else { unreachable!() };
    let object = Arc::make_mut(&mut held.secret.0);
    object.data.as_mut().unwrap().insert("ca.crt".to_owned(), ByteString(vec![b'x'; bytes]));
    Entry::Secret(key, held)
}

pub(super) fn policy(host: &str, tickets: bool) -> Entry {
    let host = if host.is_empty() { HostName::catch_all() } else { host.parse().unwrap() };
    let spec = TlsPolicySpec { session_tickets: Some(tickets), ..TlsPolicySpec::default() };
    let revoked = tickets.then_some(&b"CRL \xff"[..]);
    let policy = Arc::new(HeldPolicy { spec, client_ca: ClientCa::new(b"PEM \xff", revoked) });
    let unclaimed_at = tickets.then(|| time(SINCE + 5));
    Entry::Policy(host, PolicyOfHost { owner: "shop".into(), policy, since: time(SINCE), unclaimed_at })
}

pub(super) fn since(entry: Entry, seconds: u64) -> Entry {
    let since = time(seconds);
    match entry {
        Entry::Policy(host, policy) => Entry::Policy(host, PolicyOfHost { since, ..policy }),
        Entry::Secret(key, secret) => Entry::Secret(key, HeldSecret { since, ..secret }),
    }
}

pub(super) fn held(entries: impl IntoIterator<Item = Entry>) -> Held {
    let mut held = Held::default();
    entries.into_iter().for_each(|entry| entry.put_into(&mut held));
    held
}

pub(super) fn held_since(entries: impl IntoIterator<Item = (Entry, u64)>) -> Held {
    held(entries.into_iter().map(|(entry, seconds)| since(entry, seconds)))
}

fn some() -> Held {
    held([
        secret("default", "shop", None),
        secret("default", &"n.".repeat(120), Some(1_800_000_000)),
        policy("shop.example", true),
        policy("*.shop.example", false),
        policy("", true),
    ])
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_written_is_read_again_and_nobody_else_may_read_it() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/state");
    let mut state = open(&path).unwrap();
    assert!(state.held == Held::default() && state.problems.is_empty());
    state.files.write(&some()).ok().unwrap();
    drop(state);
    assert_eq!(mode(&path), 0o700);
    let files = names(&path);
    assert_eq!(files.len(), 6, "{files:?}");
    for name in ["policy_X2a.shop.example.json", "policy_.json", "policy_shop.example.json", "secret_default_shop.json"]
    {
        assert!(files.iter().any(|file| file == name), "{name} in {files:?}");
    }
    assert!(files.iter().all(|file| file.len() < 255 && mode(&path.join(file)) == 0o600));
    let again = open(&path).unwrap();
    assert!(again.held == some());
    assert_eq!(again.problems, []);
}

#[test]
fn files_follow_what_is_held_and_foreign_ones_stay() {
    let path = tempfile::tempdir().unwrap();
    fs::write(path.path().join("notes.txt"), "mine").unwrap();
    fs::write(path.path().join(".secret_default_shop.json.tmp"), "half of").unwrap();
    let mut state = open(path.path()).unwrap();
    assert_eq!(names(path.path()), [".lock", "notes.txt"]);
    state.files.write(&some()).ok().unwrap();
    let written = |name: &str| fs::metadata(path.path().join(name)).unwrap().modified().unwrap();
    let before = written("policy_shop.example.json");
    let mut held = some();
    held.secrets.clear();
    policy("*.shop.example", true).put_into(&mut held);
    state.files.write(&held).ok().unwrap();
    assert_eq!(written("policy_shop.example.json"), before, "what is the same is not written again");
    let left = [".lock", "notes.txt", "policy_.json", "policy_X2a.shop.example.json", "policy_shop.example.json"];
    assert_eq!(names(path.path()), left);
    drop(state);
    let mut state = open(path.path()).unwrap();
    assert!(state.held == held);
    state.files.write(&Held::default()).ok().unwrap();
    assert_eq!(names(path.path()), [".lock", "notes.txt"]);
}

#[test]
fn a_damaged_file_is_named_costs_no_other_and_shows_nothing_of_itself() {
    let path = tempfile::tempdir().unwrap();
    fs::set_permissions(path.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let file = |name: &str| path.path().join(name);
    let mut state = open(path.path()).unwrap();
    state.files.write(&some()).ok().unwrap();
    drop(state);
    let good = fs::read_to_string(file("secret_default_shop.json")).unwrap();
    let rows = [
        ("secret_default_a.json", good[..good.len() / 2].to_owned(), "ends too early"),
        ("secret_default_b.json", good.clone(), "belongs into secret_default_shop.json"),
        (
            "secret_default_c.json",
            good.replace("held-secret.v1", "held-secret.v2"),
            "this version does not write such files",
        ),
        ("secret_default_d.json", good.replace("\"data\"", "\"more\": 1, \"data\""), "another version wrote it"),
        ("secret_default_e.json", good.replace("{\n", "<\n"), "not JSON (line 1"),
        ("secret_default_f.json", good.replace("\"dmV", "\"!dmV"), "this version does not write such files"),
        ("policy_g.json", String::new(), "ends too early"),
    ];
    for (name, text, _) in &rows {
        fs::write(file(name), text).unwrap();
        fs::set_permissions(file(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::create_dir(file("policy_h.json")).unwrap();
    let state = open(path.path()).unwrap();
    assert!(state.held == some());
    let problems: Vec<String> = state.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), rows.len() + 1, "{problems:#?}");
    let directory = ("policy_h.json", String::new(), "not a regular file");
    for (name, _, fault) in rows.iter().chain([&directory]) {
        let problem = problems.iter().find(|problem| problem.contains(name)).unwrap();
        assert!(problem.contains(fault) && problem.contains("Remove it"), "{problem}");
        assert!(!problem.contains("dmV"), "{problem}");
    }
}

#[test]
fn what_others_may_read_is_said() {
    let path = tempfile::tempdir().unwrap();
    let mut state = open(path.path()).unwrap();
    state.files.write(&held([secret("default", "shop", None)])).ok().unwrap();
    drop(state);
    fs::set_permissions(path.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(path.path().join("secret_default_shop.json"), fs::Permissions::from_mode(0o640)).unwrap();
    let problems: Vec<String> = open(path.path()).unwrap().problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("0755") && problems[0].contains("chmod 700"), "{problems:?}");
    assert!(problems[1].contains("0640") && problems[1].contains("chmod 600"), "{problems:?}");
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error_with_a_remedy() {
    let path = tempfile::tempdir().unwrap();
    let file = path.path().join("file");
    fs::write(&file, "").unwrap();
    let error = |path: &Path| open(path).err().unwrap().to_string();
    assert!(error(&file).contains("not a directory"));
    assert!(error(&file.join("below")).contains("--state-dir"));
    assert!(error(Path::new("/proc/handfast")).contains("mode 0700"));
    let first = open(path.path()).unwrap();
    assert!(error(path.path()).contains("another process uses it"));
    drop(first);
    assert!(open(path.path()).is_ok());
}

/// Something that cannot be replaced stands in the way of one file.
#[test]
fn a_failed_write_is_counted_costs_no_other_file_and_is_made_up_for() {
    let path = tempfile::tempdir().unwrap();
    let mut state = open(path.path()).unwrap();
    let obstacle = path.path().join("policy_shop.example.json");
    fs::create_dir_all(obstacle.join("x")).unwrap();
    let error = state.files.write(&some()).err().unwrap();
    assert_eq!(error.file, "policy_shop.example.json");
    assert_eq!(names(path.path()).len(), 6, "all but one, the obstacle, and the lock");
    fs::remove_dir_all(&obstacle).unwrap();
    state.files.write(&some()).ok().unwrap();
    fs::create_dir_all(path.path().join("policy_late.example.json/x")).unwrap();
    let failures = IntCounter::new("failures", "x").unwrap();
    let (sink, writer) = state.start(false, failures.clone()).unwrap();
    let mut held = some();
    policy("late.example", true).put_into(&mut held);
    sink.hold(Holding { held: Arc::new(some()), remembered: 0 });
    sink.hold(Holding { held: Arc::new(held), remembered: 0 });
    drop(sink);
    writer.finish(Duration::from_secs(60));
    assert_eq!(failures.get(), 1);
    // The thread has ended, and with it the lock.
    fs::remove_dir_all(path.path().join("policy_late.example.json")).unwrap();
    assert!(open(path.path()).unwrap().held == some());
}
