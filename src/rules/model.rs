//! A detection, as the engine runs it.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    blind_spot::BlindSpot,
    derived::Hops,
    labeler::Labeler,
    matcher::Scratch,
    necessary::{self, Need},
    predicate::{Condition, Context, Operand},
    settings::{MissingCity, Rule},
    severity::Severity,
};
use crate::audit::event::Event;

/// One detection: how matching events are grouped, counted and reported.
#[derive(Clone, Debug, Default)]
pub struct Detection {
    /// The annotations that findings carry.
    pub annotations: Annotations,
    /// The rules whose matches are counted: one, or those of a correlation.
    pub parts: Vec<Part>,
    /// How the trusted source address is found.
    pub hops: Hops,
    /// By what matching events are grouped, besides their cluster.
    pub group_by: GroupBy,
    /// Which events are counted together.
    pub window: Window,
    /// What is counted.
    pub aggregate: Aggregate,
    /// A window with more than this makes a finding.
    pub threshold: u64,
    /// Whether deliveries of one request count once.
    pub dedup: Dedup,
    /// Which findings leave.
    pub emit: Emit,
    /// What matching events may look like, at most 64. They decide the severity, if there are any.
    pub labels: Vec<Label>,
    /// What it looks for in the feed of a cluster, if it is no rule about events. It has no parts.
    pub blind_spot: Option<BlindSpot>,
    /// What is looked for from the sources of its findings.
    pub follow_up: Option<FollowUp>,
    /// How their conditions are evaluated together; empty: one by one.
    pub labeler: Labeler,
    /// How far an event may be behind the greatest event time and still be on time, in
    /// microseconds.
    pub lateness: i64,
    /// Where its hits come from, when it is not the screen: it looks at nothing itself then.
    pub derivation: Option<Derivation>,
    /// 16 hex digits that are equal when equal settings shape the state.
    pub fingerprint: String,
}

/// A detection that takes the requests that another one has counted: deduplicated, once each.
#[derive(Clone, Debug)]
pub struct Derivation {
    /// That other one. It groups by `source.address` alone, in session windows.
    pub source: Arc<Detection>,
    /// What is judged of them.
    pub over: Over,
}

/// What a derived detection judges, besides its window and threshold. All lengths are in
/// microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Networks (`source.prefix`): the threshold is for distinct addresses in one window.
    Prefix {
        /// They have more requests than this together.
        requests: u64,
    },
    /// Addresses (`source.address`) over days: the threshold is for distinct paths.
    Address {
        /// Or they have at least this many requests.
        or_requests: u64,
        /// Spread over at least this many distinct hours.
        hours: u32,
        /// A finding is closed after this long without a request.
        quiet: i64,
    },
    /// Peers that hand addresses over (`source.peer`): the threshold is for distinct addresses in
    /// one window.
    Peer {
        /// They have more requests than this together.
        requests: u64,
    },
}

/// What a finding carries of its rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Identifier of the rule, a UUID in Sigma.
    pub id: String,
    /// Its name for configurations and other rules; may be empty.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Its version; may be empty.
    pub version: String,
    /// Severity: informational, low, medium, high or critical.
    pub level: String,
    /// Risk score, 0 to 100.
    pub score: u32,
    /// Description of the rule; may be empty.
    pub description: String,
    /// The line for people, in which `$name$` is the value of that field of the finding.
    pub message: String,
    /// The Splunk search for its events, without address and time; may be empty.
    pub search: String,
    /// ATT&CK technique, such as T1046; may be empty.
    pub technique_id: String,
    /// Its name; may be empty.
    pub technique: String,
    /// ATT&CK tactic, such as Discovery; may be empty.
    pub tactic: String,
    /// All its ATT&CK techniques, the first of them is `technique_id`.
    pub techniques: Vec<String>,
    /// All its ATT&CK tactics, the first of them is `tactic`.
    pub tactics: Vec<String>,
    /// What else may look the same.
    pub false_positives: Vec<String>,
    /// Where to read more.
    pub references: Vec<String>,
}

/// By what events are grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// By the values of these fields. The screen writes them into the key of a hit.
    Fields(Vec<String>),
    /// By each element of `sourceIPs` as logged, with its location: what a hit lists as sources.
    Sources {
        /// What becomes of a located address without a city.
        missing_city: MissingCity,
    },
}

impl Default for GroupBy {
    fn default() -> Self {
        Self::Fields(Vec::new())
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::Session { length: 1 }
    }
}

