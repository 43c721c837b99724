//! A client made of bytes, for what no program can be made to do.
//!
//! Its words, done one after the other:
//!
//! - `hello=ID` sends the ClientHello of a known client (`handfast clients`) for the row's server name. Behind a comma:
//!   `-schemes` and `-key_shares` leave an extension out, `no-share` offers no key share, and `cut` says in all lengths
//!   that half of the message is the whole. `[..N]` sends the first N bytes alone.
//! - `hex=…` and `text=…` send bytes; in a text `\s` is a space, `\r` and `\n` as usual.
//! - `alert=NAME` and `warning=NAME` send an alert in clear.
//! - `head` waits for the head of an answer in HTTP.
//! - `answer` waits until the server has answered, as far as TLS 1.2 goes to the end of its flight.
//! - `close` ends what the client sends, `reset` ends the connection at once.
//!
//! In the end it waits until the server has closed, and says how it ended.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use handfast::tls::clients::client;
use handfast::tls::offer::NamedServer;

use super::row::Row;
use crate::binary::PATIENCE;
use crate::hellos::{message, records};

/// The alerts of the matrix, by the names of the RFCs.
pub const ALERTS: [(u8, &str); 22] = [
    (0, "close_notify"),
    (10, "unexpected_message"),
    (20, "bad_record_mac"),
    (22, "record_overflow"),
    (40, "handshake_failure"),
    (42, "bad_certificate"),
    (43, "unsupported_certificate"),
    (44, "certificate_revoked"),
    (45, "certificate_expired"),
    (46, "certificate_unknown"),
    (47, "illegal_parameter"),
    (48, "unknown_ca"),
    (50, "decode_error"),
    (51, "decrypt_error"),
    (70, "protocol_version"),
    (80, "internal_error"),
    (90, "user_canceled"),
    (109, "missing_extension"),
    (112, "unrecognized_name"),
    (113, "bad_certificate_status_response"),
    (116, "certificate_required"),
    (120, "no_application_protocol"),
];

/// The number of an alert.
pub fn alert_number(name: &str) -> u8 {
    ALERTS.iter().find(|(_, known)| *known == name).unwrap_or_else(|| panic!("no alert {name}")).0
}

/// A connection and what came back on it.
pub struct Peer {
    stream: Option<TcpStream>,
    received: Vec<u8>,
}

impl Peer {
    /// Connects and does what the words say.
    pub fn act(address: SocketAddr, name: Option<&str>, words: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self { stream: Some(stream), received: Vec::new() };
        for word in words.split_whitespace() {
            let (verb, object) = word.split_once('=').unwrap_or((word, ""));
            match verb {
                "alert" => peer.send(&[0x15, 3, 3, 0, 2, 2, alert_number(object)]),
                "answer" => peer.answer(),
                "close" => peer.stream.as_ref().unwrap().shutdown(Shutdown::Write).unwrap(),
                "head" => peer.head(),
                "hello" => peer.send(&hello(object, name)),
                "hex" => peer.send(&unhex(object)),
                "reset" => peer.reset(),
                "text" => {
                    let text = object.replace("\\s", " ").replace("\\r", "\r").replace("\\n", "\n");
                    peer.send(text.as_bytes());
                }
                "warning" => peer.send(&[0x15, 3, 3, 0, 2, 1, alert_number(object)]),
                _ => panic!("no word {word}"),
            }
        }
        peer
    }

    /// Waits for the server's end, and says what it was.
    pub fn end(mut self) -> String {
        let Some(mut stream) = self.stream.take() else { return "reset".to_owned() };
        // A reset is an end as well: of a server that was sent more than it wanted to read.
        let ended = match stream.read_to_end(&mut self.received) {
            Ok(_) => "closed",
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => "reset by the server",
            Err(error) => panic!("the server does not close: {error}"),
        };
        match alert(&self.received) {
            Some(name) => format!("alert {name}, {ended}"),
            None => format!("{ended}; {}", String::from_utf8_lossy(&self.received)),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn answer(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            let read = self.stream.as_mut().unwrap().read(&mut buffer).unwrap();
            assert!(read > 0, "the server closes instead of an answer");
            self.received.extend_from_slice(&buffer[..read]);
            // ServerHelloDone is the end of a flight of TLS 1.2. In 1.3 the rest is encrypted.
            let in_tls12 = !self.received.windows(6).any(|bytes| bytes == [0, 0x2b, 0, 2, 3, 4]);
            if !in_tls12 || self.received.ends_with(&[0x0e, 0, 0, 0]) {
                return;
            }
        }
    }

    fn head(&mut self) {
        while !self.received.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.as_mut().unwrap().read_exact(&mut byte).unwrap();
            self.received.extend_from_slice(&byte);
        }
    }

    fn reset(&mut self) {
        let stream = self.stream.take().unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// What a row of raw bytes comes to.
pub fn run(address: SocketAddr, row: &Row) -> String {
    Peer::act(address, row.name, row.words).end()
}

/// The bytes of a ClientHello.
fn hello(text: &str, name: Option<&str>) -> Vec<u8> {
    let (text, size) = match text.strip_suffix(']').and_then(|text| text.split_once("[..")) {
        Some((text, size)) => (text, size.parse().unwrap()),
        None => (text, usize::MAX),
    };
    let mut words = text.split(',');
    let mut offer = client(words.next().unwrap()).unwrap().offer.clone();
    offer.server_name = name.map_or(NamedServer::Absent, |name| NamedServer::Name(name.into()));
    let mut cut = false;
    for word in words {
        match word {
            "-key_shares" => offer.key_shares = None,
            "-schemes" => offer.schemes = None,
            "cut" => cut = true,
            "no-share" => offer.key_shares = Some(Vec::new()),
            _ => panic!("no change {word}"),
        }
    }
    let mut message = message(&offer);
    if cut {
        message.truncate(message.len() / 2);
        let length = u32::try_from(message.len() - 4).unwrap().to_be_bytes();
        message[1..4].copy_from_slice(&length[1..]);
    }
    let mut bytes = records(&message, 16_384);
    bytes.truncate(size);
    bytes
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// The alert in clear that the bytes end with.
fn alert(bytes: &[u8]) -> Option<&'static str> {
    let [0x15, 3, _, 0, 2, 2, number] = bytes.get(bytes.len().checked_sub(7)?..)? else { return None };
    ALERTS.iter().find(|(code, _)| code == number).map(|(_, name)| *name)
}
