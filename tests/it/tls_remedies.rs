//! No remedy leads to another fault: what a finding says to do is done, and the chain is judged again.
//!
//! Worlds are made at random: some intermediates, marks of a public CA or none, a root that is trusted, another one that
//! is, or none; and a `tls.crt` in which certificates lack, repeat, stand in the wrong order, or do not belong. Then each
//! finding whose remedy a program can carry out is remedied, by itself. It must be gone, and no error may be new, but for
//! one about what lies beyond the place where the chain broke off.

use std::collections::{BTreeMap, BTreeSet};

use handfast::tls::Severity;
use handfast::tls::chain::{Candidates, Credential, Finding, TrustAnchors};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rcgen::KeyPair;

use crate::manifests::{NOW, at};
use crate::pki::{Ca, Leaf, ca, ca_params, ca_with, cross_signed, leaf_with, root, sct_list, valid, withdrawn};

/// Findings whose remedy is carried out here.
const MECHANICAL: &[&str] = &[
    "chain-completed",
    "duplicate-certificate",
    "expired",
    "expired-cross-sign",
    "expired-root",
    "leaf-not-first",
    "missing-intermediate",
    "not-a-certificate",
    "not-the-issuer",
    "out-of-order",
    "root-included",
    "root-not-valid-yet",
    "self-signed",
    "unanchored",
    "unparsable-certificate",
    "unrelated-certificate",
    "untrusted-root",
    "unusable-ca",
];

/// Findings that ask for another certificate or key, for time, or for nothing.
const BY_PEOPLE: &[&str] = &[
    "chain-over-window",
    "encrypted-key",
    "expires-soon",
    "intermediate-expires-first",
    "issuer-not-ca",
    "key-mismatch",
    "large-chain",
    "leaf-is-ca",
    "long-validity",
    "malformed-certificate",
    "must-staple",
    "name-constraint-violated",
    "name-not-covered",
    "no-certificate",
    "no-key",
    "no-server-auth",
    "not-valid-yet",
    "path-length-exceeded",
    "path-refused",
    "rarely-supported-key",
    "several-keys",
    "slow-key",
    "strict-clients-refuse",
    "surplus-cross-sign",
    "temporary-certificate",
    "trusted-self-signed",
    "unparsable-key",
    "unsupported-key",
    "unsupported-leaf-key",
    "unsupported-signature",
    "useless-name",
    "validity-over-limit",
    "weak-key",
    "weak-signature",
    "withdrawn-root",
    "wrong-key-usage",
];

#[test]
fn each_finding_is_in_one_of_the_two_lists() {
    let listed: BTreeSet<&str> = MECHANICAL.iter().chain(BY_PEOPLE).copied().collect();
    assert_eq!(listed.len(), MECHANICAL.len() + BY_PEOPLE.len());
    assert_eq!(listed, Finding::all().map(|about| about.code).collect());
}

/// How a world is made.
#[derive(Clone, Debug)]
struct Plan {
    /// Certificates between the leaf and the root.
    depth: usize,
    is_public: bool,
    root: RootKind,
    anchors: Anchors,
    /// What stands in `tls.crt`, by place in the world's list; may repeat and lack some.
    blocks: Vec<usize>,
    has_candidates: bool,
    is_self_signed: bool,
    /// The upper intermediate has expired, or will be valid.
    is_expired: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum RootKind {
    Plain,
    Expired,
    Future,
    Withdrawn,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Anchors {
    /// The public roots, which have none of these.
    Unstated,
    Own,
    Other,
    Unusable,
}

fn plan() -> impl Strategy<Value = Plan> {
    use prop::sample::select;
    let root = select(vec![RootKind::Plain, RootKind::Plain, RootKind::Expired, RootKind::Future, RootKind::Withdrawn]);
    let anchors = select(vec![Anchors::Unstated, Anchors::Own, Anchors::Own, Anchors::Other, Anchors::Unusable]);
    let blocks = prop::collection::vec(0..9_usize, 0..6);
    let rest = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.2));
    (0..3_usize, any::<bool>(), root, anchors, blocks, rest).prop_map(
        |(depth, is_public, root, anchors, blocks, (has_candidates, is_self_signed, is_expired))| Plan {
            depth,
            is_public,
            root,
            anchors,
            blocks,
            has_candidates,
            is_self_signed,
            is_expired,
        },
    )
}

