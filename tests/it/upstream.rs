//! Endpoints: kept connections, retries, failures told apart, and what happens when they go away.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast::proxy::settings::Settings;
use handfast::snapshot::{Address, BackendState, Reach, RouteOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::http_support::{Proxy, Site, Start, Upstream, header, read_head, read_response, read_to_end, status, until};

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

/// An address that refuses connections.
async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn ten_thousand_requests_over_kept_connections_use_few_connections_to_the_endpoint() {
    let endpoint = Upstream::answering(EMPTY).await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let clients = (0..10).map(|_| async {
        let mut stream = proxy.connect().await;
        for _ in 0..1000 {
            stream.write_all(GET).await.unwrap();
            assert_eq!(status(&read_response(&mut stream).await), 200);
        }
    });
    let clients: Vec<_> = clients.collect();
    join_all(clients).await;
    assert_eq!(proxy.requests("shop", "200"), 10_000);
    assert_eq!(proxy.all_requests(), 10_000);
    assert!(endpoint.connections() <= 10, "{} connections", endpoint.connections());
}

/// Runs futures side by side on this task.
async fn join_all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|cx| {
        for slot in &mut futures {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(cx).is_ready()) {
                *slot = None;
            }
        }
        if futures.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_the_endpoint_closed_while_idle_is_never_used_again() {
    // Answers one request per connection, then closes without having said so.
    let (closed, mut is_closed) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = Upstream::start(move |mut stream, _, seen| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream, &seen).await;
            stream.write_all(EMPTY.as_bytes()).await.unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    for _ in 0..50 {
        stream.write_all(GET).await.unwrap();
        assert_eq!(status(&read_response(&mut stream).await), 200);
        // A request that goes out before the endpoint has closed may be lost; that is another test's matter.
        is_closed.recv().await.unwrap();
        // The end has arrived, and the proxy has yet to hear of it: once for the runtime to look, once for the connection.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(endpoint.connections(), 50);
    assert_eq!(proxy.requests("shop", "200"), 50);
}

/// The endpoint closes a kept connection at the moment at which it is chosen: the request goes out on a new one.
#[tokio::test]
async fn a_request_does_not_meet_a_connection_that_is_closing() {
    let (answered, mut kept) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = Upstream::start(move |mut stream, number, seen| {
        let answered = answered.clone();
        async move {
            while read_head(&mut stream, &seen).await.is_some() {
                stream.write_all(EMPTY.as_bytes()).await.unwrap();
                if number == 0 {
                    answered.send(stream).unwrap();
                    return;
                }
            }
        }
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    assert_eq!(status(&proxy.get("shop", "/").await), 200);
    let mut client = proxy.connect().await;
    client.write_all(b"OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    read_response(&mut client).await;
    let kept = kept.recv().await.unwrap();
    // Without giving way in between: the proxy wakes up with both, the request first.
    let request = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(client.try_write(request).unwrap(), request.len());
    drop(kept);
    assert_eq!(status(&read_response(&mut client).await), 200);
    // The kernel knew of the end before the task that drives the connection did, and was asked.
    assert_eq!(proxy.metrics.upstream_retries.get(), 0);
    assert_eq!(endpoint.connections(), 2);
    assert_eq!(endpoint.seen().matches("POST / HTTP/1.1").count(), 1);
    assert!(endpoint.seen().ends_with("hello"));
    assert_eq!(proxy.failures("reset"), 0);
}

#[tokio::test]
async fn a_refused_connection_is_retried_on_another_endpoint() {
    let good = Upstream::answering(EMPTY).await;
    let bad = refusing().await;
    let settings = Settings { eject_after: 1000, ..Settings::default() };
    let start = Start { settings, ..Start::default() };
    let proxy = Proxy::start_with(Site::simple("shop", &[good.address, bad]), start).await;
    for _ in 0..100 {
        assert_eq!(status(&proxy.get("shop", "/").await), 200);
    }
    let refused = proxy.failures("connect-refused");
    assert!(refused > 10, "the bad endpoint was tried {refused} times");
    assert_eq!(proxy.metrics.upstream_retries.get(), refused);
}

#[tokio::test]
async fn a_failing_endpoint_is_ejected() {
    let good = Upstream::answering(EMPTY).await;
    let bad = refusing().await;
    let proxy = Proxy::start(Site::simple("shop", &[good.address, bad])).await;
    for _ in 0..100 {
        assert_eq!(status(&proxy.get("shop", "/").await), 200);
    }
    assert_eq!(proxy.failures("connect-refused"), 5, "five failures in a row, then no more requests");
    assert_eq!(proxy.metrics.upstream_ejections.get(), 1);
}

#[tokio::test]
async fn if_every_endpoint_fails_the_client_gets_502_and_both_failures_count() {
    let proxy = Proxy::start(Site::simple("shop", &[refusing().await, refusing().await])).await;
    let response = proxy.get("shop", "/").await;
    assert_eq!(status(&response), 502);
    assert!(response.ends_with("502 Bad Gateway: the service cannot be reached\n"), "{response}");
    assert_eq!(proxy.failures("connect-refused"), 2);
    assert_eq!(proxy.metrics.upstream_retries.get(), 1);
    assert_eq!(proxy.requests("shop", "502"), 1);
}

#[tokio::test]
async fn a_single_endpoint_that_refuses_is_not_asked_twice() {
    let proxy = Proxy::start(Site::simple("shop", &[refusing().await])).await;
    assert_eq!(status(&proxy.get("shop", "/").await), 502);
    assert_eq!(proxy.failures("connect-refused"), 1);
    assert_eq!(proxy.metrics.upstream_retries.get(), 0);
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_sent_again() {
    let closing = |mut stream: TcpStream, _, seen: Arc<Mutex<Vec<u8>>>| async move {
        read_head(&mut stream, &seen).await;
    };
    let one = Upstream::start(closing).await;
    let other = Upstream::start(closing).await;
    let proxy = Proxy::start(Site::simple("shop", &[one.address, other.address])).await;
    let response = proxy.get("shop", "/once").await;
    assert_eq!(status(&response), 502);
    let sent = format!("{}{}", one.seen(), other.seen());
    assert_eq!(sent.matches("GET /once").count(), 1);
    assert_eq!(proxy.failures("reset"), 1);
    assert_eq!(proxy.metrics.upstream_retries.get(), 0);
}

#[tokio::test]
async fn what_is_no_response_is_a_502() {
    let garbage = [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: surprise\r\n\r\n",
    ];
    for text in garbage {
        let endpoint = Upstream::answering(text).await;
        let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
        let response = proxy.get("shop", "/").await;
        assert_eq!(status(&response), 502, "{text:?} got {response:?}");
        assert_eq!(proxy.failures("protocol"), 1, "{text:?}");
    }
}

#[tokio::test]
async fn a_response_with_two_framings_is_passed_on_with_one() {
    let endpoint = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let response = proxy.get("shop", "/").await;
    assert!(!response.contains("content-length"), "{response}");
    assert!(response.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{response}");
}

#[tokio::test]
async fn a_length_that_is_repeated_is_passed_on_once() {
    for (method, answer, expected) in [
        ("GET", "200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", Some("2")),
        ("GET", "200 OK\r\nContent-Length: 002\r\n\r\nhi", Some("2")),
        ("GET", "200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", Some("2")),
        ("HEAD", "200 OK\r\nContent-Length: 2, 2\r\n\r\n", Some("2")),
        // hyper leaves it out of these.
        ("GET", "304 Not Modified\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", None),
        ("GET", "204 No Content\r\nContent-Length: 2\r\n\r\n", None),
    ] {
        let endpoint = Upstream::start(move |mut stream, _, seen| async move {
            while read_head(&mut stream, &seen).await.is_some() {
                stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
            }
        })
        .await;
        let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
        let request = format!("{method} / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
        let response = proxy.raw(request).await;
        assert!(answer.starts_with(&status(&response).to_string()), "{answer:?} got {response:?}");
        assert_eq!(header(&response, "content-length"), expected, "{answer:?} got {response:?}");
        assert!(response.matches("content-length").count() <= 1, "{answer:?} got {response:?}");
    }
    for answer in ["Content-Length: 2, 3", "Content-Length: +2", "Content-Length:", "Content-Length: 2;"] {
        let endpoint = Upstream::start(move |mut stream, _, seen| async move {
            while read_head(&mut stream, &seen).await.is_some() {
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{answer}\r\n\r\n").as_bytes()).await.unwrap();
            }
        })
        .await;
        let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
        let response = proxy.raw("HEAD / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status(&response), 502, "{answer:?} got {response:?}");
    }
}

#[tokio::test]
async fn a_response_may_have_many_headers() {
    let endpoint = Upstream::start(|mut stream, _, seen| async move {
        while read_head(&mut stream, &seen).await.is_some() {
            let lines: String = (0..600).map(|number| format!("X-{number}: y\r\n")).collect();
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n");
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let response = proxy.get("shop", "/").await;
    assert_eq!(status(&response), 200);
    assert_eq!(response.matches("\r\nx-").count(), 600);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_passed_off_as_complete() {
    for cut in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let endpoint = Upstream::start(move |mut stream, _, seen| async move {
            read_head(&mut stream, &seen).await;
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{cut}").as_bytes()).await.unwrap();
        })
        .await;
        let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
        let response = proxy.get("shop", "/").await;
        assert!(!response.ends_with("0\r\n\r\n") && response.contains("hello"), "{response}");
        assert_eq!(proxy.failures("body-reset"), 1, "{cut:?}");
        assert_eq!(proxy.requests("shop", "200"), 1);
        assert_eq!(endpoint.connections(), 1);
    }
}

#[tokio::test]
async fn a_connection_with_an_unread_response_is_closed_not_kept() {
    let endpoint = Upstream::start(|mut stream, number, seen| async move {
        while read_head(&mut stream, &seen).await.is_some() {
            let body = "x".repeat(if number == 0 { 10_000_000 } else { 5 });
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    stream.write_all(GET).await.unwrap();
    stream.read_exact(&mut [0; 1000]).await.unwrap();
    drop(stream);
    until("the endpoint's connection is closed", || endpoint.open.load(Ordering::Relaxed) == 0).await;
    assert!(proxy.get("shop", "/").await.ends_with("\r\n\r\nxxxxx"));
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test]
async fn a_connection_whose_request_was_not_read_is_closed_not_kept() {
    // Answers before the body has come.
    let endpoint = Upstream::answering(EMPTY).await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100\r\n\r\nhello").await.unwrap();
    assert_eq!(status(&read_response(&mut stream).await), 200);
    drop(stream);
    assert_eq!(status(&proxy.get("shop", "/").await), 200);
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test]
async fn connection_close_of_an_endpoint_is_honoured() {
    let endpoint = Upstream::answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    for _ in 0..3 {
        stream.write_all(GET).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(status(&response), 200);
        assert!(!response.contains("close"), "{response}");
    }
    assert_eq!(endpoint.connections(), 3);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_after_their_time() {
    let endpoint = Upstream::answering(EMPTY).await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    assert_eq!(status(&proxy.get("shop", "/").await), 200);
    assert_eq!(endpoint.open.load(Ordering::Relaxed), 1);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(endpoint.open.load(Ordering::Relaxed), 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    until("closed", || endpoint.open.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn connections_to_endpoints_that_left_are_closed() {
    let endpoint = Upstream::answering(EMPTY).await;
    let other = Upstream::answering(EMPTY).await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    assert_eq!(status(&proxy.get("shop", "/").await), 200);
    proxy.publisher.publish(Site::simple("shop", &[other.address]).build());
    tokio::time::sleep(Duration::from_secs(6)).await;
    until("closed", || endpoint.open.load(Ordering::Relaxed) == 0).await;
    assert_eq!(status(&proxy.get("shop", "/").await), 200);
    assert_eq!(other.connections(), 1);
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_allowed() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let (count, gate) = (arrived.clone(), release.clone());
    let endpoint = Upstream::start(move |mut stream, _, seen| {
        let (count, gate) = (count.clone(), gate.clone());
        async move {
            while read_head(&mut stream, &seen).await.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
                gate.acquire().await.unwrap().forget();
                stream.write_all(EMPTY.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let start = Start { settings: Settings { upstream_idle: 3, ..Settings::default() }, ..Start::default() };
    let proxy = Proxy::start_with(Site::simple("shop", &[endpoint.address]), start).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut stream = proxy.connect().await;
        stream.write_all(GET).await.unwrap();
        clients.push(stream);
    }
    until("all requests are at the endpoint", || arrived.load(Ordering::Relaxed) == 8).await;
    release.add_permits(8);
    for stream in &mut clients {
        assert_eq!(status(&read_response(stream).await), 200);
    }
    until("five of eight are closed", || endpoint.open.load(Ordering::Relaxed) == 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_does_not_answer_is_a_504_after_the_read_timeout() {
    let endpoint =
        Upstream::start(|mut stream, _, seen| async move { while read_head(&mut stream, &seen).await.is_some() {} })
            .await;
    let options = RouteOptions { read_timeout: Some(Duration::from_secs(7)), ..RouteOptions::default() };
    let site = Site::default().route("shop", "/", "shop", options).backend("shop", &[endpoint.address]);
    let proxy = Proxy::start(site).await;
    let start = tokio::time::Instant::now();
    let response = proxy.get("shop", "/").await;
    assert_eq!(status(&response), 504);
    assert!((7..9).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(proxy.failures("read-timeout"), 1);
    assert_eq!(proxy.requests("shop", "504"), 1);
    until("the connection is closed", || endpoint.open.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_stops_in_the_middle_of_a_response_is_given_up() {
    let endpoint = Upstream::start(|mut stream, _, seen| async move {
        read_head(&mut stream, &seen).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.unwrap();
        read_head(&mut stream, &seen).await;
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let start = tokio::time::Instant::now();
    let response = proxy.get("shop", "/").await;
    assert!(response.ends_with("hello"), "{response}");
    // Paused time runs to the next timer, and the sweep over idle connections has one every 5 s.
    assert!((60..=66).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(proxy.failures("body-timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_stops_reading_the_request_is_a_504() {
    let endpoint = Upstream::start(|stream, _, _| async move {
        // Keeps the connection and reads nothing.
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    let (mut read, mut write) = stream.split();
    let send = async {
        let head = b"POST / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 1000000000\r\n\r\n";
        write.write_all(head).await.unwrap();
        while write.write_all(&[b'x'; 65536]).await.is_ok() {}
    };
    let receive = async {
        let mut response = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = read.read(&mut buffer).await {
            response.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8(response).unwrap()
    };
    let response = tokio::select! {
        response = receive => response,
        () = async { send.await; std::future::pending().await } => unreachable!(),
    };
    assert_eq!(status(&response), 504);
    assert_eq!(proxy.failures("send-timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_is_a_504_after_the_connect_timeout() {
    // A listener whose queue is full drops what comes.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queue = Vec::new();
    for _ in 0..4 {
        let connecting = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address));
        queue.push(connecting.await);
    }
    let proxy = Proxy::start(Site::simple("shop", &[address])).await;
    let start = tokio::time::Instant::now();
    let response = proxy.get("shop", "/").await;
    assert_eq!(status(&response), 504);
    assert!((5..7).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(proxy.failures("connect-timeout"), 1);
}

#[tokio::test]
async fn names_are_resolved_and_names_without_an_address_are_a_502() {
    let endpoint = Upstream::answering(EMPTY).await;
    let port = endpoint.address.port();
    let site = Site::default()
        .route("good", "/", "good", RouteOptions::default())
        .route("bad", "/", "bad", RouteOptions::default())
        .addresses("good", &[Address::Name("localhost".into(), port)])
        .addresses("bad", &[Address::Name("does-not-exist.invalid".into(), port)]);
    let reach = Arc::new(Reach { loopback: true, ..Reach::default() });
    let settings = Settings { reach, ..Settings::default() };
    let proxy = Proxy::start_with(site, Start { settings, ..Start::default() }).await;
    assert_eq!(status(&proxy.get("good", "/").await), 200);
    assert_eq!(status(&proxy.get("bad", "/").await), 502);
    assert_eq!(proxy.failures("resolve"), 1);
}

#[tokio::test]
async fn what_a_name_resolves_to_is_judged_before_anything_is_sent_there() {
    let endpoint = Upstream::answering(EMPTY).await;
    let here = endpoint.address;
    let site = || {
        Site::simple("shop", &[here])
            .route("evil", "/", "evil", RouteOptions::default())
            .addresses("evil", &[Address::Name("localhost".into(), here.port())])
    };
    let forbidding = [
        // No loopback at all, as in a cluster.
        Reach::default(),
        // Loopback, but not our own listener: `localhost` is one of several names for it.
        Reach {
            loopback: true,
            listeners: vec![SocketAddr::new([0, 0, 0, 0].into(), here.port())],
            ..Reach::default()
        },
        // The API server, which has an address here as any other program.
        Reach {
            loopback: true,
            api_server: vec![here, SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), here.port())],
            ..Reach::default()
        },
    ];
    for reach in forbidding {
        let settings = Settings { reach: Arc::new(reach.clone()), ..Settings::default() };
        let proxy = Proxy::start_with(site(), Start { settings, ..Start::default() }).await;
        let before = endpoint.connections();
        assert_eq!(status(&proxy.get("evil", "/").await), 502, "{reach:?}");
        assert_eq!(proxy.failures("forbidden-address"), 1, "{reach:?}");
        assert_eq!(endpoint.connections(), before, "{reach:?}");
        // A good host beside it.
        assert_eq!(status(&proxy.get("shop", "/").await), 200);
    }
}

#[tokio::test]
async fn a_request_that_goes_round_in_a_circle_ends_after_eight_rounds() {
    // Two proxies, each the endpoint of the other.
    let placeholder = Site::simple("loop", &[]);
    let (first, second) = (Proxy::start(placeholder).await, Proxy::start(Site::simple("loop", &[])).await);
    first.publisher.publish(Site::simple("loop", &[second.address]).build());
    second.publisher.publish(Site::simple("loop", &[first.address]).build());
    assert_eq!(status(&first.get("loop", "/").await), 508);
    assert_eq!(first.all_requests() + second.all_requests(), 9);
    assert_eq!(first.failures("loop") + second.failures("loop"), 1);
    // A request of a client that was never here goes round anew, and ends as well.
    assert_eq!(status(&second.get("loop", "/").await), 508);
    assert_eq!(first.all_requests() + second.all_requests(), 18);
}

#[tokio::test]
async fn endpoints_see_how_often_a_request_has_been_here_and_clients_cannot_reset_it() {
    let endpoint = Upstream::echo().await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let rows = [
        ("", Some("1")),
        ("Handfast-Hops: 3\r\n", Some("4")),
        ("Handfast-Hops: 7\r\n", Some("8")),
        ("Handfast-Hops: 8\r\n", None),
        ("Handfast-Hops: 300\r\n", None),
        ("Handfast-Hops: 18446744073709551615\r\n", None),
        // No counts of ours.
        ("Handfast-Hops: -1\r\n", Some("1")),
        ("Handfast-Hops: many\r\n", Some("1")),
        ("Handfast-Hops: 2\r\nHandfast-Hops: 9\r\n", None),
        // A client may not have the count removed on the way.
        ("Connection: handfast-hops\r\nHandfast-Hops: 5\r\n", Some("6")),
    ];
    for (lines, expected) in rows {
        let mut stream = proxy.connect().await;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: shop\r\n{lines}\r\n").as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(status(&response), if expected.is_some() { 200 } else { 508 }, "{lines}");
        if let Some(expected) = expected {
            assert!(response.contains(&format!("\nhandfast-hops: {expected}\n")), "{lines}{response}");
        }
    }
}

#[tokio::test]
async fn backends_without_endpoints_and_backends_that_do_not_exist_are_told_apart() {
    let options = RouteOptions::default;
    let site = Site::default()
        .route("shop", "/none", "none", options())
        .route("shop", "/missing", "missing", options())
        .route("shop", "/unknown", "unknown", options())
        .state("none", BackendState::NoEndpoints, Arc::new([]))
        .state("missing", BackendState::Missing, Arc::new([]));
    let proxy = Proxy::start(site).await;
    for path in ["/none", "/missing", "/unknown"] {
        assert_eq!(status(&proxy.get("shop", path).await), 503);
    }
    assert_eq!(proxy.failures("no-endpoints"), 1);
    assert_eq!(proxy.failures("backend-missing"), 2);
    assert_eq!(proxy.requests("shop", "503"), 3);
}

/// Memory is bounded by buffers: an endpoint cannot write more than those hold while nobody reads.
#[tokio::test]
async fn a_slow_client_slows_the_endpoint_down() {
    for http2 in [false, true] {
        let written = Arc::new(AtomicUsize::new(0));
        let count = written.clone();
        let endpoint = Upstream::start(move |mut stream, _, seen| {
            let count = count.clone();
            async move {
                read_head(&mut stream, &seen).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
                while let Ok(amount) = stream.write(&[b'x'; 65536]).await {
                    count.fetch_add(amount, Ordering::Relaxed);
                }
            }
        })
        .await;
        let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
        let mut stream = proxy.connect().await;
        let response = if http2 {
            let mut sender = proxy.http2::<http_body_util::Empty<bytes::Bytes>>().await;
            let request = hyper::Request::get("http://shop/").body(http_body_util::Empty::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            Some((sender, response))
        } else {
            stream.write_all(GET).await.unwrap();
            None
        };
        let mut last = usize::MAX;
        while last != written.load(Ordering::Relaxed) {
            last = written.load(Ordering::Relaxed);
            for _ in 0..2000 {
                tokio::task::yield_now().await;
            }
        }
        // Two sockets' worth of kernel buffers (up to 6 MiB to read and 4 MiB to write each) and ours.
        assert!(last < 25_000_000, "{last} bytes were taken from the endpoint");
        assert!(last > 0);
        drop(response);
    }
}

/// The same in the other direction.
#[tokio::test]
async fn a_slow_endpoint_slows_the_client_down() {
    let endpoint = Upstream::start(|stream, _, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
    let mut written = 0;
    let mut quiet = 0;
    while quiet < 2000 {
        match stream.try_write(&[b'x'; 65536]) {
            Ok(amount) => {
                written += amount;
                quiet = 0;
            }
            Err(_) => quiet += 1,
        }
        tokio::task::yield_now().await;
    }
    assert!(written < 25_000_000, "{written} bytes were taken from the client");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let endpoint =
        Upstream::start(|mut stream, _, seen| async move { while read_head(&mut stream, &seen).await.is_some() {} })
            .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    stream.write_all(GET).await.unwrap();
    until("the request is at the endpoint", || endpoint.seen().contains("\r\n\r\n")).await;
    drop(stream);
    until("the endpoint's connection is closed", || endpoint.open.load(Ordering::Relaxed) == 0).await;
    until("it is counted", || proxy.requests("shop", "499") == 1).await;

    // HTTP/2: only the stream ends, the connection stays.
    let mut sender = proxy.http2::<http_body_util::Empty<bytes::Bytes>>().await;
    let request = hyper::Request::get("http://shop/").body(http_body_util::Empty::new()).unwrap();
    let response = tokio::spawn(sender.send_request(request));
    until("the request is at the endpoint", || endpoint.open.load(Ordering::Relaxed) == 1).await;
    until("the whole request", || endpoint.seen().matches("\r\n\r\n").count() == 2).await;
    response.abort();
    until("the endpoint's connection is closed", || endpoint.open.load(Ordering::Relaxed) == 0).await;
    until("it is counted", || proxy.requests("shop", "499") == 2).await;
    assert!(!sender.is_closed());
    assert_eq!(proxy.all_requests(), 2);
}

#[tokio::test]
async fn responses_without_bodies_keep_their_headers_and_their_connection() {
    let endpoint = Upstream::start(|mut stream, _, seen| async move {
        while let Some(head) = read_head(&mut stream, &seen).await {
            let response = if head.starts_with("HEAD") {
                "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"x\"\r\n\r\n"
            } else if head.starts_with("GET /304") {
                "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"
            } else {
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\nETag: \"x\"\r\n\r\n"
            };
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    for (request, expected) in [("HEAD /", 200), ("GET /304", 304), ("DELETE /", 204)] {
        let mut stream = proxy.connect().await;
        stream
            .write_all(format!("{request} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let response = read_to_end(&mut stream).await;
        assert_eq!(status(&response), expected);
        assert!(response.ends_with("\r\n\r\n") && response.contains("etag: \"x\""), "{response}");
        assert_eq!(response.contains("content-length: 1234"), expected == 200, "{response}");
    }
    assert_eq!(endpoint.connections(), 1);
}
