//! One TLS handshake: ClientHello → virtual host → [`TlsStream`], or exactly one [`Reason`].
//!
//! `bytes ──first_bytes, HelloReader──▶ Offer ──Snapshot, negotiate──▶ ServerConfig ──rustls──▶ TlsStream`
//!
//! The driver is our own, over rustls' `Acceptor` and `ServerConnection`. We read the hello first and ask the model of
//! the handshake what will come of it: rustls misnames common failures, sends the wrong alert for some and none for
//! one, and looks at things in an order that hides the cause. Only what is going to succeed is handed on. After that
//! the stage at which a client leaves says as much as the error that comes of it: what the client had sent decides, not
//! which of our calls failed. One deadline covers all.
//!
//! A trap of rustls is handled here: bytes behind the hello stay unread until `process_new_packets` is called after
//! `into_connection`.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{AlertDescription, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::stream::TlsStream;
use crate::keylog::KeyLog;
use crate::places::{Notice, Place, Places};
use crate::snapshot::{Reader, TlsChoice, VirtualHost};
use crate::tls::offer::{BadHello, FirstBytes, HelloReader, NamedServer, Offer, first_bytes, legacy_version};
use crate::tls::reason::Reason;
use crate::tls::{ServerTls, Version};

/// An established TLS connection and what it was established with.
pub struct Handshake<S> {
    /// The plaintext side.
    pub stream: TlsStream<S>,
    /// What was served.
    pub tls: Arc<ServerTls>,
    /// Protocol version.
    pub version: Version,
    /// True if a session was resumed (RFC 8446 section 2.2).
    pub resumed: bool,
    /// True if HTTP/2 was negotiated by ALPN.
    pub http2: bool,
    /// True if the client has shown a certificate, which was verified.
    pub client_certificate: bool,
    /// Cipher suite and, where the library tells it, key exchange group, as codes of the IANA registries.
    pub parameters: (u16, Option<u16>),
    /// What came to be known on the way.
    pub trace: Trace,
}

/// What comes to be known of a handshake, however it ends.
#[derive(Default)]
pub struct Trace {
    /// What the client offers, once its hello is complete.
    pub offer: Option<Box<Offer>>,
    /// Bytes of the hello, with record headers.
    pub hello_size: usize,
    /// The server name that the client sent, lower case.
    pub server_name: Option<Arc<str>>,
    /// The virtual host that it is counted under; see [`TlsChoice::Serve`].
    pub host: Option<Arc<VirtualHost>>,
    /// How the host terminates TLS.
    pub tls: Option<Arc<ServerTls>>,
    /// True if client and host agree on version, suite, group and certificate.
    pub agreed: bool,
    /// Which of its credentials is served, by its index.
    pub credential: usize,
    /// True if our certificate, or what stands for it in a resumed session, is on its way to the client.
    pub answered: bool,
    /// True if a session is resumed, so that no certificate is shown.
    pub resumed: bool,
    /// True if the client had to send a second hello (RFC 8446 section 4.1.4).
    pub retried: bool,
    /// The alert that we sent.
    pub alert_sent: Option<AlertDescription>,
    /// The alert that the client sent.
    pub alert_received: Option<AlertDescription>,
}

/// Why there is no TLS connection.
pub enum NotEstablished<S> {
    /// A handshake failed.
    Failed(Box<HandshakeFailure<S>>),
    /// The client closed or reset the connection before it had sent a byte: a port check, no failure.
    Probe,
}

/// A failed handshake.
pub struct HandshakeFailure<S> {
    /// The one reason.
    pub reason: Reason,
    /// The cause, in the words of the TLS library or the operating system.
    pub source: Option<io::Error>,
    /// What came to be known on the way.
    pub trace: Trace,
    /// The connection, to be closed with [`linger`] after the failure has been recorded.
    pub io: S,
}

/// Bytes that a client may send before its hello is complete: one handshake message at most, with record headers.
const MAX_HELLO: usize = 80 * 1024;
const READ_SIZE: usize = 4096;

/// How long the end of a connection that has failed may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A hello that is longer takes its place before it is complete. With post-quantum key shares hellos have 2 KiB.
const LARGE_HELLO: usize = 16 * 1024;

/// A client that has sent so much has sent early data, and not just a Finished message. rustls passes over 16 KiB of it,
/// in whole records.
const MUCH_EARLY_DATA: usize = 8 * 1024;

