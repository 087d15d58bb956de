//! Requests of the OTLP exporters: what goes into one, in which form. Pure but for its caller's clock.

use std::{collections::VecDeque, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::InstrumentationScope,
    logs::v1::{ResourceLogs, ScopeLogs},
};
use prost::Message as _;

use super::{log_record, resource};
use crate::detection::Finding;

/// Most bytes of a request before compression, unless one finding alone needs more. Receivers on
/// grpc-go, the Collector's among them, refuse messages of more than 4 MiB by default; the rest is a
/// margin.
pub const REQUEST_MAX: usize = 4 * 1024 * 1024 - 64 * 1024;
/// Most bytes that a message takes in another one beside its own: tag and length.
const FRAME: usize = 8;

/// A request with the first findings of a batch.
#[derive(Debug)]
pub struct Request {
    /// What is sent.
    pub message: ExportLogsServiceRequest,
    /// How many findings it holds, at least one.
    pub findings: usize,
}

/// Builds the first request for `batch`, which is not empty, of at most `most` bytes. `observed` is
/// when each finding was observed. The order is kept: findings of one cluster that follow each
/// other share a resource.
pub fn first(batch: &[Arc<Finding>], observed: &[u64], most: usize) -> Request {
    let mut groups: Vec<ResourceLogs> = Vec::new();
    let (mut bytes, mut findings) = (0_usize, 0);
    let mut cluster = None;
    let times = observed.iter().copied().chain(std::iter::repeat(0));
    for (finding, observed) in batch.iter().zip(times) {
        let record = log_record(finding, observed);
        let group = (cluster != Some(&finding.cluster)).then(|| group(finding));
        let begins = group.as_ref().map_or(0, ResourceLogs::encoded_len);
        // The group's own frames, its length that grows, and those of the record.
        bytes = bytes.saturating_add(begins + record.encoded_len() + 4 * FRAME);
        if bytes > most && findings > 0 {
            break;
        }
        groups.extend(group);
        cluster = Some(&finding.cluster);
        let records = groups
            .last_mut()
            .and_then(|group| group.scope_logs.last_mut());
        if let Some(scope) = records {
            scope.log_records.push(record);
        }
        findings += 1;
    }
    Request {
        message: ExportLogsServiceRequest {
            resource_logs: groups,
        },
        findings,
    }
}

fn group(finding: &Finding) -> ResourceLogs {
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ResourceLogs {
        resource: Some(resource(finding)),
        scope_logs: vec![ScopeLogs {
            scope: Some(scope),
            ..ScopeLogs::default()
        }],
        ..ResourceLogs::default()
    }
}

/// When each finding was first sent. A finding does not know when it was found, and the next best
/// time must not change when it is sent again.
#[derive(Debug, Default)]
pub(in crate::exporter) struct Observed(VecDeque<(Arc<Finding>, u64)>);

impl Observed {
    /// The times of the findings of a batch, `now` for those that are new. What stood before the
    /// batch is done with and forgotten.
    pub(in crate::exporter) fn times(&mut self, batch: &[Arc<Finding>], now: u64) -> Vec<u64> {
        let known = |(one, _): &(Arc<Finding>, u64)| {
            batch.first().is_some_and(|first| Arc::ptr_eq(one, first))
        };
        let done = self.0.iter().position(known).unwrap_or(self.0.len());
        self.0.drain(..done);
        let mut times = Vec::with_capacity(batch.len());
        for (index, finding) in batch.iter().enumerate() {
            match self.0.get(index) {
                Some((one, time)) if Arc::ptr_eq(one, finding) => times.push(*time),
                _ => {
                    self.0.truncate(index);
                    self.0.push_back((Arc::clone(finding), now));
                    times.push(now);
                }
            }
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::samples;

    fn of(cluster: &str, number: u32) -> Arc<Finding> {
        Arc::new(Finding {
            cluster: cluster.to_owned(),
            ..(*samples::opened(number)).clone()
        })
    }

    #[test]
    fn findings_of_one_cluster_share_a_resource_and_the_order_is_kept() {
        let batch = [of("a", 0), of("a", 1), of("b", 2), of("a", 3)];
        let request = first(&batch, &[7, 8, 9, 10], REQUEST_MAX);
        assert_eq!(request.findings, 4);
        let groups: Vec<Vec<u64>> = request
            .message
            .resource_logs
            .iter()
            .map(|group| {
                let scope = group.scope_logs[0].scope.as_ref().unwrap();
                assert_eq!(scope.name, "auditwatch");
                assert_eq!(scope.version, env!("CARGO_PKG_VERSION"));
                let records = group.scope_logs[0].log_records.iter();
                records
                    .map(|record| record.observed_time_unix_nano)
                    .collect()
            })
            .collect();
        assert_eq!(groups, [vec![7, 8], vec![9], vec![10]]);
    }

    #[test]
    fn requests_are_bounded_and_one_finding_always_fits() {
        let batch: Vec<_> = (0..100)
            .map(|number| of(["a", "b"][number as usize % 2], number))
            .collect();
        for most in [0, 1, 1000, 5000, 20_000, usize::MAX] {
            let mut rest = batch.as_slice();
            let mut requests = 0;
            while !rest.is_empty() {
                let request = first(rest, &[], most);
                let bytes = request.message.encoded_len();
                assert!(request.findings > 0);
                assert!(bytes <= most || request.findings == 1, "{bytes} {most}");
                rest = &rest[request.findings..];
                requests += 1;
            }
            assert!(requests == 1 || most < usize::MAX);
        }
    }

    #[test]
    fn a_finding_keeps_the_time_at_which_it_was_first_sent() {
        let all = samples::findings(5);
        let mut observed = Observed::default();
        assert_eq!(observed.times(&all[..4], 1), [1, 1, 1, 1]);
        // Half of it, the rest after that, and a new batch with one that was seen.
        assert_eq!(observed.times(&all[..2], 2), [1, 1]);
        assert_eq!(observed.times(&all[2..4], 3), [1, 1]);
        assert_eq!(observed.times(&all[3..], 4), [1, 4]);
        assert_eq!(observed.times(&samples::findings(2), 5), [5, 5]);
        assert_eq!(observed.0.len(), 2);
    }
}
