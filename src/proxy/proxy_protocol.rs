//! The PROXY protocol, versions 1 and 2: the client's address, told by a load balancer in front.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::snapshot::canonical_ip;

/// What a header says, and what was read behind it.
#[derive(Debug)]
pub struct Header {
    /// Source and destination; `None` for the balancer's own connections (`LOCAL`, `UNKNOWN`).
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Bytes behind the header.
    pub rest: Vec<u8>,
}

/// Why there is no header.
#[derive(thiserror::Error, Debug)]
pub enum ProxyProtocolError {
    /// The connection ended before its first byte.
    #[error("the connection ended before its first byte")]
    Closed,
    /// The connection ended or failed within the header.
    #[error("the connection ended within the PROXY protocol header")]
    Interrupted(#[source] Option<io::Error>),
    /// What came is no header.
    #[error("the connection does not begin with a valid PROXY protocol header")]
    Invalid,
    /// The connection's place was needed before.
    #[error("the connection was ended before its PROXY protocol header, because its place was needed")]
    Evicted,
    /// No header in time.
    #[error("no PROXY protocol header came in time")]
    Timeout,
}

/// Version 2 allows 64 KiB; its TLVs are of no use here, so a hostile length is refused early.
const MAX_HEADER: usize = 4096;

/// The beginning of a version 2 header of a balancer's own connection: signature, version and the command LOCAL.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20";

/// Bytes of a version 2 header up to its length.
const FIXED: usize = 16;

/// Reads one header.
pub async fn read<S: AsyncRead + Unpin>(io: &mut S, timeout: Duration) -> Result<Header, ProxyProtocolError> {
    let mut received = Vec::new();
    let read = async {
        loop {
            let mut buffer = [0; 512];
            let size = match io.read(&mut buffer).await {
                Ok(0) if received.is_empty() => return Err(ProxyProtocolError::Closed),
                Err(_) if received.is_empty() => return Err(ProxyProtocolError::Closed),
                Ok(0) => return Err(ProxyProtocolError::Interrupted(None)),
                Ok(size) => size,
                Err(error) => return Err(ProxyProtocolError::Interrupted(Some(error))),
            };
            received.extend_from_slice(&buffer[..size]);
            // Section 2.2: a receiver must accept such a connection, and discard what stands there, the family included.
            if received.starts_with(LOCAL) {
                let [.., high, low] = received.get(..FIXED).unwrap_or_default() else { continue };
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let rest = discard(io, received.split_off(FIXED), length).await?;
                return Ok(Header { addresses: None, rest });
            }
            match ProxyHeader::parse(&received, ParseConfig::default()) {
                Ok((header, length)) => {
                    let canonical = |address: SocketAddr| SocketAddr::new(canonical_ip(address.ip()), address.port());
                    let addresses = header
                        .proxied_address()
                        .map(|proxied| (canonical(proxied.source), canonical(proxied.destination)));
                    return Ok(Header { addresses, rest: received[length..].to_vec() });
                }
                Err(proxy_header::Error::BufferTooShort) if may_continue(&received) => {}
                Err(_) => return Err(ProxyProtocolError::Invalid),
            }
        }
    };
    tokio::time::timeout(timeout, read).await.unwrap_or(Err(ProxyProtocolError::Timeout))
}

/// Drops `length` bytes, the first of which are in `received`, and returns those behind them that are there too.
async fn discard<S: AsyncRead + Unpin>(
    io: &mut S,
    mut received: Vec<u8>,
    length: usize,
) -> Result<Vec<u8>, ProxyProtocolError> {
    if let Some(missing) = length.checked_sub(received.len()).filter(|missing| *missing > 0) {
        let mut missing = io.take(missing as u64);
        match tokio::io::copy(&mut missing, &mut tokio::io::sink()).await {
            Ok(_) if missing.limit() == 0 => return Ok(Vec::new()),
            Ok(_) => return Err(ProxyProtocolError::Interrupted(None)),
            Err(error) => return Err(ProxyProtocolError::Interrupted(Some(error))),
        }
    }
    Ok(received.split_off(length))
}

/// Whether more bytes can make this a header. Version 1 ends with the first line break, and with 107 bytes at most.
fn may_continue(received: &[u8]) -> bool {
    match received.starts_with(b"PROXY") {
        true => received.len() < 107 && !received.contains(&b'\n'),
        false => received.len() < MAX_HEADER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parse(bytes: &[u8]) -> Result<Header, ProxyProtocolError> {
        read(&mut &bytes[..], Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn both_versions_give_the_clients_address_and_what_follows() {
        let header = parse(b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 443\r\n\x16\x03\x01").await.unwrap();
        let addresses = ("192.0.2.1:5000".parse().unwrap(), "198.51.100.2:443".parse().unwrap());
        assert_eq!((header.addresses, header.rest.as_slice()), (Some(addresses), &b"\x16\x03\x01"[..]));

        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
        v2.extend([192, 0, 2, 1, 198, 51, 100, 2, 0x13, 0x88, 0x01, 0xbb]);
        v2.extend(b"GET /");
        let header = parse(&v2).await.unwrap();
        assert_eq!((header.addresses, header.rest.as_slice()), (Some(addresses), &b"GET /"[..]));
    }

    #[tokio::test]
    async fn the_balancers_own_connections_keep_their_address() {
        assert_eq!(parse(b"PROXY UNKNOWN\r\nx").await.unwrap().addresses, None);
        // Whatever family and length such a header names, and in whatever pieces it comes.
        for family in [0x00, 0x11, 0x12, 0x21, 0x31, 0x32, 0x13, 0x42, 0xff] {
            for length in [0_u16, 1, 11, 12, 36, 216, 4_096, u16::MAX] {
                let mut bytes = [LOCAL, &[family], &length.to_be_bytes()].concat();
                bytes.resize(FIXED + usize::from(length), 0xaa);
                bytes.extend(b"GET /");
                let header = parse(&bytes).await.unwrap();
                let whole = (header.addresses, header.rest);
                assert_eq!(whole.0, None, "{family:#x} {length}");
                // As much of it as was read with the last of the header; the rest is still to be read.
                assert!(b"GET /".starts_with(&whole.1), "{family:#x} {length}: {:?}", whole.1);
                let (first, second) = bytes.split_at(14);
                let mut pieces = first.chain(second);
                let header = read(&mut pieces, Duration::from_secs(5)).await.unwrap();
                let mut rest = header.rest;
                pieces.read_to_end(&mut rest).await.unwrap();
                assert_eq!((header.addresses, rest.as_slice()), (None, &b"GET /"[..]), "{family:#x} {length}");
                let cut = parse(&bytes[..bytes.len() - 6]).await;
                assert!(matches!(cut, Err(ProxyProtocolError::Interrupted(None))), "{family:#x} {length}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        assert!(matches!(parse(b"").await, Err(ProxyProtocolError::Closed)));
        assert!(matches!(parse(b"PROXY TCP4 192.0.2.1").await, Err(ProxyProtocolError::Interrupted(None))));
        assert!(matches!(parse(b"GET / HTTP/1.1\r\n\r\n").await, Err(ProxyProtocolError::Invalid)));
        assert!(matches!(parse(b"PROXY TCP4 nonsense\r\n").await, Err(ProxyProtocolError::Invalid)));
        let mut endless = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
        endless.resize(10_000, 0);
        assert!(matches!(parse(&endless).await, Err(ProxyProtocolError::Invalid)));
        for command in [0x22, 0x2f, 0x10, 0x30] {
            let header = [&LOCAL[..12], &[command, 0, 0, 0]].concat();
            assert!(matches!(parse(&header).await, Err(ProxyProtocolError::Invalid)), "{command:#x}");
        }
    }
}
