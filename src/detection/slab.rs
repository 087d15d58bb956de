//! A list that grows without copying what it has, and keeps no holes.

use super::page::Page;

/// Bytes of a chunk: a size that allocators have, so that none of it is lost.
const BYTES: usize = 64 * 1024;

/// Things by number: those of `n` things are 0 to `n - 1`. They lie in chunks, so that a list of a
/// million grows by one chunk and not by a copy of itself.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Page<Vec<T>>>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Bytes on the heap that one thing takes, but for what it owns.
    pub(super) const PLACE: usize = BYTES.div_ceil(Self::CHUNK);

    /// Places of a chunk.
    const CHUNK: usize = if size_of::<T>() < BYTES / 2 {
        BYTES / size_of::<T>()
    } else {
        1
    };

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes on the heap of places that are free. It follows from how many things there are, so that
    /// a list that was stored and read again has as many.
    pub(super) fn spare_bytes(&self) -> usize {
        let room = if self.len <= Self::CHUNK {
            self.len.next_power_of_two().min(Self::CHUNK)
        } else {
            self.len.next_multiple_of(Self::CHUNK)
        };
        room.saturating_sub(self.len.max(1)) * size_of::<T>()
    }

    pub(super) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        self.chunks
            .get(at / Self::CHUNK)?
            .get()
            .get(at % Self::CHUNK)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(Page::get)
    }
}

impl<T: Clone> Slab<T> {
    /// Copies made from now on are the same memory, until it changes here.
    pub(super) fn share(&mut self) {
        for chunk in &mut self.chunks {
            chunk.share();
        }
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let at = at as usize;
        self.chunks
            .get_mut(at / Self::CHUNK)?
            .get_mut()
            .get_mut(at % Self::CHUNK)
    }

    /// Takes one more thing; its number.
    pub(super) fn push(&mut self, one: T) -> u32 {
        if self
            .chunks
            .last()
            .is_none_or(|last| last.get().len() >= Self::CHUNK)
        {
            // Most clusters have few keys, so the first chunk begins small.
            let room = if self.chunks.is_empty() {
                1
            } else {
                Self::CHUNK
            };
            self.chunks.push(Page::new(Vec::with_capacity(room)));
        }
        if let Some(last) = self.chunks.last_mut() {
            let last = last.get_mut();
            if last.len() == last.capacity() {
                last.reserve_exact(last.len().min(Self::CHUNK - last.len()));
            }
            last.push(one);
        }
        let at = u32::try_from(self.len).unwrap_or(u32::MAX);
        self.len += 1;
        at
    }

    /// Takes out the thing of a number. The last of all things has that number from then on.
    pub(super) fn swap_remove(&mut self, at: u32) -> Option<T> {
        if at as usize >= self.len {
            return None;
        }
        let last = self.chunks.last_mut()?.get_mut().pop()?;
        if self.chunks.last().is_some_and(|last| last.get().is_empty()) {
            self.chunks.pop();
        }
        self.len -= 1;
        match self.get_mut(at) {
            Some(place) => Some(std::mem::replace(place, last)),
            None => Some(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_slab_is_a_list(steps in vec((0u32..8, any::<u32>()), 0..300)) {
            // Of things so large that a few fill a chunk.
            let (mut slab, mut list) = (Slab::<[u32; 1000]>::default(), Vec::new());
            for (what, number) in steps {
                let one = [number; 1000];
                if what == 0 && !list.is_empty() {
                    let at = number as usize % list.len();
                    let removed = slab.swap_remove(u32::try_from(at).unwrap());
                    prop_assert_eq!(removed, Some(list.swap_remove(at)));
                } else {
                    prop_assert_eq!(slab.push(one) as usize, list.len());
                    list.push(one);
                }
                prop_assert_eq!(slab.len(), list.len());
            }
            prop_assert!(slab.iter().eq(&list));
            prop_assert_eq!(slab.swap_remove(u32::try_from(list.len()).unwrap()), None);
        }
    }
}
