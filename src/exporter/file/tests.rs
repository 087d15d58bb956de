//! Whole lines, whatever the disk does.

use std::io::Read as _;

use super::{
    lines::{Lines, Sink},
    *,
};
use crate::exporter::samples;

fn config(path: &Path) -> Config {
    Config {
        path: path.to_owned(),
        ..Config::default()
    }
}

fn line(number: u32) -> String {
    samples::opened(number).to_json() + "\n"
}

#[tokio::test]
async fn lines_are_there_when_a_batch_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.ndjson");
    let mut exporter = File::new(&config(&path)).unwrap();
    assert_eq!(
        exporter.send(&samples::findings(2)).await,
        Outcome::Accepted(2)
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), line(0) + &line(1));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    let mut exporter = File::new(&config(&path)).unwrap();
    exporter.send(&[samples::opened(2)]).await;
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        line(0) + &line(1) + &line(2)
    );

    let mut exporter = File::new(&Config {
        append: false,
        ..config(&path)
    })
    .unwrap();
    exporter.send(&[samples::opened(3)]).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), line(3));
}

#[tokio::test]
async fn half_a_line_of_a_crash_is_ended_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.ndjson");
    std::fs::write(&path, "{\"finding_id\":\"12").unwrap();
    let mut exporter = File::new(&config(&path)).unwrap();
    exporter.send(&samples::findings(2)).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        format!("{{\"finding_id\":\"12\n{}{}", line(0), line(1))
    );
}

#[tokio::test]
async fn a_file_that_was_emptied_goes_on_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.ndjson");
    let mut exporter = File::new(&config(&path)).unwrap();
    exporter.send(&samples::findings(2)).await;
    std::fs::write(&path, "").unwrap();
    exporter.send(&[samples::opened(9)]).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), line(9));
}

#[test]
fn a_missing_folder_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent/findings.ndjson");
    let error = File::new(&config(&path)).unwrap_err().to_string();
    assert!(
        error.contains("absent/findings.ndjson") && error.contains("folder"),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_that_was_moved_or_removed_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.ndjson");
    let mut exporter = File::new(&config(&path)).unwrap();
    exporter.send(&samples::findings(1)).await;
    let old = folder.path().join("findings.1");
    std::fs::rename(&path, &old).unwrap();
    exporter.send(&[samples::opened(1)]).await;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "of another writer").unwrap();
    exporter.send(&[samples::opened(2)]).await;
    assert_eq!(std::fs::read_to_string(&old).unwrap(), line(0));
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        format!("of another writer\n{}", line(2))
    );
    // A folder that is gone may come back.
    let away = folder.path().with_extension("away");
    std::fs::rename(folder.path(), &away).unwrap();
    let outcome = exporter.send(&[samples::opened(3)]).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    std::fs::rename(&away, folder.path()).unwrap();
    exporter.send(&[samples::opened(3)]).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with(&(line(2) + &line(3))), "{text}");
}

#[tokio::test]
async fn devices_are_written_to_as_they_are() {
    let mut exporter = File::new(&config(Path::new("/dev/null"))).unwrap();
    let batch = samples::findings(3);
    assert_eq!(exporter.send(&batch).await, Outcome::Accepted(3));
    let mut exporter = File::new(&config(Path::new("/dev/full"))).unwrap();
    let outcome = exporter.send(&batch).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
}

#[tokio::test]
async fn what_hangs_is_waited_for_and_not_written_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.ndjson");
    let mut exporter = File::new(&config(&path)).unwrap();
    let batch = samples::findings(3);
    // As if the attempt had been dropped while a thread was at it.
    exporter.begin(&batch[..2]);
    assert_eq!(exporter.send(&batch).await, Outcome::Accepted(2));
    exporter.begin(&batch[..1]);
    assert_eq!(exporter.send(&batch[2..]).await, Outcome::Accepted(1));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, line(0) + &line(1) + &line(0) + &line(2));
}

#[tokio::test]
async fn an_attempt_is_bounded_in_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut exporter = File::new(&config(&folder.path().join("findings"))).unwrap();
    let batch = samples::findings(20_000);
    let Outcome::Accepted(count) = exporter.send(&batch).await else {
        panic!()
    };
    let most = ATTEMPT_BYTES / line(0).len() + 1;
    assert!(count > most / 2 && count <= most, "{count}, {most}");
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// Opens a pipe for reading, which does not wait for its other side.
fn reader(path: &Path) -> std::fs::File {
    // For both, so that there is no end of it when the writer is not there.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path);
    file.unwrap()
}

