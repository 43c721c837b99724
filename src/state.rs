//! What is held, on disk: a restarted process serves it again.
//!
//! ```text
//! --state-dir ──open──▶ Held ──▶ Compiler::remember
//! Compiled.held ──Sink──▶ writer thread ──▶ secret_NAMESPACE_NAME.json, policy_HOST.json
//! ```
//!
//! One file for each Secret and each policy, so that a damaged one costs no other. A file is written under another
//! name, synchronised and renamed: a reader sees the old one or the new one, also after a loss of power. A thread of its
//! own writes, because a disk can hang, and serving must not wait for it. The directory belongs to one process, which
//! holds a lock on it. Files hold private keys: mode 0600 in a directory of mode 0700, and no error shows their bytes.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::core::v1::Secret;
use prometheus::IntCounter;
use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::api::tls_policy::TlsPolicySpec;
use crate::compile::{ClientCa, Held, HeldPolicy, HeldSecret, Object, ObjectKey, PolicyOfHost, SecretObject};
use crate::snapshot::HostName;

/// Why the directory cannot be used at all.
#[derive(thiserror::Error, Debug)]
pub enum StateError {
    /// It does not exist, and cannot be made.
    #[error("--state-dir {path}: cannot make it: make it yourself with mode 0700, or let this user write above it")]
    Create {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("--state-dir {path}: another process uses it (it has locked {LOCK} there): give each its own directory")]
    InUse {
        /// The directory.
        path: String,
    },
    /// The file system knows no locks, say.
    #[error("--state-dir {path}: cannot lock {LOCK} there: use a file system of this machine")]
    Lock {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something else has its name.
    #[error("--state-dir {path}: it is not a directory: name another, or move what is there away")]
    NotADirectory {
        /// What was named.
        path: String,
    },
    /// Its entries cannot be listed.
    #[error("--state-dir {path}: cannot read it: let this user own it, with mode 0700")]
    Read {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes --state-dir")]
    Thread(#[source] io::Error),
    /// No file can be made in it.
    #[error(
        "--state-dir {path}: cannot write there: let this user own it, with mode 0700, on a volume with free space that is not read-only"
    )]
    Write {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Something about the directory that does not keep it from being used.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum StateProblem {
    /// A file is not what was written; what it held is not served.
    #[error("{file} is not used: {fault}; remove it, and what it held is held again when that is usable once more")]
    Damaged {
        /// Its path.
        file: String,
        /// What is wrong. Nothing of what it holds.
        fault: String,
    },
    /// Other users of the machine may read a file or the directory.
    #[error(
        "{path} is open to other users (mode {mode:04o}): chmod {remedy}, and replace the keys if they could be read"
    )]
    Open {
        /// The file or the directory.
        path: String,
        /// Its mode.
        mode: u32,
        /// What to give to chmod.
        remedy: String,
    },
}

/// A directory that is ours, and what was in it.
pub struct State {
    /// What the last process held.
    pub held: Held,
    /// What is wrong with the directory and its files.
    pub problems: Vec<StateProblem>,
    files: Files,
}

/// Opens the directory, making it if need be, and reads all that is there. Files that are not ours are left alone.
pub fn open(path: &Path) -> Result<State, StateError> {
    let shown = || path.display().to_string();
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => return Err(StateError::NotADirectory { path: shown() }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| StateError::Create { path: shown(), source })?,
        Err(source) => return Err(StateError::Read { path: shown(), source }),
    }
    let cannot_write = |source| StateError::Write { path: shown(), source };
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join(LOCK));
    let lock = lock.map_err(cannot_write)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StateError::InUse { path: shown() }),
        Err(TryLockError::Error(source)) => return Err(StateError::Lock { path: shown(), source }),
    }
    let mut files = Files { path: path.to_owned(), on_disk: Held::default(), _lock: lock };
    // Said now rather than when it is needed.
    files.replace(PROBE, b"").and_then(|()| fs::remove_file(path.join(PROBE))).map_err(cannot_write)?;
    let mut problems = Vec::new();
    if let Ok(metadata) = fs::metadata(path) {
        problems.extend(open_to_others(path, &metadata, 0o700));
    }
    files.read(&mut problems).map_err(|source| StateError::Read { path: shown(), source })?;
    Ok(State { held: files.on_disk.clone(), problems, files })
}

