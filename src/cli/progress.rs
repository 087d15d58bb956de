//! The progress bar of a scan, on a terminal.

use std::{
    fs,
    io::{self, IsTerminal as _, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock;

/// What takes no longer than this shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// The progress over all files together.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
    start: clock::Instant,
    /// Whether there is a terminal to show it on.
    wanted: bool,
}

impl Progress {
    /// Over the bytes of these files as they lie there, compressed or not; nothing is shown yet.
    pub(super) fn new(files: &[PathBuf], wanted: bool) -> Self {
        let bar = ProgressBar::with_draw_target(length(files), ProgressDrawTarget::hidden());
        let template = if bar.length().is_some() {
            "{bar:24} {percent:>3} % of {total_bytes}, {eta} left"
        } else {
            "{spinner} {bytes} read, {bytes_per_sec}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            start: clock::monotonic(),
            wanted: wanted && io::stderr().is_terminal(),
        }
    }

    /// Never shows anything.
    pub(super) fn hidden() -> Self {
        Self::new(&[], false)
    }

    /// A reader whose bytes count.
    pub(super) fn of(&self, from: impl Read + 'static) -> impl Read + 'static {
        Counted {
            from,
            progress: self.clone(),
        }
    }

    /// Does something that may write to the terminal.
    pub(super) fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.bar.suspend(act)
    }

    /// Leaves the terminal as it was.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn read(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
        if self.bar.is_hidden() && clock::monotonic().duration_since(self.start) > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

/// Bytes of all files; `None` when one of them has no length.
fn length(files: &[PathBuf]) -> Option<u64> {
    let length = |file: &PathBuf| {
        let there = fs::metadata(file).ok()?;
        // What cannot be opened is reported elsewhere.
        (there.is_file() && file != Path::new("-")).then_some(there.len())
    };
    files.iter().map(length).sum()
}

struct Counted<R> {
    from: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let bytes = self.from.read(to)?;
        if self.progress.wanted {
            self.progress.read(bytes);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_known_when_every_file_has_a_length() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        fs::write(&one, "1234").unwrap();
        fs::write(&two, "56").unwrap();
        assert_eq!(length(&[one.clone(), two]), Some(6));
        assert_eq!(length(&[one.clone(), "-".into()]), None);
        assert_eq!(length(&[one, folder.path().to_owned()]), None);
    }

    #[test]
    fn bytes_count_as_they_are_read_and_only_if_somebody_looks() {
        let mut progress = Progress::hidden();
        for (wanted, read) in [(true, 7), (false, 7)] {
            progress.wanted = wanted;
            io::copy(&mut progress.of(&b"1234567"[..]), &mut io::sink()).unwrap();
            assert_eq!(progress.bar.position(), read);
        }
        assert!(progress.bar.is_hidden());
        assert_eq!(progress.aside(|| 5), 5);
        progress.end();
    }
}
