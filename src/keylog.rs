//! The key log: TLS secrets of chosen connections, so that Wireshark can decrypt a capture of them.
//!
//! ```text
//! POST /api/keylog ──select──▶ selections (8 at most, 10 minutes at most each)
//! handshake ──config_for──▶ covered? ──▶ ServerConfig with a tap ──lines──▶ bounded channel ──▶ thread ──▶ FILE
//! ```
//!
//! Off, unless `--allow-keylog FILE` names the file; a request chooses connections, never the file. A selection is for one
//! virtual host or one client address, and ends by itself; asked for again, it goes on for longer. Its beginning and its end
//! are lines of the log, with who asked and how many connections were written.
//!
//! A connection that no selection covers pays for one atomic load. One that is covered gets a configuration of its own
//! that writes each secret as a line (the `SSLKEYLOGFILE` format), and takes and gives no session tickets: in TLS 1.2 a
//! resumed session has the secret of the one before, which nobody may have selected, and so has the one after.
//! Workers do not write: a full channel loses lines, which are counted. An error of the file ends all selections, and what
//! waits to be written for them is dropped; connections of which nothing was written do not count.

mod file;

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::{error, warn};

pub use self::file::KeyLogError;
use crate::clock;
use crate::snapshot::{HostName, canonical_ip};
use crate::telemetry::AUDIT;

/// Selections at a time.
pub const MAX_SELECTIONS: usize = 8;

/// Lines that may wait for the writer: those of about 800 handshakes.
const CAPACITY: usize = 4096;

/// How long the writer waits at a time when nothing is selected.
const IDLE: Duration = Duration::from_secs(3600);

/// A handle on the key log; the default one is off. Cheap to clone.
#[derive(Clone, Default)]
pub struct KeyLog(Option<Arc<Shared>>);

/// Owns the thread that writes.
pub struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// Which connections a selection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Those from this address, as PROXY protocol reports it where it is used.
    Client(IpAddr),
    /// Those that are counted under this virtual host.
    Host(HostName),
}

/// One selection of connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Selected {
    /// The virtual host, if it is for one.
    pub host: Option<String>,
    /// The client's address, if it is for one.
    pub client: Option<IpAddr>,
    /// When it ends, RFC 3339 in UTC.
    pub until: String,
    /// Connections of which secrets were written.
    pub connections: u64,
    /// Secrets that were lost because the file could not keep up, or failed.
    pub lines_lost: u64,
}

/// Why nothing was selected.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSelected {
    /// The flag was not given.
    #[error("the key log is not allowed: start with --allow-keylog FILE (or HANDFAST_ALLOW_KEYLOG)")]
    NotAllowed,
    /// There are as many as may be.
    #[error("{MAX_SELECTIONS} selections are active, and more are not allowed: wait, or end some with DELETE")]
    TooMany,
}

impl KeyLog {
    /// Opens the file and starts the thread that writes it.
    pub fn start(path: &Path) -> Result<(Self, Writer), KeyLogError> {
        let file = file::open(path)?;
        Self::start_with(path.to_owned(), file, Instant::now).map_err(KeyLogError::Thread)
    }

