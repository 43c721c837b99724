//! Manifests in a directory, and how they change.
//!
//! `DIR/*.yaml, *.yml, *.json ──manifest::parse──▶ Change::Replace and Change::Rejected, one scope per file`
//!
//! Sub-directories are not read, nor are hidden files and editors' backups. Files may be symbolic links, which is how
//! Kubernetes mounts a ConfigMap (`shop.yaml` → `..data/shop.yaml`, where `..data` is swapped as a whole).
//!
//! **Nothing is lost by accident.** A file that cannot be read, is empty or is broken in one place keeps the objects it
//! had, and so does everything if the directory itself vanishes. A file is read when its writer closed it. If all files
//! vanish at once, or the directory is another one, what is missing is given up only after [`GONE_PATIENCE`]. Only a
//! file that is gone, or a document that is gone from a file whose other documents are fine, takes objects away.
//!
//! **Any notification means "look again".** Notifications are lost by overflow, by network file systems and when the
//! directory is replaced; so they only say when to look, and every look reads all files. What did not change is found
//! by a hash, and sends nothing. Without notifications, a look at names and times every [`POLL`] does the same.
//!
//! All of it runs in one thread, which ends when the [`Events`] are dropped.

mod file;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tracing::warn;

use crate::compile::{Change, Diagnostic, Effect, Kind, ObjectKey, Problem, Scope};

use super::manifest::{self, Manifest, has_ending};
use super::{Event, Events, SourceError};

use file::FileState;
use writers::{QUIET, Writers};

/// Largest file that is read.
pub const FILE_LIMIT: u64 = 16 * 1024 * 1024;

/// How often names and times are looked at when no notification comes.
pub const POLL: Duration = Duration::from_secs(2);

/// How long everything is kept after all manifests vanished, while the directory stays empty.
pub const GONE_PATIENCE: Duration = Duration::from_secs(30);

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

/// The objects of one text, as if it were the only file of a directory. A text that holds nothing is an error: it is
/// what a command leaves that failed, and says nothing about what is served.
pub fn read_one(name: &str, content: &[u8]) -> Result<Vec<Change>, NothingRead> {
    let scope = Scope(name.into());
    let Manifest { objects, diagnostics, .. } = manifest::parse(&scope, content)
        .map_err(|diagnostic| NothingRead::Unreadable { error: diagnostic.problem.to_string() })?;
    if objects.is_empty() && diagnostics.is_empty() {
        return Err(NothingRead::Empty);
    }
    Ok(vec![Change::Replace(scope.clone(), objects), Change::Rejected(scope, diagnostics)])
}

/// Why a text yields nothing to judge.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum NothingRead {
    /// No document, or lists without items only.
    #[error("it has no manifest. Did the command that should write it fail?")]
    Empty,
    /// It is no YAML or JSON.
    #[error("{error}")]
    Unreadable {
        /// What is wrong.
        error: String,
    },
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

/// Longest wait for quiet.
const PATIENCE: Duration = Duration::from_secs(2);

/// After a directory was replaced by another: its files are complete if none came or went for this long.
const RETURN_QUIET: Duration = Duration::from_secs(2);

