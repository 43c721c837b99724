//! The access log: one line per request, written by a thread of its own.
//!
//! `worker ──Entry──▶ bounded channel ──▶ writer thread ──▶ output`
//!
//! A worker never waits for the log. What waits for the writer is bounded by lines and by bytes: a line that finds no
//! room is lost and counted (`handfast_access_log_dropped_total`), and once the output takes lines again the process's
//! own log says how many. A waiting line holds copies of what a client sent, cut to a length: a reference into the
//! connection's buffer would keep the whole buffer. Formatting happens on the writer thread, so a request pays for one
//! copy and one send. Everything that a client chose is escaped: no request can write a line of its own.

mod line;

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use http::Version;
use prometheus::IntCounter;
use tracing::warn;

use self::line::Line;
use crate::snapshot::{Address, BackendKey};

/// Lines that may wait for the writer, over all workers.
const CAPACITY: usize = 16 * 1024;

/// Bytes that waiting lines may hold, over all workers. Lines of usual length reach [`CAPACITY`] first.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

/// How often the process's own log says that lines were lost.
const LOSS_INTERVAL: Duration = Duration::from_secs(10);

/// The buffer is written out when it holds this much, or when no line is waiting.
const BATCH: usize = 64 * 1024;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line. Keys: `time` (RFC 3339, when the response ended), `client`, `host`, `method`, `path`,
    /// `query`, `protocol`, `status`, `bytes_in` and `bytes_out` (bodies only), `duration_seconds`, `upstream`
    /// (the last endpoint tried), `upstream_status`, `upstream_seconds` (until its response began), `request_id`,
    /// `tls_version`, `server_name`, `user_agent`, `referer`, `ingress` (`namespace/name`), `failure` (why no endpoint
    /// answered, as in `handfast_upstream_failures_total`), `backend`.
    /// Keys are always present; what is not known is `null`.
    Json,
    /// No access log.
    Off,
    /// The default format of ingress-nginx: nginx's combined format, then bytes of the request body, seconds,
    /// backend, `[]`, endpoint, bytes of the response body, seconds until the endpoint's response began, its
    /// status, and the request's id.
    Text,
}

/// A handle for writing lines. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    /// `None` for [`Format::Off`].
    lines: Option<SyncSender<Message>>,
    waiting_bytes: Arc<AtomicUsize>,
    dropped: IntCounter,
    clock: fn() -> SystemTime,
}

/// Owns the writer thread. Dropping it without [`Writer::finish`] leaves the thread to end with the last handle.
pub struct Writer {
    thread: Option<(SyncSender<Message>, JoinHandle<()>)>,
}

/// What is known about a request when its response has ended, beside [`Texts`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// When the response ended. [`AccessLog::now`] gives it.
    pub time: SystemTime,
    /// The client's address, after PROXY protocol and trusted proxies.
    pub client: IpAddr,
    /// The protocol version of the request.
    pub version: Version,
    /// The status sent, 101 for upgraded connections, 499 if the client left before any.
    pub status: u16,
    /// Bytes of the request body received.
    pub bytes_in: u64,
    /// Bytes of the response body handed to the connection.
    pub bytes_out: u64,
    /// From the request's head to the end of the response.
    pub duration: Duration,
    /// The endpoint tried last, with its answer if there was one.
    pub upstream: Option<UpstreamEntry>,
    /// Protocol version of TLS, if it was used.
    pub tls_version: Option<&'static str>,
    /// Namespace and name of the Ingress whose route was used.
    pub ingress: Option<(Arc<str>, Arc<str>)>,
    /// The backend of that route.
    pub backend: Option<BackendKey>,
    /// Why no endpoint answered, as in `handfast_upstream_failures_total`.
    pub failure: Option<&'static str>,
}

/// What the client chose. A line keeps a copy of each text, cut at 4 KiB (path, query) or 1 KiB (all others); what is
/// cut ends in `...(N more bytes)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'a> {
    /// `Host` or `:authority` as received.
    pub host: Option<&'a [u8]>,
    /// The method; `None` if the request could not be read.
    pub method: Option<&'a [u8]>,
    /// The path as received; `None` if the request could not be read.
    pub path: Option<&'a [u8]>,
    /// The query as received, without the question mark.
    pub query: Option<&'a [u8]>,
    /// `X-Request-ID` as sent to the endpoint.
    pub request_id: Option<&'a [u8]>,
    /// The server name of the handshake.
    pub server_name: Option<&'a [u8]>,
    /// `User-Agent` as received.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer` as received.
    pub referer: Option<&'a [u8]>,
}

