//! A request that goes to an endpoint, and the response that comes back.
//!
//! Retried once, on another connection, if nothing of the request had been sent: the connection could not be made,
//! or the endpoint had closed a kept one. Anything else may have had an effect and is not repeated.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use tokio::time::Instant;

use super::body::{ResponseBody, Transfer, Upload, UploadFailure};
use super::decide::{Answer, Forward};
use super::record::Record;
use super::tunnel::Tunnel;
use super::{answer, headers};
use crate::proxy::upstream::{self, Lease, Timeouts, UpstreamFailure};

/// Sends the request on and returns the response, or one of our own that says why there is none.
pub(super) async fn forward(
    mut request: Request<Incoming>,
    to: Forward,
    mut record: Box<Record>,
) -> Response<ResponseBody> {
    let service = record.client.service.clone();
    let settings = &service.settings;
    let options = &to.route.options;
    let timeouts = Timeouts {
        connect: options.connect_timeout.unwrap_or(settings.connect_timeout),
        read: options.read_timeout.unwrap_or(settings.read_timeout),
        send: options.send_timeout.unwrap_or(settings.send_timeout),
    };
    let head = request.method() == Method::HEAD;
    if let (Some(limit), Some(length)) = (options.body_limit, request.body().size_hint().exact())
        && length > limit
    {
        return answer(upload_answer(UploadFailure::TooLarge), head, record);
    }
    if headers::hops(request.headers()).is_none() {
        service.upstreams.count(UpstreamFailure::Loop);
        return answer(UpstreamFailure::Loop.into(), head, record);
    }

    let upgrade = match request.version() {
        Version::HTTP_11 => headers::upgrade(request.headers()),
        // RFC 9113 section 8.2.2: HTTP/2 has no `Upgrade`; RFC 9110 section 7.8: nor may HTTP/1.0 use it.
        _ => None,
    };
    let on_client = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
    let mut request = endpoint_request(request, &to, upgrade, &mut record, settings.client_body_timeout);
    let transfer = request.body().transfer();
    record.transfer = transfer.clone();

    let group = service.upstreams.group(&to.backend);
    let mut avoid = None;
    let mut fresh = false;
    let mut retried = false;
    let (lease, mut response) = loop {
        let Some(peer) = group.choose(avoid.as_ref()) else {
            service.upstreams.count(UpstreamFailure::NoEndpoints);
            return answer(UpstreamFailure::NoEndpoints.into(), head, record);
        };
        record.attempt(&peer.address);
        let mut lease = match service.upstreams.lease(&group, &peer, &timeouts, fresh).await {
            Ok(lease) => lease,
            Err(failure) => {
                record.attempt_ended(None);
                service.upstreams.failed(&peer, failure);
                if !retried && group.has_other(&peer) {
                    retried = true;
                    service.metrics.upstream_retries.inc();
                    avoid = Some(peer);
                    continue;
                }
                return answer(failure.into(), head, record);
            }
        };
        match send(&mut lease, request, transfer.as_ref(), timeouts.read).await {
            Ok(response) => {
                service.upstreams.succeeded(&peer);
                record.attempt_ended(Some(response.status()));
                break (lease, response);
            }
            Err(Unanswered::NotSent(unsent)) if !retried => {
                // The endpoint had closed the connection: no failure, and a new one will do.
                retried = true;
                fresh = true;
                service.metrics.upstream_retries.inc();
                request = *unsent;
            }
            Err(unanswered) => {
                record.attempt_ended(None);
                if let Some(failure) = transfer.as_ref().and_then(|transfer| transfer.failure()) {
                    if failure == UploadFailure::Gone {
                        record.client_left();
                    }
                    return answer(upload_answer(failure), head, record);
                }
                let failure = match unanswered {
                    Unanswered::NotSent(_) => UpstreamFailure::Reset,
                    Unanswered::Failed(failure) => failure,
                };
                service.upstreams.failed(&peer, failure);
                return answer(failure.into(), head, record);
            }
        }
    };

    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(on_client) = on_client else {
            // Nobody asked for it, so nobody knows what the bytes would mean.
            service.upstreams.failed(lease.peer(), UpstreamFailure::Protocol);
            return answer(UpstreamFailure::Protocol.into(), head, record);
        };
        record.status(StatusCode::SWITCHING_PROTOCOLS);
        let on_endpoint = hyper::upgrade::on(&mut response);
        let protocol = response.headers().get(header::UPGRADE).cloned();
        let mut response = response.map(|_| ());
        headers::for_client(response.headers_mut());
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            response.headers_mut().insert(header::UPGRADE, protocol);
        }
        let client = record.client.clone();
        // The record goes with the tunnel: it ends when the tunnel does.
        client.open_tunnel(Tunnel { on_client, on_endpoint, idle: timeouts.read, lease, record });
        return response.map(|()| ResponseBody::none());
    }
    match client_response(response, head) {
        Ok(response) => {
            let (head, body) = response.into_parts();
            record.status(head.status);
            Response::from_parts(head, ResponseBody::download(body, lease, timeouts.read, record))
        }
        Err(failure) => {
            service.upstreams.failed(lease.peer(), failure);
            answer(failure.into(), head, record)
        }
    }
}

