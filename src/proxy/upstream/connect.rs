//! New connections to endpoints.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Timeouts, UpstreamFailure};
use crate::open_files;
use crate::proxy::http::Stall;
use crate::proxy::http::body::Upload;
use crate::snapshot::{Address, Reach};

/// Largest buffer of a connection for each direction: the bound on memory when one side is slower than the other,
/// and on a response head.
const BUFFER: usize = 128 * 1024;

/// Most header lines of a response: more than fit into the 4 KiB that ingress-nginx allows by default
/// (`proxy-buffer-size`). Bytes are bounded by [`BUFFER`]; this one bounds what hyper sets aside for each head.
const HEADER_COUNT: usize = 1024;

/// The half of a connection that takes requests.
pub(super) type Sender = http1::SendRequest<Upload>;

/// What can be asked and told of a connection while hyper drives it. The connection outlives each of its requests.
#[derive(Clone)]
pub(super) struct Link {
    /// Gone when hyper has dropped the connection.
    socket: Weak<TcpStream>,
    /// The longest gap between two writes, in milliseconds.
    send_timeout: Arc<AtomicU64>,
}

impl Link {
    pub(super) fn set_send_timeout(&self, timeout: Duration) {
        self.send_timeout.store(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn send_timeout(&self) -> Duration {
        Duration::from_millis(self.send_timeout.load(Ordering::Relaxed))
    }

    /// Whether the endpoint has said nothing since its last response, the end of the connection included. The kernel
    /// knows before the task that drives the connection does: a request sent in between would be a 502.
    pub(super) fn is_quiet(&self) -> bool {
        let Some(socket) = self.socket.upgrade() else { return false };
        let peeked = SockRef::from(&*socket).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Resolves (names), connects, and starts the task that drives the connection until it closes.
///
/// Each address that a name resolves to is judged before anything is sent there: whoever owns the name may point it
/// anywhere, and anew at any time.
pub(super) async fn connect(
    address: &Address,
    reach: &Reach,
    timeouts: &Timeouts,
) -> Result<(Sender, Link), UpstreamFailure> {
    let connected = tokio::time::timeout(timeouts.connect, async {
        match address {
            Address::Ip(address) => connect_one(*address).await,
            Address::Name(name, port) => {
                let found = tokio::net::lookup_host((name.as_ref(), *port)).await;
                let mut failure = UpstreamFailure::Resolve;
                for address in found.map_err(|_| UpstreamFailure::Resolve)? {
                    if reach.external(address).is_err() {
                        failure = UpstreamFailure::ForbiddenAddress;
                        continue;
                    }
                    match connect_one(address).await {
                        Ok(stream) => return Ok(stream),
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
        }
    });
    let stream = connected.await.map_err(|_| UpstreamFailure::ConnectTimeout)??;
    // Requests are written whole; waiting for more to send would only delay them. If the option cannot be set the
    // connection works all the same.
    let _ = stream.set_nodelay(true);

    let socket = Arc::new(stream);
    let link = Link { socket: Arc::downgrade(&socket), send_timeout: Arc::default() };
    link.set_send_timeout(timeouts.send);
    let stream = Monitored { socket, link: link.clone(), stall: Stall::new(timeouts.send) };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER).max_headers(HEADER_COUNT);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    // There is no handshake in HTTP/1.1: this cannot wait, nor fail.
    let (sender, connection) = handshake.map_err(|_| UpstreamFailure::Protocol)?;
    // Errors reach the request that they hit; an idle connection may end as it likes.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok((sender, link))
}

async fn connect_one(address: SocketAddr) -> Result<TcpStream, UpstreamFailure> {
    TcpStream::connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => UpstreamFailure::ConnectRefused,
        io::ErrorKind::TimedOut => UpstreamFailure::ConnectTimeout,
        _ if open_files::are_used_up(&error) => UpstreamFailure::NoFiles,
        _ => UpstreamFailure::ConnectUnreachable,
    })
}

/// A connection whose writes may not stall.
struct Monitored {
    socket: Arc<TcpStream>,
    link: Link,
    stall: Stall,
}

impl Monitored {
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            self.stall.set(self.link.send_timeout());
        }
        self.stall.watch(cx, outcome)
    }
}

impl Monitored {
    /// Does what `write` does as soon as the socket takes bytes.
    fn poll_ready_to(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match write(&self.socket) {
                // It was not ready after all, and tokio knows it now.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncRead for Monitored {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read_buf(out) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Monitored {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.poll_ready_to(cx, |socket| socket.try_write(bytes));
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.poll_ready_to(cx, |socket| socket.try_write_vectored(slices));
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.socket).shutdown(Shutdown::Write))
    }
}
