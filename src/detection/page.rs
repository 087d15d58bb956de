//! Memory that is copied when it is changed: so the state can be taken for a snapshot in a moment, and
//! what changes while the snapshot is written is copied page by page.

use std::{collections::VecDeque, sync::Arc};

/// A part of the state. It is its own until it is [shared](Self::share), and again when it changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Page<T> {
    own: T,
    /// In place of `own`.
    shared: Option<Arc<T>>,
}

impl<T> Page<T> {
    pub(super) fn new(own: T) -> Self {
        Self { own, shared: None }
    }

    pub(super) fn get(&self) -> &T {
        self.shared.as_deref().unwrap_or(&self.own)
    }
}

impl<T: Clone + Default> Page<T> {
    /// Copies made from now on are the same memory, until it changes here.
    pub(super) fn share(&mut self) {
        if self.shared.is_none() {
            self.shared = Some(Arc::new(std::mem::take(&mut self.own)));
        }
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        if let Some(shared) = self.shared.take() {
            self.own = Arc::unwrap_or_clone(shared);
        }
        &mut self.own
    }
}

impl<T: PartialEq> PartialEq for Page<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for Page<T> {}

/// Things of one page of a list.
const THINGS: usize = 1024;

/// A list that is taken from at its front, in pages.
#[derive(Clone, Debug)]
pub(super) struct PagedQueue<T> {
    pages: VecDeque<Page<Vec<T>>>,
    /// Things of the first page that were taken.
    taken: usize,
}

impl<T> Default for PagedQueue<T> {
    fn default() -> Self {
        Self {
            pages: VecDeque::new(),
            taken: 0,
        }
    }
}

impl<T: PartialEq> PartialEq for PagedQueue<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && (0..self.len()).all(|at| self.get(at) == other.get(at))
    }
}

impl<T: Eq> Eq for PagedQueue<T> {}

impl<T> PagedQueue<T> {
    pub(super) fn len(&self) -> usize {
        let last = self.pages.back().map_or(0, |page| page.get().len());
        (self.pages.len().saturating_sub(1) * THINGS + last).saturating_sub(self.taken)
    }

    /// Things for which there is memory.
    pub(super) fn capacity(&self) -> usize {
        self.pages.len() * THINGS
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        let at = at.checked_add(self.taken)?;
        self.pages.get(at / THINGS)?.get().get(at % THINGS)
    }
}

impl<T: Clone + Default> PagedQueue<T> {
    pub(super) fn share(&mut self) {
        for page in &mut self.pages {
            page.share();
        }
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let at = at.checked_add(self.taken)?;
        let page = self.pages.get_mut(at / THINGS)?;
        page.get_mut().get_mut(at % THINGS)
    }

    pub(super) fn push_back(&mut self, one: T) {
        let is_full = |page: &Page<Vec<T>>| page.get().len() >= THINGS;
        if self.pages.back().is_none_or(is_full) {
            self.pages.push_back(Page::new(Vec::with_capacity(THINGS)));
        }
        if let Some(last) = self.pages.back_mut() {
            last.get_mut().push(one);
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let one = std::mem::take(self.get_mut(0)?);
        self.taken += 1;
        let length = self.pages.front().map_or(0, |page| page.get().len());
        if self.taken >= length {
            self.pages.pop_front();
            self.taken = 0;
        }
        Some(one)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn what_was_taken_does_not_change() {
        let mut page = Page::new(vec![1]);
        page.share();
        let taken = page.clone();
        assert!(std::ptr::eq(page.get(), taken.get()));
        page.get_mut().push(2);
        assert_eq!((taken.get(), page.get()), (&vec![1], &vec![1, 2]));
        page.share();
        let place = page.get().as_ptr();
        // Nobody else has it: it is not copied.
        page.get_mut();
        assert_eq!(page.get().as_ptr(), place);
    }

    proptest! {
        #[test]
        fn a_queue_in_pages_is_a_list(steps in vec((0u32..9, 0usize..3000), 0..60)) {
            let (mut queue, mut list) = (PagedQueue::default(), VecDeque::new());
            let mut taken: Vec<(PagedQueue<usize>, VecDeque<usize>)> = Vec::new();
            for (what, number) in steps {
                match what {
                    0..4 => for more in 0..number {
                        queue.push_back(more);
                        list.push_back(more);
                    },
                    4..6 => for _ in 0..number {
                        prop_assert_eq!(queue.pop_front(), list.pop_front());
                    },
                    6..8 => if let Some(place) = list.get_mut(number) {
                        *place += 7;
                        *queue.get_mut(number).unwrap() += 7;
                    } else {
                        prop_assert_eq!(queue.get_mut(number), None);
                    },
                    _ => {
                        queue.share();
                        taken.push((queue.clone(), list.clone()));
                    }
                }
                prop_assert_eq!(queue.len(), list.len());
                prop_assert!(queue.capacity() >= list.len());
            }
            taken.push((queue, list));
            for (queue, list) in taken {
                prop_assert!((0..=list.len()).all(|at| queue.get(at) == list.get(at)));
            }
        }
    }
}
