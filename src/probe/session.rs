//! A whole handshake by rustls, for what TLS 1.3 encrypts: certificates, the application protocol, tickets.
//!
//! `Wire × server name × what the client says it can ──rustls──▶ Session`
//!
//! Nothing is verified here: whatever certificate the server has is what we came for, and it is judged afterwards, by the
//! analyser that judges all chains. No byte of application data is sent or believed.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::survey::Refusal;
use super::wire::{Wire, drain, refusal, set_timeouts};
use crate::tls::answer::BadAnswer;
use crate::tls::chain::Name;

/// How long tickets are waited for behind a handshake.
const TICKETS: Duration = Duration::from_millis(500);

/// What a handshake showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The certificates as they were sent, DER.
    pub(super) chain: Vec<Vec<u8>>,
    /// The application protocol.
    pub(super) alpn: Option<String>,
    /// The server asked for a certificate of the client.
    pub(super) asks_for_certificate: bool,
    /// Whether tickets came; only told for TLS 1.3.
    pub(super) tickets: Option<bool>,
}

/// What a client says that it can.
pub(super) struct Ability<'a> {
    /// The server that it names.
    pub(super) name: Option<&'a Name>,
    /// Signatures that it verifies.
    pub(super) schemes: &'a [u16],
    /// Application protocols.
    pub(super) alpn: &'a [&'a str],
}

/// A handshake. A certificate that came counts, whatever became of the rest.
pub(super) fn session(wire: &mut Wire<'_>, what: &str, ability: &Ability<'_>) -> Result<Session, Refusal> {
    let capture = Arc::new(Capture {
        schemes: ability.schemes.iter().map(|code| SignatureScheme::from(*code)).collect(),
        seen: Mutex::default(),
    });
    let mut connection = connection(ability, &capture).map_err(|error| Refusal::Library(error.to_string()))?;
    let (mut stream, deadline) = wire.connect(what)?;
    let mut outcome = Ok(());
    while outcome.is_ok() && connection.is_handshaking() {
        outcome = step(&mut connection, &mut stream, deadline);
    }
    let seen = capture.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let outcome = wire.note(outcome);
    if seen.chain.is_empty() {
        outcome?;
        return Err(Refusal::BadAnswer(BadAnswer::Malformed("Certificate")));
    }
    let alpn = connection.alpn_protocol().map(|id| String::from_utf8_lossy(id).into_owned());
    // The last flight, and a farewell; what comes until the server closes may be tickets.
    connection.send_close_notify();
    let until = deadline.min(Instant::now() + TICKETS);
    while connection.wants_write() && set_timeouts(&stream, until).is_ok() {
        if connection.write_tls(&mut stream).is_err() {
            break;
        }
    }
    let _ = stream.flush();
    if stream.shutdown(Shutdown::Write).is_ok() {
        drain(&mut stream, until, |mut bytes| {
            while !bytes.is_empty() {
                if connection.read_tls(&mut bytes).is_err() || connection.process_new_packets().is_err() {
                    return false;
                }
                // What a server says unasked is thrown away, so that it is never too much.
                let _ = std::io::copy(&mut connection.reader(), &mut std::io::sink());
            }
            connection.tls13_tickets_received() == 0
        });
    }
    let is_tls13 = connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
    Ok(Session {
        chain: seen.chain,
        alpn,
        asks_for_certificate: seen.asked,
        tickets: is_tls13.then(|| connection.tls13_tickets_received() > 0),
    })
}

fn connection(ability: &Ability<'_>, capture: &Arc<Capture>) -> Result<ClientConnection, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(capture.clone())
        .with_client_cert_resolver(capture.clone());
    config.resumption = Resumption::disabled();
    config.alpn_protocols = ability.alpn.iter().map(|id| id.as_bytes().to_vec()).collect();
    let name = match ability.name {
        Some(Name::Host(host)) => ServerName::try_from(host.as_str().to_owned()).ok(),
        Some(Name::Address(_)) | None => None,
    };
    config.enable_sni = name.is_some();
    // An address is never sent (RFC 6066 section 3).
    let name = name.unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
    ClientConnection::new(Arc::new(config), name)
}

/// Writes what there is to write, or reads once.
fn step(connection: &mut ClientConnection, stream: &mut std::net::TcpStream, deadline: Instant) -> Result<(), Refusal> {
    set_timeouts(stream, deadline).map_err(|error| refusal(&error))?;
    if connection.wants_write() {
        connection.write_tls(stream).map_err(|error| refusal(&error))?;
        return Ok(());
    }
    let mut buffer = [0; 8192];
    let count = stream.read(&mut buffer).map_err(|error| refusal(&error))?;
    if count == 0 {
        return Err(Refusal::Closed);
    }
    let mut bytes = &buffer[..count];
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).map_err(|error| refusal(&error))?;
        connection.process_new_packets().map_err(|error| match error {
            Error::AlertReceived(alert) => Refusal::Alert(alert.into()),
            error => super::wire::bad_answer(&buffer[..count])
                .map_or_else(|| Refusal::Library(error.to_string()), Refusal::BadAnswer),
        })?;
    }
    Ok(())
}

/// Takes every certificate, and remembers it.
#[derive(Debug)]
struct Capture {
    schemes: Vec<SignatureScheme>,
    seen: Mutex<Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    chain: Vec<Vec<u8>>,
    asked: bool,
}

impl Capture {
    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ServerCertVerifier for Capture {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec()).collect();
        self.note(|seen| seen.chain = chain);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_tls12_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

impl ResolvesClientCert for Capture {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.note(|seen| seen.asked = true);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}
