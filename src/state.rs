//! What outlives the process: what is held, and the objects of the last configuration.
//!
//! ```text
//! --state-dir ──open──▶ Held ──▶ Compiler::remember, SavedObjects ──▶ a source whose cluster does not answer
//! Compiled.held ──Sink──┬▶ writer thread ──▶ secret_NAMESPACE_NAME.json, policy_HOST.json
//! Compiler::objects ────┘                └─▶ objects/ (objects.rs)
//!                       └▶ a Secret of the cluster (cluster.rs)
//! ```
//!
//! What is held is one file for each Secret and each policy, so that a damaged one costs no other. A file is written
//! under another name, synchronised and renamed: a reader sees the old one or the new one, also after a loss of power. A
//! thread of its own writes, because a disk can hang, and serving must not wait for it. The directory belongs to one
//! process, which holds a lock on it. Files hold private keys: mode 0600 in a directory of mode 0700, and no error shows
//! their bytes.

pub mod cluster;
mod files;
mod objects;
mod plan;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use self::files::Durable;
use self::objects::Saver;
use self::stored::Entry;
use crate::compile::{Held, HeldSecret, Kind};

pub use self::objects::{Definitions, KINDS, Loaded, SavedObjects};

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
    #[error("{file} is not used: {fault}. Remove it; Handfast writes it again when there is a usable version")]
    Damaged {
        /// Its path.
        file: String,
        /// What is wrong. Nothing of what it holds.
        fault: String,
    },
    /// Objects that were saved are not there.
    #[error(
        "{path} lacks {missing} objects of kind {kind} that were saved: hosts that need them are not served as before"
    )]
    Incomplete {
        /// The directory.
        path: String,
        /// The kind, as manifests write it.
        kind: String,
        /// How many.
        missing: usize,
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
    /// The objects of the last configuration that a process served from a cluster.
    pub saved: Option<SavedObjects>,
    /// What is wrong with the directory and its files.
    pub problems: Vec<StateProblem>,
    files: Files,
}

/// Opens the directory, making it if need be, and reads what was held. Files that are not ours are left alone.
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
    // Said now rather than when it is needed.
    files::replace(path, PROBE, b"", Durable::Yes)
        .and_then(|()| fs::remove_file(path.join(PROBE)))
        .map_err(cannot_write)?;
    let mut problems = Vec::new();
    if let Ok(metadata) = fs::metadata(path) {
        problems.extend(files::open_to_others(path, &metadata, 0o700));
    }
    let mut files = Files { path: path.to_owned(), on_disk: Held::default(), _lock: lock };
    files.read(&mut problems).map_err(|source| StateError::Read { path: shown(), source })?;
    let saved = SavedObjects::find(path).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    Ok(State { held: files.on_disk.clone(), saved, problems, files })
}

/// What the compiler holds now.
#[derive(Clone)]
pub struct Holding {
    /// All of it.
    pub held: Arc<Held>,
    /// How often the compiler had been told before what others hold ([`crate::source::Event::Remember`]).
    pub remembered: u64,
}

/// Takes what is to outlive the process. Never waits.
pub struct Sink {
    disk: Option<Sender<Order>>,
    saves_objects: bool,
    holdings: watch::Sender<Option<Holding>>,
}

impl Default for Sink {
    fn default() -> Self {
        Self { disk: None, saves_objects: false, holdings: watch::Sender::new(None) }
    }
}

impl Sink {
    /// Puts this in the place of what was held before.
    pub fn hold(&self, holding: Holding) {
        if let Some(disk) = &self.disk {
            // The thread ends only when this end is gone.
            let _ = disk.send(Order::Hold(holding.held.clone()));
        }
        self.holdings.send_replace(Some(holding));
    }

    /// What is held now, and each later change. For whoever keeps it elsewhere.
    pub fn holdings(&self) -> watch::Receiver<Option<Holding>> {
        self.holdings.subscribe()
    }

    /// Whether objects are to be given to [`Sink::save`].
    pub fn saves_objects(&self) -> bool {
        self.saves_objects
    }

    /// Puts all objects of these kinds in the place of those that were saved before.
    pub fn save(&self, objects: BTreeMap<Kind, Definitions>, now: UnixTime) {
        if let Some(disk) = &self.disk {
            let _ = disk.send(Order::Save(objects, now));
        }
    }
}

/// What the thread is to do.
enum Order {
    Hold(Arc<Held>),
    Save(BTreeMap<Kind, Definitions>, UnixTime),
}

/// The thread that writes.
pub struct Writer(JoinHandle<()>);

