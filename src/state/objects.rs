//! All objects of the last configuration, on disk: what is served when a process starts and the cluster does not answer.
//!
//! ```text
//! Compiler::objects ──by kind──▶ 256 shards each ──those that differ──▶ objects/KIND-SHARD.jsonl, then index.json
//! objects/ ──SavedObjects::load──▶ the source, under the scopes that the objects came from
//! ```
//!
//! One object changes far more often than all do, and one file for all Secrets of a large cluster is 100 MB. One file for
//! each would be as many renames as there are objects after each start. So each kind has shards by the digest of the
//! object's name: at ten thousand Secrets a change writes forty of them, and at a hundred one. A shard whose objects are
//! the same is not even serialised, because objects are shared with the compiler and compared by address. Measured with
//! ten thousand Secrets of 7 kB: 0.36 s and 97 MB for the first save, 9 ms and 0.45 MB for a change, 5 ms of which the
//! reconciler gathers; 0.27 s to load.
//!
//! Nothing is synchronised: who reads it has no better, and a digest tells what was cut off. Each file counts by itself.
//! The index is written last; without one the first save was never complete, and nothing is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files::{self, Durable};
use super::{StateProblem, WriteError};
use crate::compile::{Kind, Object, ObjectKey, Scope, SecretObject};

/// The kinds that are saved: all that objects can be of.
pub const KINDS: [Kind; 6] =
    [Kind::IngressClass, Kind::TlsPolicy, Kind::Ingress, Kind::Service, Kind::EndpointSlice, Kind::Secret];

/// All definitions of the objects of one kind.
pub type Definitions = Vec<(ObjectKey, Scope, Object)>;

/// A configuration that can be read.
#[derive(Clone, Debug)]
pub struct SavedObjects {
    path: PathBuf,
    index: Index,
}

/// What was read of one.
#[derive(Debug)]
pub struct Loaded {
    /// The objects by the scopes that they came from. A source takes those of its own scopes, so that what it learns
    /// later comes in their place.
    pub objects: Vec<(Scope, Vec<Object>)>,
    /// What could not be read.
    pub problems: Vec<StateProblem>,
}

impl SavedObjects {
    /// Looks whether a configuration was saved below this directory. Reads no object.
    pub(super) fn find(state_dir: &Path) -> Result<Option<Self>, StateProblem> {
        let path = state_dir.join(FOLDER);
        let file = path.join(INDEX);
        if fs::symlink_metadata(&file).is_err() {
            return Ok(None);
        }
        let damaged = |fault| StateProblem::Damaged { file: file.display().to_string(), fault };
        let (text, _) = files::read(&file, LARGEST_INDEX).map_err(damaged)?;
        let index: Index = serde_json::from_slice(&text).map_err(|_| damaged(FOREIGN.to_owned()))?;
        if index.format != INDEX_FORMAT {
            return Err(damaged(FOREIGN.to_owned()));
        }
        Ok(Some(Self { path, index }))
    }

    /// When this configuration was saved last. It may have been in force for longer.
    pub fn saved_at(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(self.index.saved_at))
    }

    /// Reads all of it. Takes a second at ten thousand Secrets, so not to be called where others wait.
    pub fn load(&self) -> Loaded {
        let mut problems = Vec::new();
        let mut scopes: BTreeMap<Scope, Vec<Object>> = BTreeMap::new();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let damaged = |path: &Path, fault| StateProblem::Damaged { file: path.display().to_string(), fault };
        let names = files::names(&self.path, |name| kind_of(name).is_some()).unwrap_or_else(|error| {
            problems.push(damaged(&self.path, format!("it cannot be read ({error})")));
            Vec::new()
        });
        let mut left = LIMIT;
        for (name, kind) in names.iter().filter_map(|name| Some((name, kind_of(name)?))) {
            let path = self.path.join(name);
            let read = files::read(&path, left).and_then(|(text, metadata)| {
                problems.extend(files::open_to_others(&path, &metadata, 0o600));
                left = left.saturating_sub(text.len() as u64);
                parse(kind, &text)
            });
            match read {
                Ok(objects) => {
                    *counts.entry(kind.name()).or_default() += objects.len();
                    objects.into_iter().for_each(|(scope, object)| scopes.entry(scope).or_default().push(object));
                }
                Err(fault) => problems.push(damaged(&path, fault)),
            }
        }
        let count = |kind: &str| counts.get(kind).copied().unwrap_or_default();
        for (kind, saved) in self.index.objects.iter().filter(|(kind, saved)| count(kind) < **saved) {
            let (path, missing) = (self.path.display().to_string(), saved - count(kind));
            problems.push(StateProblem::Incomplete { path, kind: kind.clone(), missing });
        }
        Loaded { objects: scopes.into_iter().collect(), problems }
    }
}