/// What one endpoint did.
#[derive(Clone, Debug)]
pub struct UpstreamEntry {
    /// Where the request went.
    pub address: Address,
    /// Its status, if a response began.
    pub status: Option<u16>,
    /// Until the response, or the failure.
    pub duration: Duration,
}

enum Message {
    Line(Box<Line>),
    /// Write everything that came before, then end.
    Stop,
}

impl AccessLog {
    /// Starts the writer. `clock` is the only source of time; `dropped` counts lines that were lost.
    pub fn start(
        format: Format,
        output: impl Write + Send + 'static,
        clock: fn() -> SystemTime,
        dropped: IntCounter,
    ) -> std::io::Result<(Self, Writer)> {
        if format == Format::Off {
            return Ok((Self::silent(dropped, clock), Writer { thread: None }));
        }
        let (lines, waiting) = sync_channel(CAPACITY);
        let losses = Losses { dropped: dropped.clone(), told: dropped.get(), told_at: None, clock };
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(format, output, &waiting, losses))?;
        let writer = Writer { thread: Some((lines.clone(), thread)) };
        Ok((Self { lines: Some(lines), ..Self::silent(dropped, clock) }, writer))
    }

    /// A log that writes nothing.
    pub fn off() -> Self {
        let dropped = IntCounter::new("off", "never counts").expect("invariant: the name is valid");
        Self::silent(dropped, || SystemTime::UNIX_EPOCH)
    }

    fn silent(dropped: IntCounter, clock: fn() -> SystemTime) -> Self {
        Self { lines: None, waiting_bytes: Arc::default(), dropped, clock }
    }

    /// False if entries would not be written, so need not be made.
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// The time for [`Entry::time`].
    pub fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// Hands a line to the writer, or counts it as lost. Never waits.
    pub fn write(&self, entry: Entry, texts: &Texts<'_>) {
        let Some(lines) = &self.lines else { return };
        let line = Line::copy(entry, texts)
            .reserve(&self.waiting_bytes, MAX_WAITING_BYTES)
            .map(|line| lines.try_send(Message::Line(Box::new(line))));
        match line {
            Some(Ok(())) => {}
            None | Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) => self.dropped.inc(),
        }
    }

    /// Bytes that waiting lines hold now.
    #[cfg(test)]
    fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }
}

