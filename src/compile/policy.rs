//! Policies: from what people write to what a host is served under.
//!
//! `TlsPolicySpec + CA of clients ──resolve──▶ HostPolicy, or why there is none`, and
//! `annotations × class × default ──choose──▶ the policy of one host`
//!
//! A policy is judged as a whole: either everything in it can be served, or it is not accepted and something else stays
//! in force. Names that cannot be served are no reason for that as long as something is left; they are told one by one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::absent::Absent;
use super::claims::Claims;
use super::tls::{entry, field};
use super::view::View;
use super::{ClientCa, Diagnostic, Effect, HeldPolicy, Kind, Object, ObjectKey, Options, Problem, SecretObject};
use crate::api::annotations::{TlsSettings, Written};
use crate::api::tls_policy::{
    ChainCompletion, CipherSuiteOrder, ClientAuthMode, FindingAction, GroupOrder, Hsts, Preset, ProtocolVersion,
    TlsPolicy, TlsPolicySpec,
};
use crate::quote::{Quoted, about};
use crate::snapshot::HostName;
use crate::tls::chain::{BadAnchors, BadLists, Finding, RevocationLists, TrustAnchors};
use crate::tls::clients::{self, Client};
use crate::tls::policy::parse::{self, Unavailable};
use crate::tls::policy::{self, ClientAuth, Policy, PolicyError, Settings, Suite, SuiteOrder};
use crate::tls::{Version, rfc3339};

/// What a host is served under.
#[derive(Debug)]
pub(super) struct HostPolicy {
    pub(super) tls: Policy,
    /// What to do about findings, by code. Without an entry, serve.
    pub(super) actions: BTreeMap<String, FindingAction>,
    pub(super) completion: Option<ChainCompletion>,
    /// The value of Strict-Transport-Security.
    pub(super) hsts: Option<Box<str>>,
    pub(super) required_clients: Vec<&'static Client>,
    /// What it was made of.
    pub(super) source: Arc<HeldPolicy>,
}

impl HostPolicy {
    /// The certificates without which no request may come from a client.
    pub(super) fn demanded(&self) -> Option<&ClientAuth> {
        self.tls.settings().client_auth.as_ref().filter(|auth| auth.required)
    }

    /// What to do about a finding: what the policy says, or else what is best for all.
    pub(super) fn action(&self, finding: &Finding) -> Option<FindingAction> {
        let said = self.actions.get(finding.code()).copied();
        said.or_else(|| matches!(finding, Finding::TemporaryCertificate).then_some(FindingAction::HoldLastGood))
    }

    /// What has been revoked of certificates of clients, if somebody looks.
    pub(super) fn revoked(&self) -> Option<&RevocationLists> {
        self.tls.settings().client_auth.as_ref()?.revoked.as_deref()
    }
}

/// What a policy comes to.
#[derive(Debug)]
pub(super) struct Resolved {
    /// What is served under it, or everything that is wrong with it.
    pub(super) policy: Result<Arc<HostPolicy>, Vec<Complaint>>,
    /// What it asks for that cannot be served, and what is left.
    pub(super) notes: Vec<Complaint>,
}

/// What is wrong with one field of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) part: Part,
    pub(super) problem: Problem,
}

/// A part of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Alpn,
    Chain,
    Ciphers,
    ClientAuth,
    FindingActions,
    Groups,
    MaxVersion,
    MinVersion,
    Order,
    Preset,
    RequiredClients,
    /// Versions, or what versions and lists come to together.
    Versions,
}

impl Part {
    /// The field of a TlsPolicy.
    pub(super) fn field(self) -> &'static str {
        match self {
            Part::Alpn => "spec.alpn",
            Part::Chain => "spec.chain.complete",
            Part::Ciphers => "spec.cipherSuites",
            Part::ClientAuth => "spec.clientAuth.caSecret",
            Part::FindingActions => "spec.findingActions",
            Part::Groups => "spec.groups",
            Part::MaxVersion => "spec.maxVersion",
            Part::MinVersion => "spec.minVersion",
            Part::Preset => "spec.preset",
            Part::Order => "spec.cipherSuiteOrder",
            Part::RequiredClients => "spec.requiredClients",
            Part::Versions => "spec",
        }
    }
}

