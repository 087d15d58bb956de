//! The command line: one file for each command, and what they share.

mod input;
mod scan;
mod table;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

pub use scan::Scan;

/// Finds unauthenticated addresses that scan a Kubernetes API server.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read audit logs and report who scanned
    Scan(Scan),
}

impl Cli {
    /// Does what the command line asks for.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Scan(scan) => run_scan(&scan),
        }
    }
}

fn run_scan(scan: &Scan) -> ExitCode {
    let rule = match scan.rule() {
        Ok(rule) => rule,
        Err(message) => Cli::command()
            .error(ErrorKind::ArgumentConflict, message)
            .exit(),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    match scan.run(rule, &mut out, &mut io::stderr().lock()) {
        Ok(ended) => ExitCode::from(scan.exit_code(ended)),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is gone there is nobody left to tell.
            let _told = writeln!(io::stderr(), "auditwatch: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whoever reads our output has seen enough, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|json| json.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
    })
}