/// Writes configurations.
pub(super) struct Saver {
    path: PathBuf,
    shards: BTreeMap<(Kind, u8), Shard>,
    /// Files of the last process that were not looked at yet.
    leftover: BTreeSet<String>,
    /// As in the index.
    counts: BTreeMap<String, usize>,
    bytes: u64,
    limit: u64,
}

/// What is known to be in a file.
#[derive(Default)]
struct Shard {
    objects: Vec<(Scope, Object)>,
    /// Zero if there is no file.
    bytes: u64,
    is_left_out: bool,
}

/// What a save came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// Files that were written.
    pub(super) files: usize,
    /// Bytes that were written.
    pub(super) written: u64,
    /// Objects that are left out, because all together would be too large.
    pub(super) left_out: usize,
}

impl Saver {
    /// For what is below this directory. `found` is what was found there.
    pub(super) fn new(state_dir: &Path, found: Option<&SavedObjects>) -> Self {
        let path = state_dir.join(FOLDER);
        let leftover = files::names(&path, |name| name == INDEX || kind_of(name).is_some()).unwrap_or_default();
        let counts = found.map(|found| found.index.objects.clone()).unwrap_or_default();
        let leftover = leftover.into_iter().filter(|name| name != INDEX).collect();
        Self { path, shards: BTreeMap::new(), leftover, counts, bytes: 0, limit: LIMIT }
    }

    /// Makes the files of these kinds say what is given. What fails does not keep the rest from being written, and is
    /// tried when the same is given again.
    pub(super) fn save(&mut self, kinds: &BTreeMap<Kind, Definitions>, now: UnixTime) -> Result<Saved, WriteError> {
        let mut saved = Saved::default();
        let mut first = Ok(());
        if let Err(source) = DirBuilder::new().recursive(true).mode(0o700).create(&self.path) {
            return Err(WriteError { file: FOLDER.to_owned(), source });
        }
        let mut is_changed = false;
        for (kind, definitions) in kinds {
            let mut shards: BTreeMap<u8, Vec<(Scope, Object)>> = BTreeMap::new();
            for (key, scope, object) in definitions {
                shards.entry(shard_of(key)).or_default().push((scope.clone(), object.clone()));
            }
            for number in 0..=u8::MAX {
                let objects = shards.remove(&number).unwrap_or_default();
                match self.save_shard(*kind, number, objects, &mut saved) {
                    Ok(changed) => is_changed |= changed,
                    Err(source) if first.is_ok() => {
                        first = Err(WriteError { file: format!("{FOLDER}/{}", file_name(*kind, number)), source });
                    }
                    Err(_) => {}
                }
            }
            is_changed |= self.counts.insert(kind.name().to_owned(), definitions.len()) != Some(definitions.len());
        }
        first?;
        if is_changed && self.counts.len() == KINDS.len() {
            let index =
                Index { format: INDEX_FORMAT.to_owned(), saved_at: now.as_secs(), objects: self.counts.clone() };
            let text = serde_json::to_vec(&index).expect("invariant: an index is JSON");
            files::replace(&self.path, INDEX, &text, Durable::No)
                .map_err(|source| WriteError { file: format!("{FOLDER}/{INDEX}"), source })?;
        }
        saved.left_out = self.shards.values().filter(|shard| shard.is_left_out).map(|shard| shard.objects.len()).sum();
        Ok(saved)
    }