enum Wake {
    /// Something changed. `lost` says that the watched directory itself did, so that the watch may be dead.
    Changed { lost: bool },
    /// Somebody wrote to this file, and will close it.
    Opened(String),
    /// A writer closed this file, or it is another one now.
    Closed(String),
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
    let mut again = first.again;
    loop {
        // One of three things wakes us: a notification, the end of the listener, or the time to look.
        match wakes.recv_timeout(again.unwrap_or(POLL)) {
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(wake) => take_note(wake, &mut watch, &mut directory),
            Err(RecvTimeoutError::Timeout) if again.is_none() && directory.looks_the_same() => {
                watch.renew();
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        directory.notice(Instant::now());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match wakes.recv_timeout(QUIET) {
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(wake) => take_note(wake, &mut watch, &mut directory),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        // The watch first: what changes between the two is then found by the next look.
        watch.renew();
        let scan = directory.scan(Instant::now());
        if !send(scan.changes) {
            return;
        }
        again = scan.again;
    }
}

fn take_note(wake: Wake, watch: &mut Watch, directory: &mut Directory) {
    match wake {
        Wake::Changed { lost } => watch.forget_if(lost),
        Wake::Opened(name) => directory.writers.opened(&name, Instant::now()),
        Wake::Closed(name) => directory.writers.closed(&name),
        Wake::Stop => {}
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
            let wake = match &event {
                // Our own reading must not wake us.
                Ok(event) if is_reading(event.kind) => return,
                Ok(event) => wake(event, &directory),
                Err(_) => Wake::Changed { lost: true },
            };
            // The thread is gone if this fails, and the watcher with it, soon.
            let _ = waker.send(wake);
        };
        let watcher = match notify::recommended_watcher(handler) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                warn!(path = %path.display(), %error, "The system sends no notifications, so the directory is read every 2 s. Raising fs.inotify.max_user_instances may help.");
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

/// Systems that tell when a writer closes a file.
const TELLS_CLOSE: bool = cfg!(any(target_os = "android", target_os = "linux"));

fn wake(event: &notify::Event, directory: &Path) -> Wake {
    let name = match event.paths.as_slice() {
        [path] if path != directory => path.file_name().map(|name| name.to_string_lossy().into_owned()),
        _ => None,
    };
    match (event.kind, name.filter(|name| TELLS_CLOSE && is_manifest(name))) {
        (EventKind::Modify(ModifyKind::Data(_)), Some(name)) => Wake::Opened(name),
        (EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_), Some(name)) => {
            Wake::Closed(name)
        }
        _ => Wake::Changed { lost: event.kind.is_remove() && event.paths.iter().any(|path| path == directory) },
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
    /// The last directory that could be read; `None` before the first scan.
    identity: Option<(u64, u64)>,
    writers: Writers,
    /// Set while files are missing that did not go one by one.
    gone: Option<Gone>,
}

struct Gone {
    /// What is there in their place.
    names: Vec<Arc<str>>,
    since: Instant,
}

struct Scan {
    changes: Vec<Change>,
    /// When to look again even if nothing changes.
    again: Option<Duration>,
}

impl Directory {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
            complaints: Vec::new(),
            look: Ok(Listing::default()),
            identity: None,
            writers: Writers::default(),
            gone: None,
        }
    }

    fn looks_the_same(&self) -> bool {
        look(&self.path) == self.look
    }

    /// Remembers what the files look like now, for the next scan to see which of them still change.
    fn notice(&mut self, now: Instant) {
        for (name, stamp) in look(&self.path).iter().flat_map(|listing| &listing.files) {
            self.writers.see(name, *stamp, now);
        }
    }

    /// Reads everything, and says what is new since the last time.
    fn scan(&mut self, now: Instant) -> Scan {
        let mut scan = Scan { changes: Vec::new(), again: None };
        let look = look(&self.path);
        let is_first = self.identity.is_none();
        let forget = look.as_ref().is_ok_and(|listing| self.may_forget(listing, now));
        self.complain(&look, &mut scan);
        if let Ok(listing) = &look {
            self.read_files(listing, is_first, now, &mut scan);
            // Last, so that an object that moves from one file to another is never missing in between.
            if forget {
                self.files.retain(|name, _| {
                    let keep = listing.files.contains_key(name);
                    if !keep {
                        scan.changes.push(Change::Replace(Scope(name.clone()), Vec::new()));
                        scan.changes.push(Change::Rejected(Scope(name.clone()), Vec::new()));
                    }
                    keep
                });
            } else {
                scan.again.get_or_insert(POLL);
            }
        }
        self.look = look;
        scan
    }

    /// False if the files that are missing went in a way that suggests an accident.
    fn may_forget(&mut self, listing: &Listing, now: Instant) -> bool {
        let replaced = self.identity.replace(listing.directory).is_some_and(|before| before != listing.directory);
        let mut missing =
            self.files.iter().filter(|(name, file)| file.holds_objects() && !listing.files.contains_key(*name));
        let (first, second) = (missing.next(), missing.next());
        if first.is_none() {
            self.gone = None;
            return true;
        }
        if self.gone.is_none() && !replaced && !(second.is_some() && listing.files.is_empty()) {
            return true;
        }
        let names: Vec<Arc<str>> = listing.files.keys().cloned().collect();
        let patience = if names.is_empty() { GONE_PATIENCE } else { RETURN_QUIET };
        let gone = match self.gone.take() {
            Some(gone) if !replaced && gone.names == names => gone,
            Some(_) | None => Gone { names, since: now },
        };
        if now.saturating_duration_since(gone.since) >= patience {
            return true;
        }
        self.gone = Some(gone);
        false
    }

    /// What is wrong with the directory itself.
    fn complain(&mut self, look: &Look, scan: &mut Scan) {
        let found = match look {
            Err((_, error)) => Some((Problem::UnreadableDirectory { error: error.clone() }, Effect::LastGood)),
            Ok(listing) if !listing.files.is_empty() => None,
            Ok(_) if self.gone.is_some() => Some((Problem::ManifestsVanished, Effect::LastGood)),
            Ok(listing) => {
                Some((Problem::NoManifests { folders: listing.folders.iter().cloned().collect() }, Effect::None))
            }
        };
        let subject = ObjectKey::new(Kind::File, "", &self.path.to_string_lossy());
        let diagnostic =
            |(problem, effect)| Diagnostic { subject, field: Box::default(), problem, effect, hosts: Vec::new() };
        let complaints: Vec<Diagnostic> = found.map(diagnostic).into_iter().collect();
        if self.complaints != complaints {
            self.complaints.clone_from(&complaints);
            // No file has this name.
            scan.changes.push(Change::Rejected(Scope(".".into()), complaints));
        }
    }

    fn read_files(&mut self, listing: &Listing, is_first: bool, now: Instant, scan: &mut Scan) {
        self.writers.retain(|name| listing.files.contains_key(name));
        for (name, before) in &listing.files {
            // At the start there is nothing to lose, and somebody waits.
            if !self.writers.are_done(name, *before, now) && !is_first {
                scan.again = Some(QUIET);
                continue;
            }
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
            if !self.writers.take(name, now, stamp(&path)) && !is_first {
                scan.again = Some(QUIET);
                continue;
            }
            self.files.entry(name.clone()).or_default().update(&Scope(name.clone()), content, &mut scan.changes);
        }
    }
}

/// What can be seen of a directory without reading its files; or why it cannot be seen.
type Look = Result<Listing, (io::ErrorKind, String)>;

#[derive(Default, PartialEq)]
struct Listing {
    /// Device and inode.
    directory: (u64, u64),
    files: BTreeMap<Arc<str>, Option<Stamp>>,
    /// Sub-directories, but for hidden ones.
    folders: BTreeSet<String>,
}

/// What changes when a file does: device, inode, length, and times with their nanoseconds.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn look(path: &Path) -> Look {
    let text = |error: io::Error| (error.kind(), error.to_string());
    let metadata = fs::metadata(path).map_err(text)?;
    let mut listing = Listing { directory: (metadata.dev(), metadata.ino()), ..Listing::default() };
    for entry in fs::read_dir(path).map_err(text)? {
        let entry = entry.map_err(text)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = path.join(&*name);
        let may_be_folder = entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_symlink());
        if may_be_folder && path.is_dir() {
            if !name.starts_with('.') {
                listing.folders.insert(name.into());
            }
            continue;
        }
        if !is_manifest(&name) {
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
    !name.starts_with(['.', '#']) && [".yaml", ".yml", ".json"].iter().any(|ending| has_ending(name, ending))
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
        for name in ["shop.yaml", "shop.yml", "shop.json", "a.b.yaml", "SHOP.YAML", "shop.Json"] {
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

    const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: a}}";

    /// Files whose objects are taken away, then what is wrong with the directory.
    fn outcome(scan: Scan) -> String {
        let word = |change| match change {
            Change::Replace(scope, objects) if objects.is_empty() => vec![format!("without {}", scope.0)],
            Change::Replace(scope, _) => vec![format!("with {}", scope.0)],
            Change::Rejected(_, diagnostics) => {
                diagnostics.iter().map(|diagnostic| diagnostic.problem.code().to_owned()).collect()
            }
            Change::Delete(..) | Change::Upsert(..) => panic!("{change:?}"),
        };
        scan.changes.into_iter().flat_map(word).collect::<Vec<_>>().join(" ")
    }

    fn with_files(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(directory.path().join(name), SERVICE).unwrap());
        directory
    }

