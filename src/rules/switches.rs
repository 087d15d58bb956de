//! Which shipped detections a pipeline runs besides the rules that it names, and what each
//! detection is for.

use std::time::Duration;

use super::{
    model::Detection,
    settings::{Rule, Semantics},
};

/// The detections of a pipeline that keys of their own turn on and off. All but the first are valid
/// in native semantics only.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of the configuration of this name"
)]
pub struct Switches {
    /// Scans by unauthenticated addresses.
    pub scanning: bool,
    /// Requests without credentials that succeed where none may.
    pub anonymous_success: bool,
    /// Scans by several addresses of one network.
    pub distributed: bool,
    /// Scans over days.
    pub low_and_slow: bool,
    /// Source addresses that a client makes up.
    pub forged_forwarding: bool,
    /// What cannot be seen: clusters that are silent, events that are cut, floods of the state.
    pub blind_spots: bool,
    /// How long after the last request of a scan its address is watched for success; zero: not at
    /// all.
    pub follow_up: Duration,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            scanning: true,
            anonymous_success: true,
            distributed: true,
            low_and_slow: true,
            forged_forwarding: true,
            blind_spots: true,
            follow_up: Duration::from_hours(24),
        }
    }
}

impl Switches {
    /// The detection of scans alone.
    pub fn scanning_alone() -> Self {
        Self {
            anonymous_success: false,
            distributed: false,
            low_and_slow: false,
            forged_forwarding: false,
            blind_spots: false,
            follow_up: Duration::ZERO,
            ..Self::default()
        }
    }

    /// What holds with these settings: escu semantics has the detection of scans and nothing else,
    /// and what belongs to the detection of scans is off without it.
    #[must_use]
    pub fn under(&self, settings: &Rule) -> Self {
        if settings.semantics == Semantics::Escu {
            return Self {
                scanning: self.scanning,
                ..Self::scanning_alone()
            };
        }
        let mut switches = self.clone();
        if !self.scanning {
            switches.distributed = false;
            switches.low_and_slow = false;
            switches.forged_forwarding = false;
            switches.follow_up = Duration::ZERO;
        }
        switches
    }

    /// The files of rules/ with the detections that are derived from that of scans, in the order of
    /// their findings.
    pub fn derived(&self) -> Vec<&'static str> {
        on([
            (self.distributed, "distributed-scanning.yaml"),
            (self.low_and_slow, "low-and-slow.yaml"),
            (self.forged_forwarding, "forged-forwarding.yaml"),
        ])
    }

    /// The files of rules/ with the other detections of events, in the order of their findings.
    pub fn shipped(&self) -> Vec<&'static str> {
        on([(self.anonymous_success, "anonymous-success.yaml")])
    }
}

/// The files that are on.
fn on<const N: usize>(files: [(bool, &'static str); N]) -> Vec<&'static str> {
    let files = files.into_iter().filter(|(is_on, _)| *is_on);
    files.map(|(_, file)| file).collect()
}

/// What a detection is for, as exclusions and the filter tell detections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It counts refused requests.
    Scanning,
    /// It finds requests that succeeded and should not have.
    Success,
    /// It finds source addresses that a client makes up.
    Forgery,
    /// It is another rule.
    Rule,
}

impl Purpose {
    /// The purpose of a detection, by the name of its rule.
    pub fn of(detection: &Detection) -> Self {
        match detection.annotations.name.as_str() {
            "kubernetes_scanning" | "kubernetes_scanning_401" | "kubernetes_scanning_escu" => {
                Self::Scanning
            }
            "anonymous_success" | "anonymous_write" | "kubernetes_scanning_success" => {
                Self::Success
            }
            "forged_forwarding" => Self::Forgery,
            _ => Self::Rule,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escu_runs_one_detection_and_without_scans_what_belongs_to_them_is_off() {
        let native = Rule::default();
        let escu = Rule {
            semantics: Semantics::Escu,
            ..Rule::default()
        };
        let all = Switches::default();
        assert_eq!(all.under(&native), all);
        assert!(all.shipped().contains(&"anonymous-success.yaml"));
        assert_eq!(all.under(&escu), Switches::scanning_alone());
        let none = all.under(&escu);
        assert!(none.shipped().is_empty() && none.derived().is_empty() && !none.blind_spots);
        let off = Switches {
            scanning: false,
            ..all
        };
        let under = off.under(&native);
        assert!(under.anonymous_success && under.blind_spots);
        assert!(!under.distributed && !under.low_and_slow && !under.forged_forwarding);
        assert_eq!(under.follow_up, Duration::ZERO);
    }
}
