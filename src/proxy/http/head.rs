//! The head of an HTTP/1.1 request, read strictly (RFC 9112 sections 2 to 6).

use http::StatusCode;

/// Why a request was refused before it could become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A chunked body that breaks the grammar of RFC 9112 section 7.1.
    Chunk,
    /// `Content-Length` together with `Transfer-Encoding`, or more than one of either.
    ConflictingLength,
    /// A `Content-Length` that is not a plain number.
    ContentLength,
    /// A header line without a valid name and colon, folded, or with control characters.
    Header,
    /// The head did not end in time.
    HeadTimeout,
    /// A line that does not end with CR LF.
    LineEnd,
    /// A request line that is not method, target and version, separated by single spaces.
    RequestLine,
    /// The request line alone is larger than a head may be.
    TargetTooLong,
    /// The head is too large.
    TooLarge,
    /// The head has too many lines.
    TooManyHeaders,
    /// `Transfer-Encoding` other than `chunked`, or in HTTP/1.0.
    TransferEncoding,
    /// A protocol version other than HTTP/1.0 and HTTP/1.1.
    Version,
}

impl Refusal {
    /// The status that it is answered with.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refusal::Chunk
            | Refusal::ConflictingLength
            | Refusal::ContentLength
            | Refusal::Header
            | Refusal::LineEnd
            | Refusal::RequestLine
            | Refusal::TransferEncoding => StatusCode::BAD_REQUEST,
            Refusal::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Refusal::TargetTooLong => StatusCode::URI_TOO_LONG,
            Refusal::TooLarge | Refusal::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    /// One line for the client.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Refusal::Chunk => "the chunked request body is malformed",
            Refusal::ConflictingLength => "Content-Length and Transfer-Encoding conflict or are repeated",
            Refusal::ContentLength => "Content-Length is not a number",
            Refusal::Header => "a header line is malformed",
            Refusal::HeadTimeout => "the request head took too long",
            Refusal::LineEnd => "a line does not end with CR LF",
            Refusal::RequestLine => "the request line is malformed",
            Refusal::TargetTooLong => "the request target is too long",
            Refusal::TooLarge => "the request headers are too large",
            Refusal::TooManyHeaders => "the request has too many headers",
            Refusal::TransferEncoding => "Transfer-Encoding may only be 'chunked', and only in HTTP/1.1",
            Refusal::Version => "the protocol version is not supported",
        }
    }
}

/// How a request goes on after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    /// What its body is.
    pub(super) body: BodyLength,
    /// Whether it has `Upgrade`, so that what follows depends on the response.
    pub(super) upgrade: bool,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// Where its chunks say.
    Chunked,
    /// After this many bytes.
    Sized(u64),
}

/// Which of the limits a head of too many bytes has hit.
pub(super) fn too_large(head: &[u8]) -> Refusal {
    // Blank lines before the request are not part of the request line.
    let start = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    let line = head.get(start..).unwrap_or_default();
    if line.contains(&b'\n') { Refusal::TooLarge } else { Refusal::TargetTooLong }
}

/// Where the head ends: after its first empty line that follows a line. Also finds ends that only a lenient parser
/// sees (LF LF), so that they are refused rather than waited for. `searched` bytes are known not to hold an end.
pub(super) fn head_end(bytes: &[u8], searched: usize) -> Option<usize> {
    // RFC 9112 section 2.2: empty lines before the request line are ignored.
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let from = start.max(searched.saturating_sub(3));
    let mut at = from;
    while let Some(line_end) = bytes.get(at..)?.iter().position(|byte| *byte == b'\n') {
        at += line_end + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Checks a complete head and says how its body is framed.
pub(super) fn check_head(head: &[u8], most_headers: usize) -> Result<Framing, Refusal> {
    let mut rest = head;
    let mut next_line = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, following) = rest.split_at(end + 1);
        rest = following;
        Some(line.strip_suffix(b"\r\n").ok_or(Refusal::LineEnd))
    };
    let request_line = loop {
        match next_line() {
            Some(Ok([])) => {}
            Some(line) => break line?,
            None => return Err(Refusal::RequestLine),
        }
    };
    let http11 = check_request_line(request_line)?;

    let mut length = None;
    let mut chunked = false;
    let mut upgrade = false;
    let mut count = 0;
    while let Some(line) = next_line() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > most_headers {
            return Err(Refusal::TooManyHeaders);
        }
        // A folded line begins with a space, which no name may (RFC 9112 sections 5.1 and 5.2).
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Refusal::Header)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || !value.iter().all(|byte| is_value(*byte)) {
            return Err(Refusal::Header);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = value.trim_ascii();
            if length.is_some() {
                return Err(Refusal::ConflictingLength);
            }
            if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
                return Err(Refusal::ContentLength);
            }
            length = Some(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked {
                return Err(Refusal::ConflictingLength);
            }
            if !http11 || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::TransferEncoding);
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            // RFC 9110 section 7.8: an HTTP/1.0 request cannot upgrade.
            upgrade = http11;
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(Refusal::ConflictingLength),
        (None, true) => Ok(Framing { body: BodyLength::Chunked, upgrade }),
        (length, false) => Ok(Framing { body: BodyLength::Sized(length.unwrap_or(0)), upgrade }),
    }
}

/// Whether it is HTTP/1.1 (or 1.0).
fn check_request_line(line: &[u8]) -> Result<bool, Refusal> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::RequestLine);
    };
    let target_fits = !target.is_empty() && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) || !target_fits {
        return Err(Refusal::RequestLine);
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Refusal::Version)
        }
        _ => Err(Refusal::RequestLine),
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte that may stand in a field value (RFC 9110 section 5.5).
pub(super) fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
