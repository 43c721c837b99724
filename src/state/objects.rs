//! All objects of the last configuration, on disk: what is served when a process starts and the cluster does not answer.
//!
//! ```text
//! Compiler::objects ──by kind──▶ 256 shards each ──those that differ──▶ objects/KIND-SHARD.jsonl, then index.json
//! objects/ ──SavedObjects::load──▶ the source, under the scopes that the objects came from
//! ```
//!
//! One object changes far more often than all do, and one file for all Secrets of a large cluster is 80 MB. One file for
//! each would be as many renames as there are objects after each start. So each kind has shards by the digest of the
//! object's name: at ten thousand Secrets a change writes forty of them, and at a hundred one. A shard whose objects are
//! the same is not even serialised, because objects are shared with the compiler and compared by address.
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
/// Bytes of all files together: ten thousand Secrets are 80 MB.
const LIMIT: u64 = 512 << 20;
const LARGEST_INDEX: u64 = 64 << 10;
const FOREIGN: &str = "it is not what this version writes";

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
