//! What receivers deliver to: a visitor for the records of each request, and a verdict on it.

use std::{future::Future, num::NonZero};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

use super::refusal::{Reason, Refusal};
use crate::{http_server::Class, pdata::Visitor};

/// Where a receiver's requests go.
pub trait Consumer: Clone + Send + Sync + 'static {
    /// What looks at the records of one request while they arrive.
    type Visitor: Visitor + Send + 'static;

    /// The visitor of a request that begins to arrive, at `received` nanoseconds since 1970.
    fn begin(&self, received: u64) -> Self::Visitor;

    /// Takes a request that has arrived whole and is well-formed. Returns when its effect is safe:
    /// its records have been observed, and every finding they cause is in the queue of every
    /// exporter.
    ///
    /// # Errors
    /// When no record of the request was accepted; the sender shall retry later.
    fn consume(
        &self,
        visited: Self::Visitor,
    ) -> impl Future<Output = Result<Accepted, Refusal>> + Send;

    /// Counts a request that was refused, by the receiver or by [`Self::consume`]. Its sender is
    /// anonymous or authenticated.
    fn refused(&self, reason: Reason, class: Class);
}

/// What became of a request that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Its records that can never be taken; `None`: all were.
    pub rejected: Option<RejectedRecords>,
}

/// Records of a request that can never be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedRecords {
    /// How many they are.
    pub count: NonZero<u64>,
    /// Why, and what the sender can do.
    pub reason: &'static str,
}

impl Accepted {
    /// The same as OTLP says it; `None` when all records were taken.
    pub(super) fn partial_success(self) -> Option<ExportLogsPartialSuccess> {
        let RejectedRecords { count, reason } = self.rejected?;
        Some(ExportLogsPartialSuccess {
            rejected_log_records: i64::try_from(count.get()).unwrap_or(i64::MAX),
            error_message: reason.to_owned(),
        })
    }
}
