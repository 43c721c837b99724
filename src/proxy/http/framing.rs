//! Strict HTTP/1.1 framing: what hyper reads from a client has been checked here first.
//!
//! `client ──bytes──▶ Framed ──whole, unambiguous heads and bodies──▶ hyper`
//!
//! Two parties that disagree about where a request ends can be made to see different requests (request smuggling).
//! hyper resolves some ambiguities silently, as RFC 9112 section 6.3 permits: it drops `Content-Length` beside
//! `Transfer-Encoding`, merges equal lengths and takes a bare LF for a line end. We refuse them all, with 400, before
//! hyper sees a byte of the request, so nothing ambiguous can be forwarded. The rules are the strict reading of
//! RFC 9112 sections 2 to 7.
//!
//! A refused head is replaced by a harmless request that the service answers with the [`Refusal`]; so refusals are
//! answered, counted and logged like all other requests. A body that breaks after its head was handed on ends the
//! connection; the endpoint then sees a request that never completes.
//!
//! This is also the place that sees each byte of an HTTP/1.1 client come and go, and so keeps its timeouts: heads
//! that do not end, clients that stop reading, and the wait for a client's last bytes before a close that would
//! otherwise destroy the response on its way (RFC 9112 section 9.6).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::chunked::Chunked;
use super::head::{BodyLength, Framing, Refusal, check_head, head_end, too_large};
use super::stall::Stall;

/// The longest wait for a client to close after a response that it did not let us read the request for.
const LINGER: Duration = Duration::from_secs(5);

/// What hyper gets in place of a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n";

/// What the two sides of one HTTP/1.1 connection tell each other: [`Framed`] below hyper, the service above it.
#[derive(Default)]
pub(super) struct Wire(Mutex<WireState>);

#[derive(Default)]
struct WireState {
    /// Heads that were handed to hyper. It reads ahead, so the newest need not be the one that is being served.
    heads: u64,
    /// Requests that the service has begun: hyper hands it each head, in order.
    requests: u64,
    /// The number of the stand-in's head, set before it is handed to hyper.
    refusal: Option<(u64, Refusal)>,
    /// Whether the protocol changes after the newest head; `None` until it is answered.
    upgrade: Option<bool>,
    /// The reader that waits for that answer.
    waiting: Option<Waker>,
    /// Whether a head has begun and not ended.
    in_head: bool,
}

impl Wire {
    /// The service begins the next request: its number and, if it is a stand-in, the reason for that.
    pub(super) fn next_request(&self) -> (u64, Option<Refusal>) {
        let mut state = self.lock();
        state.requests += 1;
        let number = state.requests;
        (number, state.refusal.take_if(|(refused, _)| *refused == number).map(|(_, refusal)| refusal))
    }

    /// Says whether the protocol changes after the request of this number, which was just answered.
    pub(super) fn decide_upgrade(&self, number: u64, accept: bool) {
        let waiting = {
            let mut state = self.lock();
            if number != state.heads {
                // An earlier one: the newest head was read ahead, and its answer is still to come.
                return;
            }
            state.upgrade = Some(accept);
            state.waiting.take()
        };
        if let Some(reader) = waiting {
            reader.wake();
        }
    }

