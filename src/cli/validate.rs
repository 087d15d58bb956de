//! `auditwatch validate --config FILE`: whether a configuration is valid.

use std::io::Write;

use clap::Args;

use super::sources::Sources;
use crate::{config, visible};

/// Check a configuration and exit; nothing is started
#[derive(Args, Debug)]
#[command(mut_arg("config", |config| config.required(true)))]
pub(super) struct Validate {
    #[command(flatten)]
    sources: Sources,
}

impl Validate {
    /// Reads the configuration and prints all that is wrong with it, a problem a line, or what is
    /// not as it should be on this machine. Whether nothing is wrong.
    pub(super) fn run(&self, err: &mut dyn Write) -> std::io::Result<bool> {
        match config::load(&self.sources.all()) {
            Ok(config) => {
                for note in &config.without_effect {
                    writeln!(err, "note: {note}")?;
                }
                for note in config.notes() {
                    writeln!(
                        err,
                        "note: {}; here it would not start",
                        visible::escaped(&note)
                    )?;
                }
                Ok(true)
            }
            Err(error) => {
                writeln!(err, "{error}")?;
                Ok(false)
            }
        }
    }
}
