//! The way of our log to standard error, which may be a pipe that is not read.
//!
//! Lines wait in a queue with a bound in bytes, and one thread writes them. What finds no room is
//! dropped and counted, so a log that is not read costs memory up to the bound, and never time.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Most bytes of lines that wait to be written.
const WAITING_MAX: usize = 4 * 1024 * 1024;
/// What a line costs beside its text.
const OVERHEAD: usize = 64;

/// Where lines go. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Output(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is a line to write.
    more: Condvar,
    /// All lines have been written.
    empty: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    /// With the line that is being written.
    bytes: usize,
    /// Dropped lines that the log has reported.
    reported: u64,
    /// Whether the last line could not be written.
    failing: bool,
}

impl Output {
    /// An output to standard error, with its thread.
    pub(super) fn to_stderr() -> Self {
        // A handle of its own: standard error itself is locked during a write.
        match io::stderr().as_fd().try_clone_to_owned() {
            Ok(stderr) => Self::start(File::from(stderr)),
            Err(_) => Self::start(io::stderr()),
        }
    }

    fn start(to: impl Write + Send + 'static) -> Self {
        let output = Self::default();
        let shared = Arc::clone(&output.0);
        // Without the thread nothing is written, and all of it is dropped when the queue is full.
        let _thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_to(to));
        output
    }

    /// Takes a line in, or drops it when there is no room.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.0.lock();
        let size = line.len() + OVERHEAD;
        if queue.bytes + size > WAITING_MAX {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += size;
        queue.lines.push_back(line.into());
        self.0.more.notify_one();
    }

    /// Waits until all lines are written, for at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let queue = self.0.lock();
        let _written = self
            .0
            .empty
            .wait_timeout_while(queue, limit, |queue| queue.bytes > 0);
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Logs how many lines were dropped, once there is room for that line.
    pub(super) fn report_dropped(&self) {
        let lines = {
            let mut queue = self.0.lock();
            if queue.failing || queue.bytes > WAITING_MAX / 2 {
                return;
            }
            let dropped = self.dropped();
            dropped - std::mem::replace(&mut queue.reported, dropped)
        };
        if lines > 0 {
            warn!(
                lines,
                "log lines were dropped, because standard error was not read or could not be written"
            );
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines as they arrive, until the process ends.
    fn write_to(&self, mut to: impl Write) {
        let mut queue = self.lock();
        loop {
            let Some(line) = queue.lines.pop_front() else {
                queue.bytes = 0;
                self.empty.notify_all();
                queue = self
                    .more
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let written = to.write_all(&line).and_then(|()| to.flush());
            if written.is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            queue = self.lock();
            queue.failing = written.is_err();
            queue.bytes = queue.bytes.saturating_sub(line.len() + OVERHEAD);
        }
    }
}

/// A line in the making: the log writes each of its lines at once.
impl Write for &Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = &'a Output;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A pipe of one line at a time.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0
                .send(line.to_vec())
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Output, Receiver<Vec<u8>>) {
        let (sender, lines) = sync_channel(0);
        (Output::start(Pipe(sender)), lines)
    }

    #[test]
    fn lines_come_in_order_and_are_waited_for() {
        let (sender, lines) = sync_channel(100);
        let output = Output::start(Pipe(sender));
        for number in 0..50 {
            output.push(format!("{number}\n").as_bytes());
        }
        output.flush(LONG);
        let written: Vec<u8> = lines.try_iter().flatten().collect();
        let wanted: Vec<String> = (0..50).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(written).unwrap(), wanted.concat());
        assert_eq!(output.dropped(), 0);
    }

    #[test]
    fn what_is_not_read_is_dropped_in_bounds() {
        let (output, lines) = pipe();
        let line = vec![b'x'; 64 * 1024];
        for _ in 0..200 {
            output.push(&line);
        }
        output.push(&vec![b'x'; 2 * WAITING_MAX]);
        let kept = WAITING_MAX / (line.len() + OVERHEAD);
        assert_eq!(output.dropped(), 201 - kept as u64);
        output.flush(Duration::from_millis(10));
        for _ in 0..kept {
            assert_eq!(lines.recv_timeout(LONG).unwrap().len(), line.len());
        }
        output.flush(LONG);
        output.push(b"after");
        assert_eq!(lines.recv_timeout(LONG).unwrap(), b"after");
        assert!(output.0.lock().bytes <= WAITING_MAX);
    }

    #[test]
    fn a_log_that_cannot_be_written_costs_its_lines_only() {
        let (output, lines) = pipe();
        drop(lines);
        for _ in 0..10 {
            output.push(b"lost");
            output.flush(LONG);
        }
        assert_eq!(output.dropped(), 10);
        assert!(output.0.lock().failing);
        output.report_dropped();
        assert_eq!(output.0.lock().reported, 0, "it would be lost as well");
    }
}
