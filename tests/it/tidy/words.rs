//! Words that messages and documents avoid: the list in CONTRIBUTING.md, held over string literals and documents.
//!
//! The text of `--help` and of the definitions for a cluster stands in comments, so those of their files count too.

use std::fs;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, Lit};

use super::files::{root, sources};

/// Documents that users read.
const DOCUMENTS: [&str; 6] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "charts/handfast/README.md",
    "charts/handfast/values.yaml",
];

/// Folders whose files are all for users.
const FOLDERS: [(&str, &str); 2] = [("docs", "md"), ("charts/handfast/templates", "txt")];

/// Files whose comments are text of `--help`, or of a definition for a cluster.
const SPOKEN_COMMENTS: [&str; 3] = ["api/tls_policy.rs", "config.rs", "config/"];

const HEADING: &str = "### Words to avoid";

/// The section of CONTRIBUTING.md with the list, and everything else.
fn section(text: &str) -> (&str, String) {
    let (before, rest) = text.split_once(HEADING).expect("CONTRIBUTING.md has the list");
    let end = rest.find("\n## ").unwrap_or(rest.len());
    (&rest[..end], format!("{before}{}", &rest[end..]))
}

/// What is avoided, in lower case: everything in backticks in the first column of the table.
fn avoided(section: &str) -> Vec<String> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    rows.flat_map(|cell| cell.split('`').step_by(2).map(str::to_lowercase).collect::<Vec<_>>()).collect()
}

/// The avoided words in a text, as whole words. Line breaks count as spaces.
fn found<'a>(text: &str, avoided: &'a [String]) -> Vec<&'a str> {
    let words = |text: &str| -> String {
        let bare = text.to_lowercase().replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '\'', " ");
        format!(" {} ", bare.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let text = words(text);
    avoided.iter().map(String::as_str).filter(|word| text.contains(&words(word))).collect()
}

/// The string literals of a file, tests aside; with its comments, if those are spoken.
struct Literals {
    with_comments: bool,
    texts: Vec<String>,
}

impl Literals {
    fn of(name: &str, text: &str) -> Vec<String> {
        let with_comments = SPOKEN_COMMENTS.iter().any(|spoken| name.starts_with(spoken));
        let mut literals = Literals { with_comments, texts: Vec::new() };
        literals.visit_file(&syn::parse_file(text).unwrap_or_else(|error| panic!("src/{name}: {error}")));
        literals.texts
    }

    /// Macros are not parsed; their literals count as well.
    fn tokens(&mut self, mut at: syn::buffer::Cursor<'_>) {
        while !at.eof() {
            if let Some((literal, next)) = at.literal() {
                self.literal(&Lit::new(literal));
                at = next;
            } else if let Some((inside, _, _, next)) = at.any_group() {
                self.tokens(inside);
                at = next;
            } else if let Some((_, next)) = at.token_tree() {
                at = next;
            }
        }
    }

    fn literal(&mut self, literal: &Lit) {
        if let Lit::Str(text) = literal {
            self.texts.push(text.value());
        }
    }
}

impl<'ast> Visit<'ast> for Literals {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            _ => &[],
        };
        if !attributes.iter().any(super::names::is_cfg_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let is_comment = attribute.path().is_ident("doc");
        match &attribute.meta {
            syn::Meta::NameValue(_) if is_comment && !self.with_comments => {}
            syn::Meta::List(list) => self.tokens(syn::buffer::TokenBuffer::new2(list.tokens.clone()).begin()),
            syn::Meta::NameValue(_) | syn::Meta::Path(_) => visit::visit_attribute(self, attribute),
        }
    }

    fn visit_macro(&mut self, used: &'ast syn::Macro) {
        self.tokens(syn::buffer::TokenBuffer::new2(used.tokens.clone()).begin());
    }

    fn visit_lit(&mut self, literal: &'ast Lit) {
        self.literal(literal);
    }
}

#[test]
fn messages_and_documents_avoid_the_words_of_the_list() {
    let contributing = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let (list, rest) = section(&contributing);
    let avoided = avoided(list);
    assert!(avoided.len() > 10, "{avoided:?}");
    let mut bad: Vec<String> = Vec::new();
    for file in sources().into_iter().filter(|file| !file.name.ends_with("tests.rs")) {
        for text in Literals::of(&file.name, &file.text) {
            bad.extend(found(&text, &avoided).iter().map(|word| format!("src/{}: `{word}` in {text:?}", file.name)));
        }
    }
    let mut documents: Vec<(String, String)> = Vec::new();
    for name in DOCUMENTS {
        let text = fs::read_to_string(root().join(name)).unwrap();
        documents.push((name.to_owned(), if name == "CONTRIBUTING.md" { rest.clone() } else { text }));
    }
    for (folder, ending) in FOLDERS {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == ending) {
                documents.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    for (name, text) in &documents {
        for paragraph in text.split("\n\n") {
            let excerpt: String = paragraph.chars().take(80).collect();
            bad.extend(found(paragraph, &avoided).iter().map(|word| format!("{name}: `{word}` in {excerpt:?}")));
        }
    }
    assert!(bad.is_empty(), "CONTRIBUTING.md says what to write instead:\n{}", bad.join("\n"));
}

#[test]
fn the_list_is_held_where_texts_stand_and_not_where_code_does() {
    let avoided = ["whose fault".to_owned(), "mend".to_owned()];
    assert_eq!(found("Say\n  WHOSE fault: it is", &avoided), ["whose fault"]);
    assert_eq!(found("recommended amendment", &avoided), [""; 0]);
    let literals = |name: &str, text: &str| Literals::of(name, text).join("|");
    assert_eq!(literals("a.rs", "const A: &str = \"one\"; fn f() { g!(\"two\", h(\"three\")); }"), "one|two|three");
    assert_eq!(literals("a.rs", "#[derive(E)] enum E { #[error(\"one {}\", x(\"two\"))] A }"), "one {}|two");
    assert_eq!(literals("a.rs", "/// no\nfn mend() {} #[cfg(test)] mod tests { const A: &str = \"no\"; }"), "");
    assert_eq!(literals("config.rs", "struct A { /// yes\n a: u8 }"), " yes");
    let (list, rest) =
        section("x\n### Words to avoid\n\n| not | but |\n| --- | --- |\n| `a b`, `C` | d `e` |\n\n## Next\nz");
    assert_eq!((super::words::avoided(list), rest.ends_with("## Next\nz")), (vec!["a b".into(), "c".into()], true));
}