    /// Whether anything is different now.
    fn save_shard(
        &mut self,
        kind: Kind,
        number: u8,
        objects: Vec<(Scope, Object)>,
        saved: &mut Saved,
    ) -> io::Result<bool> {
        let known = self.shards.get(&(kind, number));
        let is_same = |(scope, object): &(Scope, Object), (other_scope, other): &(Scope, Object)| {
            scope == other_scope && is_shared(object, other)
        };
        if known.is_some_and(|known| {
            known.objects.len() == objects.len()
                && known.objects.iter().zip(&objects).all(|(one, other)| is_same(one, other))
        }) {
            return Ok(false);
        }
        let path = self.path.join(file_name(kind, number));
        let is_leftover = self.leftover.contains(&file_name(kind, number));
        let before = known.map_or(0, |shard| shard.bytes);
        let mut is_changed = true;
        let (mut bytes, mut is_left_out) = (0, false);
        if objects.is_empty() {
            if known.is_some() || is_leftover {
                files::remove(&path)?;
            } else {
                is_changed = false;
            }
        } else {
            let text = text(kind, &objects);
            bytes = text.len() as u64;
            is_left_out = self.bytes - before + bytes > self.limit;
            if is_left_out {
                bytes = 0;
                files::remove(&path)?;
            } else if is_leftover && fs::read(&path).is_ok_and(|written| written == text) {
                is_changed = false;
            } else {
                files::replace(&self.path, &file_name(kind, number), &text, Durable::No)?;
                saved.files += 1;
                saved.written += bytes;
            }
        }
        self.leftover.remove(&file_name(kind, number));
        self.bytes = self.bytes - before + bytes;
        self.shards.insert((kind, number), Shard { objects, bytes, is_left_out });
        Ok(is_changed)
    }
}

/// The folder below the state directory.
const FOLDER: &str = "objects";
const INDEX: &str = "index.json";
const INDEX_FORMAT: &str = "handfast.dev/saved-objects.v1";
const SHARD_FORMAT: &str = "handfast.dev/objects.v1";
const SUFFIX: &str = ".jsonl";
/// Bytes of all files together: ten thousand Secrets are 100 MB. Below the size of the chart's volume, so that what is
/// held has room.
const LIMIT: u64 = 192 << 20;
const LARGEST_INDEX: u64 = 64 << 10;
const FOREIGN: &str = "this version does not write such files";

/// What was saved, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    format: String,
    saved_at: u64,
    /// How many of each kind.
    objects: BTreeMap<String, usize>,
}

/// The first line of a shard.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    kind: String,
    /// Of all that follows.
    sha256: String,
}

/// Each other line.
#[derive(Serialize, Deserialize)]
struct Line<S, T> {
    scope: S,
    object: T,
}

fn text(kind: Kind, objects: &[(Scope, Object)]) -> Vec<u8> {
    fn add(body: &mut Vec<u8>, scope: &Scope, object: &impl Serialize) {
        let line = Line { scope: &*scope.0, object };
        serde_json::to_writer(&mut *body, &line).expect("invariant: objects are JSON, and a vector takes them");
        body.push(b'\n');
    }
    let mut body = Vec::new();
    for (scope, object) in objects {
        match object {
            Object::EndpointSlice(object) => add(&mut body, scope, &**object),
            Object::Ingress(object) => add(&mut body, scope, &**object),
            Object::IngressClass(object) => add(&mut body, scope, &**object),
            Object::Secret(SecretObject(object)) => add(&mut body, scope, &**object),
            Object::Service(object) => add(&mut body, scope, &**object),
            Object::TlsPolicy(object) => add(&mut body, scope, &**object),
        }
    }
    let (format, kind) = (SHARD_FORMAT.to_owned(), kind.name().to_owned());
    let header = Header { format, kind, sha256: crate::tls::sha256_hex(&body) };
    let mut text = serde_json::to_vec(&header).expect("invariant: a header is JSON");
    text.push(b'\n');
    text.append(&mut body);
    text
}

