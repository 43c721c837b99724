//! Bodies on their way through: counted, limited, and not allowed to stall.
//!
//! Nothing is buffered here. A frame is read when the other side has room for it, so a slow receiver slows the
//! sender down, and memory per request is bounded by the buffers of the two connections.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::framing::MalformedBody;
use super::headers;
use super::pace::{Pace, Paced};
use super::record::Record;
use crate::proxy::upstream::{Lease, UpstreamFailure};

/// A request body on its way to an endpoint.
pub(in crate::proxy) struct Upload {
    inner: Incoming,
    /// `None` if there is no body.
    transfer: Option<Arc<Transfer>>,
    /// Bytes that may still come; `None` is no limit.
    left: Option<u64>,
    idle: IdleTimer,
}

/// What is known about a request body by those who wait for its end.
#[derive(Default)]
pub(super) struct Transfer {
    bytes: AtomicU64,
    state: Mutex<TransferState>,
}

#[derive(Default)]
struct TransferState {
    finished: Option<Instant>,
    failure: Option<UploadFailure>,
}

/// Why a request body ended early.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum UploadFailure {
    /// The client closed its connection or stream.
    #[error("the client went away")]
    Gone,
    /// The client broke the framing of the body.
    #[error("the request body is malformed")]
    Malformed,
    /// The client stopped sending.
    #[error("the client stopped sending")]
    Timeout,
    /// The body is larger than its route allows.
    #[error("the request body is too large")]
    TooLarge,
}

impl Transfer {
    /// Bytes that came.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When the last byte had been handed on.
    pub(super) fn finished(&self) -> Option<Instant> {
        self.state().finished
    }

    /// Why it ended early, if it did.
    pub(super) fn failure(&self) -> Option<UploadFailure> {
        self.state().failure
    }

    fn state(&self) -> MutexGuard<'_, TransferState> {
        // Nothing panics while holding the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// A body of at most `limit` bytes whose pieces come at most `idle` apart.
    pub(super) fn new(inner: Incoming, limit: Option<u64>, idle: Duration) -> Self {
        let transfer = (!inner.is_end_stream()).then(Arc::default);
        Self { inner, transfer, left: limit, idle: IdleTimer::new(idle) }
    }

    /// To watch it by, if there is a body.
    pub(super) fn transfer(&self) -> Option<Arc<Transfer>> {
        self.transfer.clone()
    }

