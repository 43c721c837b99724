//! What a server answers to a ClientHello, as far as it goes over the wire in clear.
//!
//! `bytes ──records──▶ messages ──▶ Flight: ServerHello, certificates, key exchange, alert`; or [`Stranger`]
//!
//! Up to TLS 1.2 that is the whole first flight; of TLS 1.3 it is the ServerHello or the HelloRetryRequest, which still
//! tell version, suite and group. Nothing is verified here. The reader holds a bounded number of bytes, whatever comes,
//! and never fails in any other way than by [`BadAnswer`].

use std::fmt;

use super::bytes::Bytes;
use super::codes::{KeyExchange, SuiteFacts};

/// What has come of a first flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flight {
    /// The ServerHello or HelloRetryRequest.
    pub hello: Option<ServerHello>,
    /// The certificates in the order in which they came, DER. Only up to TLS 1.2.
    pub certificates: Option<Vec<Vec<u8>>>,
    /// The group that the server has chosen up to TLS 1.2.
    pub key_exchange: Option<ServerShare>,
    /// The server wants a certificate of the client. Only up to TLS 1.2.
    pub asks_for_certificate: bool,
    /// An OCSP response is stapled. Only up to TLS 1.2.
    pub is_stapled: bool,
    /// The flight is complete: ServerHelloDone, or encryption begins.
    pub is_done: bool,
    /// The alert that ended it, by its code.
    pub alert: Option<u8>,
}

/// What a ServerHello says (RFC 8446 section 4.1.3, RFC 5246 section 7.4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version that is agreed on, whichever field says it.
    pub version: u16,
    /// The cipher suite.
    pub suite: u16,
    /// The group of TLS 1.3.
    pub group: Option<u16>,
    /// True for a HelloRetryRequest: the client sent no key share for the group (RFC 8446 section 4.1.4).
    pub is_retry: bool,
    /// The compression method; 0 is none.
    pub compression: u8,
    /// The application protocol, where it is told in clear: up to TLS 1.2.
    pub alpn: Option<Box<[u8]>>,
    /// Types of the extensions.
    pub extensions: Vec<u16>,
}

/// What a server has chosen for an ephemeral key exchange up to TLS 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerShare {
    /// An elliptic curve, by its code.
    Curve(u16),
    /// A finite field, by the size of its prime in bits.
    Field(usize),
}

/// Another protocol than TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// An answer in plain HTTP.
    Http,
    /// The greeting of a protocol that begins in clear: SMTP, IMAP, POP3, FTP and others. Its first line, cut.
    Greeting(String),
    /// SSH.
    Ssh,
    /// Something else. Its first bytes, cut.
    Other(String),
}

/// Why an answer cannot be read.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum BadAnswer {
    /// It is not TLS.
    #[error("{0}")]
    NotTls(Stranger),
    /// A record or a message is longer than it may be, or all of them are.
    #[error("the answer is too long")]
    TooLong,
    /// A message is not what its type says.
    #[error("the server's {0} is malformed")]
    Malformed(&'static str),
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stranger::Http => f.write_str("it speaks plain HTTP, not TLS"),
            Stranger::Greeting(text) => write!(f, "it begins in clear, with {text:?}, and not with TLS"),
            Stranger::Ssh => f.write_str("it speaks SSH, not TLS"),
            Stranger::Other(text) => write!(f, "its answer, {text:?}, is not TLS"),
        }
    }
}

/// How much of a flight is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The ServerHello.
    Hello,
    /// All that comes in clear.
    Flight,
}

/// Longest record (RFC 8446 section 5.2).
const MAX_RECORD: usize = 16384 + 2048;
/// Most bytes of all messages together: ten times a large chain.
const MAX_BYTES: usize = 256 * 1024;
/// As many bytes as are looked at to tell another protocol.
const MAX_STRANGE: usize = 64;

/// `random` of a HelloRetryRequest: SHA-256 of its name (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Puts a flight together from whatever pieces it comes in.
#[derive(Default)]
pub struct FlightReader {
    flight: Flight,
    /// Bytes that are not a whole record yet.
    unread: Vec<u8>,
    /// Bytes of records that are not a whole message yet.
    message: Vec<u8>,
    /// Bytes of all messages so far.
    total: usize,
}

