//! `auditwatch validate --config FILE`: whether a configuration would do.

use std::{io::Write, path::PathBuf};

use clap::Args;

use crate::config;

/// Check a configuration and exit; nothing is started
#[derive(Args, Debug)]
pub(super) struct Validate {
    /// Configuration to check
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Validate {
    /// Reads the configuration and prints all that is wrong with it, a problem a line. Whether
    /// nothing is.
    pub(super) fn run(&self, err: &mut dyn Write) -> std::io::Result<bool> {
        match config::load(&self.config) {
            Ok(_) => Ok(true),
            Err(error) => {
                writeln!(err, "{error}")?;
                Ok(false)
            }
        }
    }
}