/// Room for one waiting line, given back when dropped.
struct Room {
    waiting_bytes: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    /// `None` if `limit` would be passed. Relaxed: the sum guards memory, nothing is read by its order.
    fn take(waiting_bytes: &Arc<AtomicUsize>, bytes: usize, limit: usize) -> Option<Self> {
        let room = Self { waiting_bytes: waiting_bytes.clone(), bytes };
        let before = waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A refusal gives its bytes back by dropping the room.
        (before + bytes <= limit).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Writer {
    /// Writes and flushes every line that was handed over before this call, and ends the thread. Later lines are
    /// counted as lost. Gives up after `patience`: a pipe that nobody reads must not keep the process alive.
    pub fn finish(mut self, patience: Duration) {
        let Some((lines, thread)) = self.thread.take() else { return };
        let deadline = Instant::now() + patience;
        let mut told = false;
        while !thread.is_finished() && Instant::now() < deadline {
            told = told || lines.try_send(Message::Stop).is_ok();
            // Woken by nobody: a short look again and again costs less than a second channel.
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// Says in the process's own log how many lines were lost.
struct Losses {
    dropped: IntCounter,
    /// How many of them have been told.
    told: u64,
    told_at: Option<SystemTime>,
    clock: fn() -> SystemTime,
}

impl Losses {
    /// Called when lines have been written, so the log is behind but alive. Tells at most once per [`LOSS_INTERVAL`],
    /// and always at the end.
    fn tell(&mut self, at_the_end: bool) {
        let dropped = self.dropped.get();
        if dropped == self.told {
            return;
        }
        let now = (self.clock)();
        let waited = self.told_at.is_none_or(|at| now.duration_since(at).is_ok_and(|age| age >= LOSS_INTERVAL));
        if waited || at_the_end {
            warn!(
                lines = dropped - self.told,
                "Lines of the access log were dropped, because the reader of standard output is too slow."
            );
            (self.told, self.told_at) = (dropped, Some(now));
        }
    }
}

fn write_lines(format: Format, mut output: impl Write, waiting: &Receiver<Message>, mut losses: Losses) {
    let mut batch = String::new();
    let mut running = true;
    while running {
        let mut lines = 0;
        let mut next = waiting.recv().ok();
        // Ends when nothing is waiting, the batch is full, or the log is to stop.
        loop {
            match next {
                Some(Message::Line(line)) => {
                    match format {
                        Format::Json => line.write_json(&mut batch),
                        Format::Off => {}
                        Format::Text => line.write_text(&mut batch),
                    }
                    lines += 1;
                }
                Some(Message::Stop) | None => {
                    running = false;
                    break;
                }
            }
            if batch.len() >= BATCH {
                break;
            }
            match waiting.try_recv() {
                Ok(message) => next = Some(message),
                Err(_) => break,
            }
        }
        // A log that cannot be written (full disk, closed pipe) is not a reason to stop serving.
        if output.write_all(batch.as_bytes()).and_then(|()| output.flush()).is_err() {
            losses.dropped.inc_by(lines);
        }
        batch.clear();
        losses.tell(!running);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::snapshot::PortKey;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn clock() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_450_968_123)
    }

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "test").unwrap()
    }

    fn entry() -> Entry {
        Entry {
            time: clock(),
            client: "192.0.2.7".parse().unwrap(),
            version: Version::HTTP_2,
            status: 200,
            bytes_in: 3,
            bytes_out: 1234,
            duration: Duration::from_micros(12_345),
            upstream: Some(UpstreamEntry {
                address: Address::Ip("10.0.0.1:8080".parse().unwrap()),
                status: Some(200),
                duration: Duration::from_millis(10),
            }),
            tls_version: Some("1.3"),
            failure: None,
            ingress: Some(("default".into(), "shop".into())),
            backend: Some(BackendKey {
                namespace: "default".into(),
                service: "cart".into(),
                port: PortKey::Name("http".into()),
            }),
        }
    }

    const TEXTS: Texts<'static> = Texts {
        host: Some(b"shop.example.com"),
        method: Some(b"GET"),
        path: Some(b"/cart"),
        query: Some(b"item=1"),
        request_id: Some(b"0123abcd"),
        server_name: Some(b"shop.example.com"),
        user_agent: Some(b"evil\" \\ \t\xff"),
        referer: None,
    };

    fn written(format: Format, entry: Entry, texts: &Texts<'_>) -> String {
        let output = Output::default();
        let (log, writer) = AccessLog::start(format, output.clone(), clock, counter()).unwrap();
        log.write(entry, texts);
        writer.finish(Duration::from_secs(60));
        output.text()
    }

    #[test]
    fn text_lines_are_those_of_ingress_nginx_and_cannot_be_forged() {
        assert_eq!(
            written(Format::Text, entry(), &TEXTS),
            "192.0.2.7 - - [23/Nov/2026:16:22:48 +0000] \"GET /cart?item=1 HTTP/2.0\" 200 1234 \"-\" \
             \"evil\\x22 \\x5C \\x09\\xFF\" 3 0.012 [default-cart-http] [] 10.0.0.1:8080 1234 0.010 200 0123abcd\n"
        );
        let unread = Entry { upstream: None, backend: None, ..entry() };
        let texts = Texts { method: None, path: None, query: None, request_id: None, ..TEXTS };
        assert!(written(Format::Text, unread, &texts).contains(" \"\" 200 1234 "));
    }

    #[test]
    fn json_lines_parse_and_have_the_documented_keys() {
        let line = written(Format::Json, entry(), &TEXTS);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], "2026-11-23T16:22:48.123Z");
        assert_eq!(value["user_agent"], "evil\" \\ \t\u{fffd}");
        assert_eq!(value["query"], "item=1");
        assert_eq!(value["upstream"], "10.0.0.1:8080");
        assert_eq!(value["duration_seconds"], 0.012345);
        assert_eq!(value["ingress"], "default/shop");
        assert_eq!(value["backend"], "default/cart:http");
        assert!(value["referer"].is_null());
        let unread = Entry { upstream: None, tls_version: None, ..entry() };
        let texts = Texts { server_name: None, ..TEXTS };
        let other: serde_json::Value = serde_json::from_str(&written(Format::Json, unread, &texts)).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&value), keys(&other), "every line has every key");
    }

    #[test]
    fn finishing_writes_what_was_handed_over_and_later_lines_count_as_lost() {
        let output = Output::default();
        let dropped = counter();
        let (log, writer) = AccessLog::start(Format::Json, output.clone(), clock, dropped.clone()).unwrap();
        for _ in 0..1000 {
            log.write(entry(), &TEXTS);
        }
        writer.finish(Duration::from_secs(60));
        assert_eq!(output.text().lines().count(), 1000);
        assert_eq!(dropped.get(), 0);
        log.write(entry(), &TEXTS);
        assert_eq!(dropped.get(), 1);
    }

    /// An output that takes nothing until the test lets go.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_cannot_keep_up_loses_lines_and_counts_them() {
        let (release, stuck) = std::sync::mpsc::channel();
        let dropped = counter();
        let (log, writer) = AccessLog::start(Format::Text, Stuck(stuck), clock, dropped.clone()).unwrap();
        // The channel, and what one batch can have taken from it.
        let most = CAPACITY + BATCH / 100;
        for _ in 0..most + 10 {
            log.write(entry(), &TEXTS);
        }
        assert!(dropped.get() >= 10, "{}", dropped.get());
        drop(release);
        writer.finish(Duration::from_secs(60));
    }

    #[test]
    fn lines_that_wait_are_bounded_by_bytes_however_large_the_heads_are() {
        let (release, stuck) = std::sync::mpsc::channel();
        let dropped = counter();
        let (log, writer) = AccessLog::start(Format::Json, Stuck(stuck), clock, dropped.clone()).unwrap();
        let huge = vec![b'x'; 60 * 1024];
        let all = Some(huge.as_slice());
        let texts = Texts { host: all, path: all, query: all, user_agent: all, referer: all, ..TEXTS };
        for _ in 0..CAPACITY {
            log.write(entry(), &texts);
            assert!(log.waiting_bytes() <= MAX_WAITING_BYTES);
        }
        // 5 texts of 60 KiB each are kept as 11 KiB, so 16 MiB are full long before the channel is.
        assert!(log.waiting_bytes() > MAX_WAITING_BYTES - 16 * 1024, "{}", log.waiting_bytes());
        assert!(dropped.get() > (CAPACITY - MAX_WAITING_BYTES / (11 * 1024)) as u64 - 10, "{}", dropped.get());
        drop(release);
        writer.finish(Duration::from_secs(60));
        assert_eq!(log.waiting_bytes(), 0, "the room is given back");
    }

    #[test]
    fn long_texts_are_cut_and_say_how_much_is_missing() {
        let path = vec![b'p'; 5000];
        let agent = vec![b'a'; 1025];
        let texts = Texts { path: Some(&path), user_agent: Some(&agent), ..TEXTS };
        let line: serde_json::Value = serde_json::from_str(&written(Format::Json, entry(), &texts)).unwrap();
        assert_eq!(line["path"], format!("{}...(904 more bytes)", "p".repeat(4096)));
        assert_eq!(line["user_agent"], format!("{}...(1 more bytes)", "a".repeat(1024)));
        let exact = Texts { user_agent: Some(&agent[..1024]), ..TEXTS };
        let line: serde_json::Value = serde_json::from_str(&written(Format::Json, entry(), &exact)).unwrap();
        assert_eq!(line["user_agent"], "a".repeat(1024));
    }

    #[test]
    fn losses_are_told_once_in_a_while_and_at_the_end() {
        let dropped = counter();
        let mut losses = Losses { dropped: dropped.clone(), told: 0, told_at: None, clock };
        losses.tell(false);
        assert_eq!((losses.told, losses.told_at), (0, None), "nothing was lost");
        dropped.inc_by(3);
        losses.tell(false);
        assert_eq!((losses.told, losses.told_at), (3, Some(clock())));
        dropped.inc_by(4);
        losses.tell(false);
        assert_eq!(losses.told, 3, "the clock stands still: too early");
        losses.tell(true);
        assert_eq!(losses.told, 7);
    }

    #[test]
    fn a_log_that_is_off_wants_no_entries() {
        let (log, writer) = AccessLog::start(Format::Off, Output::default(), clock, counter()).unwrap();
        assert!(!log.is_on());
        writer.finish(Duration::from_secs(60));
    }
}
