//! When the requests came: bars over time, for all addresses and for the busiest ones.
//!
//! Places along the time are percentages and all else is in pixels, so a picture fills whatever
//! width there is and its words keep their size.

use std::fmt;

use maud::{Markup, html};

use super::{
    entry::Entry,
    shown::{Shown, counted, number},
};
use crate::detection::{rule::SECOND, time::Micros};

/// Bars of a picture, at most.
const MOST_BARS: i64 = 72;
/// Labels under it, at most.
const MOST_LABELS: i64 = 6;
/// Addresses with a picture of their own.
const MOST_STRIPS: usize = 20;
/// Heights in pixels.
const BARS: u64 = 150;
const STRIP: u64 = 22;

/// Lengths of a bar that people can count in, in seconds.
const STEPS: [i64; 22] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800, 1_209_600, 2_592_000,
];

const DAY: i64 = 86_400 * SECOND;

/// The kinds of requests, bottom to top.
const KINDS: [(&str, &str); 3] = [("c403", "403"), ("c401", "401"), ("other", "other codes")];

fn kind(code: u16) -> usize {
    match code {
        403 => 0,
        401 => 1,
        _ => 2,
    }
}

/// The shortest step that divides `length` into at most `most` steps.
fn step(length: i64, most: i64) -> i64 {
    let fits = |step: &i64| length / (step * SECOND) < most;
    STEPS.into_iter().find(fits).unwrap_or_else(|| {
        let mut step = STEPS.last().copied().unwrap_or(1);
        while !fits(&step) && step < i64::MAX / (4 * SECOND) {
            step *= 2;
        }
        step
    }) * SECOND
}

/// The time that all pictures show, cut into bars.
struct Axis {
    start: i64,
    step: i64,
    bars: i64,
}

impl Axis {
    fn new(first: Micros, last: Micros) -> Self {
        let step = step(last.0.saturating_sub(first.0), MOST_BARS - 1);
        let start = first.0.div_euclid(step) * step;
        Self {
            start,
            step,
            bars: last.0.saturating_sub(start) / step + 1,
        }
    }

    /// Requests of each kind, bar by bar.
    fn count<'a>(&self, times: impl IntoIterator<Item = &'a (Micros, u16)>) -> Vec<[u64; 3]> {
        let mut bars = vec![[0; 3]; usize::try_from(self.bars).unwrap_or(0)];
        for (time, code) in times {
            let at = usize::try_from(time.0.saturating_sub(self.start) / self.step);
            if let Some(count) = at
                .ok()
                .and_then(|at| bars.get_mut(at))
                .and_then(|bar| bar.get_mut(kind(*code)))
            {
                *count += 1;
            }
        }
        bars
    }

    /// A place along the axis.
    fn percent(&self, micros: i64) -> Percent {
        let all = i128::from(self.bars) * i128::from(self.step);
        Percent(i128::from(micros) * 10_000 / all.max(1))
    }

    /// Times that are named, and where they are.
    fn labels(&self) -> Vec<(Percent, String)> {
        let length = self.bars * self.step;
        let step = step(length, MOST_LABELS).max(self.step);
        let mut at = self.start.div_euclid(step) * step;
        let mut labels = Vec::new();
        while at < self.start + length {
            if at >= self.start {
                let text = Micros(at).to_string();
                let (date, time) = text.split_once('T').unwrap_or((&text, ""));
                let part = if step >= DAY {
                    date
                } else {
                    let shown = if step < 60 * SECOND { 8 } else { 5 };
                    time.get(..shown).unwrap_or(time)
                };
                labels.push((self.percent(at - self.start), part.to_owned()));
            }
            at = at.saturating_add(step);
        }
        labels
    }
}

/// Hundredths of a percent.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Percent(i128);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}%", self.0 / 100, self.0 % 100)
    }
}

/// The section: nothing without requests. The first `linked` entries have details to lead to.
pub(super) fn section(entries: &[Entry<'_>], linked: usize) -> Markup {
    let times = || entries.iter().flat_map(Entry::times);
    let (Some(first), Some(last)) = (
        times().map(|(time, _)| *time).min(),
        times().map(|(time, _)| *time).max(),
    ) else {
        return html! {};
    };
    let axis = Axis::new(first, last);
    let all = axis.count(times());
    let length = jiff::SignedDuration::from_micros(axis.step);
    let days = [first, last].map(|time| time.to_string().split('T').next().map(str::to_owned));
    html! {
        section aria-labelledby="timeline" {
            h2 id="timeline" { "Timeline" }
            p.note {
                @if let [Some(first), Some(last)] = &days {
                    (first) @if first != last { " to " (last) } ", UTC. "
                }
                "One bar is " (format!("{length:#}")) "."
            }
            (legend(&all))
            div.aligned[entries.len() > 1] { (picture(&axis, &all)) }
            @if entries.len() > 1 { (strips(&axis, entries, linked)) }
        }
    }
}

fn legend(bars: &[[u64; 3]]) -> Markup {
    html! {
        ul.legend {
            @for (kind, (class, name)) in KINDS.iter().enumerate() {
                @let count: u64 = bars.iter().filter_map(|bar| bar.get(kind)).sum();
                @if count > 0 {
                    li {
                        svg width="10" height="10" aria-hidden="true" {
                            rect class=(class) width="10" height="10" {}
                        }
                        (name) ": " (counted(count, "request", "requests"))
                    }
                }
            }
        }
    }
}

/// All requests, with lines and labels.
fn picture(axis: &Axis, bars: &[[u64; 3]]) -> Markup {
    let most = bars.iter().map(|bar| bar.iter().sum()).max().unwrap_or(0);
    let top = 18;
    let (bottom, height) = (top + BARS, top + BARS + 24);
    let half = most / 2;
    html! {
        svg.chart role="img" aria-labelledby="chart-title chart-desc" width="100%" height=(height) {
            title id="chart-title" { "Requests over time, in UTC" }
            desc id="chart-desc" {
                (counted(bars.iter().flatten().sum(), "request", "requests"))
                ", stacked by status code; the highest bar has " (number(most)) "."
            }
            @for value in [most, half] {
                @let y = bottom - height_of(value, most, BARS);
                @if value > 0 {
                    line.grid x1="0" x2="100%" y1=(y) y2=(y) {}
                    text x="0" y=(y - 4) { (number(value)) }
                }
            }
            (drawn(axis, bars, bottom, BARS))
            line.axis x1="0" x2="100%" y1=(bottom) y2=(bottom) {}
            @for (at, (place, label)) in axis.labels().iter().enumerate() {
                line.axis x1=(place) x2=(place) y1=(bottom) y2=(bottom + 4) {}
                text.odd[at % 2 == 1] x=(place) y=(bottom + 18) text-anchor=(anchor(*place)) {
                    (label)
                }
            }
        }
    }
}

/// Labels at the edges stay inside.
fn anchor(place: Percent) -> &'static str {
    match place.0 {
        ..700 => "start",
        9_300.. => "end",
        _ => "middle",
    }
}

