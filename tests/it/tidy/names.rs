//! Which names a source file uses, and which it must not.

use std::collections::BTreeMap;

use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

use super::files::{self, SourceFile};

/// What a rule forbids.
enum Forbid {
    /// `async fn`, `async` blocks and `.await`.
    Async,
    /// Any path that begins with, or contains in a row, these segments.
    Path(&'static str),
}

struct Rule {
    /// Files below these folders of `src/` (or these files).
    within: &'static [&'static str],
    /// And not these.
    except: &'static [&'static str],
    forbid: &'static [Forbid],
    reason: &'static str,
}

use Forbid::{Async, Path};

const PURE: &[&str] = &[
    "api",
    "check",
    "check.rs",
    "compile",
    "explain.rs",
    "probe/clients.rs",
    "probe/findings.rs",
    "probe/report.rs",
    "probe/survey.rs",
    "probe/target.rs",
    "snapshot",
    "source/manifest.rs",
    "source/manifest",
    "tls",
    "trie.rs",
    "webhook/certificate.rs",
    "webhook/judge.rs",
    "webhook/review.rs",
    "webhook/words.rs",
];

const RULES: &[Rule] = &[
    Rule {
        within: PURE,
        except: &[],
        forbid: &[
            Async,
            Path("log"),
            Path("std::env"),
            Path("std::fs"),
            Path("std::io::stdin"),
            Path("std::net::TcpListener"),
            Path("std::net::TcpStream"),
            Path("std::net::ToSocketAddrs"),
            Path("std::net::UdpSocket"),
            Path("std::os"),
            Path("std::process"),
            Path("std::thread::sleep"),
            Path("std::thread::spawn"),
            Path("std::time::Instant"),
            Path("std::time::SystemTime"),
            Path("Instant::now"),
            Path("SystemTime::now"),
            Path("Timestamp::now"),
            Path("UnixTime::now"),
            Path("Zoned::now"),
            Path("tokio"),
            Path("tracing"),
        ],
        reason: "the core does no I/O, awaits nothing, logs nothing and reads no clock: time is a parameter",
    },
    Rule {
        within: &["proxy", "snapshot", "tls"],
        except: &[],
        forbid: &[Path("kube"), Path("k8s_openapi")],
        reason: "the data plane knows no Kubernetes",
    },
    Rule {
        within: &["compile"],
        except: &[],
        forbid: &[Path("hyper"), Path("hyper_util"), Path("kube"), Path("notify"), Path("tokio")],
        reason: "the compiler knows neither network nor files",
    },
    Rule {
        within: &[""],
        except: &["config.rs"],
        forbid: &[
            Path("std::env::*"),
            Path("std::env::args"),
            Path("std::env::args_os"),
            Path("std::env::remove_var"),
            Path("std::env::set_var"),
            Path("std::env::var"),
            Path("std::env::var_os"),
            Path("std::env::vars"),
            Path("std::env::vars_os"),
        ],
        reason: "the environment is read once, in config.rs",
    },
    Rule {
        within: &[""],
        except: &["app.rs", "commands.rs", "demo", "main.rs"],
        forbid: &[Path("anyhow")],
        reason: "modules have error types of their own; only the outermost code collects them",
    },
];

impl Rule {
    fn covers(&self, file: &str) -> bool {
        let below =
            |folder: &&'static str| folder.is_empty() || file == *folder || file.starts_with(&format!("{folder}/"));
        self.within.iter().any(below) && !self.except.iter().any(below)
    }

    /// What the file does that the rule forbids.
    fn broken_by(&self, names: &Names) -> Vec<String> {
        let found = self.forbid.iter().filter_map(|forbid| match forbid {
            Async => names.awaits.then(|| "async".to_owned()),
            Path(path) => names.paths.iter().find(|used| has_segments(used, path)).cloned(),
        });
        found.map(|what| format!("{what}: {}", self.reason)).collect()
    }
}

