//! Where the log and the outbox are: in memory, or in a redb file on a disk that loses power.

use crate::storage::{MemoryHome, torn::TornFile};

/// Where the log and the outbox are.
pub(super) enum Home {
    Memory(MemoryHome),
    Torn(TornFile),
}

impl Home {
    pub(super) fn new(is_torn: bool) -> Self {
        if is_torn {
            Self::Torn(TornFile::default())
        } else {
            Self::Memory(MemoryHome::default())
        }
    }

    /// The process is gone: nothing more is written, whatever is dropped.
    pub(super) fn cut_off(&self) {
        if let Self::Torn(file) = self {
            file.fail_after(0);
        }
    }

    /// The next process begins; with `power_loss`, on what a disk keeps of unsynced writes.
    pub(super) fn restart(&mut self, power_loss: Option<u64>) {
        if let Self::Torn(file) = self {
            if let Some(seed) = power_loss {
                *file = file.after_crash(seed);
            }
            file.fail_after(u32::MAX);
            file.fill(false);
        }
    }
}
