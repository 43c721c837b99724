//! A map whose copies share what they have in common.
//!
//! `hash of the key ──four bits a level──▶ Branch ──▶ … ──▶ Leaf of a few entries`
//!
//! One writer changes its copy while readers hold others. A change copies the few nodes on the way to its entry, if
//! somebody else holds them, and none of the rest; and what differs between two copies is found without a look at what
//! they share. So a change costs the same in a map of a hundred entries and in one of a hundred thousand: to make it, to
//! publish it, and to see what it was.
//!
//! Hashing is keyed once for the process, as that of the standard library's map is, so that nobody can choose keys that
//! collide; in one process it is the same in all maps, so that they can share.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::ops::Index;
use std::sync::{Arc, LazyLock};

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Bits of the hash that a level takes, and the children of a branch.
const BITS: u32 = 4;
const WIDTH: usize = 1 << BITS;
/// Entries of a leaf; with one more it becomes a branch, as long as there are bits left.
const LEAF: usize = 8;
const LEVELS: u32 = u64::BITS / BITS;

/// A map. A clone costs nothing.
pub struct Trie<K, V> {
    root: Option<Arc<Node<K, V>>>,
    len: usize,
}

#[derive(Clone)]
enum Node<K, V> {
    Branch([Option<Arc<Node<K, V>>>; WIDTH]),
    /// Never empty. Each with the hash of its key.
    Leaf(Vec<(u64, K, V)>),
}

/// An entry that one map has and another has not, or has with another value.
pub struct Difference<'a, K, V> {
    /// Its key.
    pub key: &'a K,
    /// What it was.
    pub before: Option<&'a V>,
    /// What it is.
    pub now: Option<&'a V>,
}

impl<K, V> Trie<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the other is a copy of this one, neither of them changed since.
    pub fn is_copy(&self, other: &Self) -> bool {
        self.root.as_ref().map(Arc::as_ptr) == other.root.as_ref().map(Arc::as_ptr)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter { nodes: self.root.as_deref().into_iter().collect(), leaf: [].iter() }
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Hash + Eq, V> Trie<K, V> {
    /// The value of a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        find(self.root.as_ref(), hash(key), key, 0)
    }

    /// Whether there is an entry of this key.
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// What has become of an earlier copy: entries that came, went, or have a value that is not the same. What the two
    /// share is not looked at.
    pub fn since<'a>(&'a self, before: &'a Self, is_same: impl Fn(&V, &V) -> bool) -> Vec<Difference<'a, K, V>> {
        let mut found = Vec::new();
        compare(before.root.as_ref(), self.root.as_ref(), 0, &is_same, &mut found);
        found
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Trie<K, V> {
    /// Puts an entry in. Returns what was in its place.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = hash(&key);
        let before = put(&mut self.root, (hash, key, value), 0);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes an entry out.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Nothing is copied on the way to nothing.
        self.get(key)?;
        let before = take(&mut self.root, hash(key), key, 0);
        self.len -= usize::from(before.is_some());
        before
    }

    /// Puts a value in its place, or takes it away.
    pub fn set(&mut self, key: &K, value: Option<V>) -> Option<V> {
        match value {
            Some(value) => self.insert(key.clone(), value),
            None => self.remove(key),
        }
    }
}

fn hash<Q: Hash + ?Sized>(key: &Q) -> u64 {
    HASHER.hash_one(key)
}

fn slot(hash: u64, level: u32) -> usize {
    (hash >> (level * BITS)) as usize % WIDTH
}

fn find<'a, K: Borrow<Q>, V, Q: Eq + ?Sized>(
    mut node: Option<&'a Arc<Node<K, V>>>,
    hash: u64,
    key: &Q,
    mut level: u32,
) -> Option<&'a V> {
    loop {
        match &**node? {
            Node::Branch(children) => node = children[slot(hash, level)].as_ref(),
            Node::Leaf(entries) => {
                let is_it = |(other, known, _): &&(u64, K, V)| *other == hash && known.borrow() == key;
                return entries.iter().find(is_it).map(|(.., value)| value);
            }
        }
        level += 1;
    }
}

