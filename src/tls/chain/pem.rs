//! PEM text to blocks, with where each begins (RFC 7468).
//!
//! `bytes ──▶ Block: label, byte offset, DER or what is wrong`
//!
//! Lenient about what surrounds blocks, since `openssl s_client -showcerts` and many CAs write text there; strict about
//! the blocks. A damaged block is one finding and does not take its neighbours with it. Blocks whose line breaks are
//! lost are found and named, and not read: OpenSSL and Go refuse them too, and the next program that reads the Secret
//! may be one of those. Errors never quote content, labels included: private keys come through here, and where line
//! breaks are lost a key stands behind its own label.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::form::{self, Thing};

/// One block between BEGIN and END.
pub(super) struct Block {
    /// What stands behind `BEGIN`.
    pub(super) label: Label,
    /// Bytes before its `-----BEGIN`.
    pub(super) offset: usize,
    /// RFC 1421 headers say that it is encrypted.
    pub(super) encrypted: bool,
    /// Its content, or what is wrong with it.
    pub(super) der: Result<Vec<u8>, Damage>,
}

/// The label of a block. It is kept only if it is a known one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Known(&'static str, Thing),
    /// Anything else, and how many bytes it has.
    Unknown(usize),
}

impl Label {
    fn of(text: &[u8]) -> Self {
        let known = form::LABELS.iter().find(|(label, _)| label.as_bytes() == text);
        known.map_or(Label::Unknown(text.len()), |(label, thing)| Label::Known(label, *thing))
    }

    /// What the block says that it holds.
    pub(super) fn thing(self) -> Option<Thing> {
        match self {
            Label::Known(_, thing) => Some(thing),
            Label::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Label {
    /// Fits behind "it is".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Initials are spelt: an EC key, an RSA key, an SSH key, an X509 CRL.
            Label::Known(label, _) if label.starts_with(['A', 'E', 'O', 'R', 'S', 'X']) => write!(f, "an {label}"),
            Label::Known(label, _) => write!(f, "a {label}"),
            Label::Unknown(length) => write!(f, "a block whose label ({length} bytes) is not known"),
        }
    }
}

/// What is wrong with a block.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    #[error("its base64 text is damaged")]
    Base64,
    #[error("its BEGIN line does not end with -----")]
    Begin,
    #[error("its lines end with CR alone (0x0d), which most programs do not take for a line break")]
    CarriageReturns,
    #[error("its END line does not match its BEGIN line")]
    EndMismatch,
    #[error("its END line and the next BEGIN line are one line: the line break between them is missing")]
    Joined,
    #[error("its line breaks are written as the two characters \\n")]
    LiteralBreaks,
    #[error("its line breaks are lost: it stands on one line")]
    LostBreaks,
    #[error("a BEGIN line has no matching END line")]
    NoEnd,
    #[error("its base64 text is damaged: it holds {0}")]
    Strange(&'static str),
}

impl Damage {
    /// What to do about it; `None` where nothing better can be said than to put the whole block there again.
    pub(super) fn advice(self) -> Option<&'static str> {
        match self {
            Damage::Base64 | Damage::Begin | Damage::EndMismatch | Damage::NoEnd => None,
            Damage::CarriageReturns => Some(form::CARRIAGE_RETURNS),
            Damage::Joined => Some(
                "put a line break between the END line and the next BEGIN line; files that do not end with a line \
                 break were joined",
            ),
            Damage::LiteralBreaks => Some(form::LITERAL_BREAKS),
            Damage::LostBreaks => Some(
                "write it with its line breaks: the BEGIN line, base64 in lines of 64 characters, the END line; in \
                 YAML as a block (|), in a shell with quotes around the variable",
            ),
            Damage::Strange(_) => Some(form::LOOKALIKES),
        }
    }

    /// In one clause, for messages that have no remedy of their own.
    pub(super) fn with_advice(self) -> String {
        self.advice().map_or_else(|| self.to_string(), |advice| format!("{self}: {advice}"))
    }

