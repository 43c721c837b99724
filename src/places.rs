//! A bounded set of places, in which a newcomer is never the one who has to go.
//!
//! ```text
//! enter ──a place is free──────────────────────▶ Place ──wait, work──▶ dropped: the place is free
//!    └──none is──▶ the member that has waited longest for its peer is told to end
//!                       └──nobody waits: the newcomer is refused
//! ```
//!
//! A member either works (a request runs) or waits for its peer (no hello, no request, an answer that is not read). To
//! wait costs the peer nothing, so whoever attacks a limit does it with members that wait; and those who mean it do not
//! wait for long. Therefore the longest wait goes first, and work is never interrupted.
//!
//! A member that is told to end gives its place up at once and has time for a good end (an alert, GOAWAY). So that this time
//! is bounded too, only so many may be leaving: if there are more, the first of them is told to end now.
//!
//! Members belong to groups, each with a reserve that the others cannot take. All operations take constant time (groups
//! are two or three). The lock is never waited for where a set belongs to one thread, as those of workers do.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus::IntCounter;
use tokio::sync::Notify;

/// A kind of members of one set.
pub struct Group {
    /// Places that no other group can take.
    pub reserve: usize,
    /// Members that were told to end, so that a newcomer gets their place.
    pub evicted: IntCounter,
    /// Newcomers for whom there was no place.
    pub refused: IntCounter,
}

/// The set. Clones share it.
#[derive(Clone)]
pub struct Places(Arc<Shared>);

struct Shared {
    /// For people: places for these.
    of: &'static str,
    limit: usize,
    most_leaving: usize,
    groups: Vec<Group>,
    state: Mutex<State>,
    /// Told when a place may have become free.
    freed: Notify,
}

/// No member.
const NONE: usize = usize::MAX;

struct State {
    members: Vec<Member>,
    /// The first unused entry of `members`; its `next` is another one.
    unused: usize,
    /// Those who wait, by group, and behind the groups those who leave; the longest wait first.
    lists: Vec<List>,
    /// Places taken, by group.
    taken: Vec<usize>,
    /// Grows with each wait that begins.
    turn: u64,
}

#[derive(Clone, Copy)]
struct List {
    first: usize,
    last: usize,
    length: usize,
}

struct Member {
    group: usize,
    status: Status,
    turn: u64,
    previous: usize,
    next: usize,
    notice: Notice,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    /// Has a place and is not to be interrupted.
    Working,
    /// Has a place and waits for its peer.
    Waiting,
    /// Was told to end; has no place any more.
    Leaving,
    /// Was told to end now.
    Gone,
}

impl Places {
    /// An empty set of so many places. `of` says in one word what for; groups are known by their number from then on.
    pub fn new(of: &'static str, limit: usize, mut groups: Vec<Group>) -> Self {
        // All reserves together leave at least one place to everybody, where there is more than one.
        let most = limit / (groups.len() + 1);
        groups.iter_mut().for_each(|group| group.reserve = group.reserve.min(most));
        let lists = vec![List { first: NONE, last: NONE, length: 0 }; groups.len() + 1];
        let state = State { members: Vec::new(), unused: NONE, lists, taken: vec![0; groups.len()], turn: 0 };
        let most_leaving = (limit / 8).max(1);
        Self(Arc::new(Shared { of, limit, most_leaving, groups, state: Mutex::new(state), freed: Notify::new() }))
    }

    /// The most members that there can be at a time: with a place, and leaving.
    pub fn most_members(limit: usize) -> usize {
        limit + (limit / 8).max(1)
    }

    /// Takes a place, and waits from then on. `Err` is a member without a place, which is leaving: nobody could be told to
    /// end for it. `notice` is how it is told; one connection may have places in several sets under one notice.
    pub fn enter(&self, group: usize, notice: &Notice) -> Result<Place, Place> {
        let mut state = self.state();
        match self.add(&mut state, group, notice) {
            Some(place) => Ok(place),
            None => {
                self.0.groups[group].refused.inc();
                let index = state.add(group, Status::Working, notice.clone());
                self.leave(&mut state, index);
                Err(Place { places: self.clone(), index, notice: notice.clone() })
            }
        }
    }