/// Reads a shard; otherwise what is wrong with it, in words that hold nothing of it.
fn parse(kind: Kind, text: &[u8]) -> Result<Vec<(Scope, Object)>, String> {
    let end = text.iter().position(|byte| *byte == b'\n').ok_or_else(|| "it ends too early".to_owned())?;
    let (header, body) = (&text[..end], &text[end + 1..]);
    let header: Header = serde_json::from_slice(header).map_err(|_| FOREIGN.to_owned())?;
    if header.format != SHARD_FORMAT || header.kind != kind.name() {
        return Err(FOREIGN.to_owned());
    }
    if header.sha256 != crate::tls::sha256_hex(body) {
        return Err("it was changed or cut off".to_owned());
    }
    fn read<T: DeserializeOwned>(line: &[u8], make: impl Fn(Arc<T>) -> Object) -> Result<(Scope, Object), String> {
        let line: Line<String, T> = serde_json::from_slice(line).map_err(|_| FOREIGN.to_owned())?;
        Ok((Scope(line.scope.into()), make(Arc::new(line.object))))
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let read = |line| match kind {
        Kind::EndpointSlice => read(line, Object::EndpointSlice),
        Kind::Ingress => read(line, Object::Ingress),
        Kind::IngressClass => read(line, Object::IngressClass),
        Kind::Secret => read(line, |secret| Object::Secret(SecretObject(secret))),
        Kind::Service => read(line, Object::Service),
        Kind::TlsPolicy => read(line, Object::TlsPolicy),
        Kind::File | Kind::Other => Err(FOREIGN.to_owned()),
    };
    lines.map(read).collect()
}

/// The very same object, not one that is equal.
fn is_shared(one: &Object, other: &Object) -> bool {
    match (one, other) {
        (Object::EndpointSlice(one), Object::EndpointSlice(other)) => Arc::ptr_eq(one, other),
        (Object::Ingress(one), Object::Ingress(other)) => Arc::ptr_eq(one, other),
        (Object::IngressClass(one), Object::IngressClass(other)) => Arc::ptr_eq(one, other),
        (Object::Secret(one), Object::Secret(other)) => Arc::ptr_eq(&one.0, &other.0),
        (Object::Service(one), Object::Service(other)) => Arc::ptr_eq(one, other),
        (Object::TlsPolicy(one), Object::TlsPolicy(other)) => Arc::ptr_eq(one, other),
        (
            Object::EndpointSlice(_)
            | Object::Ingress(_)
            | Object::IngressClass(_)
            | Object::Secret(_)
            | Object::Service(_)
            | Object::TlsPolicy(_),
            _,
        ) => false,
    }
}

/// Which file an object goes into. That another build counts otherwise costs one save of everything.
fn shard_of(key: &ObjectKey) -> u8 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish().to_be_bytes()[0]
}

fn file_name(kind: Kind, shard: u8) -> String {
    format!("{kind}-{shard:02x}{SUFFIX}")
}

