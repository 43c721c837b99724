//! Public roots that trust stores have removed: who, since when, and who still has them.
//!
//! `a root's key, or the name and key identifier of one that is missing ──▶ Withdrawn`
//!
//! A chain below such a root is complete, and refused all the same; no certificate that could be added mends it. The
//! table has names, hashes and dates, and no certificates: withdrawn.tsv says how it was made.
//!
//! A root counts as missing here by its name and its key identifier, as the certificate below it gives them. Its
//! signature cannot be verified without its key, so somebody may give a private root the name and identifier of a
//! withdrawn one; clients trust it as little.

use std::sync::LazyLock;

use super::certificate::Certificate;
use super::dn;
use crate::tls::sha256_hex;

/// One root.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Withdrawn {
    /// Its common name, or its unit.
    pub name: &'static str,
    /// Its subject key identifier, in hexadecimal.
    key_id: &'static str,
    /// SHA-256 of its SubjectPublicKeyInfo, in hexadecimal.
    spki: &'static str,
    /// End of its validity, as a date.
    pub ends: &'static str,
    /// Of each store in the order of [`STORES`].
    states: [State; STORES.len()],
}

/// What a store says of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// The newest list that was read has it.
    Has,
    /// No list that was read has it.
    Never,
    /// The day of the first list without it.
    Removed(&'static str),
}

/// The stores: as people know them, and who trusts by them.
const STORES: [(&str, &str); 5] = [
    ("Mozilla", "Firefox, curl, Go and Python on Linux"),
    ("Microsoft", "Windows"),
    ("Apple", "iOS and macOS"),
    ("Java", "OpenJDK"),
    ("Android", "Android"),
];

struct Table {
    roots: Vec<Withdrawn>,
    /// The day of the newest list of each store.
    newest: [&'static str; STORES.len()],
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let text = include_str!("withdrawn.tsv");
    parse(text).expect("invariant: withdrawn.tsv is well-formed")
});

/// The withdrawn root that a certificate is: by its key, or by its name and key identifier as if it were missing, so
/// that nothing differs once it is deleted.
pub(super) fn is(root: &Certificate) -> Option<&'static Withdrawn> {
    let digest = sha256_hex(&root.spki);
    let with_key = TABLE.roots.iter().find(|known| known.spki == digest);
    with_key.or_else(|| named(&root.subject_der, Some(root.subject_key.as_deref()?)))
}

/// The withdrawn root with this name (DER) and key identifier. A certificate that gives no identifier is taken to mean
/// the root of its issuer's name.
pub(super) fn named(name: &[u8], key_id: Option<&[u8]>) -> Option<&'static Withdrawn> {
    let name = dn::short(name)?;
    let key_id = key_id.map(super::der::hex);
    TABLE.roots.iter().find(|root| root.name == name && key_id.as_ref().is_none_or(|id| id == root.key_id))
}

impl Withdrawn {
    /// Who has removed it, and who trusts it until when.
    pub fn words(&self) -> String {
        let with = |wanted: fn(&State) -> bool| {
            self.states.iter().zip(STORES).zip(TABLE.newest).filter(move |((state, _), _)| wanted(state))
        };
        let removed =
            with(|state| matches!(state, State::Removed(_))).filter_map(|((state, (store, _)), _)| match state {
                State::Removed(day) => Some(format!("{store} (by {day})")),
                State::Has | State::Never => None,
            });
        let removed = joined(&removed.collect::<Vec<_>>());
        let have = with(|state| *state == State::Has);
        let have: Vec<String> =
            have.map(|((_, (store, clients)), newest)| format!("{store} ({clients}; list of {newest})")).collect();
        match have.as_slice() {
            [] => format!("it was removed by {removed}, and no store that is known still has it"),
            have => format!(
                "it was removed by {removed}; still in the list of {}, until it ends on {} or an update removes it",
                joined(have),
                self.ends
            ),
        }
    }
}

/// `a, b and c`.
fn joined(words: &[String]) -> String {
    match words {
        [] => "nobody".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn parse(text: &'static str) -> Option<Table> {
    let newest = text.lines().find_map(|line| line.strip_prefix("# newest lists: "))?;
    let newest: Vec<&str> = newest.split(", ").filter_map(|store| Some(store.split_once(' ')?.1)).collect();
    let roots = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let (&[name, key_id, spki, ends], states) = fields.split_first_chunk()?;
        let states = <[&str; STORES.len()]>::try_from(states).ok()?.map(|state| match state {
            "yes" => State::Has,
            "-" => State::Never,
            day => State::Removed(day),
        });
        Some(Withdrawn { name, key_id, spki, ends, states })
    });
    Some(Table { roots: roots.collect::<Option<_>>()?, newest: newest.try_into().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_whole_and_somebody_has_removed_its_root() {
        assert!(TABLE.roots.len() > 300);
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let is_day = |day: &str| day.parse::<jiff::civil::Date>().is_ok();
        for root in &TABLE.roots {
            assert!(root.spki.len() == 64 && is_hex(root.spki) && is_hex(root.key_id) && is_day(root.ends), "{root:?}");
            assert!(!root.name.is_empty() && root.states[0] != State::Has, "{root:?}");
            let days = root.states.iter().zip(TABLE.newest).filter_map(|(state, newest)| match state {
                State::Removed(day) => Some((*day, newest)),
                State::Has | State::Never => None,
            });
            let days: Vec<_> = days.collect();
            assert!(!days.is_empty() && days.iter().all(|(day, newest)| is_day(day) && day <= newest), "{root:?}");
        }
        assert!(TABLE.newest.iter().all(|day| is_day(day)));
    }

    #[test]
    fn the_words_say_who_removed_it_and_who_still_has_it_until_when() {
        let named = |name: &str| TABLE.roots.iter().find(|root| root.name == name).unwrap();
        let symantec = named("VeriSign Class 3 Public Primary Certification Authority - G5").words();
        assert!(symantec.starts_with("it was removed by Mozilla (by 20"), "{symantec}");
        let digicert = named("DigiCert Global Root CA").words();
        assert!(
            digicert.starts_with("it was removed by Mozilla (by 2026-04-19); still in the list of Microsoft (Windows;")
                && digicert.ends_with("until it ends on 2031-11-10 or an update removes it"),
            "{digicert}"
        );
        let everywhere = named("DST Root CA X3").words();
        assert!(everywhere.ends_with("and no store that is known still has it"), "{everywhere}");
    }
}
