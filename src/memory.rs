//! The memory of the process: its limit, the budgets within it, and whether it is exceeded.
//!
//! State, requests under way and pending findings have a budget in bytes each, which holds at all
//! times and needs no look at the process. The limit is the second line of defence. It compares what
//! the process really takes, as the Collector's `memory_limiter` does, and refuses new requests while
//! requests are what exceeds. State has no part in that: it gives way within its budget, and filling
//! it must not lock senders out.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

const MIB: u64 = 1024 * 1024;
/// What the budgets are made for where there is no limit.
const WITHOUT_LIMIT: u64 = 512 * MIB;

/// `service::memory`, with the keys of the Collector's `memory_limiter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `limit_mib`, in bytes: what the process may take. It goes before `limit_percentage`.
    pub limit: Option<u64>,
    /// `limit_percentage`: the same in percent of the memory limit of the cgroup.
    pub limit_percentage: u64,
    /// `spike_limit_mib`, in bytes: how far the soft limit is below the limit.
    pub spike_limit: Option<u64>,
    /// `spike_limit_percentage`: the same in percent of the limit.
    pub spike_limit_percentage: u64,
    /// `check_interval`: how often the memory of the process is looked at.
    pub check_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limit: None,
            limit_percentage: 80,
            spike_limit: None,
            spike_limit_percentage: 20,
            check_interval: Duration::from_millis(200),
        }
    }
}

/// The limits of a process and its budgets, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The soft limit and the hard one, if there is a limit.
    pub limits: Option<(u64, u64)>,
    /// What all detections together may keep.
    pub state: usize,
    /// What requests under way may hold.
    pub requests: usize,
    /// What pending findings may hold, in all queues.
    pub findings: usize,
}

impl Plan {
    /// The same with the budgets for requests and for findings that the user wrote.
    #[must_use]
    pub fn with(self, requests: Option<usize>, findings: Option<usize>) -> Self {
        Self {
            requests: requests.unwrap_or(self.requests),
            findings: findings.unwrap_or(self.findings),
            ..self
        }
    }
}

impl Config {
    /// The limits and budgets, where the cgroup has this memory limit. A quarter of the limit is
    /// left to the rest of the process: code, connections, location databases.
    pub fn plan(&self, cgroup: Option<u64>) -> Plan {
        let hard = self
            .limit
            .or_else(|| cgroup.map(|limit| percent(limit, self.limit_percentage)));
        let limits = hard.map(|hard| {
            let spike = self
                .spike_limit
                .unwrap_or_else(|| percent(hard, self.spike_limit_percentage));
            (hard.saturating_sub(spike), hard)
        });
        let of = usize::try_from(hard.unwrap_or(WITHOUT_LIMIT)).unwrap_or(usize::MAX);
        Plan {
            limits,
            state: of / 8 * 3,
            requests: of / 4,
            findings: of / 8,
        }
    }
}

fn percent(of: u64, share: u64) -> u64 {
    of / 100 * share
}

/// Memory level of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Below the soft limit, or above it only because of state and findings.
    Normal,
    /// Above the soft limit: new requests are refused.
    Soft,
    /// Above the hard limit: new connections are refused too.
    Hard,
}

/// The memory level of the process. Receivers check it before they admit a request, pipelines before
/// they keep state. Clones share one level.
#[derive(Clone, Debug, Default)]
pub struct Pressure(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    level: AtomicU8,
    /// Percent of the state budget that is withheld.
    withheld: AtomicU8,
}

/// Measured memory, in bytes, and open connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory of the process.
    pub resident: u64,
    /// The part of state and findings.
    pub kept: u64,
    /// The part of requests.
    pub requests: u64,
    /// Open connections.
    pub connections: u64,
}

/// Below this number, the buffers of connections (charged to no request) are negligible.
const FEW_CONNECTIONS: u64 = 64;
/// The greatest part of the state budget that is withheld, in percent.
const MOST_WITHHELD: u8 = 75;