/// The kind of the objects in a file of this name; `None` if it is not ours.
fn kind_of(name: &str) -> Option<Kind> {
    let (kind, shard) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let is_shard = shard.len() == 2 && shard.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
    KINDS.into_iter().find(|one| is_shard && one.name() == kind)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::{Secret, Service};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;
    use crate::compile::{Change, Compiler, Options};

    const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));

    fn metadata(name: &str) -> ObjectMeta {
        ObjectMeta { namespace: Some("default".into()), name: Some(name.into()), ..ObjectMeta::default() }
    }

    fn secret(name: &str, key: &str) -> Object {
        let data = BTreeMap::from([("tls.key".to_owned(), ByteString(key.into()))]);
        Object::Secret(SecretObject(Arc::new(Secret {
            metadata: metadata(name),
            data: Some(data),
            ..Secret::default()
        })))
    }

    fn service(name: &str) -> Object {
        Object::Service(Arc::new(Service { metadata: metadata(name), ..Service::default() }))
    }

    /// All kinds, as the first save has them.
    fn all(objects: &[(&str, Object)]) -> BTreeMap<Kind, Definitions> {
        let mut kinds: BTreeMap<Kind, Definitions> = KINDS.into_iter().map(|kind| (kind, Vec::new())).collect();
        for (scope, object) in objects {
            let definition = (object.key(), Scope((*scope).into()), object.clone());
            kinds.get_mut(&object.kind()).unwrap().push(definition);
        }
        kinds
    }

    fn some() -> Vec<(&'static str, Object)> {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
        let secrets = names.iter().map(|name| ("secrets", secret(name, "very private key")));
        secrets.chain([("services", service("web")), ("more", service("web"))]).collect()
    }

    fn save(saver: &mut Saver, kinds: &BTreeMap<Kind, Definitions>) -> Saved {
        saver.save(kinds, NOW).ok().unwrap()
    }

    fn files_in(path: &Path) -> BTreeSet<String> {
        fs::read_dir(path.join(FOLDER))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn objects(path: &Path) -> Vec<(Scope, Object)> {
        let loaded = SavedObjects::find(path).unwrap().unwrap().load();
        assert_eq!(loaded.problems, []);
        let each =
            |(scope, objects): (Scope, Vec<Object>)| objects.into_iter().map(move |object| (scope.clone(), object));
        let mut objects: Vec<(Scope, Object)> = loaded.objects.into_iter().flat_map(each).collect();
        objects.sort_by_key(|(scope, object)| (object.key(), scope.clone()));
        objects
    }

    fn expected(objects: &[(&str, Object)]) -> Vec<(Scope, Object)> {
        let mut objects: Vec<(Scope, Object)> =
            objects.iter().map(|(scope, object)| (Scope((*scope).into()), object.clone())).collect();
        objects.sort_by_key(|(scope, object)| (object.key(), scope.clone()));
        objects
    }

    #[test]
    fn what_was_saved_is_loaded_and_nobody_else_may_read_it() {
        let path = tempfile::tempdir().unwrap();
        assert!(SavedObjects::find(path.path()).unwrap().is_none());
        let mut saver = Saver::new(path.path(), None);
        save(&mut saver, &all(&some()));
        assert_eq!(objects(path.path()), expected(&some()));
        assert_eq!(SavedObjects::find(path.path()).unwrap().unwrap().saved_at(), NOW);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = path.path().join(FOLDER);
        assert_eq!(mode(&folder), 0o700);
        assert!(files_in(path.path()).iter().all(|name| mode(&folder.join(name)) == 0o600));
    }

    #[test]
    fn a_change_writes_what_it_touches() {
        let path = tempfile::tempdir().unwrap();
        let mut saver = Saver::new(path.path(), None);
        let mut objects_now = some();
        let first = save(&mut saver, &all(&objects_now));
        assert!(first.files > 10, "{first:?}");
        assert_eq!(save(&mut saver, &all(&objects_now)), Saved::default(), "nothing is new");
        objects_now[3] = ("secrets", secret("d", "another key"));
        let second = save(&mut saver, &all(&objects_now));
        assert_eq!(second.files, 1);
        assert_eq!(objects(path.path()), expected(&objects_now));
        // Only the kinds that are given are looked at.
        let only = BTreeMap::from([(Kind::Service, Vec::new())]);
        assert_eq!(save(&mut saver, &only), Saved::default());
        objects_now.truncate(16);
        assert_eq!(objects(path.path()), expected(&objects_now));
        save(&mut saver, &all(&[]));
        assert_eq!(files_in(path.path()), [INDEX.to_owned()].into());
    }

    #[test]
    fn a_new_process_writes_only_what_differs_and_keeps_the_time_of_what_does_not() {
        let path = tempfile::tempdir().unwrap();
        save(&mut Saver::new(path.path(), None), &all(&some()));
        let later = UnixTime::since_unix_epoch(Duration::from_secs(NOW.as_secs() + 3600));
        let found = || SavedObjects::find(path.path()).unwrap();
        let again = some();
        let saved = Saver::new(path.path(), found().as_ref()).save(&all(&again), later).ok().unwrap();
        assert_eq!((saved, found().unwrap().saved_at()), (Saved::default(), NOW));
        // One has gone, one was damaged.
        let damaged = path.path().join(FOLDER).join(file_name(Kind::Secret, shard_of(&again[3].1.key())));
        let text = fs::read(&damaged).unwrap();
        fs::write(&damaged, &text[..text.len() - 1]).unwrap();
        let saved = Saver::new(path.path(), found().as_ref()).save(&all(&again[1..]), later).ok().unwrap();
        assert_eq!((saved.files, found().unwrap().saved_at()), (1, later));
        assert_eq!(objects(path.path()), expected(&again[1..]));
    }

    #[test]
    fn before_the_first_save_is_complete_nothing_is_used() {
        let path = tempfile::tempdir().unwrap();
        let mut kinds = all(&some());
        kinds.remove(&Kind::Service);
        let mut saver = Saver::new(path.path(), None);
        save(&mut saver, &kinds);
        assert!(SavedObjects::find(path.path()).unwrap().is_none());
        save(&mut saver, &BTreeMap::from([(Kind::Service, Vec::new())]));
        assert_eq!(objects(path.path()).len(), 16);
    }

    #[test]
    fn a_file_that_is_damaged_or_foreign_is_named_costs_no_other_and_shows_nothing_of_itself() {
        let path = tempfile::tempdir().unwrap();
        save(&mut Saver::new(path.path(), None), &all(&some()));
        let folder = path.path().join(FOLDER);
        let file = |name: &str| folder.join(file_name(Kind::Secret, shard_of(&secret(name, "").key())));
        let good = |name: &str| fs::read_to_string(file(name)).unwrap();
        let rows = [
            (file("a"), String::new(), "ends too early"),
            (file("b"), good("b")[..good("b").len() - 9].to_owned(), "cut off"),
            (file("c"), good("c").replace("objects.v1", "objects.v2"), "this version does not write such files"),
            (file("d"), good("d").replacen("Secret", "Service", 1), "this version does not write such files"),
            (file("e"), good("e").replace("dmV", "dmW"), "changed"),
        ];
        let shards: BTreeSet<PathBuf> = rows.iter().map(|(file, ..)| file.clone()).collect();
        assert_eq!(shards.len(), rows.len(), "choose names in different shards");
        for (file, text, _) in &rows {
            fs::write(file, text).unwrap();
        }
        fs::write(folder.join("notes.jsonl"), "mine").unwrap();
        fs::remove_file(file("f")).unwrap();
        let loaded = SavedObjects::find(path.path()).unwrap().unwrap().load();
        let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        for (file, _, fault) in &rows {
            let problem = problems.iter().find(|problem| problem.contains(&file.display().to_string())).unwrap();
            assert!(problem.contains(fault) && !problem.contains("dmV"), "{problem}");
        }
        assert_eq!(problems.len(), rows.len() + 1, "{problems:#?}");
        assert!(problems.last().unwrap().contains("of kind Secret"), "{problems:#?}");
        assert!(!loaded.objects.is_empty());
        let index = folder.join(INDEX);
        fs::write(&index, fs::read_to_string(&index).unwrap().replace("objects.v1", "objects.v2")).unwrap();
        assert!(
            SavedObjects::find(path.path()).unwrap_err().to_string().contains("this version does not write such files")
        );
    }

    #[test]
    fn what_is_too_large_together_is_left_out_and_what_fails_is_tried_again() {
        let path = tempfile::tempdir().unwrap();
        let mut saver = Saver::new(path.path(), None);
        save(&mut saver, &all(&some()));
        let whole = saver.bytes;
        saver.limit = whole + 100;
        let mut more = some();
        more.push(("secrets", secret("q", &"x".repeat(1000))));
        let saved = save(&mut saver, &all(&more));
        assert!(saved.left_out >= 1 && saver.bytes <= whole + 100, "{saved:?}");
        saver.limit = LIMIT;
        more.last_mut().unwrap().1 = secret("q", &"y".repeat(1000));
        assert_eq!(save(&mut saver, &all(&more)).left_out, 0);
        assert_eq!(objects(path.path()), expected(&more));
        // Something that cannot be replaced stands in the way.
        let obstacle = path.path().join(FOLDER).join(file_name(Kind::Secret, shard_of(&more[0].1.key())));
        fs::remove_file(&obstacle).unwrap();
        fs::create_dir_all(obstacle.join("x")).unwrap();
        more[0].1 = secret("a", "other");
        let error = saver.save(&all(&more), NOW).err().unwrap();
        assert!(obstacle.ends_with(&error.file), "{}", error.file);
        fs::remove_dir_all(&obstacle).unwrap();
        assert_eq!(save(&mut saver, &all(&more)).files, 1);
        assert_eq!(objects(path.path()), expected(&more));
    }

    /// Optimized builds have ten thousand hosts, and show what it costs: `cargo test --release many_secrets -- --nocapture`.
    #[test]
    fn with_many_secrets_a_change_is_little_work() {
        let count = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
        let text = |bytes: usize| std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect::<String>();
        let secret = |number: usize| {
            let data = [("tls.crt", text(5_400)), ("tls.key", text(1_700))];
            let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
            let metadata = metadata(&format!("tls-{number}"));
            Object::Secret(SecretObject(Arc::new(Secret { metadata, data: Some(data.into()), ..Secret::default() })))
        };
        let mut compiler = Compiler::new(Options::default());
        let scope = || Scope("all".into());
        let services = (0..count).map(|number| service(&format!("web-{number}")));
        compiler.apply(Change::Replace(scope(), (0..count).map(secret).chain(services).collect()));
        let path = tempfile::tempdir().unwrap();
        let mut saver = Saver::new(path.path(), None);
        let mut measure = |what: &str, compiler: &Compiler, kinds: &[Kind]| {
            let begun = std::time::Instant::now();
            let kinds = kinds.iter().map(|kind| (*kind, compiler.objects(*kind))).collect();
            let gathered = begun.elapsed();
            let saved = saver.save(&kinds, NOW).ok().unwrap();
            let took = begun.elapsed() - gathered;
            eprintln!("{count} Secrets, {what}: gathered in {gathered:?}, written in {took:?}: {saved:?}");
            saved
        };
        let first = measure("the first save", &compiler, &KINDS);
        assert!(first.written > 9_000 * count as u64);
        compiler.apply(Change::Upsert(scope(), secret(7)));
        let change = measure("one Secret changed", &compiler, &[Kind::Secret]);
        assert!(change.files == 1 && change.written * 100 < first.written, "{change:?}");
        let begun = std::time::Instant::now();
        let loaded = SavedObjects::find(path.path()).unwrap().unwrap().load();
        eprintln!("{count} Secrets, loaded in {:?}", begun.elapsed());
        assert_eq!(loaded.objects[0].1.len(), 2 * count);
    }
}
