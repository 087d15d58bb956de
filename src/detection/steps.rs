//! Work in small steps, so that others on the thread have their turn.

/// Takes one of the steps that are left; whether there was one.
pub(super) fn take(steps: &mut usize) -> bool {
    match steps.checked_sub(1) {
        Some(left) => {
            *steps = left;
            true
        }
        None => false,
    }
}
