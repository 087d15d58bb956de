//! Rules and correlations of all files become detections: names are resolved, keys that do not go
//! together are refused.

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest, Sha256};

use super::{
    blind_spot::Spot,
    custom::{self, Custom, WindowKind},
    document::{Alias, Body, Correlation, Counted, Document},
    labels,
    mode::Mode,
    reader::{hint, quoted},
};
use crate::{
    audit::{path::Path, text::hex},
    rules::{
        derived::{Derived, Hops},
        labeler::Labeler,
        model::{Aggregate, Dedup, Detection, Emit, FollowUp, GroupBy, Part, Window},
        predicate::{Condition, Operand},
        settings::{Rule, SECOND},
    },
    yaml::{Mark, Problem},
};

/// The group of a rule that names none.
const GROUP: [&str; 2] = ["source.address", "user.username"];
/// The window of a rule that names none.
const WINDOW: i64 = 3600 * SECOND;
/// Fields of a group, and rules of a correlation.
const MOST: usize = 64;

/// A rule or correlation that was linked.
pub(super) struct Linked {
    pub(super) detection: Detection,
    /// Whether it makes findings of its own: a rule that only a correlation counts does not.
    pub(super) reports: bool,
}

/// What links documents.
pub(super) struct Linker<'d> {
    pub(super) settings: &'d Rule,
    pub(super) mode: Mode,
    pub(super) problems: Vec<Problem>,
}

pub(super) type Names<'d> = BTreeMap<&'d str, usize>;