    fn start_with(
        file: PathBuf,
        output: impl Write + Send + 'static,
        now: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> io::Result<(Self, Writer)> {
        let (messages, waiting) = sync_channel(CAPACITY);
        let shared = Arc::new(Shared {
            file,
            now: Box::new(now),
            selected: AtomicUsize::new(0),
            selections: Mutex::default(),
            messages,
            connections: AtomicU64::new(0),
        });
        let writing = shared.clone();
        let body = move || write_lines(&writing, output, &waiting);
        let thread = std::thread::Builder::new().name("keylog".into()).spawn(body)?;
        Ok((Self(Some(shared.clone())), Writer { shared, thread }))
    }

    /// The configuration for one handshake: `config`, or a copy of it that writes secrets if a selection covers the
    /// virtual host or the client.
    pub fn config_for(&self, config: &Arc<ServerConfig>, host: Option<&HostName>, client: IpAddr) -> Arc<ServerConfig> {
        let Some(shared) = self.0.as_ref().filter(|shared| shared.selected.load(Ordering::Acquire) > 0) else {
            return config.clone();
        };
        let now = (shared.now)();
        let covers = |selection: &&Arc<Selection>| selection.is_on(now) && selection.target.covers(host, client);
        let selections: Vec<Arc<Selection>> = shared.selections().iter().filter(covers).cloned().collect();
        if selections.is_empty() {
            return config.clone();
        }
        let mut tapped = ServerConfig::clone(config);
        let connection = Arc::new(Connection { selections, account: Mutex::default() });
        tapped.key_log = Arc::new(Tap { shared: shared.clone(), connection });
        tapped.ticketer = Arc::new(NoTickets);
        tapped.session_storage = Arc::new(NoServerSessionStorage {});
        tapped.send_tls13_tickets = 0;
        Arc::new(tapped)
    }

    /// Begins a selection that ends after `length`; one of the same target that is on goes on until then instead. `peer` is
    /// who asks, for the log.
    pub fn select(&self, target: Target, length: Duration, peer: SocketAddr) -> Result<Selected, NotSelected> {
        let Some(shared) = &self.0 else { return Err(NotSelected::NotAllowed) };
        let now = (shared.now)();
        let (ends, until) = (now + length, clock::system_time() + length);
        let mut selections = shared.selections();
        let running = selections.iter().find(|one| one.target == target && one.is_on(now)).cloned();
        let is_extended = running.is_some();
        let selection = match running {
            Some(running) => {
                running.extend(ends, until);
                running
            }
            None if selections.len() >= MAX_SELECTIONS => return Err(NotSelected::TooMany),
            None => {
                let selection = Arc::new(Selection::new(target, ends, until));
                selections.push(selection.clone());
                selection
            }
        };
        shared.selected.store(selections.len(), Ordering::Release);
        drop(selections);
        // It has to wait for another end from now on. If the channel is full, it looks soon anyway.
        let _ = shared.messages.try_send(Message::Wake);
        let selected = selection.status();
        macro_rules! say {
            ($text:literal) => {
                warn!(
                    target: AUDIT,
                    %peer,
                    host = selected.host.as_deref(),
                    client = selected.client.map(tracing::field::display),
                    until = %selected.until,
                    file = %shared.file.display(),
                    $text
                )
            };
        }
        if is_extended {
            say!("TLS secrets of these connections are written for longer.");
        } else {
            say!("TLS secrets are written from now on. They decrypt a capture of these connections.");
        }
        Ok(selected)
    }

    /// Ends the selections of `target`, or all, and says which those were.
    pub fn end(&self, target: Option<&Target>, peer: SocketAddr) -> Result<Vec<Selected>, NotSelected> {
        let Some(shared) = &self.0 else { return Err(NotSelected::NotAllowed) };
        Ok(shared.end(|selection| target.is_none_or(|target| *target == selection.target), &End::Asked(peer)))
    }

    /// What is selected now.
    pub fn selected(&self) -> Result<Vec<Selected>, NotSelected> {
        let Some(shared) = &self.0 else { return Err(NotSelected::NotAllowed) };
        let now = (shared.now)();
        Ok(shared.selections().iter().filter(|selection| selection.is_on(now)).map(|one| one.status()).collect())
    }

    /// The file that secrets are written to.
    pub fn file(&self) -> Result<&Path, NotSelected> {
        self.0.as_ref().map(|shared| shared.file.as_path()).ok_or(NotSelected::NotAllowed)
    }

    /// Connections of which secrets were written since the start.
    pub fn connections(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.connections.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyLog").field(&self.file().ok()).finish()
    }
}

impl Writer {
    /// Ends all selections, writes what waits, and ends the thread. Gives up after `patience`: a disk that hangs must not
    /// keep the process alive.
    pub fn finish(self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut told = false;
        while !self.thread.is_finished() && Instant::now() < deadline {
            told = told || self.shared.messages.try_send(Message::Stop).is_ok();
            // Woken by nobody: a short look again and again costs less than a second channel.
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

struct Shared {
    file: PathBuf,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
    /// The length of `selections`, to be read without their lock.
    selected: AtomicUsize,
    selections: Mutex<Vec<Arc<Selection>>>,
    messages: SyncSender<Message>,
    connections: AtomicU64,
}

struct Selection {
    target: Target,
    /// When it ends; the same for people.
    end: Mutex<(Instant, SystemTime)>,
    /// It has been ended before its time.
    over: AtomicBool,
    /// It has been ended because the file failed.
    failed: AtomicBool,
    connections: AtomicU64,
    lines_lost: AtomicU64,
}

/// Why a selection ends.
enum End {
    Asked(SocketAddr),
    Stop,
    Time,
    WriteError,
}

enum Message {
    /// One line with its end, which holds a secret, and whose it is.
    Line(String, Arc<Connection>),
    /// Write everything that came before, then end.
    Stop,
    /// A selection was added.
    Wake,
}

impl Target {
    fn covers(&self, host: Option<&HostName>, client: IpAddr) -> bool {
        match self {
            Target::Client(selected) => *selected == canonical_ip(client),
            Target::Host(selected) => host == Some(selected),
        }
    }
}

impl Selection {
    fn new(target: Target, ends: Instant, until: SystemTime) -> Self {
        Self {
            target,
            end: Mutex::new((ends, until)),
            over: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            lines_lost: AtomicU64::new(0),
        }
    }

    /// When it ends by itself, by both clocks.
    fn end(&self) -> (Instant, SystemTime) {
        *lock(&self.end)
    }

    /// Lets it go on until then, if that is later.
    fn extend(&self, ends: Instant, until: SystemTime) {
        let mut end = lock(&self.end);
        if end.0 < ends {
            *end = (ends, until);
        }
    }

    /// Asked for each line: a handshake may take longer than the selection.
    fn is_on(&self, now: Instant) -> bool {
        now < self.end().0 && !self.over.load(Ordering::Acquire)
    }

    fn status(&self) -> Selected {
        let (host, client) = match &self.target {
            Target::Client(client) => (None, Some(*client)),
            Target::Host(host) => (Some(host.label().to_owned()), None),
        };
        Selected {
            host,
            client,
            until: humantime::format_rfc3339_seconds(self.end().1).to_string(),
            connections: self.connections.load(Ordering::Relaxed),
            lines_lost: self.lines_lost.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn selections(&self) -> MutexGuard<'_, Vec<Arc<Selection>>> {
        lock(&self.selections)
    }

    /// Takes selections off the list and says in the log that they have ended.
    fn end(&self, which: impl Fn(&Selection) -> bool, end: &End) -> Vec<Selected> {
        say_ended(&self.take(which), end)
    }

    /// Takes selections off the list: nothing new is written for them.
    fn take(&self, which: impl Fn(&Selection) -> bool) -> Vec<Arc<Selection>> {
        let mut selections = self.selections();
        let (ended, left) = std::mem::take(&mut *selections).into_iter().partition::<Vec<_>, _>(|one| which(one));
        *selections = left;
        self.selected.store(selections.len(), Ordering::Release);
        ended.iter().for_each(|selection| selection.over.store(true, Ordering::Release));
        ended
    }
}

/// Says in the log that selections have ended.
fn say_ended(ended: &[Arc<Selection>], end: &End) -> Vec<Selected> {
    let ended: Vec<Selected> = ended.iter().map(|selection| selection.status()).collect();
    for selected in &ended {
        let (cause, peer) = match end {
            End::Asked(peer) => ("asked to", Some(peer)),
            End::Stop => ("the process ends", None),
            End::Time => ("its time is over", None),
            End::WriteError => ("the file cannot be written", None),
        };
        warn!(
            target: AUDIT,
            cause,
            peer = peer.map(tracing::field::display),
            host = selected.host.as_deref(),
            client = selected.client.map(tracing::field::display),
            connections = selected.connections,
            lines_lost = selected.lines_lost,
            "TLS secrets of these connections are no longer written."
        );
    }
    ended
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they hold is whole between any two statements that change it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread: writes lines, and ends selections whose time is over.
fn write_lines(shared: &Shared, mut output: impl Write, waiting: &Receiver<Message>) {
    let (mut torn, mut stop) = (false, false);
    while !stop {
        let now = (shared.now)();
        let first = shared.selections().iter().map(|selection| selection.end().0).min();
        let wait = first.map_or(IDLE, |end| end.saturating_duration_since(now));
        match waiting.recv_timeout(wait) {
            // It was on its way when the file failed.
            Ok(Message::Line(_, connection)) if connection.has_failed() => connection.settle(shared, false),
            Ok(Message::Line(line, connection)) => {
                // After half a line the next one begins on a line of its own.
                let line = if torn { format!("\n{line}") } else { line };
                let written = output.write_all(line.as_bytes()).and_then(|()| output.flush());
                torn = written.is_err();
                connection.settle(shared, !torn);
                if let Err(error) = written {
                    let ended = shared.take(|_| true);
                    ended.iter().for_each(|selection| selection.failed.store(true, Ordering::Release));
                    stop = drop_waiting(shared, waiting);
                    if !ended.is_empty() {
                        error!(file = %shared.file.display(), %error, "Cannot write the key log.");
                    }
                    say_ended(&ended, &End::WriteError);
                }
            }
            Ok(Message::Stop) => break,
            // The time, or a selection that may end before the time that was waited for.
            Ok(Message::Wake) | Err(_) => {}
        }
        let now = (shared.now)();
        shared.end(|selection| now >= selection.end().0, &End::Time);
    }
    shared.end(|_| true, &End::Stop);
}

/// Drops the lines of selections that have failed, so that what is said of their end is true; says whether to stop.
fn drop_waiting(shared: &Shared, waiting: &Receiver<Message>) -> bool {
    let mut stop = false;
    for message in waiting.try_iter() {
        match message {
            Message::Line(_, connection) => connection.settle(shared, false),
            Message::Stop => stop = true,
            Message::Wake => {}
        }
    }
    stop
}

/// A connection of which secrets are written.
struct Connection {
    /// Those that cover it.
    selections: Vec<Arc<Selection>>,
    account: Mutex<Account>,
}

/// What became of the lines of a connection.
#[derive(Default)]
struct Account {
    /// Selections that it counts for: those that were on at its first line.
    counted: Vec<Arc<Selection>>,
    /// Lines that wait for the writer.
    waiting: usize,
    /// At least one has been written.
    written: bool,
}

impl Connection {
    /// Hands a line to the writer. The connection counts from now on, and not only when it is written: whoever asks
    /// while lines wait is told of it.
    fn send(self: &Arc<Self>, shared: &Shared, line: String, on: &[Arc<Selection>]) {
        let mut account = lock(&self.account);
        match shared.messages.try_send(Message::Line(line, self.clone())) {
            Ok(()) => {
                if account.waiting == 0 && !account.written {
                    account.counted = on.to_vec();
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    on.iter().for_each(|selection| _ = selection.connections.fetch_add(1, Ordering::Relaxed));
                }
                account.waiting += 1;
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                on.iter().for_each(|selection| _ = selection.lines_lost.fetch_add(1, Ordering::Relaxed));
            }
        }
    }

    /// A line that waited has been written, or lost. A connection that has lost all counts no longer.
    fn settle(&self, shared: &Shared, is_written: bool) {
        let mut account = lock(&self.account);
        account.waiting -= 1;
        account.written |= is_written;
        if !is_written {
            account.counted.iter().for_each(|one| _ = one.lines_lost.fetch_add(1, Ordering::Relaxed));
        }
        if account.waiting == 0 && !account.written {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            account.counted.drain(..).for_each(|one| _ = one.connections.fetch_sub(1, Ordering::Relaxed));
        }
    }

    /// All that it counts for has ended because the file failed.
    fn has_failed(&self) -> bool {
        lock(&self.account).counted.iter().all(|selection| selection.failed.load(Ordering::Acquire))
    }
}

/// Takes the secrets of one connection.
struct Tap {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl rustls::KeyLog for Tap {
    fn will_log(&self, _: &str) -> bool {
        let now = (self.shared.now)();
        self.connection.selections.iter().any(|selection| selection.is_on(now))
    }

    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let now = (self.shared.now)();
        let selections = self.connection.selections.iter();
        let on: Vec<Arc<Selection>> = selections.filter(|selection| selection.is_on(now)).cloned().collect();
        if on.is_empty() {
            return;
        }
        let mut line = String::with_capacity(label.len() + 2 * (client_random.len() + secret.len()) + 3);
        line.push_str(label);
        for bytes in [client_random, secret] {
            line.push(' ');
            for byte in bytes {
                let _ = write!(line, "{byte:02x}");
            }
        }
        line.push('\n');
        self.connection.send(&self.shared, line, &on);
    }
}

/// Gives no tickets and takes none.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(test)]
mod tests;
