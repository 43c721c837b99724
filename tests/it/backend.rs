//! Backends for end-to-end tests: echo, sizes, slow answers, WebSocket. Each runs in a thread with a runtime of its own
//! and ends with the value that started it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running backend.
pub struct Backend {
    pub address: SocketAddr,
    /// Requests that have arrived.
    pub requests: Arc<AtomicUsize>,
    /// Connections that have arrived.
    pub connections: Arc<AtomicUsize>,
    /// Lets requests to `/wait` go on.
    pub go: CancellationToken,
    end: Option<DropGuard>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Backend {
    /// Starts a backend that says its name in `X-Backend`.
    pub fn start(name: &str) -> Self {
        Self::start_at(name, "127.0.0.1:0".parse().unwrap())
    }

    /// As [`Self::start`], at an address of this machine.
    pub fn start_at(name: &str, address: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            name: name.into(),
            requests: Arc::default(),
            connections: Arc::default(),
            go: CancellationToken::new(),
        };
        let end = CancellationToken::new();
        let (requests, connections, go) = (state.requests.clone(), state.connections.clone(), state.go.clone());
        let ended = end.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = ended.cancelled() => {}
                    () = serve(listener, state) => {}
                }
            });
        });
        Self { address, requests, connections, go, end: Some(end.drop_guard()), thread: Some(thread) }
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct State {
    name: Arc<str>,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    go: CancellationToken,
}

async fn serve(listener: std::net::TcpListener, state: State) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        state.connections.fetch_add(1, Ordering::Relaxed);
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(answer(request, state).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn answer(mut request: Request<Incoming>, state: State) -> Response<BoxBody<Bytes, Infallible>> {
    state.requests.fetch_add(1, Ordering::Relaxed);
    let path = request.uri().path().to_owned();
    if path == "/websocket" {
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(
            request.headers()["sec-websocket-key"].as_bytes(),
        );
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            use tokio_tungstenite::tungstenite::protocol::Role;
            let stream = TokioIo::new(upgrade.await.unwrap());
            let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() || socket.send(message).await.is_err() {
                    return;
                }
            }
        });
        return Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", accept)
            .body(Full::default().boxed())
            .unwrap();
    }
    let response = Response::builder().header("x-backend", &*state.name);
    if path == "/wait" {
        state.go.cancelled().await;
    }
    if let Some(milliseconds) = path.strip_prefix("/slow/") {
        tokio::time::sleep(std::time::Duration::from_millis(milliseconds.parse().unwrap())).await;
    }
    if let Some(size) = path.strip_prefix("/bytes/") {
        let size: usize = size.parse().unwrap();
        return response.header("content-length", size).body(BodyExt::boxed(zeros(size))).unwrap();
    }
    if path == "/count" {
        let mut count = 0;
        while let Some(frame) = request.body_mut().frame().await {
            let Ok(frame) = frame else { break };
            count += frame.data_ref().map_or(0, Bytes::len);
        }
        return response.body(Full::from(format!("{count}\n")).boxed()).unwrap();
    }
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    response.body(Full::from(text).boxed()).unwrap()
}

/// A body of zeros, made as it is read.
fn zeros(size: usize) -> impl http_body::Body<Data = Bytes, Error = Infallible> {
    static CHUNK: [u8; 64 * 1024] = [0; 64 * 1024];
    StreamBody::new(stream::unfold(size, |left| async move {
        let next = left.min(CHUNK.len());
        (next > 0).then(|| (Ok(Frame::data(Bytes::from_static(&CHUNK[..next]))), left - next))
    }))
}