impl Linker<'_> {
    /// Links all documents; those that are wrong are left out.
    pub(super) fn link(&mut self, documents: &[Document]) -> Vec<Option<Linked>> {
        let names = self.names(documents);
        let mut counted = vec![false; documents.len()];
        for document in documents {
            if let Some((follow_up, _)) = &document.custom.follow_up
                && let Some(at) = names.get(follow_up.rule.0.as_str())
                && let Some(counted) = counted.get_mut(*at)
            {
                *counted = true;
            }
            let Body::Correlation(correlation) = &document.body else {
                continue;
            };
            for (rule, _) in &correlation.rules {
                if let Some(at) = names.get(rule.as_str())
                    && let Some(counted) = counted.get_mut(*at)
                {
                    *counted |= !correlation.generate;
                }
            }
        }
        let linked = documents.iter().zip(counted).map(|(document, counted)| {
            // Of a correlation the requests are taken, and it may report as well.
            if let (Some((_, mark)), Body::Rule(_)) = (&document.custom.labels, &document.body)
                && counted
            {
                self.fail(
                    *mark,
                    "labels: this rule makes no findings, a correlation counts it: write the labels \
                     there",
                );
            }
            let detection = match &document.body {
                Body::Rule(condition) => self.rule(document, condition),
                Body::Correlation(correlation) => {
                    self.correlation(document, correlation, documents, &names)
                }
                Body::BlindSpot(spot) => self.blind_spot(document, spot),
            };
            Some(Linked {
                detection: detection?,
                reports: !counted,
            })
        });
        linked.collect()
    }

    pub(super) fn fail(&mut self, mark: Mark, text: impl Into<String>) {
        self.problems.push(Problem::new(mark, text));
    }

    /// Documents by identifier, name and title. Reports those that are not unique.
    fn names<'d>(&mut self, documents: &'d [Document]) -> Names<'d> {
        let mut names = Names::new();
        for (at, document) in documents.iter().enumerate() {
            for (name, mark) in &document.names {
                match names.get(name.as_str()) {
                    Some(other) if *other != at => {
                        let variant = |at: usize| documents.get(at)?.custom.variant.as_ref();
                        let are_variants = variant(*other).is_some()
                            && variant(at).is_some()
                            && variant(*other) != variant(at);
                        if are_variants && self.mode != Mode::Run {
                            continue;
                        }
                        let text = format!(
                            "{} is the id, name or title of another rule: each rule needs its own",
                            quoted(name)
                        );
                        self.fail(*mark, text);
                    }
                    _ => {
                        names.insert(name, at);
                    }
                }
            }
        }
        names
    }

    fn rule(&mut self, document: &Document, condition: &Condition) -> Option<Detection> {
        let custom = &document.custom;
        if let Some((_, mark)) = custom.follow_up {
            self.fail(mark, "follow_up is for correlations: remove it");
            return None;
        }
        let default = GROUP.iter().map(|name| ((*name).to_owned(), document.mark));
        let default = default_group(default.collect(), custom);
        let group_by = custom
            .group_by
            .as_ref()
            .map_or(default, |(names, _)| names.clone());
        let names = group_names(&group_by);
        let fields = self.operands(&group_by)?;
        let part = Part {
            name: name_of(document),
            condition: condition.clone(),
            group_by: fields,
            value: None,
        };
        let length = custom.window.map_or(WINDOW, |(length, _)| length);
        self.detection(
            document,
            Shape {
                parts: vec![part],
                names,
                length,
                aggregate: Aggregate::Events,
                threshold: 0,
            },
        )
    }

    /// A rule about the feed of a cluster: no event matches it.
    fn blind_spot(&mut self, document: &Document, spot: &Spot) -> Option<Detection> {
        let custom = &document.custom;
        if custom.group_by.is_some() || custom.window_kind.is_some() || !custom.cases.is_empty() {
            self.fail(
                spot.mark,
                "blind_spot is about the feed of a cluster, not about events: remove group_by, the \
                 kind of the window, and tests",
            );
            return None;
        }
        let mut detection = self.detection(
            document,
            Shape {
                parts: Vec::new(),
                names: Vec::new(),
                length: custom.window.map_or(WINDOW, |(length, _)| length),
                aggregate: Aggregate::Events,
                threshold: spot.above,
            },
        )?;
        detection.blind_spot = Some(spot.rule);
        Some(detection)
    }

    pub(super) fn correlation(
        &mut self,
        document: &Document,
        correlation: &Correlation,
        documents: &[Document],
        names: &Names<'_>,
    ) -> Option<Detection> {
        let custom = &document.custom;
        for (at, what) in [
            (
                custom.group_by.as_ref().map(|(_, mark)| *mark),
                "group_by: a correlation has group-by: write it there",
            ),
            (
                custom.window.map(|(_, mark)| mark),
                "window: the length of a correlation is its timespan: write it there",
            ),
            (
                custom
                    .emit
                    .and_then(|(emit, mark)| (emit == Emit::Each).then_some(mark)),
                "emit: each is for rules without a correlation: remove it",
            ),
        ] {
            if let Some(mark) = at {
                self.fail(mark, what);
                return None;
            }
        }
        if correlation.rules.len() > MOST {
            let mark = correlation
                .rules
                .first()
                .map_or(document.mark, |(_, mark)| *mark);
            self.fail(mark, format!("rules: more than {MOST} of them"));
            return None;
        }
        if custom.derive.is_some() {
            return self.derived(document, correlation, documents, names);
        }
        self.check_aliases(correlation, documents, names)?;
        let mut parts = Vec::new();
        for (name, mark) in &correlation.rules {
            parts.push(self.part((name, *mark), correlation, documents, names)?);
        }
        let (aggregate, threshold) = match (correlation.counted, correlation.threshold) {
            (Counted::Events, threshold) => (Aggregate::Events, threshold.unwrap_or(0)),
            (Counted::Values, threshold) => (Aggregate::Values, threshold.unwrap_or(0)),
            (Counted::Rules, threshold) => {
                let all = (parts.len() as u64).saturating_sub(1);
                if threshold.is_some_and(|threshold| threshold > all) {
                    self.fail(
                        document.mark,
                        format!("condition: there are only {} rules", parts.len()),
                    );
                    return None;
                }
                (Aggregate::Values, threshold.unwrap_or(all))
            }
        };
        let mut detection = self.detection(
            document,
            Shape {
                parts,
                names: group_names(&correlation.group_by),
                length: correlation.timespan,
                aggregate,
                threshold,
            },
        )?;
        if custom.follow_up.is_some() {
            let follow_up = self.follow_up(document, correlation, documents, names)?;
            detection.follow_up = Some(follow_up);
        }
        Some(detection)
    }

    /// The rule of the requests that a correlation follows up, grouped as its findings are.
    fn follow_up(
        &mut self,
        document: &Document,
        correlation: &Correlation,
        documents: &[Document],
        names: &Names<'_>,
    ) -> Option<FollowUp> {
        let (custom::FollowUp { rule, window }, mark) = document.custom.follow_up.as_ref()?;
        let is_by_address = correlation
            .group_by
            .iter()
            .any(|(name, _)| name == "source.address");
        let is_tumbling = document.custom.window_kind.map(|(kind, _)| kind);
        if !is_by_address || is_tumbling == Some(WindowKind::Tumbling) {
            self.fail(
                *mark,
                "follow_up is for sessions grouped by source.address: add that to group-by, or \
                 remove it",
            );
            return None;
        }
        let (name, mark) = rule;
        let part = self.part((name, *mark), correlation, documents, names)?;
        let own = documents.get(*names.get(name.as_str())?)?;
        let detection = self.detection(
            own,
            Shape {
                parts: vec![part],
                names: group_names(&correlation.group_by),
                length: correlation.timespan,
                aggregate: Aggregate::Events,
                threshold: 0,
            },
        )?;
        Some(FollowUp {
            detection: Arc::new(detection),
            window: *window,
        })
    }

    /// One rule of a correlation, with its own fields for the names of aliases.
    fn part(
        &mut self,
        (name, mark): (&str, Mark),
        correlation: &Correlation,
        documents: &[Document],
        names: &Names<'_>,
    ) -> Option<Part> {
        let found = names.get(name).and_then(|at| documents.get(*at));
        let Some(rule) = found else {
            let known: Vec<&str> = names.keys().copied().collect();
            let hint = hint(name, &known);
            self.fail(
                mark,
                format!(
                    "rules: no rule is named {}{hint}: load it with this file, by name, id or title",
                    quoted(name)
                ),
            );
            return None;
        };
        let Body::Rule(condition) = &rule.body else {
            self.fail(
                mark,
                format!(
                    "rules: {} is a correlation: name the rules that it counts",
                    quoted(name)
                ),
            );
            return None;
        };
        let aliased = |field: &(String, Mark)| -> (String, Mark) {
            let alias = correlation
                .aliases
                .iter()
                .find(|alias| alias.name == field.0);
            let own = alias.and_then(|alias| {
                let is_rule = |named: &str| rule.names.iter().any(|(name, _)| name == named);
                alias.fields.iter().find(|(rule, ..)| is_rule(rule))
            });
            own.map_or_else(|| field.clone(), |(_, path, mark)| (path.clone(), *mark))
        };
        let fields: Vec<_> = correlation.group_by.iter().map(aliased).collect();
        let group_by = self.operands(&fields)?;
        let value = match &correlation.field {
            Some(field) => self.operand(&aliased(field)),
            None => None,
        };
        Some(Part {
            name: name_of(rule),
            condition: condition.clone(),
            group_by,
            value,
        })
    }

    /// An alias names each rule of the correlation, and no other.
    fn check_aliases(
        &mut self,
        correlation: &Correlation,
        documents: &[Document],
        names: &Names<'_>,
    ) -> Option<()> {
        let at = |name: &str| names.get(name).copied();
        for Alias { name, fields } in &correlation.aliases {
            for (rule, _, mark) in fields {
                let is_counted = at(rule).is_some()
                    && correlation.rules.iter().any(|(own, _)| at(own) == at(rule));
                if !is_counted {
                    let known: Vec<&str> = correlation
                        .rules
                        .iter()
                        .map(|(rule, _)| rule.as_str())
                        .collect();
                    let hint = hint(rule, &known);
                    self.fail(
                        *mark,
                        format!(
                            "aliases: {name}: {} is no rule of this correlation{hint}",
                            quoted(rule)
                        ),
                    );
                    return None;
                }
            }
            for (rule, mark) in &correlation.rules {
                if at(rule).and_then(|at| documents.get(at)).is_some()
                    && fields.iter().all(|(own, ..)| at(own) != at(rule))
                {
                    self.fail(
                        *mark,
                        format!("aliases: {name} names no field of {}", quoted(rule)),
                    );
                    return None;
                }
            }
        }
        Some(())
    }

    /// Fields of a group; the cluster is part of each group already.
    fn operands(&mut self, fields: &[(String, Mark)]) -> Option<Vec<Operand>> {
        if fields.len() > MOST {
            let mark = fields.first().map(|(_, mark)| *mark)?;
            self.fail(mark, format!("more than {MOST} fields to group by"));
            return None;
        }
        let fields = fields.iter().filter(|(name, _)| name != "cluster");
        let operands: Vec<_> = fields.map(|field| self.operand(field)).collect();
        operands.into_iter().collect()
    }

    fn operand(&mut self, (name, mark): &(String, Mark)) -> Option<Operand> {
        if let Some(derived) = Derived::named(name) {
            return Some(Operand::Derived(derived));
        }
        if name.starts_with("source.") {
            let known = Derived::NAMES;
            let hint = hint(name, &known);
            self.fail(
                *mark,
                format!("no derived field is named {}{hint}", quoted(name)),
            );
            return None;
        }
        match Path::parse(name) {
            Ok(path) => Some(Operand::Field(path)),
            Err(error) => {
                self.fail(*mark, format!("{} is no path: {error}", quoted(name)));
                None
            }
        }
    }

    pub(super) fn detection(&mut self, document: &Document, shape: Shape) -> Option<Detection> {
        let custom = &document.custom;
        let Shape {
            parts,
            names,
            length,
            aggregate,
            threshold,
        } = shape;
        let kind = custom.window_kind.map(|(kind, _)| kind);
        let window = if kind == Some(WindowKind::Tumbling) {
            Window::Tumbling {
                length,
                offset: custom.window_offset.map_or(0, |(offset, _)| offset),
            }
        } else {
            if let Some((_, mark)) = custom.window_offset {
                self.fail(
                    mark,
                    "window_offset is for window: tumbling: add that, or remove it",
                );
                return None;
            }
            Window::Session { length }
        };
        self.check_labels(custom, window)?;
        if let Some(problem) = labels::misused_join(custom, &names, aggregate) {
            self.problems.push(problem);
            return None;
        }
        let group_by = self.group_by(custom, names, (window, aggregate))?;
        let parts_shape: Vec<String> = parts
            .iter()
            .map(|part| format!("{:?}", part.group_by))
            .collect();
        let hops = Hops {
            trusted_proxies: self.settings.trusted_proxies.clone(),
            ipv6_prefix: self.settings.ipv6_prefix,
        };
        let lateness = custom.lateness.unwrap_or(self.settings.lateness);
        let labels = custom.labels.as_ref().map(|(labels, _)| labels.clone());
        let labels = labels.unwrap_or_default();
        let mut text = format!(
            "{} {parts_shape:?} {window:?} {aggregate:?} {threshold} {:?} {hops:?} {lateness} {}",
            document.shape, custom.dedup, self.settings.time_field,
        );
        let conditions = labels.iter().map(|label| &label.condition);
        let labeler = Labeler::of(conditions);
        // State holds labels by their places.
        for label in &labels {
            text.push(' ');
            text.push_str(&label.name);
        }
        Some(Detection {
            annotations: document.annotations.clone(),
            parts,
            hops,
            group_by,
            window,
            aggregate,
            threshold,
            dedup: custom.dedup,
            emit: custom.emit.map_or(Emit::Finding, |(emit, _)| emit),
            labeler,
            labels,
            blind_spot: None,
            follow_up: None,
            lateness,
            derivation: None,
            fingerprint: hex(&Sha256::digest(text.as_bytes()), 8),
        })
    }
}

