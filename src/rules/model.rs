//! A detection, as the engine runs it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
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
    /// How their conditions are evaluated together; empty: one by one.
    pub labeler: Labeler,
    /// How far an event may be behind the greatest event time and still be on time, in
    /// microseconds.
    pub lateness: i64,
    /// 16 hex digits that are equal when equal settings shape the state.
    pub fingerprint: String,
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
        /// Texts, found without regard to case.
        literals: Vec<String>,
    },
    /// Every event is parsed.
    EveryEvent,
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
            Self::Prefilter {
                codes: need.codes,
                literals: need.literals,
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

    /// What looking for matches costs.
    pub fn cost(&self) -> Cost {
        self.need().into()
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
