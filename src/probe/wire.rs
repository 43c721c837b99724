//! One connection per question: connect, say a hello, read the answer, take leave.
//!
//! `Offer ──bytes──▶ server ──bytes──▶ Flight, or Refusal`
//!
//! Everything is bounded: each connection by one deadline, all of them by a number and a total time, what is read by the
//! reader of flights. A server that stops answering ends the questions, and the report says so. Leave is taken with
//! `user_canceled` (RFC 8446 section 6.1), so that a probe does not look like a client that rejects the server's
//! certificate.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;

use super::ProbeError;
use super::survey::Refusal;
use super::target::Target;
use crate::tls::answer::{BadAnswer, Flight, FlightReader, Wanted};
use crate::tls::chain::Name;
use crate::tls::offer::{Material, Offer, records};

/// Most connections of one probe.
const MAX_CONNECTIONS: usize = 600;
/// Most connections in a row that come to nothing in time, or do not come about. More than there are old versions, to
/// which some servers and firewalls are simply silent.
const MAX_STALLS: usize = 5;
/// All connections together, in multiples of the time of one.
const TOTAL: u32 = 36;
/// How long a server may take to close after we have taken leave.
const LEAVE: Duration = Duration::from_millis(300);

/// Connects to one server again and again.
pub(super) struct Wire<'a> {
    target: Target,
    /// Until one has answered, all that the name stands for; then that one.
    addresses: Vec<SocketAddr>,
    timeout: Duration,
    end: Instant,
    connections: usize,
    stalls: usize,
    stopped: Option<String>,
    progress: &'a dyn Fn(&str, usize),
    /// Key shares by the codes of their groups, made once: no handshake here is ever completed.
    shares: Vec<(u16, Vec<u8>)>,
}

impl<'a> Wire<'a> {
    /// Looks the host up.
    pub(super) fn new(
        target: &Target,
        timeout: Duration,
        progress: &'a dyn Fn(&str, usize),
    ) -> Result<Self, ProbeError> {
        let addresses = match &target.host {
            Name::Address(address) => vec![SocketAddr::new(*address, target.port)],
            Name::Host(host) => look_up(host.as_str(), target, timeout)?,
        };
        let share = |group: &&'static dyn rustls::crypto::SupportedKxGroup| {
            let exchange = group.start().ok()?;
            Some((u16::from(group.name()), exchange.pub_key().to_vec()))
        };
        Ok(Self {
            target: target.clone(),
            addresses,
            timeout,
            end: Instant::now() + timeout.saturating_mul(TOTAL).min(Duration::from_secs(86_400)),
            connections: 0,
            stalls: 0,
            stopped: None,
            progress,
            shares: aws_lc_rs::ALL_KX_GROUPS.iter().filter_map(share).collect(),
        })
    }

    /// The first connection. Its errors are those of people: a wrong name, a closed port, a firewall.
    pub(super) fn reach(&mut self) -> Result<SocketAddr, ProbeError> {
        let mut last = None;
        for address in self.addresses.clone() {
            match TcpStream::connect_timeout(&address, self.timeout) {
                Ok(_) => {
                    self.addresses = vec![address];
                    return Ok(address);
                }
                Err(error) => last = Some((address, error)),
            }
        }
        let target = self.target.to_string();
        Err(match last {
            None => ProbeError::NoAddress { target },
            Some((address, error)) => match error.kind() {
                ErrorKind::ConnectionRefused => ProbeError::ConnectionRefused { target, address },
                ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                    ProbeError::ConnectTimeout { target, address, timeout: self.timeout }
                }
                _ => ProbeError::Connect { target, address, source: error },
            },
        })
    }

    /// Connections so far.
    pub(super) fn connections(&self) -> usize {
        self.connections
    }

    /// Why not everything was asked.
    pub(super) fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Asks one question.
    pub(super) fn ask(&mut self, what: &str, offer: &Offer, wanted: Wanted) -> Result<Flight, Refusal> {
        let (mut stream, deadline) = self.connect(what)?;
        let hello = self.encode(offer)?;
        let answer = exchange(&mut stream, &hello, wanted, deadline);
        if answer.is_ok() {
            leave(&mut stream, offer.legacy_version, deadline);
        }
        self.note(answer)
    }

    /// A connection for one question, and when it has to be answered.
    pub(super) fn connect(&mut self, what: &str) -> Result<(TcpStream, Instant), Refusal> {
        let now = Instant::now();
        let stop = match (self.connections >= MAX_CONNECTIONS, self.stalls >= MAX_STALLS, now >= self.end) {
            (true, _, _) => Some(format!("the limit of {MAX_CONNECTIONS} connections is reached")),
            (_, true, _) => Some(format!("the server stopped answering after {} connections", self.connections)),
            (_, _, true) => Some(format!("the time was over after {} connections", self.connections)),
            (false, false, false) => None,
        };
        if let Some(stop) = stop {
            self.stopped.get_or_insert(stop);
            return Err(Refusal::NotAsked);
        }
        self.connections += 1;
        (self.progress)(what, self.connections);
        let Some(address) = self.addresses.first() else { return Err(Refusal::NotAsked) };
        let connected = TcpStream::connect_timeout(address, self.timeout).and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok((stream, now + self.timeout)),
            Err(error) => self.note(Err(Refusal::Unreachable(words(&error)))),
        }
    }

    /// Counts what comes to nothing.
    pub(super) fn note<T>(&mut self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        match &result {
            Err(Refusal::Silent | Refusal::Unreachable(_)) => self.stalls += 1,
            Err(Refusal::NotAsked) => {}
            Err(Refusal::Alert(_) | Refusal::BadAnswer(_) | Refusal::Closed | Refusal::Library(_) | Refusal::Reset)
            | Ok(_) => self.stalls = 0,
        }
        result
    }

    fn encode(&self, offer: &Offer) -> Result<Vec<u8>, Refusal> {
        let share = |code: u16| self.shares.iter().find(|(group, _)| *group == code).map(|(_, share)| share.clone());
        let mut fresh = [0; 64];
        aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut fresh)
            .map_err(|_| Refusal::Unreachable("the system gives no random numbers".to_owned()))?;
        let (random, session_id) = fresh.split_at(32);
        let is_tls13 = offer.versions.as_ref().is_some_and(|versions| versions.contains(&0x0304));
        let material = Material {
            random: random.try_into().unwrap_or_default(),
            session_id: if is_tls13 { session_id } else { &[] },
            share: &share,
        };
        // Of the versions of a record's header, old servers know 3.0 and 3.1 (RFC 8446 section 5.1).
        Ok(records(&offer.message(&material), 0x4000, offer.legacy_version.min(0x0301)))
    }
}