/// One rule whose matches a detection counts.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name, identifier or title of the rule.
    pub name: String,
    /// What an event has to be.
    pub(crate) condition: Condition,
    /// Where the values of the group are, in the order of [`GroupBy::Fields`].
    pub(crate) group_by: Vec<Operand>,
    /// Whose distinct values are counted.
    pub(crate) value: Option<Operand>,
}

impl Part {
    /// Whether an event matches.
    pub(crate) fn holds(&self, context: &mut Context<'_, '_>) -> bool {
        self.condition.holds(context)
    }

    /// The field whose distinct values are counted.
    pub fn value_name(&self) -> Option<String> {
        self.value.as_ref().map(ToString::to_string)
    }

    /// The test that decides whether an event matches, with its line.
    pub(crate) fn decisive(
        &self,
        event: &Event<'_>,
        hops: &Hops,
        scratch: &mut Scratch,
    ) -> Option<String> {
        let mut context = Context {
            event,
            hops,
            scratch,
        };
        let test = self.condition.decisive(&mut context)?;
        Some(test.text.clone())
    }
}

/// Requests that are looked for from the source of a finding, while it is open and afterwards.
#[derive(Clone, Debug)]
pub struct FollowUp {
    /// The rule of these requests: grouped as the findings are, each match counts. It makes the
    /// findings of requests that come after the scan.
    pub detection: Arc<Detection>,
    /// How long after the finding was closed, in microseconds.
    pub window: i64,
}

impl FollowUp {
    /// Status codes of the requests; `None` when they may have any, or none.
    pub(crate) fn codes(&self) -> Option<BTreeSet<u16>> {
        let parts = self.detection.parts.iter();
        let codes: Option<Vec<_>> = parts
            .map(|part| necessary::codes_of(&part.condition))
            .collect();
        Some(codes?.into_iter().flatten().collect())
    }
}

/// One thing that requests may look like, and what that says about their severity.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its name, such as `reads_secrets`.
    pub name: String,
    /// What kind of thing it says.
    pub kind: LabelKind,
    /// What it says, for people.
    pub title: String,
    /// The severity that it asks for; `None` when it says nothing about that.
    pub severity: Option<Severity>,
    /// What an event has to be to have it.
    pub(crate) condition: Condition,
    /// No event has it by what it is: requests have it that were logged twice and are counted for
    /// their client already. A finding has it while the others are no more than the threshold; it
    /// explains all other labels then.
    pub(crate) is_joined: bool,
    /// How much of it a finding has to hold.
    pub bounds: LabelBounds,
}

/// How much of the events of a label a finding has to hold, for the finding to have the label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelBounds {
    /// At least this many requests with the label.
    pub min_requests: Option<u64>,
    /// At least this many distinct paths in the finding.
    pub min_paths: Option<u64>,
    /// At least this many distinct user agents in the finding.
    pub min_user_agents: Option<u64>,
    /// At most this many requests in the finding.
    pub max_requests: Option<u64>,
    /// At most this many requests in the finding for each of its distinct paths, on average.
    pub max_requests_per_path: Option<u64>,
    /// At most this many distinct paths in the finding.
    pub max_paths: Option<u64>,
    /// At most this many distinct user agents in the finding.
    pub max_user_agents: Option<u64>,
    /// Labels that a benign cause explains: while the finding has that cause, they do not raise its
    /// severity.
    pub explains: LabelSet,
}

/// A set of labels of one detection, by their place in its list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LabelSet(pub u64);

impl LabelSet {
    /// The most labels that a detection has.
    pub const MOST: usize = 64;

    /// Adds the label at this place.
    pub fn insert(&mut self, place: usize) {
        if let Ok(place) = u32::try_from(place) {
            self.0 |= 1_u64.checked_shl(place).unwrap_or_default();
        }
    }

    /// Whether it has the label at this place.
    pub fn contains(self, place: usize) -> bool {
        let bit = u32::try_from(place).ok();
        let bit = bit.and_then(|place| 1_u64.checked_shl(place));
        bit.is_some_and(|bit| self.0 & bit != 0)
    }

    /// The places of its labels, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::MOST).filter(move |place| self.contains(*place))
    }
}

/// What kind of thing a label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// What the requests are after. The finding has it when one request has it.
    Behaviour,
    /// How the requests are spread over paths and time.
    Shape,
    /// Which program sends them.
    Tool,
    /// A cause that is no attack. The finding has it only while all its requests have it: it
    /// lowers the severity, and hides nothing.
    Benign,
}

impl LabelKind {
    /// As `kind` of a label in a finding names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Behaviour => "behaviour",
            Self::Shape => "shape",
            Self::Tool => "tool",
            Self::Benign => "benign",
        }
    }
}

