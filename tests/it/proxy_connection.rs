//! The life of a client connection: upgrades, limits, timeouts, requests sent ahead, draining.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use handfast::access_log::Format;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http_support::{
    Proxy, Site, Start, Upstream, header, over_tls, read_head, read_response, read_to_end, status, until,
};

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn get(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn websockets_are_tunnelled() {
    use tokio_tungstenite::tungstenite;

    // Both ends are blocking and on threads of their own: real programs on either side of the proxy.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = tokio::task::spawn_blocking(move || {
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() {
                socket.send(message).unwrap();
            }
        }
    });
    let start = Start { log: Format::Json, ..Start::default() };
    let mut proxy = Proxy::start_with(Site::simple("shop", &[address]), start).await;
    let stream = std::net::TcpStream::connect(proxy.address).unwrap();
    let client = tokio::task::spawn_blocking(move || {
        let (mut socket, response) = tungstenite::client("ws://shop/chat", stream).unwrap();
        assert_eq!(response.status(), 101);
        for text in ["hello", "", &"x".repeat(300_000)] {
            socket.send(tungstenite::Message::text(text)).unwrap();
            assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), text);
        }
        socket
    });
    let socket = client.await.unwrap();
    assert_eq!(proxy.all_requests(), 0, "it has not ended");
    drop(socket);
    endpoint.await.unwrap();
    until("the connection is closed", || proxy.open.load(Ordering::Relaxed) == 0).await;
    assert_eq!(proxy.requests("shop", "101"), 1);
    let line: serde_json::Value = serde_json::from_str(&proxy.log()).unwrap();
    assert_eq!((&line["status"], &line["path"]), (&101.into(), &"/chat".into()));
    assert!(line["bytes_in"].as_u64().unwrap() > 300_000 && line["bytes_out"].as_u64().unwrap() > 300_000);
}