/// The extension that announces early data (RFC 8446 section 4.2.10).
const EARLY_DATA: u16 = 42;

/// What a handshake is performed with.
pub struct Terms<'a> {
    /// For the snapshot of the moment in which the hello is complete.
    pub reader: &'a Reader,
    /// Places for handshakes in progress. A handshake takes one when the ClientHello is complete and can be answered,
    /// because that is when work begins: a connection that says nothing costs no more than any other open connection.
    pub places: &'a Places,
    /// Tells the connection to end, whichever of its places somebody else needs: [`Reason::Evicted`].
    pub notice: &'a Notice,
    /// The longest that all of it may take.
    pub timeout: Duration,
    /// Writes the connection's secrets if it covers the host or the client.
    pub keylog: &'a KeyLog,
    /// The client's address.
    pub client: IpAddr,
}

/// Performs the server's side of a handshake. `received` are bytes read ahead from `io`.
pub async fn handshake<S>(io: S, received: Vec<u8>, terms: &Terms<'_>) -> Result<Handshake<S>, NotEstablished<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut driver = Driver::new(io, received);
    let failed = match tokio::time::timeout(terms.timeout, driver.run(terms)).await {
        Ok(Ok((connection, tls))) => return Ok(driver.established(connection, tls)),
        Ok(Err(failed)) => failed,
        Err(_elapsed) => Failed::from(match (driver.decided, driver.passed_over, driver.stage) {
            // The peer did not even take our last answer.
            (Some(reason), ..) => reason,
            // It has said why it is silent now.
            (None, Some(alert), _) => {
                driver.trace.alert_received = Some(alert);
                Reason::of_alert(alert)
            }
            (None, None, Stage::Connected) => Reason::TimeoutBeforeHello,
            (None, None, Stage::Hello | Stage::Retried) => Reason::TimeoutInHello,
            (None, None, Stage::Answered) => Reason::TimeoutAfterCertificate,
        }),
    };
    let Failed::Because { reason, source } = failed else { return Err(NotEstablished::Probe) };
    let Driver { io, trace, .. } = driver;
    Err(NotEstablished::Failed(Box::new(HandshakeFailure { reason, source, trace, io })))
}

/// Ends a connection that says TLS to the port for plain HTTP, of which `received` has the first bytes. The hello is read,
/// for the name in it, within the limits of any handshake; however that goes, the port is what is wrong.
pub async fn refuse_misplaced<S>(io: S, received: Vec<u8>, terms: &Terms<'_>) -> HandshakeFailure<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut driver = Driver::new(io, received);
    let mut place = None;
    let hello = tokio::select! {
        biased;
        hello = tokio::time::timeout(terms.timeout, driver.read_hello(terms, &mut place)) => Some(hello),
        () = terms.notice.told() => None,
    };
    let source = match hello {
        Some(Ok(Ok(mut offer))) => {
            if let NamedServer::Name(name) = &offer.server_name {
                driver.trace.server_name = Some(Arc::from(&**name));
                driver.trace.host = terms.reader.load().named_host(name).cloned();
            }
            offer.shorten();
            driver.trace.offer = Some(offer);
            None
        }
        Some(Ok(Err(NoHello::Ended(Failed::Because { source, .. }) | NoHello::Refuse { source, .. }))) => source,
        Some(Ok(Err(NoHello::Ended(Failed::Probe)))) => None,
        Some(Err(_elapsed)) => Some(io::Error::other("the ClientHello was not complete in time")),
        None => Some(io::Error::other(terms.notice.why())),
    };
    let reason = Reason::TlsOnHttpPort;
    // An alert has room in any buffer, unless the peer has left.
    let _ = tokio::time::timeout(LAST_WORDS, driver.refuse(reason, None)).await;
    let Driver { io, trace, .. } = driver;
    HandshakeFailure { reason, source, trace, io }
}

/// Ends a connection before it is looked at: the alert that was sent.
pub async fn turn_away<S: AsyncWrite + Unpin>(io: &mut S, reason: Reason) -> Option<AlertDescription> {
    if let Some(alert) = reason.alert() {
        // Fits into the empty buffer of a new socket; the peer may be gone.
        let _ = io.write_all(&alert_record(alert, &[])).await;
    }
    reason.alert()
}