impl State {
    /// Starts the thread that writes. It ends when the sink is dropped. `failures` counts attempts that failed.
    /// `saves_objects` is for sources that may not be there at the next start.
    pub fn start(self, saves_objects: bool, failures: IntCounter) -> Result<(Sink, Writer), StateError> {
        let (sender, inbox) = channel();
        let saver = Saver::new(&self.files.path, self.saved.as_ref());
        let body = move || write_all(self.files, saver, &inbox, &failures);
        let thread = std::thread::Builder::new().name("state".into()).spawn(body).map_err(StateError::Thread)?;
        Ok((Sink { disk: Some(sender), saves_objects, ..Sink::default() }, Writer(thread)))
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

fn write_all(mut files: Files, mut saver: Saver, inbox: &Receiver<Order>, failures: &IntCounter) {
    let directory = files.path.display().to_string();
    let mut held: Arc<Held> = Arc::new(files.on_disk.clone());
    // What is not saved yet. Given up as soon as it is, because it keeps objects alive.
    let mut objects: BTreeMap<Kind, Definitions> = BTreeMap::new();
    let mut time = UnixTime::since_unix_epoch(Duration::ZERO);
    let mut failing = false;
    let mut left_out = 0;
    loop {
        let next = if failing { inbox.recv_timeout(RETRY) } else { inbox.recv().map_err(RecvTimeoutError::from) };
        let first = match next {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Only the newest counts.
        for order in first.into_iter().chain(inbox.try_iter()) {
            match order {
                Order::Hold(newer) => held = newer,
                Order::Save(newer, now) => {
                    objects.extend(newer);
                    time = now;
                }
            }
        }
        // First, because nobody else has it.
        let mut result = files.write(&held);
        if !objects.is_empty() {
            let started = Instant::now();
            match saver.save(&objects, time) {
                Ok(saved) => {
                    objects.clear();
                    debug!(files = saved.files, bytes = saved.written, elapsed = ?started.elapsed(), "Objects are saved.");
                    if saved.left_out > left_out {
                        warn!(
                            directory,
                            objects = saved.left_out,
                            "The objects of this configuration are too large to be saved all, so a start without the cluster would lack some."
                        );
                    }
                    left_out = saved.left_out;
                }
                Err(error) if result.is_ok() => result = Err(error),
                Err(_) => {}
            }
        }
        match result {
            Ok(()) if failing => {
                failing = false;
                info!(directory, "The state directory can be written again.");
            }
            Ok(()) => {}
            Err(error) => {
                failures.inc();
                if !failing {
                    warn!(
                        directory,
                        file = error.file,
                        error = %error.source,
                        "The state directory cannot be written, so a restart would not know what is held now, or serve what was served; serving goes on. Is the volume full or read-only? It is tried again."
                    );
                }
                failing = true;
            }
        }
    }
}

/// The directory, and what is known to be held in it.
struct Files {
    path: PathBuf,
    on_disk: Held,
    /// Held until the thread ends.
    _lock: File,
}

/// A file that could not be written.
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
        for entry in stored::entries(held) {
            let is_written = match &entry {
                Entry::Secret(key, secret) => {
                    self.on_disk.secrets.get(key).is_some_and(|written| is_same(written, secret))
                }
                Entry::Policy(host, policy) => self.on_disk.policies.get(host) == Some(policy),
            };
            let name = entry.name();
            if !is_written && attempts.note(&name, files::replace(&self.path, &name, &entry.text(), Durable::Yes)) {
                entry.put_into(&mut self.on_disk);
            }
        }
        // Last, so that a full disk costs nothing that is needed.
        for entry in stored::entries(&self.on_disk.clone()) {
            let is_held = match &entry {
                Entry::Secret(key, _) => held.secrets.contains_key(key),
                Entry::Policy(host, _) => held.policies.contains_key(host),
            };
            let name = entry.name();
            if !is_held && attempts.note(&name, files::remove(&self.path.join(&name))) {
                match entry {
                    Entry::Secret(key, _) => drop(self.on_disk.secrets.remove(&key)),
                    Entry::Policy(host, _) => drop(self.on_disk.policies.remove(&host)),
                }
            }
        }
        if attempts.changed {
            // Renames and removals are entries of the directory.
            let synchronised = File::open(&self.path).and_then(|directory| directory.sync_all());
            attempts.note("", synchronised);
        }
        attempts.first
    }

    fn read(&mut self, problems: &mut Vec<StateProblem>) -> io::Result<()> {
        for name in files::names(&self.path, |name| stored::is_name(name) || name == PROBE)? {
            let path = self.path.join(&name);
            let read = files::read(&path, LARGEST).and_then(|(text, metadata)| {
                problems.extend(files::open_to_others(&path, &metadata, 0o600));
                Entry::parse(&name, &text)
            });
            match read {
                Ok(entry) => entry.put_into(&mut self.on_disk),
                Err(fault) => problems.push(StateProblem::Damaged { file: path.display().to_string(), fault }),
            }
        }
        Ok(())
    }
}

/// Deep comparison only where the addresses differ.
fn is_same(one: &HeldSecret, other: &HeldSecret) -> bool {
    (one.since, one.deleted_at) == (other.since, other.deleted_at)
        && (Arc::ptr_eq(&one.secret.0, &other.secret.0) || one.secret == other.secret)
}

/// Larger than any Secret can be, as JSON.
const LARGEST: u64 = 8 << 20;

const LOCK: &str = ".lock";
const PROBE: &str = ".probe";
