//! `auditwatch print-config --config FILE...`: what several sources make together.

use std::io::Write;

use clap::Args;

use super::sources::Sources;
use crate::config;

/// Print the configuration that several make together, secrets hidden
#[derive(Args, Debug)]
#[command(mut_arg("config", |config| config.required(true)))]
pub(super) struct PrintConfig {
    #[command(flatten)]
    sources: Sources,
}

impl PrintConfig {
    /// Prints the configuration as YAML, or all that is wrong with it. Whether nothing is.
    pub(super) fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> std::io::Result<bool> {
        match config::print(&self.sources.all()) {
            Ok(yaml) => {
                out.write_all(yaml.as_bytes())?;
                Ok(true)
            }
            Err(error) => {
                writeln!(err, "{error}")?;
                Ok(false)
            }
        }
    }
}
