//! Distinct things with the times of their first and last hits, of which those at both ends are
//! kept: the ones that appeared first and the ones that appeared last.
//!
//! What is kept does not depend on the order of arrival. Each end is exact by itself: a thing that
//! was pushed out of it lies further inside than all that stayed, and comes back when a hit of it
//! lies further outside. As many are kept of the first end as are shown in all, so that nothing is
//! missing while there are no more; of the last end half as many.
//!
//! A thing that comes costs a few steps, however many are kept: a scan asks for something else
//! with each request.

pub(super) use super::entry::{Bytes, Entry, NOT_FIRST, NOT_LAST, Sought, Thing, When};
use super::orders::{End, Orders};
use crate::detection::heap;

/// Things at both ends: a list, for of most fields there is one value.
#[derive(Clone, Debug)]
pub(super) struct Ends<T, D> {
    /// In no order.
    entries: Vec<Entry<T, D>>,
    /// Bytes on the heap of the entries themselves.
    bytes: usize,
    /// How many are among the first.
    firsts: u32,
    /// How many are among the last.
    lasts: u32,
    /// Whether there were more than fit.
    pub(super) is_full: bool,
    /// Where entries are, once they are more than a few.
    orders: Option<Box<Orders>>,
}

impl<T, D> Default for Ends<T, D> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
            firsts: 0,
            lasts: 0,
            is_full: false,
            orders: None,
        }
    }
}

impl<T: Ord, D: PartialEq> PartialEq for Ends<T, D> {
    /// By what is kept; where it lies is no part of that.
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted() && self.is_full == other.is_full
    }
}

impl<T: Ord, D: Eq> Eq for Ends<T, D> {}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl<T: Ord, D> Ends<T, D> {
    /// The entries in the order of things.
    pub(super) fn sorted(&self) -> Vec<&Entry<T, D>> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by(|a, b| a.thing.cmp(&b.thing));
        entries
    }
}

impl<T: Thing, D: Bytes> Ends<T, D> {
    /// More entries than this have [`Orders`].
    const FEW: usize = 8;

    pub(super) fn heap_bytes(&self) -> usize {
        let orders = self.orders.as_ref();
        heap::list(&self.entries) + self.bytes + orders.map_or(0, |orders| orders.heap_bytes())
    }

    /// The entries in no order.
    pub(super) fn entries(&self) -> &[Entry<T, D>] {
        &self.entries
    }

    /// Where a thing is.
    pub(super) fn find(&self, sought: &impl Sought<T>) -> Option<usize> {
        let Some(orders) = &self.orders else {
            let mut entries = self.entries.iter();
            return entries.position(|entry| sought.is(&entry.thing));
        };
        orders.find(sought.hash(), |at| {
            let entry = self.entries.get(at);
            entry.is_some_and(|entry| sought.is(&entry.thing))
        })
    }

    /// Whether another thing is one more than fit.
    pub(super) fn is_at_most(&self, most: usize) -> bool {
        count(self.firsts) >= most
    }

    /// Takes a thing with the times of a first and a last hit of it. It is made only if it is to be
    /// kept. Returns what was pushed out after a state of the finding had shown it.
    pub(super) fn put(
        &mut self,
        sought: &impl Sought<T>,
        span: (When, When),
        most: usize,
        make: (impl FnOnce() -> T, impl Fn() -> Option<D>),
    ) -> Option<T> {
        let found = self.find(sought);
        self.put_at(found, span, most, make)
    }

    /// The same of a thing that was looked for, and is there.
    pub(super) fn put_at(
        &mut self,
        found: Option<usize>,
        (first, last): (When, When),
        most: usize,
        (own, detail): (impl FnOnce() -> T, impl Fn() -> Option<D>),
    ) -> Option<T> {
        if found.is_none() && self.is_at_most(most) {
            self.is_full = true;
        }
        let is_first = self.is_among_first(first, most);
        let is_last = self.is_among_last(last, most / 2);
        let at = match found {
            Some(at) => at,
            None if is_first || is_last => self.add(own()),
            None => return None,
        };
        self.meet(at, (first, is_first), (last, is_last), &detail);
        let mut sent = None;
        while count(self.firsts) > most && self.push_out(End::First, &mut sent) {}
        while count(self.lasts) > most / 2 && self.push_out(End::Last, &mut sent) {}
        sent
    }

