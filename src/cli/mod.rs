//! The command line: one file for each command, and what they share.

mod assessed;
mod changes;
mod compare;
mod components;
mod compression;
mod counting;
mod excluding;
mod explain;
mod health;
mod input;
mod matches;
mod pages;
mod print_config;
mod progress;
mod reading;
mod redeliver;
mod replay;
mod report;
mod rules;
mod run;
mod scan;
mod signals;
mod sources;
mod stop;
mod table;
mod tally;
mod validate;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::{config, telemetry, visible};
use compare::Compare;
use explain::Explain;
use health::Health;
use pages::{Completions, Man};
use print_config::PrintConfig;
use redeliver::Redeliver;
use replay::Replay;
use rules::Rules;
pub use scan::Scan;
use sources::Sources;
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
    #[command(flatten)]
    sources: Sources,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read audit logs and report who scanned
    Scan(Scan),
    /// Say why an address was found or was not, record by record
    Explain(Explain),
    /// Compare the hourly search of Splunk with streaming, on your own log
    Compare(Compare),
    /// Check a configuration and exit; nothing is started
    Validate(Validate),
    /// Print the configuration that several make together, secrets hidden
    PrintConfig(PrintConfig),
    /// List the component types a configuration may name
    Components,
    /// Ask a running auditwatch whether it is ready
    Health(Health),
    /// List, check and test detection rules
    Rules(Rules),
    /// Send an audit log as it was recorded, faster, or as if it happened now
    Replay(Replay),
    /// Send findings of dead-letter files again
    Redeliver(Redeliver),
    /// Print completions for a shell
    Completions(Completions),
    /// Print the manual page, or write those of all commands
    Man(Man),
}

impl Cli {
    /// Reads the arguments of this process. With wrong ones it ends and says why.
    pub fn read() -> Self {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        Self::read_from(&arguments).unwrap_or_else(|error| error.exit())
    }

    /// The same from these arguments. The error shows them escaped, for they may come from a
    /// script that was given names of files.
    fn read_from(arguments: &[OsString]) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments).map_err(|error| {
            let shown: Vec<_> = arguments
                .iter()
                .map(|argument| OsString::from(visible::os(argument).to_string()))
                .collect();
            if shown == arguments {
                return error;
            }
            // clap quotes arguments as they are, so it is to complain of what can be shown.
            Self::try_parse_from(shown).err().unwrap_or_else(|| {
                let text = error.render().to_string();
                let text = text.strip_prefix("error: ").unwrap_or(&text);
                clap::Error::raw(error.kind(), visible::lines(text))
            })
        })
    }

    /// Does what the command line asks for.
    pub fn run(self) -> ExitCode {
        std::panic::set_hook(Box::new(tell_panic));
        match self.command {
            Some(Command::Scan(scan)) => run_scan(&scan),
            Some(Command::Explain(explain)) => reported(explain.rule(), |rule, out| {
                explain.run(&rule, out, &mut stderr())
            }),
            Some(Command::Compare(compare)) => reported(compare.rules(), |rules, out| {
                compare.run(rules, out, &mut stderr())
            }),
            Some(Command::Validate(validate)) => {
                ended(validate.run(&mut io::stdout().lock(), &mut stderr()))
            }
            Some(Command::PrintConfig(print)) => {
                ended(print.run(&mut io::stdout().lock(), &mut stderr()))
            }
            Some(Command::Components) => {
                ended(components::print(&mut io::stdout().lock()).map(|()| true))
            }
            Some(Command::Health(health)) => succeeded(health.run(&mut io::stdout().lock())),
            Some(Command::Rules(rules)) => run_rules(&rules),
            Some(Command::Replay(replay)) => sent(replay.run(&mut io::stdout().lock())),
            Some(Command::Redeliver(redeliver)) => {
                sent(redeliver.run(&mut io::stdout().lock(), &mut stderr()))
            }
            Some(Command::Completions(completions)) => {
                succeeded(completions.run(Self::command(), &mut io::stdout().lock()))
            }
            Some(Command::Man(man)) => {
                succeeded(man.run(Self::command(), &mut io::stdout().lock()))
            }
            None if !self.sources.config.is_empty() => run_service(&self.sources.all()),
            None => Self::command()
                .error(
                    ErrorKind::MissingRequiredArgument,
                    "give --config FILE to run the service, or a command; --help lists them",
                )
                .exit(),
        }
    }
}

