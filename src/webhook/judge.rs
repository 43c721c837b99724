//! The verdict on one review.
//!
//! ```text
//! bytes ──Head──▶ ours? ──objects──▶ Proposal ──ask──▶ Sample ──judge──▶ what the change brings ──words──▶ Answer
//! ```
//!
//! Computes, and asks the compiler through [`Ask`]; nothing else. Whatever goes wrong lets the object in with a line
//! that says so: a webhook that keeps people from repairing their cluster is worse than none.

use kube::core::admission::Operation;
use rustls::pki_types::UnixTime;

use super::review::{Answer, BadReview, Head, Kind};
use super::words;
use crate::compile::{Compiler, Judged, Limits, Object, Proposal, Sample, TooMuch};

/// A way to the compiler. The question is answered between two compilations, or not at all.
pub trait Ask {
    /// Asks, and waits. `None` if there is no answer in time.
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Compiler) -> T + Send + 'static) -> Option<T>;
}

/// The compiler itself, without anything between.
impl Ask for &Compiler {
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Compiler) -> T + Send + 'static) -> Option<T> {
        Some(question(self))
    }
}

/// What the operator decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Objects with errors are kept out.
    pub deny: bool,
}

/// How a review ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Let in without a word.
    Allowed,
    /// Let in with warnings.
    Warned,
    /// Kept out.
    Denied,
    /// Let in, because it could not be judged; or it was no review.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Allowed, Self::Warned, Self::Denied, Self::Failed];

    /// The word in metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Warned => "warned",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// What is answered, and what is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// What goes back.
    pub answer: Answer,
    /// Units that were built for it.
    pub built: usize,
}

impl Verdict {
    /// Let in without a word.
    pub fn allowed() -> Self {
        Self { outcome: Outcome::Allowed, answer: Answer::default(), built: 0 }
    }

    /// Let in, because it could not be judged.
    pub fn failed(why: &str) -> Self {
        let warnings = vec![words::shown(&format!("not checked: {why}"))];
        Self { outcome: Outcome::Failed, answer: Answer { warnings, denial: None }, built: 0 }
    }
}

/// Judges a whole review: what the server does with a body, but for the limits on its time.
pub fn review(
    body: &[u8],
    rules: Rules,
    is_watched: &dyn Fn(&str) -> bool,
    compiler: &impl Ask,
    now: UnixTime,
) -> Result<(Head, Verdict), BadReview> {
    let head = Head::parse(body)?;
    let verdict = judge(&head, body, rules, is_watched, compiler, now);
    Ok((head, verdict))
}

/// Questions are answered in a few rounds: objects, what these name, and what that names in turn.
const ROUNDS: usize = 8;

/// Judges a review whose head has been read.
pub fn judge(
    head: &Head,
    body: &[u8],
    rules: Rules,
    is_watched: &dyn Fn(&str) -> bool,
    compiler: &impl Ask,
    now: UnixTime,
) -> Verdict {
    let is_ours = match head.operation {
        Operation::Create | Operation::Update | Operation::Delete => !head.is_partial && head.kind != Kind::Other,
        Operation::Connect => false,
    };
    if !is_ours || !is_watched(&head.namespace) {
        return Verdict::allowed();
    }
    // What exactly is wrong may quote a Secret, and the API server has its own say about forms.
    let Some([before, after]) = head.objects(body, now) else {
        return Verdict::failed("the object does not match the schema of its kind");
    };
    let (before, after) = match head.operation {
        Operation::Create => (None, after),
        Operation::Update => (before, after),
        Operation::Delete => (before, None),
        Operation::Connect => (None, None),
    };
    // It goes whatever is wrong with it, and what is done to it may be needed for that.
    if after.as_ref().is_some_and(|after| after.metadata().deletion_timestamp.is_some()) {
        return Verdict::allowed();
    }
    let by_itself = after.as_ref().is_some_and(is_tls_secret);
    let Some(proposal) = Proposal::new(before, after, by_itself) else {
        return Verdict::failed("the review has no object");
    };
    if proposal.is_idle() {
        return Verdict::allowed();
    }
    let key = proposal.key().clone();
    let judged = match compare(proposal, compiler, now) {
        Ok(judged) => judged,
        Err(why) => return Verdict::failed(why),
    };
    let Judged { brought, users, is_used, left_out, built } = judged;
    // Nothing that is deleted is kept, and a Secret that no host of ours uses may be somebody else's.
    let is_ours = is_used || head.kind != Kind::Secret;
    let may_deny = rules.deny && head.operation != Operation::Delete && is_ours;
    let (reasons, others): (Vec<_>, Vec<_>) =
        words::told(brought).into_iter().partition(|told| may_deny && words::is_reason_to_deny(&told.diagnostic));
    let lines = |told: Vec<words::Told>| told.iter().map(words::line).collect::<Vec<String>>();
    let mut warnings: Vec<String> = Vec::new();
    if head.operation == Operation::Delete {
        warnings.extend(words::still_used(&key, &users));
    }
    let (reasons, others) = (lines(reasons), lines(others));
    warnings.extend(others);
    if left_out > 0 && !(warnings.is_empty() && reasons.is_empty()) {
        let text =
            format!("{left_out} more hosts are affected and were not checked. `handfast check` checks all of them");
        warnings.insert(0, words::shown(&text));
    }
    let denial = (!reasons.is_empty()).then(|| words::denial(&reasons));
    let outcome = match (&denial, warnings.is_empty()) {
        (Some(_), _) => Outcome::Denied,
        (None, true) => Outcome::Allowed,
        (None, false) => Outcome::Warned,
    };
    Verdict { outcome, answer: Answer { warnings, denial }, built }
}

fn is_tls_secret(object: &Object) -> bool {
    match object {
        Object::Secret(secret) => secret.0.type_.as_deref() == Some("kubernetes.io/tls"),
        Object::EndpointSlice(_)
        | Object::Ingress(_)
        | Object::IngressClass(_)
        | Object::Service(_)
        | Object::TlsPolicy(_) => false,
    }
}

/// Finds out what a change brings: for as many hosts as can be judged, or else for fewer.
fn compare(proposal: Proposal, compiler: &impl Ask, now: UnixTime) -> Result<Judged, &'static str> {
    const BUSY: &str = "the controller was busy";
    for hosts in [Limits::default().hosts, 5, 1] {
        let limits = Limits { hosts, ..Limits::default() };
        let first = proposal.clone();
        let taken = compiler.ask(move |compiler| compiler.sample(first, limits)).ok_or(BUSY)?;
        let Ok(mut sample) = taken else { continue };
        for _ in 0..ROUNDS {
            if let Some(judged) = sample.judge(now) {
                return Ok(judged);
            }
            let answered = compiler.ask(move |compiler| answered(compiler, sample)).ok_or(BUSY)?;
            match answered {
                Ok(more) => sample = more,
                Err(TooMuch) => break,
            }
        }
    }
    Err("it affects too many objects. `handfast check` checks all of them")
}

fn answered(compiler: &Compiler, mut sample: Sample) -> Result<Sample, TooMuch> {
    compiler.answer(&mut sample)?;
    Ok(sample)
}
