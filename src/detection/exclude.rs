//! Exclusions: matching requests that an operator knows and that shall not count.
//!
//! An exclusion has conditions on one request; all of them must hold, and of the values of each one
//! must match. Case matters in all of them. `*` in a pattern is any text, `?` one character, and a
//! backslash takes their meaning away. The screen asks for each hit, so what is excluded is marked
//! ([`Hit::excluded`]) before the engine sees it, and depends on nothing but the request.
//!
//! What a client writes must not get it excluded by accident: a value that is longer than any real
//! one matches no pattern, nor does a path that is not spelled plainly. An exclusion applies to
//! what it names alone, at first to the detection of scans; so success and forgery are found
//! whatever is excluded, unless they are named.
//!
//! An exclusion that expires applies to requests before that time, by their event time. So a
//! backlog and a replay are judged as they would have been at the time, and no clock is needed.

use std::{fmt, str::FromStr, sync::Arc};

use ipnet::IpNet;

use super::{
    event::Event,
    fields::AuditField,
    hit::{Hit, Role},
    rule::covers_all,
    text::Text,
    time::Micros,
};
use crate::{
    audit::{address::Trusted, event::Field},
    rules::{
        Scratch,
        derived::{self, Hops},
        matcher::OneOf,
        model::Detection,
        pattern::{self, Piece, Wanted},
        switches::Purpose,
    },
};

/// Exclusions that one processor may have.
pub const MOST: usize = 1000;
/// A value of more bytes than this matches no pattern.
const MOST_BYTES: usize = 8192;

/// One exclusion, as it is configured. A condition without values does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusion {
    /// Its name, in metrics and explanations.
    pub name: String,
    /// The trusted source address is in one of these networks.
    pub cidr: Vec<IpNet>,
    /// Patterns for the path of the request, without its query.
    pub path: Vec<Wildcard>,
    /// Patterns for the user agent. An empty one is for requests without user agent.
    pub user_agent: Vec<Wildcard>,
    /// Patterns for the user name. An empty one is for requests without user name.
    pub user: Vec<Wildcard>,
    /// Status codes.
    pub code: Vec<u16>,
    /// From this event time on it does not apply. `None`: it always applies.
    pub expires: Option<Micros>,
    /// Why it is there, for people; may be empty.
    pub reason: String,
    /// What it applies to. Empty: the detection of scans.
    pub applies_to: Vec<Target>,
}

/// A text with wildcards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wildcard(String);

impl Wildcard {
    /// A pattern.
    ///
    /// # Errors
    /// A text for people, when the pattern needs too much memory.
    pub fn new(text: &str) -> Result<Self, String> {
        let pattern = Self(text.to_owned());
        one_of(std::slice::from_ref(&pattern)).map_err(|error| error.to_string())?;
        Ok(pattern)
    }

    /// Whether it matches every text.
    fn matches_all(&self) -> bool {
        let pieces = pattern::pieces(&self.0);
        !pieces.is_empty() && pieces.iter().all(|piece| *piece == Piece::Any)
    }

    /// Whether it matches every path.
    fn matches_all_paths(&self) -> bool {
        self.matches_all() || self.0 == "/*"
    }
}

impl fmt::Display for Wildcard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an exclusion applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The detection of scans, and what is derived from its counts, but forgery.
    Scanning,
    /// Requests that succeeded and should not have.
    Success,
    /// Forged source addresses.
    Forgery,
    /// The rule of this name, identifier or title.
    Rule(String),
}

impl FromStr for Target {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "scanning" => Self::Scanning,
            "success" => Self::Success,
            "forgery" => Self::Forgery,
            rule => Self::Rule(rule.to_owned()),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scanning => "scanning",
            Self::Success => "success",
            Self::Forgery => "forgery",
            Self::Rule(name) => name,
        })
    }
}

impl Target {
    /// Whether a detection is among what this names.
    fn is(&self, detection: &Detection) -> bool {
        let purpose = Purpose::of(detection);
        match self {
            Self::Scanning => purpose == Purpose::Scanning,
            Self::Success => purpose == Purpose::Success,
            // Its hits are those of other detections.
            Self::Forgery => false,
            Self::Rule(name) => {
                let rule = &detection.annotations;
                purpose == Purpose::Rule && [&rule.name, &rule.id, &rule.title].contains(&name)
            }
        }
    }
}

/// Exclusions that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExclusionError {
    /// It applies to a rule that is not there.
    #[error(
        "exclude {name:?} applies to {target:?}, and this processor runs no such detection: write \
         scanning, success, forgery, or the name of one of its rules"
    )]
    NoSuchTarget {
        /// The exclusion.
        name: String,
        /// What it names.
        target: String,
    },
    /// Its patterns need too much memory.
    #[error("exclude {name:?}: {why}")]
    Pattern {
        /// The exclusion.
        name: String,
        /// What is wrong with its patterns.
        why: String,
    },
}

impl Exclusion {
    /// Whether it has a condition at all. Without one it would exclude every request.
    pub fn has_condition(&self) -> bool {
        !self.code.is_empty() || !self.cidr.is_empty() || self.patterns().any(|of| !of.is_empty())
    }

