//! The directory source on real directories: what it tells at the start, and what it tells after each kind of change.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use handfast::compile::{Change, Diagnostic, Object, Scope};
use handfast::source::directory::open;
use handfast::source::directory::{self, FILE_LIMIT};
use handfast::source::{Event, Events, SourceError};
use tempfile::TempDir;

/// A source, and what its events add up to.
struct Told {
    events: Events,
    objects: BTreeMap<String, Vec<Object>>,
    complaints: BTreeMap<String, Vec<String>>,
    /// Changes since the last look.
    changes: usize,
}

impl Told {
    async fn by(path: &Path) -> Self {
        let events = open(path).unwrap();
        let mut told = Self { events, objects: BTreeMap::new(), complaints: BTreeMap::new(), changes: 0 };
        while told.event().await {}
        told
    }

    /// Takes in one event; false if it was `Synced`. The deadline is generous: it only ends a test that fails.
    async fn event(&mut self) -> bool {
        let event = tokio::time::timeout(Duration::from_secs(60), self.events.next()).await;
        match event.unwrap_or_else(|_| panic!("no event; told so far: {}", self.text())).unwrap() {
            Event::Synced => return false,
            Event::Change(Change::Replace(Scope(scope), objects)) => {
                self.objects.insert(scope.to_string(), objects);
            }
            Event::Change(Change::Rejected(Scope(scope), diagnostics)) => {
                let text = diagnostics.iter().map(Diagnostic::to_string).collect();
                self.complaints.insert(scope.to_string(), text);
            }
            other => panic!("{other:?}"),
        }
        self.changes += 1;
        true
    }

    /// Waits until what was told adds up to something.
    async fn until(&mut self, what: impl Fn(&str) -> bool) -> String {
        self.changes = 0;
        while !what(&self.text()) {
            assert!(self.event().await, "Synced came twice");
        }
        self.text()
    }

    async fn until_it_is(&mut self, text: &str) {
        self.until(|told| told == text).await;
    }

    /// Objects by file, then complaints, one per line.
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for (file, objects) in &self.objects {
            lines.extend(objects.iter().map(|object| format!("{file}: {}{}", object.key(), revision(object))));
        }
        lines.extend(self.complaints.values().flatten().cloned());
        lines.join("\n")
    }
}

/// Objects carry a label by which tests tell versions apart.
fn revision(object: &Object) -> String {
    let label = object.metadata().labels.as_ref().and_then(|labels| labels.get("revision"));
    label.map(|revision| format!("@{revision}")).unwrap_or_default()
}

fn service(name: &str, revision: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  labels: {{revision: '{revision}'}}\n")
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) {
    fs::write(directory.path().join(name), content).unwrap();
}

fn no_manifests(path: &Path) -> String {
    format!("warning: File {}: The directory has no manifests (*.yaml, *.yml or *.json)", path.display())
}

#[tokio::test]
async fn everything_there_is_comes_before_synced() {
    let dir = directory();
    write(&dir, "a.yaml", service("a", "1") + &service("b", "1"));
    write(&dir, "b.yml", service("c", "1"));
    write(
        &dir,
        "c.json",
        r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "d"}, "stringData": {"a": "b"}}"#,
    );
    write(&dir, "empty.yaml", "");
    write(&dir, "broken.yaml", "a: [");
    for ignored in [".hidden.yaml", ".a.yaml.swp", "a.yaml~", "#a.yaml#", "README.md"] {
        write(&dir, ignored, service("ignored", "1"));
    }
    fs::create_dir(dir.path().join("sub.yaml")).unwrap();
    fs::write(dir.path().join("sub.yaml/x.yaml"), service("ignored", "1")).unwrap();
    let told = Told::by(dir.path()).await;
    let text = told.text();
    let (objects, complaint) = text.split_once("\nerror: ").unwrap();
    assert_eq!(
        objects,
        "a.yaml: Service default/a@1\na.yaml: Service default/b@1\nb.yml: Service default/c@1\nc.json: Secret default/d"
    );
    assert!(complaint.starts_with("File broken.yaml: The file is not used: line 1: "), "{complaint}");
    assert!(!complaint.contains('\n'), "{complaint}");
}

