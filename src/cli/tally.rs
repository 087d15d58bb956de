//! Counts of what a scan read, and of what it could not read.

use std::path::Path;

use crate::{
    detection::{
        envelope::{Found, Joined, Opener, Outcome, Parts, Reason, Source, split},
        event::Event,
        fields::AuditField,
        json,
        rows::MOST_ADDRESSES,
        rule::Rule,
        shapes::{self, Shapes},
    },
    visible,
};

/// How many line numbers a complaint names.
const NAMED_LINES: usize = 5;
/// Of lines without an event the shape of one in this many is described.
const SHAPED: u64 = 100;
/// In an audit log of at least [`LEAST`] lines, one in this many holds an event.
const FEW: u64 = 100;
const LEAST: u64 = 10;

/// The file at hand: the log of one container.
const FILE: Source = Source {
    hash: 0,
    is_certain: true,
};

/// Takes an event.
type Show<'s> = &'s mut dyn FnMut(&Event<'_>, &Rule);

/// Counts of records and events.
#[derive(Default)]
pub(super) struct Tally {
    /// Events that were read, whatever became of them.
    pub(super) events: u64,
    /// Events that count but have no readable time.
    pub(super) untimed: u64,
    /// Events times addresses that were left out because there are too many addresses.
    pub(super) left_out: u64,
    /// Files that cannot be read, and why.
    pub(super) unreadable: Vec<String>,
    no_json: Places,
    no_event: Places,
    too_long: Places,
    /// What was in lines that are no plain events.
    opened: Outcome,
    /// The same of lines that hold events as well.
    beside: Outcome,
    /// What lines without an event look like.
    shapes: Shapes,
    /// Lines of containers that have not ended.
    parts: Parts<()>,
}

impl Tally {
    /// Takes a line longer than is read.
    pub(super) fn too_long(&mut self, place: &Place<'_>) {
        self.too_long.add(place);
    }

    /// Takes a line, and shows each event in it.
    pub(super) fn line(&mut self, place: &Place<'_>, line: &[u8], rule: &Rule, show: Show<'_>) {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        if is_blank(line) {
            return;
        }
        match json::one(line, &rule.time_field) {
            // Of one with a code, a rule may ask for no more than that.
            Ok(Some(event))
                if event.is_audit_event() || event.field(AuditField::Code).value().is_some() =>
            {
                self.events += 1;
                show(&event, rule);
            }
            // Also a list of plain events: others may be among them.
            Ok(_) => {
                if !self.open(line, rule, show) {
                    self.ignore(line, rule);
                    self.no_event.add(place);
                }
            }
            Err(_) => match self.join(line) {
                Joined::Kept => {}
                Joined::Line(whole) => self.open_broken(place, &whole, rule, show),
                Joined::Alone => self.open_broken(place, line, rule, show),
            },
        }
    }

    /// Takes the end of a file.
    pub(super) fn end_file(&mut self, place: &Place<'_>, rule: &Rule, show: Show<'_>) {
        for ((), line) in self.parts.rest() {
            self.open_broken(place, &line, rule, show);
        }
    }

    fn open_broken(&mut self, place: &Place<'_>, line: &[u8], rule: &Rule, show: Show<'_>) {
        if !self.open(line, rule, show) {
            self.ignore(line, rule);
            self.no_json.add(place);
        }
    }

    /// Opens what is around events; whether any were in it.
    fn open(&mut self, line: &[u8], rule: &Rule, show: Show<'_>) -> bool {
        let mut events = 0;
        let mut found = |found: &Found<'_>| {
            let mut time = String::new();
            if let Some(event) = found.event(&rule.time_field, &mut time) {
                events += 1;
                show(&event, rule);
            }
        };
        let mut opener = Opener::new(&mut found);
        opener.open_text(line, None);
        let outcome = opener.outcome;
        self.opened.add(&outcome);
        if events > 0 {
            self.beside.add(&outcome);
        }
        self.events += events;
        // A message of the transport is nothing to complain about.
        events > 0 || outcome.all_ignored() == outcome.ignored(Reason::Control)
    }

    fn join(&mut self, line: &[u8]) -> Joined {
        let joined = match split(line) {
            Some(line) if line.is_part || !self.parts.is_empty() => {
                self.parts.take(FILE, &line, || ())
            }
            _ => Joined::Alone,
        };
        for _ in 0..self.parts.given_up() {
            self.opened.cut += 1;
            self.opened.ignore(Reason::Cut);
        }
        joined
    }

    fn ignore(&mut self, line: &[u8], rule: &Rule) {
        if (self.no_event.count() + self.no_json.count()).is_multiple_of(SHAPED) {
            self.shapes.add(shapes::text_shape(line, &rule.time_field));
        }
    }

    /// That this is no audit log, if so: nothing of it was an audit event, or very little.
    pub(super) fn foreign(&self) -> Option<String> {
        let ignored = self.no_event.count() + self.no_json.count() + self.too_long.count();
        let lines = ignored.saturating_add(self.events);
        let are_few = lines >= LEAST && self.events.saturating_mul(FEW) < lines;
        if ignored == 0 || self.events > 0 && !are_few {
            return None;
        }
        let reasons: Vec<_> = Reason::ALL
            .into_iter()
            .map(|reason| (reason.name(), self.opened.ignored(reason)))
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let seen = self.shapes.to_string();
        let seen = if seen.is_empty() {
            "lines longer than 64 MiB"
        } else {
            &seen
        };
        Some(format!(
            "this is no audit log, or not in a form that is read: {} events in it, and {ignored} lines without \
             one ({}); seen: {seen}; give the audit log of the API server, one event a line or in an envelope \
             that docs/feeds.md names",
            self.events,
            reasons.join(", "),
        ))
    }

    /// What was skipped, each as a clause of a sentence.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (places, one, many) in [
            (&self.no_json, "that is not JSON", "that are not JSON"),
            (
                &self.no_event,
                "that holds something else than events",
                "that hold something else than events",
            ),
            (&self.too_long, "longer than 64 MiB", "longer than 64 MiB"),
        ] {
            complaints.extend(places.complaint(one, many));
        }
        for reason in Reason::ALL {
            let Some(why) = passed_over(reason) else {
                continue;
            };
            // Of lines with nothing else in them it was said above.
            let is_said = matches!(reason, Reason::Empty | Reason::NoJson | Reason::NoEvent);
            let of = if is_said { &self.beside } else { &self.opened };
            match of.ignored(reason) {
                0 => {}
                1 => complaints.push(format!("passed over 1 record: {why}")),
                count => complaints.push(format!("passed over {count} records: {why}")),
            }
        }
        match self.opened.cut {
            0 => {}
            1 => complaints.push("1 event was cut on its way".to_owned()),
            count => complaints.push(format!("{count} events were cut on their way")),
        }
        if self.untimed > 0 {
            complaints.push(format!(
                "left out {} events that count but have no readable time",
                self.untimed
            ));
        }
        if self.left_out > 0 {
            complaints.push(format!(
                "left out {} requests of further addresses, there are more than {MOST_ADDRESSES}: \
                 addresses may be missing, read the log in parts",
                self.left_out
            ));
        }
        complaints
    }
}

