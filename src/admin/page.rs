//! What a page of the admin listener is, and the forms of its answers.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::Admin;
use super::query::{Parameter, Query};

/// One row of the table of pages: what one method does at one path.
pub struct Page {
    /// The path, in full.
    pub path: &'static str,
    /// The method; `GET` stands for `HEAD` too.
    pub method: Method,
    /// Who may ask; the same for all methods of a path.
    pub audience: Audience,
    /// What may stand in the query. Everything else there is an error, but for [`Audience::Everyone`], where the query
    /// is ignored.
    pub parameters: &'static [Parameter],
    /// What comes back, for the list of pages.
    pub about: &'static str,
    /// Makes the answer. It must neither block nor take long: it runs on the thread of all admin pages.
    pub answer: fn(&Admin, &Asked) -> Answer,
}

/// Who may ask for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everyone who reaches the port: what monitoring needs.
    Everyone,
    /// Loopback peers, unless `--admin-expose-api` is given.
    Loopback,
}

/// A request for a page.
pub struct Asked {
    /// Whose.
    pub peer: SocketAddr,
    /// With these parameters.
    pub query: Query,
}

/// What is answered.
pub type Answer = Result<Response<Full<Bytes>>, Refusal>;

/// Why a request is not answered: one line of text that says what to do instead.
#[derive(Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// Why, without a line break at the end.
    pub text: String,
}

impl Refusal {
    /// A refusal with this status.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 403: not for this peer, or not in this process.
    pub fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 404: there is no such thing.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }
}

impl From<Refusal> for Response<Full<Bytes>> {
    fn from(refusal: Refusal) -> Self {
        text(refusal.status, format!("{}\n", refusal.text))
    }
}

/// Plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body.into())
}

/// JSON, of this moment: nobody may keep it.
pub fn json(body: &impl Serialize) -> Answer {
    let error = |error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write JSON: {error}"));
    let mut bytes = serde_json::to_vec(body).map_err(error)?;
    bytes.push(b'\n');
    let mut response = typed(StatusCode::OK, "application/json", bytes.into());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A body of this media type.
pub fn typed(status: StatusCode, media_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
