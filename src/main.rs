//! auditwatch: parses its arguments, does as told, and ends with the exit code that says how.

use std::process::ExitCode;

use auditwatch::cli::Cli;

fn main() -> ExitCode {
    Cli::read().run()
}