/// Takes what is to be on disk. Never waits.
#[derive(Default)]
pub struct Sink(Option<Sender<Arc<Held>>>);

impl Sink {
    /// Puts this in the place of what was to be on disk before.
    pub fn send(&self, held: &Arc<Held>) {
        if let Some(sender) = &self.0 {
            // The thread ends only when this end is gone.
            let _ = sender.send(held.clone());
        }
    }
}

/// The thread that writes.
pub struct Writer(JoinHandle<()>);

impl State {
    /// Starts the thread that writes. It ends when the sink is dropped. `failures` counts attempts that failed.
    pub fn start(self, failures: IntCounter) -> Result<(Sink, Writer), StateError> {
        let (sender, inbox) = channel();
        let body = move || write_all(self.files, &inbox, &failures);
        let thread = std::thread::Builder::new().name("state".into()).spawn(body).map_err(StateError::Thread)?;
        Ok((Sink(Some(sender)), Writer(thread)))
    }
}

impl Writer {
    /// Waits for the last write, but not for ever. The sink has to be gone.
    pub fn finish(self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.0.is_finished() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// How long after a failure the same is tried again, if nothing new comes before.
const RETRY: Duration = Duration::from_secs(30);

fn write_all(mut files: Files, inbox: &Receiver<Arc<Held>>, failures: &IntCounter) {
    let mut wanted: Arc<Held> = Arc::new(files.on_disk.clone());
    let mut failing = false;
    loop {
        let next = if failing { inbox.recv_timeout(RETRY) } else { inbox.recv().map_err(RecvTimeoutError::from) };
        match next {
            // Only the newest counts.
            Ok(held) => wanted = inbox.try_iter().last().unwrap_or(held),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        match files.write(&wanted) {
            Ok(()) if failing => {
                failing = false;
                info!(directory = %files.path.display(), "What is held can be written again.");
            }
            Ok(()) => {}
            Err(error) => {
                failures.inc();
                if !failing {
                    warn!(
                        directory = %files.path.display(),
                        file = error.file,
                        error = %error.source,
                        "What is held cannot be written, so a restart would not know it; serving goes on. Is the volume full or read-only? It is tried again."
                    );
                }
                failing = true;
            }
        }
    }
}

/// The directory, and what is known to be in it.
struct Files {
    path: PathBuf,
    on_disk: Held,
    /// Held until the thread ends.
    _lock: File,
}

struct WriteError {
    file: String,
    source: io::Error,
}

/// What came of several attempts.
struct Attempts {
    changed: bool,
    first: Result<(), WriteError>,
}

impl Attempts {
    /// Keeps the first error; whether this attempt succeeded.
    fn note(&mut self, file: &str, result: io::Result<()>) -> bool {
        self.changed = true;
        match result {
            Ok(()) => true,
            Err(source) => {
                if self.first.is_ok() {
                    self.first = Err(WriteError { file: file.to_owned(), source });
                }
                false
            }
        }
    }
}

impl Files {
    /// Makes the files exactly these. What fails does not keep the rest from being written; the first failure is told.
    fn write(&mut self, held: &Held) -> Result<(), WriteError> {
        let mut attempts = Attempts { changed: false, first: Ok(()) };
        for (key, secret) in &held.secrets {
            if self.on_disk.secrets.get(key).is_some_and(|old| is_same(old, secret)) {
                continue;
            }
            let name = secret_file(key);
            if attempts.note(&name, self.replace(&name, &Stored::secret(secret).text())) {
                self.on_disk.secrets.insert(key.clone(), secret.clone());
            }
        }
        for (host, policy) in &held.policies {
            if self.on_disk.policies.get(host) == Some(policy) {
                continue;
            }
            let name = policy_file(host);
            if attempts.note(&name, self.replace(&name, &Stored::policy(host, policy).text())) {
                self.on_disk.policies.insert(host.clone(), policy.clone());
            }
        }
        // Last, so that a full disk costs nothing that is needed.
        let path = &self.path;
        self.on_disk.secrets.retain(|key, _| {
            held.secrets.contains_key(key) || !attempts.note(&secret_file(key), remove(&path.join(secret_file(key))))
        });
        self.on_disk.policies.retain(|host, _| {
            held.policies.contains_key(host)
                || !attempts.note(&policy_file(host), remove(&path.join(policy_file(host))))
        });
        if attempts.changed {
            // Renames and removals are entries of the directory.
            let synchronised = File::open(&self.path).and_then(|directory| directory.sync_all());
            attempts.note("", synchronised);
        }
        attempts.first
    }

    /// Puts a file in place of the one of its name, whole.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self.path.join(format!(".{name}{TEMPORARY}"));
        // What a crash has left may have another mode.
        remove(&temporary)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = file
            .write_all(content)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, self.path.join(name)));
        if written.is_err() {
            // A private key in a file that nobody knows helps nobody. The first error is the one that matters.
            let _ = remove(&temporary);
        }
        written
    }

