//! The command line: one file for each command, and what they share.

mod components;
mod input;
mod run;
mod scan;
mod table;
mod validate;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

pub use scan::Scan;
use validate::Validate;

/// Finds unauthenticated addresses that scan a Kubernetes API server.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// Run the service with this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read audit logs and report who scanned
    Scan(Scan),
    /// Check a configuration and exit; nothing is started
    Validate(Validate),
    /// List the component types a configuration may name
    Components,
}

impl Cli {
    /// Does what the command line asks for.
    pub fn run(self) -> ExitCode {
        match (self.command, self.config) {
            (Some(Command::Scan(scan)), _) => run_scan(&scan),
            (Some(Command::Validate(validate)), _) => ended(validate.run(&mut io::stderr().lock())),
            (Some(Command::Components), _) => {
                ended(components::print(&mut io::stdout().lock()).map(|()| true))
            }
            (None, Some(config)) => run_service(&config),
            (None, None) => Self::command()
                .error(
                    ErrorKind::MissingRequiredArgument,
                    "give --config FILE to run the service, or a command; --help lists them",
                )
                .exit(),
        }
    }
}

/// The exit code of a command that prints: 0 when all is well.
fn ended(well: io::Result<bool>) -> ExitCode {
    match well {
        Ok(true) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn run_service(config: &Path) -> ExitCode {
    match run::run(config) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints the chain of an error, once.
fn tell(error: &anyhow::Error) {
    // If standard error is gone there is nobody left to tell.
    let _told = writeln!(io::stderr(), "auditwatch: {error:#}");
}

fn run_scan(scan: &Scan) -> ExitCode {
    let rule = match scan.rule() {
        Ok(rule) => rule,
        Err(message) => Cli::command()
            .error(ErrorKind::ArgumentConflict, message)
            .exit(),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    match scan.run(&rule, &mut out, &mut io::stderr().lock()) {
        Ok(ended) => ExitCode::from(scan.exit_code(ended)),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
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
