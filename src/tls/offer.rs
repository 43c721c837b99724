//! What the first bytes of a connection say, before a TLS library sees them.
//!
//! `captured bytes ──▶ FirstBytes`, and `captured bytes ──records──▶ ClientHello ──▶ Offer`
//!
//! A TLS library says no more than "invalid" about a peer that does not speak TLS, misnames a client that is too old,
//! and shows little of what a client offers; the bytes themselves are clear. The parser is never stricter than
//! rustls: whatever rustls takes for a ClientHello has an [`Offer`].

mod encode;
mod hello;
mod ja4;

use rustls::AlertDescription;

use super::reason::Reason;
pub use encode::{Material, records};
pub use hello::{BadHello, HelloReader, NamedServer, Offer, Progress, PskOffer};

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// An alert before any hello, with its description (RFC 8446 section 6).
    Alert(AlertDescription),
    /// Too few to tell.
    Incomplete,
    /// Another protocol, or none: [`Reason::PlainHttp`], [`Reason::ProxyHeader`], [`Reason::Ssh`],
    /// [`Reason::Sslv2`] or [`Reason::NotTls`].
    NotTls(Reason),
    /// A TLS record (RFC 8446 section 5.1). Its content is the TLS library's to judge.
    Tls,
}

/// Texts that other protocols begin with.
const OTHERS: [(&[u8], Reason); 14] = [
    (b"CONNECT ", Reason::PlainHttp),
    (b"DELETE ", Reason::PlainHttp),
    (b"GET ", Reason::PlainHttp),
    (b"HEAD ", Reason::PlainHttp),
    (b"OPTIONS ", Reason::PlainHttp),
    (b"PATCH ", Reason::PlainHttp),
    (b"POST ", Reason::PlainHttp),
    (b"PRI * HTTP/2", Reason::PlainHttp),
    (b"PUT ", Reason::PlainHttp),
    (b"TRACE ", Reason::PlainHttp),
    (b"PROXY ", Reason::ProxyHeader),
    // PROXY protocol version 2.
    (b"\r\n\r\n\0\r\nQUIT\n", Reason::ProxyHeader),
    (b"SSH-", Reason::Ssh),
    // WebDAV, the one further method that browsers and office programs send in clear.
    (b"PROPFIND ", Reason::PlainHttp),
];

/// Tells TLS from what else turns up on a TLS port.
pub fn first_bytes(bytes: &[u8]) -> FirstBytes {
    match bytes {
        [] => return FirstBytes::Incomplete,
        [0x16] | [0x16, 0x03, ..] => return FirstBytes::Tls,
        [0x15, 0x03, _, 0x00, 0x02, _, description, ..] => return FirstBytes::Alert((*description).into()),
        [0x15] | [0x15, 0x03, ..] if bytes.len() < 7 => return FirstBytes::Incomplete,
        // SSL 2.0 record with a two-byte header: message CLIENT-HELLO, then the version.
        [0x80..=0xff, _, 0x01, ..] => return FirstBytes::NotTls(Reason::Sslv2),
        [0x80..=0xff] | [0x80..=0xff, _] => return FirstBytes::Incomplete,
        _ => {}
    }
    for (text, reason) in OTHERS {
        let shared = bytes.len().min(text.len());
        if bytes[..shared] == text[..shared] {
            return if shared == text.len() { FirstBytes::NotTls(reason) } else { FirstBytes::Incomplete };
        }
    }
    FirstBytes::NotTls(Reason::NotTls)
}

/// Whether what should be an HTTP request is TLS, or SSL 2.0; `None` while there are too few bytes to tell.
///
/// A request begins with a letter, a digit or one of a few marks (RFC 9110 section 5.6.2), so the first byte of a
/// handshake record is enough, whatever follows.
pub fn begins_tls(bytes: &[u8]) -> Option<bool> {
    match (bytes, first_bytes(bytes)) {
        ([], _) | ([0x80..=0xff, ..], FirstBytes::Incomplete) => None,
        ([0x16, ..], _) | (_, FirstBytes::NotTls(Reason::Sslv2)) => Some(true),
        _ => Some(false),
    }
}

/// `legacy_version` of a ClientHello (RFC 8446 section 4.1.2), if the bytes reach that far: 0x0301 is TLS 1.0.
pub fn legacy_version(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [0x16, 0x03, _, _, _, 0x01, _, _, _, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_by_their_first_bytes() {
        let rows: &[(&[u8], FirstBytes)] = &[
            (b"", FirstBytes::Incomplete),
            (b"\x16", FirstBytes::Tls),
            (b"\x16\x03\x01", FirstBytes::Tls),
            (b"\x15\x03\x03\x00\x02", FirstBytes::Incomplete),
            (b"\x15\x03\x03\x00\x02\x02\x30", FirstBytes::Alert(AlertDescription::UnknownCA)),
            (b"\x15\x03\x03\x00\x09\x02\x30", FirstBytes::NotTls(Reason::NotTls)),
            (b"\x16\x04", FirstBytes::NotTls(Reason::NotTls)),
            (b"GE", FirstBytes::Incomplete),
            (b"GET / HTTP/1.1\r\n", FirstBytes::NotTls(Reason::PlainHttp)),
            (b"P", FirstBytes::Incomplete),
            (b"PRO", FirstBytes::Incomplete),
            (b"PROXY TCP4 ", FirstBytes::NotTls(Reason::ProxyHeader)),
            (b"PRI * HTTP/2.0\r\n", FirstBytes::NotTls(Reason::PlainHttp)),
            (b"\r\n\r\n\0\r\nQUIT\n", FirstBytes::NotTls(Reason::ProxyHeader)),
            (b"\r\n", FirstBytes::Incomplete),
            (b"SSH-2.0-OpenSSH", FirstBytes::NotTls(Reason::Ssh)),
            (b"\x80\x2e\x01\x03\x01", FirstBytes::NotTls(Reason::Sslv2)),
            (b"\x80\x2e\x02\x03\x01", FirstBytes::NotTls(Reason::NotTls)),
            (b"\0\0\0\0", FirstBytes::NotTls(Reason::NotTls)),
            (b"hello", FirstBytes::NotTls(Reason::NotTls)),
        ];
        for (bytes, expected) in rows {
            assert_eq!(first_bytes(bytes), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn tls_in_the_place_of_a_request_is_told_by_its_first_byte_and_ssl_2_by_its_third() {
        for bytes in [&b"\x16"[..], b"\x16\x03\x01\x02\x00\x01", b"\x16\x00", b"\x80\x2e\x01", b"\xff\x00\x01\x00\x02"]
        {
            assert_eq!(begins_tls(bytes), Some(true), "{bytes:?}");
        }
        for bytes in [&b""[..], b"\x80", b"\x80\x2e", b"\xc3\xa9"] {
            assert_eq!(begins_tls(bytes), None, "{bytes:?}");
        }
        for bytes in [&b"G"[..], b"PRI * HTTP/2.0\r\n", b"\r\n", b"\x15\x03\x01", b"\x80\x2e\x02", b"SSH-", b"\0"] {
            assert_eq!(begins_tls(bytes), Some(false), "{bytes:?}");
        }
    }

    #[test]
    fn the_legacy_version_is_read_from_the_hello_not_from_the_record() {
        let hello = b"\x16\x03\x01\x00\x30\x01\x00\x00\x2c\x03\x02rest";
        assert_eq!(legacy_version(hello), Some(0x0302));
        assert_eq!(legacy_version(&hello[..10]), None);
        assert_eq!(legacy_version(b"\x16\x03\x01\x00\x30\x02\x00\x00\x2c\x03\x02"), None);
    }
}
