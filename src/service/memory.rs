//! Looks at the memory of the process now and then, and says when it is beyond its limits.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    memory::{Level, Plan, Pressure},
    receiver::InFlight,
    telemetry::process,
};

/// What is looked at, and who learns of it.
pub(super) struct Watch {
    pub(super) plan: Plan,
    pub(super) pressure: Pressure,
    pub(super) in_flight: InFlight,
    pub(super) interval: Duration,
}

impl Watch {
    /// Looks until it is to stop.
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
        let mut is_told = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.interval) => {}
            }
            let (resident, requests) = (process::memory(), self.in_flight.held());
            let requests = u64::try_from(requests).unwrap_or(u64::MAX);
            let level = self.pressure.look(&self.plan, resident, requests);
            if resident <= soft {
                if std::mem::take(&mut is_told) {
                    info!(
                        resident_mib = mib(resident),
                        "memory is below the soft limit again"
                    );
                }
            } else if !is_told {
                is_told = true;
                tell(level, resident, requests, soft);
            }
        }
    }
}

fn tell(level: Level, resident: u64, requests: u64, soft: u64) {
    let (resident_mib, requests_mib, soft_limit_mib) = (mib(resident), mib(requests), mib(soft));
    if level == Level::Normal {
        warn!(
            resident_mib,
            requests_mib,
            soft_limit_mib,
            "memory is above the soft limit, and not for requests: lower limits::memory_mib and \
             service::admission::queue_limit_mib, or raise the limit (service::memory)"
        );
    } else {
        warn!(
            resident_mib,
            requests_mib,
            soft_limit_mib,
            "memory is above the soft limit: new requests are refused for now, and above the hard \
             limit new connections too; lower service::admission::request_limit_mib or raise the \
             limit (service::memory)"
        );
    }
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}
