//! The log throttle: a message that may occur often is written at once, then at most once in a
//! period, with the number of similar messages that were suppressed.
//!
//! What is suppressed is never lost. If no further message follows, [`write_due`] writes a trailing
//! line when the period is over, so the last messages of a burst are reported as well. The service
//! calls it every few seconds and at its end; a throttle that is dropped writes what it still holds.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use crate::clock::{self, Instant};

/// The usual period of a throttle.
pub const PERIOD: Duration = Duration::from_mins(1);

/// What a throttle lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time in which [`lines`](Self::lines) of one key are written.
    pub period: Duration,
    /// Most lines of one key in a period.
    pub lines: u64,
    /// Most keys that are kept apart. Further ones share one entry, whose key is `None`.
    pub keys: usize,
}

impl Default for Limits {
    /// One line a minute for each of at most 64 keys.
    fn default() -> Self {
        Self {
            period: PERIOD,
            lines: 1,
            keys: 64,
        }
    }
}

/// What a message says beside its key.
pub trait Detail: Send + 'static {
    /// Joins a later message of the same key. By default the later one takes the place of the
    /// earlier.
    fn join(&mut self, later: Self)
    where
        Self: Sized,
    {
        *self = later;
    }
}

impl Detail for () {}
impl Detail for String {}

/// One line to be written.
#[derive(Debug)]
pub struct Line<'a, K, T> {
    /// What the messages have in common. `None` when there were more keys than are kept apart.
    pub key: Option<&'a K>,
    /// The joined details of the messages.
    pub detail: &'a T,
    /// Messages since the last line, at least one.
    pub count: u64,
}

impl<K, T> Line<'_, K, T> {
    /// Messages since the last line that this line does not show: all but one.
    pub fn suppressed(&self) -> u64 {
        self.count.saturating_sub(1)
    }
}

/// A log throttle. `K` is what makes two messages similar, `T` what one of them says. Clones share
/// their state.
pub struct Throttle<K: Key, T: Detail = ()>(Arc<Inner<K, T>>);

/// What makes messages similar.
pub trait Key: Ord + Clone + Send + 'static {}

impl<K: Ord + Clone + Send + 'static> Key for K {}

impl<K: Key, T: Detail> Clone for Throttle<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Key, T: Detail> fmt::Debug for Throttle<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}