impl Part {
    /// Whether the annotation that sets this part is to blame for what is wrong with another.
    fn covers(self, other: Self) -> bool {
        match other {
            Part::MaxVersion | Part::MinVersion | Part::Preset => self == Part::Versions,
            Part::Alpn
            | Part::Chain
            | Part::Ciphers
            | Part::ClientAuth
            | Part::FindingActions
            | Part::Groups
            | Part::Order
            | Part::RequiredClients
            | Part::Versions => self == other,
        }
    }
}

/// Policies by what they are made of: many hosts share few.
pub(super) struct Policies {
    /// The oldest version that is served, whatever a policy says: nothing comes out of here that goes below.
    floor: Version,
    resolved: HashMap<Arc<HeldPolicy>, Arc<Resolved>>,
    /// By object, as long as the policy and the Secret that it names are the same. Comparing all that is in them for
    /// each of ten thousand hosts would cost more than everything else.
    by_key: HashMap<ObjectKey, Known>,
    /// Certificates of clients' CAs as they stand in the Secrets, and what they come to.
    bundles: HashMap<ObjectKey, (SecretObject, ClientCa)>,
    issuers: HashMap<[u8; 32], Issuers>,
}

/// Who issues certificates of clients, and what they have revoked.
type Issuers = Result<(Arc<TrustAnchors>, Option<Arc<RevocationLists>>), BadIssuers>;

/// Why certificates of clients cannot be verified.
enum BadIssuers {
    Authorities(BadAnchors),
    Lists(BadLists),
}

fn issuers(source: &ClientCa) -> Issuers {
    let authorities = TrustAnchors::none().with_file(source.pem()).map_err(BadIssuers::Authorities)?;
    let lists = source.revoked().map(|text| RevocationLists::parse(text, &authorities)).transpose();
    Ok((Arc::new(authorities), lists.map_err(BadIssuers::Lists)?.map(Arc::new)))
}

/// A policy as it was when it was resolved.
struct Known {
    policy: Arc<TlsPolicy>,
    client_ca: Option<SecretObject>,
    resolved: Arc<Resolved>,
}

impl Policies {
    pub(super) fn new(floor: Version) -> Self {
        Self {
            floor,
            resolved: HashMap::new(),
            by_key: HashMap::new(),
            bundles: HashMap::new(),
            issuers: HashMap::new(),
        }
    }

    pub(super) fn resolve_object(
        &mut self,
        key: &ObjectKey,
        policy: &Arc<TlsPolicy>,
        client_ca: Option<&SecretObject>,
    ) -> Arc<Resolved> {
        if let Some(known) = self.by_key.get(key) {
            let same_ca = match (&known.client_ca, client_ca) {
                (Some(known), Some(now)) => Arc::ptr_eq(&known.0, &now.0),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if same_ca && Arc::ptr_eq(&known.policy, policy) {
                return known.resolved.clone();
            }
        }
        let ca = client_ca.map(|secret| self.bundle(secret)).unwrap_or_default();
        let resolved = self.resolve(HeldPolicy { spec: policy.spec.clone(), client_ca: ca });
        let known = Known { policy: policy.clone(), client_ca: client_ca.cloned(), resolved: resolved.clone() };
        self.by_key.insert(key.clone(), known);
        resolved
    }

    fn bundle(&mut self, secret: &SecretObject) -> ClientCa {
        let key = Object::Secret(secret.clone()).key();
        if let Some((known, bundle)) = self.bundles.get(&key)
            && Arc::ptr_eq(&known.0, &secret.0)
        {
            return bundle.clone();
        }
        let bundle = ClientCa::new(field(secret, "ca.crt"), entry(secret, "ca.crl"));
        self.bundles.insert(key, (secret.clone(), bundle.clone()));
        bundle
    }

    /// The policy is gone.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.by_key.remove(key);
    }

