//! `auditwatch validate --config FILE`: whether a configuration is valid.

use std::io::Write;

use clap::Args;

use super::{rules::cost, sources::Sources};
use crate::{
    clock,
    config::{self, ComponentId, Config, DetectionConfig, ExporterConfig},
    detection::{exclude::Exclusions, time::Micros},
    rules::load,
    visible,
};

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
    pub(super) fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> std::io::Result<bool> {
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
                let now = Micros::from_unix_nanos(clock::unix_nanos()).unwrap_or_default();
                for (id, processor) in &config.processors {
                    for warning in processor.warnings(now) {
                        writeln!(err, "note: {id}: {}", visible::escaped(&warning))?;
                    }
                }
                for (id, exporter) in &config.exporters {
                    if let ExporterConfig::SplunkHec(hec) = exporter
                        && let Some(warning) = hec.warning()
                    {
                        writeln!(err, "note: {id}: {}", visible::escaped(&warning))?;
                    }
                }
                rules(&config, out, err)
            }
            Err(error) => {
                writeln!(err, "{error}")?;
                Ok(false)
            }
        }
    }
}

/// Loads the rules of each processor and says what each costs. Whether all can be loaded.
fn rules(config: &Config, out: &mut dyn Write, err: &mut dyn Write) -> std::io::Result<bool> {
    let mut all_load = true;
    for (id, processor) in &config.processors {
        all_load &= rules_of(id, processor, out, err)?;
    }
    Ok(all_load)
}

fn rules_of(
    id: &ComponentId,
    processor: &DetectionConfig,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<bool> {
    match load::pipeline(&processor.rule, &processor.switches, &processor.rules) {
        Ok(detections) => {
            if let Err(error) = Exclusions::new(&processor.exclude, &detections) {
                writeln!(err, "{id}: {}", visible::escaped(&error.to_string()))?;
                return Ok(false);
            }
            for detection in detections {
                writeln!(
                    out,
                    "{id}: rule {}: {}",
                    visible::escaped(detection.name()),
                    visible::escaped(&cost(&detection.cost()))
                )?;
            }
            Ok(true)
        }
        Err(problems) => {
            for problem in problems {
                writeln!(err, "{id}: {problem}")?;
            }
            Ok(false)
        }
    }
}
