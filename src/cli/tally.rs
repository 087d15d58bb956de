//! Counts of what a scan read, and of what it could not read.

use std::path::Path;

use crate::{
    detection::{
        event::Event,
        json::{self, Kind},
        rows::MOST_ADDRESSES,
        rule::Rule,
    },
    visible,
};

/// How many line numbers a complaint names.
const NAMED_LINES: usize = 5;

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
}

impl Tally {
    /// Takes a line longer than is read.
    pub(super) fn too_long(&mut self, place: &Place<'_>) {
        self.too_long.add(place);
    }

    /// Takes a line, and shows each event in it.
    pub(super) fn line(
        &mut self,
        place: &Place<'_>,
        line: &[u8],
        rule: &Rule,
        show: &mut dyn FnMut(&Event<'_>, &Rule),
    ) {
        if is_blank(line) {
            return;
        }
        let mut events = 0;
        let read = json::visit(line, &rule.time_field, &mut |event| {
            events += 1;
            show(&event, rule);
        });
        self.events += events;
        match read {
            Ok(Kind::Event | Kind::List(0)) => {}
            Ok(Kind::List(_) | Kind::Other) => self.no_event.add(place),
            Err(_) => self.no_json.add(place),
        }
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

/// Whether a line holds nothing but blanks.
fn is_blank(line: &[u8]) -> bool {
    match line.trim_ascii_start().first() {
        None => true,
        // There are blanks beyond those of ASCII, which hardly any line begins with.
        Some(0x0b | 0x80..) => String::from_utf8_lossy(line).trim().is_empty(),
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
