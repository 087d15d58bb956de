//! Processes that are measured: started here or named by their id.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{Read as _, Seek as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// A process that was started here. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program, and waits until it listens on an address.
    pub(crate) fn start(
        program: &Path,
        arguments: &[&str],
        listens: SocketAddr,
    ) -> anyhow::Result<Self> {
        let mut said = tempfile::tempfile()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.try_clone()?);
        let child = command.spawn().with_context(|| {
            format!(
                "cannot start {}: build it first, or name another",
                program.display()
            )
        })?;
        let mut process = Self(child);
        let begin = Instant::now();
        while TcpStream::connect(listens).is_err() {
            if let Some(status) = process.0.try_wait()? {
                let mut text = String::new();
                said.rewind()?;
                said.read_to_string(&mut text)?;
                bail!("{} ended at once: {status}\n{text}", program.display());
            }
            if begin.elapsed() > Duration::from_secs(30) {
                bail!("{} does not listen on {listens}", program.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it with SIGTERM, and waits.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        let _sent = Command::new("kill").arg(self.0.id().to_string()).status()?;
        let begin = Instant::now();
        while self.0.try_wait()?.is_none() {
            if begin.elapsed() > Duration::from_mins(1) {
                bail!("it does not end after SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// A local address that has no listener now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Nanoseconds that each thread of a process has been on a processor.
#[derive(Clone, Debug)]
pub(crate) struct Cpu(BTreeMap<OsString, u64>);

impl Cpu {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let mut threads = BTreeMap::new();
        let folder = format!("/proc/{pid}/task");
        for thread in std::fs::read_dir(&folder).with_context(|| format!("no process {pid}"))? {
            let thread = thread?;
            // A thread may end in between.
            let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            let nanos = text
                .split_ascii_whitespace()
                .next()
                .context("an empty schedstat")?;
            threads.insert(thread.file_name(), nanos.parse()?);
        }
        Ok(Self(threads))
    }

    /// The time from an earlier reading to this one.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let spent = self.0.iter().map(|(thread, nanos)| {
            nanos.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        });
        Duration::from_nanos(spent.sum())
    }
}

/// The most resident memory that a process has had, in bytes.
pub(crate) fn peak(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|line| line.split_ascii_whitespace().next())
        .context("no VmHWM")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// CPU time of this thread.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text
        .split_ascii_whitespace()
        .next()
        .context("an empty schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}