    fn read(&mut self, problems: &mut Vec<StateProblem>) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is not ours.
            let Ok(name) = entry?.file_name().into_string() else { continue };
            if name.strip_prefix('.').is_some_and(|rest| rest.strip_suffix(TEMPORARY).is_some_and(is_ours)) {
                // Left by a crash. If it cannot be removed, writing it will say so.
                let _ = remove(&self.path.join(&name));
            } else if is_ours(&name) {
                names.push(name);
            }
        }
        // In an order that does not depend on the file system.
        names.sort();
        for name in names {
            let path = self.path.join(&name);
            match read_file(&path, &name) {
                Ok((stored, metadata)) => {
                    problems.extend(open_to_others(&path, &metadata, 0o600));
                    match stored {
                        Content::Secret(key, secret) => drop(self.on_disk.secrets.insert(key, secret)),
                        Content::Policy(host, policy) => drop(self.on_disk.policies.insert(host, policy)),
                    }
                }
                Err(fault) => problems.push(StateProblem::Damaged { file: path.display().to_string(), fault }),
            }
        }
        Ok(())
    }
}

/// Deep comparison only where the addresses differ.
fn is_same(one: &HeldSecret, other: &HeldSecret) -> bool {
    one.deleted_at == other.deleted_at && (Arc::ptr_eq(&one.secret.0, &other.secret.0) || one.secret == other.secret)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn open_to_others(path: &Path, metadata: &fs::Metadata, right: u32) -> Option<StateProblem> {
    let mode = metadata.permissions().mode() & 0o7777;
    let remedy = format!("{right:o}");
    (mode & 0o077 != 0).then(|| StateProblem::Open { path: path.display().to_string(), mode, remedy })
}

/// Larger than any Secret can be, as JSON.
const LARGEST: u64 = 8 << 20;

const LOCK: &str = ".lock";
const PROBE: &str = ".probe";
const TEMPORARY: &str = ".tmp";

/// What one file holds. `format` names kind and version: what another version writes is not guessed at.
#[derive(Serialize, Deserialize)]
#[serde(tag = "format", rename_all_fields = "camelCase")]
enum Stored {
    #[serde(rename = "handfast.dev/held-policy.v1")]
    Policy {
        host: String,
        owner: String,
        client_ca: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_crl: Option<String>,
        spec: Box<TlsPolicySpec>,
    },
    #[serde(rename = "handfast.dev/held-secret.v1")]
    Secret {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deleted_at: Option<u64>,
        secret: Box<Secret>,
    },
}

enum Content {
    Policy(HostName, PolicyOfHost),
    Secret(ObjectKey, HeldSecret),
}

impl Stored {
    fn secret(held: &HeldSecret) -> Self {
        Stored::Secret {
            deleted_at: held.deleted_at.map(|at| at.as_secs()),
            secret: Box::new((*held.secret.0).clone()),
        }
    }

    fn policy(host: &HostName, held: &PolicyOfHost) -> Self {
        let client_ca = BASE64.encode(held.policy.client_ca.pem());
        let client_crl = held.policy.client_ca.revoked().map(|revoked| BASE64.encode(revoked));
        let (host, owner) = (host.as_str().to_owned(), held.owner.to_string());
        Stored::Policy { host, owner, client_ca, client_crl, spec: Box::new(held.policy.spec.clone()) }
    }

    fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("invariant: Secrets and policies are JSON");
        text.push(b'\n');
        text
    }
}

