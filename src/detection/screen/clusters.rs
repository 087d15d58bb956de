//! Which cluster a record is of: the one that the record names, else its resource, else its
//! envelope, else the configuration. Attributes of a resource may follow its records, so hits are
//! named at its end.

use std::sync::Arc;

use super::{
    super::{
        feed::{Ended, Feed},
        hit::Hit,
        naming::Name,
        text,
        time::Micros,
    },
    MAX_AHEAD, ScreenVisitor,
};

/// Clusters of one resource whose feeds are kept apart; others count to the feed of the resource.
const MOST_FEEDS: usize = 256;

impl ScreenVisitor {
    /// Whether this is another cluster than that of the resource, as far as it is known.
    pub(super) fn is_another(&self, name: &[u8]) -> bool {
        !name.is_empty() && name != self.cluster.as_bytes()
    }

    /// Looks at a record or an event of this cluster.
    #[cold]
    pub(super) fn of_cluster(
        &mut self,
        name: &[u8],
        is_of_envelope: bool,
        look: impl FnOnce(&mut Self),
    ) {
        let text = text::bounded(name, self.screen.bounds.value_bytes);
        let known = self.named.feeds.keys();
        let known = known
            .filter(|one| one.is_of_envelope == is_of_envelope)
            .find(|one| *one.cluster == *text);
        let name = known.cloned().unwrap_or_else(|| Name {
            cluster: Arc::from(&*text),
            is_of_envelope,
        });
        let mut feed = self.named.feeds.remove(&name);
        if feed.is_none() && self.named.feeds.len() < MOST_FEEDS {
            self.named.bytes += name.cluster.len();
            feed = Some(Feed::default());
        }
        if let Some(feed) = &mut feed {
            std::mem::swap(feed, &mut self.feed);
        }
        if let Some(following) = &mut self.following {
            following.enter(name.cluster.as_bytes());
        }
        let outer = self.named.current.replace(name);
        look(self);
        let name = std::mem::replace(&mut self.named.current, outer);
        if let Some(following) = &mut self.following {
            following.enter(self.cluster.as_bytes());
        }
        if let (Some(mut feed), Some(name)) = (feed, name) {
            std::mem::swap(&mut feed, &mut self.feed);
            self.named.feeds.insert(name, feed);
        }
    }

    /// Whether the record at hand has named its cluster.
    pub(super) fn is_named(&self) -> bool {
        self.named.current.is_some()
    }

    /// Gives the hits of this resource the names of their clusters.
    pub(super) fn name_hits(&mut self) {
        if self.out.hits.len() == self.resource_hits {
            self.named.of_envelopes.clear();
            return;
        }
        let cluster = self.resource_cluster();
        self.hit_bytes += cluster.len();
        if !self.cluster.is_empty() {
            for place in &self.named.of_envelopes {
                if let Some(hit) = self.out.hits.get_mut(*place) {
                    hit.cluster = Arc::clone(&cluster);
                }
            }
        }
        self.named.of_envelopes.clear();
        for hit in self.out.hits.iter_mut().skip(self.resource_hits) {
            if hit.cluster.is_empty() {
                hit.cluster = Arc::clone(&cluster);
            }
        }
    }

    /// The cluster of records that name none.
    fn resource_cluster(&self) -> Arc<str> {
        let configured = self.screen.cluster.as_ref();
        match configured.filter(|_| self.cluster.is_empty()) {
            Some(configured) => Arc::clone(configured),
            None => Arc::from(self.cluster.as_str()),
        }
    }

    /// Adds what the feeds of this resource were to those of their clusters.
    pub(super) fn end_feeds(&mut self) {
        let resource = self.resource_cluster();
        let mut feeds = Vec::new();
        if !self.named.feeds.is_empty() {
            self.named.bytes = 0;
            for (name, feed) in std::mem::take(&mut self.named.feeds) {
                let is_resource = name.is_of_envelope && !self.cluster.is_empty();
                let cluster = if is_resource {
                    Arc::clone(&resource)
                } else {
                    name.cluster
                };
                feeds.push((cluster, feed));
            }
        }
        let unreadable = self.out.unreadable - self.resource_unreadable;
        self.resource_unreadable = self.out.unreadable;
        let hits_of = |hits: &[Hit], cluster: &str| {
            let hits = hits.iter().filter(|hit| *hit.cluster == *cluster);
            u64::try_from(hits.count()).unwrap_or(u64::MAX)
        };
        let hits = self.out.hits.get(self.resource_hits..).unwrap_or_default();
        let mut counted: Vec<_> = Vec::with_capacity(feeds.len());
        for (at, (cluster, _)) in feeds.iter().enumerate() {
            let is_first = feeds.iter().take(at).all(|(before, _)| before != cluster);
            let is_own = is_first && *cluster != resource;
            counted.push(if is_own { hits_of(hits, cluster) } else { 0 });
        }
        let of_resource = if feeds.is_empty() {
            u64::try_from(hits.len()).unwrap_or(u64::MAX)
        } else {
            hits_of(hits, &resource)
        };
        let mut resource_feed = std::mem::take(&mut self.feed);
        self.end_feed(&mut resource_feed, &resource, of_resource, unreadable);
        self.feed = resource_feed;
        for ((cluster, mut feed), hits) in feeds.into_iter().zip(counted) {
            self.end_feed(&mut feed, &cluster, hits, 0);
        }
    }

    fn end_feed(&mut self, feed: &mut Feed, cluster: &str, hits: u64, unreadable: u64) {
        let latest = Micros::from_unix_nanos(self.received).map(|now| now.plus(MAX_AHEAD));
        let selector = &self.screen.rule.selector;
        let end = cluster.floor_char_boundary(self.screen.bounds.value_bytes);
        feed.end(
            &Ended {
                cluster: cluster.get(..end).unwrap_or_default(),
                hits,
                unreadable,
                latest,
            },
            |matched| selector.selects(matched, self.resource),
            &mut self.out.activity,
        );
    }
}