    /// What has become of the line breaks of a body that stands on the line of its label.
    fn of_breaks(body: &[u8]) -> Self {
        if let Some(strange) = form::strange(body) {
            Damage::Strange(strange)
        } else if find(body, b"\\n").is_some() {
            Damage::LiteralBreaks
        } else if body.contains(&b'\r') {
            Damage::CarriageReturns
        } else {
            Damage::LostBreaks
        }
    }
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// All blocks, in order.
pub(super) fn blocks(text: &[u8]) -> Vec<Block> {
    let mut reader = Reader { blocks: Vec::new(), open: None };
    let mut offset = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let start = offset;
        offset += line.len();
        reader.line(line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii(), start);
    }
    reader.close(Damage::NoEnd);
    reader.blocks
}

struct Reader<'a> {
    blocks: Vec<Block>,
    open: Option<Open<'a>>,
}

/// A block whose end has not come yet.
struct Open<'a> {
    label: &'a [u8],
    offset: usize,
    encrypted: bool,
    body: Vec<u8>,
    damage: Option<Damage>,
}

impl<'a> Reader<'a> {
    /// One line. BEGIN and END stand at the front of lines of their own; where they do not, line breaks are lost.
    fn line(&mut self, line: &'a [u8], start: usize) {
        let mut left = line;
        loop {
            if let Some(rest) = left.strip_prefix(BEGIN) {
                self.close(Damage::NoEnd);
                let offset = start + (line.len() - left.len());
                let mut open = Open { label: rest, offset, encrypted: false, body: Vec::new(), damage: None };
                let Some(end) = find(rest, DASHES) else {
                    self.push(open, Some(Damage::Begin));
                    return;
                };
                let behind = &rest[end + DASHES.len()..];
                open.label = &rest[..end];
                if behind.iter().all(|byte| *byte == b'-') {
                    open.damage = (!behind.is_empty()).then_some(Damage::Begin);
                    self.open = Some(open);
                    return;
                }
                let end = find(behind, END);
                open.damage = Some(Damage::of_breaks(&behind[..end.unwrap_or(behind.len())]));
                self.open = Some(open);
                let Some(end) = end else { return };
                left = &behind[end..];
            } else if let Some(rest) = left.strip_prefix(END) {
                let (label, behind) = match find(rest, DASHES) {
                    Some(end) => (Some(&rest[..end]), &rest[end + DASHES.len()..]),
                    None => (None, &b""[..]),
                };
                let next = find(behind, BEGIN);
                if let Some(open) = self.open.take() {
                    let damage = match (label == Some(open.label), next, behind.is_empty()) {
                        (true, None, true) => None,
                        (true, Some(_), _) => Some(Damage::Joined),
                        (true, None, false) | (false, _, _) => Some(Damage::EndMismatch),
                    };
                    self.push(open, damage);
                }
                let Some(next) = next else { return };
                left = &behind[next..];
            } else {
                if let Some(open) = &mut self.open {
                    open.add(left);
                }
                return;
            }
        }
    }

    /// The open block, if there is one, ends here.
    fn close(&mut self, damage: Damage) {
        if let Some(open) = self.open.take() {
            self.push(open, Some(damage));
        }
    }

    fn push(&mut self, open: Open<'_>, damage: Option<Damage>) {
        let der = match open.damage.or(damage) {
            Some(damage) => Err(damage),
            None => STANDARD.decode(&open.body).map_err(|_| match form::strange(&open.body) {
                Some(strange) => Damage::Strange(strange),
                None if find(&open.body, b"\\n").is_some() => Damage::LiteralBreaks,
                None => Damage::Base64,
            }),
        };
        let Open { label, offset, encrypted, .. } = open;
        self.blocks.push(Block { label: Label::of(label), offset, encrypted, der });
    }
}

impl Open<'_> {
    fn add(&mut self, line: &[u8]) {
        if line.contains(&b':') {
            self.encrypted |= find(line, b"ENCRYPTED").is_some();
            return;
        }
        self.body.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
    }
}

