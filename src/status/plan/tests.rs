//! What is written, when, and when no more.

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Ingress, "shop", name)
}

fn addresses(ips: &[&str]) -> Vec<Address> {
    ips.iter().map(|ip| Address { ip: Some((*ip).to_owned()), ..Address::default() }).collect()
}

fn seen(uid: &str, ips: &[&str], is_ours: bool) -> SeenIngress {
    SeenIngress { uid: uid.into(), addresses: addresses(ips), is_ours }
}

/// What a test changes, and looks at.
struct Case {
    plans: Plans,
    wanted: Wanted,
    objects: Objects,
    now: Instant,
}

impl Case {
    /// These Ingresses are ours, and are to have this address.
    fn new(names: &[&str], ip: &str) -> Self {
        let wanted = Wanted {
            ingresses: names.iter().map(|name| (key(name), ())).collect(),
            policies: Trie::default(),
            addresses: Some(addresses(&[ip]).into()),
        };
        let ingresses = names.iter().map(|name| (key(name), seen(name, &[], false))).collect();
        let objects = Objects { ingresses, ..Objects::default() };
        Self { plans: Plans::default(), wanted, objects, now: Instant::now() }
    }

    fn see(&mut self, name: &str, look: SeenIngress) {
        self.objects.ingresses.insert(key(name), look);
    }

    fn disown(&mut self, name: &str) {
        self.wanted.ingresses.remove(&key(name));
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn differing(&mut self) -> Vec<String> {
        let (differing, _) = self.plans.differing(&self.wanted, &self.objects, self.now);
        differing.iter().map(|key| key.name.to_string()).collect()
    }

    fn next(&mut self, name: &str) -> Next {
        self.plans.next(&key(name), &self.wanted, &self.objects, self.now, Timestamp::UNIX_EPOCH)
    }

    /// Writes what is to be written, and sees it.
    fn write(&mut self, name: &str) -> Value {
        let Next::Write(write) = self.next(name) else { panic!("nothing to write on {name}: {:?}", self.next(name)) };
        let status = write.status.clone();
        self.plans.written(&key(name), write, self.now);
        status
    }
}

#[test]
fn only_what_differs_is_written_and_what_was_written_is_awaited() {
    let mut case = Case::new(&["a", "b", "c"], "192.0.2.1");
    case.see("b", seen("b", &["192.0.2.1"], false));
    assert_eq!(case.differing(), ["a", "c"]);
    assert_eq!(case.next("b"), Next::Nothing, "whoever wrote it");
    assert_eq!(case.write("a"), json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}));
    // The watch has not brought it yet.
    assert_eq!(case.next("a"), Next::At(case.now + LAG));
    case.see("a", seen("a", &["192.0.2.1"], true));
    assert_eq!(case.differing(), ["c"]);
    assert_eq!(case.next("a"), Next::Nothing);
}

#[test]
fn a_look_is_at_what_has_changed_and_at_everything_when_the_addresses_have() {
    let mut case = Case::new(&["a", "b", "c"], "192.0.2.1");
    assert_eq!(case.differing(), ["a", "b", "c"]);
    // Forgotten by hand, it would be found by a look at it.
    case.plans.differing.clear();
    assert_eq!(case.differing(), [""; 0]);
    case.see("b", seen("b", &["203.0.113.9"], false));
    assert_eq!(case.differing(), ["b"]);
    case.disown("b");
    case.wanted.ingresses.insert(key("d"), ());
    case.see("d", seen("d", &[], false));
    assert_eq!(case.differing(), ["d"]);
    case.wanted.addresses = Some(addresses(&["192.0.2.7"]).into());
    assert_eq!(case.differing(), ["a", "c", "d"]);
}

#[test]
fn what_is_seen_before_the_answer_to_the_write_counts() {
    let mut case = Case::new(&["a"], "192.0.2.1");
    let Next::Write(write) = case.next("a") else { panic!() };
    case.see("a", seen("a", &["192.0.2.1"], true));
    assert_eq!(case.differing(), [""; 0]);
    case.plans.written(&key("a"), write, case.now);
    // Changed back to just what was there before: that is no watch that is late.
    case.see("a", seen("a", &[], false));
    assert_eq!(case.next("a"), Next::At(case.now + FIRST_ROUND));
}

#[test]
fn unknown_addresses_change_nothing_and_another_order_is_no_change() {
    let mut case = Case::new(&["a"], "192.0.2.1");
    case.wanted.addresses = None;
    case.see("a", seen("a", &["203.0.113.9"], true));
    assert_eq!((case.differing(), case.next("a")), (vec![], Next::Nothing));
    case.wanted.addresses = Some(addresses(&["192.0.2.1", "192.0.2.2"]).into());
    case.see("a", seen("a", &["192.0.2.2", "192.0.2.1"], false));
    assert_eq!((case.differing(), case.next("a")), (vec![], Next::Nothing));
}

