//! auditwatch: parses the arguments, runs the command, and exits with its code.

use std::process::ExitCode;

use auditwatch::cli::Cli;

/// Keeps allocations of different sizes apart, so that what a request takes and gives back leaves no
/// holes among what stays. glibc's allocator fills those holes with small things, and the next
/// request takes new memory (docs/operations.md, Memory).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::read().run()
}
