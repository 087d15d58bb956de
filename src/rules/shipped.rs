//! The rules that come with auditwatch, compiled in.

use super::settings::Semantics;

/// One file of rules/.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// Its name in rules/.
    pub file: &'static str,
    /// What is in it.
    pub text: &'static str,
}

macro_rules! files {
    ($($file:literal),+ $(,)?) => {
        &[$(Shipped { file: $file, text: include_str!(concat!("../../rules/", $file)) }),+]
    };
}

/// All of them, in the order in which they are listed.
pub const ALL: &[Shipped] = files![
    "scanning.yaml",
    "scanning-401.yaml",
    "scanning-escu.yaml",
    "distributed-scanning.yaml",
    "low-and-slow.yaml",
    "forged-forwarding.yaml",
    "secrets-unusual-principal.yaml",
    "pod-exec.yaml",
    "privileged-pod.yaml",
    "hostpath-sensitive.yaml",
    "cluster-admin-binding.yaml",
    "service-account-token.yaml",
    "kube-system-workload.yaml",
    "events-deleted.yaml",
    "anonymous-success.yaml",
    "impersonation.yaml",
    "silent-cluster.yaml",
    "unauthorized-only.yaml",
    "truncated-events.yaml",
    "clock-skew.yaml",
    "flood.yaml",
    "cluster-names.yaml",
];

/// The detection of scans in these semantics, whose parameters are settings of their own.
pub(crate) fn scan(semantics: Semantics) -> &'static str {
    match semantics {
        Semantics::Native => "scanning.yaml",
        Semantics::Escu => "scanning-escu.yaml",
    }
}

/// The detections that take the requests which the detection of scans has counted in these
/// semantics. Each is on with it.
pub(crate) fn derived(semantics: Semantics) -> &'static [&'static str] {
    match semantics {
        Semantics::Native => &[
            "distributed-scanning.yaml",
            "low-and-slow.yaml",
            "forged-forwarding.yaml",
        ],
        Semantics::Escu => &[],
    }
}
/// The rules about the feed of clusters. They cost nothing for each record.
pub const BLIND_SPOTS: [&str; 6] = [
    "silent_cluster",
    "unauthorized_only",
    "truncated_events",
    "clock_skew",
    "flood",
    "cluster_names",
];

/// The file with a rule of this name, identifier or title.
pub fn named(name: &str) -> Option<&'static Shipped> {
    ALL.iter()
        .find(|shipped| handles(shipped.text).any(|handle| handle == name))
}

/// What the rules of a file may be called by. They are ours: each is a line at the margin.
fn handles(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter_map(|line| {
        let mut keys = ["name: ", "id: ", "title: "].into_iter();
        keys.find_map(|key| line.strip_prefix(key))
    })
}

/// The file of this name.
pub(crate) fn file(name: &str) -> Option<&'static Shipped> {
    ALL.iter().find(|shipped| shipped.file == name)
}