    /// Adds an entry that is at neither end yet; where it is.
    fn add(&mut self, thing: T) -> usize {
        if self.entries.is_empty() {
            self.entries.reserve_exact(1);
        }
        let at = self.entries.len();
        if let Some(orders) = &mut self.orders {
            orders.add(at, thing.hash());
        }
        self.bytes += thing.heap_bytes();
        self.entries.push(Entry {
            thing,
            first: NOT_FIRST,
            last: NOT_LAST,
            first_detail: None,
            last_detail: None,
            is_sent: false,
        });
        if self.orders.is_none() && self.entries.len() > Self::FEW {
            self.orders = Some(Box::new(Orders::of(&self.entries)));
        }
        at
    }

    /// The entry at a place has had hits at these times.
    fn meet(
        &mut self,
        at: usize,
        (first, is_first): (When, bool),
        (last, is_last): (When, bool),
        detail: &impl Fn() -> Option<D>,
    ) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        let was_first = entry.is_first();
        if first < entry.first && (is_first || was_first) {
            let old = (was_first, entry.first);
            entry.first = first;
            self.firsts += u32::from(!was_first);
            let detail = std::mem::replace(&mut entry.first_detail, detail());
            self.bytes += entry.first_detail.as_ref().map_or(0, Bytes::heap_bytes);
            self.bytes -= detail.as_ref().map_or(0, Bytes::heap_bytes);
            if let Some(orders) = &mut self.orders {
                orders.move_to(End::First, at, old, &self.entries);
            }
        }
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        let was_last = entry.is_last();
        if last > entry.last && (is_last || was_last) {
            let old = (was_last, entry.last);
            entry.last = last;
            self.lasts += u32::from(!was_last);
            let detail = std::mem::replace(&mut entry.last_detail, detail());
            self.bytes += entry.last_detail.as_ref().map_or(0, Bytes::heap_bytes);
            self.bytes -= detail.as_ref().map_or(0, Bytes::heap_bytes);
            if let Some(orders) = &mut self.orders {
                orders.move_to(End::Last, at, old, &self.entries);
            }
        }
    }

    fn is_among_first(&self, first: When, most: usize) -> bool {
        if count(self.firsts) < most {
            return first != NOT_FIRST;
        }
        let latest = self.innermost(End::First);
        let latest = latest.and_then(|at| self.entries.get(at));
        first <= latest.map_or(NOT_LAST, |entry| entry.first)
    }

    fn is_among_last(&self, last: When, most: usize) -> bool {
        if count(self.lasts) < most {
            return last != NOT_LAST;
        }
        let earliest = self.innermost(End::Last);
        let earliest = earliest.and_then(|at| self.entries.get(at));
        last >= earliest.map_or(NOT_FIRST, |entry| entry.last)
    }

    /// Of the first ones the latest, of the last ones the earliest.
    fn innermost(&self, end: End) -> Option<usize> {
        if let Some(orders) = &self.orders {
            return orders.innermost(end);
        }
        let entries = self.entries.iter().enumerate();
        let inside = match end {
            End::First => entries
                .filter(|(_, entry)| entry.is_first())
                .max_by(|(_, a), (_, b)| (a.first, &a.thing).cmp(&(b.first, &b.thing))),
            End::Last => entries
                .filter(|(_, entry)| entry.is_last())
                .min_by(|(_, a), (_, b)| (a.last, &a.thing).cmp(&(b.last, &b.thing))),
        };
        inside.map(|(at, _)| at)
    }

    /// Pushes the innermost out of an end; whether there was one.
    fn push_out(&mut self, end: End, sent: &mut Option<T>) -> bool {
        let at = self.innermost(end);
        let Some((at, entry)) = at.and_then(|at| Some((at, self.entries.get_mut(at)?))) else {
            return false;
        };
        let detail = match end {
            End::First => {
                self.firsts -= 1;
                entry.first = NOT_FIRST;
                entry.first_detail.take()
            }
            End::Last => {
                self.lasts -= 1;
                entry.last = NOT_LAST;
                entry.last_detail.take()
            }
        };
        self.bytes -= detail.as_ref().map_or(0, Bytes::heap_bytes);
        if let Some(orders) = &mut self.orders {
            orders.push_out(end);
        }
        self.leave_out(at, sent);
        true
    }

    /// Forgets an entry that is at neither end.
    fn leave_out(&mut self, at: usize, sent: &mut Option<T>) {
        let entry = self.entries.get(at);
        if entry.is_none_or(|entry| entry.is_first() || entry.is_last()) {
            return;
        }
        if let Some(orders) = &mut self.orders {
            orders.remove(at, &self.entries);
        }
        // The one that lies behind all others takes its place.
        let entry = self.entries.swap_remove(at);
        self.bytes -= entry.heap_bytes();
        if entry.is_sent {
            *sent = Some(entry.thing);
        }
    }

    /// Where the entries are that a finding shows, in the order of things: all, or half of each end.
    /// Where the ends have things in common, more of the first ones fill the list.
    pub(super) fn shown(&self, most: usize) -> Vec<usize> {
        let thing = |at: &usize| self.entries.get(*at).map(|entry| &entry.thing);
        let mut shown: Vec<usize> = (0..self.entries.len()).collect();
        if self.is_full {
            let is_at = |is: fn(&Entry<T, D>) -> bool| {
                move |at: &usize| self.entries.get(*at).is_some_and(is)
            };
            let first = |at: &usize| self.entries.get(*at).map(|entry| entry.first);
            let mut firsts: Vec<usize> = shown
                .iter()
                .copied()
                .filter(is_at(Entry::is_first))
                .collect();
            firsts.sort_unstable_by(|a, b| (first(a), thing(a)).cmp(&(first(b), thing(b))));
            let (half, more) = firsts.split_at((most - most / 2).min(firsts.len()));
            let half: std::collections::BTreeSet<_> = half.iter().copied().collect();
            shown.retain(|at| half.contains(at) || is_at(Entry::is_last)(at));
            let is_last = is_at(Entry::is_last);
            let more = more.iter().copied().filter(|at| !is_last(at));
            shown.extend(more.take(most.saturating_sub(shown.len())));
        }
        shown.sort_unstable_by(|a, b| thing(a).cmp(&thing(b)));
        shown
    }

    /// Notes that a state of the finding shows these.
    pub(super) fn mark_sent(&mut self, shown: &[usize]) {
        for at in shown {
            if let Some(entry) = self.entries.get_mut(*at) {
                entry.is_sent = true;
            }
        }
    }

    /// Adds an entry as it was kept. Entries come in order.
    pub(super) fn restore(&mut self, entry: Entry<T, D>) {
        let last = self.entries.last();
        if last.is_some_and(|last| last.thing >= entry.thing)
            || !(entry.is_first() || entry.is_last())
        {
            return;
        }
        self.firsts += u32::from(entry.is_first());
        self.lasts += u32::from(entry.is_last());
        let at = self.add(entry.thing);
        let Some(kept) = self.entries.get_mut(at) else {
            return;
        };
        (kept.first, kept.last) = (entry.first, entry.last);
        (kept.first_detail, kept.last_detail) = (entry.first_detail, entry.last_detail);
        kept.is_sent = entry.is_sent;
        let details = kept.first_detail.iter().chain(&kept.last_detail);
        self.bytes += details.map(Bytes::heap_bytes).sum::<usize>();
        if let Some(orders) = &mut self.orders {
            orders.restore(at, &self.entries);
        }
    }
}
