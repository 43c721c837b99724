//! What stands in the status of a TlsPolicy: pure.
//!
//! `PolicyStatus × what stands there × now ──▶ conditions`
//!
//! A condition keeps the time of its last transition as long as its status stays what it is
//! (Kubernetes' API conventions, "Typical status properties").

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::api::tls_policy::TlsPolicyStatus;
use crate::compile::PolicyStatus;

/// The longest message; what is longer is of no use to people, and its end is in the log.
const MESSAGE: usize = 1024;

/// What is to stand in the status. What stands there decides about the times alone.
pub(super) fn wanted(status: &PolicyStatus, there: Option<&TlsPolicyStatus>, now: Timestamp) -> TlsPolicyStatus {
    let conditions = status.conditions().into_iter().map(|condition| {
        let before = there.and_then(|there| there.conditions.iter().find(|before| before.type_ == condition.kind));
        let since = before.filter(|before| before.status == condition.status);
        Condition {
            type_: condition.kind.to_owned(),
            status: condition.status.to_owned(),
            reason: condition.reason,
            message: cut(condition.message, MESSAGE),
            observed_generation: status.generation,
            last_transition_time: since.map_or(Time(whole_seconds(now)), |since| since.last_transition_time.clone()),
        }
    });
    TlsPolicyStatus { conditions: conditions.collect() }
}

/// Whether a status says what it should. Conditions of others, and the times, do not matter.
pub(super) fn says(there: Option<&TlsPolicyStatus>, status: &PolicyStatus) -> bool {
    let there = there.map_or(&[][..], |there| &there.conditions);
    status.conditions().into_iter().all(|wanted| {
        there.iter().any(|there| {
            (&*there.type_, &*there.status, &*there.reason) == (wanted.kind, wanted.status, &*wanted.reason)
                && there.message == cut(wanted.message.clone(), MESSAGE)
                && there.observed_generation == status.generation
        })
    })
}

/// Whether what stands there is about a later version of the policy than we know.
pub(super) fn is_newer(there: Option<&TlsPolicyStatus>, status: &PolicyStatus) -> bool {
    let there = there.map_or(&[][..], |there| &there.conditions);
    there.iter().any(|condition| condition.observed_generation > status.generation)
}

/// Whether what stands there is about an earlier version.
pub(super) fn is_older(there: Option<&TlsPolicyStatus>, status: &PolicyStatus) -> bool {
    let there = there.map_or(&[][..], |there| &there.conditions);
    there.iter().any(|condition| condition.observed_generation < status.generation)
}

/// Whether what stands there is the word of somebody for whom no host asks for the policy.
pub(super) fn is_of_nobody(there: Option<&TlsPolicyStatus>) -> bool {
    let [_, programmed] = PolicyStatus { generation: None, refused: None, hosts: 0, held: Vec::new() }.conditions();
    let there = there.map_or(&[][..], |there| &there.conditions);
    there.iter().any(|there| there.type_ == programmed.kind && there.message == programmed.message)
}

/// The text, or its beginning with an ellipsis: `most` bytes.
pub(super) fn cut(mut text: String, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > most {
        let mut end = most.saturating_sub(ELLIPSIS.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(ELLIPSIS);
    }
    text
}

/// Times of metadata have no fractions of seconds; one that is read back must equal what was written.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(refused: bool, generation: i64) -> PolicyStatus {
        PolicyStatus {
            generation: Some(generation),
            refused: refused.then(|| ("bad-tls-policy", "no".to_owned())),
            hosts: 1,
            held: Vec::new(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(seconds, 7).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let first = wanted(&status(true, 1), None, at(100));
        assert!(says(Some(&first), &status(true, 1)));
        let next = wanted(&status(true, 2), Some(&first), at(200));
        let times = |status: &TlsPolicyStatus| {
            status.conditions.iter().map(|one| one.last_transition_time.0.as_second()).collect::<Vec<_>>()
        };
        assert_eq!(times(&next), [100, 100]);
        assert_eq!(next.conditions[0].observed_generation, Some(2));
        let accepted = wanted(&status(false, 3), Some(&next), at(300));
        assert_eq!(times(&accepted), [300, 100], "Programmed was true before");
        assert_eq!((&*accepted.conditions[0].status, &*accepted.conditions[0].reason), ("True", "Accepted"));
    }

    #[test]
    fn only_what_we_say_counts_and_conditions_of_others_do_not() {
        let mut there = wanted(&status(false, 1), None, at(100));
        there.conditions[0].last_transition_time = Time(at(5));
        there.conditions.push(Condition { type_: "Elsewhere".into(), ..there.conditions[0].clone() });
        assert!(says(Some(&there), &status(false, 1)));
        assert!(!says(Some(&there), &status(false, 2)) && !says(None, &status(false, 1)));
        assert!(is_newer(Some(&there), &status(false, 0)) && !is_newer(Some(&there), &status(false, 1)));
        there.conditions[0].message = "changed".into();
        assert!(!says(Some(&there), &status(false, 1)));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("abc".into(), 3), "abc");
        assert_eq!(cut("ääää".into(), 7), "ää…");
        assert_eq!(cut("x".repeat(2000), 1024).len(), 1024);
    }
}
