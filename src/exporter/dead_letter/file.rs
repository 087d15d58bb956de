//! The file of dead letters: whole lines, rotated and bounded. Blocks.
//!
//! Who writes, rotates or takes it away holds a lock on it, and after the lock looks whether the path
//! still names what was locked. So a service may write while `auditwatch redeliver` takes the file
//! away: each line is in one of the two.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{clock, visible};

const MEGABYTE: u64 = 1024 * 1024;
/// What the name of a file ends with while its letters are sent again.
const TAKEN: &str = ".redelivering";
/// How often the file may be replaced while it is waited for.
const REPLACED: usize = 100;
/// The form of the time in the name of a file that was set aside, as the Collector's rotation has
/// it, and its length.
const TIME: &str = "%Y-%m-%dT%H-%M-%S%.3f";
const TIME_LENGTH: usize = 23;

/// Settings of `dead_letter`, with the key names of the rotation of the Collector's file exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `path` of the file; empty: there is none. Created with mode 0600 if absent; its folder must
    /// exist.
    pub path: PathBuf,
    /// `max_megabytes`: a file that would grow beyond it is set aside and a new one begun.
    pub max_megabytes: u64,
    /// `max_backups`: most files that are set aside; beyond it the oldest is removed.
    pub max_backups: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            max_megabytes: 10,
            max_backups: 10,
        }
    }
}

/// Adds whole lines, all of them or none, and syncs them. Rotates before that where the file would
/// grow too large. Without lines it only sees that the file can be written.
///
/// # Errors
/// When the file cannot be opened, rotated or written.
pub fn append(config: &Config, lines: &[u8]) -> io::Result<()> {
    let mut file = locked(&config.path, true)?;
    if lines.is_empty() {
        return Ok(());
    }
    let limit = config.max_megabytes.saturating_mul(MEGABYTE);
    let length = file.metadata()?.len();
    if length > 0 && length.saturating_add(lines.len() as u64) > limit {
        set_aside(config)?;
        file = locked(&config.path, true)?;
    }
    add(&mut file, lines)
}

/// Takes the file away, so that nothing is added to it any more. Its new name.
///
/// # Errors
/// When there is none, or it cannot be renamed; `AlreadyExists` when it was taken away before.
pub fn take(path: &Path) -> io::Result<PathBuf> {
    let _locked = locked(path, false)?;
    let mut taken = OsString::from(path);
    taken.push(TAKEN);
    let taken = PathBuf::from(taken);
    if taken.try_exists()? {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!(
                "{} is there: another redeliver is at work, or one was interrupted; then give that \
                 file",
                visible::path(&taken)
            ),
        ));
    }
    fs::rename(path, &taken)?;
    Ok(taken)
}

/// Writes lines back to the file, whatever its size: they were in it.
///
/// # Errors
/// When it cannot be opened or written.
pub fn give_back(path: &Path, lines: &[u8]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    add(&mut locked(path, true)?, lines)
}

/// The file that the path names, locked. The lock ends with the handle.
fn locked(path: &Path, create: bool) -> io::Result<File> {
    for _ in 0..REPLACED {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(create)
            .mode(0o600)
            .open(path)?;
        file.lock()?;
        let own = file.metadata()?;
        // It may have been taken away or set aside between the two.
        let named = fs::metadata(path).ok();
        if named.is_some_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())) {
            return Ok(file);
        }
    }
    Err(io::Error::other("the file is replaced again and again"))
}

fn add(file: &mut File, lines: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    let written = (|| {
        if ends_within_a_line(file)? {
            file.write_all(b"\n")?;
        }
        file.write_all(lines)?;
        file.sync_data()
    })();
    if written.is_err() {
        // Half a line would be one that cannot be read.
        let _cut = file.set_len(length);
    }
    written
}

/// Whether a crash left an incomplete line.
fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Gives the full file a name with the time, and removes the oldest of those.
fn set_aside(config: &Config) -> io::Result<()> {
    let (stem, end) = parts(&config.path);
    let mut millis = i64::try_from(clock::unix_nanos() / 1_000_000).unwrap_or(i64::MAX);
    let aside = loop {
        let time = jiff::Timestamp::from_millisecond(millis).map_err(io::Error::other)?;
        let name = format!("{stem}{}{end}", time.strftime(TIME));
        let aside = config.path.with_file_name(name);
        if !aside.try_exists()? {
            break aside;
        }
        millis = millis.saturating_add(1);
    };
    fs::rename(&config.path, aside)?;
    for oldest in too_many(config)? {
        tracing::error!(
            path = %visible::path(&oldest),
            "the oldest dead letters are removed because max_backups files are there: send them \
             again with auditwatch redeliver, or raise max_backups"
        );
        fs::remove_file(oldest)?;
    }
    Ok(())
}