    pub(super) fn resolve(&mut self, source: HeldPolicy) -> Arc<Resolved> {
        if let Some(resolved) = self.resolved.get(&source) {
            return resolved.clone();
        }
        // Annotations are free text, so the number of different policies is not bounded by the number of objects.
        const KEPT: usize = 1_000;
        if self.resolved.len() >= KEPT {
            self.resolved.retain(|_, resolved| Arc::strong_count(resolved) > 1);
            self.issuers.clear();
            self.bundles.clear();
        }
        let issuers = self.issuers.entry(*source.client_ca.digest()).or_insert_with(|| issuers(&source.client_ca));
        let source = Arc::new(source);
        let resolved = Arc::new(resolve(&source, issuers, self.floor));
        self.resolved.insert(source, resolved.clone());
        resolved
    }
}

/// Reads and judges.
fn resolve(source: &Arc<HeldPolicy>, issuers: &Issuers, floor: Version) -> Resolved {
    let spec = &source.spec;
    let mut bad: Vec<Complaint> = Vec::new();
    let mut notes: Vec<Complaint> = Vec::new();
    let settings = settings(source, issuers, floor, &mut bad, &mut notes);
    let actions = actions(spec, &mut bad);
    let required_clients = required_clients(spec, &mut bad);
    let policy = match Policy::new(settings) {
        Ok(policy) => Some(policy),
        Err(error) => {
            let part = match error {
                PolicyError::NoGroup { .. } if spec.groups.is_some() => Part::Groups,
                PolicyError::NoSuite { .. } if spec.cipher_suites.is_some() => Part::Ciphers,
                PolicyError::NoGroup { .. } | PolicyError::NoSuite { .. } | PolicyError::VersionsReversed { .. } => {
                    Part::Versions
                }
            };
            // A list that is wrong by itself has been complained about.
            if !bad.iter().any(|complaint| complaint.part == part) {
                complain(&mut bad, part, error.to_string());
            }
            None
        }
    };
    let policy = match policy {
        Some(tls) if bad.is_empty() => Ok(Arc::new(HostPolicy {
            tls,
            actions,
            completion: spec.chain.and_then(|chain| chain.complete),
            hsts: spec.hsts.as_ref().map(hsts),
            required_clients,
            source: source.clone(),
        })),
        Some(_) | None => Err(bad),
    };
    Resolved { policy, notes }
}

fn complain(bad: &mut Vec<Complaint>, part: Part, error: String) {
    bad.push(Complaint { part, problem: Problem::BadTlsPolicy { error } });
}

