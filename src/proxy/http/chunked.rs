//! The grammar of chunked bodies (RFC 9112 section 7.1), read strictly.

use super::head::{is_token, is_value};

/// Most bytes of chunk extensions in one body. Nobody needs any; a body made of them is an attack.
const MOST_EXTENSION: usize = 4096;

/// Most hexadecimal digits of a chunk size: no body is larger than 2^60 bytes.
const MOST_DIGITS: u8 = 15;

/// A checker that is fed a chunked body piece by piece.
#[derive(Debug)]
pub(super) struct Chunked {
    at: At,
    /// Bytes of extensions that may still come.
    extension: usize,
    /// Bytes of trailer lines that may still come.
    trailers: usize,
}

/// The body breaks the grammar.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size { digits: u8, size: u64 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastLf,
}

impl Chunked {
    /// At the first chunk of a body that may have this many bytes of trailers.
    pub(super) fn new(trailers: usize) -> Self {
        Self { at: At::Size { digits: 0, size: 0 }, extension: MOST_EXTENSION, trailers }
    }

    /// Checks the next piece: how many of its bytes belong to the body, and whether the body ends with them.
    pub(super) fn check(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut taken = 0;
        while let Some(&byte) = bytes.get(taken) {
            if let At::Data { left } = self.at {
                let skip = left.min((bytes.len() - taken) as u64);
                taken += skip as usize;
                self.at = if left == skip { At::DataCr } else { At::Data { left: left - skip } };
                continue;
            }
            taken += 1;
            self.at = match (self.at, byte) {
                (At::Size { digits, size }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < MOST_DIGITS => {
                    let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                    At::Size { digits: digits + 1, size: size * 16 + digit }
                }
                (At::Size { digits: 1.., size }, b'\r') => At::SizeEnd { size },
                (At::Size { digits: 1.., size }, b';') => At::Extension { size },
                (At::Extension { size }, b'\r') => At::SizeEnd { size },
                (At::Extension { size }, _) if is_value(byte) => {
                    self.extension = self.extension.checked_sub(1).ok_or(Malformed)?;
                    At::Extension { size }
                }
                (At::SizeEnd { size: 0 }, b'\n') => At::TrailerStart,
                (At::SizeEnd { size }, b'\n') => At::Data { left: size },
                (At::DataCr, b'\r') => At::DataLf,
                (At::DataLf, b'\n') => At::Size { digits: 0, size: 0 },
                (At::TrailerStart, b'\r') => At::LastLf,
                (At::TrailerStart, _) if is_token(byte) => self.trailer(At::TrailerName)?,
                (At::TrailerName, b':') => self.trailer(At::TrailerValue)?,
                (At::TrailerName, _) if is_token(byte) => self.trailer(At::TrailerName)?,
                (At::TrailerValue, b'\r') => At::TrailerEnd,
                (At::TrailerValue, _) if is_value(byte) => self.trailer(At::TrailerValue)?,
                (At::TrailerEnd, b'\n') => At::TrailerStart,
                (At::LastLf, b'\n') => return Ok((taken, true)),
                (
                    At::Size { .. }
                    | At::Extension { .. }
                    | At::SizeEnd { .. }
                    | At::Data { .. }
                    | At::DataCr
                    | At::DataLf
                    | At::TrailerStart
                    | At::TrailerName
                    | At::TrailerValue
                    | At::TrailerEnd
                    | At::LastLf,
                    _,
                ) => return Err(Malformed),
            };
        }
        Ok((taken, false))
    }

    fn trailer(&mut self, next: At) -> Result<At, Malformed> {
        self.trailers = self.trailers.checked_sub(1).ok_or(Malformed)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole check, in pieces of `piece` bytes: the length of the body, if it ends.
    fn check(bytes: &[u8], piece: usize) -> Result<Option<usize>, Malformed> {
        let mut body = Chunked::new(100);
        let mut length = 0;
        for piece in bytes.chunks(piece) {
            let (taken, done) = body.check(piece)?;
            length += taken;
            if done {
                return Ok(Some(length));
            }
        }
        Ok(None)
    }

    #[test]
    fn bodies_end_where_the_grammar_says() {
        let rows: &[(&[u8], Option<usize>)] = &[
            (b"0\r\n\r\n", Some(5)),
            (b"000\r\n\r\nGET", Some(7)),
            (b"5\r\nhello\r\n0\r\n\r\n", Some(15)),
            (b"A;name=\"v\"\r\n0\r\n\r\n56\r\n8\r\n0\r\n\r\n", Some(29)),
            (b"1\r\n\n\r\n0\r\nsum: a b\r\nx:\r\n\r\n...", Some(25)),
            (b"5\r\nhello\r\n", None),
        ];
        for (bytes, length) in rows {
            for piece in [1, 3, 1000] {
                assert_eq!(check(bytes, piece), Ok(*length), "{:?}", String::from_utf8_lossy(bytes));
            }
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        let rows: &[&[u8]] = &[
            b"\r\n",
            b"x\r\n",
            b"5\nhello",
            b"5 \r\nhello",
            b" 5\r\nhello",
            b"+5\r\nhello",
            b"0x5\r\nhello",
            b"-1\r\n",
            b"5;\nhello",
            b"5;a\n\r\nhello",
            b"5\rXhello",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"0\r\n\n",
            b"0\r\nname\r\n\r\n",
            b"0\r\n name: folded\r\n\r\n",
            b"0\r\nname : x\r\n\r\n",
            b"0\r\nname: a\nb: c\r\n\r\n",
            b"0\r\nname: \0\r\n\r\n",
            b"1000000000000000\r\n",
            b"ffffffffffffffffff\r\n",
        ];
        for bytes in rows {
            for piece in [1, 3, 1000] {
                assert_eq!(check(bytes, piece), Err(Malformed), "{:?}", String::from_utf8_lossy(bytes));
            }
        }
        assert_eq!(check(&[b"1;".as_slice(), &[b'x'; 5000]].concat(), 1000), Err(Malformed));
        assert_eq!(check(&[b"0\r\na:".as_slice(), &[b'x'; 200]].concat(), 50), Err(Malformed));
    }
}
