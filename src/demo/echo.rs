//! A backend that says what it was asked.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::TcpListener as StdListener;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Answers every request with its own head as text, until `end`.
pub async fn serve(listener: StdListener, end: CancellationToken) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = tokio::select! {
            () = end.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted?,
        };
        let end = end.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| async move { Ok::<_, Infallible>(echo(&request)) });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(60))
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A proxy that closes a connection is no error.
                _ = connection => {}
                () = end.cancelled() => {}
            }
        });
    }
}

fn echo(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    Response::new(Full::new(text.into()))
}