/// The request as an endpoint gets it.
fn endpoint_request(
    request: Request<Incoming>,
    to: &Forward,
    upgrade: Option<HeaderValue>,
    record: &mut Record,
    idle: Duration,
) -> upstream::Request {
    let (mut head, body) = request.into_parts();
    let body = Upload::new(body, to.route.options.body_limit, idle);
    // A body of no bytes is worth saying for methods that usually have one.
    let empty = body.is_end_stream() && head.headers.contains_key(header::CONTENT_LENGTH);
    let connection = &record.client.connection;
    let id =
        headers::for_endpoint(&mut head.headers, to.authority.clone(), &to.origin, connection, to.verified, upgrade);
    record.request_id(Some(&id));
    // The framing is ours, and one of the two only: what the client said has been checked and forgotten.
    match (body.is_end_stream(), body.size_hint().exact()) {
        (true, _) if empty => {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        (true, _) => {}
        (false, Some(length)) => {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        (false, None) => {
            head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    // Origin form, byte for byte as received.
    let mut target = http::uri::Parts::default();
    target.path_and_query = head.uri.path_and_query().cloned();
    head.uri = http::Uri::from_parts(target).unwrap_or_default();
    head.version = Version::HTTP_11;
    head.extensions = http::Extensions::new();
    Request::from_parts(head, body)
}

/// Why there is no response.
enum Unanswered {
    /// The connection was closed before the request was written. Here it is again, untouched.
    NotSent(Box<upstream::Request>),
    /// It may have been written.
    Failed(UpstreamFailure),
}

/// Sends a request and waits for the response's head, for at most `longest` after the request has been sent.
async fn send(
    lease: &mut Lease,
    request: upstream::Request,
    transfer: Option<&Arc<Transfer>>,
    longest: Duration,
) -> Result<Response<Incoming>, Unanswered> {
    let response = lease.sender.try_send_request(request);
    tokio::pin!(response);
    let timer = tokio::time::sleep(longest);
    tokio::pin!(timer);
    loop {
        tokio::select! {
            biased;
            response = &mut response => {
                return response.map_err(|mut error| match error.take_message() {
                    Some(request) => Unanswered::NotSent(Box::new(request)),
                    None => Unanswered::Failed(upstream::classify(&error.into_error())),
                });
            }
            () = &mut timer => {
                // While the request is still being sent, its own timeouts watch over it.
                let sent = match transfer {
                    Some(transfer) => transfer.finished(),
                    None => return Err(Unanswered::Failed(UpstreamFailure::ReadTimeout)),
                };
                let deadline = sent.unwrap_or_else(Instant::now) + longest;
                if deadline <= Instant::now() {
                    return Err(Unanswered::Failed(UpstreamFailure::ReadTimeout));
                }
                timer.as_mut().reset(deadline);
            }
        }
    }
}

/// The response as the client gets it. `to_head` says whether it answers HEAD.
fn client_response(response: Response<Incoming>, to_head: bool) -> Result<Response<Incoming>, UpstreamFailure> {
    let (mut head, body) = response.into_parts();
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        // hyper decodes `chunked` and nothing else; another coding would reach the client unnamed.
        if !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
            return Err(UpstreamFailure::Protocol);
        }
        // RFC 9112 section 6.3: it overrides a length, which must not be sent on.
        head.headers.remove(header::CONTENT_LENGTH);
    }
    if head.headers.contains_key(header::CONTENT_LENGTH) {
        let length = match head.status {
            // RFC 9110 section 8.6: it must not be there.
            StatusCode::NO_CONTENT => None,
            // It is that of a body that is not sent.
            status if to_head || status == StatusCode::NOT_MODIFIED => Some(said_length(&head.headers)?),
            _ => body.size_hint().exact(),
        };
        // In our words: clients read `2, 2` or `+2` in more than one way.
        match length {
            Some(length) => head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
            None => head.headers.remove(header::CONTENT_LENGTH),
        };
    }
    headers::for_client(&mut head.headers);
    head.version = Version::HTTP_11;
    let reason = head.extensions.remove::<ReasonPhrase>();
    head.extensions = http::Extensions::new();
    if let Some(reason) = reason {
        head.extensions.insert(reason);
    }
    Ok(Response::from_parts(head, body))
}

/// The `Content-Length` of a response, which may be repeated but not contradicted (RFC 9110 section 8.6).
fn said_length(headers: &http::HeaderMap) -> Result<u64, UpstreamFailure> {
    let lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(|member| {
        let digits = std::str::from_utf8(member.trim_ascii()).ok();
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or(UpstreamFailure::Protocol)
    });
    let first = members.next().ok_or(UpstreamFailure::Protocol)??;
    if members.all(|member| member == Ok(first)) { Ok(first) } else { Err(UpstreamFailure::Protocol) }
}

/// What a client is told about its own failure, if it still listens.
fn upload_answer(failure: UploadFailure) -> Answer {
    let status = match failure {
        UploadFailure::Gone | UploadFailure::Malformed => StatusCode::BAD_REQUEST,
        UploadFailure::Timeout => StatusCode::REQUEST_TIMEOUT,
        UploadFailure::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    };
    let reason = match failure {
        UploadFailure::Gone => "the request body is incomplete",
        UploadFailure::Malformed => "the request body is malformed",
        UploadFailure::Timeout => "the request body took too long",
        UploadFailure::TooLarge => "the request body is too large",
    };
    Answer::new(status, reason).closing()
}