#[tokio::test]
async fn reading_once_tells_the_same_as_watching() {
    let dir = directory();
    write(&dir, "a.yaml", service("a", "1"));
    write(&dir, "b.yaml", "x: [");
    let told = Told::by(dir.path()).await;
    let changes = directory::read(dir.path()).unwrap();
    assert_eq!(changes.len(), told.changes);
    assert!(matches!(&changes[0], Change::Replace(scope, objects) if &*scope.0 == "a.yaml" && objects.len() == 1));
    assert!(matches!(&changes[1], Change::Rejected(scope, all) if &*scope.0 == "b.yaml" && all.len() == 1));
}

#[tokio::test]
async fn new_changed_renamed_and_deleted_files_are_told() {
    let dir = directory();
    let mut told = Told::by(dir.path()).await;
    write(&dir, "a.yaml", service("a", "1"));
    told.until_it_is("a.yaml: Service default/a@1").await;
    write(&dir, "a.yaml", service("a", "2") + &service("b", "1"));
    told.until_it_is("a.yaml: Service default/a@2\na.yaml: Service default/b@1").await;
    // As editors and configuration management save: a new file, renamed over the old one.
    write(&dir, ".a.yaml.tmp", service("a", "3"));
    fs::rename(dir.path().join(".a.yaml.tmp"), dir.path().join("a.yaml")).unwrap();
    told.until_it_is("a.yaml: Service default/a@3").await;
    fs::rename(dir.path().join("a.yaml"), dir.path().join("b.yaml")).unwrap();
    told.until_it_is("b.yaml: Service default/a@3").await;
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    told.until_it_is(&(no_manifests(dir.path()) + ".")).await;
}

#[tokio::test]
async fn what_means_the_same_is_not_told_again() {
    let dir = directory();
    write(&dir, "a.yaml", service("a", "1"));
    write(&dir, "b.yaml", service("b", "1"));
    let mut told = Told::by(dir.path()).await;
    write(&dir, "a.yaml", format!("# a comment\n{}", service("a", "1")));
    write(&dir, "b.yaml", service("b", "1"));
    write(&dir, "c.yaml", service("c", "1"));
    told.until(|text| text.contains("c.yaml")).await;
    assert_eq!(told.changes, 1);
}

#[tokio::test]
async fn a_broken_file_keeps_its_objects_until_it_parses_again() {
    let dir = directory();
    write(&dir, "a.yaml", service("a", "1") + &service("b", "1"));
    let mut told = Told::by(dir.path()).await;
    write(&dir, "a.yaml", service("a", "2") + "---\nx: [\n");
    let text = told.until(|text| text.contains("error")).await;
    assert!(
        text.starts_with("a.yaml: Service default/a@1\na.yaml: Service default/b@1\nerror: File a.yaml: "),
        "{text}"
    );
    assert!(text.ends_with("(last-good)"), "{text}");
    for garbage in [vec![0xff; 1 << 20], vec![b'['; 1 << 20], b"\0\x01\x02".to_vec()] {
        write(&dir, "a.yaml", garbage);
        told.until(|now| now != text).await;
        assert!(
            told.text().starts_with("a.yaml: Service default/a@1\na.yaml: Service default/b@1\n"),
            "{}",
            told.text()
        );
        write(&dir, "a.yaml", service("a", "2") + "---\nx: [\n");
        told.until_it_is(&text).await;
    }
    write(&dir, "a.yaml", service("a", "2"));
    told.until_it_is("a.yaml: Service default/a@2").await;
}

