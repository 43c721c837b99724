//! Byte streams: a terminated TLS connection, and a stream that gives back bytes read ahead.
//!
//! [`TlsStream`] drives [`rustls::ServerConnection`] directly, so that the handshake, its alerts and the way a
//! connection ends are ours to see. Everything of rustls' connection API that the data plane touches is in this file
//! and in `handshake.rs`.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::record::Unused;

/// A TLS connection after its handshake: plaintext on this side, records on the other.
pub struct TlsStream<S> {
    io: S,
    connection: ServerConnection,
    close_notify_sent: bool,
    /// Until the client sends its first byte.
    unused: Option<Box<Unused>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Wraps a connection whose handshake is complete.
    pub(super) fn new(io: S, connection: ServerConnection) -> Self {
        Self { io, connection, close_notify_sent: false, unused: None }
    }

    /// Has it recorded if the client leaves without a byte.
    pub(super) fn watch(&mut self, unused: Unused) {
        self.unused = Some(Box::new(unused));
    }

    /// Reads records once. `Ok(0)` is the end of the stream.
    fn poll_read_records(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = match self.connection.read_tls(&mut Bridge { io: &mut self.io, context }) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Err(error) = self.connection.process_new_packets() {
            if let (Some(unused), rustls::Error::AlertReceived(alert)) = (&mut self.unused, &error) {
                unused.left_with(*alert);
            }
            // The alert that rustls has queued tells the client why; if it cannot be sent now, it is lost.
            let _ = self.poll_write_records(context);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(read))
    }

    /// Gives rustls plaintext, which is not nothing. It takes what its bounded buffer holds; nothing is taken twice.
    fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        give: impl Fn(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let taken = give(&mut self.connection.writer())?;
            match self.poll_write_records(context) {
                Poll::Ready(result) => result?,
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Pending => {}
            }
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
    }

    /// Writes records until none is left.
    fn poll_write_records(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Bridge { io: &mut self.io, context }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.connection.reader().read(buf.initialize_unfilled()) {
                Ok(read) => {
                    // Zero is a close_notify: the clean end (RFC 8446 section 6.1).
                    if read > 0
                        && let Some(mut unused) = self.unused.take()
                    {
                        unused.used();
                    }
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            // Answers to key updates leave with the next write at the latest; here they leave at once if they can.
            if self.connection.wants_write()
                && let Poll::Ready(Err(error)) = self.poll_write_records(context)
            {
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_read_records(context))?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_take(context, |writer| writer.write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.poll_take(context, |writer| writer.write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_records(context))?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.close_notify_sent {
            self.connection.send_close_notify();
            self.close_notify_sent = true;
        }
        ready!(self.poll_write_records(context))?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Lets rustls read and write an asynchronous stream: "not ready" becomes `WouldBlock`.
struct Bridge<'a, 'b, S> {
    io: &'a mut S,
    context: &'a mut Context<'b>,
}

impl<S: AsyncRead + Unpin> Read for Bridge<'_, '_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.io).poll_read(self.context, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Bridge<'_, '_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.io).poll_write(self.context, buf) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.io).poll_write_vectored(self.context, bufs) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that first gives back bytes that were read ahead of it.
pub struct Prefixed<S> {
    prefix: Vec<u8>,
    given: usize,
    io: S,
}

impl<S> Prefixed<S> {
    /// Gives `prefix`, then what `io` gives.
    pub fn new(prefix: Vec<u8>, io: S) -> Self {
        Self { prefix, given: 0, io }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = &this.prefix[this.given..];
        if rest.is_empty() {
            return Pin::new(&mut this.io).poll_read(context, buf);
        }
        let size = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..size]);
        this.given += size;
        if this.given == this.prefix.len() {
            (this.prefix, this.given) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