/// Standard error, on which nothing acts or hides that stands in a message.
fn stderr() -> visible::Writer<io::StderrLock<'static>> {
    visible::Writer(io::stderr().lock())
}

/// The exit code of a command that prints: 0 when all is well.
fn ended(well: io::Result<bool>) -> ExitCode {
    match well {
        Ok(true) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn run_service(config: &[config::Source]) -> ExitCode {
    match run::run(config) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Behind the lines of the log, and as they without waiting for who does not read.
            telemetry::last_line(&visible::lines(&message(&error)));
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a command that succeeds, fails, or cannot be done.
fn succeeded(ended: anyhow::Result<bool>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints the chain of an error, once.
fn print_error(error: &anyhow::Error) {
    // If standard error is gone, there is nowhere left to print it.
    let _told = writeln!(stderr(), "{}", message(error));
}

fn message(error: &anyhow::Error) -> String {
    format!("auditwatch: {error:#}")
}

/// Prints what the standard library would of a panic, whose message may hold what others sent.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let backtrace = std::backtrace::Backtrace::capture();
    let _told = writeln!(stderr(), "thread '{name}' {panic}");
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        let _told = writeln!(stderr(), "{backtrace}");
    }
}

/// The exit code of a command that sends: 0, 1 when something could not be sent, 2 when it could not
/// be tried.
fn sent(ended: anyhow::Result<bool>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::from(2)
        }
    }
}

/// The exit code of `rules`: 0, 1 when a test failed, 2 when a rule is wrong.
fn run_rules(rules: &Rules) -> ExitCode {
    match rules.run(&mut io::stdout().lock(), &mut stderr()) {
        Ok(rules::Ended::Well) => ExitCode::SUCCESS,
        Ok(rules::Ended::Failed) => ExitCode::from(1),
        Ok(rules::Ended::Wrong) => ExitCode::from(2),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::from(2)
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
    match scan.run(&rule, &mut out, &mut stderr()) {
        Ok(ended) => ExitCode::from(scan.exit_code(ended)),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::from(2)
        }
    }
}

/// The exit code of a command that reads logs and reports on them: 0, or 2 when something could not
/// be read.
fn reported<R>(
    flags: Result<R, String>,
    run: impl FnOnce(R, &mut dyn Write) -> anyhow::Result<scan::Ended>,
) -> ExitCode {
    let rule = match flags {
        Ok(rule) => rule,
        Err(message) => Cli::command()
            .error(ErrorKind::ArgumentConflict, message)
            .exit(),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    match run(rule, &mut out) {
        Ok(scan::Ended { trouble: false, .. }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::from(2)
        }
    }
}

/// The reader of our output has seen enough, as `head` does.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A colon for an equals sign, and a URL with a password: both end in the log of a container.
    #[test]
    fn wrong_flags_show_no_value() {
        for (flags, wanted) in [
            (
                ["--set", "exporters.splunk_hec.token:s3cret"],
                "--set: expected KEY=VALUE",
            ),
            (["--set", "=s3cret"], "--set: expected KEY=VALUE with a key"),
            (
                ["--config", "https://a:s3cret@b/c"],
                "--config: https: is not available",
            ),
        ] {
            let flags = ["auditwatch"].into_iter().chain(flags);
            let error = Cli::try_parse_from(flags).unwrap_err().to_string();
            assert!(
                error.contains(wanted) && !error.contains("s3cret"),
                "{error}"
            );
        }
    }
}