#[tokio::test]
async fn a_broken_document_keeps_its_object_and_the_others_move_on() {
    let dir = directory();
    write(&dir, "a.yaml", service("a", "1") + &service("b", "1"));
    let mut told = Told::by(dir.path()).await;
    write(&dir, "a.yaml", service("b", "2") + &service("a", "2") + "spec: 7\n" + &service("new", "1") + "spec: 7\n");
    told.until_it_is(
        "a.yaml: Service default/b@2\n\
         a.yaml: Service default/a@1\n\
         error: File a.yaml document 2 (line 8): The document is not valid: Service default/a: spec: invalid type: \
         integer `7`, expected ServiceSpec. (last-good)\n\
         error: File a.yaml document 3 (line 15): The document is not valid: Service default/new: spec: invalid type: \
         integer `7`, expected ServiceSpec. (route-dropped)",
    )
    .await;
    write(&dir, "a.yaml", service("b", "2"));
    told.until_it_is("a.yaml: Service default/b@2").await;
}

#[tokio::test]
async fn a_mounted_config_map_is_read_through_its_links_and_swapped_as_a_whole() {
    let dir = directory();
    let path = |name: &str| dir.path().join(name);
    for (version, files) in [("..1", ["a.yaml", "b.yaml"]), ("..2", ["a.yaml", "c.yaml"])] {
        fs::create_dir(path(version)).unwrap();
        for file in files {
            fs::write(path(version).join(file), service(&file[..1], &version[2..])).unwrap();
        }
    }
    symlink("..1", path("..data")).unwrap();
    symlink("..data/a.yaml", path("a.yaml")).unwrap();
    symlink("..data/b.yaml", path("b.yaml")).unwrap();
    let mut told = Told::by(dir.path()).await;
    assert_eq!(told.text(), "a.yaml: Service default/a@1\nb.yaml: Service default/b@1");
    symlink("..2", path("..data_tmp")).unwrap();
    fs::rename(path("..data_tmp"), path("..data")).unwrap();
    symlink("..data/c.yaml", path("c.yaml")).unwrap();
    fs::remove_file(path("b.yaml")).unwrap();
    fs::remove_dir_all(path("..1")).unwrap();
    told.until_it_is("a.yaml: Service default/a@2\nc.yaml: Service default/c@2").await;
}

