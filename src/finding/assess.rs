//! How bad a finding is: its severity and labels, from what its requests look like.

use std::borrow::Cow;

use crate::{
    audit::time::Micros,
    proto::finding::Label,
    rules::{
        model::{self as rules, Detection, LabelKind, LabelSet},
        severity::Severity,
    },
    visible::quotable,
};

/// What is known of the requests of a finding.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Requests.
    pub(crate) requests: u64,
    /// Distinct paths.
    pub(crate) paths: u64,
    /// Distinct user agents.
    pub(crate) user_agents: u64,
    /// Labels that at least one request has, in the order of the detection.
    pub(crate) labels: Vec<LabelSeen>,
    /// Labels that every request has.
    pub(crate) all: LabelSet,
    /// Requests that succeeded.
    pub(crate) successes: u64,
}

/// What is known of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelSeen {
    /// Its place in the detection.
    pub(crate) place: usize,
    /// Requests that have it.
    pub(crate) requests: u64,
    /// Event time of the first of them.
    pub(crate) first: Micros,
    /// The first of them: verb, path and user agent.
    pub(crate) example: String,
}

/// What labels say of a finding.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assessment {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// The labels that it has.
    pub(crate) labels: Vec<Label>,
    /// Why, one sentence each.
    pub(crate) reasons: Vec<String>,
}

/// Bytes of an example in a reason. The label itself has it whole.
const REASON_BYTES: usize = 240;
/// Reasons of one finding: those of the greatest severities.
const MOST_REASONS: usize = 10;

/// The reason of a finding in which no label asks for a severity, up to the level.
const PLAIN: &str = "No label asks for more than the level of the rule, ";

/// Whether a reason only says that there is none.
pub(super) fn is_plain(reason: &str) -> bool {
    reason.starts_with(PLAIN)
}