impl Pressure {
    /// The level at the last update.
    pub fn level(&self) -> Level {
        match self.0.level.load(Ordering::Relaxed) {
            0 => Level::Normal,
            1 => Level::Soft,
            _ => Level::Hard,
        }
    }

    /// Sets the level from measured memory. Above the soft limit either requests are refused, or the
    /// state budget shrinks: fragmentation can make the state take more memory than it counts.
    pub fn update(&self, plan: &Plan, usage: Usage) -> Level {
        let level = level(plan, usage);
        self.0.level.store(level as u8, Ordering::Relaxed);
        if let Some((soft, _)) = plan.limits {
            let withheld = self.0.withheld.load(Ordering::Relaxed);
            let withheld = if usage.resident <= soft / 10 * 9 {
                withheld.saturating_sub(1)
            } else if usage.resident > soft && level == Level::Normal {
                withheld.saturating_add(5).min(MOST_WITHHELD)
            } else {
                withheld
            };
            self.0.withheld.store(withheld, Ordering::Relaxed);
        }
        level
    }

    /// What is left of a budget of state, in bytes.
    pub fn left_of(&self, budget: usize) -> usize {
        let withheld = usize::from(self.0.withheld.load(Ordering::Relaxed));
        budget - budget / 100 * withheld
    }
}

fn level(plan: &Plan, usage: Usage) -> Level {
    let Usage {
        resident,
        kept,
        requests,
        connections,
    } = usage;
    let Some((soft, hard)) = plan.limits else {
        return Level::Normal;
    };
    // Requests hold little memory, so refusing them would free little.
    let few = u64::try_from(plan.requests / 8).unwrap_or(u64::MAX);
    if requests < few && connections < FEW_CONNECTIONS {
        return Level::Normal;
    }
    // State and findings within their budgets are no reason to refuse requests. All other memory
    // is: what requests hold, and the buffers of connections.
    let budgets = u64::try_from(plan.state.saturating_add(plan.findings)).unwrap_or(u64::MAX);
    let others = resident.saturating_sub(kept.min(budgets));
    if others <= soft.saturating_sub(budgets) {
        return Level::Normal;
    }
    if resident > hard {
        Level::Hard
    } else if resident > soft {
        Level::Soft
    } else {
        Level::Normal
    }
}

/// The memory limit of the cgroup that this process is in, in bytes; `None` when there is none.
pub fn cgroup_limit() -> Option<u64> {
    limit_below(Path::new("/"))
}

/// The same for a file system that begins at `root`.
fn limit_below(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        // `0::/path` in version 2, `9:memory:/path` in version 1.
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (mount, file) = if controllers.is_empty() {
            ("sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            return None;
        };
        smallest(&root.join(mount), Path::new(path), file)
    });
    limits.min()
}

