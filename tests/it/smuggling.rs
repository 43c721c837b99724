//! Requests that two parsers could read differently are refused, and nothing of them reaches an endpoint.

use crate::http_support::{Proxy, Site, Start, Upstream, over_tls, status};

/// What must never be taken for a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";

#[tokio::test]
async fn ambiguous_heads_are_answered_with_400_and_nothing_is_forwarded() {
    let rows: &[(&str, u16)] = &[
        // Two lengths.
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\nContent-Length: 39\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0, 39\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0,0\r\n\r\n", 400),
        // Lengths that parsers read differently.
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: +5\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0x5\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5 5\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5;a\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length:\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 18446744073709551621\r\n\r\nhello", 400),
        // Transfer codings that parsers read differently.
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        // Names and lines that parsers read differently.
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nX: a\0b\r\n\r\n", 400),
        ("POST / HTTP/1.1\nHost: shop\nContent-Length: 0\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: shop\r\nno-colon\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: shop\r\n: empty\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: shop\r\n(x): y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: shop\r\nHost: other\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        // Request lines.
        ("GET / HTTP/1.1 HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        ("GET\t/ HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: shop\r\n\r\n", 400),
        ("GET / HTTP/1.1x\r\nHost: shop\r\n\r\n", 400),
        ("GET / HTTP/1\r\nHost: shop\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: shop\r\n\r\n", 505),
        ("GET / HTTP/1.9\r\nHost: shop\r\n\r\n", 505),
        ("GET http://a@shop/ HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        ("GET ftp://shop/ HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        ("GET shop/ HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        // Chunks that are malformed in the same packet as the head.
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5;\nx\r\nhello\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n1000000000000000a\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n", 400),
    ];
    let endpoint = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    for (request, expected) in rows {
        let response = proxy.raw(format!("{request}{SMUGGLED}")).await;
        assert_eq!(status(&response), *expected, "{request:?} got {response:?}");
        assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{request:?} got {response:?}");
        assert_eq!(endpoint.seen(), "", "{request:?}");
    }
    assert_eq!(proxy.all_requests(), rows.len() as u64, "each is counted once");
}

#[tokio::test]
async fn a_refused_request_takes_nothing_from_the_one_sent_before_it() {
    let endpoint = Upstream::echo().await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let good = "GET /one HTTP/1.1\r\nHost: shop\r\n\r\n";
    for bad in [
        "GET /two HTTP/1.1\nHost: shop\n\n",
        "POST /two HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello",
    ] {
        let response = proxy.raw(format!("{good}{good}{bad}{SMUGGLED}")).await;
        let statuses: Vec<_> = response.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)).collect();
        // The echo names the version of the requests that it got.
        let statuses: Vec<_> = statuses.into_iter().filter(|code| code.parse::<u16>().is_ok()).collect();
        assert_eq!(statuses, ["200", "200", "400"], "{bad:?} got {response:?}");
        assert_eq!(response.matches("GET /one ").count(), 2, "{bad:?} got {response:?}");
    }
    assert_eq!(proxy.requests("shop", "200"), 4);
    assert_eq!(proxy.requests("", "400"), 2);
}

#[tokio::test]
async fn an_upgrade_that_endpoints_may_read_differently_is_none() {
    use crate::http_support::read_response;
    use tokio::io::AsyncWriteExt;

    let endpoint = Upstream::echo().await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    for lines in [
        &b"Connection: upgrade\r\nUpgrade: h2c"[..],
        b"Connection: upgrade\r\nUpgrade: h2c, \x80",
        b"Connection: upgrade\r\nUpgrade: websocket, \x80",
        b"Connection: upgrade, \x80\r\nUpgrade: websocket",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket",
    ] {
        let head = [b"GET / HTTP/1.1\r\nHost: shop\r\n", lines, b"\r\n\r\n"].concat();
        let mut stream = proxy.connect().await;
        stream.write_all(&head).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(status(&response), 200);
        let lines = String::from_utf8_lossy(lines);
        let response = response.split_once("\r\n\r\n").unwrap().1;
        assert!(!response.contains("\nupgrade: ") && !response.contains("\nconnection: "), "{lines:?}: {response}");
    }
    // A member that cannot be read does not keep the others from being read.
    let head = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: x-secret, \x80\r\nX-Secret: y\r\n\r\n";
    let mut stream = proxy.connect().await;
    stream.write_all(head).await.unwrap();
    let response = read_response(&mut stream).await;
    assert!(!response.contains("x-secret"), "{response}");
}

#[tokio::test]
async fn a_chunked_body_that_breaks_later_never_becomes_a_complete_request() {
    use tokio::io::AsyncWriteExt;

    let endpoint = Upstream::start(|mut stream, _, seen| async move {
        // Answers only complete requests, so never.
        while crate::http_support::read_head(&mut stream, &seen).await.is_some() {}
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    for broken in
        ["5\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "0\r\n\n", "zz\r\n", "0\r\nTransfer-Encoding : x\r\n\r\n"]
    {
        endpoint.seen.lock().unwrap().clear();
        let mut stream = proxy.connect().await;
        stream
            .write_all(b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            .await
            .unwrap();
        crate::http_support::until("the endpoint has the first chunk", || endpoint.seen().ends_with("1\r\nx\r\n"))
            .await;
        stream.write_all(format!("{broken}{SMUGGLED}").as_bytes()).await.unwrap();
        let response = crate::http_support::read_to_end(&mut stream).await;
        assert!(response.is_empty() || status(&response) == 400, "{broken:?} got {response:?}");
        let seen = endpoint.seen();
        assert!(!seen.contains("0\r\n\r\n"), "{broken:?} completed: {seen:?}");
        assert!(!seen.contains("smuggled"), "{broken:?}: {seen:?}");
    }
}

#[tokio::test]
async fn what_looks_like_a_request_inside_a_body_stays_in_it() {
    let endpoint = Upstream::echo().await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let sized = format!(
        "POST / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
        SMUGGLED.len()
    );
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x};ext=\"1\"\r\n{SMUGGLED}\r\n0\r\n\r\n",
        SMUGGLED.len()
    );
    for request in [sized, chunked] {
        let response = proxy.raw(&request).await;
        assert_eq!(status(&response), 200);
        assert!(response.ends_with(SMUGGLED), "{response}");
        assert!(response.contains("POST / HTTP/1.1\n"), "{response}");
    }
    assert_eq!(proxy.all_requests(), 2);
}

#[tokio::test]
async fn the_framing_towards_endpoints_is_our_own() {
    let endpoint = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let request =
        "POST / HTTP/1.1\r\nHost: shop\r\nConnection: close, Content-Length, Host\r\nContent-Length: 005\r\n\r\nhello";
    assert_eq!(status(&proxy.raw(request).await), 200);
    let seen = endpoint.seen();
    assert!(seen.contains("\r\ncontent-length: 5\r\n") && seen.contains("\r\nhost: shop\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");
}

/// HTTP/2 has framing of its own, so what was illegal there must not become framing on the way.
#[tokio::test]
async fn http2_requests_with_connection_headers_never_reach_an_endpoint() {
    let endpoint = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let start = Start { security: over_tls(Some("shop"), None, true), ..Start::default() };
    let proxy = Proxy::start_with(Site::simple("shop", &[endpoint.address]), start).await;
    let rows: &[&[(&str, &str)]] = &[
        &[("transfer-encoding", "chunked")],
        &[("connection", "close")],
        &[("upgrade", "websocket")],
        &[("keep-alive", "1")],
        &[("proxy-connection", "close")],
        &[("te", "gzip")],
        &[("content-length", "5"), ("content-length", "6")],
        &[("content-length", "5")],
        &[("content-length", "+0")],
        &[("x", "a\r\ntransfer-encoding: chunked")],
        &[("x", "a\nb")],
        &[("x", "a\0b")],
        &[("x y", "z")],
        &[("Upper", "z")],
        &[("x:", "z")],
        &[(":unknown", "z")],
        &[(":path", "/other")],
        &[("host", "other")],
    ];
    for headers in rows {
        let outcome = http2::request(&proxy, "GET", "/", "shop", headers).await;
        assert!(matches!(outcome.as_deref(), None | Some("400")), "{headers:?} got {outcome:?}");
        assert_eq!(endpoint.seen(), "", "{headers:?}");
    }
    for (method, path) in [("GET", "/ HTTP/1.1\r\nx: y"), ("GET", "/a b"), ("G T", "/"), ("GET", "x"), ("GET", "")] {
        let outcome = http2::request(&proxy, method, path, "shop", &[]).await;
        assert!(matches!(outcome.as_deref(), None | Some("400")), "{method:?} {path:?} got {outcome:?}");
        assert_eq!(endpoint.seen(), "", "{method:?} {path:?}");
    }
    assert_eq!(
        http2::request(&proxy, "GET", "/", "shop", &[("host", "shop"), ("te", "trailers")]).await.unwrap(),
        "200"
    );
    assert!(endpoint.seen().starts_with("GET / HTTP/1.1\r\n"), "{}", endpoint.seen());
}

/// An HTTP/2 client that sends what no library would.
mod http2 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use crate::http_support::Proxy;

    /// Sends one request without a body on a connection of its own. Its status, or `None` if it was reset.
    pub async fn request(
        proxy: &Proxy,
        method: &str,
        path: &str,
        authority: &str,
        headers: &[(&str, &str)],
    ) -> Option<String> {
        let mut block = Vec::new();
        let pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)];
        for (name, value) in pseudo.iter().chain(headers) {
            // RFC 7541 section 6.2.2: literal without indexing, new name, no Huffman code.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        let mut stream = proxy.connect().await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        // END_STREAM and END_HEADERS.
        stream.write_all(&frame(1, 5, 1, &block)).await.unwrap();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.ok()?;
            match (head[3], head[8]) {
                (1, 1) => {
                    // RFC 7541 appendix A: 8 is `:status: 200`, 12 is 400. Others come as a literal.
                    return Some(match payload[0] & 0x7f {
                        8 => "200".into(),
                        12 => "400".into(),
                        _ => format!("{payload:?}"),
                    });
                }
                // RST_STREAM or GOAWAY.
                (3, 1) | (7, _) => return None,
                _ => {}
            }
        }
    }

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream], payload].concat()
    }
}