/// Reads one file; otherwise what is wrong with it, in words that hold nothing of it.
fn read_file(path: &Path, name: &str) -> Result<(Content, fs::Metadata), String> {
    let cannot = |error: io::Error| format!("it cannot be read ({error})");
    let metadata = fs::symlink_metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.len() > LARGEST {
        return Err(format!("it is larger than {LARGEST} bytes"));
    }
    let text = fs::read(path).map_err(cannot)?;
    // The library's own words can quote what they are about.
    let stored: Stored = serde_json::from_slice(&text).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => "it ends too early".to_owned(),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => {
            format!("it is not JSON (line {}, column {})", error.line(), error.column())
        }
        // Positions are lost where a tag decides what comes.
        serde_json::error::Category::Data => "it is not what this version writes".to_owned(),
    })?;
    // A field that this version does not know, or another spelling: half of a policy is worse than none.
    if stored.text() != text {
        return Err("it was changed, or another version wrote it".to_owned());
    }
    let (written_as, content) = match stored {
        Stored::Secret { deleted_at, secret } => {
            let secret = SecretObject(Arc::new(*secret));
            let key = Object::Secret(secret.clone()).key();
            let deleted_at = deleted_at.map(|at| UnixTime::since_unix_epoch(Duration::from_secs(at)));
            (secret_file(&key), Content::Secret(key, HeldSecret { secret, deleted_at }))
        }
        Stored::Policy { host, owner, client_ca, client_crl, spec } => {
            let host = match host.as_str() {
                "" => HostName::catch_all(),
                host => host.parse().map_err(|error| format!("its host is none: {error}"))?,
            };
            let client_ca = BASE64.decode(client_ca).map_err(|_| "its clientCa is not base64".to_owned())?;
            let client_crl = client_crl.map(|text| BASE64.decode(text)).transpose();
            let client_crl = client_crl.map_err(|_| "its clientCrl is not base64".to_owned())?;
            let client_ca = ClientCa::new(&client_ca, client_crl.as_deref());
            let policy = Arc::new(HeldPolicy { spec: *spec, client_ca });
            let policy = PolicyOfHost { owner: owner.into(), policy };
            (policy_file(&host), Content::Policy(host, policy))
        }
    };
    if written_as != name {
        return Err(format!("what it holds belongs into {written_as}"));
    }
    Ok((content, metadata))
}

fn secret_file(key: &ObjectKey) -> String {
    file_name("secret", &[&key.namespace, &key.name])
}

fn policy_file(host: &HostName) -> String {
    file_name("policy", &[host.as_str()])
}

fn is_ours(name: &str) -> bool {
    ["policy_", "secret_"].iter().any(|kind| name.starts_with(kind)) && name.ends_with(".json") || name == PROBE
}

