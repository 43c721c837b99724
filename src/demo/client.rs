//! A client for the tour: one request over one connection, with a chosen TLS version, verified against the demo's CA.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::tls::Version;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Negotiated version; `None` over plain HTTP.
    pub version: Option<Version>,
    /// Key exchange group and cipher suite, for people.
    pub parameters: String,
    /// The head and body as received.
    pub text: String,
}

/// Why nothing came back.
#[derive(thiserror::Error, Debug)]
pub enum ClientError {
    /// The connection failed, or ended too early.
    #[error("the connection failed")]
    Connection(#[source] io::Error),
    /// Nobody took the connection, or nothing came over it.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    NoAnswer,
    /// The answer is not HTTP.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// The TLS handshake failed.
    #[error("the handshake failed: {0}")]
    Tls(#[from] rustls::Error),
    /// The name cannot be sent as a server name.
    #[error("the name cannot be sent as a server name")]
    ServerName(#[from] rustls::pki_types::InvalidDnsNameError),
}

const TIMEOUT: Duration = Duration::from_secs(10);

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // What a socket with a time limit says of a read depends on the system.
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ClientError::NoAnswer,
            _ => ClientError::Connection(error),
        }
    }
}

/// `GET http://HOST/PATH`, sent to `address`.
pub fn get_plain(address: SocketAddr, host: &str, path: &str) -> Result<Answer, ClientError> {
    get_plain_over(connect(address)?, host, path)
}

/// As [`get_plain`], over a connection that is there.
pub fn get_plain_over(mut stream: TcpStream, host: &str, path: &str) -> Result<Answer, ClientError> {
    let text = exchange(&mut stream, host, path)?;
    Ok(Answer { status: status(&text)?, version: None, parameters: String::new(), text })
}

/// `GET https://HOST/PATH`, sent to `address`, trusting only `root` (PEM).
pub fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    root: &str,
    version: &'static SupportedProtocolVersion,
) -> Result<Answer, ClientError> {
    get_over(connect(address)?, host, path, root, version)
}

/// As [`get`], over a connection that is there.
pub fn get_over(
    mut socket: TcpStream,
    host: &str,
    path: &str,
    root: &str,
    version: &'static SupportedProtocolVersion,
) -> Result<Answer, ClientError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(root.as_bytes()) {
        roots.add(certificate.map_err(io::Error::other)?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut socket) {
            // What rustls says of the peer's alert, or of its certificate, is wrapped in an I/O error.
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
            return Err(inner.map_or(ClientError::from(error), ClientError::Tls));
        }
    }
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => Version::Tls12,
        _ => Version::Tls13,
    };
    let suite = connection.negotiated_cipher_suite().map_or_else(String::new, |suite| format!("{:?}", suite.suite()));
    let group =
        connection.negotiated_key_exchange_group().map_or_else(String::new, |group| format!("{:?}", group.name()));
    let mut stream = StreamOwned::new(connection, socket);
    let text = exchange(&mut stream, host, path)?;
    Ok(Answer { status: status(&text)?, version: Some(version), parameters: format!("{group}, {suite}"), text })
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

fn exchange(stream: &mut (impl Read + Write), host: &str, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut bytes = Vec::new();
    stream.take(32 * 1024 * 1024).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn status(text: &str) -> Result<u16, ClientError> {
    let code = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).ok_or(ClientError::NotHttp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_in_time_is_said_not_to_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let error = get_plain_over(stream, "localhost", "/").unwrap_err();
        assert_eq!(error.to_string(), "no answer within 10 s");
        assert!(std::error::Error::source(&error).is_none());
    }
}