/// Closes a connection so that the alert in front of the end is not lost: an end with unread bytes is a reset, and a
/// reset discards what the peer has not read yet. Bounded in bytes and in time.
pub async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut io: S) {
    let wait = async {
        io.shutdown().await?;
        let mut discarded = 0;
        let mut buffer = [0; 512];
        while discarded < 64 * 1024 {
            match io.read(&mut buffer).await? {
                0 => break,
                read => discarded += read,
            }
        }
        io::Result::Ok(())
    };
    // Whatever comes of it, the connection ends here.
    let _ = tokio::time::timeout(LAST_WORDS, wait).await;
}

/// How far a handshake has come; tells what a silent end means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing received.
    Connected,
    /// Part of the hello received.
    Hello,
    /// We have asked for another hello (RFC 8446 section 4.1.4), and shown no certificate.
    Retried,
    /// Our answer is on its way.
    Answered,
}

enum Failed {
    Because { reason: Reason, source: Option<io::Error> },
    Probe,
}

impl From<Reason> for Failed {
    fn from(reason: Reason) -> Self {
        Failed::Because { reason, source: None }
    }
}

/// Why there is no hello.
enum NoHello {
    /// The peer has ended the connection, or there is nothing that could be said to it.
    Ended(Failed),
    /// It is to be answered with this alert, if it has one.
    Refuse { reason: Reason, alert: Option<AlertDescription>, source: Option<io::Error> },
}

impl From<Failed> for NoHello {
    fn from(failed: Failed) -> Self {
        NoHello::Ended(failed)
    }
}

impl NoHello {
    /// With the alert that the reason asks for.
    fn refuse(reason: Reason) -> Self {
        NoHello::Refuse { reason, alert: reason.alert(), source: None }
    }
}

struct Driver<S> {
    io: S,
    /// Bytes received and not yet given to rustls.
    buffer: Vec<u8>,
    /// What the client has sent until its hello was complete.
    hello: Vec<u8>,
    stage: Stage,
    /// Why it failed, while the peer is being told.
    decided: Option<Reason>,
    /// An alert that ends nothing by itself, so that rustls passes it over.
    passed_over: Option<AlertDescription>,
    /// Bytes received in all.
    received: usize,
    trace: Trace,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn new(io: S, received: Vec<u8>) -> Self {
        Self {
            io,
            buffer: received,
            hello: Vec::new(),
            stage: Stage::Connected,
            decided: None,
            passed_over: None,
            received: 0,
            trace: Trace::default(),
        }
    }

    async fn run(&mut self, terms: &Terms<'_>) -> Result<(ServerConnection, Arc<ServerTls>), Failed> {
        let mut place = None;
        let hello = tokio::select! {
            biased;
            hello = self.client_hello(terms, &mut place) => Some(hello),
            () = terms.notice.told() => None,
        };
        let offer = match hello {
            Some(hello) => hello?,
            None => return Err(self.evicted(None, terms.notice).await),
        };
        if let NamedServer::Name(name) = &offer.server_name {
            self.trace.server_name = Some(Arc::from(&**name));
        }
        let offer = &*self.trace.offer.insert(offer);
        let chosen = preflight(offer, self.trace.server_name.as_deref(), terms.reader);
        self.trace.host = chosen.host;
        // From here on it is for people, and kept for longer.
        if let Some(offer) = &mut self.trace.offer {
            offer.shorten();
        }
        let (tls, config) = match chosen.answer {
            Answer::Serve { tls, config, credential } => {
                self.trace.tls = Some(tls.clone());
                self.trace.agreed = true;
                self.trace.credential = credential;
                let host = self.trace.host.as_ref().map(|host| &host.name);
                (tls, terms.keylog.config_for(&config, host, terms.client))
            }
            Answer::Refuse(reason, tls) => {
                self.trace.tls = tls;
                return Err(self.refuse(reason, None).await);
            }
        };
        // What is refused needs no place: there is no work to do for it.
        let _place = match place {
            Some(place) => place,
            None => match take_place(terms) {
                Some(place) => place,
                None => return Err(self.refuse(Reason::Overloaded, None).await),
            },
        };
        let accepted = self.accept().await?;
        self.stage = Stage::Answered;
        match accepted.into_connection(config) {
            Ok(mut connection) => {
                let finished = tokio::select! {
                    biased;
                    finished = self.finish(&mut connection) => Some(finished),
                    () = terms.notice.told() => None,
                };
                match finished {
                    Some(finished) => finished.map(|()| (connection, tls)),
                    None => Err(self.evicted(Some(&mut connection), terms.notice).await),
                }
            }
            Err((error, alert)) => Err(self.fail(error, bytes_of(alert)).await),
        }
    }