    #[test]
    fn what_vanishes_all_at_once_is_kept_for_a_while() {
        let place = with_files(&["a.yaml", "b.yaml"]);
        let mut directory = Directory::new(place.path());
        let start = Instant::now();
        let mut scan = |after: Duration| outcome(directory.scan(start + after));
        assert_eq!(scan(Duration::ZERO), "with a.yaml with b.yaml");
        fs::remove_file(place.path().join("a.yaml")).unwrap();
        fs::remove_file(place.path().join("b.yaml")).unwrap();
        assert_eq!(scan(Duration::from_secs(1)), "manifests-vanished");
        assert_eq!(scan(Duration::from_secs(30)), "");
        assert_eq!(scan(Duration::from_secs(31)), "no-manifests without a.yaml without b.yaml");
    }

    #[test]
    fn files_that_are_deleted_one_by_one_act_at_once() {
        let place = with_files(&["a.yaml", "b.yaml"]);
        let mut directory = Directory::new(place.path());
        let start = Instant::now();
        directory.scan(start);
        fs::remove_file(place.path().join("a.yaml")).unwrap();
        assert_eq!(outcome(directory.scan(start)), "without a.yaml");
        fs::remove_file(place.path().join("b.yaml")).unwrap();
        assert_eq!(outcome(directory.scan(start)), "no-manifests without b.yaml");
    }

    #[test]
    fn a_directory_in_the_place_of_another_is_believed_when_it_is_complete() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("manifests");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a.yaml"), SERVICE).unwrap();
        let mut directory = Directory::new(&path);
        let start = Instant::now();
        let mut scan = |after: Duration| outcome(directory.scan(start + after));
        assert_eq!(scan(Duration::ZERO), "with a.yaml");
        fs::rename(&path, parent.path().join("away")).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(scan(Duration::from_secs(1)), "manifests-vanished");
        assert_eq!(scan(Duration::from_secs(20)), "");
        // One manifest is no reason to give up the others that may be on their way.
        fs::write(path.join("b.yaml"), SERVICE.replace("name: a", "name: b")).unwrap();
        assert_eq!(scan(Duration::from_secs(40)), "");
        assert_eq!(scan(Duration::from_secs(41)), "with b.yaml");
        assert_eq!(scan(Duration::from_secs(42)), "without a.yaml");
    }
}
