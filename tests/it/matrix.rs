//! The matrix: real clients against the real listener, each in each way that it can fail.
//!
//! `rows.txt ──▶ client × server ──▶ counters before and after, /api/failures, what the client says`
//!
//! A row is one connection, and moves one counter by one: the one of its reason, whose fault it is, and its host. All
//! others stay. The rows of one server follow one another, so a connection too many shows in the next row at the latest.

mod counters;
mod programs;
mod raw;
mod row;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use handfast::tls::reason::Reason;
use serde_json::{Value, json};

use self::counters::{Counters, Samples};
use self::programs::{CLIENTS, Programs, plain, spelling};
use self::row::{Alert, Beside, Outcome, Row, rows};
use self::world::World;
use crate::binary::Server;

/// Reasons that no row brings about, and why.
const NOT_HERE: [(&str, &str); 2] = [
    ("internal", "a fault of ours, which nobody knows how to bring about"),
    ("shut-down", "counted when the process ends, so that nobody can ask for it any more"),
];

#[test]
fn every_client_fails_in_every_way_with_one_reason_and_one_alert() {
    let world = World::new();
    let mut programs = Programs::new(world.folder());
    let rows = rows();
    let mut wrong = Vec::new();
    for rows in rows.chunk_by(|one, other| one.server == other.server) {
        let server = world.serve(&rows[0].server);
        let mut earlier = None;
        for row in rows {
            wrong.extend(run(row, &server, &mut programs, &mut earlier).err());
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// One row; what is not as it says. `earlier` is what the row before it left, and this one leaves.
fn run(row: &Row, server: &Server, programs: &mut Programs, earlier: &mut Option<Counters>) -> Result<(), String> {
    let idle = Counters::settled(server, None, 0.0, 0.0);
    let mut wrong = Vec::new();
    if let Some(late) = earlier.take().map(|earlier| idle.since(&earlier)).filter(|late| !late.is_empty()) {
        wrong.push(format!("the row before it moved {late:?} when it was over"));
    }
    let act = |words| match row.place {
        Beside::First | Beside::Then => raw::Peer::act(server.https, Some("good.test"), words),
        Beside::Plain => raw::Peer::act(server.http, None, words),
    };
    let is_later = row.place == Beside::Then;
    let mut beside = row.beside.filter(|_| !is_later).map(act);
    let open = if beside.is_some() && row.place == Beside::First { 1.0 } else { 0.0 };
    let before = Counters::settled(server, Some(&idle), open, open);
    let said = if is_later {
        let client = raw::Peer::act(server.https, row.name, row.words);
        beside = row.beside.map(act);
        client.end()
    } else {
        programs.run(if row.to_http { server.http } else { server.https }, row)
    };
    let later = if is_later { 1.0 } else { 0.0 };
    let connections = f64::from(row.before) + 1.0 + later;
    let open = open + later;
    let after = Counters::settled(server, Some(&before), connections, open);
    let (moved, expected) = (after.since(&before), expected(row));
    if moved != expected {
        wrong.push(format!("counted {moved:?} instead of {expected:?}"));
    }
    let listed = after.listed_since(&before);
    // A connection without a request is an example, and no failure.
    let failed = |(reason, blame)| (format!("{blame} {} {reason}", row.host), 1.0);
    let expected = row.listed().filter(|_| matches!(row.outcome, Outcome::Failed { .. })).map(failed);
    if listed != Samples::from_iter(expected) {
        wrong.push(format!("listed {listed:?}"));
    }
    if let Some((reason, blame)) = row.listed() {
        wrong.extend(entry(row, blame, after.newest(row.host, reason).unwrap_or(&Value::Null)));
    }
    let says = match row.alert {
        Alert::Sent(alert) if row.says.is_empty() => spelling(row.client, alert),
        _ => row.says.to_owned(),
    };
    if !plain(&said).contains(&plain(&says)) {
        wrong.push(format!("the client does not say {says:?}, but {said:?}"));
    }
    // What stood beside it ends now, and counts for itself.
    if beside.is_none() {
        *earlier = Some(after);
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}\n    {}", row.title(), wrong.join("\n    "))) }
}

/// What is not as it should be in an entry of `/api/failures`.
fn entry(row: &Row, blame: &str, entry: &Value) -> Option<String> {
    let (sent, received) = match row.alert {
        Alert::None => (None, None),
        Alert::Received(alert) => (None, Some(alert)),
        Alert::Sent(alert) => (Some(alert), None),
    };
    let expected = json!({
        "client": "127.0.0.1", "sni": row.name, "blame": blame, "alert_sent": sent, "alert_received": received,
    });
    let differs = expected.as_object().unwrap().iter().any(|(field, value)| entry[field] != *value);
    let remedy = entry["remedy"].as_str().unwrap_or_default();
    (differs || remedy.is_empty()).then(|| format!("the entry is not {expected}, but {entry}"))
}

/// What a row moves.
fn expected(row: &Row) -> Samples {
    let host = row.host;
    let later = u32::from(row.place == Beside::Then);
    let mut samples = Samples::from([("connections_accepted".to_owned(), f64::from(row.before + later) + 1.0)]);
    let mut completed = f64::from(row.before);
    match row.outcome {
        Outcome::Connected => completed += 1.0,
        Outcome::Unused { .. } => {
            completed += 1.0;
            samples.insert(format!("established_without_request {host}"), 1.0);
        }
        Outcome::Failed { reason, blame } => {
            samples.insert(format!("handshake_failures {blame} {host} {reason}"), 1.0);
        }
        Outcome::Probe => {
            samples.insert("probes".to_owned(), 1.0);
        }
    }
    if completed > 0.0 {
        samples.insert(format!("handshakes {host}"), completed);
    }
    match row.alert {
        Alert::None => None,
        Alert::Received(alert) => samples.insert(format!("alerts {alert} received"), 1.0),
        Alert::Sent(alert) => samples.insert(format!("alerts {alert} sent"), 1.0),
    };
    samples
}

#[test]
fn the_matrix_has_every_client_and_every_reason() {
    let rows = rows();
    let failures = rows.iter().filter(|row| matches!(row.outcome, Outcome::Failed { .. })).count();
    assert!(failures >= 50, "{failures} rows");
    let clients: BTreeSet<&str> = rows.iter().map(|row| row.client).collect();
    assert_eq!(clients, BTreeSet::from(CLIENTS));
    for client in CLIENTS {
        let failing = rows.iter().filter(|row| row.client == client && row.listed().is_some()).count();
        assert!(failing >= 5, "{client} fails in {failing} ways");
    }
    let shown: BTreeSet<&str> = rows.iter().filter_map(|row| Some(row.listed()?.0)).collect();
    let not_here = NOT_HERE.map(|(reason, _)| reason);
    let expected: BTreeSet<&str> =
        Reason::ALL.iter().map(|reason| reason.label()).filter(|label| !not_here.contains(label)).collect();
    assert_eq!(shown, expected);
    let mut titles = BTreeMap::new();
    for row in &rows {
        assert!(titles.insert(row.title(), ()).is_none(), "twice: {}", row.title());
    }
}