impl FlightReader {
    /// Takes the next bytes. After an error, and after the end of the flight, nothing more is read.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), BadAnswer> {
        if self.is_over() {
            return Ok(());
        }
        self.unread.extend_from_slice(bytes);
        while !self.is_over() {
            let [kind, major, _, high, low, ..] = self.unread[..] else {
                return match self.unread[..] {
                    [] | [0x15 | 0x16] | [0x15 | 0x16, 3, ..] => Ok(()),
                    _ if self.unread.len() < MAX_STRANGE && !self.unread.contains(&b'\n') => Ok(()),
                    _ => Err(self.stranger()),
                };
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if !(matches!(kind, 0x14..=0x17) && major == 3) {
                // Enough to show what it is; the end of the connection may come first.
                let is_enough = self.unread.len() >= MAX_STRANGE || self.unread.contains(&b'\n');
                return if is_enough { Err(self.stranger()) } else { Ok(()) };
            }
            if length > MAX_RECORD {
                return Err(BadAnswer::TooLong);
            }
            if self.unread.len() < 5 + length {
                return Ok(());
            }
            let record: Vec<u8> = self.unread.drain(..5 + length).skip(5).collect();
            self.total += record.len().max(1);
            if self.total > MAX_BYTES {
                return Err(BadAnswer::TooLong);
            }
            match kind {
                0x15 => self.alert(&record)?,
                0x16 => self.handshake(&record)?,
                // Encryption begins; what follows is not for us.
                0x17 => self.flight.is_done = true,
                // A ChangeCipherSpec is only there for middleboxes (RFC 8446 section D.4).
                _ => {}
            }
        }
        Ok(())
    }

    /// What the end of the connection makes of what has come: an error if that is no TLS at all.
    pub fn end(&self) -> Result<(), BadAnswer> {
        match self.unread[..] {
            [] | [0x14..=0x17] | [0x14..=0x17, 3, ..] => Ok(()),
            _ if self.is_over() => Ok(()),
            _ => Err(self.stranger()),
        }
    }

    /// What has come so far.
    pub fn flight(&self) -> &Flight {
        &self.flight
    }

    /// What has come.
    pub fn into_flight(self) -> Flight {
        self.flight
    }

    /// True if nothing that is wanted can come any more.
    pub fn has(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Hello => self.flight.hello.is_some() || self.is_over(),
            Wanted::Flight => self.is_over(),
        }
    }

    fn is_over(&self) -> bool {
        self.flight.is_done || self.flight.alert.is_some()
    }

    fn stranger(&self) -> BadAnswer {
        BadAnswer::NotTls(stranger(&self.unread))
    }

    fn alert(&mut self, record: &[u8]) -> Result<(), BadAnswer> {
        let [level, code] = record else {
            // Encrypted alerts are longer, and come only after a hello.
            self.flight.is_done = self.flight.hello.is_some();
            return if self.flight.is_done { Ok(()) } else { Err(BadAnswer::Malformed("alert")) };
        };
        // Old servers warn that they do not have a name, and go on (RFC 6066 section 3).
        let is_passed_over = *level == 1 && *code != 0;
        if !is_passed_over {
            self.flight.alert = Some(*code);
        }
        Ok(())
    }

    fn handshake(&mut self, record: &[u8]) -> Result<(), BadAnswer> {
        self.message.extend_from_slice(record);
        while !self.is_over() {
            let [kind, high, middle, low, ..] = self.message[..] else { break };
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            if length > MAX_BYTES {
                return Err(BadAnswer::TooLong);
            }
            if self.message.len() < 4 + length {
                break;
            }
            let message: Vec<u8> = self.message.drain(..4 + length).skip(4).collect();
            self.message(kind, &message)?;
        }
        Ok(())
    }

    fn message(&mut self, kind: u8, body: &[u8]) -> Result<(), BadAnswer> {
        let malformed = |name| BadAnswer::Malformed(name);
        let flight = &mut self.flight;
        match (kind, &flight.hello) {
            (2, None) => {
                let hello = server_hello(body).ok_or(malformed("ServerHello"))?;
                flight.is_done = hello.version >= 0x0304;
                flight.hello = Some(hello);
            }
            (0, _) => {}
            (_, None) | (2, Some(_)) => return Err(malformed("order of messages")),
            (11, Some(_)) => flight.certificates = Some(certificates(body).ok_or(malformed("Certificate"))?),
            (12, Some(hello)) => {
                let exchange = SuiteFacts::of(hello.suite).map(|suite| suite.key_exchange);
                let is_psk = SuiteFacts::of(hello.suite).is_some_and(|suite| suite.name.contains("_PSK_"));
                flight.key_exchange = exchange.and_then(|exchange| server_share(exchange, is_psk, body));
            }
            (13, Some(_)) => flight.asks_for_certificate = true,
            (14, Some(_)) => flight.is_done = true,
            (22, Some(_)) => flight.is_stapled = true,
            _ => {}
        }
        Ok(())
    }
}