fn settings(
    source: &HeldPolicy,
    issuers: &Issuers,
    floor: Version,
    bad: &mut Vec<Complaint>,
    notes: &mut Vec<Complaint>,
) -> Settings {
    let spec = &source.spec;
    let mut settings = match spec.preset {
        Some(Preset::Intermediate) => Settings::intermediate(),
        Some(Preset::Modern) => Settings::modern(),
        None => Settings::default(),
    };
    settings.min = spec.min_version.map_or(settings.min, version);
    settings.max = spec.max_version.map_or(settings.max, version);
    raise(spec, floor, &mut settings, notes);
    // Without a list of its own, a policy has the suites of each version that is on.
    settings.suites = Settings::intermediate().suites;
    if let Some(list) = &spec.cipher_suites {
        match parse::parse_ciphers(&list.join(":"), &settings.suites) {
            Ok((suites, unavailable)) => {
                let left = names(suites.iter().map(|suite| suite.openssl()));
                note(notes, Part::Ciphers, unavailable, left);
                let before = std::mem::replace(&mut settings.suites, suites);
                // A list that names only suites of TLS 1.3 says nothing about the others, as in OpenSSL.
                let is_old = |suite: &Suite| suite.version() == Version::Tls12;
                if !settings.suites.iter().any(is_old) {
                    settings.suites.extend(before.into_iter().filter(is_old));
                }
            }
            Err(error) => complain(bad, Part::Ciphers, about(&list.join("\n"), format!("the list {error}"))),
        }
    }
    if let Some(list) = &spec.groups {
        match parse::parse_groups(&list.join(":")) {
            Ok((groups, unavailable)) => {
                note(notes, Part::Groups, unavailable, names(groups.iter().map(|group| group.name())));
                settings.groups = groups;
            }
            Err(error) => complain(bad, Part::Groups, about(&list.join("\n"), format!("the list {error}"))),
        }
    }
    if let Some(list) = &spec.alpn {
        let parsed = if list.is_empty() { Ok((Vec::new(), Vec::new())) } else { parse::parse_alpn(&list.join(",")) };
        match parsed {
            Ok((protocols, unavailable)) => {
                note(notes, Part::Alpn, unavailable, names(protocols.iter().map(|protocol| protocol.id())));
                settings.alpn = protocols;
            }
            Err(error) => complain(bad, Part::Alpn, about(&list.join("\n"), format!("the list {error}"))),
        }
    }
    if let Some(order) = spec.cipher_suite_order {
        settings.suite_order = match order {
            CipherSuiteOrder::Client => SuiteOrder::Client,
            CipherSuiteOrder::Server => SuiteOrder::Server,
            CipherSuiteOrder::ServerUnlessChaCha20First => SuiteOrder::ServerUnlessChaCha20First,
        };
    }
    if let Some(order) = spec.group_order {
        settings.group_order = match order {
            GroupOrder::Client => policy::GroupOrder::Client,
            GroupOrder::Server => policy::GroupOrder::Server,
        };
    }
    let (min, max) = (settings.min, settings.max);
    settings.suites.retain(|suite| (min..=max).contains(&suite.version()) || min > max);
    settings.tickets = spec.session_tickets.unwrap_or(settings.tickets);
    if let Some(auth) = &spec.client_auth {
        let secret = auth.ca_secret.clone();
        let problem = match issuers {
            Ok((authorities, revoked)) => {
                let required = auth.mode == ClientAuthMode::Required;
                for authority in revoked.iter().flat_map(|lists| lists.missing(authorities)) {
                    let problem = Problem::MissingRevocationList { secret: secret.clone(), authority };
                    notes.push(Complaint { part: Part::ClientAuth, problem });
                }
                let (authorities, revoked) = (authorities.clone(), revoked.clone());
                settings.client_auth = Some(ClientAuth { required, authorities, revoked });
                None
            }
            Err(BadIssuers::Authorities(error)) => {
                let error = match source.client_ca.pem().is_empty() {
                    true => "it does not exist or has no ca.crt".to_owned(),
                    false => format!("its ca.crt: {error}"),
                };
                Some(Problem::UnusableClientCa { secret, error })
            }
            Err(BadIssuers::Lists(error)) => Some(Problem::UnusableRevocationList { secret, error: error.to_string() }),
        };
        bad.extend(problem.map(|problem| Complaint { part: Part::ClientAuth, problem }));
    }
    settings
}

fn version(version: ProtocolVersion) -> Version {
    match version {
        ProtocolVersion::Tls12 => Version::Tls12,
        ProtocolVersion::Tls13 => Version::Tls13,
    }
}

/// Lifts versions to the operator's floor, and says what of the policy asked for older ones. What leaves versions open
/// asks for nothing. A policy is lifted rather than refused: what else it says, certificates of clients above all, holds.
fn raise(spec: &TlsPolicySpec, floor: Version, settings: &mut Settings, notes: &mut Vec<Complaint>) {
    // Versions in the wrong order are wrong at any floor.
    if settings.min >= floor || settings.min > settings.max {
        return;
    }
    let preset = spec.preset.is_some() && spec.min_version.is_none();
    let asked = [
        (Part::MinVersion, spec.min_version.map(version)),
        (Part::MaxVersion, spec.max_version.map(version)),
        (Part::Preset, preset.then_some(settings.min)),
    ];
    for (part, asked) in asked {
        if let Some(asked) = asked.filter(|asked| *asked < floor) {
            let problem = Problem::BelowMinTlsVersion { asked: asked.nginx(), floor: floor.nginx() };
            notes.push(Complaint { part, problem });
        }
    }
    settings.min = floor;
    settings.max = settings.max.max(floor);
}

