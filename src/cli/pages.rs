//! `auditwatch completions` and `auditwatch man`: made from the definition of the command line, so
//! they say what it says.

use std::{fs, io::Write, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;

use crate::visible;

/// Print completions for a shell
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, mut command: Command, out: &mut dyn Write) -> anyhow::Result<bool> {
        // The generator panics when it cannot write, as when a reader has seen enough.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "auditwatch", &mut script);
        out.write_all(&script)?;
        Ok(true)
    }
}

/// Print the manual page, or write those of all commands
#[derive(Args, Debug)]
pub(super) struct Man {
    /// Folder for the pages of all commands, such as /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(&self, command: Command, out: &mut dyn Write) -> anyhow::Result<bool> {
        let Some(folder) = &self.folder else {
            clap_mangen::Man::new(command).render(out)?;
            return Ok(true);
        };
        let context = || format!("cannot write manual pages into {}", visible::path(folder));
        fs::create_dir_all(folder).with_context(context)?;
        // There is no page for the command that prints help.
        let command = command.disable_help_subcommand(true);
        clap_mangen::generate_to(command, folder).with_context(context)?;
        Ok(true)
    }
}