    /// The same for a newcomer who can wait until somebody else is done.
    pub async fn enter_when_free(&self, group: usize, notice: &Notice) -> Place {
        loop {
            let freed = self.0.freed.notified();
            if let Some(place) = self.add(&mut self.state(), group, notice) {
                return place;
            }
            freed.await;
        }
    }

    /// Tells the member that has waited longest to end, whichever group it belongs to. False if nobody waits.
    pub fn evict_longest(&self) -> bool {
        let mut state = self.state();
        let found = state.longest(|_| true);
        found.inspect(|index| self.evict(&mut state, *index)).is_some()
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        self.state().taken.iter().sum()
    }

    /// Waits until nobody has a place.
    pub async fn emptied(&self) {
        loop {
            let freed = self.0.freed.notified();
            if self.taken() == 0 {
                return;
            }
            freed.await;
        }
    }

    fn add(&self, state: &mut State, group: usize, notice: &Notice) -> Option<Place> {
        if !self.make_room(state, group) {
            return None;
        }
        state.taken[group] += 1;
        let index = state.add(group, Status::Waiting, notice.clone());
        state.append(group, index);
        Some(Place { places: self.clone(), index, notice: notice.clone() })
    }

    /// Makes sure that there is a place for this group.
    fn make_room(&self, state: &mut State, group: usize) -> bool {
        let reserved: usize = self.0.groups.iter().map(|group| group.reserve).sum();
        let most = self.0.limit - (reserved - self.0.groups[group].reserve);
        let full = state.taken.iter().sum::<usize>() >= self.0.limit;
        let found = if state.taken[group] >= most {
            state.longest(|other| other == group)
        } else if full {
            state.longest(|other| other == group || state.taken[other] > self.0.groups[other].reserve)
        } else {
            return true;
        };
        found.inspect(|index| self.evict(state, *index)).is_some()
    }

    fn evict(&self, state: &mut State, index: usize) {
        let group = state.members[index].group;
        state.remove(group, index);
        state.taken[group] -= 1;
        self.0.groups[group].evicted.inc();
        self.leave(state, index);
    }

    /// Tells a member that has no place, and is in no list, to end.
    fn leave(&self, state: &mut State, index: usize) {
        let leaving = self.0.groups.len();
        state.members[index].status = Status::Leaving;
        state.append(leaving, index);
        state.members[index].notice.raise(END, self.0.of);
        if state.lists[leaving].length > self.0.most_leaving {
            let first = state.lists[leaving].first;
            state.remove(leaving, first);
            state.members[first].status = Status::Gone;
            state.members[first].notice.raise(NOW, self.0.of);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, group: usize, status: Status, notice: Notice) -> usize {
        let member = Member { group, status, turn: 0, previous: NONE, next: NONE, notice };
        match self.unused {
            NONE => {
                self.members.push(member);
                self.members.len() - 1
            }
            index => {
                self.unused = self.members[index].next;
                self.members[index] = member;
                index
            }
        }
    }

    /// The member with the longest wait among some groups.
    fn longest(&self, among: impl Fn(usize) -> bool) -> Option<usize> {
        let firsts = (0..self.taken.len()).filter(|group| among(*group)).map(|group| self.lists[group].first);
        firsts.filter(|first| *first != NONE).min_by_key(|first| self.members[*first].turn)
    }

    /// Puts a member at the end of a list.
    fn append(&mut self, list: usize, index: usize) {
        self.turn += 1;
        let last = self.lists[list].last;
        let member = &mut self.members[index];
        (member.turn, member.previous, member.next) = (self.turn, last, NONE);
        match last {
            NONE => self.lists[list].first = index,
            last => self.members[last].next = index,
        }
        self.lists[list].last = index;
        self.lists[list].length += 1;
    }

    /// Takes a member out of its list.
    fn remove(&mut self, list: usize, index: usize) {
        let Member { previous, next, .. } = self.members[index];
        match previous {
            NONE => self.lists[list].first = next,
            previous => self.members[previous].next = next,
        }
        match next {
            NONE => self.lists[list].last = previous,
            next => self.members[next].previous = previous,
        }
        self.lists[list].length -= 1;
    }
}

/// A place in a set; given back when dropped.
pub struct Place {
    places: Places,
    index: usize,
    notice: Notice,
}

impl Place {
    /// Waits for its peer from now on, and may be told to end.
    pub fn wait(&self) {
        let mut state = self.places.state();
        let Member { group, status, .. } = state.members[self.index];
        match status {
            Status::Working => {}
            Status::Waiting => state.remove(group, self.index),
            Status::Leaving | Status::Gone => return,
        }
        state.members[self.index].status = Status::Waiting;
        state.append(group, self.index);
        drop(state);
        self.places.0.freed.notify_waiters();
    }