/// Where a part first stands in a text.
pub(super) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (Label, usize, Result<Vec<u8>, Damage>);

    fn read(text: &str) -> Vec<Read> {
        blocks(text.as_bytes()).into_iter().map(|block| (block.label, block.offset, block.der)).collect()
    }

    #[test]
    fn blocks_are_found_between_other_text_with_their_offsets() {
        let text = "hello\r\n-----BEGIN CERTIFICATE-----\r\nAA\r\n EB\r\n-----END CERTIFICATE-----\r\nx\n-----BEGIN B C-----\nAgM=\n-----END B C-----";
        let certificate = Label::Known("CERTIFICATE", Thing::Certificate);
        assert_eq!(read(text), [(certificate, 7, Ok(vec![0, 1, 1])), (Label::Unknown(3), 74, Ok(vec![2, 3]))]);
    }

    #[test]
    fn a_damaged_block_leaves_its_neighbours_alone() {
        let good = "-----BEGIN A-----\nAAEB\n-----END A-----\n";
        for (bad, damage) in [
            ("-----BEGIN A-----\n!!!!\n-----END A-----\n", Damage::Base64),
            ("-----BEGIN A-----\nAAEB\n-----END B-----\n", Damage::EndMismatch),
            ("-----BEGIN A-----\nAAEB\n-----END A-----x\n", Damage::EndMismatch),
            ("-----BEGIN A-----\nAAEB\n-----END A----\n", Damage::EndMismatch),
            ("-----BEGIN A-----\nAAEB\n", Damage::NoEnd),
            ("-----BEGIN A----\nAAEB\n", Damage::Begin),
            ("-----BEGIN A-------\nAAEB\n-----END A-----\n", Damage::Begin),
            ("-----BEGIN A-----\nAA\u{a0}EB\n-----END A-----\n", Damage::Strange("a no-break space (U+00A0)")),
            ("-----BEGIN A-----\u{a0}\nAAEB\u{a0}\n-----END A-----\n", Damage::Strange("a no-break space (U+00A0)")),
            ("-----BEGIN A-----\nAA\\nEB\n-----END A-----\n", Damage::LiteralBreaks),
            ("-----BEGIN A----- AAEB -----END A-----\n", Damage::LostBreaks),
            ("-----BEGIN A-----AAEB-----END A-----\n", Damage::LostBreaks),
            ("-----BEGIN A----- AAEB\nAAEB\n-----END A-----\n", Damage::LostBreaks),
            ("-----BEGIN A-----\\nAAEB\\n-----END A-----\\n\n", Damage::LiteralBreaks),
            ("-----BEGIN A-----\rAAEB\r-----END A-----\r\n", Damage::CarriageReturns),
            ("-----BEGIN A-----\nAAEB\n-----END A-----", Damage::Joined),
        ] {
            let found = read(&format!("{bad}{good}"));
            assert_eq!(found[0].2, Err(damage), "{bad}");
            assert_eq!((found.len(), &found[1].2), (2, &Ok(vec![0, 1, 1])), "{bad}");
            assert_eq!((found[0].1, found[1].1), (0, bad.len()), "{bad}");
        }
        assert_eq!(read("-----BEGIN A-----\nAAEB")[0].2, Err(Damage::NoEnd));
    }

    #[test]
    fn blocks_on_one_line_are_each_found_however_many() {
        let text = "-----BEGIN A-----AAEB-----END A-----".repeat(10_000);
        let found = blocks(text.as_bytes());
        assert_eq!(found.len(), 10_000);
        assert!(found.iter().enumerate().all(|(index, block)| block.offset == index * 36 && block.der.is_err()));
        // Nothing ends, and nothing is looked at twice.
        assert_eq!(blocks("-----BEGIN A-----".repeat(10_000).as_bytes()).len(), 1);
        assert!(blocks("-----END A-----".repeat(10_000).as_bytes()).is_empty());
    }

    #[test]
    fn a_label_is_kept_only_if_it_is_known() {
        for text in ["-----BEGIN SECRET-----\n", "-----BEGIN SECRET\n", "-----BEGIN PRIVATE KEY SECRET-----END "] {
            let label = read(text)[0].0;
            assert!(matches!(label, Label::Unknown(_)) && !label.to_string().contains("SECRET"), "{label:?}");
        }
    }

    #[test]
    fn old_headers_say_that_a_key_is_encrypted() {
        let text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAEB\n-----END RSA PRIVATE KEY-----\n";
        let blocks = blocks(text.as_bytes());
        assert!(blocks[0].encrypted && blocks[0].der.is_ok());
    }
}