/// Whether `used` has the segments of `path` in a row. A path of one segment is a crate's name, and must come first.
fn has_segments(used: &str, path: &str) -> bool {
    let segments = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    let (used, path) = (segments(used), segments(path));
    match path.as_slice() {
        [name] => used.first() == Some(name),
        path => used.windows(path.len()).any(|window| window == path),
    }
}

/// What a file names, tests aside: paths in full, as far as `use` says what they stand for.
#[derive(Default)]
struct Names {
    paths: Vec<String>,
    /// Local name to full path, from `use`.
    imports: BTreeMap<String, String>,
    awaits: bool,
}

impl Names {
    fn of(file: &SourceFile) -> Self {
        let syntax = syn::parse_file(&file.text).unwrap_or_else(|error| panic!("src/{}: {error}", file.name));
        let mut names = Names::default();
        names.visit_file(&syntax);
        // `Instant::now` after `use std::time::Instant` is `std::time::Instant::now`.
        for path in &mut names.paths {
            let (first, rest) = path.split_once("::").unwrap_or((path, ""));
            if let Some(full) = names.imports.get(first) {
                *path = if rest.is_empty() { full.clone() } else { format!("{full}::{rest}") };
            }
        }
        names
    }

    fn import(&mut self, tree: &UseTree, prefix: &str) {
        let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &join(&path.ident.to_string())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, prefix)),
            UseTree::Glob(_) => self.paths.push(join("*")),
            UseTree::Name(name) => self.imported(name.ident.to_string(), prefix, &join(&name.ident.to_string())),
            UseTree::Rename(name) => self.imported(name.rename.to_string(), prefix, &join(&name.ident.to_string())),
        }
    }

    fn imported(&mut self, local: String, prefix: &str, full: &str) {
        let (local, full) = match full.strip_suffix("::self") {
            Some(full) => (prefix.rsplit("::").next().unwrap_or(prefix).to_owned(), full.to_owned()),
            None => (local, full.to_owned()),
        };
        self.paths.push(full.clone());
        // Of `use tokio;` nothing needs to be known beside the path itself.
        if local != full {
            self.imports.insert(local, full);
        }
    }

    /// Macros are not parsed; any `a::b` in them counts as a path.
    fn tokens(&mut self, mut at: Cursor<'_>) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        while !at.eof() {
            if let Some((ident, next)) = at.ident() {
                self.awaits |= ident == "await" || ident == "async";
                if colons != 2 {
                    self.path_of(&mut path);
                }
                path.push(ident.to_string());
                (colons, at) = (0, next);
            } else if let Some((punct, next)) = at.punct().filter(|(punct, _)| punct.as_char() == ':') {
                let _ = punct;
                (colons, at) = (colons + 1, next);
            } else {
                self.path_of(&mut path);
                colons = 0;
                if let Some((inside, _, _, next)) = at.any_group() {
                    self.tokens(inside);
                    at = next;
                } else if let Some((_, next)) = at.token_tree() {
                    at = next;
                }
            }
        }
        self.path_of(&mut path);
    }

    /// A single word is a variable, a field or a key as often as a crate, so it does not count.
    fn path_of(&mut self, segments: &mut Vec<String>) {
        if segments.len() > 1 {
            self.paths.push(segments.join("::"));
        }
        segments.clear();
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &[],
        };
        if !attributes.iter().any(is_cfg_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, "");
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.paths.push(item.ident.to_string());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        // A single segment is a local name; if it is imported, `use` has told.
        if segments.len() > 1 {
            self.paths.push(segments.join("::"));
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.visit_path(&invocation.path);
        self.tokens(TokenBuffer::new2(invocation.tokens.clone()).begin());
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.awaits |= signature.asyncness.is_some();
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, expression: &'ast syn::ExprAsync) {
        self.awaits = true;
        visit::visit_expr_async(self, expression);
    }

    fn visit_expr_await(&mut self, expression: &'ast syn::ExprAwait) {
        self.awaits = true;
        visit::visit_expr_await(self, expression);
    }
}

