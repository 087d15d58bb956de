//! Whole lines, whatever the disk does.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::*;
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

/// A disk with room for so many bytes, which writes a piece of what it cannot hold.
struct Disk {
    bytes: Vec<u8>,
    room: usize,
    can_cut: bool,
}

impl AsyncWrite for Disk {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let free = self.room.saturating_sub(self.bytes.len()).min(data.len());
        if free == 0 {
            return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        }
        self.bytes.extend_from_slice(&data[..free]);
        Poll::Ready(Ok(free))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Sink for Disk {
    async fn length(&mut self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    async fn cut(&mut self, length: u64) -> io::Result<()> {
        if !self.can_cut {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.bytes.truncate(usize::try_from(length).unwrap());
        Ok(())
    }
}

async fn fill_then_free(can_cut: bool) -> String {
    let room = line(0).len() * 3 / 2;
    let sink = Disk {
        bytes: Vec::new(),
        room,
        can_cut,
    };
    let mut exporter = File {
        path: PathBuf::from("disk"),
        sink,
        torn: false,
    };
    assert_eq!(
        exporter.send(&[samples::opened(0)]).await,
        Outcome::Accepted(1)
    );
    let batch = [samples::opened(1), samples::opened(2)];
    for _ in 0..2 {
        let outcome = exporter.send(&batch).await;
        let Outcome::Retry { reason, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert!(reason.starts_with("cannot write to disk: "), "{reason}");
    }
    exporter.sink.room = usize::MAX;
    assert_eq!(exporter.send(&batch).await, Outcome::Accepted(2));
    String::from_utf8(exporter.sink.bytes).unwrap()
}

#[tokio::test]
async fn a_short_write_is_cut_off() {
    assert_eq!(fill_then_free(true).await, line(0) + &line(1) + &line(2));
}

#[tokio::test]
async fn what_cannot_be_cut_off_ends_as_a_line_of_its_own() {
    let text = fill_then_free(false).await;
    let whole: Vec<_> = text
        .lines()
        .filter(|text| serde_json::from_str::<serde_json::Value>(text).is_ok())
        .map(|text| text.to_owned() + "\n")
        .collect();
    assert_eq!(whole, [line(0), line(1), line(2)]);
    assert_eq!(text.lines().count(), 4, "{text}");
}
