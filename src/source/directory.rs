//! Manifests in a directory, and how they change.
//!
//! `DIR/*.yaml, *.yml, *.json ──manifest::parse──▶ Change::Replace and Change::Rejected, one scope per file`
//!
//! Sub-directories are not read, nor are hidden files and editors' backups. Files may be symbolic links, which is how
//! Kubernetes mounts a ConfigMap (`shop.yaml` → `..data/shop.yaml`, where `..data` is swapped as a whole).
//!
//! **Nothing is lost by accident.** A file that cannot be read or parsed keeps the objects it had; so does a document
//! of an object that turned invalid, and so does everything if the directory itself vanishes. A file that turns empty
//! is believed only after a while, because `command > DIR/file.yaml` empties it first. Only a file that is gone, or a
//! document that is gone from a file that parses, takes objects away.
//!
//! **Any notification means "look again".** Notifications are lost by overflow, by network file systems and when the
//! directory is replaced; so they only say when to look, and every look reads all files. What did not change is found
//! by a hash, and sends nothing. Without notifications, a look at names and times every [`POLL`] does the same.
//!
//! All of it runs in one thread, which ends when the [`Events`] are dropped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tracing::warn;

use crate::compile::{Change, Diagnostic, Effect, Kind, Object, ObjectKey, Problem, Scope};

use super::manifest::{self, Manifest};
use super::{Event, Events, SourceError};

/// Largest file that is read.
pub const FILE_LIMIT: u64 = 16 * 1024 * 1024;

/// How often names and times are looked at when no notification comes.
pub const POLL: Duration = Duration::from_secs(2);

/// Starts watching a directory.
pub fn open(path: &Path) -> Result<Events, SourceError> {
    spawn(path).map(|(events, _)| events)
}

/// Reads a directory once: what [`open`] tells before [`Event::Synced`].
pub fn read(path: &Path) -> Result<Vec<Change>, SourceError> {
    check(path)?;
    let mut directory = Directory::new(path);
    Ok(directory.scan(Instant::now()).changes)
}

/// The objects of one text, as if it were the only file of a directory.
pub fn read_one(name: &str, content: &[u8]) -> Vec<Change> {
    let scope = Scope(name.into());
    match manifest::parse(&scope, content) {
        Ok(Manifest { objects, diagnostics, .. }) => {
            vec![Change::Replace(scope.clone(), objects), Change::Rejected(scope, diagnostics)]
        }
        Err(diagnostic) => vec![Change::Rejected(scope, vec![*diagnostic])],
    }
}

fn check(path: &Path) -> Result<(), SourceError> {
    match fs::read_dir(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(SourceError::NotADirectory { path: path.to_owned() })
        }
        Err(source) => Err(SourceError::Unreadable { path: path.to_owned(), source }),
    }
}

fn spawn(path: &Path) -> Result<(Events, JoinHandle<()>), SourceError> {
    check(path)?;
    let (sender, receiver) = tokio::sync::mpsc::channel(1024);
    let (waker, wakes) = channel();
    let watch = Watch::start(path, waker.clone());
    let directory = Directory::new(path);
    let thread = std::thread::Builder::new()
        .name("directory".into())
        .spawn(move || run(directory, watch, &wakes, &sender))
        .map_err(|source| SourceError::Thread { path: path.to_owned(), source })?;
    Ok((Events::new(receiver, StopOnDrop(waker)), thread))
}

/// No notification for this long: whoever writes to the directory is done.
const QUIET: Duration = Duration::from_millis(200);

/// Longest wait for quiet.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a file must be empty until it is believed.
const EMPTY_GRACE: Duration = Duration::from_secs(3);

enum Wake {
    /// Something changed. `lost` says that the watched directory itself did, so that the watch may be dead.
    Changed { lost: bool },
    /// Nobody listens any more.
    Stop,
}

struct StopOnDrop(Sender<Wake>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        // The thread may have found out by itself.
        let _ = self.0.send(Wake::Stop);
    }
}