#[tokio::test]
async fn other_protocols_are_tunnelled_byte_for_byte_and_half_closed() {
    let endpoint = Upstream::start(|mut stream, _, seen| async move {
        let head = read_head(&mut stream, &seen).await.unwrap();
        assert!(head.contains("\r\nupgrade: foo/1\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
        // The first bytes of the new protocol come with the response.
        let response = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo/1\r\nConnection: Upgrade\r\n\r\nFIRST";
        stream.write_all(response.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(format!("got {} bytes", all.len()).as_bytes()).await.unwrap();
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    // Nor does the client wait for the response; and nothing of this looks like HTTP.
    let request =
        b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: keep-alive, Upgrade\r\nUpgrade: foo/1\r\n\r\n\0\n\nbytes";
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let response = read_to_end(&mut stream).await;
    let (head, tunnelled) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("connection: upgrade") && head.contains("upgrade: foo/1"), "{head}");
    assert_eq!(tunnelled, "FIRSTgot 8 bytes");
}

#[tokio::test]
async fn an_upgrade_that_is_sent_ahead_waits_for_its_own_answer() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let gate_ = gate.clone();
    let endpoint = Upstream::start(move |mut stream, _, seen| {
        let gate = gate_.clone();
        async move {
            while let Some(head) = read_head(&mut stream, &seen).await {
                if head.starts_with("GET /plain ") {
                    gate.acquire().await.unwrap().forget();
                    stream.write_all(EMPTY.as_bytes()).await.unwrap();
                    continue;
                }
                gate.acquire().await.unwrap().forget();
                stream.write_all(b"HTTP/1.1 101 x\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n").await.unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(&all).await.unwrap();
                return;
            }
        }
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    let plain = "GET /plain HTTP/1.1\r\nHost: shop\r\n\r\n";
    let upgrade = "GET /tunnel HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";
    stream.write_all(format!("{plain}{upgrade}not HTTP\n\n").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    until("the first is at the endpoint", || endpoint.seen().contains("GET /plain ")).await;
    gate.add_permits(1);
    until("the second is at the endpoint", || endpoint.seen().contains("GET /tunnel ")).await;
    gate.add_permits(1);
    let response = read_to_end(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1 200 ") && response.contains("HTTP/1.1 101 "), "{response}");
    assert_eq!(response.rsplit("\r\n\r\n").next(), Some("not HTTP\n\n"), "{response}");
}

#[tokio::test]
async fn an_upgrade_that_is_declined_is_an_ordinary_response() {
    let endpoint = Upstream::echo().await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    for _ in 0..3 {
        let request = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let response = read_response(&mut stream).await;
        assert!(response.contains("\nupgrade: foo\n") && header(&response, "upgrade").is_none(), "{response}");
    }
    assert_eq!(endpoint.connections(), 1);
    assert_eq!(proxy.requests("shop", "200"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_without_traffic_ends_after_the_read_timeout() {
    let endpoint = Upstream::start(|mut stream, _, seen| async move {
        read_head(&mut stream, &seen).await;
        stream.write_all(b"HTTP/1.1 101 x\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n").await.unwrap();
        let mut buffer = [0; 10];
        while let Ok(1..) = stream.read(&mut buffer).await {}
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n").await.unwrap();
    read_response(&mut stream).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(50)).await;
        stream.write_all(b"x").await.unwrap();
    }
    let start = tokio::time::Instant::now();
    assert_eq!(read_to_end(&mut stream).await, "");
    assert!((55..=61).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn heads_that_are_too_large_are_a_431_or_414() {
    let endpoint = Upstream::answering(EMPTY).await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let request = |extra: &str| format!("GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{extra}\r\n");
    let fits = format!("X: {}\r\n", "x".repeat(30_000));
    assert_eq!(status(&proxy.raw(request(&fits)).await), 200);
    assert_eq!(status(&proxy.raw(request(&"X: y\r\n".repeat(98))).await), 200);
    assert_eq!(status(&proxy.raw(request(&"X: y\r\n".repeat(99))).await), 431);
    assert_eq!(status(&proxy.raw(request(&format!("X: {}\r\n", "x".repeat(33_000)))).await), 431);
    assert_eq!(status(&proxy.raw(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(33_000))).await), 414);
    assert_eq!(proxy.requests("", "431"), 2);
    assert_eq!(proxy.requests("", "414"), 1);

    let mut sender = proxy.http2().await;
    let mut big = get("http://shop/");
    big.headers_mut().insert("x", "x".repeat(40_000).parse().unwrap());
    let response = sender.send_request(big).await;
    assert!(response.is_err() || response.unwrap().status() == 431);
    let response = sender.send_request(get("http://shop/")).await;
    assert!(response.is_err() || response.unwrap().status() == 200);
}

#[tokio::test]
async fn no_more_streams_run_at_once_than_allowed() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (running_, most_, gate_) = (running.clone(), most.clone(), gate.clone());
    let endpoint = Upstream::http(move |_| {
        let (running, most, gate) = (running_.clone(), most_.clone(), gate_.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            gate.acquire().await.unwrap().forget();
            running.fetch_sub(1, Ordering::Relaxed);
            Response::new(Full::<Bytes>::default())
        }
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut sender = proxy.http2().await;
    // The first response shows that the client knows the server's settings.
    gate.add_permits(1);
    sender.send_request(get("http://shop/")).await.unwrap();
    let requests: Vec<_> = (0..200).map(|_| tokio::spawn(sender.send_request(get("http://shop/")))).collect();
    until("as many as allowed are running", || running.load(Ordering::Relaxed) == 128).await;
    gate.add_permits(200);
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(most.load(Ordering::Relaxed), 128);
    assert_eq!(proxy.requests("shop", "200"), 201);
}

#[tokio::test(start_paused = true)]
async fn slow_clients_are_told_and_idle_ones_are_closed() {
    let endpoint = Upstream::answering(EMPTY).await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let start = tokio::time::Instant::now;
    let seconds = |since: tokio::time::Instant| since.elapsed().as_secs();

    let (mut silent, since) = (proxy.connect().await, start());
    assert_eq!(read_to_end(&mut silent).await, "");
    assert!((60..62).contains(&seconds(since)), "silent: {}", seconds(since));

    let (mut slow, since) = (proxy.connect().await, start());
    slow.write_all(b"GET / HTTP/1.1\r\nHost: sh").await.unwrap();
    assert_eq!(status(&read_to_end(&mut slow).await), 408);
    assert!((60..67).contains(&seconds(since)), "slow head: {}", seconds(since));
    assert_eq!(proxy.requests("", "408"), 1);

    let (mut idle, since) = (proxy.connect().await, start());
    idle.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    read_response(&mut idle).await;
    assert_eq!(read_to_end(&mut idle).await, "");
    assert!((75..77).contains(&seconds(since)), "idle: {}", seconds(since));

    let mut sender = proxy.http2().await;
    let since = start();
    sender.send_request(get("http://shop/")).await.unwrap();
    while !sender.is_closed() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((75..80).contains(&seconds(since)), "idle HTTP/2: {}", seconds(since));

    let (mut body, since) = (proxy.connect().await, start());
    let quiet =
        Upstream::start(|mut stream, _, seen| async move { while read_head(&mut stream, &seen).await.is_some() {} })
            .await;
    proxy.publisher.publish(Site::simple("shop", &[quiet.address]).build());
    body.write_all(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\nhello").await.unwrap();
    assert_eq!(status(&read_to_end(&mut body).await), 408);
    assert!((60..67).contains(&seconds(since)), "slow body: {}", seconds(since));
    assert_eq!(proxy.requests("shop", "408"), 1);
    drop((silent, slow, idle, sender, body));
    until("all are closed", || proxy.open.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_chose_http2_and_does_not_begin_it_is_closed() {
    let endpoint = Upstream::answering(EMPTY).await;
    let start = || Start { security: over_tls(Some("shop"), None, true), ..Start::default() };
    let start_of_it = &b"PRI * HTTP/2.0\r\n"[..];
    for sent in [b"".as_slice(), start_of_it] {
        let proxy = Proxy::start_with(Site::simple("shop", &[endpoint.address]), start()).await;
        let since = tokio::time::Instant::now();
        let mut stream = proxy.connect().await;
        stream.write_all(sent).await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(1000), read_to_end(&mut stream)).await;
        assert_eq!(end.as_deref(), Ok(""));
        assert!((60..62).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());

        let mut stream = proxy.connect().await;
        stream.write_all(sent).await.unwrap();
        until("it is being served", || proxy.open.load(Ordering::Relaxed) == 1).await;
        let since = tokio::time::Instant::now();
        proxy.drain.cancel();
        let end = tokio::time::timeout(Duration::from_secs(1000), read_to_end(&mut stream)).await;
        assert_eq!(end.as_deref(), Ok(""));
        assert!((5..7).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    }

    let proxy = Proxy::start_with(Site::simple("shop", &[endpoint.address]), start()).await;
    assert_eq!(proxy.raw("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await, "", "another protocol than agreed on");
    assert_eq!(endpoint.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_for_a_head_counts_from_the_start_of_the_connection() {
    let proxy = Proxy::start(Site::simple("shop", &[])).await;
    let since = tokio::time::Instant::now();
    let mut slow = proxy.connect().await;
    slow.write_all(b"P").await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    slow.write_all(b"OST / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(status(&read_to_end(&mut slow).await), 408);
    assert!((60..67).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn responses_that_an_http2_client_does_not_take_are_given_up() {
    // Too large for any buffer; small; one that ends at once for us and stays with hyper; our own words.
    let endpoint = Upstream::start(|mut stream, _, seen| async move {
        while let Some(head) = read_head(&mut stream, &seen).await {
            let length = if head.starts_with("GET /large ") { 50_000_000 } else { 5 };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&vec![b'x'; length]).await.is_err()
            {
                return;
            }
        }
    })
    .await;
    for (window, path, code) in
        [(0, "/large", "200"), (1000, "/large", "200"), (0, "/small", "200"), (1, "/small", "200"), (0, "*", "200")]
    {
        let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
        // It answers PINGs all the time.
        let io = hyper_util::rt::TokioIo::new(proxy.connect().await);
        let mut builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let (mut sender, connection) = builder.initial_stream_window_size(window).handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = match path {
            "*" => Request::options("http://nobody/").body(Empty::<Bytes>::new()).unwrap(),
            path => get(&format!("http://shop{path}")),
        };
        let since = tokio::time::Instant::now();
        let mut response = sender.send_request(request).await.unwrap();
        if window == 1000 {
            response.body_mut().frame().await.unwrap().unwrap();
        }
        for _ in 0..62 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if path == "/large" {
            until("its connection is closed", || endpoint.open.load(Ordering::Relaxed) == 0).await;
        }
        assert_eq!(proxy.all_requests(), 1, "{window} {path} {code}");
        // Others go on.
        let head = Request::head("http://shop/small").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(head).await.unwrap().status(), 200);
        assert_eq!(proxy.all_requests(), 2, "{window} {path}");
        let mut turns = 0;
        while proxy.open.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            turns += 1;
            assert!(turns < 300, "{window} {path}: still open after {:?}", since.elapsed());
        }
        drop(response);
    }
}

#[tokio::test]
async fn without_keep_alive_a_connection_has_one_request() {
    let endpoint = Upstream::answering(EMPTY).await;
    let settings = || handfast::proxy::settings::Settings { client_idle_timeout: Duration::ZERO, ..Default::default() };
    for security in [handfast::proxy::http::Security::Plain, over_tls(Some("shop"), None, false)] {
        let start = Start { settings: settings(), security, ..Start::default() };
        let proxy = Proxy::start_with(Site::simple("shop", &[endpoint.address]), start).await;
        let mut stream = proxy.connect().await;
        until("it is being served", || proxy.open.load(Ordering::Relaxed) == 1).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
        let response = read_to_end(&mut stream).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response:?}");
        assert_eq!(header(&response, "connection"), Some("close"));
    }
    let start = Start { settings: settings(), security: over_tls(Some("shop"), None, true), ..Start::default() };
    let proxy = Proxy::start_with(Site::simple("shop", &[endpoint.address]), start).await;
    let mut sender = proxy.http2().await;
    assert_eq!(sender.send_request(get("http://shop/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn draining_finishes_what_runs_and_says_so() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let gate_ = gate.clone();
    let endpoint = Upstream::http(move |_| {
        let gate = gate_.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Response::new(Full::from("done"))
        }
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut idle = proxy.connect().await;
    idle.write_all(b"OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    read_response(&mut idle).await;
    let mut fresh = proxy.connect().await;
    let mut busy = proxy.connect().await;
    busy.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    let mut sender = proxy.http2().await;
    let stream = tokio::spawn(sender.send_request(get("http://shop/")));
    until("both requests are at the endpoint", || endpoint.connections() == 2).await;
    proxy.drain.cancel();
    assert_eq!(read_to_end(&mut idle).await, "", "idle connections are closed at once");
    // A client that was connected and had not asked yet may ask once.
    fresh.write_all(b"OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    let response = read_to_end(&mut fresh).await;
    assert!(response.starts_with("HTTP/1.1 200 ") && response.contains("connection: close\r\n"), "{response}");
    gate.add_permits(2);
    let response = read_to_end(&mut busy).await;
    assert!(response.contains("connection: close\r\n") && response.ends_with("done"), "{response}");
    assert_eq!(text(stream.await.unwrap().unwrap()).await, "done");
    until("all are closed", || proxy.open.load(Ordering::Relaxed) == 0).await;
    assert!(sender.is_closed());
}

#[tokio::test]
async fn draining_leaves_tunnels_open_until_the_deadline() {
    let endpoint = Upstream::start(|mut stream, _, seen| async move {
        read_head(&mut stream, &seen).await;
        stream.write_all(b"HTTP/1.1 101 x\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n").await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n").await.unwrap();
    read_response(&mut stream).await;
    proxy.drain.cancel();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"still here").await.unwrap();
    let mut echo = [0; 10];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"still here");
    proxy.abort();
    assert_eq!(read_to_end(&mut stream).await, "");
    until("the endpoint's connection is closed", || endpoint.open.load(Ordering::Relaxed) == 0).await;
    assert_eq!(proxy.requests("shop", "101"), 1);
}

#[tokio::test]
async fn requests_that_a_client_sends_ahead_are_answered_in_order() {
    let endpoint = Upstream::echo().await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
    let last = "POST /3 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    let response = proxy.raw(format!("{}{}{last}", one("/1"), one("/2"))).await;
    let order: Vec<_> = ["GET /1 ", "GET /2 ", "POST /3 "].map(|line| response.find(line)).into_iter().collect();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{response}");
    assert_eq!(proxy.all_requests(), 3);
}
