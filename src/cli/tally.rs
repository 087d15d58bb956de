//! What a scan read, and what it could not.

use std::path::Path;

use crate::{
    detection::{
        event::Event,
        json::{self, Document},
        rule::Rule,
    },
    visible,
};

/// How many line numbers a complaint names.
const NAMED_LINES: usize = 5;

/// What was read besides what matched.
#[derive(Default)]
pub(super) struct Tally {
    /// Events that were read, whatever became of them.
    pub(super) events: u64,
    /// Events that count but have no readable time.
    pub(super) untimed: u64,
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
        let text = String::from_utf8_lossy(line);
        if text.trim().is_empty() {
            return;
        }
        match json::read(&text, &rule.time_field) {
            Ok(Document::Event(event)) => {
                self.events += 1;
                show(&event, rule);
            }
            Ok(Document::List(events, others)) => {
                self.events += events.len() as u64;
                for event in &events {
                    show(event, rule);
                }
                if others > 0 {
                    self.no_event.add(place);
                }
            }
            Ok(Document::Other) => self.no_event.add(place),
            Err(_) => self.no_json.add(place),
        }
    }

    /// What was left out of what could be read, each as a sentence without its end.
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
        complaints
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