    fn patterns(&self) -> impl Iterator<Item = &[Wildcard]> {
        [&self.path, &self.user_agent, &self.user]
            .into_iter()
            .map(Vec::as_slice)
    }

    /// What it applies to.
    pub fn targets(&self) -> &[Target] {
        if self.applies_to.is_empty() {
            &[Target::Scanning]
        } else {
            &self.applies_to
        }
    }

    /// Whether it does not apply any more at this time.
    pub fn has_expired(&self, now: Micros) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// What may be a mistake, or a way around the detection, at this time: lines for people.
    pub fn warnings(&self, now: Micros) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |text: String| warnings.push(format!("exclude {:?} {text}", self.name));
        if let Some(expires) = self.expires
            && self.has_expired(now)
        {
            warn(format!(
                "has expired on {expires} and does not apply to new requests: remove it, or set \
                 another time"
            ));
        }
        let is_narrow = |patterns: &[Wildcard]| {
            !patterns.is_empty() && !patterns.iter().any(Wildcard::matches_all)
        };
        let by_path = !self.path.is_empty() && !self.path.iter().any(Wildcard::matches_all_paths);
        let by_address = !self.cidr.is_empty() && !covers_all(&self.cidr);
        let by_user = is_narrow(&self.user);
        if by_path || by_address {
            return warnings;
        }
        if is_narrow(&self.user_agent) {
            warn(
                "goes by user_agent, which any client can write: a scanner that sends it is not \
                 counted. Add a cidr or a path"
                    .to_owned(),
            );
        } else if by_user {
            let is_anonymous = |user: &Wildcard| ["", "system:anonymous"].contains(&&*user.0);
            if self.user.iter().any(is_anonymous) {
                warn(
                    "goes by the user that every request without credentials has: no scan is \
                     found. Add a cidr or a path"
                        .to_owned(),
                );
            }
        } else if !self.code.is_empty() {
            warn(
                "goes by code alone, from whatever address: set codes instead, or add a cidr or a \
                 path"
                    .to_owned(),
            );
        } else {
            warn("excludes every request: narrow its conditions, or remove it".to_owned());
        }
        warnings
    }
}

/// The exclusions of a processor, ready to be asked.
#[derive(Debug, Default)]
pub struct Exclusions {
    all: Vec<Prepared>,
}

#[derive(Debug)]
struct Prepared {
    exclusion: Exclusion,
    path: Option<OneOf>,
    user_agent: Option<OneOf>,
    user: Option<OneOf>,
    /// By place of the detection: whether it applies to its matches.
    applies_to: Vec<bool>,
    applies_to_success: bool,
    applies_to_forgery: bool,
}