    /// True while a head is arriving: the connection is not idle then.
    pub(super) fn in_head(&self) -> bool {
        self.lock().in_head
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, WireState> {
        // Nothing panics while holding the lock, and the state is valid after each statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Limits of a request head.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    /// Most header lines.
    pub(super) count: usize,
    /// Most bytes.
    pub(super) size: usize,
    /// Longest time from its first byte to its last.
    pub(super) time: Duration,
}

/// A client's byte stream, checked.
pub(super) struct Framed<S> {
    io: S,
    wire: Arc<Wire>,
    limits: HeadLimits,
    state: State,
    /// Read and not handed on. The first `cleared` bytes are checked.
    held: BytesMut,
    cleared: usize,
    /// When the head that is expected or arriving must be complete.
    head_deadline: Option<Instant>,
    /// Fires at `head_deadline` or, so that it need not be reset for each request, earlier.
    timer: Option<Pin<Box<Sleep>>>,
    write: Stall,
    eof: bool,
    linger: Option<Pin<Box<Sleep>>>,
}

enum State {
    /// At a request head, of which `held` has the first bytes; the first `searched` of them do not hold its end.
    Head { searched: usize },
    /// In a body of this many more bytes; `upgrade` says what follows.
    Sized { left: u64, upgrade: bool },
    /// In a chunked body.
    Chunked { body: Chunked, upgrade: bool },
    /// After a request with `Upgrade`: what comes next depends on the response.
    AwaitUpgrade,
    /// Another protocol.
    Opaque,
    /// The stand-in is being handed on, from this byte.
    Refused { at: usize },
    /// A body broke.
    Broken,
}

impl<S> Framed<S> {
    /// Checks what comes from `io`, of which `first` has been read already. The first head must be complete at
    /// `deadline`.
    pub(super) fn new(
        io: S,
        first: BytesMut,
        wire: Arc<Wire>,
        limits: HeadLimits,
        deadline: Instant,
        write_timeout: Duration,
    ) -> Self {
        Self {
            io,
            wire,
            limits,
            state: State::Head { searched: 0 },
            held: first,
            cleared: 0,
            head_deadline: Some(deadline),
            timer: None,
            write: Stall::new(write_timeout),
            eof: false,
            linger: None,
        }
    }

    /// Advances over `bytes`, which follow what has been cleared, and says how many may be handed on: up to the end
    /// of one request, and no part of an incomplete head.
    fn check(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match &mut self.state {
                State::Head { searched } => {
                    // One request at a time: if the next one is refused, this one is still served.
                    if at > 0 || rest.is_empty() {
                        return Ok(at);
                    }
                    if self.head_deadline.is_none() {
                        self.head_deadline = Some(Instant::now() + self.limits.time);
                    }
                    let Some(end) = head_end(rest, *searched) else {
                        *searched = rest.len();
                        if rest.len() >= self.limits.size {
                            return Err(too_large(rest));
                        }
                        self.wire.lock().in_head = true;
                        return Ok(0);
                    };
                    let head = rest.get(..end).unwrap_or_default();
                    if end > self.limits.size {
                        return Err(too_large(head));
                    }
                    let Framing { body, upgrade } = check_head(head, self.limits.count)?;
                    at = end;
                    self.head_deadline = None;
                    self.state = match body {
                        BodyLength::Chunked => State::Chunked { body: Chunked::new(self.limits.size), upgrade },
                        BodyLength::Sized(0) => after(upgrade),
                        BodyLength::Sized(left) => State::Sized { left, upgrade },
                    };
                }
                State::Sized { left, upgrade } => {
                    let taken = (*left).min(rest.len() as u64);
                    *left -= taken;
                    at += taken as usize;
                    if *left > 0 {
                        return Ok(at);
                    }
                    self.state = after(*upgrade);
                }
                State::Chunked { body, upgrade } => {
                    let (taken, done) = body.check(rest).map_err(|_| Refusal::Chunk)?;
                    at += taken;
                    if !done {
                        return Ok(at);
                    }
                    self.state = after(*upgrade);
                }
                State::Opaque => return Ok(bytes.len()),
                State::AwaitUpgrade | State::Refused { .. } | State::Broken => return Ok(at),
            }
        }
    }

    /// Checks `bytes`. If they are refused, says what follows.
    fn clear(&mut self, bytes: &[u8]) -> usize {
        let at_head = matches!(self.state, State::Head { .. });
        match self.check(bytes) {
            Ok(cleared) => {
                if at_head && cleared > 0 {
                    self.count_head();
                }
                cleared
            }
            Err(refusal) if at_head => {
                self.refuse(refusal);
                0
            }
            Err(_) => {
                self.state = State::Broken;
                0
            }
        }
    }

    /// Serves the stand-in from now on.
    fn refuse(&mut self, refusal: Refusal) {
        self.held = BytesMut::new();
        self.head_deadline = None;
        self.state = State::Refused { at: 0 };
        let number = self.count_head();
        self.wire.lock().refusal = Some((number, refusal));
    }

    /// A head is about to be handed on: its number.
    fn count_head(&mut self) -> u64 {
        let mut wire = self.wire.lock();
        wire.in_head = false;
        wire.upgrade = None;
        wire.heads += 1;
        wire.heads
    }

    /// Hands on what is checked.
    fn hand_on(&mut self, out: &mut ReadBuf<'_>) {
        let amount = self.cleared.min(out.remaining());
        out.put_slice(self.held.get(..amount).unwrap_or_default());
        self.held.advance(amount);
        self.cleared -= amount;
        if self.held.is_empty() {
            // Nothing is kept for an idle connection.
            self.held = BytesMut::new();
        }
    }

    /// Whether the head took too long.
    fn poll_head_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.head_deadline else { return Poll::Pending };
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.cleared > 0 {
                this.hand_on(out);
                return Poll::Ready(Ok(()));
            }
            match &mut this.state {
                State::Broken => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, MalformedBody)));
                }
                State::Refused { at } => {
                    let rest = STAND_IN.get(*at..).unwrap_or_default();
                    if rest.is_empty() {
                        // The answer closes the connection. Until then there is nothing more to read, and no end.
                        return Poll::Pending;
                    }
                    let amount = rest.len().min(out.remaining());
                    out.put_slice(rest.get(..amount).unwrap_or_default());
                    *at += amount;
                    return Poll::Ready(Ok(()));
                }
                State::AwaitUpgrade => {
                    let mut wire = this.wire.lock();
                    match wire.upgrade {
                        Some(true) => this.state = State::Opaque,
                        Some(false) => this.state = State::Head { searched: 0 },
                        None => {
                            wire.waiting = Some(cx.waker().clone());
                            drop(wire);
                            if !this.held.is_empty() {
                                return Poll::Pending;
                            }
                            // Read on, so that a client that leaves is noticed.
                            let mut scratch = [0; 1024];
                            let mut buffer = ReadBuf::new(&mut scratch);
                            ready!(Pin::new(&mut this.io).poll_read(cx, &mut buffer))?;
                            if buffer.filled().is_empty() {
                                this.eof = true;
                                return Poll::Ready(Ok(()));
                            }
                            this.held.extend_from_slice(buffer.filled());
                            return Poll::Pending;
                        }
                    }
                    continue;
                }
                State::Head { searched } => {
                    if *searched < this.held.len() {
                        // Left over from the read that brought the request before this one.
                        let held = std::mem::take(&mut this.held);
                        let cleared = this.clear(&held);
                        if !matches!(this.state, State::Refused { .. }) {
                            this.held = held;
                            this.cleared = cleared;
                        }
                        continue;
                    }
                }
                State::Chunked { .. } | State::Opaque | State::Sized { .. } => {
                    if !this.held.is_empty() {
                        let held = std::mem::take(&mut this.held);
                        this.cleared = this.clear(&held);
                        this.held = held;
                        continue;
                    }
                }
            }

            if this.held.is_empty() {
                // The usual case: whole requests or pieces of bodies, checked in hyper's own buffer.
                let before = out.filled().len();
                match Pin::new(&mut this.io).poll_read(cx, out)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => {
                        ready!(this.poll_head_timeout(cx));
                        // A new connection that never said anything is closed without a word.
                        this.eof = true;
                        return Poll::Ready(Ok(()));
                    }
                }
                let new = out.filled().get(before..).unwrap_or_default();
                if new.is_empty() {
                    this.eof = true;
                    return Poll::Ready(Ok(()));
                }
                let cleared = this.clear(new);
                if !matches!(this.state, State::Refused { .. } | State::Broken) {
                    this.held.extend_from_slice(new.get(cleared..).unwrap_or_default());
                }
                out.set_filled(before + cleared);
                if cleared > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                // A head that comes in pieces.
                let mut scratch = [0; 4096];
                let mut buffer = ReadBuf::new(&mut scratch);
                match Pin::new(&mut this.io).poll_read(cx, &mut buffer)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => {
                        ready!(this.poll_head_timeout(cx));
                        this.refuse(Refusal::HeadTimeout);
                        continue;
                    }
                }
                if buffer.filled().is_empty() {
                    this.eof = true;
                    return Poll::Ready(Ok(()));
                }
                this.held.extend_from_slice(buffer.filled());
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.write.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.write.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.write.watch(cx, flushed)
    }

    /// Closes our side. If the client was still sending, waits a little for it to stop: closing a socket with unread
    /// bytes resets the connection, and the client may lose the response that says what was wrong.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            let shut = Pin::new(&mut this.io).poll_shutdown(cx);
            ready!(this.write.watch(cx, shut))?;
            let unread = match this.state {
                State::Head { .. } | State::AwaitUpgrade | State::Opaque => false,
                State::Broken | State::Chunked { .. } | State::Refused { .. } | State::Sized { .. } => true,
            };
            if this.eof || !unread {
                return Poll::Ready(Ok(()));
            }
        }
        let timer = this.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let mut scratch = [0; 4096];
        while timer.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.io).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The body of a request broke the grammar after its head had been handed on.
