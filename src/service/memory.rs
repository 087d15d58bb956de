//! Compares the memory of the process with its limits at an interval, and warns above them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    http_server::{Class, Connections},
    memory::{Level, Plan, Pressure, Usage},
    pipeline::{Counters, FindingBudget},
    receiver::Admission,
    telemetry::process,
};

/// What is measured, and what the result is passed to.
pub(super) struct Watch {
    pub(super) plan: Plan,
    pub(super) pressure: Pressure,
    pub(super) admission: Admission,
    pub(super) findings: FindingBudget,
    /// Of all pipelines.
    pub(super) counters: Vec<Arc<Counters>>,
    /// Of all receivers.
    pub(super) connections: Arc<Mutex<Vec<Arc<Connections>>>>,
    pub(super) interval: Duration,
}

/// Memory of the process and of its parts, in bytes.
struct Parts {
    resident: u64,
    state: u64,
    findings: u64,
    requests: u64,
}

impl Watch {
    /// Measures at the interval until `stop` is cancelled.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Some((soft, hard)) = self.plan.limits else {
            return;
        };
        info!(
            soft_limit_mib = mib(soft),
            hard_limit_mib = mib(hard),
            state_mib = self.plan.state >> 20,
            requests_mib = self.plan.requests >> 20,
            queues_mib = self.plan.findings >> 20,
            "memory limits"
        );
        let mut is_warned = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.interval) => {}
            }
            let parts = self.parts();
            let usage = Usage {
                resident: parts.resident,
                kept: parts.state.saturating_add(parts.findings),
                requests: parts.requests,
                connections: self.connections(),
            };
            let level = self.pressure.update(&self.plan, usage);
            if parts.resident <= soft {
                if std::mem::take(&mut is_warned) {
                    info!(
                        resident_mib = mib(parts.resident),
                        "memory is below the soft limit again"
                    );
                }
            } else if !is_warned {
                is_warned = true;
                parts.warn(level, soft);
            }
        }
    }

    fn connections(&self) -> u64 {
        let servers = self.connections.lock();
        let servers = servers.unwrap_or_else(PoisonError::into_inner);
        servers
            .iter()
            .map(|server| {
                Class::ALL
                    .map(|class| server.open(class))
                    .iter()
                    .sum::<u64>()
            })
            .sum()
    }

    fn parts(&self) -> Parts {
        let wide = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
        let states = self.counters.iter();
        Parts {
            resident: process::memory(),
            state: wide(states.map(|counters| counters.detection().heap_bytes).sum()),
            findings: wide(self.findings.heap_bytes()),
            requests: wide(self.admission.granted()),
        }
    }
}

impl Parts {
    fn warn(&self, level: Level, soft: u64) {
        let what_to_do = match level {
            Level::Normal => {
                "and not for requests: the budget of state shrinks until it is below; lower \
                 limits::memory_mib and service::admission::queue_limit_mib, or raise the limit \
                 (service::memory)"
            }
            Level::Soft | Level::Hard => {
                "new requests are refused for now, and above the hard limit new connections too: \
                 lower service::admission::request_limit_mib or raise the limit (service::memory)"
            }
        };
        warn!(
            resident_mib = mib(self.resident),
            soft_limit_mib = mib(soft),
            state_mib = mib(self.state),
            requests_mib = mib(self.requests),
            queues_mib = mib(self.findings),
            "memory is above the soft limit, {what_to_do}"
        );
    }
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}