/// The thread. Returns when nobody listens any more.
fn run(mut directory: Directory, mut watch: Watch, wakes: &Receiver<Wake>, sender: &tokio::sync::mpsc::Sender<Event>) {
    let send =
        |changes: Vec<Change>| changes.into_iter().all(|change| sender.blocking_send(Event::Change(change)).is_ok());
    let first = directory.scan(Instant::now());
    if !send(first.changes) || sender.blocking_send(Event::Synced).is_err() {
        return;
    }
    let mut settled = first.settled;
    loop {
        // One of three things wakes us: a notification, the end of the listener, or the time to look.
        let wait = if settled { POLL } else { QUIET };
        match wakes.recv_timeout(wait) {
            Ok(Wake::Changed { lost }) => watch.forget_if(lost),
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if settled && directory.looks_the_same() => {
                watch.renew();
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match wakes.recv_timeout(QUIET) {
                Ok(Wake::Changed { lost }) => watch.forget_if(lost),
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        // The watch first: what changes between the two is then found by the next look.
        watch.renew();
        let scan = directory.scan(Instant::now());
        if !send(scan.changes) {
            return;
        }
        settled = scan.settled;
    }
}

/// The notifications, as far as the system gives us any.
struct Watch {
    path: PathBuf,
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of the directory that is watched.
    watched: Option<(u64, u64)>,
}

impl Watch {
    fn start(path: &Path, waker: Sender<Wake>) -> Self {
        let directory = path.to_owned();
        let handler = move |event: notify::Result<notify::Event>| {
            let lost = match &event {
                // Our own reading must not wake us.
                Ok(event) if is_reading(event.kind) => return,
                Ok(event) => event.kind.is_remove() && event.paths.contains(&directory),
                Err(_) => true,
            };
            // The thread is gone if this fails, and the watcher with it, soon.
            let _ = waker.send(Wake::Changed { lost });
        };
        let watcher = match notify::recommended_watcher(handler) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                warn!(path = %path.display(), %error, "The system gives no notifications: changes are found by looking every 2 s. Raising fs.inotify.max_user_instances may help.");
                None
            }
        };
        let mut watch = Self { path: path.to_owned(), watcher, watched: None };
        watch.renew();
        watch
    }

    fn forget_if(&mut self, lost: bool) {
        if lost {
            self.watched = None;
        }
    }

    /// Watches the directory that is at the path now. If that fails, looking from time to time has to do.
    fn renew(&mut self) {
        let now = fs::metadata(&self.path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let Some(watcher) = self.watcher.as_mut().filter(|_| now != self.watched) else { return };
        let _ = watcher.unwatch(&self.path);
        self.watched = now.filter(|_| watcher.watch(&self.path, RecursiveMode::NonRecursive).is_ok());
    }
}

fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other | EventKind::Remove(_) => false,
    }
}

/// A directory as it was last told.
struct Directory {
    path: PathBuf,
    files: BTreeMap<Arc<str>, FileState>,
    /// What is wrong with the directory itself.
    complaints: Vec<Diagnostic>,
    /// Names and times at the last scan.
    look: Look,
}

#[derive(Default)]
struct FileState {
    /// Hash of the content; `None` if it could not be read.
    hash: Option<[u8; 32]>,
    objects: Vec<Object>,
    diagnostics: Vec<Diagnostic>,
    empty_since: Option<Instant>,
}

struct Scan {
    changes: Vec<Change>,
    /// False if some file was still being written; look again soon.
    settled: bool,
}