/// What stands before and behind the time in the names of files that are set aside.
fn parts(path: &Path) -> (String, String) {
    let lossy = |part: Option<&std::ffi::OsStr>| {
        part.map_or_else(String::new, |part| part.to_string_lossy().into_owned())
    };
    let end = match path.extension() {
        Some(_) => format!(".{}", lossy(path.extension())),
        None => String::new(),
    };
    (format!("{}-", lossy(path.file_stem())), end)
}

/// The files beyond `max_backups` that were set aside, oldest first.
fn too_many(config: &Config) -> io::Result<Vec<PathBuf>> {
    let (stem, end) = parts(&config.path);
    let folder = match config.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let time = name
            .strip_prefix(&stem)
            .and_then(|rest| rest.strip_suffix(&end));
        if time.is_some_and(is_time) {
            found.push(entry.path());
        }
    }
    found.sort();
    let most = config.max_backups.max(1);
    let count = found.len().saturating_sub(most);
    found.truncate(count);
    Ok(found)
}

/// Whether a text has the form of the time in a name: nothing else is ever removed.
fn is_time(text: &str) -> bool {
    let sign = |at: usize| match at {
        4 | 7 | 13 | 16 => Some(b'-'),
        10 => Some(b'T'),
        19 => Some(b'.'),
        _ => None,
    };
    let mut letters = text.bytes().enumerate();
    text.len() == TIME_LENGTH
        && letters.all(|(at, letter)| match sign(at) {
            Some(sign) => letter == sign,
            None => letter.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &tempfile::TempDir) -> Config {
        Config {
            path: folder.path().join("dead.ndjson"),
            max_megabytes: 1,
            max_backups: 3,
        }
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_set_aside_and_bounded_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        for other in ["dead-old.ndjson", "dead-2026-11-27.ndjson", "other"] {
            fs::write(folder.path().join(other), "").unwrap();
        }
        let line = |number: u32| format!("{number}{}\n", "x".repeat(400_000)).into_bytes();
        for number in 0..20 {
            append(&config, &line(number)).unwrap();
        }
        let names = names(&folder);
        assert_eq!(names.len(), 3 + 3 + 1, "{names:?}");
        let mut kept = String::new();
        for name in names.iter().filter(|name| name.contains('T')) {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.len() <= 1024 * 1024);
            kept.push_str(&text);
        }
        kept.push_str(&fs::read_to_string(&config.path).unwrap());
        let numbers: Vec<u32> = kept
            .lines()
            .map(|line| line.trim_end_matches('x').parse().unwrap())
            .collect();
        // The newest of them, in order.
        assert_eq!(numbers, (12..20).collect::<Vec<_>>());
    }

    #[test]
    fn half_a_line_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        fs::write(&config.path, "half").unwrap();
        append(&config, b"whole\n").unwrap();
        append(&config, b"next\n").unwrap();
        let text = fs::read_to_string(&config.path).unwrap();
        assert_eq!(text, "half\nwhole\nnext\n");
    }

    /// Who writes while the file is taken away again and again loses no line and doubles none.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "another process would write at the same time"
    )]
    fn lines_are_in_what_was_taken_or_in_what_comes_after() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let writer = config.clone();
        let writing = std::thread::spawn(move || {
            for number in 0..500 {
                append(&writer, format!("{number}\n").as_bytes()).unwrap();
            }
        });
        let mut seen = Vec::new();
        let mut read = |path: &Path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            seen.extend(text.lines().map(|line| line.parse::<u32>().unwrap()));
        };
        while !writing.is_finished() {
            if let Ok(taken) = take(&config.path) {
                read(&taken);
                fs::remove_file(taken).unwrap();
            }
        }
        writing.join().unwrap();
        read(&config.path);
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_taken_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        append(&config, b"1\n").unwrap();
        let taken = take(&config.path).unwrap();
        append(&config, b"2\n").unwrap();
        let error = take(&config.path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        give_back(&config.path, b"1\n").unwrap();
        assert_eq!(fs::read_to_string(&config.path).unwrap(), "2\n1\n");
        assert!(taken.exists());
        assert!(take(&folder.path().join("none")).is_err());
    }
}
