//! Rules about files: length, documentation, and that no file is beside the module tree.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of `src/`.
pub(super) struct SourceFile {
    /// Path below `src/`.
    pub(super) name: String,
    pub(super) text: String,
}

/// All Rust files of `src/`, sorted.
pub(super) fn sources() -> Vec<SourceFile> {
    let root = root().join("src");
    let file = |path: PathBuf| SourceFile {
        name: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    let files: Vec<SourceFile> = rust_files(&root).into_iter().map(file).collect();
    assert!(files.len() > 10, "src/ is not where this test looks");
    files
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

const LONGEST: usize = 800;

fn is_too_long(text: &str) -> bool {
    text.lines().count() > LONGEST
}

fn opens_with_documentation(text: &str) -> bool {
    text.starts_with("//! ")
}

#[test]
fn no_file_is_longer_than_800_lines() {
    let long = |path: &PathBuf| is_too_long(&fs::read_to_string(path).unwrap());
    let folders = [root().join("src"), root().join("tests")];
    let found: Vec<PathBuf> = folders.iter().flat_map(|folder| rust_files(folder)).filter(long).collect();
    assert!(found.is_empty(), "split by topic: {found:?}");
    assert!(is_too_long(&"x\n".repeat(LONGEST + 1)) && !is_too_long(&"x\n".repeat(LONGEST)));
}

#[test]
fn every_module_opens_with_its_purpose() {
    let bare: Vec<String> =
        sources().into_iter().filter(|file| !opens_with_documentation(&file.text)).map(|file| file.name).collect();
    assert!(bare.is_empty(), "begin with `//! ` and say purpose, flow and why: {bare:?}");
    assert!(!opens_with_documentation("use std::fmt;\n//! late"));
}

/// Folders and files that a text names as `src/…` or `tests/…`, or as an entry of a code map, and that do not exist.
fn missing_paths(text: &str) -> Vec<String> {
    let words =
        text.split(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c))).map(|word| word.trim_end_matches('.'));
    let named = words.filter(|word| word.starts_with("src/") || word.starts_with("tests/")).map(str::to_owned);
    let paths = named.chain(mapped_paths(text)).map(|path| path.replace("NAME", ""));
    paths.filter(|path| !root().join(path).exists()).collect()
}

/// The entries of a code map, whose lines are `├── name` below `src/`, four columns deeper for each folder.
fn mapped_paths(map: &str) -> Vec<String> {
    let mut folders: Vec<&str> = vec!["src/"];
    let mut paths = Vec::new();
    for line in map.lines() {
        let Some((indent, entry)) = line.split_once("├── ").or_else(|| line.split_once("└── ")) else {
            continue;
        };
        let name = entry.split_whitespace().next().unwrap_or_default();
        folders.truncate(1 + indent.chars().count() / 4);
        folders.push(name);
        paths.push(folders.concat());
    }
    paths
}

#[test]
fn the_documents_name_only_files_that_exist() {
    for name in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        assert!(text.contains("src/"), "{name} names no file");
        assert_eq!(missing_paths(&text), Vec::<String>::new(), "{name}");
    }
    let map = "src/\n├── lib.rs   x\n├── tls/\n│   ├── chain.rs\n│   └── no.rs  y\n└── none.rs\n";
    assert_eq!(missing_paths(map), ["src/tls/no.rs", "src/none.rs"]);
    assert_eq!(missing_paths("`src/lib.rs`, src/no_such.rs and tests/it/."), ["src/no_such.rs"]);
}

/// Top-level modules of the library that a code map leaves out.
fn modules_without_a_line(map: &str) -> Vec<String> {
    let library = sources().into_iter().find(|file| file.name == "lib.rs").unwrap();
    let modules = library.text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let named = |module: &&str| map.contains(&format!("{module}/")) || map.contains(&format!("{module}.rs"));
    modules.filter(|module| !named(module)).map(str::to_owned).collect()
}

#[test]
fn the_code_map_has_every_module() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert_eq!(modules_without_a_line(&map), Vec::<String>::new());
    assert!(modules_without_a_line("snapshot/").contains(&"compile".to_owned()));
}
