//! What is known of the cluster's objects: what was watched, and what our own writes were answered
//! with, whichever is newer.
//!
//! The answer to a write is the object as it is now, and goes in at once: the next decision sees it,
//! and repeats nothing. What the watch brings later and is older is left out. A watch that begins
//! anew with a list does not tell what went before it: only what was made can be new here by an
//! answer. What was changed was known; if it is no more, it is gone.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

use kube_runtime::reflector::store::Writer;
use kube_runtime::reflector::{Lookup, ObjectRef, Store};
use kube_runtime::watcher::Event;

/// The known objects of one kind.
#[derive(Debug)]
pub(super) struct Cache<K>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    writer: Writer<K>,
    store: Store<K>,
    /// All of them are known.
    listed: bool,
    /// A new list is being read.
    listing: bool,
    /// What was written while the list was read, which it may lack or have older.
    written: Vec<(K, Wrote)>,
    /// What was deleted, lest an answer that took longer bring it back.
    deleted: HashMap<ObjectRef<K>, u64>,
}

/// What a write of ours did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// It made the object, or found it made.
    New,
    /// It changed the object.
    Known,
}

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change<K> {
    /// Nothing.
    None,
    /// This object.
    One {
        /// What it was, where it was known.
        old: Option<Arc<K>>,
        /// What it is, where it still is.
        new: Option<Arc<K>>,
    },
    /// Perhaps all.
    All,
}

impl<K> Default for Cache<K>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    fn default() -> Self {
        let writer = Writer::default();
        Self {
            store: writer.as_reader(),
            writer,
            listed: false,
            listing: false,
            written: Vec::new(),
            deleted: HashMap::new(),
        }
    }
}

impl<K> Cache<K>
where
    K: Lookup<DynamicType = ()> + Clone + Debug + 'static,
    ObjectRef<K>: Eq + Hash + Clone,
{
    /// All objects are known.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// The objects, to read.
    pub(super) fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// The object of this name.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// The object of this name, of a kind that has no namespaces.
    pub(super) fn get_global(&self, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name))
    }

    /// All objects.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// Whether there is an object that `is` takes.
    pub(super) fn any(&self, is: impl Fn(&K) -> bool) -> bool {
        self.store.find(is).is_some()
    }

    /// Takes over what was watched.
    pub(super) fn watched(&mut self, event: Event<K>) -> Change<K> {
        match &event {
            Event::Apply(object) => {
                let key = object.to_object_ref(());
                let old = self.store.get(&key);
                if old
                    .as_deref()
                    .is_some_and(|old| version(old) >= version(object))
                {
                    return Change::None;
                }
                self.writer.apply_watcher_event(&event);
                let new = self.store.get(&key);
                Change::One { old, new }
            }
            Event::Delete(object) => {
                let key = object.to_object_ref(());
                let old = self.store.get(&key);
                if old
                    .as_deref()
                    .is_some_and(|old| version(old) > version(object))
                {
                    return Change::None;
                }
                self.deleted.insert(key, version(object));
                self.writer.apply_watcher_event(&event);
                Change::One { old, new: None }
            }
            Event::Init => {
                self.listing = true;
                self.writer.apply_watcher_event(&event);
                Change::None
            }
            Event::InitApply(_) => {
                self.writer.apply_watcher_event(&event);
                Change::None
            }
            Event::InitDone => {
                self.listed = true;
                self.listing = false;
                self.writer.apply_watcher_event(&event);
                for (object, wrote) in mem::take(&mut self.written) {
                    self.written(object, wrote);
                }
                Change::All
            }
        }
    }

    /// Takes over what a write of ours was answered with.
    pub(super) fn written(&mut self, object: K, wrote: Wrote) -> Change<K> {
        let key = object.to_object_ref(());
        let gone = match wrote {
            Wrote::New => {
                let deleted = self.deleted.get(&key);
                deleted.is_some_and(|deleted| *deleted >= version(&object))
            }
            Wrote::Known => self.store.get(&key).is_none(),
        };
        if gone {
            return Change::None;
        }
        if self.listing {
            self.written.push((object.clone(), wrote));
        }
        self.watched(Event::Apply(object))
    }

    /// Forgets what was deleted, when no answer is on its way any more.
    pub(super) fn settle(&mut self) {
        self.deleted.clear();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.writer.apply_watcher_event(&Event::Init);
        self.writer.apply_watcher_event(&Event::InitDone);
        self.listed = false;
        self.listing = false;
        self.written.clear();
        self.deleted.clear();
    }
}