/// The smallest limit of a group and those above it: each of them counts. In a container the group's
/// own path may not exist, then the mount is the group.
fn smallest(mount: &Path, group: &Path, file: &str) -> Option<u64> {
    let group = group.strip_prefix("/").unwrap_or(group);
    let limits = group.ancestors().filter_map(|group| {
        let text = std::fs::read_to_string(mount.join(group).join(file)).ok()?;
        text.trim().parse().ok()
    });
    // Version 1 writes a number near 2^63 for no limit.
    limits.filter(|limit| *limit < 1 << 62).min()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn budgets_are_shares_of_the_limit() {
        let plan = |config: &Config, cgroup: Option<u64>| {
            let plan = config.plan(cgroup.map(|mib| mib * MIB));
            let limits = plan.limits.map(|(soft, hard)| (soft / MIB, hard / MIB));
            let budgets = [plan.state, plan.requests, plan.findings].map(|bytes| bytes >> 20);
            (limits, budgets)
        };
        let open = Config::default();
        assert_eq!(plan(&open, None), (None, [192, 128, 64]));
        let set = Config {
            limit: Some(512 * MIB),
            spike_limit: Some(100 * MIB),
            ..Config::default()
        };
        assert_eq!(plan(&set, Some(64)), (Some((412, 512)), [192, 128, 64]));
        let (limits, budgets) = plan(&open, Some(768));
        assert_eq!(limits, Some((491, 614)));
        assert_eq!(budgets, [230, 153, 76]);
    }

    #[test]
    fn what_state_and_findings_hold_refuses_no_request() {
        let plan = Config {
            limit: Some(100),
            spike_limit: Some(20),
            ..Config::default()
        }
        .plan(None);
        // State and findings may hold 48, so 32 are left to all else below the soft limit of 80.
        for (resident, kept, wanted) in [
            (80, 0, Level::Normal),
            (80, 48, Level::Normal),
            (81, 48, Level::Soft),
            (81, 0, Level::Soft),
            (100, 48, Level::Soft),
            (101, 48, Level::Hard),
            // What is kept beyond its budgets is no excuse.
            (101, 69, Level::Hard),
            (101, 0, Level::Hard),
        ] {
            let pressure = Pressure::default();
            let usage = Usage {
                resident,
                kept,
                requests: 10,
                connections: 1,
            };
            assert_eq!(pressure.update(&plan, usage), wanted);
            assert_eq!(pressure.level(), wanted, "{resident} {kept}");
        }
        let without = Config::default().plan(None);
        assert_eq!(
            Pressure::default().update(&without, Usage::default()),
            Level::Normal
        );
    }

    #[test]
    fn state_does_with_less_while_it_is_what_exceeds() {
        let plan = Config {
            limit: Some(100),
            spike_limit: Some(20),
            ..Config::default()
        }
        .plan(None);
        let pressure = Pressure::default();
        let usage = |resident, requests, connections| Usage {
            resident,
            kept: 30,
            requests,
            connections,
        };
        assert_eq!(pressure.left_of(1000), 1000);
        assert_eq!(pressure.update(&plan, usage(90, 1, 10)), Level::Normal);
        assert_eq!(pressure.left_of(1000), 950);
        // Requests, or what many connections send ahead, cost state nothing.
        assert_eq!(pressure.update(&plan, usage(90, 20, 10)), Level::Soft);
        assert_eq!(pressure.update(&plan, usage(90, 1, 400)), Level::Soft);
        assert_eq!(pressure.left_of(1000), 950);
        for _ in 0..100 {
            pressure.update(&plan, usage(200, 1, 10));
        }
        assert_eq!(pressure.left_of(1000), 250);
        for _ in 0..100 {
            pressure.update(&plan, usage(70, 1, 10));
        }
        assert_eq!(pressure.left_of(1000), 1000);
    }

    #[test]
    fn the_limit_of_a_cgroup_is_the_smallest_above_it() {
        type Files = &'static [(&'static str, &'static str)];
        let cases: [(&str, Files, Option<u64>); 6] = [
            (
                "0::/a/b\n",
                &[("a/b/memory.max", "max\n"), ("a/memory.max", "1000\n")],
                Some(1000),
            ),
            (
                "0::/a/b\n",
                &[("a/b/memory.max", "500\n"), ("a/memory.max", "1000\n")],
                Some(500),
            ),
            // A container sees its own group as the mount.
            ("0::/elsewhere\n", &[("memory.max", "700\n")], Some(700)),
            (
                "5:cpu:/\n4:memory,x:/k\n",
                &[("memory/k/memory.limit_in_bytes", "9\n")],
                Some(9),
            ),
            (
                "4:memory:/\n",
                &[("memory/memory.limit_in_bytes", "9223372036854771712\n")],
                None,
            ),
            ("junk\n", &[], None),
        ];
        for (groups, files, wanted) in cases {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("proc/self")).unwrap();
            fs::write(root.path().join("proc/self/cgroup"), groups).unwrap();
            for (path, text) in files {
                let path = root.path().join("sys/fs/cgroup").join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            assert_eq!(limit_below(root.path()), wanted, "{groups}");
        }
        assert_eq!(limit_below(Path::new("/nowhere")), None);
    }
}