impl<K: Key, T: Detail> Throttle<K, T> {
    /// A throttle with the usual limits: one line a minute for each key.
    pub fn new(write: impl Fn(&Line<'_, K, T>) + Send + Sync + 'static) -> Self {
        Self::with(Limits::default(), write)
    }

    /// A throttle with limits of its own. `write` writes a line to the log.
    pub fn with(limits: Limits, write: impl Fn(&Line<'_, K, T>) + Send + Sync + 'static) -> Self {
        let inner = Arc::new(Inner {
            limits,
            entries: Mutex::default(),
            write: Box::new(write),
        });
        register(&inner);
        Self(inner)
    }

    /// Takes a message in: writes it, with those that were suppressed before, or suppresses it.
    pub fn log(&self, key: K, detail: T) {
        let now = clock::monotonic();
        let due = self.0.entries().offer(&self.0.limits, key, detail, now);
        if let Some(due) = due {
            self.0.write(&due);
        }
    }

    /// Writes the trailing lines of this throttle, as [`write_due`] does of all.
    pub fn write_due(&self, all: bool) {
        self.0.write_due(clock::monotonic(), all);
    }

    /// Forgets what was suppressed of a key, because it is no longer true. How many messages that
    /// were.
    pub fn forget(&self, key: K) -> u64 {
        let mut entries = self.0.entries();
        let entry = entries.0.get_mut(&Some(key));
        entry
            .and_then(|entry| entry.suppressed.take())
            .map_or(0, |suppressed| suppressed.count)
    }
}

impl<K: Key> Throttle<K> {
    /// Whether the caller is to write a message itself. If not, it is counted, and the throttle
    /// writes a line about all that were suppressed when the period is over.
    pub fn admits(&self, key: K) -> bool {
        let now = clock::monotonic();
        self.0.entries().admit(&self.0.limits, key, now)
    }
}

/// Writes the trailing lines whose period is over. With `all`, those of periods that go on as well.
pub fn write_due(all: bool) {
    // Lines are written without a lock: writing one may reach a throttle again.
    let throttles = throttles().clone();
    for throttle in throttles.iter().filter_map(Weak::upgrade) {
        throttle.write_due(clock::monotonic(), all);
    }
}

/// All throttles of the process, for [`write_due`].
static THROTTLES: Mutex<Vec<Weak<dyn WriteDue>>> = Mutex::new(Vec::new());

fn throttles() -> MutexGuard<'static, Vec<Weak<dyn WriteDue>>> {
    THROTTLES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register<K: Key, T: Detail>(inner: &Arc<Inner<K, T>>) {
    let inner: Weak<Inner<K, T>> = Arc::downgrade(inner);
    let mut throttles = throttles();
    throttles.retain(|throttle| throttle.strong_count() > 0);
    throttles.push(inner);
}

trait WriteDue: Send + Sync {
    fn write_due(&self, now: Instant, all: bool);
}

type Write<K, T> = dyn Fn(&Line<'_, K, T>) + Send + Sync;

struct Inner<K: Key, T: Detail> {
    limits: Limits,
    entries: Mutex<Entries<K, T>>,
    write: Box<Write<K, T>>,
}

impl<K: Key, T: Detail> Inner<K, T> {
    fn entries(&self) -> MutexGuard<'_, Entries<K, T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, due: &Due<K, T>) {
        (self.write)(&Line {
            key: due.key.as_ref(),
            detail: &due.detail,
            count: due.count,
        });
    }
}

impl<K: Key, T: Detail> WriteDue for Inner<K, T> {
    fn write_due(&self, now: Instant, all: bool) {
        let due = self.entries().take_due(&self.limits, now, all);
        for due in &due {
            self.write(due);
        }
    }
}

impl<K: Key, T: Detail> Drop for Inner<K, T> {
    fn drop(&mut self) {
        self.write_due(clock::monotonic(), true);
    }
}

/// A line in the making, without a lock.
struct Due<K, T> {
    key: Option<K>,
    detail: T,
    count: u64,
}

/// The messages of one throttle by key. `None` is the key of those beyond the limit of keys.
struct Entries<K, T>(BTreeMap<Option<K>, Entry<T>>);

struct Entry<T> {
    /// When the period began.
    since: Instant,
    /// Lines in it.
    lines: u64,
    /// Messages that were suppressed, joined.
    suppressed: Option<Suppressed<T>>,
}

struct Suppressed<T> {
    detail: T,
    count: u64,
}

impl<K, T> Default for Entries<K, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Detail> Entry<T> {
    fn is_over(&self, period: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= period
    }

    fn suppress(&mut self, detail: T) {
        match &mut self.suppressed {
            Some(earlier) => {
                earlier.detail.join(detail);
                earlier.count += 1;
            }
            None => self.suppressed = Some(Suppressed { detail, count: 1 }),
        }
    }

    /// Whether one more line may be written, which is then counted.
    fn admit(&mut self, limits: &Limits, now: Instant) -> bool {
        if self.is_over(limits.period, now) {
            self.since = now;
            self.lines = 0;
        }
        let admitted = self.lines < limits.lines;
        self.lines += u64::from(admitted);
        admitted
    }
}

impl<K: Key, T: Detail> Entries<K, T> {
    /// The line to write now, if this message is not suppressed.
    fn offer(&mut self, limits: &Limits, key: K, detail: T, now: Instant) -> Option<Due<K, T>> {
        let key = self.place(limits, key, now);
        let entry = self.entry(key.clone(), now);
        let admitted = entry.admit(limits, now);
        entry.suppress(detail);
        let line = entry.suppressed.take_if(|_| admitted)?;
        Some(Due {
            key,
            detail: line.detail,
            count: line.count,
        })
    }

    /// The entry that a key has, or gets: its own, or that of all keys beyond the limit.
    fn place(&mut self, limits: &Limits, key: K, now: Instant) -> Option<K> {
        let key = Some(key);
        if self.0.contains_key(&key) {
            return key;
        }
        if self.len() >= limits.keys {
            self.0.retain(|_, entry| {
                entry.suppressed.is_some() || !entry.is_over(limits.period, now)
            });
        }
        if self.len() >= limits.keys { None } else { key }
    }

    /// Keys with an entry of their own.
    fn len(&self) -> usize {
        self.0.len() - usize::from(self.0.contains_key(&None))
    }

    fn entry(&mut self, key: Option<K>, now: Instant) -> &mut Entry<T> {
        self.0.entry(key).or_insert(Entry {
            since: now,
            lines: 0,
            suppressed: None,
        })
    }

    /// The trailing lines of periods that are over, or of all.
    fn take_due(&mut self, limits: &Limits, now: Instant, all: bool) -> Vec<Due<K, T>> {
        let mut due = Vec::new();
        self.0.retain(|key, entry| {
            let over = entry.is_over(limits.period, now);
            if !over && !all {
                return true;
            }
            let Some(line) = entry.suppressed.take() else {
                return !over;
            };
            due.push(Due {
                key: key.clone(),
                detail: line.detail,
                count: line.count,
            });
            // It is the first line of a new period.
            entry.since = now;
            entry.lines = 1;
            true
        });
        due
    }
}

impl<K: Key> Entries<K, ()> {
    fn admit(&mut self, limits: &Limits, key: K, now: Instant) -> bool {
        let key = self.place(limits, key, now);
        let entry = self.entry(key, now);
        let admitted = entry.admit(limits, now);
        if !admitted {
            entry.suppress(());
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A throttle over a list of the lines it wrote: key, detail, count.
    type Written = Arc<Mutex<Vec<(Option<u8>, String, u64)>>>;

    fn throttle(limits: Limits) -> (Throttle<u8, String>, Written) {
        let written = Written::default();
        let lines = Arc::clone(&written);
        let throttle = Throttle::with(limits, move |line: &Line<'_, u8, String>| {
            let line = (line.key.copied(), line.detail.clone(), line.count);
            lines.lock().unwrap().push(line);
        });
        (throttle, written)
    }

    fn take(written: &Written) -> Vec<(Option<u8>, String, u64)> {
        std::mem::take(&mut written.lock().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_is_written_at_once_and_the_last_of_a_burst_is_reported() {
        let (throttle, written) = throttle(Limits::default());
        for n in 0..5 {
            throttle.log(1, n.to_string());
        }
        throttle.log(2, "other".to_owned());
        assert_eq!(
            take(&written),
            [
                (Some(1), "0".to_owned(), 1),
                (Some(2), "other".to_owned(), 1)
            ]
        );
        tokio::time::advance(PERIOD / 2).await;
        throttle.write_due(false);
        assert!(take(&written).is_empty(), "the period is not over");
        tokio::time::advance(PERIOD / 2).await;
        throttle.write_due(false);
        assert_eq!(take(&written), [(Some(1), "4".to_owned(), 4)]);
        // The trailing line counts: a flood that goes on gets one line a period.
        throttle.log(1, "more".to_owned());
        assert!(take(&written).is_empty());
        tokio::time::advance(PERIOD).await;
        throttle.log(1, "last".to_owned());
        assert_eq!(take(&written), [(Some(1), "last".to_owned(), 2)]);
        throttle.write_due(true);
        assert!(take(&written).is_empty(), "there is nothing left to report");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_suppressed_is_written_when_the_throttle_is_dropped() {
        let (throttle, written) = throttle(Limits::default());
        let other = throttle.clone();
        throttle.log(1, "a".to_owned());
        throttle.log(1, "b".to_owned());
        drop(throttle);
        assert_eq!(take(&written).len(), 1, "a clone goes on");
        drop(other);
        assert_eq!(take(&written), [(Some(1), "b".to_owned(), 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_longer_true_is_forgotten() {
        let (throttle, written) = throttle(Limits::default());
        for n in 0..3 {
            throttle.log(1, n.to_string());
        }
        assert_eq!(
            (throttle.forget(1), throttle.forget(1), throttle.forget(2)),
            (2, 0, 0)
        );
        drop(throttle);
        assert_eq!(take(&written), [(Some(1), "0".to_owned(), 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_without_end_share_one_entry() {
        let limits = Limits {
            keys: 3,
            ..Limits::default()
        };
        let (throttle, written) = throttle(limits);
        for key in 0..10 {
            throttle.log(key, key.to_string());
        }
        let keys: Vec<_> = take(&written).into_iter().map(|(key, ..)| key).collect();
        assert_eq!(keys, [Some(0), Some(1), Some(2), None]);
        assert_eq!(throttle.0.entries().0.len(), 4);
        throttle.write_due(true);
        assert_eq!(take(&written), [(None, "9".to_owned(), 6)]);
        tokio::time::advance(PERIOD).await;
        throttle.log(9, "9".to_owned());
        assert_eq!(take(&written), [(Some(9), "9".to_owned(), 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_writes_its_own_lines_gets_a_line_about_the_rest() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&written);
        let limits = Limits {
            lines: 10,
            ..Limits::default()
        };
        let throttle = Throttle::with(limits, move |line: &Line<'_, &str, ()>| {
            lines.lock().unwrap().push((line.key.copied(), line.count));
        });
        let admitted = (0..47).filter(|_| throttle.admits("a")).count();
        assert_eq!(admitted, 10);
        assert!(throttle.admits("b"));
        tokio::time::advance(PERIOD).await;
        throttle.write_due(false);
        assert_eq!(*written.lock().unwrap(), [(Some("a"), 37)]);
    }

    proptest! {
        /// Whatever comes when: every message is in exactly one line, and no key has more lines in
        /// a period than its limit.
        #[test]
        fn every_message_is_counted_once(
            messages in proptest::collection::vec((0_u8..6, 0_u64..50, any::<bool>()), 0..200),
            lines in 1_u64..4,
            keys in 1_usize..8,
        ) {
            let limits = Limits { period: PERIOD, lines, keys };
            let mut entries = Entries::<u8, ()>::default();
            let (mut now, mut offered, mut counted) = (clock::monotonic(), 0, 0);
            let mut at: BTreeMap<Option<u8>, Vec<Instant>> = BTreeMap::new();
            for (key, seconds, looks) in messages {
                now += Duration::from_secs(seconds);
                let due = if looks {
                    entries.take_due(&limits, now, false)
                } else {
                    offered += 1;
                    entries.offer(&limits, key, (), now).into_iter().collect()
                };
                for line in due {
                    counted += line.count;
                    at.entry(line.key).or_default().push(now);
                }
                prop_assert!(entries.0.len() <= keys + 1);
            }
            counted += entries.take_due(&limits, now, true).iter().map(|line| line.count).sum::<u64>();
            prop_assert_eq!(offered, counted);
            let most = usize::try_from(lines).unwrap();
            for times in at.values() {
                // A period begins with its first line, so any window of one holds two at most.
                for window in times.windows(2 * most + 1) {
                    prop_assert!(window[2 * most] - window[0] >= PERIOD);
                }
            }
        }
    }
}