#[tokio::test]
async fn a_pipe_without_a_reader_waits_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    fifo(&path);
    let mut exporter = File::new(&config(&path)).unwrap();
    let batch = samples::findings(2);
    let Outcome::Retry { reason, .. } = exporter.send(&batch).await else {
        panic!()
    };
    assert!(
        reason.contains("no process reads from this pipe"),
        "{reason}"
    );
    let mut reader = reader(&path);
    assert_eq!(exporter.send(&batch).await, Outcome::Accepted(2));
    let wanted = line(0) + &line(1);
    let mut read = vec![0; wanted.len()];
    reader.read_exact(&mut read).unwrap();
    assert_eq!(String::from_utf8(read).unwrap(), wanted);
    drop(reader);
    let outcome = exporter.send(&batch).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
}

/// A reader that is slow, or stops within a line, costs time and neither a line nor half of one.
#[tokio::test]
async fn a_pipe_gets_whole_lines_whenever_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    fifo(&path);
    let mut reader = reader(&path);
    let batch = samples::findings(1000);
    let wanted: String = (0..1000).map(line).collect();
    assert!(wanted.len() > 128 * 1024, "it is to overflow the pipe");
    let mut pipe = Pipe::new(path.as_path().into());
    let short = Duration::from_millis(50);
    let first = pipe.send(&batch, short).await.unwrap();
    assert!(first > 0 && first < 1000);
    assert!(
        pipe.send(&batch[first..], short).await.is_err(),
        "it is full"
    );
    let mut read = Vec::new();
    let mut sent = first;
    while sent < 1000 {
        let mut some = vec![0; 4096];
        let count = reader.read(&mut some).unwrap();
        read.extend_from_slice(&some[..count]);
        // An attempt that is dropped has written something all the same.
        let dropped = tokio::time::timeout(
            Duration::from_millis(1),
            pipe.send(&batch[sent..], Duration::from_secs(20)),
        );
        match dropped.await {
            Ok(count) => sent += count.unwrap(),
            Err(_) => sent += pipe.send(&batch[sent..], short).await.unwrap_or(0),
        }
    }
    while read.len() < wanted.len() {
        let mut some = vec![0; 4096];
        let count = reader.read(&mut some).unwrap();
        read.extend_from_slice(&some[..count]);
    }
    assert!(String::from_utf8(read).unwrap() == wanted);
}

/// A finding that is given up half way leaves no half line.
#[tokio::test]
async fn a_line_that_has_begun_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    fifo(&path);
    let mut reader = reader(&path);
    let batch = samples::findings(300);
    let mut pipe = Pipe::new(path.as_path().into());
    let short = Duration::from_millis(50);
    let first = pipe.send(&batch, short).await.unwrap();
    assert!(pipe.send(&batch[first..], short).await.is_err());
    let mut read = vec![0; 64 * 1024];
    let count = reader.read(&mut read).unwrap();
    read.truncate(count);
    assert_eq!(pipe.send(&[samples::opened(999)], short).await.unwrap(), 1);
    let wanted: String = (0..=u32::try_from(first).unwrap()).map(line).collect();
    let wanted = wanted + &line(999);
    let mut rest = vec![0; wanted.len() - read.len()];
    reader.read_exact(&mut rest).unwrap();
    read.extend(rest);
    assert!(String::from_utf8(read).unwrap() == wanted);
}

/// A disk with room for this number of bytes, which writes a piece of what it cannot hold.
struct Disk {
    bytes: Vec<u8>,
    room: usize,
    can_cut: bool,
}

impl io::Write for Disk {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let free = self.room.saturating_sub(self.bytes.len()).min(data.len());
        if free == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(&data[..free]);
        Ok(free)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Disk {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        if !self.can_cut {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.bytes.truncate(usize::try_from(length).unwrap());
        Ok(())
    }
}

fn fill_then_free(can_cut: bool) -> String {
    let room = line(0).len() * 3 / 2;
    let mut lines = Lines {
        sink: Disk {
            bytes: Vec::new(),
            room,
            can_cut,
        },
        torn: false,
    };
    lines.append(line(0).as_bytes()).unwrap();
    let batch = line(1) + &line(2);
    for _ in 0..2 {
        lines.append(batch.as_bytes()).unwrap_err();
    }
    lines.sink.room = usize::MAX;
    lines.append(batch.as_bytes()).unwrap();
    String::from_utf8(lines.sink.bytes).unwrap()
}

#[test]
fn a_short_write_is_cut_off() {
    assert_eq!(fill_then_free(true), line(0) + &line(1) + &line(2));
}

#[test]
fn what_cannot_be_cut_off_ends_as_a_line_of_its_own() {
    let text = fill_then_free(false);
    let whole: Vec<_> = text
        .lines()
        .filter(|text| serde_json::from_str::<serde_json::Value>(text).is_ok())
        .map(|text| text.to_owned() + "\n")
        .collect();
    assert_eq!(whole, [line(0), line(1), line(2)]);
    assert_eq!(text.lines().count(), 4, "{text}");
}
