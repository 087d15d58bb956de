//! The memory limit, and whether the metrics say what the process holds.
