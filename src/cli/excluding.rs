//! `scan --exclude`: what the entries keep from counting, as `exclude` of the configuration does.

use std::collections::BTreeMap;

use crate::{
    config::{self, Source},
    detection::{
        event::Event,
        exclude::{Exclusion, Exclusions},
        limits::{Bounds, Limits},
        rule::Rule,
    },
    rules::{Scratch, model::Detection},
};

/// A configuration, up to the entries of `exclude` and after them.
const BEFORE: &str = "receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:4317'}}}}\n\
                      exporters: {debug: {}}\n\
                      service: {pipelines: {logs: {receivers: [otlp], processors: [detection], \
                      exporters: [debug]}}}\nprocessors:\n  detection:\n    exclude:\n";

/// The events of a log that do not count, because an entry excludes them.
pub(super) struct Excluding {
    exclusions: Exclusions,
    detection: Detection,
    bounds: Bounds,
    scratch: Scratch,
    /// How many there were, by the name of the entry.
    counts: BTreeMap<String, u64>,
}

/// Reads entries, each in the form that `exclude` of the configuration has.
fn entries(texts: &[String]) -> Result<Vec<Exclusion>, String> {
    let mut all = BEFORE.to_owned();
    for text in texts {
        if text.contains(['\n', '\r']) {
            let form = "{name: probes, path: [/healthz]}";
            return Err(format!(
                "--exclude: write the entry on one line, such as {form}"
            ));
        }
        all.push_str("      - ");
        all.push_str(text);
        all.push('\n');
    }
    let config = config::load(&[Source::Yaml(all)]);
    let config = config.map_err(|error| format!("--exclude: {error}"))?;
    let processors = config.processors.into_values();
    Ok(processors.flat_map(|one| one.exclude).collect())
}

impl Excluding {
    /// What these entries exclude from the detection of a rule; `None` without entries.
    ///
    /// # Errors
    /// When an entry is not valid.
    pub(super) fn new(texts: &[String], rule: &Rule) -> Result<Option<Self>, String> {
        if texts.is_empty() {
            return Ok(None);
        }
        let detection = Detection::of(rule);
        let known = [std::sync::Arc::new(detection.clone())];
        let exclusions = Exclusions::new(&entries(texts)?, &known);
        Ok(Some(Self {
            exclusions: exclusions.map_err(|error| format!("--exclude: {error}"))?,
            detection,
            bounds: Bounds::from(&Limits::default()),
            scratch: Scratch::default(),
            counts: BTreeMap::new(),
        }))
    }

    /// Whether an event counts, were it not for an entry; it is counted for that.
    pub(super) fn excludes(&mut self, event: &Event<'_>) -> bool {
        let Self {
            exclusions,
            detection,
            bounds,
            scratch,
            counts,
        } = self;
        let mut is_excluded = false;
        event.hits(detection, scratch, bounds, &mut |hit| {
            if let Some(entry) = exclusions.matching(event, detection, &hit) {
                *counts.entry(entry.name.clone()).or_default() += 1;
                is_excluded = true;
            }
        });
        is_excluded
    }

    /// How many events each entry has excluded, for people.
    pub(super) fn sentence(&self) -> String {
        let names = self.exclusions.names();
        let each = names.map(|name| {
            let count = self.counts.get(name).copied().unwrap_or_default();
            format!("{count} by {}", crate::visible::escaped(name))
        });
        let each: Vec<String> = each.collect();
        format!("events excluded: {}", each.join(", "))
    }
}