impl Linker<'_> {
    /// What a rule counts by.
    fn group_by(
        &mut self,
        custom: &Custom,
        names: Vec<String>,
        (window, aggregate): (Window, Aggregate),
    ) -> Option<GroupBy> {
        let Some((missing_city, mark)) = custom.missing_city else {
            return Some(GroupBy::Fields(names));
        };
        let is_located = names == ["sourceIPs"]
            && matches!(window, Window::Tumbling { .. })
            && custom.dedup == Dedup::None
            && aggregate == Aggregate::Events;
        if !is_located {
            self.fail(
                mark,
                "location is for event_count by sourceIPs with window: tumbling and \
                 dedup: none: write these, or remove it",
            );
            return None;
        }
        Some(GroupBy::Sources { missing_city })
    }

    /// Labels decide severity and score of a finding that grows.
    fn check_labels(&mut self, custom: &Custom, window: Window) -> Option<()> {
        let Some((_, mark)) = &custom.labels else {
            return Some(());
        };
        if let Window::Tumbling { .. } = window {
            self.fail(
                *mark,
                "labels are for window: session: remove them, or window: tumbling",
            );
            return None;
        }
        if custom.score.is_some() {
            self.fail(*mark, "labels decide the score: remove score");
            return None;
        }
        Some(())
    }
}

/// The differences between a rule and a correlation.
pub(super) struct Shape {
    pub(super) parts: Vec<Part>,
    pub(super) names: Vec<String>,
    pub(super) length: i64,
    pub(super) aggregate: Aggregate,
    pub(super) threshold: u64,
}

/// A rule by location has one field, and no default.
fn default_group(default: Vec<(String, Mark)>, custom: &Custom) -> Vec<(String, Mark)> {
    if custom.missing_city.is_some() {
        Vec::new()
    } else {
        default
    }
}

pub(super) fn group_names(fields: &[(String, Mark)]) -> Vec<String> {
    let names = fields.iter().map(|(name, _)| name.clone());
    names.filter(|name| name != "cluster").collect()
}

fn name_of(document: &Document) -> String {
    let annotations = &document.annotations;
    [&annotations.name, &annotations.id, &annotations.title]
        .into_iter()
        .find(|name| !name.is_empty())
        .cloned()
        .unwrap_or_default()
}
