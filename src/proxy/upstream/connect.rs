//! New connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Timeouts, UpstreamFailure};
use crate::proxy::http::Stall;
use crate::proxy::http::body::Upload;
use crate::snapshot::Address;

/// Largest buffer of a connection for each direction: the bound on memory when one side is slower than the other,
/// and on a response head.
const BUFFER: usize = 128 * 1024;

/// Most header lines of a response: more than fit into the 4 KiB that ingress-nginx allows by default
/// (`proxy-buffer-size`). Bytes are bounded by [`BUFFER`]; this one bounds what hyper sets aside for each head.
const HEADER_COUNT: usize = 1024;

/// The half of a connection that takes requests.
pub(super) type Sender = http1::SendRequest<Upload>;

/// The longest gap between two writes on a connection. The connection outlives the request that sets it.
#[derive(Clone)]
pub(super) struct SendTimeout(Arc<AtomicU64>);

impl SendTimeout {
    pub(super) fn set(&self, timeout: Duration) {
        self.0.store(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Resolves (names), connects, and starts the task that drives the connection until it closes.
pub(super) async fn connect(address: &Address, timeouts: &Timeouts) -> Result<(Sender, SendTimeout), UpstreamFailure> {
    let connected = tokio::time::timeout(timeouts.connect, async {
        match address {
            Address::Ip(address) => connect_one(*address).await,
            Address::Name(name, port) => {
                let found = tokio::net::lookup_host((name.as_ref(), *port)).await;
                let mut failure = UpstreamFailure::Resolve;
                for address in found.map_err(|_| UpstreamFailure::Resolve)? {
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

    let send_timeout = SendTimeout(Arc::default());
    send_timeout.set(timeouts.send);
    let stream = Monitored { stream, stall: Stall::new(timeouts.send), send_timeout: send_timeout.clone() };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER).max_headers(HEADER_COUNT);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    // There is no handshake in HTTP/1.1: this cannot wait, nor fail.
    let (sender, connection) = handshake.map_err(|_| UpstreamFailure::Protocol)?;
    // Errors reach the request that they hit; an idle connection may end as it likes.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok((sender, send_timeout))
}

async fn connect_one(address: SocketAddr) -> Result<TcpStream, UpstreamFailure> {
    TcpStream::connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => UpstreamFailure::ConnectRefused,
        io::ErrorKind::TimedOut => UpstreamFailure::ConnectTimeout,
        _ => UpstreamFailure::ConnectUnreachable,
    })
}

/// A connection whose writes may not stall.
struct Monitored {
    stream: TcpStream,
    stall: Stall,
    send_timeout: SendTimeout,
}

impl Monitored {
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            self.stall.set(self.send_timeout.get());
        }
        self.stall.watch(cx, outcome)
    }
}

impl AsyncRead for Monitored {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

impl AsyncWrite for Monitored {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
