//! What users wrote, in messages: quoted, unless it may be a private key.
//!
//! `text ──may_hold_a_key──▶ "text"`, or `(not shown: …)`
//!
//! A Secret's values are never quoted. But keys are pasted into other fields as well, and a message goes to logs,
//! Events and people who may not read Secrets. It is told by looks, since a broken key is a key all the same: a long run
//! of base64 or hexadecimal digits, or the word for it. What only looks so is not shown either; the field is still named.

use std::fmt;

/// A text in quotes for a message.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match may_hold_a_key(self.0) {
            true => write!(f, "({} characters, {HIDDEN})", self.0.chars().count()),
            false => write!(f, "{:?}", self.0),
        }
    }
}

const HIDDEN: &str = "not shown: they may hold a private key";

/// A name in a message, without quotes.
pub(crate) fn shown(name: &str) -> &str {
    if may_hold_a_key(name) { "(not shown: it may hold a private key)" } else { name }
}

/// What is said about a text, which may quote parts of it: said only if the text may be shown.
pub(crate) fn about(text: &str, said: String) -> String {
    if may_hold_a_key(text) { "it may hold a private key, so more is not said here".to_owned() } else { said }
}

/// Whether a text looks as if a private key, or a part of one, were in it.
pub(crate) fn may_hold_a_key(text: &str) -> bool {
    // A P-256 key alone has 43 digits of base64, or 64 hexadecimal ones.
    const BASE64: usize = 32;
    const HEXADECIMAL: usize = 48;
    if text.len() < BASE64 {
        return false;
    }
    let mut run = Run::default();
    // A line break within a run does not end it, however it is written; nor do the zeros of UTF-16.
    let text = text.replace("\\r", "").replace("\\n", "");
    for character in text.chars().filter(|character| !matches!(character, '\n' | '\r' | '\0')) {
        if !(character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '-' | '_' | '=')) {
            run = Run::default();
            continue;
        }
        run.length += 1;
        run.hexadecimal = if character.is_ascii_hexdigit() { run.hexadecimal + 1 } else { 0 };
        run.upper |= character.is_ascii_uppercase();
        run.lower |= character.is_ascii_lowercase();
        run.digit |= character.is_ascii_digit();
        let is_base64 = run.length >= BASE64 && run.upper && run.lower && run.digit;
        if is_base64 || run.hexadecimal >= HEXADECIMAL && run.digit && (run.lower || run.upper) {
            return true;
        }
    }
    text.contains("PRIVATE KEY") || text.contains("-----BEGIN")
}

/// Digits of base64 in a row.
#[derive(Default)]
struct Run {
    length: usize,
    hexadecimal: usize,
    upper: bool,
    lower: bool,
    digit: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_however_they_are_written_and_what_people_write_is_quoted() {
        for key in [
            "MHcCAQEEIOgqN3mF0yQx2b5zVvTz1Q0cW8Xb7uX3",
            "6c1b2d3e4f5061728394a5b6c7d8e9f00112233445566778",
            "-----BEGIN EC PRIVATE KEY-----, cut off",
            "x: MHcCAQEEIOgqN3mF\n0yQx2b5zVvTz1Q0cW8Xb7uX3",
            "x: MHcCAQEEIOgqN3mF\\n0yQx2b5zVvTz1Q0cW8Xb7uX3",
            "{\"d\": \"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE\"}",
        ] {
            assert!(may_hold_a_key(key), "{key}");
            let text = Quoted(key).to_string();
            assert!(text.ends_with("characters, not shown: they may hold a private key)"), "{text}");
            assert_eq!(about(key, key.to_owned()), "it may hold a private key, so more is not said here");
            assert_ne!(shown(key), key);
        }
        for text in [
            "",
            "shop.example.com",
            "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256:@SECLEVEL=1",
            "/a/path/without-end/of/the-backend/that-is-long-enough",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "a-host-name-that-is-very-long-indeed-and-goes-on.example.com",
            "spec.rules[0].http.paths[0].backend.serviceName of Ingress default/shop",
        ] {
            assert!(!may_hold_a_key(text), "{text}");
            assert_eq!((Quoted(text).to_string(), shown(text)), (format!("{text:?}"), text));
        }
    }
}