    /// Ends the handshake because its place is needed.
    async fn evicted(&mut self, connection: Option<&mut ServerConnection>, notice: &Notice) -> Failed {
        // Its last answer is on its way already.
        if let Some(reason) = self.decided {
            return reason.into();
        }
        let why = Some(io::Error::other(notice.why()));
        let encrypts = |connection: &&mut ServerConnection| {
            let is_tls13 = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
            self.stage == Stage::Answered && (is_tls13 || self.trace.resumed)
        };
        let Some(connection) = connection.filter(encrypts) else { return self.refuse(Reason::Evicted, why).await };
        // Behind our Finished message an alert in clear would be taken for damage, and rustls encrypts no other than this.
        connection.send_close_notify();
        self.decided = Some(Reason::Evicted);
        self.trace.alert_sent = Some(AlertDescription::CloseNotify);
        let _ = self.io.write_all(&queued(connection)).await;
        Failed::Because { reason: Reason::Evicted, source: why }
    }

    /// Reads until the ClientHello is complete, or refuses what is none.
    async fn client_hello(&mut self, terms: &Terms<'_>, place: &mut Option<Place>) -> Result<Box<Offer>, Failed> {
        match self.read_hello(terms, place).await {
            Ok(offer) => Ok(offer),
            Err(NoHello::Ended(failed)) => Err(failed),
            Err(NoHello::Refuse { reason, alert, source }) => Err(self.refuse_with(reason, alert, source).await),
        }
    }

    /// Reads until the ClientHello is complete, keeping its bytes.
    async fn read_hello(&mut self, terms: &Terms<'_>, place: &mut Option<Place>) -> Result<Box<Offer>, NoHello> {
        let mut parser = HelloReader::default();
        let mut parsed = 0;
        loop {
            if self.buffer.is_empty() {
                self.receive().await?;
            }
            self.stage = Stage::Hello;
            self.hello.append(&mut self.buffer);
            if parsed == 0 {
                match first_bytes(&self.hello) {
                    FirstBytes::Incomplete => continue,
                    FirstBytes::Alert(alert) => {
                        self.trace.alert_received = Some(alert);
                        // Whatever it says, it cannot speak of a certificate that has not been shown.
                        return Err(NoHello::Ended(match Reason::of_alert(alert) {
                            Reason::ClientCancelled => Reason::ClientCancelled.into(),
                            _ => Reason::ClientAlert.into(),
                        }));
                    }
                    FirstBytes::NotTls(reason) => return Err(NoHello::refuse(reason)),
                    FirstBytes::Tls => {}
                }
            }
            match parser.push(&self.hello[parsed..]) {
                Ok(true) => break,
                // Larger than any that is known: what it holds is worth a place.
                Ok(false) if place.is_none() && self.hello.len() > LARGE_HELLO => {
                    *place = Some(take_place(terms).ok_or(NoHello::refuse(Reason::Overloaded))?);
                    parsed = self.hello.len();
                }
                Ok(false) if self.hello.len() <= MAX_HELLO => parsed = self.hello.len(),
                Ok(false) => return Err(NoHello::refuse(Reason::MalformedHello)),
                Err(error) => {
                    let (reason, alert) = reason_of(error);
                    return Err(NoHello::Refuse { reason, alert, source: Some(io::Error::other(error)) });
                }
            }
        }
        self.trace.hello_size = parser.taken();
        // Complete means that there is one.
        parser.into_offer().ok_or_else(|| NoHello::refuse(Reason::Internal))
    }