/// `KIND_PART_PART.json`. No name of Kubernetes has an underscore; what else is no letter, digit, dot or hyphen is
/// written as its hexadecimal code, as in URLs. A long one ends in its digest, because file names are shorter than
/// names can be.
fn file_name(kind: &str, parts: &[&str]) -> String {
    let mut name = kind.to_owned();
    for part in parts {
        name.push('_');
        for byte in part.bytes() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => name.push(byte.into()),
                byte => name.push_str(&format!("%{byte:02x}")),
            }
        }
    }
    if name.len() > 200 {
        let digest = crate::tls::sha256_hex(name.as_bytes());
        name.truncate(160);
        name = format!("{name}~{}", &digest[..32]);
    }
    name + ".json"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use k8s_openapi::ByteString;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    const KEY: &str = "very private key";

    fn secret(namespace: &str, name: &str, deleted_at: Option<u64>) -> (ObjectKey, HeldSecret) {
        let metadata =
            ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..ObjectMeta::default() };
        let data = BTreeMap::from([("tls.key".to_owned(), ByteString(KEY.into()))]);
        let secret = SecretObject(Arc::new(Secret { metadata, data: Some(data), ..Secret::default() }));
        let deleted_at = deleted_at.map(|at| UnixTime::since_unix_epoch(Duration::from_secs(at)));
        (Object::Secret(secret.clone()).key(), HeldSecret { secret, deleted_at })
    }

    fn policy(host: &str, tickets: bool) -> (HostName, PolicyOfHost) {
        let host = if host.is_empty() { HostName::catch_all() } else { host.parse().unwrap() };
        let spec = TlsPolicySpec { session_tickets: Some(tickets), ..TlsPolicySpec::default() };
        let revoked = tickets.then_some(&b"CRL \xff"[..]);
        let policy = Arc::new(HeldPolicy { spec, client_ca: ClientCa::new(b"PEM \xff", revoked) });
        (host, PolicyOfHost { owner: "shop".into(), policy })
    }

    fn some() -> Held {
        Held {
            secrets: [secret("default", "shop", None), secret("default", &"n.".repeat(120), Some(1_800_000_000))]
                .into(),
            policies: [policy("shop.example", true), policy("*.shop.example", false), policy("", true)].into(),
        }
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
        for name in
            ["policy_%2a.shop.example.json", "policy_.json", "policy_shop.example.json", "secret_default_shop.json"]
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
        held.policies.extend([policy("*.shop.example", true)]);
        state.files.write(&held).ok().unwrap();
        assert_eq!(written("policy_shop.example.json"), before, "what is the same is not written again");
        let left = [".lock", "notes.txt", "policy_%2a.shop.example.json", "policy_.json", "policy_shop.example.json"];
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
            ("secret_default_c.json", good.replace("held-secret.v1", "held-secret.v2"), "not what this version writes"),
            ("secret_default_d.json", good.replace("\"data\"", "\"more\": 1, \"data\""), "another version wrote it"),
            ("secret_default_e.json", good.replace("{\n", "<\n"), "not JSON (line 1"),
            ("secret_default_f.json", good.replace("\"dmV", "\"!dmV"), "not what this version writes"),
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
            assert!(problem.contains(fault) && problem.contains("remove it"), "{problem}");
            assert!(!problem.contains("dmV"), "{problem}");
        }
    }

    #[test]
    fn what_others_may_read_is_said() {
        let path = tempfile::tempdir().unwrap();
        let mut state = open(path.path()).unwrap();
        state.files.write(&Held { secrets: [secret("default", "shop", None)].into(), ..Held::default() }).ok().unwrap();
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
        let (sink, writer) = state.start(failures.clone()).unwrap();
        let mut held = some();
        held.policies.extend([policy("late.example", true)]);
        sink.send(&Arc::new(some()));
        sink.send(&Arc::new(held));
        drop(sink);
        writer.finish(Duration::from_secs(60));
        assert_eq!(failures.get(), 1);
        // The thread has ended, and with it the lock.
        fs::remove_dir_all(path.path().join("policy_late.example.json")).unwrap();
        assert!(open(path.path()).unwrap().held == some());
    }
}
