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
    /// No header in time.
    #[error("no PROXY protocol header came in time")]
    Timeout,
}

/// Version 2 allows 64 KiB; its TLVs are of no use here, so a hostile length is refused early.
const MAX_HEADER: usize = 4096;

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
        assert_eq!(parse(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00").await.unwrap().addresses, None);
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
    }
}
