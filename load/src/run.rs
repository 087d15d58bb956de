//! One measurement: requests sent, and what that took.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    batch::Messages,
    client::{Connection, Target},
    process::{self, Cpu},
    scenario::Scenario,
};

/// What sending has taken.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) records: u64,
    /// CPU time of the process.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// How long each request took until it was answered, in order of length.
    pub(crate) latencies: Vec<Duration>,
    /// The most memory that the process has had, in bytes.
    pub(crate) peak: u64,
}

impl Measured {
    /// CPU nanoseconds per record.
    pub(crate) fn nanos(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.records.max(1) as f64
    }

    /// The time that this share of the requests has not exceeded.
    pub(crate) fn latency(&self, percent: usize) -> Duration {
        let at = self.latencies.len() * percent / 100;
        let at = at.min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.records as f64 / self.wall.as_secs_f64();
        writeln!(f, "records              {}", self.records)?;
        writeln!(f, "records per second   {rate:.0}")?;
        writeln!(f, "CPU ns per record    {:.0}", self.nanos())?;
        writeln!(
            f,
            "answered p50, p99    {:.2?}, {:.2?}",
            self.latency(50),
            self.latency(99)
        )?;
        write!(f, "peak memory          {} MiB", self.peak >> 20)
    }
}

/// Sends requests over the connections of the scenario, at most `rate` records a second.
pub(crate) async fn measure(
    pid: u32,
    target: Target,
    scenario: &Scenario,
    messages: &Messages,
    rate: Option<u64>,
) -> anyhow::Result<Measured> {
    let mut connections = Vec::new();
    for _ in 0..scenario.connections.max(1) {
        connections.push(Connection::to(target, scenario).await?);
    }
    let (before, begin) = (Cpu::of(pid)?, Instant::now());
    let next = Arc::new(AtomicUsize::new(0));
    let all = Arc::new(messages.all.clone());
    let pause =
        rate.map(|rate| Duration::from_secs_f64(scenario.batch as f64 / rate.max(1) as f64));
    let senders: Vec<_> = connections
        .into_iter()
        .map(|connection| {
            tokio::spawn(send(
                connection,
                Arc::clone(&all),
                Arc::clone(&next),
                (begin, pause),
            ))
        })
        .collect();
    let mut latencies = Vec::with_capacity(messages.all.len());
    // Connections stay until the CPU time is read: a thread that ends takes its time with it.
    let mut connections = Vec::new();
    for sender in senders {
        let (connection, taken) = sender.await??;
        connections.push(connection);
        latencies.extend(taken);
    }
    let wall = begin.elapsed();
    let cpu = Cpu::of(pid)?.since(&before);
    drop(connections);
    latencies.sort_unstable();
    Ok(Measured {
        records: messages.events,
        cpu,
        wall,
        latencies,
        peak: process::peak(pid)?,
    })
}

async fn send(
    mut connection: Connection,
    messages: Arc<Vec<bytes::Bytes>>,
    next: Arc<AtomicUsize>,
    (begin, pause): (Instant, Option<Duration>),
) -> anyhow::Result<(Connection, Vec<Duration>)> {
    let mut latencies = Vec::new();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(message) = messages.get(at) else {
            return Ok((connection, latencies));
        };
        if let Some(pause) = pause {
            let due = begin + pause * u32::try_from(at).unwrap_or(u32::MAX);
            tokio::time::sleep_until(due.into()).await;
        }
        let sent = Instant::now();
        connection.send(message).await?;
        latencies.push(sent.elapsed());
    }
}