/// A resource version. They are ordered within a kind (Kubernetes 1.35, "Resource versions are
/// comparable"; etcd's revisions have always been).
fn version<K: Lookup<DynamicType = ()>>(object: &K) -> u64 {
    let version = object.resource_version();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn object(name: &str, version: u64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("default".to_owned()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn known(cache: &Cache<ConfigMap>) -> Vec<(String, u64)> {
        let all = cache.all();
        let mut all: Vec<_> = all
            .iter()
            .map(|object| (object.metadata.name.clone().unwrap(), version(&**object)))
            .collect();
        all.sort();
        all
    }

    fn listed(objects: &[(&str, u64)]) -> Cache<ConfigMap> {
        let mut cache = Cache::default();
        cache.watched(Event::Init);
        for (name, version) in objects {
            cache.watched(Event::InitApply(object(name, *version)));
        }
        assert!(!cache.is_listed());
        assert_eq!(cache.watched(Event::InitDone), Change::All);
        assert!(cache.is_listed());
        cache
    }

    #[test]
    fn the_newest_wins_wherever_it_comes_from() {
        let mut cache = listed(&[("a", 1)]);
        let changed = cache.written(object("a", 5), Wrote::Known);
        assert!(matches!(changed, Change::One { .. }));
        for version in [2, 5] {
            let change = cache.watched(Event::Apply(object("a", version)));
            assert_eq!(change, Change::None);
        }
        assert_eq!(known(&cache), [("a".to_owned(), 5)]);
        let late = cache.written(object("a", 4), Wrote::Known);
        assert_eq!(late, Change::None);
        cache.watched(Event::Apply(object("a", 6)));
        assert_eq!(known(&cache), [("a".to_owned(), 6)]);
    }

    #[test]
    fn what_was_deleted_does_not_come_back_with_a_late_answer() {
        let mut cache = listed(&[("a", 1)]);
        cache.watched(Event::Delete(object("a", 7)));
        for wrote in [Wrote::New, Wrote::Known] {
            assert_eq!(cache.written(object("a", 6), wrote), Change::None);
        }
        assert_eq!(known(&cache), []);
        // Made again, it is another.
        cache.written(object("a", 8), Wrote::New);
        assert_eq!(known(&cache), [("a".to_owned(), 8)]);
        // The deletion of the one before it is heard late.
        assert_eq!(cache.watched(Event::Delete(object("a", 7))), Change::None);
        assert_eq!(known(&cache), [("a".to_owned(), 8)]);
    }

    #[test]
    fn a_list_does_not_lose_what_was_written_while_it_was_read() {
        let mut cache = listed(&[("a", 1), ("b", 2), ("gone", 3)]);
        cache.watched(Event::Init);
        cache.watched(Event::InitApply(object("a", 1)));
        cache.written(object("a", 11), Wrote::Known);
        cache.written(object("b", 12), Wrote::Known);
        cache.watched(Event::InitApply(object("b", 2)));
        cache.written(object("new", 13), Wrote::New);
        cache.written(object("new", 14), Wrote::Known);
        cache.watched(Event::InitDone);
        let expected = [("a", 11), ("b", 12), ("new", 14)];
        assert_eq!(
            known(&cache),
            expected.map(|(name, v)| (name.to_owned(), v))
        );
    }

    #[test]
    fn what_a_list_no_longer_has_does_not_come_back_with_an_answer() {
        // The last change of something is what lets it go. Its answer may come while a list is read
        // that lacks it, before or after it would have been read, and after the list.
        for answered in 0..=3 {
            let mut cache = listed(&[("a", 1), ("gone", 2)]);
            let events = [
                Event::Init,
                Event::InitApply(object("a", 1)),
                Event::InitDone,
            ];
            for (position, event) in events.into_iter().enumerate() {
                if position == answered {
                    cache.written(object("gone", 5), Wrote::Known);
                }
                cache.watched(event);
            }
            if answered == 3 {
                let change = cache.written(object("gone", 5), Wrote::Known);
                assert_eq!(change, Change::None);
            }
            assert_eq!(known(&cache), [("a".to_owned(), 1)], "{answered}");
        }
    }

    #[test]
    fn a_cache_that_is_cleared_knows_nothing() {
        let mut cache = listed(&[("a", 1)]);
        cache.clear();
        assert_eq!(known(&cache), []);
        assert!(!cache.is_listed());
    }
}