    /// Works from now on, and is not told to end. If it has been told before, that stands.
    pub fn work(&self) {
        let mut state = self.places.state();
        let Member { group, status, .. } = state.members[self.index];
        if status == Status::Waiting {
            state.remove(group, self.index);
            state.members[self.index].status = Status::Working;
        }
    }

    /// Changes its group, and waits from now on. Without room there it is told to end.
    pub fn join(&self, group: usize) {
        let mut state = self.places.state();
        let Member { group: before, status, .. } = state.members[self.index];
        match status {
            Status::Working => {}
            Status::Waiting => state.remove(before, self.index),
            Status::Leaving | Status::Gone => return,
        }
        state.taken[before] -= 1;
        state.members[self.index].group = group;
        if self.places.make_room(&mut state, group) {
            state.taken[group] += 1;
            state.members[self.index].status = Status::Waiting;
            state.append(group, self.index);
        } else {
            self.places.0.groups[group].refused.inc();
            self.places.leave(&mut state, self.index);
        }
        drop(state);
        self.places.0.freed.notify_waiters();
    }

    /// How it is told to end.
    pub fn notice(&self) -> &Notice {
        &self.notice
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        let Member { group, status, .. } = state.members[self.index];
        match status {
            Status::Working => state.taken[group] -= 1,
            Status::Waiting => {
                state.remove(group, self.index);
                state.taken[group] -= 1;
            }
            Status::Leaving => {
                let leaving = self.places.0.groups.len();
                state.remove(leaving, self.index);
            }
            Status::Gone => {}
        }
        let unused = state.unused;
        state.members[self.index].next = unused;
        // Whatever the notice keeps alive is not kept for the next member.
        state.members[self.index].notice = Notice::default();
        state.unused = self.index;
        drop(state);
        self.places.0.freed.notify_waiters();
    }
}

/// How a connection is told to end. Clones are the same notice.
#[derive(Clone, Default)]
pub struct Notice(Arc<Told>);

#[derive(Default)]
struct Told {
    level: AtomicU8,
    notify: Notify,
    /// Places for these were all taken.
    of: OnceLock<&'static str>,
}

/// It is to end in good order.
const END: u8 = 1;

/// It is to end now.
const NOW: u8 = 2;

impl Notice {
    /// Whether it is to end.
    pub fn is_told(&self) -> bool {
        self.0.level.load(Ordering::Acquire) >= END
    }

    /// Ends when the connection is to end in good order: with an alert, with GOAWAY.
    pub async fn told(&self) {
        self.reached(END).await;
    }

    /// Ends when the connection is to end now, because too many others are ending.
    pub async fn hurried(&self) {
        self.reached(NOW).await;
    }

    /// Why, for people.
    pub fn why(&self) -> String {
        let of = self.0.of.get().unwrap_or(&"connections");
        format!("all places for {of} were taken, and this one had waited longest for its client")
    }

    async fn reached(&self, level: u8) {
        loop {
            // Listens before it looks, so that nothing falls in between.
            let notified = self.0.notify.notified();
            if self.0.level.load(Ordering::Acquire) >= level {
                return;
            }
            notified.await;
        }
    }