/// All certificates that there are.
struct World {
    leaf: Leaf,
    /// From the leaf's issuer up to the root.
    issuers: Vec<Ca>,
    /// The root again, valid now.
    renewed_root: String,
    /// Expired certificates, each with its renewed form.
    renewed: Vec<(String, String)>,
    /// A root that the cross-sign leads to.
    other: Ca,
    candidates: Candidates,
}

/// What the Secret holds.
#[derive(Clone)]
struct Secret {
    blocks: Vec<String>,
    ca_crt: String,
}

fn make(plan: &Plan) -> (World, Secret) {
    let mut params = ca_params("Root");
    match plan.root {
        RootKind::Plain | RootKind::Withdrawn => {}
        RootKind::Expired => valid(&mut params, -1825, -3),
        RootKind::Future => valid(&mut params, 3, 1825),
    }
    let top = match plan.root {
        RootKind::Withdrawn => withdrawn(),
        RootKind::Plain | RootKind::Expired | RootKind::Future => {
            Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        }
    };
    let renewed_root = match plan.root {
        RootKind::Withdrawn => top.pem(),
        RootKind::Plain | RootKind::Expired | RootKind::Future => {
            Ca::self_signed(ca_params("Root"), KeyPair::from_pem(&top.key().serialize_pem()).unwrap()).unwrap().pem()
        }
    };
    let mut issuers = vec![top];
    let mut renewed = Vec::new();
    for level in 0..plan.depth {
        let name = format!("Intermediate {level}");
        let above = &issuers[0];
        let one = ca_with(&name, above, |params| {
            if plan.is_expired && level == 0 {
                valid(params, -900, -4);
            }
        });
        if plan.is_expired && level == 0 {
            renewed.push((one.pem(), cross_signed(&name, one.key(), above, |_| {}).pem()));
        }
        issuers.insert(0, one);
    }
    let leaf = if plan.is_self_signed {
        let key = KeyPair::generate().unwrap();
        let pem = crate::pki::leaf_params().self_signed(&key).unwrap().pem();
        Leaf { pem, key: key.serialize_pem() }
    } else {
        leaf_with(&issuers[0], |params| {
            if plan.is_public {
                sct_list(params);
            }
        })
    };
    let mut candidates = Candidates::new();
    if plan.has_candidates {
        issuers.iter().for_each(|one| drop(candidates.add_pem(one.pem().as_bytes(), "Secret shop/other")));
    }
    let other = root("Other");
    let stranger = ca("Stranger", &other);
    let namesake = ca("Intermediate 0", &other);
    let key = issuers[plan.depth].key();
    let cross = cross_signed("Root", key, &other, |params| valid(params, -900, -1));
    renewed.push((cross.pem(), cross_signed("Root", key, &other, |_| {}).pem()));
    let mut all = vec![leaf.pem.clone()];
    all.extend(issuers.iter().map(|one| one.pem()));
    all.resize(4, issuers[0].pem());
    all.push(stranger.pem());
    all.push(namesake.pem());
    all.push(if plan.root == RootKind::Withdrawn { stranger.pem() } else { cross.pem() });
    all.push(leaf.key.clone());
    all.push("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned());
    // The leaf is there somewhere, or there is nothing to judge.
    let mut blocks: Vec<String> = plan.blocks.iter().map(|index| all[*index].clone()).collect();
    if !blocks.contains(&leaf.pem) {
        blocks.insert(0, leaf.pem.clone());
    }
    let ca_crt = match plan.anchors {
        Anchors::Unstated => String::new(),
        Anchors::Own => issuers[plan.depth].pem(),
        Anchors::Other => other.pem(),
        Anchors::Unusable => "on the intranet".to_owned(),
    };
    (World { leaf, issuers, renewed_root, renewed, other, candidates }, Secret { blocks, ca_crt })
}

impl World {
    /// All findings, and how far the chain goes.
    fn judge(&self, secret: &Secret) -> (Vec<Finding>, usize) {
        let (tls_crt, key) = (secret.blocks.concat(), self.leaf.key.as_bytes());
        let (ca_crt, anchors) = (secret.ca_crt.as_bytes(), TrustAnchors::public());
        let loaded = Credential::load_completed(tls_crt.as_bytes(), key, ca_crt, &anchors, &self.candidates);
        let mut findings = loaded.findings;
        let credential = loaded.credential.unwrap();
        findings.extend(credential.dated(at(NOW)).findings);
        (findings, credential.summary().outline.path.len())
    }

    /// The leaf and its issuers below the root, in order.
    fn path(&self) -> Vec<String> {
        let below = &self.issuers[..self.issuers.len() - 1];
        [self.leaf.pem.clone()].into_iter().chain(below.iter().map(|one| one.pem())).collect()
    }

    /// The certificate as its CA publishes it today.
    fn current(&self, pem: &str) -> String {
        self.renewed.iter().find(|(old, _)| old == pem).map_or(pem, |(_, new)| new).to_owned()
    }

    /// What the issuer of this name has clients trust, if it is a root.
    fn root_named(&self, name: &str) -> Option<String> {
        match name {
            "CN=Other" => Some(self.other.pem()),
            _ => names(&self.issuers[self.issuers.len() - 1], name).then(|| self.renewed_root.clone()),
        }
    }

    /// What the finding says to do, done.
    fn remedied(&self, finding: &Finding, secret: &Secret) -> Secret {
        let mut secret = secret.clone();
        let place = finding.place().map(|place| place - 1);
        let trust = |secret: &mut Secret, pem: &str| match secret.ca_crt.contains("BEGIN") {
            true => secret.ca_crt += pem,
            false => pem.clone_into(&mut secret.ca_crt),
        };
        match finding.code() {
            "duplicate-certificate" => drop(secret.blocks.remove(place.unwrap())),
            "expired-cross-sign"
            | "not-a-certificate"
            | "root-included"
            | "unrelated-certificate"
            | "unparsable-certificate" => {
                let deleted = secret.blocks[place.unwrap()].clone();
                secret.blocks.retain(|block| *block != deleted);
            }
            "leaf-not-first" | "out-of-order" => {
                let rank = self.path();
                // Nothing but the order changes.
                secret.blocks.sort_by_key(|block| rank.iter().position(|one| one == block).unwrap_or(rank.len()));
            }
            "chain-completed" => {
                let Finding::ChainCompleted { issuer, .. } = finding else { unreachable!() };
                self.insert_above(&self.named(issuer), &mut secret);
            }
            "missing-intermediate" => {
                let Finding::MissingIntermediate { issuer, .. } = finding else { unreachable!() };
                match self.root_named(issuer) {
                    // "if it turns out to be a root, clients have to trust that root"
                    Some(root) => trust(&mut secret, &root),
                    None => self.insert_above(&self.named(issuer), &mut secret),
                }
            }
            "not-the-issuer" => secret.blocks[place.unwrap()] = self.current(&self.named("CN=Intermediate 0")),
            "self-signed" => trust(&mut secret, &self.leaf.pem),
            "unanchored" => {
                secret.blocks = self.path().iter().map(|one| self.current(one)).collect();
                trust(&mut secret, &self.renewed_root);
            }
            "untrusted-root" => {
                let Finding::UntrustedRoot { root, .. } = finding else { unreachable!() };
                trust(&mut secret, &self.root_named(root).unwrap());
            }
            "unusable-ca" => secret.ca_crt.clear(),
            "expired-root" | "root-not-valid-yet" => self.renewed_root.clone_into(&mut secret.ca_crt),
            "expired" => {
                let Finding::Expired { place, subject, .. } = finding else { unreachable!() };
                match place.added {
                    true => self.insert_above(&self.named(subject), &mut secret),
                    false => secret.blocks[place.number - 1] = self.current(&secret.blocks[place.number - 1]),
                }
            }
            other => panic!("{other}"),
        }
        secret
    }

    /// Puts a certificate after the one that it issued.
    fn insert_above(&self, pem: &str, secret: &mut Secret) {
        let rank = self.path();
        let own = rank.iter().position(|one| one == pem).unwrap();
        let below = &rank[own - 1];
        let is_below = |block: &String| block == below || *block == self.current(below);
        let at = secret.blocks.iter().position(is_below).map_or(secret.blocks.len(), |at| at + 1);
        secret.blocks.insert(at, self.current(pem));
    }

    /// The issuer with this subject.
    fn named(&self, subject: &str) -> String {
        self.issuers.iter().find(|one| names(one, subject)).unwrap().pem()
    }
}

/// Whether a CA has a subject.
fn names(ca: &Ca, subject: &str) -> bool {
    let anchors = TrustAnchors::none().with_file(ca.pem().as_bytes()).unwrap();
    let (chain, _) = handfast::tls::chain::Chain::load(ca.pem().as_bytes(), b"", &anchors);
    *chain.unwrap().outline().path[0].subject == *subject
}

/// Errors about the place where a chain ends.
const ENDS: [&str; 3] = ["missing-intermediate", "untrusted-root", "withdrawn-root"];

/// Whether an error is about something that nobody could judge before: a certificate that did not belong to the chain,
/// or an anchor that the chain did not reach.
fn was_out_of_reach(error: &Finding, before: &[Finding], old: &Secret, new: &Secret) -> bool {
    if ["expired-root", "root-not-valid-yet"].contains(&error.code()) {
        return old.ca_crt == new.ca_crt;
    }
    let block = |secret: &Secret, finding: &Finding| Some(secret.blocks.get(finding.place()? - 1)?.clone());
    let strangers = before.iter().filter(|finding| finding.code() == "unrelated-certificate");
    block(new, error).is_some_and(|block_of_error| {
        strangers.filter_map(|finding| block(old, finding)).any(|stranger| stranger == block_of_error)
    })
}

#[test]
fn a_remedy_ends_its_finding_and_brings_no_new_error() {
    let worlds = if crate::binary::soak() { 4_000 } else { 300 };
    let mut runner = TestRunner::deterministic();
    let mut faults: BTreeMap<String, String> = BTreeMap::new();
    let mut remedied: BTreeSet<&str> = BTreeSet::new();
    for _ in 0..worlds {
        let plan = plan().new_tree(&mut runner).unwrap().current();
        let (world, secret) = make(&plan);
        let (before, length) = world.judge(&secret);
        for finding in before.iter().filter(|finding| MECHANICAL.contains(&finding.code())) {
            remedied.insert(finding.code());
            let new = world.remedied(finding, &secret);
            let (after, longer) = world.judge(&new);
            let told = |findings: &[Finding]| {
                findings.iter().map(|finding| format!("{}: {finding}", finding.code())).collect::<Vec<_>>().join("\n  ")
            };
            let mut say = |what: String| {
                let context = || format!("{plan:?}\nbefore:\n  {}\nafter:\n  {}", told(&before), told(&after));
                faults.entry(format!("{}: {what}", finding.code())).or_insert_with(context);
            };
            let of_code = |findings: &[Finding]| findings.iter().filter(|one| one.code() == finding.code()).count();
            if after.contains(finding) && of_code(&after) >= of_code(&before) {
                say("it is still there".to_owned());
            }
            let known: BTreeSet<&str> = before.iter().filter(is_error).map(Finding::code).collect();
            for error in after.iter().filter(|one| is_error(one) && !known.contains(one.code())) {
                // Only the certificate that was missing says what is above it.
                let is_above = longer > length && ENDS.contains(&error.code());
                if !is_above && !was_out_of_reach(error, &before, &secret, &new) {
                    say(format!("it leads to {}", error.code()));
                }
            }
        }
    }
    let text: Vec<String> = faults.iter().map(|(what, context)| format!("{what}\n{context}")).collect();
    assert!(text.is_empty(), "{}", text.join("\n\n"));
    // Each of them was carried out.
    let all: BTreeSet<&str> = MECHANICAL.iter().copied().collect();
    assert_eq!(remedied, all);
}

fn is_error(finding: &&Finding) -> bool {
    finding.severity() == Severity::Error
}
