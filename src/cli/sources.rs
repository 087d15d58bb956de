//! The flags that name a configuration, for every command that needs one.

use std::ffi::OsStr;

use clap::{Args, builder::TypedValueParser, error::ErrorKind};

use crate::config::Source;

/// The sources of the configuration.
#[derive(Args, Debug)]
pub(super) struct Sources {
    /// Configuration: a file, or env:NAME, yaml:TEXT; several are merged, later ones win
    #[arg(long, value_name = "FILE", value_parser = Unseen("--config", str::parse))]
    pub(super) config: Vec<Source>,

    /// One setting over all files, such as service.telemetry.logs.level=debug
    #[arg(long, value_name = "KEY=VALUE", value_parser = Unseen("--set", Source::set))]
    pub(super) set: Vec<Source>,
}

/// Reads the value of a flag, which may hold a secret: clap's own messages would show it.
#[derive(Clone, Copy)]
struct Unseen(&'static str, fn(&str) -> Result<Source, String>);

impl TypedValueParser for Unseen {
    type Value = Source;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Source, clap::Error> {
        let Self(flag, read) = *self;
        let text = value.to_str().ok_or_else(|| "is not UTF-8".to_owned());
        text.and_then(read).map_err(|why| {
            clap::Error::raw(ErrorKind::ValueValidation, format!("{flag}: {why}\n"))
                .with_cmd(command)
        })
    }
}

impl Sources {
    /// All of them, in the order in which they are merged.
    pub(super) fn all(&self) -> Vec<Source> {
        self.config.iter().chain(&self.set).cloned().collect()
    }
}