    fn raise(&self, level: u8, of: &'static str) {
        let _ = self.0.of.set(of);
        self.0.level.fetch_max(level, Ordering::AcqRel);
        self.0.notify.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn group(reserve: usize) -> Group {
        let counter = || IntCounter::new("x", "x").unwrap();
        Group { reserve, evicted: counter(), refused: counter() }
    }

    fn places(limit: usize, reserves: &[usize]) -> Places {
        Places::new("tests", limit, reserves.iter().map(|reserve| group(*reserve)).collect())
    }

    fn enter(places: &Places, group: usize) -> Place {
        places.enter(group, &Notice::default()).unwrap_or_else(|_| panic!("no place"))
    }

    fn told(members: &[Place]) -> Vec<bool> {
        members.iter().map(|member| member.notice().is_told()).collect()
    }

    #[test]
    fn the_longest_wait_ends_for_a_newcomer_and_work_never_does() {
        let set = places(3, &[0]);
        let mut members: Vec<Place> = (0..3).map(|_| enter(&set, 0)).collect();
        members[0].work();
        // It has been heard of again.
        members[1].wait();
        members.push(enter(&set, 0));
        assert_eq!(told(&members), [false, false, true, false]);
        members.push(enter(&set, 0));
        assert_eq!(told(&members), [false, true, true, false, false]);
        members[3].work();
        members[4].work();
        let Err(refused) = set.enter(0, &Notice::default()) else { panic!("all work") };
        assert!(refused.notice().is_told());
        assert_eq!((set.0.groups[0].evicted.get(), set.0.groups[0].refused.get(), set.taken()), (2, 1, 3));
        members[0].wait();
        drop(enter(&set, 0));
        assert!(members[0].notice().is_told());
        drop((members, refused));
        assert_eq!(set.taken(), 0);
    }

    #[test]
    fn who_was_told_stays_told_and_takes_no_place() {
        let set = places(1, &[0]);
        let (first, second) = (enter(&set, 0), enter(&set, 0));
        first.work();
        first.wait();
        first.join(0);
        assert!(first.notice().is_told() && !second.notice().is_told());
        assert_eq!(set.taken(), 1);
        drop(first);
        assert_eq!(set.taken(), 1);
    }

    #[test]
    fn a_group_that_takes_all_it_can_leaves_the_others_their_reserve() {
        let set = places(10, &[3, 3]);
        let mut busy: Vec<Place> = (0..7).map(|_| enter(&set, 0)).collect();
        busy.iter().for_each(Place::work);
        assert!(set.enter(0, &Notice::default()).is_err(), "the reserve of the other group");
        let others: Vec<Place> = (0..3).map(|_| enter(&set, 1)).collect();
        others.iter().for_each(Place::work);
        assert!(set.enter(1, &Notice::default()).is_err());
        // Of a group that has more than its reserve, those who wait go for the other one; not the other way round.
        busy[0].wait();
        busy.push(enter(&set, 1));
        assert!(busy[0].notice().is_told());
        let own = enter(&set, 1);
        assert_eq!((busy[7].notice().is_told(), own.notice().is_told()), (true, false));
    }

    #[test]
    fn only_so_many_may_be_leaving() {
        let set = places(8, &[0]);
        let members: Vec<Place> = (0..11).map(|_| enter(&set, 0)).collect();
        let now = |index: usize| members[index].notice().hurried().now_or_never().is_some();
        assert_eq!([now(0), now(1), now(2), now(3)], [true, true, false, false]);
        assert!(members[2].notice().is_told() && !members[3].notice().is_told());
        drop(members);
        assert_eq!(set.state().lists[1].length, 0);
    }

    #[test]
    fn one_can_be_told_to_end_without_a_newcomer() {
        let set = places(4, &[1, 1]);
        let (first, second) = (enter(&set, 1), enter(&set, 0));
        first.wait();
        assert!(set.evict_longest());
        assert_eq!((first.notice().is_told(), second.notice().is_told()), (false, true));
        first.work();
        assert!(!set.evict_longest());
    }

    #[tokio::test]
    async fn a_newcomer_who_can_wait_gets_the_place_of_the_next_who_is_done() {
        let set = places(1, &[0]);
        let member = enter(&set, 0);
        member.work();
        let notice = Notice::default();
        let mut newcomer = std::pin::pin!(set.enter_when_free(0, &notice));
        assert!(newcomer.as_mut().now_or_never().is_none());
        member.wait();
        let place = newcomer.await;
        assert!(member.notice().is_told() && !place.notice().is_told());
        assert!(set.emptied().now_or_never().is_none());
        drop(place);
        set.emptied().await;
    }

    #[test]
    fn a_group_can_be_changed_where_there_is_room() {
        let set = places(4, &[1, 1]);
        let members: Vec<Place> = (0..3).map(|_| enter(&set, 0)).collect();
        members[0].join(1);
        assert_eq!(set.state().taken, [2, 1]);
        members[1].join(1);
        members[2].join(1);
        assert_eq!((set.state().taken.clone(), told(&members)), (vec![0, 3], vec![false; 3]));
        let last = enter(&set, 0);
        last.join(1);
        assert_eq!(told(&members), [true, false, false], "the other group keeps its reserve");
        members[1].work();
        members[2].work();
        last.work();
        let refused = enter(&set, 0);
        refused.join(1);
        assert!(refused.notice().is_told());
        assert_eq!(set.taken(), 3);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(usize),
        Wait(usize),
        Work(usize),
        Join(usize, usize),
        Drop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..2usize).prop_map(Step::Enter),
            2 => any::<usize>().prop_map(Step::Wait),
            2 => any::<usize>().prop_map(Step::Work),
            1 => (any::<usize>(), 0..2usize).prop_map(|(member, group)| Step::Join(member, group)),
            1 => any::<usize>().prop_map(Step::Drop),
        ]
    }