/// Tells what else than TLS begins like this.
fn stranger(bytes: &[u8]) -> Stranger {
    const GREETINGS: [&[u8]; 6] = [b"220", b"* OK", b"* PREAUTH", b"* BYE", b"+OK", b"-ERR"];
    let begins = |text: &[u8]| bytes.starts_with(text);
    if begins(b"HTTP/") || begins(b"<html") || begins(b"<HTML") || begins(b"<!DOCTYPE") {
        Stranger::Http
    } else if begins(b"SSH-") {
        Stranger::Ssh
    } else if GREETINGS.into_iter().any(begins) {
        Stranger::Greeting(shown(bytes))
    } else {
        Stranger::Other(shown(bytes))
    }
}

/// The first line, without anything that a terminal would obey.
fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 40;
    let line = bytes.split(|byte| *byte == b'\n' || *byte == b'\r').next().unwrap_or_default();
    let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let text: String =
        line.iter().take(SHOWN).map(|byte| if is_text(byte) { char::from(*byte) } else { '.' }).collect();
    if line.len() > SHOWN { format!("{text}…") } else { text }
}

fn server_hello(body: &[u8]) -> Option<ServerHello> {
    let mut rest = Bytes(body);
    let legacy_version = rest.u16()?;
    let random = rest.take(32)?;
    rest.vector8().filter(|id| id.0.len() <= 32)?;
    let suite = rest.u16()?;
    let compression = rest.u8()?;
    let mut hello = ServerHello {
        version: legacy_version,
        suite,
        group: None,
        is_retry: false,
        compression,
        alpn: None,
        extensions: Vec::new(),
    };
    let mut extensions = if rest.0.is_empty() { Bytes(&[]) } else { rest.vector16()? };
    if !rest.0.is_empty() {
        return None;
    }
    let mut share = None;
    while !extensions.0.is_empty() {
        let (kind, mut content) = (extensions.u16()?, extensions.vector16()?);
        hello.extensions.push(kind);
        match kind {
            16 => {
                let mut list = content.vector16()?;
                hello.alpn = Some(list.vector8()?.0.into());
            }
            43 => hello.version = content.u16()?,
            51 => share = Some(content.u16()?),
            _ => {}
        }
    }
    if hello.version >= 0x0304 {
        hello.group = share;
        hello.is_retry = random == RETRY;
    }
    // RFC 8446 section 4.2.1: the extension is there to say 1.3, and nothing older.
    (hello.version == legacy_version || hello.version >= 0x0304).then_some(hello)
}

fn certificates(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = Bytes(body);
    let mut list = rest.vector24()?;
    let mut certificates = Vec::new();
    while !list.0.is_empty() {
        certificates.push(list.vector24()?.0.to_vec());
    }
    rest.0.is_empty().then_some(certificates)
}

