//! `/api/keylog`: chooses the connections whose TLS secrets are written, see [`crate::keylog`].

use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::page::{Answer, Asked, Audience, Page, Refusal, json};
use super::query::{Parameter, address, duration, host_name};
use super::{Admin, configured};
use crate::keylog::{NotSelected, Selected, Target};

const HOST: Parameter = Parameter { name: "host", takes: "the name of a host that is configured" };
const CLIENT: Parameter = Parameter { name: "client", takes: "the address of a client, without port" };
const FOR: Parameter = Parameter { name: "for", takes: "a length of time from 1s to 10m; 60s if it is left out" };

const SHORTEST: Duration = Duration::from_secs(1);
const USUAL: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(600);

/// Rows for the table of pages.
pub(super) const SHOW: Page = Page {
    path: "/api/keylog",
    method: Method::GET,
    audience: Audience::Loopback,
    parameters: &[],
    about: "the hosts and clients whose TLS secrets are written, with the number of connections",
    answer: show,
};

/// Begins a selection.
pub(super) const BEGIN: Page = Page {
    path: "/api/keylog",
    method: Method::POST,
    audience: Audience::Loopback,
    parameters: &[HOST, CLIENT, FOR],
    about: "write the TLS secrets of one host or one client for a while; a second request extends the time",
    answer: begin,
};

/// Ends selections.
pub(super) const END: Page = Page {
    path: "/api/keylog",
    method: Method::DELETE,
    audience: Audience::Loopback,
    parameters: &[HOST, CLIENT],
    about: "stop writing TLS secrets: of this host, of this client, or of all",
    answer: end,
};

/// `GET /api/keylog`: whose secrets are written now.
#[derive(Serialize, JsonSchema)]
pub struct Shown<'a> {
    /// The file that `--allow-keylog` names.
    pub file: &'a Path,
    /// Connections of which secrets were written since the start.
    pub connections: u64,
    /// What is on.
    pub selections: Vec<Selected>,
}

/// `POST /api/keylog`: what is written from now on.
#[derive(Serialize, JsonSchema)]
pub struct Begun<'a> {
    /// The file that `--allow-keylog` names.
    pub file: &'a Path,
    /// The virtual host, if it is for one.
    pub host: Option<String>,
    /// The client's address, if it is for one.
    pub client: Option<std::net::IpAddr>,
    /// When it ends, RFC 3339 in UTC.
    pub until: String,
}

/// `DELETE /api/keylog`: what is written no more.
#[derive(Serialize, JsonSchema)]
pub struct Ended<'a> {
    /// The file that `--allow-keylog` names.
    pub file: &'a Path,
    /// What was on.
    pub ended: Vec<Selected>,
}

fn show(admin: &Admin, _: &Asked) -> Answer {
    let file = admin.keylog.file()?;
    json(&Shown { file, connections: admin.keylog.connections(), selections: admin.keylog.selected()? })
}

fn begin(admin: &Admin, asked: &Asked) -> Answer {
    let file = admin.keylog.file()?;
    let Some(target) = target(asked)? else {
        let what = "name exactly one host or one client: /api/keylog?host=NAME&for=60s";
        return Err(Refusal::bad_request(what));
    };
    if let Target::Host(name) = &target {
        configured(&admin.reader.load(), name)?;
    }
    let length = asked.query.value(FOR.name, duration(SHORTEST..=LONGEST))?.unwrap_or(USUAL);
    let Selected { host, client, until, .. } = admin.keylog.select(target, length, asked.peer)?;
    json(&Begun { file, host, client, until })
}

fn end(admin: &Admin, asked: &Asked) -> Answer {
    let file = admin.keylog.file()?;
    json(&Ended { file, ended: admin.keylog.end(target(asked)?.as_ref(), asked.peer)? })
}

/// Whom a request is about; `None` if it does not say.
fn target(asked: &Asked) -> Result<Option<Target>, Refusal> {
    match (asked.query.value(HOST.name, host_name)?, asked.query.value(CLIENT.name, address)?) {
        (None, None) => Ok(None),
        (Some(host), None) => Ok(Some(Target::Host(host))),
        (None, Some(client)) => Ok(Some(Target::Client(client))),
        (Some(_), Some(_)) => Err(Refusal::bad_request("host and client cannot be given together: leave one out")),
    }
}

impl From<NotSelected> for Refusal {
    fn from(error: NotSelected) -> Self {
        let status = match error {
            NotSelected::NotAllowed => StatusCode::FORBIDDEN,
            NotSelected::TooMany => StatusCode::TOO_MANY_REQUESTS,
        };
        Refusal::new(status, error.to_string())
    }
}
