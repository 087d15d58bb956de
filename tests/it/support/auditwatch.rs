//! The real binary, run once.

use std::{
    ffi::OsStr,
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

/// What the binary printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The command, which reads nothing and knows no settings of the environment it runs in.
pub(crate) fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditwatch"));
    command.args(args).stdin(Stdio::null()).env_clear();
    command
}

/// Runs the binary with these arguments.
pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    ended(&mut command(args))
}

/// Runs the binary with a file as its standard input.
pub(crate) fn run_on_stdin<S: AsRef<OsStr>>(
    args: impl IntoIterator<Item = S>,
    input: &Path,
) -> Ran {
    ended(command(args).stdin(File::open(input).unwrap()))
}

fn ended(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().expect("not ended by a signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
