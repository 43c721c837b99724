//! The access log: one line per request, written by a thread of its own.
//!
//! `worker ──Entry──▶ bounded channel ──▶ writer thread ──▶ output`
//!
//! A worker never waits for the log: when the channel is full the line is lost and counted
//! (`handfast_access_log_dropped_total`). Formatting happens on the writer thread, so a request pays for a few
//! reference counts and one send. Everything that a client chose is escaped: no request can write a line of its own.

use std::fmt::Write as _;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Version};
use prometheus::IntCounter;

use crate::snapshot::{Address, BackendKey};

/// Lines that may wait for the writer, over all workers.
const CAPACITY: usize = 16 * 1024;

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
    dropped: IntCounter,
    clock: fn() -> SystemTime,
}

/// Owns the writer thread. Dropping it without [`Writer::finish`] leaves the thread to end with the last handle.
pub struct Writer {
    thread: Option<(SyncSender<Message>, JoinHandle<()>)>,
}

/// What is known about a request when its response has ended.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When the response ended. [`AccessLog::now`] gives it.
    pub time: SystemTime,
    /// The client's address, after PROXY protocol and trusted proxies.
    pub client: IpAddr,
    /// `Host` or `:authority` as received.
    pub host: Option<HeaderValue>,
    /// The method; `None` if the request could not be read.
    pub method: Option<Method>,
    /// The target as received.
    pub target: Option<PathAndQuery>,
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
    /// `X-Request-ID` as sent to the endpoint.
    pub request_id: Option<HeaderValue>,
    /// Protocol version of TLS, if it was used.
    pub tls_version: Option<&'static str>,
    /// The server name of the handshake.
    pub server_name: Option<Arc<str>>,
    /// `User-Agent` as received.
    pub user_agent: Option<HeaderValue>,
    /// `Referer` as received.
    pub referer: Option<HeaderValue>,
    /// Namespace and name of the Ingress whose route was used.
    pub ingress: Option<(Arc<str>, Arc<str>)>,
    /// The backend of that route.
    pub backend: Option<BackendKey>,
    /// Why no endpoint answered, as in `handfast_upstream_failures_total`.
    pub failure: Option<&'static str>,
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
    Line(Box<Entry>),
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
            return Ok((Self { lines: None, dropped, clock }, Writer { thread: None }));
        }
        let (lines, waiting) = sync_channel(CAPACITY);
        let lost = dropped.clone();
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(format, output, &waiting, &lost))?;
        let writer = Writer { thread: Some((lines.clone(), thread)) };
        Ok((Self { lines: Some(lines), dropped, clock }, writer))
    }

    /// A log that writes nothing.
    pub fn off() -> Self {
        let dropped = IntCounter::new("off", "never counts").expect("invariant: the name is valid");
        Self { lines: None, dropped, clock: || SystemTime::UNIX_EPOCH }
    }

    /// False if entries would not be written, so need not be made.
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// The time for [`Entry::time`].
    pub fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// Hands the entry to the writer, or counts it as lost. Never waits.
    pub fn write(&self, entry: Box<Entry>) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(Message::Line(entry)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped.inc(),
        }
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

