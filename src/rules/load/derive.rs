//! Correlations that take the requests which another correlation has counted (`custom: derive:`).
//!
//! What they group by says what they judge: `source.prefix` networks, `source.address` addresses
//! over days, `source.peer` peers that hand addresses over.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{
    custom::{At, Derive},
    document::{Body, Correlation, Document},
    link::{Linker, Names, Shape},
    reader::quoted,
};
use crate::{
    audit::text::hex,
    rules::{
        model::{Aggregate, Dedup, Derivation, Detection, GroupBy, Over, Window},
        settings::SECOND,
    },
    yaml::Mark,
};

/// A finding over days is closed after this long without a request, unless the rule says another.
const QUIET: i64 = 24 * 3600 * SECOND;

impl Linker<'_> {
    /// A correlation with `derive`.
    pub(super) fn derived(
        &mut self,
        document: &Document,
        correlation: &Correlation,
        documents: &[Document],
        names: &Names<'_>,
    ) -> Option<Detection> {
        let (derive, mark) = document.custom.derive?;
        let source = self.source_of(correlation, mark, documents, names)?;
        let over = self.over(correlation, &derive, mark)?;
        let shape = Shape {
            parts: Vec::new(),
            names: super::link::group_names(&correlation.group_by),
            length: correlation.timespan,
            aggregate: Aggregate::Values,
            threshold: correlation.threshold.unwrap_or_default(),
        };
        let mut detection = self.detection(document, shape)?;
        if detection.dedup != Dedup::Request || matches!(detection.window, Window::Tumbling { .. })
        {
            self.fail(
                mark,
                "derive: takes requests that were counted once, in session windows: remove dedup \
                 and window",
            );
            return None;
        }
        if detection.annotations.search.is_empty() {
            detection
                .annotations
                .search
                .clone_from(&source.annotations.search);
        }
        let text = format!("{} {} {over:?}", detection.fingerprint, source.fingerprint);
        detection.fingerprint = hex(&Sha256::digest(text.as_bytes()), 8);
        detection.derivation = Some(Derivation {
            source: Arc::new(source),
            over,
        });
        Some(detection)
    }

    /// The correlation whose requests are taken.
    fn source_of(
        &mut self,
        correlation: &Correlation,
        mark: Mark,
        documents: &[Document],
        names: &Names<'_>,
    ) -> Option<Detection> {
        let [(name, at)] = correlation.rules.as_slice() else {
            self.fail(mark, "derive: name one correlation in rules");
            return None;
        };
        let found = names.get(name.as_str()).and_then(|at| documents.get(*at));
        let Some(document) = found else {
            self.fail(
                *at,
                format!(
                    "rules: no correlation is named {}: load it with this file, by name, id or title",
                    quoted(name)
                ),
            );
            return None;
        };
        let source = match &document.body {
            Body::Correlation(of) if document.custom.derive.is_none() => {
                self.correlation(document, of, documents, names)?
            }
            _ => {
                self.fail(
                    *at,
                    format!(
                        "rules: {} is no correlation that counts events: derive takes the requests \
                         of one",
                        quoted(name)
                    ),
                );
                return None;
            }
        };
        let is_by_address = source.group_by == GroupBy::Fields(vec!["source.address".to_owned()]);
        let is_session = matches!(source.window, Window::Session { .. });
        if !is_by_address || !is_session || source.aggregate != Aggregate::Events {
            self.fail(
                *at,
                format!(
                    "rules: {} is not an event_count by source.address alone in session windows, \
                     which derive needs",
                    quoted(name)
                ),
            );
            return None;
        }
        Some(source)
    }

    /// What is judged of the requests.
    fn over(&mut self, correlation: &Correlation, derive: &Derive, mark: Mark) -> Option<Over> {
        let Derive {
            more_requests_than,
            or_requests,
            hours,
            quiet,
        } = *derive;
        let field = correlation.field.as_ref().map(|(name, _)| name.as_str());
        let group: Vec<&str> = correlation
            .group_by
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let requests = more_requests_than.map_or(0, |(number, _)| number);
        let at = |at: At<u64>| at.map(|(_, mark)| mark);
        match (group.as_slice(), field) {
            ([group @ ("source.prefix" | "source.peer")], Some("source.address")) => {
                let other = at(or_requests)
                    .or(at(hours))
                    .or(quiet.map(|(_, mark)| mark));
                if let Some(mark) = other {
                    self.fail(
                        mark,
                        "derive: or_requests, hours and quiet are for group-by source.address: \
                         remove them",
                    );
                    return None;
                }
                Some(if *group == "source.prefix" {
                    Over::Prefix { requests }
                } else {
                    Over::Peer { requests }
                })
            }
            (["source.address"], Some("requestURI")) => {
                if let Some(mark) = at(more_requests_than) {
                    self.fail(
                        mark,
                        "derive: more_requests_than is for group-by source.prefix and source.peer: \
                         remove it",
                    );
                    return None;
                }
                Some(Over::Address {
                    or_requests: or_requests.map_or(u64::MAX, |(number, _)| number),
                    hours: hours.map_or(1, |(number, _)| u32::try_from(number).unwrap_or(u32::MAX)),
                    quiet: quiet.map_or(QUIET, |(length, _)| length),
                })
            }
            _ => {
                self.fail(
                    mark,
                    "derive: expected a value_count of source.address grouped by source.prefix or \
                     source.peer, or of requestURI grouped by source.address",
                );
                None
            }
        }
    }
}