impl Exclusions {
    /// Exclusions for these detections, in the order in which hits name them.
    ///
    /// # Errors
    /// When one applies to a detection that is not there, or needs too much memory.
    pub fn new(
        exclusions: &[Exclusion],
        detections: &[Arc<Detection>],
    ) -> Result<Self, ExclusionError> {
        let all = exclusions.iter().take(MOST);
        let all = all.map(|exclusion| Prepared::new(exclusion, detections));
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
        })
    }

    /// Their names, by the numbers that [`Hit::excluded`] has.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|one| one.exclusion.name.as_str())
    }

    /// The name of the exclusion that hits have this number of.
    pub fn name(&self, place: u16) -> Option<&str> {
        let one = self.all.get(usize::from(place))?;
        Some(&one.exclusion.name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The exclusion that keeps a hit of an event from counting, the first of several.
    pub fn matching(
        &self,
        event: &Event<'_>,
        detection: &Detection,
        hit: &Hit,
    ) -> Option<&Exclusion> {
        let mut marked = hit.clone();
        self.mark(event, detection, &mut marked);
        let place = marked.excluded?;
        self.all.get(usize::from(place)).map(|one| &one.exclusion)
    }

    /// Marks a hit of an event with the first exclusion that applies to it. Its place in the list of
    /// detections and its time are there already.
    pub(crate) fn mark(&self, event: &Event<'_>, detection: &Detection, hit: &mut Hit) {
        if self.all.is_empty() {
            return;
        }
        let mut request = Request::new(event, &detection.hops);
        for (place, one) in (0..).zip(&self.all) {
            let counts = hit.excluded.is_none() && one.applies_to(hit);
            let forgery =
                !hit.is_excluded_from_forgery && one.applies_to_forgery && hit.role == Role::Match;
            if !(counts || forgery) || !one.holds(&mut request, hit) {
                continue;
            }
            if counts {
                hit.excluded = Some(place);
            }
            hit.is_excluded_from_forgery |= forgery;
        }
    }
}

impl Prepared {
    fn new(exclusion: &Exclusion, detections: &[Arc<Detection>]) -> Result<Self, ExclusionError> {
        let targets = exclusion.targets();
        for target in targets {
            if let Target::Rule(_) | Target::Scanning = target
                && !detections.iter().any(|one| target.is(one))
            {
                return Err(ExclusionError::NoSuchTarget {
                    name: exclusion.name.clone(),
                    target: target.to_string(),
                });
            }
        }
        let compiled = |patterns: &[Wildcard]| {
            one_of(patterns).map_err(|why| ExclusionError::Pattern {
                name: exclusion.name.clone(),
                why: why.to_string(),
            })
        };
        let applies_to = detections
            .iter()
            .map(|detection| targets.iter().any(|target| target.is(detection)));
        Ok(Self {
            path: compiled(&exclusion.path)?,
            user_agent: compiled(&exclusion.user_agent)?,
            user: compiled(&exclusion.user)?,
            applies_to: applies_to.collect(),
            applies_to_success: targets.contains(&Target::Success),
            applies_to_forgery: targets.contains(&Target::Forgery),
            exclusion: exclusion.clone(),
        })
    }

    /// Whether it is about what this is a hit of.
    fn applies_to(&self, hit: &Hit) -> bool {
        match hit.role {
            Role::Success => self.applies_to_success,
            Role::Match => usize::try_from(hit.detection)
                .ok()
                .and_then(|place| self.applies_to.get(place))
                .is_some_and(|applies| *applies),
        }
    }

    /// Whether all its conditions hold.
    fn holds(&self, request: &mut Request<'_, '_>, hit: &Hit) -> bool {
        let Exclusion {
            cidr,
            code,
            expires,
            ..
        } = &self.exclusion;
        // A request without a time counts for nothing, so what has expired does not matter.
        let has_expired =
            matches!((expires, hit.time), (Some(expires), Some(time)) if time >= *expires);
        !has_expired
            && (code.is_empty() || code.contains(&hit.code))
            && (cidr.is_empty() || request.is_in(cidr))
            && (self.path.as_ref()).is_none_or(|patterns| request.has_path(patterns))
            && fits(self.user_agent.as_ref(), request, AuditField::UserAgent)
            && fits(self.user.as_ref(), request, AuditField::Username)
    }
}

fn fits(patterns: Option<&OneOf>, request: &mut Request<'_, '_>, field: AuditField) -> bool {
    patterns.is_none_or(|patterns| request.has(field, patterns))
}

/// What one of these patterns matches; `None` when there are none.
fn one_of(patterns: &[Wildcard]) -> Result<Option<OneOf>, crate::rules::matcher::BadPattern> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let wanted: Vec<_> = patterns
        .iter()
        .map(|pattern| Wanted::Text(pattern::pieces(&pattern.0)))
        .collect();
    OneOf::new(&wanted, true).map(Some)
}

/// A request, read as far as exclusions ask.
struct Request<'r, 'e> {
    event: &'r Event<'e>,
    hops: &'r Hops,
    /// The trusted address, whatever part of it is the key.
    address: Option<Trusted>,
    scratch: Scratch,
}

impl<'r, 'e> Request<'r, 'e> {
    fn new(event: &'r Event<'e>, hops: &'r Hops) -> Self {
        Self {
            event,
            hops,
            address: None,
            scratch: Scratch::default(),
        }
    }

    fn is_in(&mut self, networks: &[IpNet]) -> bool {
        let (event, hops) = (self.event, self.hops);
        let address = *self.address.get_or_insert_with(|| {
            let hops = Hops {
                ipv6_prefix: 128,
                ..hops.clone()
            };
            derived::trusted(event, &hops)
        });
        let Trusted::Address(address) = address else {
            return false;
        };
        networks.iter().any(|net| net.contains(&address))
    }

    /// A text of the event, empty if there is none; `None` if it is too long to be compared.
    fn text(&self, field: AuditField) -> Option<String> {
        let Some(text) = self.event.field(field).value() else {
            return Some(String::new());
        };
        let text = text.cut(MOST_BYTES + 1);
        (text.len() <= MOST_BYTES).then_some(text)
    }

    fn has(&mut self, field: AuditField, patterns: &OneOf) -> bool {
        let text = self.text(field);
        text.is_some_and(|text| self.matches(&text, patterns))
    }

    fn has_path(&mut self, patterns: &OneOf) -> bool {
        let uri = self.text(AuditField::RequestUri).unwrap_or_default();
        let path = uri.split_once('?').map_or(&*uri, |(path, _)| path);
        is_plain(path) && self.matches(path, patterns)
    }

    fn matches(&mut self, text: &str, patterns: &OneOf) -> bool {
        patterns.matches(&Field::Text(Text::from(text)), &mut self.scratch)
    }
}

/// Whether a path is spelled plainly: without escapes, dots and slashes that a server may read as
/// another path.
fn is_plain(path: &str) -> bool {
    let mut segments = path
        .strip_prefix('/')
        .unwrap_or_default()
        .split('/')
        .peekable();
    let mut are_plain = true;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        are_plain &= !matches!(segment, "." | "..") && (is_last || !segment.is_empty());
    }
    are_plain
        && path.starts_with('/')
        && !path.contains(['%', '\\', ';', '#'])
        && !path.contains(char::is_control)
}

#[cfg(test)]
mod tests;