    /// Hands the hello to rustls. The parser is never stricter than rustls, but rustls may be.
    async fn accept(&mut self) -> Result<Accepted, Failed> {
        let mut acceptor = Acceptor::default();
        let hello = std::mem::take(&mut self.hello);
        let mut unread = &hello[..];
        loop {
            // Reading from a slice cannot fail; rustls' buffer can be full, and then `accept` says why.
            let taken = acceptor.read_tls(&mut unread).unwrap_or(0);
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    self.buffer = unread.to_vec();
                    return Ok(accepted);
                }
                Ok(None) if taken > 0 => {}
                Ok(None) => return Err(self.refuse(Reason::MalformedHello, None).await),
                Err((error, alert)) => return Err(self.fail(error, bytes_of(alert)).await),
            }
        }
    }

    /// Exchanges messages until the handshake is complete and our last bytes (tickets) are written.
    async fn finish(&mut self, connection: &mut ServerConnection) -> Result<(), Failed> {
        let mut answers = 0;
        loop {
            self.process(connection).await?;
            let bytes = queued(connection);
            answers += usize::from(!bytes.is_empty());
            let retried = connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
            self.trace.retried = retried;
            self.trace.resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
            self.stage = if retried && answers == 1 { Stage::Retried } else { Stage::Answered };
            self.trace.answered |= self.stage == Stage::Answered && !bytes.is_empty();
            if !bytes.is_empty() && self.io.write_all(&bytes).await.is_err() && connection.is_handshaking() {
                return Err(self.last_words(connection).await);
            }
            // A client that leaves without its tickets has completed the handshake all the same.
            if !connection.is_handshaking() {
                return Ok(());
            }
            self.receive().await?;
        }
    }

    /// Gives rustls what has been received.
    async fn process(&mut self, connection: &mut ServerConnection) -> Result<(), Failed> {
        // The first one counts: what comes behind it is the farewell.
        self.passed_over = self.passed_over.or(alert_in_clear(&self.buffer));
        let buffer = std::mem::take(&mut self.buffer);
        let mut unread = &buffer[..];
        loop {
            // Called at least once, also without new bytes: what came behind the hello is inside already.
            match connection.process_new_packets() {
                Ok(state) if state.peer_has_closed() && connection.is_handshaking() => {
                    // `user_canceled` comes before `close_notify` (RFC 8446 section 6.1).
                    let alert = self.passed_over.unwrap_or(AlertDescription::CloseNotify);
                    self.trace.alert_received = Some(alert);
                    return Err(Reason::of_alert(alert).into());
                }
                Ok(_) => {}
                Err(error) => return Err(self.fail(error, queued(connection)).await),
            }
            if unread.is_empty() || !matches!(connection.read_tls(&mut unread), Ok(1..)) {
                break;
            }
        }
        // rustls does not look at a close_notify of TLS 1.2 before the end of the handshake; there is nothing to wait for.
        let closes = alert_in_clear(&buffer) == Some(AlertDescription::CloseNotify) && connection.is_handshaking();
        // Kept for its size.
        self.buffer = buffer;
        self.buffer.clear();
        match self.passed_over.filter(|_| closes) {
            Some(alert) => {
                self.trace.alert_received = Some(alert);
                Err(Reason::of_alert(alert).into())
            }
            None => Ok(()),
        }
    }

    /// The client does not take our answer. What it said before it left is the reason, if it said anything.
    async fn last_words(&mut self, connection: &mut ServerConnection) -> Failed {
        // An alert is in the first bytes; a client that goes on talking has not left.
        const READS: usize = 16;
        for _ in 0..READS {
            if let Err(failed) = self.receive().await {
                return failed;
            }
            if let Err(failed) = self.process(connection).await {
                return failed;
            }
        }
        Reason::ResetAfterCertificate.into()
    }

    /// Reads once into the empty buffer; an end becomes what it means at this stage.
    async fn receive(&mut self) -> Result<(), Failed> {
        self.buffer.resize(READ_SIZE, 0);
        let result = self.io.read(&mut self.buffer).await;
        self.buffer.truncate(*result.as_ref().unwrap_or(&0));
        self.received += self.buffer.len();
        let (closed, source) = match result {
            Ok(1..) => return Ok(()),
            Ok(0) => (true, None),
            Err(error) => (false, Some(error)),
        };
        if let Some(alert) = self.passed_over {
            self.trace.alert_received = Some(alert);
            return Err(Failed::Because { reason: Reason::of_alert(alert), source });
        }
        Err(match (self.stage, closed) {
            (Stage::Connected, _) => Failed::Probe,
            (Stage::Hello | Stage::Retried, true) => Reason::ClosedInHello.into(),
            (Stage::Hello | Stage::Retried, false) => Failed::Because { reason: Reason::ResetInHello, source },
            (Stage::Answered, true) => Reason::ClosedAfterCertificate.into(),
            (Stage::Answered, false) => Failed::Because { reason: Reason::ResetAfterCertificate, source },
        })
    }

    /// Ends the handshake after an error of rustls, with the alert that it queued (`alert`), or ours if it has none.
    async fn fail(&mut self, error: rustls::Error, alert: Vec<u8>) -> Failed {
        let mut reason = Reason::of(&error);
        if reason == Reason::MalformedHello && self.stage == Stage::Answered {
            reason = Reason::ProtocolViolation;
        }
        // Early data of a session that we do not have is passed over, up to a limit; what lies behind does not decrypt.
        let sends_early_data = self.trace.offer.as_ref().is_some_and(|offer| offer.extensions.contains(&EARLY_DATA));
        if error == rustls::Error::DecryptError && sends_early_data && self.received > MUCH_EARLY_DATA {
            reason = Reason::TooMuchEarlyData;
        }
        let sent = match &error {
            rustls::Error::AlertReceived(received) => {
                self.trace.alert_received = Some(*received);
                if alert.is_empty() {
                    return Failed::Because { reason, source: Some(io::Error::other(error)) };
                }
                None
            }
            rustls::Error::InvalidCertificate(error) => Some(AlertDescription::from(error.clone())),
            rustls::Error::InvalidCertRevocationList(_) => Some(AlertDescription::HandshakeFailure),
            rustls::Error::InvalidMessage(error) => Some(AlertDescription::from(*error)),
            // A record that does not decrypt; of a Finished message that is wrong inside, rustls says the same and sends
            // decrypt_error, but that takes a client that has the keys and errs.
            rustls::Error::DecryptError => Some(AlertDescription::BadRecordMac),
            _ => reason.alert(),
        };
        if alert.is_empty() {
            return self.refuse_with(reason, sent, Some(io::Error::other(error))).await;
        }
        self.decided = Some(reason);
        // In TLS 1.3 it is encrypted, and rustls does not tell which one it is.
        self.trace.alert_sent = last_alert(&alert).or(sent);
        // The peer may be gone; the reason stands.
        let _ = self.io.write_all(&alert).await;
        Failed::Because { reason, source: Some(io::Error::other(error)) }
    }

    /// Ends the handshake with the alert (or the HTTP answer) that the reason asks for.
    async fn refuse(&mut self, reason: Reason, source: Option<io::Error>) -> Failed {
        self.refuse_with(reason, reason.alert(), source).await
    }

    /// The same, with this alert.
    async fn refuse_with(
        &mut self,
        reason: Reason,
        alert: Option<AlertDescription>,
        source: Option<io::Error>,
    ) -> Failed {
        self.decided = Some(reason);
        self.trace.alert_sent = alert;
        let answer = match (reason, alert) {
            (Reason::PlainHttp, _) => PLAIN_HTTP_ANSWER.to_vec(),
            (_, Some(alert)) => alert_record(alert, &self.hello).to_vec(),
            (_, None) => Vec::new(),
        };
        let _ = self.io.write_all(&answer).await;
        Failed::Because { reason, source }
    }

    fn established(self, connection: ServerConnection, tls: Arc<ServerTls>) -> Handshake<S> {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            _ => Version::Tls13,
        };
        let suite = connection.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into());
        Handshake {
            tls,
            version,
            resumed: self.trace.resumed,
            http2: connection.alpn_protocol() == Some(b"h2"),
            client_certificate: connection.peer_certificates().is_some(),
            parameters: (suite, connection.negotiated_key_exchange_group().map(|group| group.name().into())),
            trace: self.trace,
            stream: TlsStream::new(self.io, connection),
        }
    }
}