fn put<K: Eq + Clone, V: Clone>(node: &mut Option<Arc<Node<K, V>>>, entry: (u64, K, V), level: u32) -> Option<V> {
    let Some(there) = node else {
        *node = Some(Arc::new(Node::Leaf(vec![entry])));
        return None;
    };
    let there = Arc::make_mut(there);
    match there {
        Node::Branch(children) => put(&mut children[slot(entry.0, level)], entry, level + 1),
        Node::Leaf(entries) => {
            if let Some((.., value)) = entries.iter_mut().find(|(hash, key, _)| *hash == entry.0 && *key == entry.1) {
                return Some(std::mem::replace(value, entry.2));
            }
            entries.push(entry);
            if entries.len() > LEAF && level < LEVELS {
                let entries = std::mem::take(entries);
                let mut children = [const { None }; WIDTH];
                for entry in entries {
                    put(&mut children[slot(entry.0, level)], entry, level + 1);
                }
                *there = Node::Branch(children);
            }
            None
        }
    }
}

/// The key is there.
fn take<K: Borrow<Q> + Clone, V: Clone, Q: Eq + ?Sized>(
    node: &mut Option<Arc<Node<K, V>>>,
    hash: u64,
    key: &Q,
    level: u32,
) -> Option<V> {
    let there = Arc::make_mut(node.as_mut()?);
    let (taken, is_empty) = match there {
        Node::Branch(children) => {
            let taken = take(&mut children[slot(hash, level)], hash, key, level + 1);
            (taken, children.iter().all(Option::is_none))
        }
        Node::Leaf(entries) => {
            let at = entries.iter().position(|(other, known, _)| *other == hash && known.borrow() == key)?;
            (Some(entries.swap_remove(at).2), entries.is_empty())
        }
    };
    if is_empty {
        *node = None;
    }
    taken
}

fn compare<'a, K: Eq, V>(
    before: Option<&'a Arc<Node<K, V>>>,
    now: Option<&'a Arc<Node<K, V>>>,
    level: u32,
    is_same: &impl Fn(&V, &V) -> bool,
    found: &mut Vec<Difference<'a, K, V>>,
) {
    match (before, now) {
        (None, None) => {}
        (Some(before), Some(now)) if Arc::ptr_eq(before, now) => {}
        (Some(before), Some(now)) => match (&**before, &**now) {
            (Node::Branch(before), Node::Branch(now)) => {
                for (before, now) in before.iter().zip(now) {
                    compare(before.as_ref(), now.as_ref(), level + 1, is_same, found);
                }
            }
            // A leaf that has become a branch, or the other way round: one of them is small.
            (Node::Leaf(_), Node::Branch(_) | Node::Leaf(_)) | (Node::Branch(_), Node::Leaf(_)) => {
                for (hash, key, before) in entries(before) {
                    let now = find(Some(now), *hash, key, level);
                    if !now.is_some_and(|now| is_same(before, now)) {
                        found.push(Difference { key, before: Some(before), now });
                    }
                }
                let came = entries(now).filter(|(hash, key, _)| find(Some(before), *hash, key, level).is_none());
                found.extend(came.map(|(_, key, now)| Difference { key, before: None, now: Some(now) }));
            }
        },
        (Some(before), None) => {
            found.extend(entries(before).map(|(_, key, value)| Difference { key, before: Some(value), now: None }));
        }
        (None, Some(now)) => {
            found.extend(entries(now).map(|(_, key, value)| Difference { key, before: None, now: Some(value) }));
        }
    }
}

fn entries<K, V>(node: &Node<K, V>) -> impl Iterator<Item = &(u64, K, V)> {
    let mut iter = Iter { nodes: vec![node], leaf: [].iter() };
    std::iter::from_fn(move || iter.entry())
}

/// All entries of a map.
pub struct Iter<'a, K, V> {
    nodes: Vec<&'a Node<K, V>>,
    leaf: std::slice::Iter<'a, (u64, K, V)>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn entry(&mut self) -> Option<&'a (u64, K, V)> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            match self.nodes.pop()? {
                Node::Branch(children) => self.nodes.extend(children.iter().flatten().map(Arc::as_ref)),
                Node::Leaf(entries) => self.leaf = entries.iter(),
            }
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.entry().map(|(_, key, value)| (key, value))
    }
}

impl<'a, K, V> IntoIterator for &'a Trie<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Extend<(K, V)> for Trie<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> FromIterator<(K, V)> for Trie<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        map.extend(entries);
        map
    }
}

impl<K: Hash + Eq + Clone, V: Clone, const N: usize> From<[(K, V); N]> for Trie<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K, V> Clone for Trie<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<K, V> Default for Trie<K, V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<K: Hash + Eq, V: PartialEq> PartialEq for Trie<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.since(other, V::eq).is_empty()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Trie<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Hash + Eq + Borrow<Q>, V, Q: Hash + Eq + ?Sized> Index<&Q> for Trie<K, V> {
    type Output = V;