#[derive(thiserror::Error, Clone, Copy, Debug)]
#[error("the request body is malformed")]
pub(super) struct MalformedBody;

fn after(upgrade: bool) -> State {
    if upgrade { State::AwaitUpgrade } else { State::Head { searched: 0 } }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { count: 5, size: 256, time: Duration::from_secs(60) };

    fn framed(server: DuplexStream, wire: Arc<Wire>) -> Framed<DuplexStream> {
        let deadline = Instant::now() + LIMITS.time;
        Framed::new(server, BytesMut::new(), wire, LIMITS, deadline, Duration::from_secs(60))
    }

    fn refusal(wire: &Wire) -> Option<Refusal> {
        wire.lock().refusal.take().map(|(_, refusal)| refusal)
    }

    /// What hyper would read of `bytes`, sent in pieces of `piece` bytes, and the refusal if there is one.
    async fn read(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<Refusal>) {
        let (mut client, server) = duplex(64 * 1024);
        let wire = Arc::new(Wire::default());
        let mut framed = framed(server, wire.clone());
        let mut got = Vec::new();
        let mut buffer = [0; 100];
        let mut pieces = bytes.chunks(piece);
        loop {
            match pieces.next() {
                Some(piece) => client.write_all(piece).await.unwrap(),
                None => client.shutdown().await.unwrap(),
            }
            // Read until it would wait for the client, or ends.
            loop {
                tokio::select! {
                    biased;
                    read = framed.read(&mut buffer) => match read {
                        Ok(0) | Err(_) => return (got, refusal(&wire)),
                        Ok(read) => got.extend_from_slice(&buffer[..read]),
                    },
                    () = std::future::ready(()) => break,
                }
            }
            if let Some(refusal) = refusal(&wire) {
                let end = got.len() - STAND_IN.len();
                assert_eq!(&got[end..], STAND_IN);
                got.truncate(end);
                return (got, Some(refusal));
            }
        }
    }

    #[tokio::test]
    async fn plain_requests_pass_unchanged_however_they_are_cut() {
        let requests: &[&[u8]] = &[
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            b"\r\nGET /a HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost:a\r\n\r\n",
            b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nx: \xff\ty\r\n\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\na;x=y\r\n0123456789\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nsum: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ];
        for request in requests {
            for piece in [1, 2, 7, 1000] {
                let text = String::from_utf8_lossy(request);
                assert_eq!(read(request, piece).await, (request.to_vec(), None), "{text} by {piece}");
            }
        }
    }

    #[tokio::test]
    async fn ambiguous_heads_are_refused_before_a_byte_is_handed_on() {
        let rows: &[(&[u8], Refusal)] = &[
            (b"GET / HTTP/1.1\ncontent-length: 0\n\n", Refusal::LineEnd),
            (b"GET / HTTP/1.1\r\nhost: a\n\r\n", Refusal::LineEnd),
            (b"GET / HTTP/1.1\r\nhost: a\r\r\n\r\n", Refusal::Header),
            (b"GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n", Refusal::Header),
            (b"GET / HTTP/1.1\r\nhost: a\0\r\n\r\n", Refusal::Header),
            (b"GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n", Refusal::Header),
            (b"GET / HTTP/1.1\r\n host: a\r\n\r\n", Refusal::Header),
            (b"GET / HTTP/1.1\r\nhost : a\r\n\r\n", Refusal::Header),
            (b"GET / HTTP/1.1\r\n: a\r\n\r\n", Refusal::Header),
            (b"GET / HTTP/1.1\r\nhost\r\n\r\n", Refusal::Header),
            (b"GET  / HTTP/1.1\r\n\r\n", Refusal::RequestLine),
            (b"GET /\tHTTP/1.1\r\n\r\n", Refusal::RequestLine),
            (b"GET / a HTTP/1.1\r\n\r\n", Refusal::RequestLine),
            (b"GET /\r\n\r\n", Refusal::RequestLine),
            (b"G(T / HTTP/1.1\r\n\r\n", Refusal::RequestLine),
            (b"GET / HTTP/2.0\r\n\r\n", Refusal::Version),
            (b"GET / HTTP/1.2\r\n\r\n", Refusal::Version),
            (b"POST / HTTP/1.1\r\ncontent-length: +5\r\n\r\n", Refusal::ContentLength),
            (b"POST / HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n", Refusal::ContentLength),
            (b"POST / HTTP/1.1\r\ncontent-length: 0x5\r\n\r\n", Refusal::ContentLength),
            (b"POST / HTTP/1.1\r\ncontent-length:\r\n\r\n", Refusal::ContentLength),
            (b"POST / HTTP/1.1\r\ncontent-length: 9999999999999999999\r\n\r\n", Refusal::ContentLength),
            (b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", Refusal::ConflictingLength),
            (b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n", Refusal::ConflictingLength),
            (b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", Refusal::ConflictingLength),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n", Refusal::ConflictingLength),
            (
                b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
                Refusal::ConflictingLength,
            ),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n", Refusal::TransferEncoding),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", Refusal::TransferEncoding),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: \x0bchunked\r\n\r\n", Refusal::Header),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: identity\r\n\r\n", Refusal::TransferEncoding),
            (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", Refusal::TransferEncoding),
            (b"GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\n\r\n", Refusal::TooManyHeaders),
        ];
        for (request, refusal) in rows {
            for piece in [1, 5, 1000] {
                let text = String::from_utf8_lossy(request);
                assert_eq!(read(request, piece).await, (Vec::new(), Some(*refusal)), "{text} by {piece}");
            }
        }
    }

    #[tokio::test]
    async fn a_refused_request_does_not_harm_the_one_before_it() {
        let good = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let both = [good.as_slice(), b"GET / HTTP/1.1\nhost: a\n\n"].concat();
        for piece in [1, 1000] {
            assert_eq!(read(&both, piece).await, (good.to_vec(), Some(Refusal::LineEnd)));
        }
    }

    #[tokio::test]
    async fn a_request_that_is_read_ahead_changes_nothing_for_the_one_before_it() {
        for (next, refused) in
            [("GET / HTTP/1.1\nhost: a\n\n", Some(Refusal::LineEnd)), ("GET / HTTP/1.1\r\nupgrade: x\r\n\r\n", None)]
        {
            let (mut client, server) = duplex(1024);
            let wire = Arc::new(Wire::default());
            let mut framed = framed(server, wire.clone());
            let both = format!("GET / HTTP/1.1\r\nhost: a\r\n\r\n{next}");
            client.write_all(both.as_bytes()).await.unwrap();
            let mut buffer = [0; 1000];
            for _ in 0..2 {
                assert!(framed.read(&mut buffer).await.unwrap() > 0);
            }
            assert_eq!(wire.next_request(), (1, None));
            wire.decide_upgrade(1, false);
            assert_eq!(wire.lock().upgrade, None, "{next:?}");
            assert_eq!(wire.next_request(), (2, refused));
            wire.decide_upgrade(2, true);
            assert_eq!(wire.lock().upgrade, Some(true), "{next:?}");
        }
    }

    #[tokio::test]
    async fn heads_that_are_too_large_are_refused_at_the_limit() {
        let long_target = [b"GET /".as_slice(), &[b'a'; 500]].concat();
        let long_header = [b"GET / HTTP/1.1\r\na: ".as_slice(), &[b'a'; 500]].concat();
        for piece in [1, 1000] {
            assert_eq!(read(&long_target, piece).await.1, Some(Refusal::TargetTooLong));
            assert_eq!(read(&long_header, piece).await.1, Some(Refusal::TooLarge));
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_later_ends_the_connection_with_an_error() {
        let (mut client, server) = duplex(1024);
        let wire = Arc::new(Wire::default());
        let mut framed = framed(server, wire.clone());
        client.write_all(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let mut buffer = [0; 1000];
        assert!(framed.read(&mut buffer).await.unwrap() > 0);
        client.write_all(b"5\nhello").await.unwrap();
        assert_eq!(framed.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(refusal(&wire), None);
    }

    #[tokio::test]
    async fn bytes_behind_an_upgrade_wait_for_the_answer() {
        for accept in [true, false] {
            let (mut client, server) = duplex(1024);
            let wire = Arc::new(Wire::default());
            let mut framed = framed(server, wire.clone());
            let head = b"GET / HTTP/1.1\r\nupgrade: x\r\n\r\n";
            client.write_all(&[head.as_slice(), b"\0\n\n"].concat()).await.unwrap();
            let mut buffer = [0; 1000];
            assert_eq!(framed.read(&mut buffer).await.unwrap(), head.len());
            let reader = tokio::spawn(async move {
                let mut buffer = [0; 1000];
                let read = framed.read(&mut buffer).await.unwrap();
                buffer[..read].to_vec()
            });
            tokio::task::yield_now().await;
            assert!(!reader.is_finished(), "nothing may be read before the answer");
            wire.decide_upgrade(1, accept);
            let read = reader.await.unwrap();
            assert_eq!(read, if accept { b"\0\n\n".to_vec() } else { STAND_IN.to_vec() });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_is_refused_when_its_time_is_over() {
        let (mut client, server) = duplex(1024);
        let wire = Arc::new(Wire::default());
        let mut framed = framed(server, wire.clone());
        let start = Instant::now();
        let trickle = tokio::spawn(async move {
            loop {
                if client.write_all(b"a").await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(7)).await;
            }
        });
        let mut buffer = [0; 1000];
        assert_eq!(framed.read(&mut buffer).await.unwrap(), STAND_IN.len());
        assert_eq!(refusal(&wire), Some(Refusal::HeadTimeout));
        assert_eq!(start.elapsed().as_secs(), 60);
        drop(framed);
        trickle.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_waits_for_a_client_that_is_still_sending_and_for_no_other() {
        for (request, seconds) in [("content-length: 0\r\n\r\n", 0), ("content-length: 100\r\n\r\nhello", 5)] {
            let (mut client, server) = duplex(1024);
            let mut framed = framed(server, Arc::default());
            client.write_all(format!("POST / HTTP/1.1\r\n{request}").as_bytes()).await.unwrap();
            let mut buffer = [0; 1000];
            assert!(framed.read(&mut buffer).await.unwrap() > 0);
            let start = Instant::now();
            let sender = tokio::spawn(async move {
                // What it sends on is taken, so that it gets to reading.
                for _ in 0..100 {
                    let _ = client.write_all(&[b'x'; 1000]).await;
                }
                client
            });
            framed.shutdown().await.unwrap();
            assert_eq!(start.elapsed().as_secs(), seconds);
            drop(framed);
            sender.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_is_given_up() {
        let (_client, server) = duplex(16);
        let mut framed = framed(server, Arc::default());
        let start = Instant::now();
        let error = framed.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 60);
    }
}