/// Takes a place for the rest of the handshake. All that a handshake does from here on is to wait for its client.
fn take_place(terms: &Terms<'_>) -> Option<Place> {
    terms.places.enter(0, terms.notice).ok()
}

/// What a hello is to be answered with.
struct Chosen {
    host: Option<Arc<VirtualHost>>,
    answer: Answer,
}

enum Answer {
    /// An alert; with how the host terminates TLS for others, if it does.
    Refuse(Reason, Option<Arc<ServerTls>>),
    /// A handshake, with this configuration and the credential of this index in it.
    Serve { tls: Arc<ServerTls>, config: Arc<ServerConfig>, credential: usize },
}

/// Chooses host and configuration by the snapshot of this moment, and foresees whether a handshake can succeed.
#[inline(never)]
fn preflight(offer: &Offer, server_name: Option<&str>, reader: &Reader) -> Chosen {
    let snapshot = reader.load();
    let refused =
        |host: Option<&Arc<VirtualHost>>, reason| Chosen { host: host.cloned(), answer: Answer::Refuse(reason, None) };
    match snapshot.tls(server_name) {
        _ if matches!(offer.server_name, NamedServer::Malformed(_)) => refused(None, Reason::MalformedServerName),
        TlsChoice::Serve { host, tls } => {
            let answer = match tls.agree(offer) {
                Ok((config, credential)) => Answer::Serve { tls: tls.clone(), config: config.clone(), credential },
                Err(reason) => Answer::Refuse(reason, Some(tls.clone())),
            };
            Chosen { host: host.cloned(), answer }
        }
        TlsChoice::Absent(host) => refused(Some(host), Reason::HostWithoutTls),
        TlsChoice::Refused(host) => refused(Some(host), Reason::HostRefused),
        // SSL 3.0 has no extensions: a client that speaks nothing newer cannot name a server, nor read about names.
        TlsChoice::Unknown if offer.newest_version() < 0x0301 => refused(None, Reason::NoSharedVersion),
        TlsChoice::Unknown if server_name.is_none() => refused(None, Reason::NoServerName),
        TlsChoice::Unknown => refused(None, Reason::UnknownHost),
    }
}

