//! Lines that a container runtime has divided among records. The parts of one request are put
//! together by resource, source and stream; what has not ended is read as far as it goes.

use std::sync::Arc;

use super::{
    super::{
        begun_lines::Begun,
        envelope::{self, Found, Joined, Opener, Outcome, Reason},
        feed::Feed,
    },
    ScreenVisitor,
};
use crate::pdata::Record;

impl ScreenVisitor {
    /// Puts the parts of a line together.
    pub(super) fn join(&mut self, record: &Record<'_>, text: &[u8]) -> Joined {
        if !text.first().is_some_and(u8::is_ascii_digit) {
            return Joined::Alone;
        }
        let Some(line) =
            envelope::split(text).filter(|line| line.is_part || !self.lines.parts.is_empty())
        else {
            return Joined::Alone;
        };
        let Some(source) = self.lines.source(record) else {
            return Joined::Alone;
        };
        let (named, selector) = (&self.named, &self.screen.rule.selector);
        let joined = self.lines.parts.take(source, &line, || Begun {
            time_unix_nano: record.time_unix_nano,
            observed_time_unix_nano: record.observed_time_unix_nano,
            cluster: named.current.as_ref().map(|name| Arc::clone(&name.cluster)),
            matched: selector.evaluate(&record.attributes()),
            resource: None,
        });
        let mut outcome = Outcome::default();
        for _ in 0..self.lines.parts.given_up() {
            outcome.cut += 1;
            outcome.ignore(Reason::Cut);
        }
        self.opened(record, &outcome);
        joined
    }

    /// Lines that have not ended in this request are read as far as they go, each as if its
    /// resource had come again.
    pub(super) fn end_lines(&mut self) {
        for (begun, line) in self.lines.parts.rest() {
            // That of the last record has nothing to do with it.
            self.feed = Feed::default();
            let (cluster, matched) = begun.resource.unwrap_or_default();
            self.cluster.clear();
            self.cluster.push_str(&cluster);
            if let Some(following) = &mut self.following {
                following.enter(cluster.as_bytes());
            }
            self.resource = matched;
            self.lines.matched = Some(begun.matched);
            let mut record = Record::empty();
            record.time_unix_nano = begun.time_unix_nano;
            record.observed_time_unix_nano = begun.observed_time_unix_nano;
            match begun.cluster {
                Some(name) => self.of_cluster(name.as_bytes(), false, |screen| {
                    screen.open_line(&record, &line);
                }),
                None => self.open_line(&record, &line),
            }
            self.end_resource();
            self.lines.matched = None;
        }
    }

    fn open_line(&mut self, record: &Record<'_>, line: &[u8]) {
        let mut show = |found: &Found<'_>| self.found(record, found);
        let mut opener = Opener::new(&mut show);
        opener.open_text(line, None);
        let outcome = opener.outcome;
        self.opened(record, &outcome);
    }
}
