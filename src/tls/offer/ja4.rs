//! The JA4 fingerprint of a client (method by FoxIO, for TLS clients under BSD-3-Clause).

use std::fmt::Write as _;

use super::Offer;
use crate::tls::sha256_hex;

impl Offer {
    /// JA4 over TCP, as `t13d1516h2_8daaf6152771_e5627efa2ab1`: version, name, counts and protocol; then a hash of the
    /// suites, and one of the extensions and signature schemes.
    ///
    /// It costs more than parsing the hello, so ask for it where it is written down. Never a metric label: clients
    /// choose it.
    pub fn ja4(&self) -> String {
        let version = match self.newest_version() {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            _ => "00",
        };
        let name = if self.extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
        let (suites, extensions) = (self.suites.len().min(99), self.extensions.len().min(99));
        let protocol = protocol(self.alpn.iter().flatten().next().map_or(&[], |id| id));

        let mut sorted = self.suites.clone();
        sorted.sort_unstable();
        let suites_hash = hash(&codes(&sorted));

        let counted = |kind: &u16| ![SERVER_NAME, ALPN].contains(kind);
        let mut sorted: Vec<u16> = self.extensions.iter().copied().filter(counted).collect();
        sorted.sort_unstable();
        let mut text = codes(&sorted);
        if let Some(schemes) = self.schemes.as_ref().filter(|schemes| !schemes.is_empty() && !text.is_empty()) {
            text.push('_');
            text.push_str(&codes(schemes));
        }
        format!("t{version}{name}{suites:02}{extensions:02}{protocol}_{suites_hash}_{}", hash(&text))
    }
}

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// The first and the last character of a protocol's name; of its hexadecimal form if one of them is neither letter nor
/// digit.
fn protocol(id: &[u8]) -> String {
    let (Some(first), Some(last)) = (id.first(), id.last()) else { return "00".into() };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)].iter().collect();
    }
    format!("{:x}{:x}", first >> 4, last & 0x0f)
}

fn codes(codes: &[u16]) -> String {
    let mut text = String::with_capacity(codes.len() * 5);
    for code in codes {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{code:04x}");
    }
    text
}

fn hash(text: &str) -> String {
    match text {
        "" => "000000000000".into(),
        text => sha256_hex(text.as_bytes()).chars().take(12).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::offer::NamedServer;

    fn published() -> Offer {
        Offer {
            legacy_version: 0x0303,
            suites: vec![
                0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
                0x002f, 0x0035,
            ],
            compressions: vec![0],
            extensions: vec![
                0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b, 0xff01,
                0x000b, 0x000a, 0x0015,
            ],
            server_name: NamedServer::Name("shop.example".into()),
            versions: Some(vec![0x0303, 0x0304]),
            groups: Some(vec![0x001d]),
            key_shares: Some(vec![0x001d]),
            repeated_shares: false,
            schemes: Some(vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601]),
            alpn: Some(vec![(*b"h2").into(), (*b"http/1.1").into()]),
            psk: None,
            psk_modes: None,
            session_ticket: None,
            uncompressed_points: true,
            takes_x509: true,
            certificate_compressions: Vec::new(),
        }
    }

    #[test]
    fn the_published_vectors_come_out() {
        let mut offer = published();
        assert_eq!(offer.ja4(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
        offer.schemes = None;
        assert_eq!(offer.ja4(), "t13d1516h2_8daaf6152771_6d807ffa2a79");
    }

    #[test]
    fn old_and_odd_clients_have_one_as_well() {
        let mut offer = published();
        offer.versions = None;
        offer.legacy_version = 0x0301;
        offer.extensions.clear();
        offer.suites.clear();
        offer.alpn = Some(vec![[0xab, b'x', 0xcd].into()]);
        assert_eq!(offer.ja4(), "t10i0000ad_000000000000_000000000000");
        offer.alpn = Some(vec![[b'x'].into()]);
        assert_eq!(&offer.ja4()[..10], "t10i0000xx");
        offer.suites = vec![0x002f; 120];
        assert_eq!(&offer.ja4()[..10], "t10i9900xx");
    }
}