/// The cost class of a detection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Events are parsed only if they hold one of these status codes or texts.
    Prefilter {
        /// Values of `responseStatus.code`.
        codes: Vec<u16>,
        /// Texts.
        literals: Vec<String>,
    },
    /// Every event is parsed.
    EveryEvent,
    /// No event is looked at: the rule is about the feed.
    Feed,
}

/// Which events are counted together. Lengths are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Any two events that differ by less than the length; a finding grows until it has had no hit
    /// for as long.
    Session {
        /// Length, at least 1.
        length: i64,
    },
    /// Fixed windows, judged once each when they have ended.
    Tumbling {
        /// Length, at least 1.
        length: i64,
        /// Start of one of them since 1970.
        offset: i64,
    },
}

impl Window {
    /// Its length in microseconds.
    pub fn length(self) -> i64 {
        match self {
            Self::Session { length } | Self::Tumbling { length, .. } => length,
        }
    }
}

/// What is counted in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// Events.
    #[default]
    Events,
    /// Distinct values, each the last eight bytes of a hit's identity: of a field (`value_count`),
    /// or the rule that matched (`temporal`). The first eight are of the request.
    Values,
}

/// Whether deliveries and stages of one request count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dedup {
    /// They do.
    #[default]
    Request,
    /// Each event counts.
    None,
}

/// Which findings leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emit {
    /// A finding lives: it is opened, updated and closed.
    #[default]
    Finding,
    /// Each match is a finding, sent once, as opened.
    Each,
}

impl From<Need> for Cost {
    fn from(need: Need) -> Self {
        if need.every {
            Self::EveryEvent
        } else {
            let mut literals = need.literals;
            literals.extend(need.exact);
            literals.sort_unstable();
            Self::Prefilter {
                codes: need.codes,
                literals,
            }
        }
    }
}

impl Detection {
    /// The literals that the bytes of a matching event contain.
    pub(crate) fn need(&self) -> Need {
        let parts = self.parts.iter().map(|part| necessary::of(&part.condition));
        parts.fold(Need::impossible(), Need::or)
    }

    /// The label of requests that two API servers have logged, by its place, if there is one.
    pub(crate) fn joined_label(&self) -> Option<usize> {
        self.labels.iter().position(|label| label.is_joined)
    }

    /// Whether it judges single events: not what others have counted, or the feed of a cluster.
    pub(crate) fn matches_events(&self) -> bool {
        self.derivation.is_none() && self.blind_spot.is_none()
    }

    /// Whether a derived detection takes the requests that this one counts.
    pub(crate) fn is_source_of(&self, derivation: &Derivation) -> bool {
        let source = &derivation.source;
        self.annotations.id == source.annotations.id
            && self.window == source.window
            && self.group_by == source.group_by
    }

    /// What looking for matches costs.
    pub fn cost(&self) -> Cost {
        if self.blind_spot.is_some() {
            return Cost::Feed;
        }
        match &self.derivation {
            Some(derivation) => derivation.source.cost(),
            None => self.need().into(),
        }
    }

    /// The same, which follows up its findings for this many microseconds after they were closed, if
    /// it follows them up at all; 0: not at all.
    #[must_use]
    pub fn following_up(mut self, window: i64) -> Self {
        self.follow_up = self.follow_up.take().filter(|_| window > 0);
        if let Some(follow_up) = &mut self.follow_up {
            follow_up.window = window;
        }
        self
    }

    /// The labels that an event has.
    pub(crate) fn labels_of(&self, event: &Event<'_>, scratch: &mut Scratch) -> LabelSet {
        let mut labels = LabelSet::default();
        if self.labels.len() == self.labeler.count() && !self.labels.is_empty() {
            let mut context = Context {
                event,
                hops: &self.hops,
                scratch,
            };
            return LabelSet(self.labeler.labels(&mut context));
        }
        for (place, label) in self.labels.iter().enumerate() {
            let mut context = Context {
                event,
                hops: &self.hops,
                scratch,
            };
            if label.condition.holds(&mut context) {
                labels.insert(place);
            }
        }
        labels
    }

    /// The name to show for it, the title if it has no other.
    pub fn name(&self) -> &str {
        let Annotations { name, title, .. } = &self.annotations;
        if name.is_empty() { title } else { name }
    }
}

impl From<Rule> for Vec<Arc<Detection>> {
    fn from(settings: Rule) -> Self {
        vec![Arc::new(Detection::of(&settings))]
    }
}
