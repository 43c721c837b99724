//! Upgraded connections: bytes both ways until both sides have ended, nothing moved for a while, or the client's
//! connection may not go on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::record::Record;
use crate::proxy::upstream::Lease;

/// Both ends of a connection that is about to speak another protocol.
pub(super) struct Tunnel {
    /// The client's end.
    pub(super) on_client: OnUpgrade,
    /// The endpoint's end.
    pub(super) on_endpoint: OnUpgrade,
    /// The longest time without a byte in either direction.
    pub(super) idle: Duration,
    /// Counts as in flight while the tunnel is open.
    pub(super) lease: Lease,
    /// Ends with the tunnel.
    pub(super) record: Box<Record>,
}

impl Tunnel {
    /// Copies until the end, at the latest that of `over`. A side that ends its direction may still receive.
    pub(super) async fn run(self, over: impl Future<Output = ()>) {
        let Self { on_client, on_endpoint, idle, lease, mut record } = self;
        // Held to the end: the tunnel is load on this endpoint.
        let _lease = lease;
        let (Ok(client), Ok(endpoint)) = tokio::join!(on_client, on_endpoint) else { return };
        let active = Arc::new(Mutex::new(Activity { at: Instant::now(), from_client: 0, from_endpoint: 0 }));
        let mut client = Watched { io: TokioIo::new(client), is_client: true, activity: active.clone() };
        let mut endpoint = Watched { io: TokioIo::new(endpoint), is_client: false, activity: active.clone() };
        tokio::select! {
            // Errors mean that one side is gone; nobody is left to tell.
            _ = tokio::io::copy_bidirectional(&mut client, &mut endpoint) => {}
            () = idle_for(&active, idle) => {}
            () = over => {}
        }
        let moved = lock(&active);
        record.bytes_in = moved.from_client;
        record.bytes_out = moved.from_endpoint;
    }
}

/// When something moved last, and how much has.
struct Activity {
    at: Instant,
    from_client: u64,
    from_endpoint: u64,
}

async fn idle_for(activity: &Mutex<Activity>, longest: Duration) {
    loop {
        let deadline = lock(activity).at + longest;
        if deadline <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(deadline).await;
    }
}

fn lock(activity: &Mutex<Activity>) -> std::sync::MutexGuard<'_, Activity> {
    // Nothing panics while holding the lock.
    activity.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes what is read from one end.
struct Watched<T> {
    io: T,
    is_client: bool,
    activity: Arc<Mutex<Activity>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, out);
        let amount = (out.filled().len() - before) as u64;
        if amount > 0 {
            let mut activity = lock(&self.activity);
            activity.at = Instant::now();
            if self.is_client {
                activity.from_client += amount;
            } else {
                activity.from_endpoint += amount;
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
