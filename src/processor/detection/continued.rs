//! A detection that continues from where another was, whose settings differ: after a reload.

use std::sync::Arc;

use super::{Detection, Recall};
use crate::{
    detection::{emission::Emission, engine::Stats, hit::Hit, screen::Screen, time::Micros},
    rules::model,
};

/// The rule id and the fingerprint of each detection.
pub type Known = Vec<(String, String)>;

/// For each detection of other settings, the place of the same one here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(Vec<Option<u32>>);

impl Places {
    /// From the detections of this screen to those of that one.
    pub fn between_screens(before: &Screen, now: &Screen) -> Self {
        Self::between(&known(before), &known(now))
    }

    /// From these detections to those.
    pub fn between(before: &Known, now: &Known) -> Self {
        let place = |known| now.iter().position(|here| here == known);
        let places = before.iter().map(place);
        let narrow = |place| u32::try_from(place).ok();
        Self(places.map(|place| place.and_then(narrow)).collect())
    }

    /// The place here of the one that is at this place there.
    pub fn of(&self, place: u32) -> Option<u32> {
        *self.0.get(usize::try_from(place).ok()?)?
    }

    /// Hits as they name detections here, without those of detections that are not here.
    pub fn moved(&self, hits: Vec<Hit>) -> Vec<Hit> {
        let moved = hits.into_iter().filter_map(|mut hit| {
            hit.detection = self.of(hit.detection)?;
            Some(hit)
        });
        moved.collect()
    }
}

/// The rule id and the fingerprint of each detection of a screen.
pub(super) fn known(screen: &Screen) -> Known {
    let detections = screen.detections().iter();
    let known = detections.map(|one| (one.annotations.id.clone(), one.fingerprint.clone()));
    known.collect()
}

/// Detections that are not here any more, with what they had open.
pub struct Ended {
    detection: Detection,
    remaining: Vec<Arc<model::Detection>>,
}

impl Ended {
    /// Closes some of what they had open; whether that was all.
    pub fn drain(&mut self, steps: usize) -> (Vec<Emission>, bool) {
        let (mut findings, is_all) = self.detection.drain(steps);
        findings.retain(|emission| {
            let mut remaining = self.remaining.iter();
            !remaining.any(|one| is_same(one, &emission.detection))
        });
        (findings, is_all)
    }
}

impl Detection {
    /// Continues from where another one was. A detection whose settings shape its state in the same
    /// way keeps its windows and its open findings. The others begin at this time; what they had open
    /// is handed back, to be closed.
    pub fn continue_from(&mut self, mut other: Self, now: Micros) -> Option<Ended> {
        let (before, here) = (other.known(), self.known());
        let places = Places::between(&before, &here);
        self.ended = other.ended;
        for (known, stats) in before.iter().zip(other.engine.stats_by_detection()) {
            if !here.contains(known) {
                self.ended += Stats {
                    // A bound, which is none of others.
                    evicted_hits: 0,
                    ..stats
                };
            }
        }
        let is_ended = before.iter().any(|known| !here.contains(known));
        let is_begun = here.iter().any(|known| !before.contains(known));
        self.recall = match std::mem::take(&mut other.recall) {
            Recall::Later(hits) => Recall::Later(places.moved(hits)),
            recall => recall,
        };
        self.watch
            .continue_from(&other.watch, |place| places.of(place));
        self.gate.continue_from(&other.gate);
        let started = other.engine.started();
        let ended = if is_ended {
            other.share();
            self.engine.import(other.engine.export());
            other.recall = Recall::Never;
            Some(Ended {
                detection: other,
                remaining: self.screen.detections().to_vec(),
            })
        } else {
            self.engine.import(other.engine.into_state());
            None
        };
        if let Some(time) = if is_begun { Some(now) } else { started } {
            self.engine.started_at(time);
        }
        let changes = self.engine.changes();
        self.watch.apply(&changes);
        ended
    }

    /// Names of the detections here that the other does not have, or has with settings that shape
    /// their state in another way: their windows begin anew.
    pub fn begun_since(&self, before: &Known) -> Vec<String> {
        let here = self.screen.detections().iter().zip(self.known());
        let begun = here.filter(|(_, known)| !before.contains(known));
        begun.map(|(one, _)| one.name().to_owned()).collect()
    }
}

fn is_same(one: &model::Detection, other: &model::Detection) -> bool {
    one.fingerprint == other.fingerprint && one.annotations.id == other.annotations.id
}
