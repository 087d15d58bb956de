//! auditwatch: parses its arguments, does as told, and ends with the exit code that says how.

use std::process::ExitCode;

use auditwatch::cli::Cli;
use clap::Parser as _;

fn main() -> ExitCode {
    Cli::parse().run()
}