    /// As of the standard library's maps, for a key that is known to be there.
    fn index(&self, key: &Q) -> &V {
        #[expect(clippy::expect_used, reason = "indexing says that the key is there")]
        self.get(key).expect("no entry of this key")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A key whose hash has few bits, so that leaves at the bottom have many entries.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Coarse(u16);

    impl Hash for Coarse {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            (self.0 % 3).hash(state);
        }
    }

    fn numbers(count: u32) -> Trie<u32, u32> {
        (0..count).map(|number| (number, number)).collect()
    }

    /// How many values are compared, and how many entries differ.
    fn looks(before: &Trie<u32, u32>, now: &Trie<u32, u32>) -> (usize, usize) {
        let compared = Cell::new(0);
        let found = now.since(before, |one, other| {
            compared.set(compared.get() + 1);
            one == other
        });
        (compared.get(), found.len())
    }

    #[test]
    fn what_a_change_was_is_found_without_a_look_at_the_rest_however_large_the_map_is() {
        for count in [100, 100_000] {
            let before = numbers(count);
            let mut now = before.clone();
            now.insert(7, 70);
            now.insert(count, 1);
            now.remove(&9);
            let (compared, found) = looks(&before, &now);
            assert_eq!(found, 3);
            assert!(compared <= 3 * LEAF, "{compared} values of {count}");
            assert_eq!((before[&7], before.get(&count), before[&9]), (7, None, 9));
        }
    }

    #[test]
    fn copies_share_all_nodes_but_those_on_the_way_to_a_change() {
        fn nodes(node: Option<&Arc<Node<u32, u32>>>, found: &mut Vec<*const Node<u32, u32>>) {
            let Some(node) = node else { return };
            found.push(Arc::as_ptr(node));
            if let Node::Branch(children) = &**node {
                children.iter().for_each(|child| nodes(child.as_ref(), found));
            }
        }
        let before = numbers(100_000);
        let mut now = before.clone();
        now.insert(7, 70);
        let (mut old, mut new) = (Vec::new(), Vec::new());
        nodes(before.root.as_ref(), &mut old);
        nodes(now.root.as_ref(), &mut new);
        let old: std::collections::HashSet<_> = old.into_iter().collect();
        let copied = new.iter().filter(|node| !old.contains(*node)).count();
        assert!(old.len() > 10_000 && (1..=8).contains(&copied), "{copied} of {}", old.len());
    }

    #[test]
    fn a_map_in_which_nothing_was_found_is_still_the_same_copy() {
        let before = numbers(100);
        let mut now = before.clone();
        assert_eq!(now.remove(&100), None);
        assert!(now.is_copy(&before));
        assert_eq!(now.remove(&99), Some(99));
        assert!(!now.is_copy(&before));
        assert_ne!(now, before);
        now.insert(99, 99);
        assert_eq!(now, before);
    }

    #[test]
    fn a_map_that_was_emptied_holds_nothing() {
        let mut map = numbers(1_000);
        for number in 0..1_000 {
            assert_eq!(map.remove(&number), Some(number));
        }
        assert!(map.root.is_none() && map.is_empty());
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_what_differs_between_two_copies_is_what_was_changed(
            first in vec((any::<u16>().prop_map(|key| Coarse(key % 64)), any::<Option<u8>>()), 0..100),
            then in vec((any::<u16>().prop_map(|key| Coarse(key % 64)), any::<Option<u8>>()), 0..100),
        ) {
            let mut map = Trie::default();
            let mut model: HashMap<u16, u8> = HashMap::new();
            let mut earlier = None;
            for (at, (key, value)) in first.iter().chain(&then).enumerate() {
                if at == first.len() {
                    earlier = Some((map.clone(), model.clone()));
                }
                let before = match value {
                    Some(value) => model.insert(key.0, *value),
                    None => model.remove(&key.0),
                };
                prop_assert_eq!(map.set(key, *value), before);
                prop_assert_eq!(map.len(), model.len());
            }
            let found: HashMap<u16, u8> = map.iter().map(|(key, value)| (key.0, *value)).collect();
            prop_assert_eq!(&found, &model);
            prop_assert!(model.iter().all(|(key, value)| map.get(&Coarse(*key)) == Some(value)));
            if let Some((map_before, model_before)) = earlier {
                let differences = map.since(&map_before, u8::eq);
                for Difference { key, before, now } in &differences {
                    prop_assert_eq!((*before, *now), (model_before.get(&key.0), model.get(&key.0)));
                    prop_assert_ne!(before, now);
                }
                let all = (0..64).filter(|key| model_before.get(key) != model.get(key)).count();
                prop_assert_eq!(differences.len(), all);
                prop_assert_eq!(map == map_before, all == 0);
            }
        }
    }
}