/// Tells names that cannot be served, if there are any.
fn note(notes: &mut Vec<Complaint>, part: Part, unavailable: Vec<Unavailable>, left: String) {
    let (named, general): (Vec<_>, Vec<_>) = unavailable.into_iter().partition(|one| one.named);
    if !named.is_empty() {
        let (names, left) = (named.into(), left.clone());
        notes.push(Complaint { part, problem: Problem::UnservedTlsNames { names, left } });
    }
    if !general.is_empty() {
        let names = general.into_iter().map(|one| one.name).collect::<Vec<_>>().into();
        notes.push(Complaint { part, problem: Problem::UnservedByAlias { names, left } });
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn actions(spec: &TlsPolicySpec, bad: &mut Vec<Complaint>) -> BTreeMap<String, FindingAction> {
    for code in spec.finding_actions.keys() {
        if !Finding::all().any(|about| about.code == code) {
            let error = format!("{} is not a finding about certificates: `handfast explain` lists them", Quoted(code));
            complain(bad, Part::FindingActions, error);
        }
    }
    spec.finding_actions.clone()
}

fn required_clients(spec: &TlsPolicySpec, bad: &mut Vec<Complaint>) -> Vec<&'static Client> {
    let mut found = Vec::new();
    for id in &spec.required_clients {
        match clients::client(id) {
            Some(client) => found.push(client),
            None => {
                let meant = match clients::similar(id).as_slice() {
                    [] => String::new(),
                    similar => format!(". Do you mean {}?", similar.join(" or ")),
                };
                let error = format!("{} is not a known client: `handfast clients` lists them{meant}", Quoted(id));
                complain(bad, Part::RequiredClients, error);
            }
        }
    }
    found
}

/// The header's value (RFC 6797 section 6.1).
fn hsts(hsts: &Hsts) -> Box<str> {
    let subdomains = if hsts.include_sub_domains { "; includeSubDomains" } else { "" };
    let preload = if hsts.preload { "; preload" } else { "" };
    format!("max-age={}{subdomains}{preload}", hsts.max_age.max(0)).into()
}

/// The policy that is asked for on a host.
pub(super) struct Asked {
    /// The TlsPolicy, if one is named.
    pub(super) policy: Option<ObjectKey>,
    /// Who names it, and with which annotation; `None` if the class or the operator does.
    pub(super) by: Option<(ObjectKey, String)>,
    pub(super) wish: Wish,
    /// What annotations contribute, each with the Ingress that has it.
    pub(super) overrides: Vec<Override>,
    /// The policy without the annotations, if they change it.
    pub(super) base: Option<Arc<HostPolicy>>,
    /// Why the policy is not there, if it is missing.
    pub(super) absent: Absent,
}

/// What becomes of the policy that is asked for.
pub(super) enum Wish {
    /// It is accepted, and this is what it comes to with the annotations.
    Accepted(Arc<HostPolicy>),
    /// The annotations spoil it; what is wrong with both together.
    Overridden(Vec<Complaint>),
    /// It exists, and is not accepted.
    Refused {
        /// It asks clients for certificates, and cannot say whose.
        asks_for_client_certificates: bool,
    },
    /// It does not exist, so nobody knows what it demands.
    Missing,
}

/// One annotation that changes the policy of a host.
pub(super) struct Override {
    pub(super) ingress: ObjectKey,
    pub(super) annotation: String,
    pub(super) value: String,
    pub(super) part: Part,
    pub(super) fate: Fate,
}

/// What becomes of an annotation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    /// It holds; names in it may not be servable.
    Applied(Vec<Problem>),
    /// The policy does not allow it.
    Forbidden,
    /// An older Ingress says something else.
    Late(ObjectKey),
    /// It cannot be read.
    Wrong(String),
}

