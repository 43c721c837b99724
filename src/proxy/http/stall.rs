//! The longest gap between two writes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// Turns a write that makes no progress for too long into an error of kind `TimedOut`.
///
/// There is no timer until a write has to wait, so connections that flow pay nothing.
pub(in crate::proxy) struct Stall {
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Writes may wait for this long.
    pub(in crate::proxy) fn new(timeout: Duration) -> Self {
        Self { timeout, timer: None }
    }

    /// Changes the wait of writes that are not waiting yet.
    pub(in crate::proxy) fn set(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Passes the outcome of a write, a flush or a shutdown through.
    pub(in crate::proxy) fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.timer = None;
            return outcome;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.timeout)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}
