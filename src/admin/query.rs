//! The query of a request, parsed once against what its page takes.
//!
//! `host=shop.example.com&limit=5` ──`Query::parse`──▶ [`Query`] ──[`Query::value`]──▶ a value, or a 400
//!
//! A parameter that a page does not take, that comes twice or that has another form is an error which names it and says
//! what to write: a filter with a typing error would otherwise show everything, and look like an answer.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::page::Refusal;
use crate::snapshot::{HostName, canonical_ip};

/// A parameter that a page takes.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What may be written as its value, for people: `the name of a host`.
    pub takes: &'static str,
}

/// The parameters of one request; all of them are known to its page.
#[derive(Debug)]
pub struct Query {
    takes: &'static [Parameter],
    given: Vec<(&'static str, String)>,
}

impl Query {
    /// Reads what stands behind the question mark.
    pub fn parse(text: &str, takes: &'static [Parameter]) -> Result<Self, Refusal> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(Refusal::bad_request(format!(
                    "{pair:?} cannot be read: write it in UTF-8, percent-encoded"
                )));
            };
            let Some(parameter) = takes.iter().find(|parameter| parameter.name == name) else {
                return Err(unknown(&name, takes));
            };
            if given.iter().any(|(other, _)| *other == parameter.name) {
                return Err(Refusal::bad_request(format!("{name} is given twice: give it once")));
            }
            given.push((parameter.name, value));
        }
        Ok(Self { takes, given })
    }

    /// The value of a parameter as it was written, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(self.takes.iter().any(|parameter| parameter.name == name), "invariant: the page takes {name}");
        self.given.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, if it was given, as `read` makes it out of its text; or what should have been written.
    pub fn value<T>(&self, name: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let takes = || self.takes.iter().find(|parameter| parameter.name == name).map_or("", |found| found.takes);
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => Err(Refusal::bad_request(format!("{name}={text:?}: {name} takes {}", takes()))),
        }
    }
}

/// For [`Query::value`]: the name of a virtual host, where `*` is the one of rules without a host.
pub fn host_name(text: &str) -> Option<HostName> {
    if text == "*" { Some(HostName::catch_all()) } else { HostName::asked_for(text).ok() }
}

/// For [`Query::value`]: a client's address, without port.
pub fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(canonical_ip)
}

/// For [`Query::value`]: a whole number in this range.
pub fn number(range: RangeInclusive<usize>) -> impl FnOnce(&str) -> Option<usize> {
    move |text| text.parse().ok().filter(|number| range.contains(number))
}

/// For [`Query::value`]: a length of time in this range, with its unit: `90s`, `2m`.
pub fn duration(range: RangeInclusive<Duration>) -> impl FnOnce(&str) -> Option<Duration> {
    move |text| humantime::parse_duration(text).ok().filter(|duration| range.contains(duration))
}

fn unknown(name: &str, takes: &[Parameter]) -> Refusal {
    let known: Vec<String> = takes.iter().map(|known| format!("{} ({})", known.name, known.takes)).collect();
    Refusal::bad_request(match known.as_slice() {
        [] => format!("this page takes no parameter {name:?}, nor any other"),
        known => format!("this page takes no parameter {name:?}; it takes {}", known.join(", ")),
    })
}

/// Percent-encoding, and `+` for a space, as forms and most programs write it.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKES: &[Parameter] = &[
        Parameter { name: "host", takes: "the name of a host" },
        Parameter { name: "limit", takes: "a number from 1 to 9" },
    ];

    fn refused(text: &str) -> String {
        let query = Query::parse(text, TAKES);
        let read = |query: Query| {
            query.value("host", host_name)?;
            query.value("limit", number(1..=9))
        };
        let refusal = query.and_then(read).unwrap_err();
        assert_eq!(refusal.status, http::StatusCode::BAD_REQUEST, "{text}");
        refusal.text
    }

    #[test]
    fn parameters_are_read_in_any_order_and_may_be_left_out() {
        let query = Query::parse("limit=5&&host=Shop%2eexample.com", TAKES).unwrap();
        assert_eq!(query.value("host", host_name).unwrap().unwrap().as_str(), "shop.example.com");
        assert_eq!(query.value("limit", number(1..=9)).unwrap(), Some(5));
        let none = Query::parse("", TAKES).unwrap();
        assert_eq!((none.text("host"), none.value("limit", number(1..=9)).unwrap()), (None, None));
        assert_eq!(Query::parse("host=a+b%20c", TAKES).unwrap().text("host"), Some("a b c"));
        assert_eq!(Query::parse("host", TAKES).unwrap().text("host"), Some(""));
    }

    #[test]
    fn what_a_page_does_not_take_is_an_error_that_says_what_it_takes() {
        assert_eq!(
            refused("hots=a"),
            "this page takes no parameter \"hots\"; it takes host (the name of a host), limit (a number from 1 to 9)"
        );
        let none = Query::parse("x", &[]).unwrap_err().text;
        assert_eq!(none, "this page takes no parameter \"x\", nor any other");
        assert_eq!(refused("limit=0"), "limit=\"0\": limit takes a number from 1 to 9");
        for bad in ["limit=10", "limit=-1", "limit=", "limit=x", "limit=99999999999999999999999"] {
            assert!(refused(bad).contains("limit takes a number from 1 to 9"), "{bad}");
        }
        for bad in ["host=", "host=a..b", "host=10.0.0.1", "host=%0a"] {
            assert!(refused(bad).contains("host takes the name of a host"), "{bad}");
        }
        assert_eq!(refused("host=a&host=a"), "host is given twice: give it once");
        for bad in ["host=%", "host=%4", "host=%zz", "host=%+1", "%ff=1", "host=%c3%28"] {
            assert!(refused(bad).contains("percent-encoded"), "{bad}");
        }
    }

    #[test]
    fn values_are_hosts_addresses_and_lengths_of_time() {
        assert!(host_name("*").unwrap().is_catch_all());
        assert!(host_name("*.example.com").unwrap().is_wildcard());
        assert_eq!(address("::ffff:192.0.2.1"), Some(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(address("192.0.2.1:443"), None);
        let range = || Duration::from_secs(1)..=Duration::from_secs(600);
        assert_eq!(duration(range())("2m"), Some(Duration::from_secs(120)));
        for bad in ["0s", "999ms", "601s", "60", "-1s", "", "1000000000000000000000y"] {
            assert_eq!(duration(range())(bad), None, "{bad}");
        }
    }
}