#[test]
fn another_object_of_the_same_name_and_other_addresses_begin_anew() {
    let mut case = Case::new(&["a"], "192.0.2.1");
    case.write("a");
    case.see("a", seen("later", &[], false));
    let Next::Write(write) = case.next("a") else { panic!() };
    assert_eq!(&*write.uid, "later");
    case.write("a");
    case.see("a", seen("later", &["192.0.2.1"], true));
    case.differing();
    case.wanted.addresses = Some(addresses(&["192.0.2.7"]).into());
    assert_eq!(case.differing(), ["a"]);
    assert_eq!(case.write("a")["loadBalancer"]["ingress"][0]["ip"], "192.0.2.7");
}

#[test]
fn what_another_changes_back_is_written_again_ever_later_and_in_the_end_left_alone() {
    let mut case = Case::new(&["a"], "192.0.2.1");
    let mut waits = Vec::new();
    case.write("a");
    for _ in 0..ROUNDS {
        case.see("a", seen("a", &["192.0.2.1"], true));
        case.differing();
        case.see("a", seen("a", &["203.0.113.9"], false));
        let Next::At(at) = case.next("a") else { panic!("{:?}", case.next("a")) };
        waits.push((at - case.now).as_secs());
        case.now = at;
        case.write("a");
    }
    assert_eq!(waits, [5, 20, 80, 320, 1280]);
    case.see("a", seen("a", &["203.0.113.8"], false));
    case.pass(10);
    assert_eq!(case.next("a"), Next::Contested);
    for _ in 0..10 {
        case.pass(3600);
        assert_eq!(case.next("a"), Next::Nothing, "it is said once, and nothing is written");
    }
    // The other one has gone, and has taken its addresses away.
    case.see("a", seen("a", &[], false));
    case.write("a");
    case.see("a", seen("a", &["203.0.113.8"], false));
    case.pass(10);
    assert_eq!(case.next("a"), Next::Nothing);
    // Somebody decides something: that counts.
    case.wanted.addresses = Some(addresses(&["192.0.2.7"]).into());
    case.write("a");
}

#[test]
fn a_change_after_hours_of_peace_is_put_right_soon() {
    let mut case = Case::new(&["a"], "192.0.2.1");
    case.write("a");
    for _ in 0..3 * ROUNDS {
        case.see("a", seen("a", &["192.0.2.1"], true));
        case.pass(4 * 3600);
        case.differing();
        case.see("a", seen("a", &[], false));
        case.write("a");
    }
}

#[test]
fn an_ingress_that_is_no_longer_ours_loses_our_addresses_after_a_moment_and_those_of_others_stay() {
    let mut case = Case::new(&["a", "b", "c"], "192.0.2.1");
    for name in ["a", "b", "c"] {
        case.see(name, seen(name, &["192.0.2.1"], name != "b"));
        case.disown(name);
    }
    case.disown("b");
    case.wanted.ingresses = [(key("c"), ())].into();
    assert_eq!(case.differing(), [""; 0]);
    case.pass(UNOWNED.as_secs());
    assert_eq!(case.differing(), ["a"]);
    let Next::Write(write) = case.next("a") else { panic!() };
    assert_eq!((write.status.clone(), &write.what), (json!({}), &What::Clear));
    case.plans.written(&key("a"), write, case.now);
    case.see("a", seen("a", &[], false));
    assert_eq!((case.differing(), case.next("b")), (vec![], Next::Nothing));
}

#[test]
fn one_that_is_ours_again_in_time_keeps_what_it_has() {
    let mut case = Case::new(&["a", "b"], "192.0.2.1");
    case.see("a", seen("a", &["192.0.2.1"], true));
    case.see("b", seen("b", &["192.0.2.1"], true));
    case.disown("a");
    case.differing();
    case.pass(4);
    case.wanted.ingresses.insert(key("a"), ());
    case.differing();
    case.disown("a");
    case.differing();
    case.pass(4);
    assert_eq!((case.differing(), case.next("a")), (vec![], Next::Nothing));
}