pub(super) fn is_cfg_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
}

fn complaints(file: &SourceFile) -> Vec<String> {
    let rules: Vec<&Rule> = RULES.iter().filter(|rule| rule.covers(&file.name)).collect();
    let names = Names::of(file);
    rules.iter().flat_map(|rule| rule.broken_by(&names)).map(|what| format!("src/{}: {what}", file.name)).collect()
}

#[test]
fn no_module_names_what_it_must_not_know() {
    let complaints: Vec<String> = files::sources().iter().flat_map(complaints).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_rule_covers_a_file() {
    let files = files::sources();
    for rule in RULES {
        assert!(files.iter().any(|file| rule.covers(&file.name)), "{}: no file", rule.reason);
    }
}

#[test]
fn each_rule_can_fail() {
    let breaks = |name: &str, text: &str| {
        let file = SourceFile { name: name.to_owned(), text: text.to_owned() };
        !complaints(&file).is_empty()
    };
    for (name, text) in [
        ("compile/a.rs", "use std::fs;"),
        ("compile/a.rs", "use std::{fmt, fs::{self, File}};"),
        ("compile/a.rs", "fn f() { let _ = std::fs::read(\"x\"); }"),
        ("compile/a.rs", "use std as s; fn f() { s::fs::read(\"x\"); }"),
        ("compile/a.rs", "fn f() { assert!(std::fs::exists(\"x\")); }"),
        ("compile/a.rs", "async fn f() {}"),
        ("compile/a.rs", "fn f() { let _ = async {}; }"),
        ("compile/a.rs", "use std::time::{Duration, Instant};"),
        ("compile/a.rs", "fn f(at: UnixTime) { UnixTime::now(); }"),
        ("compile/a.rs", "use rustls::pki_types::UnixTime as U; fn f() { U::now(); }"),
        ("compile/a.rs", "use hyper::Request;"),
        ("compile/a.rs", "fn f(client: kube::Client) {}"),
        ("compile/a.rs", "use tokio::*;"),
        ("compile/deeper/a.rs", "fn f() { tracing::info!(\"x\"); }"),
        ("api/a.rs", "use std::env;"),
        ("tls/a.rs", "use std::net::TcpStream;"),
        ("tls/a.rs", "use k8s_openapi::ByteString;"),
        ("snapshot/a.rs", "type T = k8s_openapi::ByteString;"),
        ("proxy/a.rs", "extern crate kube;"),
        ("proxy/a.rs", "fn f() { std::env::var(\"X\"); }"),
        ("proxy/a.rs", "use std::env; fn f() { env::vars(); }"),
        ("proxy/a.rs", "use std::env::*;"),
        ("metrics.rs", "use anyhow::Context;"),
        ("source/manifest/document.rs", "use std::fs;"),
    ] {
        assert!(breaks(name, text), "src/{name} may not have: {text}");
    }
    for (name, text) in [
        ("compile/a.rs", "// std::fs\nconst A: &str = \"std::fs\"; use std::net::{IpAddr, SocketAddr};"),
        ("compile/a.rs", "#[cfg(test)] mod tests { use std::fs; }"),
        ("compile/a.rs", "fn f(log: u8, tokio: u8) { assert!(log > tokio); }"),
        ("compile/a.rs", "use std::time::Duration; use k8s_openapi::ByteString;"),
        ("proxy/a.rs", "use std::time::Instant; async fn f() { tokio::task::yield_now().await }"),
        ("config.rs", "use std::env; fn f() { env::var(\"X\"); }"),
        ("demo/a.rs", "fn f() { std::env::temp_dir(); }"),
        ("compile_other.rs", "use std::fs;"),
    ] {
        assert!(!breaks(name, text), "src/{name} may have: {text}");
    }
}
