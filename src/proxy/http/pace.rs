//! HTTP/2 responses whose client does not take them.
//!
//! An HTTP/2 client opens a window for each response. While it does not, hyper does not ask for more of the body, so
//! nothing in the body can keep time; and a client that answers PINGs is not gone. Without an end to that, a client
//! could hold as many connections to endpoints as it likes.
//!
//! So each connection knows its open responses and how long the last piece of each has been waiting to be taken. One
//! that waits for too long is given up, as in nginx: its endpoint's connection closes and its request is recorded.
//! Other responses on the connection go on. Should the client ask for the rest after all, its stream is reset.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::body::{BrokenResponse, Source};
use super::lock;

/// How often open responses are looked over, at most.
const FINEST: Duration = Duration::from_secs(1);

/// The open responses of one connection.
#[derive(Default)]
pub(super) struct Pace(Mutex<Open>);

#[derive(Default)]
struct Open {
    next: u64,
    responses: BTreeMap<u64, Weak<Mutex<Response>>>,
}

struct Response {
    /// `None` if it has been given up.
    source: Option<Source>,
    /// Since when the client is waited for; `None` while the endpoint is.
    waiting: Option<Instant>,
}

/// A response body that is given up if its client does not take it.
pub(super) struct Paced {
    response: Arc<Mutex<Response>>,
    pace: Arc<Pace>,
    number: u64,
}

impl Pace {
    /// Watches a response whose head is about to be sent.
    pub(super) fn watch(self: &Arc<Self>, source: Source) -> Paced {
        let response = Arc::new(Mutex::new(Response { source: Some(source), waiting: Some(Instant::now()) }));
        let mut open = lock(&self.0);
        let number = open.next;
        open.next += 1;
        open.responses.insert(number, Arc::downgrade(&response));
        drop(open);
        Paced { response, pace: self.clone(), number }
    }

    /// Gives up responses of which nothing was taken for `longest`, as long as it is polled.
    pub(super) async fn keep(&self, longest: Duration) {
        let longest = longest.max(FINEST);
        loop {
            let next = self.give_up(longest);
            tokio::time::sleep_until(next).await;
        }
    }

    /// When to look again: no response can be due before.
    fn give_up(&self, longest: Duration) -> Instant {
        let now = Instant::now();
        let mut next = now + longest;
        let mut given_up = Vec::new();
        for response in lock(&self.0).responses.values().filter_map(Weak::upgrade) {
            let mut response = lock(&response);
            let Some(since) = response.waiting else { continue };
            if since + longest <= now {
                response.waiting = None;
                given_up.extend(response.source.take());
            } else {
                next = next.min(since + longest);
            }
        }
        // They end here, outside the locks.
        drop(given_up);
        next
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BrokenResponse;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut response = lock(&self.response);
        let Some(source) = &mut response.source else { return Poll::Ready(Some(Err(BrokenResponse::NotTaken))) };
        let frame = source.poll_frame(cx);
        response.waiting = frame.is_ready().then(Instant::now);
        frame
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.response).source.as_ref().is_some_and(Source::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.response).source.as_ref().map(Source::size_hint).unwrap_or_default()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        lock(&self.pace.0).responses.remove(&self.number);
    }
}
