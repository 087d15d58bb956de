//! A detection, as the engine runs it.

use std::sync::Arc;

use super::settings::{
    MissingCity, RISK_SCORE, RULE_ID, RULE_NAME, RULE_VERSION, Rule, Semantics, Who,
};

/// One detection: how matching events are grouped, counted and reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// What findings say about the rule.
    pub annotations: Annotations,
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
    /// How far an event may be behind the greatest event time and still be on time, in
    /// microseconds.
    pub lateness: i64,
    /// 16 hex digits that are equal when equal settings shape the state.
    pub fingerprint: String,
}

/// What a finding says about its rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Identifier of the rule, a UUID in Sigma.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its version; may be empty.
    pub version: String,
    /// Severity: informational, low, medium, high or critical.
    pub level: String,
    /// Risk score, 0 to 100.
    pub score: u32,
    /// What it looks for, in a sentence or two; may be empty.
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

/// Which events are counted together. Lengths are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Any two events that differ by less than the length; a finding grows until it has been quiet
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
    /// or the rule that matched (`temporal`).
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

impl Detection {
    /// The detection of scans that these settings describe.
    pub fn of(settings: &Rule) -> Self {
        let (group_by, window, dedup) = match settings.semantics {
            Semantics::Native => (
                GroupBy::Fields(vec!["source.address".to_owned()]),
                Window::Session {
                    length: settings.window,
                },
                Dedup::Request,
            ),
            Semantics::Escu => (
                GroupBy::Sources {
                    missing_city: settings.missing_city,
                },
                Window::Tumbling {
                    length: settings.window,
                    offset: settings.window_offset,
                },
                Dedup::None,
            ),
        };
        Self {
            annotations: Annotations {
                id: RULE_ID.to_owned(),
                title: RULE_NAME.to_owned(),
                version: RULE_VERSION.to_owned(),
                level: "low".to_owned(),
                score: RISK_SCORE,
                message: "Kubernetes scanning from ip $src_ip$".to_owned(),
                search: search(settings),
                technique_id: "T1046".to_owned(),
                technique: "Network Service Discovery".to_owned(),
                tactic: "Discovery".to_owned(),
                ..Annotations::default()
            },
            group_by,
            window,
            aggregate: Aggregate::Events,
            threshold: settings.threshold,
            dedup,
            emit: Emit::Finding,
            lateness: settings.lateness,
            fingerprint: settings.fingerprint(),
        }
    }
}

/// The Splunk search for the events that these settings count.
fn search(settings: &Rule) -> String {
    let who = match (settings.semantics, settings.who) {
        (Semantics::Escu, _) | (_, Who::Group) => {
            r#""user.groups{}"="system:unauthenticated""#.to_owned()
        }
        (Semantics::Native, Who::Any) => concat!(
            r#"("user.groups{}"="system:unauthenticated" OR "user.username"="system:anonymous""#,
            r#" OR NOT "user.username"=*)"#
        )
        .to_owned(),
    };
    let codes: Vec<_> = settings
        .wanted_codes()
        .iter()
        .map(|code| format!(r#""responseStatus.code"={code}"#))
        .collect();
    let codes = if codes.len() == 1 {
        codes.concat()
    } else {
        format!("({})", codes.join(" OR "))
    };
    format!("`kube_audit` {who} {codes}")
}

impl From<Rule> for Vec<Arc<Detection>> {
    fn from(settings: Rule) -> Self {
        vec![Arc::new(Detection::of(&settings))]
    }
}