fn write_lines(format: Format, mut output: impl Write, waiting: &Receiver<Message>, dropped: &IntCounter) {
    let mut batch = String::new();
    let mut running = true;
    while running {
        let mut lines = 0;
        let mut next = waiting.recv().ok();
        // Ends when nothing is waiting, the batch is full, or the log is to stop.
        loop {
            match next {
                Some(Message::Line(entry)) => {
                    match format {
                        Format::Json => json_line(&mut batch, &entry),
                        Format::Off => {}
                        Format::Text => text_line(&mut batch, &entry),
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
            dropped.inc_by(lines);
        }
        batch.clear();
    }
}

/// nginx's combined format with the additions of ingress-nginx.
fn text_line(out: &mut String, entry: &Entry) {
    let _ = write!(out, "{} - - [{}] \"", entry.client, nginx_time(entry.time));
    match (&entry.method, &entry.target) {
        (Some(method), Some(target)) => {
            escape_text(out, method.as_str().as_bytes());
            out.push(' ');
            escape_text(out, target.as_str().as_bytes());
            let _ = write!(out, " {}", protocol(entry.version));
        }
        (Some(method), None) => {
            escape_text(out, method.as_str().as_bytes());
            let _ = write!(out, " - {}", protocol(entry.version));
        }
        (None, _) => {}
    }
    let _ = write!(out, "\" {} {} \"", entry.status, entry.bytes_out);
    escape_text(out, bytes_or_dash(entry.referer.as_ref()));
    out.push_str("\" \"");
    escape_text(out, bytes_or_dash(entry.user_agent.as_ref()));
    let _ = write!(out, "\" {} {:.3} [", entry.bytes_in, entry.duration.as_secs_f64());
    if let Some(key) = &entry.backend {
        let _ = write!(out, "{}-{}-{}", key.namespace, key.service, key.port);
    }
    out.push_str("] [] ");
    match &entry.upstream {
        Some(upstream) => {
            let _ = write!(out, "{} {} {:.3} ", upstream.address, entry.bytes_out, upstream.duration.as_secs_f64());
            match upstream.status {
                Some(status) => {
                    let _ = write!(out, "{status} ");
                }
                None => out.push_str("- "),
            }
        }
        None => out.push_str("- - - - "),
    }
    escape_text(out, bytes_or_dash(entry.request_id.as_ref()));
    out.push('\n');
}

/// One JSON object. Keys are documented at [`Format::Json`].
fn json_line(out: &mut String, entry: &Entry) {
    let _ = write!(out, "{{\"time\":\"{}\"", humantime::format_rfc3339_millis(entry.time));
    let _ = write!(out, ",\"client\":\"{}\"", entry.client);
    json_bytes(out, "host", entry.host.as_ref().map(HeaderValue::as_bytes));
    json_bytes(out, "method", entry.method.as_ref().map(|method| method.as_str().as_bytes()));
    json_bytes(out, "path", entry.target.as_ref().map(|target| target.path().as_bytes()));
    json_bytes(out, "query", entry.target.as_ref().and_then(PathAndQuery::query).map(str::as_bytes));
    let _ = write!(out, ",\"protocol\":\"{}\",\"status\":{}", protocol(entry.version), entry.status);
    let _ = write!(out, ",\"bytes_in\":{},\"bytes_out\":{}", entry.bytes_in, entry.bytes_out);
    let _ = write!(out, ",\"duration_seconds\":{:.6}", entry.duration.as_secs_f64());
    match &entry.upstream {
        Some(upstream) => {
            json_bytes(out, "upstream", Some(upstream.address.to_string().as_bytes()));
            match upstream.status {
                Some(status) => {
                    let _ = write!(out, ",\"upstream_status\":{status}");
                }
                None => out.push_str(",\"upstream_status\":null"),
            }
            let _ = write!(out, ",\"upstream_seconds\":{:.6}", upstream.duration.as_secs_f64());
        }
        None => out.push_str(",\"upstream\":null,\"upstream_status\":null,\"upstream_seconds\":null"),
    }
    json_bytes(out, "request_id", entry.request_id.as_ref().map(HeaderValue::as_bytes));
    json_bytes(out, "tls_version", entry.tls_version.map(str::as_bytes));
    json_bytes(out, "server_name", entry.server_name.as_deref().map(str::as_bytes));
    json_bytes(out, "user_agent", entry.user_agent.as_ref().map(HeaderValue::as_bytes));
    json_bytes(out, "referer", entry.referer.as_ref().map(HeaderValue::as_bytes));
    let ingress = entry.ingress.as_ref().map(|(namespace, name)| format!("{namespace}/{name}"));
    json_bytes(out, "ingress", ingress.as_deref().map(str::as_bytes));
    json_bytes(out, "failure", entry.failure.map(str::as_bytes));
    let backend = entry.backend.as_ref().map(BackendKey::to_string);
    json_bytes(out, "backend", backend.as_deref().map(str::as_bytes));
    out.push_str("}\n");
}

/// `,"key":"value"` or `,"key":null`. Bytes that are not UTF-8 become U+FFFD.
fn json_bytes(out: &mut String, key: &str, value: Option<&[u8]>) {
    let _ = write!(out, ",\"{key}\":");
    let Some(value) = value else {
        out.push_str("null");
        return;
    };
    out.push('"');
    for character in String::from_utf8_lossy(value).chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// As nginx escapes variables: quotes, backslashes, control characters and everything beyond ASCII as `\xHH`.
fn escape_text(out: &mut String, value: &[u8]) {
    for byte in value {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            plain => out.push(char::from(*plain)),
        }
    }
}

fn bytes_or_dash(value: Option<&HeaderValue>) -> &[u8] {
    value.map_or(b"-", HeaderValue::as_bytes)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        // The servers speak nothing else; `Version` is an open set.
        _ => "HTTP/1.1",
    }
}

/// `23/Nov/2026:16:22:48 +0000`
fn nginx_time(time: SystemTime) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // 2026-11-23T16:22:48Z
    let utc = humantime::format_rfc3339_seconds(time).to_string();
    let part = |range: std::ops::Range<usize>| utc.get(range).unwrap_or("-");
    let month = part(5..7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    format!("{}/{}/{}:{} +0000", part(8..10), month.unwrap_or(&"-"), part(0..4), part(11..19))
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
            host: Some(HeaderValue::from_static("shop.example.com")),
            method: Some(Method::GET),
            target: Some(PathAndQuery::from_static("/cart?item=1")),
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
            request_id: Some(HeaderValue::from_static("0123abcd")),
            tls_version: Some("1.3"),
            server_name: Some("shop.example.com".into()),
            user_agent: Some(HeaderValue::from_bytes(b"evil\" \\ \t\xff").unwrap()),
            referer: None,
            failure: None,
            ingress: Some(("default".into(), "shop".into())),
            backend: Some(BackendKey {
                namespace: "default".into(),
                service: "cart".into(),
                port: PortKey::Name("http".into()),
            }),
        }
    }

    fn written(format: Format, entry: Entry) -> String {
        let output = Output::default();
        let (log, writer) = AccessLog::start(format, output.clone(), clock, counter()).unwrap();
        log.write(Box::new(entry));
        writer.finish(Duration::from_secs(60));
        output.text()
    }

    #[test]
    fn text_lines_are_those_of_ingress_nginx_and_cannot_be_forged() {
        assert_eq!(
            written(Format::Text, entry()),
            "192.0.2.7 - - [23/Nov/2026:16:22:48 +0000] \"GET /cart?item=1 HTTP/2.0\" 200 1234 \"-\" \
             \"evil\\x22 \\x5C \\x09\\xFF\" 3 0.012 [default-cart-http] [] 10.0.0.1:8080 1234 0.010 200 0123abcd\n"
        );
        let unread = Entry { method: None, target: None, upstream: None, request_id: None, backend: None, ..entry() };
        assert!(written(Format::Text, unread).contains(" \"\" 200 1234 "));
    }

    #[test]
    fn json_lines_parse_and_have_the_documented_keys() {
        let line = written(Format::Json, entry());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], "2026-11-23T16:22:48.123Z");
        assert_eq!(value["user_agent"], "evil\" \\ \t\u{fffd}");
        assert_eq!(value["query"], "item=1");
        assert_eq!(value["upstream"], "10.0.0.1:8080");
        assert_eq!(value["duration_seconds"], 0.012345);
        assert_eq!(value["ingress"], "default/shop");
        assert_eq!(value["backend"], "default/cart:http");
        assert!(value["referer"].is_null());
        let unread = Entry { upstream: None, tls_version: None, server_name: None, ..entry() };
        let other: serde_json::Value = serde_json::from_str(&written(Format::Json, unread)).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&value), keys(&other), "every line has every key");
    }

    #[test]
    fn finishing_writes_what_was_handed_over_and_later_lines_count_as_lost() {
        let output = Output::default();
        let dropped = counter();
        let (log, writer) = AccessLog::start(Format::Json, output.clone(), clock, dropped.clone()).unwrap();
        for _ in 0..1000 {
            log.write(Box::new(entry()));
        }
        writer.finish(Duration::from_secs(60));
        assert_eq!(output.text().lines().count(), 1000);
        assert_eq!(dropped.get(), 0);
        log.write(Box::new(entry()));
        assert_eq!(dropped.get(), 1);
    }

    #[test]
    fn a_log_that_cannot_keep_up_loses_lines_and_counts_them() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                // Waits until the test lets go.
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (release, stuck) = std::sync::mpsc::channel();
        let dropped = counter();
        let (log, writer) = AccessLog::start(Format::Text, Stuck(stuck), clock, dropped.clone()).unwrap();
        // The channel, and what one batch can have taken from it.
        let most = CAPACITY + BATCH / 100;
        for _ in 0..most + 10 {
            log.write(Box::new(entry()));
        }
        assert!(dropped.get() >= 10, "{}", dropped.get());
        drop(release);
        writer.finish(Duration::from_secs(60));
    }

    #[test]
    fn a_log_that_is_off_wants_no_entries() {
        let (log, writer) = AccessLog::start(Format::Off, Output::default(), clock, counter()).unwrap();
        assert!(!log.is_on());
        writer.finish(Duration::from_secs(60));
    }
}