    /// What the set should be, found by looking at everybody.
    struct Plain {
        group: usize,
        /// Since when it waits, if it does.
        waits: Option<u64>,
        has_place: bool,
    }

    proptest! {
        #[test]
        fn it_does_what_a_search_through_all_members_would(
            limit in 1..7usize, reserves in prop::array::uniform2(0..3usize), steps in prop::collection::vec(step(), 1..80)
        ) {
            let set = places(limit, &reserves);
            let reserves = reserves.map(|reserve| reserve.min(limit / 3));
            let mut members: Vec<(Place, Plain)> = Vec::new();
            let room = |members: &mut Vec<(Place, Plain)>, group: usize| {
                let taken = |group| members.iter().filter(|(_, plain)| plain.has_place && plain.group == group).count();
                let taken = [taken(0), taken(1)];
                let own_only = taken[group] >= limit - reserves[1 - group];
                if !own_only && taken[0] + taken[1] < limit {
                    return true;
                }
                let victims = members.iter_mut().filter(|(_, plain)| {
                    let may = plain.group == group || !own_only && taken[plain.group] > reserves[plain.group];
                    plain.has_place && plain.waits.is_some() && may
                });
                let victim = victims.min_by_key(|(_, plain)| plain.waits);
                victim.map(|(_, plain)| plain.has_place = false).is_some()
            };
            for (now, step) in (0u64..).zip(steps) {
                let chosen = |member: usize, members: &[(Place, Plain)]| member.checked_rem(members.len());
                match step {
                    Step::Enter(group) => {
                        let has_place = room(&mut members, group);
                        let entered = set.enter(group, &Notice::default());
                        prop_assert_eq!(entered.is_ok(), has_place);
                        let (Ok(place) | Err(place)) = entered;
                        members.push((place, Plain { group, waits: Some(now), has_place }));
                    }
                    Step::Wait(member) => if let Some(member) = chosen(member, &members) {
                        members[member].0.wait();
                        members[member].1.waits = Some(now);
                    },
                    Step::Work(member) => if let Some(member) = chosen(member, &members) {
                        members[member].0.work();
                        members[member].1.waits = None;
                    },
                    Step::Join(member, group) => if let Some(member) = chosen(member, &members) {
                        members[member].0.join(group);
                        if members[member].1.has_place {
                            members[member].1.has_place = false;
                            let has_place = room(&mut members, group);
                            members[member].1 = Plain { group, waits: Some(now), has_place };
                        }
                    },
                    Step::Drop(member) => if let Some(member) = chosen(member, &members) {
                        members.swap_remove(member);
                    },
                }
                for (place, plain) in &members {
                    prop_assert_eq!(place.notice().is_told(), !plain.has_place);
                }
                prop_assert_eq!(set.taken(), members.iter().filter(|(_, plain)| plain.has_place).count());
            }
        }
    }
}
