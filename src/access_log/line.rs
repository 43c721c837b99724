//! One line of the access log: a copy of what is known about a request, and how it is written.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::SystemTime;

use http::Version;

use super::{Entry, Room, Texts};
use crate::snapshot::BackendKey;

/// What is kept of a path and of a query, in bytes.
const MAX_TARGET: usize = 4 * 1024;

/// What is kept of every other text, in bytes.
const MAX_TEXT: usize = 1024;

/// A line that waits for the writer. All its texts are in one buffer of its own.
pub(super) struct Line {
    entry: Entry,
    texts: Box<[u8]>,
    host: Option<Part>,
    method: Option<Part>,
    path: Option<Part>,
    query: Option<Part>,
    request_id: Option<Part>,
    server_name: Option<Part>,
    user_agent: Option<Part>,
    referer: Option<Part>,
    /// What it takes of the bytes that may wait.
    room: Option<Room>,
}

/// Where a text is in the buffer. The cuts bound the buffer far below 4 GiB.
#[derive(Clone, Copy)]
struct Part {
    start: u32,
    end: u32,
}

impl Line {
    /// Copies the texts, cut to their lengths.
    pub(super) fn copy(entry: Entry, texts: &Texts<'_>) -> Self {
        let Texts { host, method, path, query, request_id, server_name, user_agent, referer } = *texts;
        let length = [host, method, path, query, request_id, server_name, user_agent, referer]
            .into_iter()
            .flatten()
            .map(|text| text.len().min(MAX_TARGET))
            .sum();
        let mut buffer = Vec::with_capacity(length);
        let mut part = |text: Option<&[u8]>, most| text.map(|text| append_cut(&mut buffer, text, most));
        let (path, query) = (part(path, MAX_TARGET), part(query, MAX_TARGET));
        let mut part = |text| part(text, MAX_TEXT);
        let (host, method, request_id) = (part(host), part(method), part(request_id));
        let (server_name, user_agent, referer) = (part(server_name), part(user_agent), part(referer));
        let texts = buffer.into_boxed_slice();
        Self { entry, texts, host, method, path, query, request_id, server_name, user_agent, referer, room: None }
    }

    /// Takes room for the line among those that wait. `None`, and no line, if there is none.
    pub(super) fn reserve(mut self, waiting_bytes: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        self.room = Some(Room::take(waiting_bytes, size_of::<Self>() + self.texts.len(), limit)?);
        Some(self)
    }

    fn text(&self, part: Option<Part>) -> Option<&[u8]> {
        let range = |part: Part| Range { start: part.start as usize, end: part.end as usize };
        part.and_then(|part| self.texts.get(range(part)))
    }

    /// nginx's combined format with the additions of ingress-nginx.
    pub(super) fn write_text(&self, out: &mut String) {
        let entry = &self.entry;
        let _ = write!(out, "{} - - [{}] \"", entry.client, nginx_time(entry.time));
        if let Some(method) = self.text(self.method) {
            escape_text(out, method);
            out.push(' ');
            match self.text(self.path) {
                Some(path) => escape_text(out, path),
                None => out.push('-'),
            }
            if let Some(query) = self.text(self.query) {
                out.push('?');
                escape_text(out, query);
            }
            let _ = write!(out, " {}", protocol(entry.version));
        }
        let _ = write!(out, "\" {} {} \"", entry.status, entry.bytes_out);
        escape_text(out, self.text(self.referer).unwrap_or(b"-"));
        out.push_str("\" \"");
        escape_text(out, self.text(self.user_agent).unwrap_or(b"-"));
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
        escape_text(out, self.text(self.request_id).unwrap_or(b"-"));
        out.push('\n');
    }

    /// One JSON object. Keys are documented at [`super::Format::Json`].
    pub(super) fn write_json(&self, out: &mut String) {
        let entry = &self.entry;
        let _ = write!(out, "{{\"time\":\"{}\"", humantime::format_rfc3339_millis(entry.time));
        let _ = write!(out, ",\"client\":\"{}\"", entry.client);
        json_bytes(out, "host", self.text(self.host));
        json_bytes(out, "method", self.text(self.method));
        json_bytes(out, "path", self.text(self.path));
        json_bytes(out, "query", self.text(self.query));
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
        json_bytes(out, "request_id", self.text(self.request_id));
        json_bytes(out, "tls_version", entry.tls_version.map(str::as_bytes));
        json_bytes(out, "server_name", self.text(self.server_name));
        json_bytes(out, "user_agent", self.text(self.user_agent));
        json_bytes(out, "referer", self.text(self.referer));
        let ingress = entry.ingress.as_ref().map(|(namespace, name)| format!("{namespace}/{name}"));
        json_bytes(out, "ingress", ingress.as_deref().map(str::as_bytes));
        json_bytes(out, "failure", entry.failure.map(str::as_bytes));
        let backend = entry.backend.as_ref().map(BackendKey::to_string);
        json_bytes(out, "backend", backend.as_deref().map(str::as_bytes));
        out.push_str("}\n");
    }
}

/// Appends at most `most` bytes of `text`, and says how many are left out.
fn append_cut(buffer: &mut Vec<u8>, text: &[u8], most: usize) -> Part {
    let start = buffer.len() as u32;
    match text.split_at_checked(most) {
        Some((kept, rest)) if !rest.is_empty() => {
            buffer.extend_from_slice(kept);
            buffer.extend_from_slice(format!("...({} more bytes)", rest.len()).as_bytes());
        }
        Some(_) | None => buffer.extend_from_slice(text),
    }
    Part { start, end: buffer.len() as u32 }
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
