//! The rows of the matrix, as rows.txt has them.

/// One way to fail, or not to.
#[derive(Clone, Debug)]
pub struct Row {
    /// Options of the server.
    pub server: Vec<&'static str>,
    pub client: &'static str,
    /// In words.
    pub how: &'static str,
    /// The server name that the client sends.
    pub name: Option<&'static str>,
    /// The virtual host that counts it; empty for none.
    pub host: &'static str,
    /// What a connection does that is there before the client, and stays until it is done.
    pub beside: Option<&'static str>,
    /// Whether it goes to the port for plain HTTP.
    pub to_http: bool,
    /// Where that one connects, and when.
    pub place: Beside,
    pub words: &'static str,
    pub outcome: Outcome,
    pub alert: Alert,
    /// What the client says; empty if that follows from the alert.
    pub says: &'static str,
    /// Handshakes of the client that complete before the one that matters.
    pub before: u32,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A working connection.
    Connected,
    /// A connection without a request, which is listed with whose fault it may be.
    Unused {
        blame: &'static str,
    },
    Failed {
        reason: &'static str,
        blame: &'static str,
    },
    Probe,
}

/// A connection beside that of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// To the HTTPS listener, first.
    First,
    /// The same, when the client has done what it does.
    Then,
    /// To the HTTP listener, first.
    Plain,
}

/// The alert that ended it, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    None,
    Received(&'static str),
    Sent(&'static str),
}

impl Row {
    /// For messages.
    pub fn title(&self) -> String {
        format!("{}: {} ({} at {})", self.client, self.how, self.words, self.name.unwrap_or("no name"))
    }

    /// The reason and whose fault it is, for what is listed among the failures.
    pub fn listed(&self) -> Option<(&'static str, &'static str)> {
        match self.outcome {
            Outcome::Connected | Outcome::Probe => None,
            Outcome::Unused { blame } => Some(("established-without-request", blame)),
            Outcome::Failed { reason, blame } => Some((reason, blame)),
        }
    }
}

/// All rows, in their order.
pub fn rows() -> Vec<Row> {
    let mut server = Vec::new();
    let mut rows = Vec::new();
    for line in include_str!("rows.txt").lines() {
        match line.strip_prefix("==") {
            Some(options) => server = options.split_whitespace().collect(),
            None if line.is_empty() || line.starts_with('#') => {}
            None => rows.push(row(line, &server)),
        }
    }
    rows
}

fn row(line: &'static str, server: &[&'static str]) -> Row {
    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
    let [client, how, name, words, reason, blame, alert, rest @ ..] = columns.as_slice() else {
        panic!("too few columns: {line}")
    };
    let (name, host) = match name.strip_suffix('!') {
        Some(name) => (name, ""),
        None => (*name, name.trim_matches('-')),
    };
    let (beside, words) = match words.strip_prefix('{').and_then(|words| words.split_once('}')) {
        Some((beside, words)) => (Some(beside), words.trim()),
        None => (None, *words),
    };
    let (to_http, words) = match words.strip_prefix("@http") {
        Some(words) => (true, words.trim()),
        None => (false, words),
    };
    let marks = [("then ", Beside::Then), ("plain ", Beside::Plain)];
    let mark =
        beside.and_then(|words| marks.iter().find_map(|(mark, place)| Some((*place, words.strip_prefix(mark)?))));
    let (place, beside) = mark.map_or((Beside::First, beside), |(place, words)| (place, Some(words)));
    let (reason, before) = reason.split_once(" +").map_or((*reason, 0), |(reason, n)| (reason, n.parse().unwrap()));
    Row {
        server: server.to_vec(),
        client,
        how,
        name: Some(name).filter(|name| *name != "-"),
        host,
        beside,
        to_http,
        place,
        words,
        outcome: match reason {
            "connected" => Outcome::Connected,
            "established-without-request" => Outcome::Unused { blame },
            "probe" => Outcome::Probe,
            reason => Outcome::Failed { reason, blame },
        },
        alert: match alert.split_once(' ') {
            None if *alert == "-" => Alert::None,
            Some(("received", alert)) => Alert::Received(alert),
            Some(("sent", alert)) => Alert::Sent(alert),
            _ => panic!("what alert? {line}"),
        },
        says: rest.first().unwrap_or(&""),
        before,
    }
}