#[tokio::test]
async fn files_that_cannot_be_read_are_named_and_harm_no_other_file() {
    let dir = directory();
    let path = |name: &str| dir.path().join(name);
    symlink("nowhere", path("dangling.yaml")).unwrap();
    symlink("loop.yaml", path("loop.yaml")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(path("pipe.yaml")).status().unwrap();
    assert!(made.success());
    fs::File::create(path("huge.yaml")).unwrap().set_len(FILE_LIMIT + 1).unwrap();
    fs::write(dir.path().join(OsStr::from_bytes(b"\xff.yaml")), service("b", "1")).unwrap();
    write(&dir, "a.yaml", service("a", "1"));
    let told = Told::by(dir.path()).await;
    let text = told.text();
    for expected in [
        "File \u{fffd}.yaml: The file is not used: its name is not valid UTF-8: rename it",
        "a.yaml: Service default/a@1",
        "File dangling.yaml: The file is not used: it is a symbolic link that leads nowhere",
        "File huge.yaml: The file is not used: it has 16777217 bytes, and the limit is 16 MiB: split it",
        "File loop.yaml: The file is not used: it cannot be read: ",
        "File pipe.yaml: The file is not used: it is a pipe, a socket or a device",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[tokio::test]
async fn a_vanished_directory_takes_nothing_away_and_is_watched_again_when_it_is_back() {
    let parent = directory();
    let path = parent.path().join("manifests");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.yaml"), service("a", "1")).unwrap();
    let mut told = Told::by(&path).await;
    fs::rename(&path, parent.path().join("away")).unwrap();
    let text = told.until(|text| text.contains("error")).await;
    let expected = format!(
        "a.yaml: Service default/a@1\nerror: File {}: Cannot read the directory: No such file or directory",
        path.display()
    );
    assert!(text.starts_with(&expected) && text.ends_with("(last-good)"), "{text}");
    assert_eq!(told.changes, 1);
    // A new directory in the old place.
    let next = parent.path().join("next");
    fs::create_dir(&next).unwrap();
    fs::write(next.join("a.yaml"), service("a", "2")).unwrap();
    fs::rename(&next, &path).unwrap();
    told.until_it_is("a.yaml: Service default/a@2").await;
    fs::write(path.join("a.yaml"), service("a", "3")).unwrap();
    told.until_it_is("a.yaml: Service default/a@3").await;
    // Deleted and made again.
    fs::remove_dir_all(&path).unwrap();
    told.until(|text| text.contains("Cannot read the directory")).await;
    fs::create_dir(&path).unwrap();
    fs::write(path.join("b.yaml"), service("b", "1")).unwrap();
    told.until_it_is("b.yaml: Service default/b@1").await;
}

#[tokio::test]
async fn a_directory_that_is_a_link_is_followed_where_it_leads() {
    let parent = directory();
    for version in ["1", "2"] {
        fs::create_dir(parent.path().join(version)).unwrap();
        fs::write(parent.path().join(version).join("a.yaml"), service("a", version)).unwrap();
    }
    let link = parent.path().join("current");
    symlink("1", &link).unwrap();
    let mut told = Told::by(&link).await;
    symlink("2", parent.path().join("tmp")).unwrap();
    fs::rename(parent.path().join("tmp"), &link).unwrap();
    told.until_it_is("a.yaml: Service default/a@2").await;
}

#[test]
fn a_source_that_cannot_start_says_what_to_do() {
    let dir = directory();
    let start = |path: &Path| open(path).err().unwrap();
    let missing = dir.path().join("missing");
    let error = start(&missing);
    assert!(matches!(&error, SourceError::Unreadable { path, .. } if *path == missing));
    let text = error.to_string();
    assert!(text.contains("missing: create it, name another with --source"), "{text}");
    write(&dir, "a.yaml", "");
    let error = start(&dir.path().join("a.yaml"));
    assert!(error.to_string().contains("a.yaml is not a directory: name the directory"), "{error}");
    assert!(directory::read(&missing).is_err());
}

#[tokio::test]
async fn a_directory_without_manifests_is_named_with_what_is_not_read() {
    let dir = directory();
    fs::create_dir(dir.path().join("shop")).unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    write(&dir, "README.md", "x");
    let mut told = Told::by(dir.path()).await;
    assert_eq!(told.text(), no_manifests(dir.path()) + ". Sub-directories are not read: shop.");
    let changes = directory::read(dir.path()).unwrap();
    assert!(matches!(&changes[..], [Change::Rejected(_, all)] if all[0].problem.code() == "no-manifests"));
    write(&dir, "SHOP.YAML", service("a", "1"));
    told.until_it_is("SHOP.YAML: Service default/a@1").await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_beginning_of_a_file_is_not_taken_for_the_whole_while_its_writer_pauses() {
    use std::io::Write as _;
    let dir = directory();
    write(&dir, "a.yaml", service("a", "1") + &service("b", "1"));
    let mut told = Told::by(dir.path()).await;
    let mut slow = fs::File::create(dir.path().join("a.yaml")).unwrap();
    slow.write_all(service("a", "2").as_bytes()).unwrap();
    // Two looks later, of which each saw the beginning.
    for name in ["c", "d"] {
        write(&dir, &format!("{name}.yaml"), service(name, "1"));
        let text = told.until(|text| text.contains(&format!("default/{name}"))).await;
        assert!(text.starts_with("a.yaml: Service default/a@1\na.yaml: Service default/b@1\n"), "{text}");
    }
    slow.write_all(service("b", "2").as_bytes()).unwrap();
    drop(slow);
    let text = told.until(|text| text.contains("@2")).await;
    assert!(text.starts_with("a.yaml: Service default/a@2\na.yaml: Service default/b@2\n"), "{text}");
}

#[tokio::test]
async fn an_emptied_file_keeps_its_objects_until_it_is_deleted() {
    let dir = directory();
    write(&dir, "a.yaml", service("a", "1"));
    write(&dir, "b.yaml", service("b", "1"));
    let mut told = Told::by(dir.path()).await;
    write(&dir, "a.yaml", "");
    let text = told.until(|text| text.contains("it is empty")).await;
    assert!(text.starts_with("a.yaml: Service default/a@1\nb.yaml: Service default/b@1\nerror: "), "{text}");
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    told.until_it_is("b.yaml: Service default/b@1").await;
}