/// What it means that bytes are not a ClientHello, and the alert for it (RFC 8446 section 6.2).
fn reason_of(error: BadHello) -> (Reason, Option<AlertDescription>) {
    let (reason, alert) = match error {
        BadHello::OtherRecord(_) | BadHello::OtherMessage(_) | BadHello::Trailing | BadHello::RecordLength(0) => {
            (Reason::UnexpectedMessage, AlertDescription::UnexpectedMessage)
        }
        BadHello::RecordVersion(_) => (Reason::MalformedRecord, AlertDescription::ProtocolVersion),
        BadHello::RecordLength(_) => (Reason::MalformedRecord, AlertDescription::RecordOverflow),
        BadHello::Malformed(_) | BadHello::TooLong(_) => (Reason::MalformedHello, AlertDescription::DecodeError),
        BadHello::RepeatedExtension(_) | BadHello::PskNotLast => {
            (Reason::MalformedHello, AlertDescription::IllegalParameter)
        }
    };
    (reason, Some(alert))
}

/// What rustls has to send.
fn queued(connection: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.wants_write() && connection.write_tls(&mut bytes).is_ok() {}
    bytes
}

/// The alert that rustls has for a hello that it does not take.
fn bytes_of(mut alert: AcceptedAlert) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = alert.write_all(&mut bytes);
    bytes
}

/// The alert at the beginning of received bytes, if it is not encrypted.
fn alert_in_clear(bytes: &[u8]) -> Option<AlertDescription> {
    match bytes {
        [0x15, 0x03, _, 0x00, 0x02, _, description, ..] => Some((*description).into()),
        _ => None,
    }
}

/// The alert at the end of what we send, if it is not encrypted.
fn last_alert(bytes: &[u8]) -> Option<AlertDescription> {
    let record = bytes.len().checked_sub(7).map(|at| &bytes[at..])?;
    alert_in_clear(record)
}

/// A fatal alert in a record of its own, in clear (RFC 8446 sections 5.1 and 6).
///
/// The record has the client's own version, up to TLS 1.2: OpenSSL 1.0.2 does not look into a newer record, and
/// reports a wrong version number instead of the alert.
fn alert_record(alert: AlertDescription, hello: &[u8]) -> [u8; 7] {
    let [major, minor] = legacy_version(hello).unwrap_or(0x0303).clamp(0x0300, 0x0303).to_be_bytes();
    [0x15, major, minor, 0x00, 0x02, 0x02, u8::from(alert)]
}

const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 61\r\n\
    Connection: close\r\n\r\n\
    This port speaks HTTPS. Use https:// in front of the address\n";
