//! Whether a client takes what is written to it.
//!
//! A request is recorded as ended when hyper has the last byte of its response. What the socket has not taken by then is
//! still part of it, so the connection is not idle until it has.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Client;

/// A client's byte stream, between hyper and the connection.
pub(super) struct Flow<S> {
    io: S,
    client: Arc<Client>,
}

impl<S> Flow<S> {
    /// Tells `client` what becomes of writes.
    pub(super) fn new(io: S, client: Arc<Client>) -> Self {
        Self { io, client }
    }

    /// The stream itself.
    pub(super) fn into_inner(self) -> S {
        self.io
    }

    fn written<T>(&self, outcome: Poll<T>) -> Poll<T> {
        if outcome.is_pending() {
            self.client.blocked();
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flow<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flow<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_ready() {
            // hyper flushes when it has nothing more to write.
            self.client.flushed();
        }
        self.written(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