/// Why records of this kind, or parts of them, were passed over, if that is worth a word.
fn passed_over(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::Empty => "empty, beside events in the same line",
        Reason::NoJson => "not JSON, beside events in the same line",
        Reason::NoEvent => "something else than an event, beside events in the same line",
        // A message of the transport is nothing to complain about.
        Reason::Control => return None,
        Reason::Category => "of another category than the audit log of Kubernetes",
        Reason::Cut => "cut on its way before the user, address, URI or status code",
        Reason::TooLarge => "more than 16 MiB to decode",
        Reason::TooDeep => "more than eight envelopes inside each other",
    })
}

/// Whether a line holds nothing but blanks.
fn is_blank(line: &[u8]) -> bool {
    match line.trim_ascii_start().first() {
        None => true,
        // There are blanks beyond those of ASCII, which hardly any line begins with.
        Some(0x0b | 0x80..) => line
            .utf8_chunks()
            .all(|chunk| chunk.invalid().is_empty() && chunk.valid().trim().is_empty()),
        Some(_) => false,
    }
}

/// A line of a file.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) number: u64,
}

/// Lines to complain about: all counted, the first ones named.
#[derive(Default)]
pub(super) struct Places {
    count: u64,
    first: Vec<String>,
}

impl Places {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What is wrong with them, if there are any: of one, of many.
    pub(super) fn complaint(&self, one: &str, many: &str) -> Option<String> {
        let named = self.named();
        match self.count {
            0 => None,
            1 => Some(format!("skipped 1 line {one}: {named}")),
            count => Some(format!("skipped {count} lines {many}: {named}")),
        }
    }

    pub(super) fn add(&mut self, place: &Place<'_>) {
        self.count += 1;
        if self.first.len() < NAMED_LINES {
            self.first
                .push(format!("{}:{}", visible::path(place.path), place.number));
        }
    }

    fn named(&self) -> String {
        let more = if self.count > self.first.len() as u64 {
            ", ..."
        } else {
            ""
        };
        self.first.join(", ") + more
    }
}
