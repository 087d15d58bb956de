//! Sizes on the heap as the allocator counts them: whole blocks, not the bytes in use. The memory
//! bound and the metrics use them.
//!
//! The numbers are those of glibc: a header of 8 bytes, steps of 16, and never less than 32. Other
//! allocators have no header and wider steps, which comes to about the same.

/// Bytes of the block for an allocation of `bytes`.
pub(super) const fn block(bytes: usize) -> usize {
    const LEAST: usize = 32;
    const HEADER: usize = 8;
    const STEP: usize = 16;
    if bytes == 0 {
        return 0;
    }
    let whole = bytes
        .saturating_add(HEADER)
        .div_ceil(STEP)
        .saturating_mul(STEP);
    if whole < LEAST { LEAST } else { whole }
}

/// Bytes of an `Arc` of `bytes`: two counters precede them.
pub(super) const fn shared(bytes: usize) -> usize {
    block(bytes + 2 * size_of::<usize>())
}

/// Bytes of the buffer of a `Vec`.
pub(super) fn list<T>(list: &Vec<T>) -> usize {
    block(list.capacity().saturating_mul(size_of::<T>()))
}

/// Entries in a node of a `BTreeMap`.
const NODE: usize = 11;

/// Bytes of a leaf of a tree whose entries (key and value) have this size.
const fn leaf(entry: usize) -> usize {
    // A pointer up, and two short numbers.
    block(NODE * entry + 12)
}

/// What one entry adds to a large `BTreeMap` or `BTreeSet`. Nodes are between six elevenths full,
/// when entries come in order, and three quarters.
pub(super) const fn entry(size: usize) -> usize {
    const HALF_NODES: usize = 13;
    // One node in seven or so is an inner one, with twelve pointers.
    (leaf(size) + 12 * size_of::<usize>() / 7) * 2 / HALF_NODES
}

/// Bytes of a whole `BTreeMap` or `BTreeSet` with `entries` entries of `size` bytes each.
pub(super) const fn tree(entries: usize, size: usize) -> usize {
    match entries {
        0 => 0,
        1..=NODE => leaf(size),
        _ => entries.saturating_mul(entry(size)),
    }
}

/// Bytes of a hash table with room for this many entries of `size` bytes each.
pub(super) const fn table(room: usize, size: usize) -> usize {
    /// Bytes behind the last one, which are looked at together.
    const GROUP: usize = 16;
    if room == 0 {
        return 0;
    }
    let least = if room < 4 {
        4
    } else {
        room.saturating_mul(8).div_ceil(7)
    };
    let places = least.next_power_of_two();
    block(places.saturating_mul(size + 1) + GROUP)
}

/// Bytes that were counted for something. They depend on what lists have taken in advance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted(pub(super) usize);

impl Counted {
    /// Counts anew: what was counted before, and what is now.
    pub(super) fn set(&mut self, now: usize) -> (usize, usize) {
        (std::mem::replace(&mut self.0, now), now)
    }
}