/// Which policy a host is to have.
pub(super) fn choose(view: &mut View<'_>, options: &Options, host: &HostName, all: &[&Arc<Claims>]) -> Asked {
    // Other namespaces may add paths to a host, and have no say in how it is protected.
    let owner = &all[0].ingress.namespace;
    let (claims, foreign): (Vec<&Arc<Claims>>, Vec<&Arc<Claims>>) =
        all.iter().partition(|claims| claims.ingress.namespace == *owner);
    let claims = claims.as_slice();
    let named = claims.iter().find_map(|claims| Some((claims, claims.settings.policy.as_ref()?)));
    let (policy, by) = match named {
        Some((claims, written)) => (
            Some(ObjectKey::new(Kind::TlsPolicy, &claims.ingress.namespace, &written.value)),
            Some((claims.ingress.clone(), written.annotation.clone())),
        ),
        None => (claims.iter().find_map(|claims| claims.class_policy.clone()).or_else(|| default_key(options)), None),
    };
    let base = match &policy {
        None if lost_class(view, host, claims) => Err(Wish::Missing),
        None => built_in_policy(view),
        Some(key) => accepted(view, key),
    };
    let base = match base {
        Ok(base) => base,
        Err(wish) => {
            let overrides = late(claims, &foreign, &policy);
            let absent = match (&wish, &policy) {
                (Wish::Missing, Some(key)) => Absent::find(view, key),
                (Wish::Missing, None) => Absent::ClassGone,
                (Wish::Accepted(_) | Wish::Overridden(_) | Wish::Refused { .. }, _) => Absent::Nowhere,
            };
            return Asked { policy, by, wish, overrides, base: None, absent };
        }
    };
    let mut overrides = overrides(claims, base.source.spec.allow_overrides.unwrap_or(true));
    overrides.extend(late(claims, &foreign, &policy));
    if !overrides.iter().any(|one| matches!(one.fate, Fate::Applied(_))) {
        return Asked { policy, by, wish: Wish::Accepted(base), overrides, base: None, absent: Absent::Nowhere };
    }
    let mut effective = HeldPolicy::clone(&base.source);
    for one in &mut overrides {
        if one.fate == Fate::Applied(Vec::new())
            && let Err(error) = apply(one, &mut effective.spec)
        {
            one.fate = Fate::Wrong(error);
        }
    }
    let is_wrong = overrides.iter().any(|one| matches!(one.fate, Fate::Wrong(_)));
    let resolved = view.resolve(effective);
    for note in &resolved.notes {
        // What the policy itself contains is said about the policy.
        let own = overrides.iter_mut().find(|one| one.part.covers(note.part) && matches!(one.fate, Fate::Applied(_)));
        if let Some(Override { fate: Fate::Applied(problems), .. }) = own {
            problems.push(note.problem.clone());
        }
    }
    let wish = match &resolved.policy {
        _ if is_wrong => Wish::Overridden(Vec::new()),
        Ok(policy) => Wish::Accepted(policy.clone()),
        Err(complaints) => Wish::Overridden(complaints.clone()),
    };
    Asked { policy, by, wish, overrides, base: Some(base), absent: Absent::Nowhere }
}

/// The policy that holds where no Ingress has a say.
pub(super) fn general(view: &mut View<'_>, options: &Options) -> Result<Arc<HostPolicy>, Wish> {
    match default_key(options) {
        None => built_in_policy(view),
        Some(key) => accepted(view, &key),
    }
}

/// The policy that holds where nobody has named one.
pub(super) fn built_in_policy(view: &mut View<'_>) -> Result<Arc<HostPolicy>, Wish> {
    let built_in = HeldPolicy { spec: TlsPolicySpec::default(), client_ca: ClientCa::default() };
    view.resolve(built_in).policy.clone().map_err(|_| Wish::Missing)
}

/// What the policy of one Ingress is by what it says itself: its annotation, or the parameters of its class.
pub(super) fn own(claims: &Claims) -> Option<ObjectKey> {
    let written = claims.settings.policy.as_ref();
    let named = written.map(|written| ObjectKey::new(Kind::TlsPolicy, &claims.ingress.namespace, &written.value));
    named.or_else(|| claims.class_policy.clone())
}

/// What a policy demands of clients.
pub(super) enum Demand {
    /// Certificates by these authorities.
    Certificates(ClientAuth),
    Nothing,
    /// Nobody knows, because it does not exist or cannot be read.
    Unknown,
}