#[test]
fn where_most_would_lose_their_addresses_at_once_a_minute_passes() {
    let names: Vec<String> = (0..10).map(|index| format!("i{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut case = Case::new(&names, "192.0.2.1");
    for name in &names {
        case.see(name, seen(name, &["192.0.2.1"], true));
        case.disown(name);
    }
    case.differing();
    case.pass(59);
    assert_eq!(case.differing(), [""; 0]);
    case.pass(1);
    assert_eq!(case.differing().len(), 10);
}

#[test]
fn the_last_replica_takes_away_everything_of_ours_at_once() {
    let mut case = Case::new(&["a", "b", "c"], "192.0.2.1");
    case.see("a", seen("a", &["192.0.2.1"], true));
    case.see("b", seen("b", &["192.0.2.1"], false));
    case.plans.leave();
    assert_eq!(case.differing(), ["a"]);
    assert_eq!(case.write("a"), json!({}));
    assert_eq!((case.next("b"), case.next("c")), (Next::Nothing, Next::Nothing));
}

#[test]
fn a_policy_is_written_once_a_second_at_most_and_not_over_what_is_newer() {
    let mut case = Case::new(&[], "192.0.2.1");
    let key = ObjectKey::new(Kind::TlsPolicy, "shop", "strict");
    let status =
        |hosts, generation| PolicyStatus { generation: Some(generation), refused: None, hosts, held: Vec::new() };
    let look = |status| SeenPolicy { uid: "p".into(), generation: 2, status, other: None };
    case.objects.policies.insert(key.clone(), look(None));
    let set = |case: &mut Case, status| {
        case.wanted.policies = [(key.clone(), Arc::new(status))].into();
        case.plans.next(&key, &case.wanted, &case.objects, case.now, Timestamp::UNIX_EPOCH)
    };
    let Next::Write(write) = set(&mut case, status(1, 2)) else { panic!() };
    assert_eq!(write.status["conditions"][0]["observedGeneration"], 2);
    case.plans.written(&key, write, case.now);
    assert_eq!(set(&mut case, status(1, 2)), Next::At(case.now + LAG), "it is on its way");
    assert_eq!(set(&mut case, status(2, 2)), Next::At(case.now + POLICY_PACE));
    case.pass(1);
    let Next::Write(write) = set(&mut case, status(2, 2)) else { panic!() };
    let there = serde_json::from_value(write.status).unwrap();
    case.objects.policies.insert(key.clone(), look(Some(there)));
    assert_eq!(set(&mut case, status(2, 2)), Next::Nothing);
    assert_eq!(set(&mut case, status(2, 1)), Next::Nothing, "this replica's watch is behind");
    assert_eq!(case.differing(), ["strict"]);
}

#[test]
fn conditions_of_another_installation_are_left_alone_as_long_as_they_follow_the_policy() {
    let mut case = Case::new(&[], "192.0.2.1");
    let key = ObjectKey::new(Kind::TlsPolicy, "shop", "strict");
    let status =
        |hosts, generation| PolicyStatus { generation: Some(generation), refused: None, hosts, held: Vec::new() };
    let see = |case: &mut Case, theirs: PolicyStatus| {
        let there = Some(conditions::wanted(&theirs, None, Timestamp::UNIX_EPOCH));
        let look = SeenPolicy { uid: "p".into(), generation: 2, status: there, other: Some("handfast/x/y".into()) };
        case.objects.policies.insert(key.clone(), look);
    };
    let next = |case: &mut Case, ours: PolicyStatus| {
        case.wanted.policies = [(key.clone(), Arc::new(ours))].into();
        case.plans.next(&key, &case.wanted, &case.objects, case.now, Timestamp::UNIX_EPOCH)
    };
    see(&mut case, status(3, 2));
    assert_eq!(next(&mut case, status(1, 2)), Next::Contested);
    case.pass(3_600);
    assert_eq!(next(&mut case, status(2, 2)), Next::Nothing, "it is said once");
    // The policy has changed, and the other one has time to say so.
    assert_eq!(next(&mut case, status(2, 3)), Next::At(case.now + LAG));
    see(&mut case, status(3, 3));
    assert_eq!(next(&mut case, status(2, 3)), Next::Nothing);
    // It changes again, and the other one is not there any more.
    assert_eq!(next(&mut case, status(2, 4)), Next::At(case.now + LAG));
    case.pass(LAG.as_secs());
    assert!(matches!(next(&mut case, status(2, 4)), Next::Write(_)));
}

#[test]
fn whoever_has_hosts_speaks_in_place_of_an_installation_without() {
    let mut case = Case::new(&[], "192.0.2.1");
    let key = ObjectKey::new(Kind::TlsPolicy, "shop", "strict");
    let status = |hosts| PolicyStatus { generation: Some(1), refused: None, hosts, held: Vec::new() };
    let next = |case: &mut Case, theirs: usize, ours: usize| {
        let there = Some(conditions::wanted(&status(theirs), None, Timestamp::UNIX_EPOCH));
        let look = SeenPolicy { uid: "p".into(), generation: 1, status: there, other: Some("handfast/x/y".into()) };
        case.objects.policies.insert(key.clone(), look);
        case.wanted.policies = [(key.clone(), Arc::new(status(ours)))].into();
        case.plans.next(&key, &case.wanted, &case.objects, case.now, Timestamp::UNIX_EPOCH)
    };
    assert!(matches!(next(&mut case, 0, 2), Next::Write(_)));
    assert_eq!(next(&mut case, 2, 0), Next::Contested);
    assert_eq!(next(&mut case, 0, 0), Next::Nothing, "they agree");
}
