//! The distinct values of the rows of a scan, each kept once, whatever the number of rows.
//!
//! A log may name a hundred thousand addresses that all asked for the same, and most of them make no
//! row in the end. So a row in the making holds numbers that stand for values, and rows of one event
//! share even those.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    columns::Columns,
    fields::{self, AuditField},
    hit::Hit,
    text,
};

/// Sets of numbers up to this length are shared, longer ones are trees of their own.
const SHORT: usize = 64;
/// Sets of single events that are remembered to be shared with later events of the same values.
const RECENT: usize = 64;

/// All values of a scan.
pub(super) struct Values {
    /// Numbers of the values of each field.
    numbers: [HashMap<Arc<str>, u32>; fields::COUNT],
    /// Field and text of each number.
    all: Vec<(AuditField, Arc<str>)>,
    /// Bytes of a value that are kept.
    most: usize,
    recent: [Option<Arc<[u32]>>; RECENT],
    /// The last union that was made: of what, and what came out.
    union: Option<[Arc<[u32]>; 3]>,
}

/// The values of one row: numbers, in order.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "nearly all sets are shared, and there are millions of them"
)]
pub(super) enum Set {
    Shared(Arc<[u32]>),
    Own(Box<BTreeSet<u32>>),
}

impl Values {
    /// Values of which at most `most` bytes are kept, with a hash of what is cut.
    pub(super) fn new(most: usize) -> Self {
        Self {
            numbers: Default::default(),
            all: Vec::new(),
            most,
            recent: [const { None }; RECENT],
            union: None,
        }
    }

    /// The values of one event.
    pub(super) fn of(&mut self, hit: &Hit) -> Arc<[u32]> {
        let mut numbers = Vec::new();
        for (row, values) in fields::TABLE.iter().zip(hit.texts.rows()) {
            if row.escu.is_some() {
                numbers.extend(values.map(|value| self.number(row.field, value)));
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        // Any place will do, as long as it is the same for the same numbers.
        let place = numbers.iter().fold(0_usize, |place, number| {
            place.wrapping_mul(31).wrapping_add(*number as usize)
        });
        let Some(recent) = self.recent.get_mut(place % RECENT) else {
            return numbers.into();
        };
        match recent {
            Some(same) if **same == *numbers => Arc::clone(same),
            _ => Arc::clone(recent.insert(numbers.into())),
        }
    }

    fn number(&mut self, field: AuditField, value: &str) -> u32 {
        let cut = (value.len() > self.most).then(|| text::bounded(value.as_bytes(), self.most));
        let value = cut.as_deref().unwrap_or(value);
        let Some(numbers) = self.numbers.get_mut(field.index()) else {
            return 0;
        };
        if let Some(number) = numbers.get(value) {
            return *number;
        }
        // Memory ends long before that many distinct values.
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let value: Arc<str> = Arc::from(value);
        self.all.push((field, Arc::clone(&value)));
        numbers.insert(value, number);
        number
    }

    /// Adds the values of an event to those of a row.
    pub(super) fn add(&mut self, set: &mut Set, event: &Arc<[u32]>) {
        let old = match set {
            Set::Own(own) => {
                own.extend(event.iter().copied());
                return;
            }
            Set::Shared(old) => old,
        };
        if Arc::ptr_eq(old, event) || event.iter().all(|one| old.binary_search(one).is_ok()) {
            return;
        }
        if let Some([first, second, union]) = &self.union
            && Arc::ptr_eq(first, old)
            && Arc::ptr_eq(second, event)
        {
            *old = Arc::clone(union);
            return;
        }
        let union: BTreeSet<u32> = old.iter().chain(event.iter()).copied().collect();
        if union.len() > SHORT {
            *set = Set::Own(Box::new(union));
            return;
        }
        let union: Arc<[u32]> = union.into_iter().collect();
        let first = std::mem::replace(old, Arc::clone(&union));
        self.union = Some([first, Arc::clone(event), union]);
    }

    /// The columns of a row.
    pub(super) fn columns(&self, set: &Set) -> Columns {
        let mut columns = Columns::default();
        let mut add = |number: &u32| {
            if let Some((field, value)) = self.all.get(*number as usize) {
                columns.insert(*field, value.to_string());
            }
        };
        match set {
            Set::Shared(shared) => shared.iter().for_each(&mut add),
            Set::Own(own) => own.iter().for_each(&mut add),
        }
        columns
    }
}