/// Resolvers take their own time, and cannot be stopped.
fn look_up(host: &str, target: &Target, timeout: Duration) -> Result<Vec<SocketAddr>, ProbeError> {
    let (sender, receiver) = mpsc::channel();
    // RFC 6761 section 6.3: what ends so is this machine, though not every resolver knows. Clients do.
    let name = if host.ends_with(".localhost") { "localhost" } else { host };
    let name = (name.to_owned(), target.port);
    std::thread::spawn(move || sender.send(name.to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>)));
    match receiver.recv_timeout(timeout) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(ProbeError::NoAddress { target: host.to_owned() }),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(source)) => Err(ProbeError::LookUp { host: host.to_owned(), source }),
        Err(_) => Err(ProbeError::LookUpTimeout { host: host.to_owned(), timeout }),
    }
}

fn exchange(stream: &mut TcpStream, hello: &[u8], wanted: Wanted, deadline: Instant) -> Result<Flight, Refusal> {
    let mut reader = FlightReader::default();
    // A server may have closed after its answer, or spoken before we did: what it said counts.
    let written = set_timeouts(stream, deadline).and_then(|()| stream.write_all(hello));
    let mut buffer = [0; 16 * 1024];
    while !reader.has(wanted) {
        match set_timeouts(stream, deadline).and_then(|()| stream.read(&mut buffer)) {
            Ok(0) => {
                reader.end().map_err(Refusal::BadAnswer)?;
                break;
            }
            Ok(count) => reader.read(&buffer[..count]).map_err(Refusal::BadAnswer)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                reader.end().map_err(Refusal::BadAnswer)?;
                // Half a flight is still an answer to most questions.
                if reader.flight().hello.is_some() {
                    break;
                }
                return Err(refusal(written.err().as_ref().unwrap_or(&error)));
            }
        }
    }
    let flight = reader.into_flight();
    match (&flight.hello, flight.alert) {
        (_, Some(alert)) => Err(Refusal::Alert(alert)),
        (Some(_), None) => Ok(flight),
        (None, None) => Err(Refusal::Closed),
    }
}

/// In clear, which is allowed until keys are in use. As a fatal alert: a warning would leave a server of TLS 1.2 waiting.
fn leave(stream: &mut TcpStream, version: u16, deadline: Instant) {
    const FATAL: u8 = 2;
    const USER_CANCELED: u8 = 90;
    let [major, minor] = version.to_be_bytes();
    let goodbye = [0x15, major, minor, 0, 2, FATAL, USER_CANCELED];
    if stream.write_all(&goodbye).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        drain(stream, deadline.min(Instant::now() + LEAVE), |_| true);
    }
}

/// Reads until the other side closes: closing with bytes unread would reset the connection, and what we said last
/// could be lost.
pub(super) fn drain(stream: &mut TcpStream, deadline: Instant, mut take: impl FnMut(&[u8]) -> bool) {
    const MOST: usize = 64;
    let mut buffer = [0; 4096];
    for _ in 0..MOST {
        match set_timeouts(stream, deadline).and_then(|()| stream.read(&mut buffer)) {
            Ok(0) | Err(_) => return,
            Ok(count) if !take(&buffer[..count]) => return,
            Ok(_) => {}
        }
    }
}

/// What is left until the deadline; an error if nothing is.
pub(super) fn set_timeouts(stream: &TcpStream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}

/// What a broken connection means.
pub(super) fn refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Refusal::Silent,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Refusal::Reset,
        ErrorKind::UnexpectedEof => Refusal::Closed,
        _ => Refusal::Unreachable(words(error)),
    }
}

/// What an answer that is no TLS says, if that is why something else failed.
pub(super) fn bad_answer(bytes: &[u8]) -> Option<BadAnswer> {
    let mut reader = FlightReader::default();
    reader.read(bytes).and_then(|()| reader.end()).err()
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no connection in time".to_owned(),
        _ => error.to_string(),
    }
}