/// RFC 8422 section 5.4 and RFC 5246 section 7.4.3; `None` for curves without a name and for what is neither.
fn server_share(exchange: KeyExchange, is_psk: bool, body: &[u8]) -> Option<ServerShare> {
    let mut rest = Bytes(body);
    if is_psk {
        // The hint for the key (RFC 4279 section 2).
        rest.vector16()?;
    }
    match exchange {
        KeyExchange::Ecdhe => {
            let is_named = rest.u8()? == 3;
            is_named.then(|| rest.u16().map(ServerShare::Curve)).flatten()
        }
        KeyExchange::Dhe => {
            let prime = rest.vector16()?.0;
            let zeros = prime.iter().take_while(|byte| **byte == 0).count();
            let first = prime.get(zeros).copied().unwrap_or_default();
            let bits = (prime.len() - zeros) * 8;
            Some(ServerShare::Field(bits.saturating_sub(first.leading_zeros() as usize)))
        }
        KeyExchange::Any | KeyExchange::Static => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(bytes: &[u8]) -> Result<Flight, BadAnswer> {
        let mut reader = FlightReader::default();
        reader.read(bytes)?;
        reader.end()?;
        Ok(reader.into_flight())
    }

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3], &length[..], content].concat()
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind], &length[1..], body].concat()
    }

    fn hello(version: u16, random: [u8; 32], suite: u16, extensions: &[u8]) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        body.extend(random);
        body.push(0);
        body.extend(suite.to_be_bytes());
        body.push(0);
        if !extensions.is_empty() {
            body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
            body.extend(extensions);
        }
        message(2, &body)
    }

    #[test]
    fn a_flight_of_tls_1_2_is_read_whole_whatever_its_records() {
        let alpn = [0, 16, 0, 5, 0, 3, 2, b'h', b'2', 0, 23, 0, 0];
        let certificates = [0, 0, 9, 0, 0, 2, 1, 2, 0, 0, 1, 7];
        let messages = [
            hello(0x0303, [1; 32], 0xc02f, &alpn),
            message(11, &certificates),
            message(12, &[3, 0, 0x1d, 1, 9]),
            message(13, &[]),
            message(14, &[]),
        ];
        let bytes: Vec<u8> = messages.concat().chunks(7).flat_map(|chunk| record(0x16, chunk)).collect();
        let flight = flight(&bytes).unwrap();
        let read = flight.hello.clone().unwrap();
        assert_eq!((read.version, read.suite, read.group, read.is_retry), (0x0303, 0xc02f, None, false));
        assert_eq!((read.alpn.as_deref(), read.extensions.as_slice()), (Some(&b"h2"[..]), &[16, 23][..]));
        assert_eq!(flight.certificates, Some(vec![vec![1, 2], vec![7]]));
        assert_eq!(flight.key_exchange, Some(ServerShare::Curve(0x001d)));
        assert!(flight.asks_for_certificate && flight.is_done && flight.alert.is_none());
        let mut reader = FlightReader::default();
        for byte in &bytes {
            reader.read(std::slice::from_ref(byte)).unwrap();
        }
        assert_eq!(reader.into_flight(), flight);
    }

    #[test]
    fn a_retry_tells_version_suite_and_group() {
        let extensions = [0, 43, 0, 2, 3, 4, 0, 51, 0, 2, 0, 0x18];
        let read = flight(&record(0x16, &hello(0x0303, RETRY, 0x1302, &extensions))).unwrap();
        let hello = read.hello.unwrap();
        assert_eq!((hello.version, hello.suite, hello.group, hello.is_retry), (0x0304, 0x1302, Some(0x18), true));
        assert!(read.is_done);
    }

    #[test]
    fn the_size_of_a_prime_does_not_count_zeros_in_front() {
        let share = |prime: &[u8]| {
            let length = u16::try_from(prime.len()).unwrap().to_be_bytes();
            server_share(KeyExchange::Dhe, false, &[&length, prime].concat())
        };
        assert_eq!(share(&[0xff; 128]), Some(ServerShare::Field(1024)));
        assert_eq!(share(&[0, 0x7f, 1]), Some(ServerShare::Field(15)));
        assert_eq!(share(&[]), Some(ServerShare::Field(0)));
    }

    #[test]
    fn alerts_end_a_flight_and_warnings_do_not() {
        assert_eq!(flight(&record(0x15, &[2, 70])).unwrap().alert, Some(70));
        assert_eq!(flight(&record(0x15, &[1, 0])).unwrap().alert, Some(0));
        let warned = [record(0x15, &[1, 112]), record(0x16, &hello(0x0301, [2; 32], 0x002f, &[]))].concat();
        let warned = flight(&warned).unwrap();
        assert_eq!((warned.alert, warned.hello.map(|hello| hello.version)), (None, Some(0x0301)));
    }

    #[test]
    fn other_protocols_are_told_by_how_they_begin() {
        let rows: &[(&[u8], Stranger)] = &[
            (b"HTTP/1.1 400 Bad Request\r\n", Stranger::Http),
            (b"<html>\r\n<head>", Stranger::Http),
            (b"SSH-2.0-OpenSSH_9\r\n", Stranger::Ssh),
            (b"220 mx.example ESMTP\r\n", Stranger::Greeting("220 mx.example ESMTP".into())),
            (b"* OK IMAP4rev1\r\n", Stranger::Greeting("* OK IMAP4rev1".into())),
            (b"+OK ready\r\n", Stranger::Greeting("+OK ready".into())),
            (b"J\0\0\0\x0a8.0.36", Stranger::Other("J...".into())),
            (b"\x1b[31mred", Stranger::Other(".[31mred".into())),
            (b"hi", Stranger::Other("hi".into())),
        ];
        for (bytes, expected) in rows {
            assert_eq!(flight(bytes), Err(BadAnswer::NotTls(expected.clone())), "{bytes:?}");
        }
        assert_eq!(flight(b""), Ok(Flight::default()));
        assert_eq!(flight(b"\x16\x03"), Ok(Flight::default()));
        assert_eq!(flight(&[b'x'; 500]), Err(BadAnswer::NotTls(Stranger::Other(format!("{}…", "x".repeat(40))))));
    }

    #[test]
    fn what_is_malformed_says_so() {
        assert_eq!(flight(&record(0x16, &message(2, &[3, 3]))), Err(BadAnswer::Malformed("ServerHello")));
        assert_eq!(flight(&record(0x16, &message(11, &[]))), Err(BadAnswer::Malformed("order of messages")));
        assert_eq!(flight(&[0x16, 3, 3, 0xff, 0xff]), Err(BadAnswer::TooLong));
        assert_eq!(flight(&record(0x16, &[2, 0xff, 0, 0])), Err(BadAnswer::TooLong));
        let endless: Vec<u8> = (0..40).flat_map(|_| record(0x16, &message(0, &[0; 16000]))).collect();
        assert_eq!(flight(&endless), Err(BadAnswer::TooLong));
    }
}