impl Directory {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), files: BTreeMap::new(), complaints: Vec::new(), look: Ok(Listing::default()) }
    }

    fn looks_the_same(&self) -> bool {
        look(&self.path) == self.look
    }

    /// Reads everything, and says what is new since the last time.
    fn scan(&mut self, now: Instant) -> Scan {
        let mut scan = Scan { changes: Vec::new(), settled: true };
        self.look = look(&self.path);
        let complaints = match &self.look {
            Ok(_) => Vec::new(),
            Err((_, error)) => vec![Diagnostic {
                subject: ObjectKey::new(Kind::File, "", &self.path.to_string_lossy()),
                field: Box::default(),
                problem: Problem::UnreadableDirectory { error: error.clone() },
                effect: Effect::LastGood,
                hosts: Vec::new(),
            }],
        };
        if self.complaints != complaints {
            self.complaints.clone_from(&complaints);
            // No file has this name.
            scan.changes.push(Change::Rejected(Scope(".".into()), complaints));
        }
        let Ok(look) = &self.look else { return scan };
        for (name, before) in &look.files {
            let path = self.path.join(&**name);
            let content = match read_file(&path) {
                Ok(Some(content)) => Ok(content),
                Ok(None) if name.contains(char::REPLACEMENT_CHARACTER) => {
                    Err("its name is not valid UTF-8: rename it".to_owned())
                }
                // Gone since the look: the next one, which its notification brings about, takes its objects away.
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            let file = self.files.entry(name.clone()).or_default();
            // Half of a file can be valid. Where there is something to lose, wait for the whole.
            if !file.objects.is_empty() && stamp(&path) != *before {
                scan.settled = false;
                continue;
            }
            scan.settled &= file.update(&Scope(name.clone()), content, now, &mut scan.changes);
        }
        // Last, so that an object that moves from one file to another is never missing in between.
        self.files.retain(|name, _| {
            let keep = look.files.contains_key(name);
            if !keep {
                scan.changes.push(Change::Replace(Scope(name.clone()), Vec::new()));
                scan.changes.push(Change::Rejected(Scope(name.clone()), Vec::new()));
            }
            keep
        });
        scan
    }
}

impl FileState {
    /// False if the file seems to be in the middle of being written.
    fn update(&mut self, scope: &Scope, content: Result<Vec<u8>, String>, now: Instant, out: &mut Vec<Change>) -> bool {
        let (mut objects, mut diagnostics) = (None, Vec::new());
        match content {
            Err(error) => {
                self.hash = None;
                diagnostics.push(*manifest::unreadable(scope, &error));
            }
            Ok(content) if content.is_empty() && !self.objects.is_empty() => {
                let since = *self.empty_since.get_or_insert(now);
                if now.duration_since(since) < EMPTY_GRACE {
                    return false;
                }
                self.hash = None;
                objects = Some(Vec::new());
            }
            Ok(content) => {
                self.empty_since = None;
                let mut hash = [0; 32];
                hash.copy_from_slice(digest(&SHA256, &content).as_ref());
                if self.hash.replace(hash) == Some(hash) {
                    return true;
                }
                match manifest::parse(scope, &content) {
                    Ok(manifest) => {
                        let kept = self.keep_last_good(manifest);
                        objects = Some(kept.objects);
                        diagnostics = kept.diagnostics;
                    }
                    Err(diagnostic) => diagnostics.push(*diagnostic),
                }
            }
        }
        match objects {
            Some(objects) if objects != self.objects => {
                self.objects.clone_from(&objects);
                out.push(Change::Replace(scope.clone(), objects));
            }
            Some(_) => {}
            None if self.objects.is_empty() => {}
            None => diagnostics.iter_mut().for_each(|diagnostic| diagnostic.effect = Effect::LastGood),
        }
        if diagnostics != self.diagnostics {
            self.diagnostics.clone_from(&diagnostics);
            out.push(Change::Rejected(scope.clone(), diagnostics));
        }
        true
    }

    /// Adds the objects that this file had before and whose documents are broken now.
    fn keep_last_good(&self, mut manifest: Manifest) -> Manifest {
        for (index, key) in std::mem::take(&mut manifest.broken) {
            if manifest.objects.iter().any(|object| object.key() == key) {
                continue;
            }
            if let Some(object) = self.objects.iter().find(|object| object.key() == key) {
                manifest.objects.push(object.clone());
                manifest.diagnostics[index].effect = Effect::LastGood;
            }
        }
        manifest
    }
}

/// What can be seen of a directory without reading its files; or why it cannot be seen.
type Look = Result<Listing, (io::ErrorKind, String)>;

#[derive(Default, PartialEq)]
struct Listing {
    /// Device and inode.
    directory: (u64, u64),
    files: BTreeMap<Arc<str>, Option<Stamp>>,
}