    fn fail(&self, failure: UploadFailure) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        if let Some(transfer) = &self.transfer {
            transfer.state().failure = Some(failure);
        }
        Poll::Ready(Some(Err(failure)))
    }

    fn finish(&self) {
        if let Some(transfer) = &self.transfer {
            transfer.state().finished = Some(Instant::now());
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Pending => {
                return match this.idle.poll(cx) {
                    Poll::Ready(()) => this.fail(UploadFailure::Timeout),
                    Poll::Pending => Poll::Pending,
                };
            }
            Poll::Ready(None) => {
                this.finish();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => {
                let malformed = has_cause::<MalformedBody>(&error) || error.is_parse();
                return this.fail(if malformed { UploadFailure::Malformed } else { UploadFailure::Gone });
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        this.idle.stop();
        let frame = match frame.into_data() {
            Ok(data) => {
                let amount = data.len() as u64;
                if let Some(transfer) = &this.transfer {
                    transfer.bytes.fetch_add(amount, Ordering::Relaxed);
                }
                if let Some(left) = &mut this.left {
                    match left.checked_sub(amount) {
                        Some(less) => *left = less,
                        None => return this.fail(UploadFailure::TooLarge),
                    }
                }
                Frame::data(data)
            }
            Err(frame) => checked_trailers(frame),
        };
        if this.inner.is_end_stream() {
            this.finish();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response body, with the record of its request: dropping it ends both.
pub(super) struct ResponseBody(Content);

enum Content {
    /// HTTP/1.1, where the connection itself notices a client that does not read.
    Direct(Source),
    /// HTTP/2.
    Paced(Paced),
}

/// Where a response body comes from.
pub(super) enum Source {
    /// A response of our own. No record if something else ends the request.
    Own { text: Option<Bytes>, record: Option<Box<Record>> },
    /// From an endpoint.
    Download(Download),
}

/// What an endpoint sends.
pub(super) struct Download {
    inner: Incoming,
    /// Given back when the body has ended well; dropped, and so closed, otherwise.
    lease: Option<Lease>,
    idle: IdleTimer,
    record: Box<Record>,
}

impl ResponseBody {
    /// Nothing, and the request goes on.
    pub(super) fn none() -> Self {
        Self(Content::Direct(Source::Own { text: None, record: None }))
    }

    /// Our own words.
    pub(super) fn own(text: Option<Bytes>, record: Box<Record>) -> Self {
        Self(Content::Direct(Source::Own { text, record: Some(record) }))
    }

    /// What an endpoint sends, in pieces that come at most `idle` apart.
    pub(super) fn download(inner: Incoming, lease: Lease, idle: Duration, record: Box<Record>) -> Self {
        let ended = inner.is_end_stream();
        let mut download = Download { inner, lease: Some(lease), idle: IdleTimer::new(idle), record };
        if ended {
            download.end();
        }
        Self(Content::Direct(Source::Download(download)))
    }

    /// Given up if the client does not take it.
    pub(super) fn paced(self, pace: &Arc<Pace>) -> Self {
        match self.0 {
            Content::Direct(source) => Self(Content::Paced(pace.watch(source))),
            Content::Paced(_) => self,
        }
    }
}

impl Download {
    /// The whole response has been read. Its connection is good for another request if the endpoint has also read
    /// the whole request.
    fn end(&mut self) {
        let sent = self.record.transfer.as_ref().is_none_or(|transfer| transfer.finished().is_some());
        if let Some(lease) = self.lease.take().filter(|_| sent) {
            lease.finish();
        }
    }

    /// The response broke off.
    fn fail(&mut self, failure: UpstreamFailure) -> Poll<Option<Result<Frame<Bytes>, BrokenResponse>>> {
        self.lease = None;
        // If the request body failed, the endpoint is not to blame for what it did then.
        if self.record.transfer.as_ref().is_none_or(|transfer| transfer.failure().is_none()) {
            self.record.client.service.upstreams.count(failure);
        }
        Poll::Ready(Some(Err(BrokenResponse::Endpoint(failure))))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenResponse;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.0 {
            Content::Direct(source) => source.poll_frame(cx),
            Content::Paced(paced) => Pin::new(paced).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Direct(source) => source.is_end_stream(),
            Content::Paced(paced) => paced.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Direct(source) => source.size_hint(),
            Content::Paced(paced) => paced.size_hint(),
        }
    }
}

impl Source {
    /// The next piece.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenResponse>>> {
        let download = match self {
            Source::Own { text, record } => {
                let text = text.take();
                if let Some(record) = record {
                    record.bytes_out += text.as_ref().map_or(0, Bytes::len) as u64;
                }
                return Poll::Ready(text.map(|text| Ok(Frame::data(text))));
            }
            Source::Download(download) => download,
        };
        let frame = match Pin::new(&mut download.inner).poll_frame(cx) {
            Poll::Pending => {
                return match download.idle.poll(cx) {
                    Poll::Ready(()) => download.fail(UpstreamFailure::BodyTimeout),
                    Poll::Pending => Poll::Pending,
                };
            }
            Poll::Ready(None) => {
                download.end();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(_))) => return download.fail(UpstreamFailure::BodyReset),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        download.idle.stop();
        let frame = match frame.into_data() {
            Ok(data) => {
                download.record.bytes_out += data.len() as u64;
                Frame::data(data)
            }
            Err(frame) => checked_trailers(frame),
        };
        if download.inner.is_end_stream() {
            download.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Whether nothing more comes.
    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Source::Own { text, .. } => text.is_none(),
            Source::Download(download) => download.inner.is_end_stream(),
        }
    }

    /// How much comes, if it is known.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Source::Own { text, .. } => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Source::Download(download) => download.inner.size_hint(),
        }
    }
}

/// The response broke off; the client's connection (HTTP/1.1) or stream (HTTP/2) is reset, so that the client cannot
/// take what it got for the whole.
#[derive(thiserror::Error, Debug)]
pub(super) enum BrokenResponse {
    /// The endpoint did not send the rest.
    #[error("the response broke off: {}", .0.label())]
    Endpoint(UpstreamFailure),
    /// The client did not take the rest in time.
    #[error("the client took nothing of the response for too long")]
    NotTaken,
}

/// Fires when nothing came for a while. Starts only when there is something to wait for.
struct IdleTimer {
    longest: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    fn new(longest: Duration) -> Self {
        Self { longest, timer: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.longest))).as_mut().poll(cx)
    }

    fn stop(&mut self) {
        self.timer = None;
    }
}

/// Trailers without what they may not carry.
fn checked_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::strip_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

fn has_cause<E: Error + 'static>(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        // An `io::Error` hides what it was made of from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<E>()) {
            return true;
        }
        cause = error.source();
    }
    false
}