/// Height of a bar of `count`, where `most` has the full height; a bar of at least 1 is visible.
fn height_of(count: u64, most: u64, height: u64) -> u64 {
    if count == 0 {
        0
    } else {
        (count * height / most.max(1)).max(2)
    }
}

/// The bars that are not empty, each with its numbers.
fn drawn(axis: &Axis, bars: &[[u64; 3]], bottom: u64, height: u64) -> Markup {
    let most = bars.iter().map(|bar| bar.iter().sum()).max().unwrap_or(0);
    // A little room between bars.
    let width = axis.percent(axis.step * 9 / 10);
    html! {
        @for (start, bar) in (0..).map(|at| at * axis.step).zip(bars) {
            @if bar.iter().sum::<u64>() > 0 {
                g {
                    title {
                        (crate::cli::table::second(Micros(axis.start + start)))
                        @for ((_, name), count) in KINDS.iter().zip(bar) {
                            @if *count > 0 { ", " (name) ": " (number(*count)) }
                        }
                    }
                    @for (class, y, height) in stacked(bar, most, bottom, height) {
                        rect class=(class) x=(axis.percent(start)) width=(width) y=(y)
                            height=(height) {}
                    }
                }
            }
        }
    }
}

/// Class, top and height of each part of a bar, from the bottom up.
fn stacked(
    bar: &[u64; 3],
    most: u64,
    bottom: u64,
    height: u64,
) -> impl Iterator<Item = (&'static str, u64, u64)> {
    let mut y = bottom;
    let parts = KINDS.iter().zip(*bar).filter(|(_, count)| *count > 0);
    parts.map(move |((class, _), count)| {
        let part = height_of(count, most, height);
        y = y.saturating_sub(part);
        (*class, y, part)
    })
}

/// The first addresses, the worst and busiest, one below the other on the same axis.
fn strips(axis: &Axis, entries: &[Entry<'_>], linked: usize) -> Markup {
    html! {
        h3 {
            @if entries.len() > MOST_STRIPS {
                @if entries.iter().any(|entry| entry.severity().is_some()) { "The worst and busiest " }
                @else { "The busiest " }
                (MOST_STRIPS)
            }
            @else { "Each address" }
        }
        p.note { "The same time for all, each row to a scale of its own." }
        ol.strips {
            @for (at, entry) in entries.iter().enumerate().take(MOST_STRIPS) {
                li {
                    @if at < linked { a.address href={ "#a" (at + 1) } { (Shown(entry.address)) } }
                    @else { span.address { (Shown(entry.address)) } }
                    svg.strip aria-hidden="true" width="100%" height=(STRIP) {
                        line.axis x1="0" x2="100%" y1=(STRIP) y2=(STRIP) {}
                        (drawn(axis, &axis.count(entry.times()), STRIP, STRIP - 2))
                    }
                    span.count { (number(entry.count)) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_one_bar_whatever_the_time() {
        let year = 366 * 86_400 * SECOND;
        for (first, length) in [
            (0, 0),
            (-1, 1),
            (1_795_591_102_620_334, 63 * SECOND),
            (1_795_591_102_620_334, 71 * SECOND),
            (59 * SECOND, 86_400 * SECOND),
            (-62_000_000_000 * SECOND, 9000 * year),
        ] {
            let times = [0, length / 3, length / 2, length].map(|at| (Micros(first + at), 403));
            let axis = Axis::new(Micros(first), Micros(first + length));
            let bars = axis.count(&times);
            assert_eq!(bars.iter().flatten().sum::<u64>(), 4, "{first} {length}");
            assert!(bars.len() <= 72, "{first} {length}: {}", bars.len());
            let labels = axis.labels();
            assert!(labels.len() <= 7, "{first} {length}: {labels:?}");
            assert!(labels.iter().all(|(place, _)| place.0 <= 10_000));
        }
    }

    #[test]
    fn a_bar_is_as_high_as_its_count() {
        let parts: Vec<_> = stacked(&[30, 10, 0], 40, 150, 100).collect();
        assert_eq!(parts, [("c403", 75, 75), ("c401", 50, 25)]);
        assert_eq!(height_of(1, 100_000, 150), 2);
    }
}