/// What changes when a file does: device, inode, length, and times with their nanoseconds.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn look(path: &Path) -> Look {
    let text = |error: io::Error| (error.kind(), error.to_string());
    let metadata = fs::metadata(path).map_err(text)?;
    let mut listing = Listing { directory: (metadata.dev(), metadata.ino()), files: BTreeMap::new() };
    for entry in fs::read_dir(path).map_err(text)? {
        let name = entry.map_err(text)?.file_name();
        let name = name.to_string_lossy();
        if !is_manifest(&name) {
            continue;
        }
        let path = path.join(&*name);
        if path.is_dir() {
            continue;
        }
        let stamp = stamp(&path);
        listing.files.insert(name.into(), stamp);
    }
    Ok(listing)
}

/// Of the target, if it is a symbolic link: that is the content that counts.
fn stamp(path: &Path) -> Option<Stamp> {
    let m = fs::metadata(path).ok()?;
    Some((m.dev(), m.ino(), m.len(), (m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec())))
}

/// `.x.yaml.swp`, `x.yaml~` and `#x.yaml#` fail the test of the extension, `.#x.yaml` and `..data` that of the dot.
fn is_manifest(name: &str) -> bool {
    !name.starts_with(['.', '#']) && [".yaml", ".yml", ".json"].iter().any(|extension| name.ends_with(extension))
}

/// The content; `None` if there is no file; or why there is none to be had.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let unreadable = |error: io::Error| format!("it cannot be read: {error}");
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => Err("it is a symbolic link that leads nowhere".into()),
                Err(_) => Ok(None),
            };
        }
        Err(error) => return Err(unreadable(error)),
    };
    // Opening a named pipe would wait for its writer.
    if !metadata.is_file() {
        return Err("it is a pipe, a socket or a device".into());
    }
    let mut content = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_LIMIT + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > FILE_LIMIT {
        return Err(format!("it has {} bytes, and the limit is 16 MiB: split it", metadata.len()));
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_ends_when_nobody_listens() {
        let directory = tempfile::tempdir().unwrap();
        let (events, thread) = spawn(directory.path()).unwrap();
        drop(events);
        thread.join().unwrap();
    }

    #[test]
    fn the_thread_ends_also_while_it_waits_for_room() {
        let directory = tempfile::tempdir().unwrap();
        for index in 0..1100 {
            fs::write(directory.path().join(format!("{index}.yaml")), "not: an object").unwrap();
        }
        let (mut events, thread) = spawn(directory.path()).unwrap();
        assert!(matches!(events.blocking_next(), Some(Event::Change(_))));
        drop(events);
        thread.join().unwrap();
    }

    #[test]
    fn hidden_files_backups_and_other_files_are_no_manifests() {
        for name in ["shop.yaml", "shop.yml", "shop.json", "a.b.yaml"] {
            assert!(is_manifest(name), "{name}");
        }
        for name in [
            ".yaml",
            ".x.yaml.swp",
            "x.yaml~",
            "#x.yaml#",
            ".#x.yaml",
            "#x.yaml",
            "..data",
            "x.txt",
            "yaml",
            "x.yaml.bak",
        ] {
            assert!(!is_manifest(name), "{name}");
        }
    }

    #[test]
    fn an_emptied_file_keeps_its_objects_until_it_has_been_empty_for_a_while() {
        let mut file = FileState::default();
        let scope = Scope("a.yaml".into());
        let start = Instant::now();
        let service = b"{apiVersion: v1, kind: Service, metadata: {name: a}}".to_vec();
        let mut update = |content: &[u8], after: Duration| {
            let mut changes = Vec::new();
            let settled = file.update(&scope, Ok(content.to_vec()), start + after, &mut changes);
            (settled, changes.len())
        };
        assert_eq!(update(&service, Duration::ZERO), (true, 1));
        assert_eq!(update(b"", Duration::from_secs(1)), (false, 0));
        assert_eq!(update(&service, Duration::from_secs(2)), (true, 0));
        assert_eq!(update(b"", Duration::from_secs(3)), (false, 0));
        assert_eq!(update(b"", Duration::from_secs(5)), (false, 0));
        assert_eq!(update(b"", Duration::from_secs(6)), (true, 1));
        assert_eq!(update(&service, Duration::from_secs(7)), (true, 1));
    }
}