/// What the policy of this name demands of clients; without a name, the one that holds where no Ingress has a say.
pub(super) fn demand(view: &mut View<'_>, options: &Options, key: Option<&ObjectKey>) -> Demand {
    let policy = match key {
        Some(key) => accepted(view, key),
        None => general(view, options),
    };
    match policy {
        Ok(policy) => policy.demanded().cloned().map_or(Demand::Nothing, Demand::Certificates),
        Err(Wish::Refused { asks_for_client_certificates: false }) => Demand::Nothing,
        Err(_) => Demand::Unknown,
    }
}

/// True if the host demanded certificates of clients until now, and the class that said so is gone: no reason to open it.
fn lost_class(view: &mut View<'_>, host: &HostName, claims: &[&Arc<Claims>]) -> bool {
    let owner = &claims[0].ingress.namespace;
    claims.iter().any(|claims| claims.class_is_missing)
        && view.previous_policy(host, owner).is_some_and(|previous| {
            previous.policy.as_ref().is_ok_and(|previous| previous.tls.settings().client_auth.is_some())
        })
}

/// What Ingresses say that has no say: younger ones that name another policy than the one that counts, and those of
/// other namespaces.
fn late(claims: &[&Arc<Claims>], foreign: &[&Arc<Claims>], chosen: &Option<ObjectKey>) -> Vec<Override> {
    let winner = |claims: &[&Arc<Claims>]| {
        let named = claims.iter().find(|claims| claims.settings.policy.is_some());
        named.unwrap_or(&claims[0]).ingress.clone()
    };
    let policies = claims.iter().chain(foreign).filter_map(|claims| {
        let written = claims.settings.policy.as_ref()?;
        let key = own(claims)?;
        (Some(&key) != chosen.as_ref()).then(|| (claims, written.annotation.clone(), written.value.clone()))
    });
    let settings = foreign.iter().flat_map(|claims| {
        let written = written(&claims.settings).into_iter();
        written.map(move |(_, annotation, value)| (claims, annotation, value))
    });
    let late = policies.chain(settings).map(|(one, annotation, value)| Override {
        ingress: one.ingress.clone(),
        annotation,
        value,
        part: Part::Versions,
        fate: Fate::Late(winner(claims)),
    });
    late.collect()
}

/// The policy of this name as it is now, with what it comes to.
fn of_object(view: &mut View<'_>, key: &ObjectKey) -> Option<(Arc<TlsPolicy>, Arc<Resolved>)> {
    let policy = view.policy(key)?.clone();
    let client_ca = policy.spec.client_auth.as_ref();
    let client_ca =
        client_ca.and_then(|auth| view.secret(&ObjectKey::new(Kind::Secret, &key.namespace, &auth.ca_secret)));
    let resolved = view.resolve_object(key, &policy, client_ca);
    Some((policy, resolved))
}

/// Everything that is wrong with a policy by itself, with its field.
pub(super) fn judge(view: &mut View<'_>, options: &Options, key: &ObjectKey) -> Vec<(&'static str, Problem)> {
    let Some((policy, resolved)) = of_object(view, key) else { return Vec::new() };
    let completion = policy.spec.chain.and_then(|chain| chain.complete);
    let complaints = resolved.policy.as_ref().err().into_iter().flatten().chain(&resolved.notes);
    let mut problems: Vec<_> =
        complaints.map(|complaint| (complaint.part.field(), complaint.problem.clone())).collect();
    if let Some(lists) = resolved.policy.as_ref().ok().and_then(|policy| policy.revoked())
        && let Some(auth) = &policy.spec.client_auth
    {
        let expired = lists.expired(view.now).map(|(issuer, since)| Problem::ExpiredRevocationList {
            secret: auth.ca_secret.clone(),
            issuer: issuer.to_owned(),
            since: rfc3339(since),
        });
        problems.extend(expired.map(|problem| (Part::ClientAuth.field(), problem)));
        view.note_until(lists.changes_at(view.now));
    }
    if completion == Some(ChainCompletion::FromBundle) && options.intermediates.is_empty() {
        problems.push((Part::Chain.field(), Problem::NoIntermediates));
    }
    problems
}