/// How the earliest request with a label is shown, in `LabelSeen::example`.
pub(crate) fn example(verb: &str, path: &str, user_agent: &str) -> String {
    let agent = match user_agent {
        "" => Cow::Borrowed("no user agent"),
        agent => word(agent),
    };
    [verb, path, &format!("({agent})")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A value as it stands among words: quoted where it could be taken for sentences.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    if is_prose(text) {
        Cow::Owned(format!("\"{}\"", quotable(text, usize::MAX)))
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether a value could be taken for sentences of the message that it stands in: then it is quoted,
/// for a client chooses it.
pub(super) fn is_prose(text: &str) -> bool {
    let (mut open, mut before) = (0_u32, ' ');
    for letter in text.chars() {
        let is_end = match before {
            '.' | '!' | '?' => true,
            ';' | ':' => open == 0,
            _ => false,
        };
        if letter == ')' && open == 0 || is_end && letter.is_whitespace() {
            return true;
        }
        match letter {
            '(' => open = open.saturating_add(1),
            ')' => open = open.saturating_sub(1),
            _ => {}
        }
        before = letter;
    }
    open > 0
}

/// What the labels of a detection say of a finding; `None` when it has no labels and nothing
/// succeeded, so that the level of the rule stands.
///
/// The severity is that of the rule, or the greatest that a label of the finding asks for; critical
/// once a request succeeded; informational while a benign cause holds and no other label asks for a
/// severity. It never falls as requests are added: only benign causes have upper bounds, and they
/// have no lower ones, which the loader of rules sees to. It falls when requests turn out to be
/// counted for their client already.
pub(crate) fn assess(detection: &Detection, seen: &Seen) -> Option<Assessment> {
    if detection.labels.is_empty() && seen.successes == 0 {
        return None;
    }
    let level = detection.annotations.level.parse();
    let base: Severity = level.unwrap_or(Severity::Low);
    let held = Held::of(detection, seen);
    let mut asked = held.asking();
    // The greatest first, otherwise in the order of the rule.
    asked.sort_by_key(|(severity, ..)| std::cmp::Reverse(*severity));
    let mut reasons = Vec::new();
    let greatest = asked.first().map(|(severity, ..)| *severity);
    let severity = if seen.successes > 0 {
        reasons.push(succeeded(seen.successes));
        Severity::Critical
    } else {
        match (greatest, held.benign()) {
            (Some(greatest), _) => greatest.max(base),
            (None, Some((cause, example))) => {
                reasons.push(benign(cause, seen, example));
                Severity::Informational
            }
            (None, None) => base,
        }
    };
    // What asks for no more than the rule says is a reason only if nothing else is.
    let least = greatest.map_or(base, |greatest| greatest.min(base.next()));
    let asked = asked.iter().filter(|(severity, ..)| *severity >= least);
    reasons.extend(asked.map(|(_, label, of)| asks(label, of, seen)));
    if reasons.is_empty() {
        reasons.push(format!("{PLAIN}{}.", base.as_str()));
    }
    reasons.truncate(MOST_REASONS);
    Some(Assessment {
        severity,
        labels: held.labels(),
        reasons,
    })
}

type Has<'a> = (&'a rules::Label, &'a LabelSeen);

/// The labels of a finding, in the order of its rule.
struct Held<'a> {
    labels: Vec<Has<'a>>,
    /// Those that a benign cause explains.
    explained: LabelSet,
}

impl<'a> Held<'a> {
    fn of(detection: &'a Detection, seen: &'a Seen) -> Self {
        let mut held = Self {
            labels: Vec::new(),
            explained: LabelSet::default(),
        };
        for of in &seen.labels {
            let Some(label) = detection.labels.get(of.place) else {
                continue;
            };
            if label.is_joined {
                let others = seen.requests.saturating_sub(of.requests);
                if others > detection.threshold {
                    continue;
                }
                // What the requests are after counts where their client is.
                held.explained = LabelSet(u64::MAX);
            } else if !holds(label, of, seen) {
                continue;
            }
            let LabelSet(explained) = label.bounds.explains;
            held.explained.0 |= explained;
            held.labels.push((label, of));
        }
        held
    }

    /// The labels that ask for a severity.
    fn asking(&self) -> Vec<(Severity, &'a rules::Label, &'a LabelSeen)> {
        let labels = self.labels.iter().filter_map(|(label, of)| {
            let is_explained = self.explained.contains(of.place);
            let severity = label.severity.filter(|_| !is_explained)?;
            Some((severity, *label, *of))
        });
        labels.collect()
    }

    /// The first benign cause, or the one that explains all labels.
    fn benign(&self) -> Option<Has<'a>> {
        let causes = self.labels.iter();
        let causes = causes.filter(|(label, _)| label.kind == LabelKind::Benign);
        causes.min_by_key(|(label, _)| !label.is_joined).copied()
    }

    fn labels(&self) -> Vec<Label> {
        let labels = self.labels.iter().map(|(label, of)| {
            let severity = match label.kind {
                LabelKind::Benign => Some(Severity::Informational),
                _ => label.severity,
            };
            Label {
                name: label.name.clone(),
                kind: label.kind.as_str().to_owned(),
                title: label.title.clone(),
                severity: severity.map_or("", Severity::as_str).to_owned(),
                count: of.requests,
                first_time: Some(of.first.to_proto()),
                // Texts of a request that is joined after it was counted are not at hand.
                example: if label.is_joined {
                    String::new()
                } else {
                    of.example.clone()
                },
            }
        });
        labels.collect()
    }
}

/// Whether a finding has a label that at least one of its requests has.
fn holds(label: &rules::Label, of: &LabelSeen, seen: &Seen) -> bool {
    let bounds = &label.bounds;
    let least = |bound: Option<u64>, number: u64| bound.is_none_or(|bound| number >= bound);
    let most = |bound: Option<u64>, number: u64| bound.is_none_or(|bound| number <= bound);
    let is_whole = label.kind != LabelKind::Benign || seen.all.contains(of.place);
    is_whole
        && least(bounds.min_requests, of.requests)
        && least(bounds.min_paths, seen.paths)
        && least(bounds.min_user_agents, seen.user_agents)
        && most(bounds.max_requests, seen.requests)
        && most(bounds.max_paths, seen.paths)
        && bounds
            .max_requests_per_path
            .is_none_or(|bound| seen.requests <= bound.saturating_mul(seen.paths))
        && most(bounds.max_user_agents, seen.user_agents)
}

/// The reason of a finding with successes, before it is known what they were.
pub(super) fn succeeded(successes: u64) -> String {
    match successes {
        1 => "A request from this address succeeded.".to_owned(),
        many => format!("{many} requests from this address succeeded."),
    }
}

/// Why the severity is informational.
fn benign(label: &rules::Label, seen: &Seen, of: &LabelSeen) -> String {
    if label.is_joined {
        return format!(
            "{}: {} of {}, with the audit id, verb and path of one that is counted for its client.",
            label.title,
            of.requests,
            counted(seen.requests, "request"),
        );
    }
    format!(
        "{}: all {}, {}, for example {}.",
        label.title,
        counted(seen.requests, "request"),
        counted(seen.paths, "path"),
        shown(&of.example)
    )
}

/// Why a label asks for its severity.
fn asks(label: &rules::Label, of: &LabelSeen, seen: &Seen) -> String {
    if label.bounds.min_paths.is_some() && of.requests == seen.requests {
        return format!(
            "{}: {} in {}.",
            label.title,
            counted(seen.paths, "path"),
            counted(seen.requests, "request")
        );
    }
    let all = counted(seen.requests, "request");
    let many = if of.requests == seen.requests {
        format!("all {all}")
    } else {
        format!("{} of {all}", of.requests)
    };
    format!("{}: {many}, the first {}.", label.title, shown(&of.example))
}

fn counted(number: u64, noun: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{end}")
}

/// An example, cut.
fn shown(example: &str) -> String {
    let kept = example.get(..example.floor_char_boundary(REASON_BYTES));
    match kept {
        Some(kept) if kept.len() < example.len() => format!("{kept}..."),
        _ => example.to_owned(),
    }
}

#[cfg(test)]
mod tests;
