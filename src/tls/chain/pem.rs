//! PEM text to blocks, with where each begins (RFC 7468).
//!
//! `bytes ──▶ Block: label, byte offset, DER or what is wrong`
//!
//! Lenient about what surrounds blocks, since `openssl s_client -showcerts` and many CAs write text there; strict about
//! the blocks. A damaged block is one finding and does not take its neighbours with it. Errors never quote content:
//! private keys come through here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One block between BEGIN and END.
pub(super) struct Block {
    /// What stands behind `BEGIN`, cut to a length that fits a message.
    pub(super) label: String,
    /// Bytes before its `-----BEGIN`.
    pub(super) offset: usize,
    /// RFC 1421 headers say that it is encrypted.
    pub(super) encrypted: bool,
    /// Its content, or what is wrong with it.
    pub(super) der: Result<Vec<u8>, &'static str>,
}

/// All blocks, in order.
pub(super) fn blocks(text: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize)> = None;
    let mut body: Vec<u8> = Vec::new();
    let mut encrypted = false;
    let mut offset = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let start = offset;
        offset += line.len();
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
        if let Some(rest) = line.strip_prefix(b"-----BEGIN ") {
            if let Some((label, offset)) = open.take() {
                blocks.push(Block { label, offset, encrypted, der: Err("a BEGIN line has no matching END line") });
            }
            body.clear();
            encrypted = false;
            match rest.strip_suffix(b"-----") {
                Some(label) => open = Some((printable(label), start)),
                None => blocks.push(Block {
                    label: printable(rest),
                    offset: start,
                    encrypted,
                    der: Err("its BEGIN line does not end with -----"),
                }),
            }
        } else if let Some(rest) = line.strip_prefix(b"-----END ") {
            let Some((label, offset)) = open.take() else { continue };
            let der = match rest.strip_suffix(b"-----") {
                Some(end) if printable(end) == label => {
                    STANDARD.decode(&body).map_err(|_| "its base64 text is damaged")
                }
                Some(_) | None => Err("its END line does not match its BEGIN line"),
            };
            blocks.push(Block { label, offset, encrypted, der });
        } else if open.is_some() {
            if line.contains(&b':') {
                encrypted |= line.windows(9).any(|window| window == b"ENCRYPTED");
                continue;
            }
            body.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
        }
    }
    if let Some((label, offset)) = open {
        blocks.push(Block { label, offset, encrypted, der: Err("a BEGIN line has no matching END line") });
    }
    blocks
}

/// What a text without blocks may be instead.
pub(super) fn resembles(text: &[u8]) -> Option<&'static str> {
    match text {
        [0x30, 0x82 | 0x83, ..] => Some("it is DER, not PEM: convert it with openssl x509 -inform der"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("it is UTF-16 text: save it as UTF-8"),
        _ => None,
    }
}

fn printable(label: &[u8]) -> String {
    let text: String = label.iter().take(40).map(|byte| char::from(*byte)).collect();
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (String, usize, Result<Vec<u8>, &'static str>);

    fn read(text: &str) -> Vec<Read> {
        blocks(text.as_bytes()).into_iter().map(|block| (block.label, block.offset, block.der)).collect()
    }

    #[test]
    fn blocks_are_found_between_other_text_with_their_offsets() {
        let text = "hello\r\n-----BEGIN A-----\r\nAA\r\n EB\r\n-----END A-----\r\nx\n-----BEGIN B C-----\nAgM=\n-----END B C-----";
        assert_eq!(read(text), [("A".into(), 7, Ok(vec![0, 1, 1])), ("B C".into(), 54, Ok(vec![2, 3]))]);
    }

    #[test]
    fn a_damaged_block_leaves_its_neighbours_alone() {
        let good = "-----BEGIN A-----\nAAEB\n-----END A-----\n";
        for (bad, error) in [
            ("-----BEGIN A-----\n!!!!\n-----END A-----\n", "its base64 text is damaged"),
            ("-----BEGIN A-----\nAAEB\n-----END B-----\n", "its END line does not match its BEGIN line"),
            ("-----BEGIN A-----\nAAEB\n", "a BEGIN line has no matching END line"),
            ("-----BEGIN A----\nAAEB\n", "its BEGIN line does not end with -----"),
        ] {
            let found = read(&format!("{bad}{good}"));
            assert_eq!(found[0].2, Err(error));
            assert_eq!((found.len(), &found[1].2), (2, &Ok(vec![0, 1, 1])), "{bad}");
        }
        assert_eq!(read("-----BEGIN A-----\nAAEB")[0].2, Err("a BEGIN line has no matching END line"));
    }

    #[test]
    fn old_headers_say_that_a_key_is_encrypted() {
        let text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAEB\n-----END RSA PRIVATE KEY-----\n";
        let blocks = blocks(text.as_bytes());
        assert!(blocks[0].encrypted && blocks[0].der.is_ok());
    }
}