/// The default policy, if it is named and does not exist.
pub(super) fn missing_default(view: &mut View<'_>, options: &Options) -> Option<Diagnostic> {
    let key = default_key(options)?;
    if view.policy(&key).is_some() {
        return None;
    }
    let why = if view.is_refused(&key) { Absent::Refused } else { Absent::Nowhere };
    Some(Diagnostic {
        field: "".into(),
        problem: Problem::TlsPolicyNotFound { policy: key.path(), why },
        effect: Effect::HostRefused,
        hosts: Vec::new(),
        subject: key,
    })
}

/// A policy that is accepted by itself, or why there is none.
pub(super) fn accepted(view: &mut View<'_>, key: &ObjectKey) -> Result<Arc<HostPolicy>, Wish> {
    let (policy, resolved) = of_object(view, key).ok_or(Wish::Missing)?;
    let asks_for_client_certificates = policy.spec.client_auth.is_some();
    resolved.policy.clone().map_err(|_| Wish::Refused { asks_for_client_certificates })
}

fn default_key(options: &Options) -> Option<ObjectKey> {
    let (namespace, name) = options.default_tls_policy.as_ref()?;
    Some(ObjectKey::new(Kind::TlsPolicy, namespace, name))
}

/// What annotations say, oldest Ingress first.
fn overrides(claims: &[&Arc<Claims>], allowed: bool) -> Vec<Override> {
    let mut overrides: Vec<Override> = Vec::new();
    for claims in claims {
        for (part, annotation, value) in written(&claims.settings) {
            let first = overrides.iter().find(|one| name(&one.annotation) == name(&annotation));
            let fate = match first {
                Some(first) if first.value == value => continue,
                Some(first) => Fate::Late(first.ingress.clone()),
                None if !allowed => Fate::Forbidden,
                None => Fate::Applied(Vec::new()),
            };
            overrides.push(Override { ingress: claims.ingress.clone(), annotation, value, part, fate });
        }
    }
    overrides
}

/// An annotation without its prefix.
fn name(annotation: &str) -> &str {
    annotation.split_once('/').map_or(annotation, |(_, name)| name)
}

fn written(settings: &TlsSettings) -> Vec<(Part, String, String)> {
    let text = |part, written: &Option<Written<String>>| {
        written.as_ref().map(|written| (part, written.annotation.clone(), written.value.clone()))
    };
    let order = settings.prefer_server_ciphers.as_ref();
    let order = order.map(|written| (Part::Order, written.annotation.clone(), written.value.to_string()));
    [
        text(Part::Versions, &settings.protocols),
        text(Part::Ciphers, &settings.ciphers),
        text(Part::Groups, &settings.curves),
        order,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Puts one annotation into the policy.
fn apply(one: &mut Override, spec: &mut TlsPolicySpec) -> Result<(), String> {
    match name(&one.annotation) {
        "ssl-protocols" => {
            const KEPT: usize = 50;
            let ((min, max), mut unavailable) =
                parse::parse_versions(&one.value).map_err(|error| format!("it {error}"))?;
            unavailable.truncate(KEPT);
            let version = |version| match version {
                Version::Tls12 => ProtocolVersion::Tls12,
                Version::Tls13 => ProtocolVersion::Tls13,
            };
            (spec.min_version, spec.max_version) = (Some(version(min)), Some(version(max)));
            if !unavailable.is_empty() {
                let versions = if min == max { vec![min] } else { vec![min, max] };
                let left = names(versions.iter().map(|version| version.nginx()));
                one.fate = Fate::Applied(vec![Problem::UnservedTlsNames { names: unavailable.into(), left }]);
            }
        }
        "ssl-ciphers" => spec.cipher_suites = Some(vec![one.value.clone()]),
        "ssl-ecdh-curve" => spec.groups = Some(vec![one.value.clone()]),
        _ => {
            let is_on = one.value == "true";
            let order = if is_on { CipherSuiteOrder::Server } else { CipherSuiteOrder::Client };
            spec.cipher_suite_order = Some(order);
        }
    }
    Ok(())
}
