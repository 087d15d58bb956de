//! What is kept, against a scripted exporter.

use std::{collections::VecDeque, fs};

use super::*;
use crate::exporter::samples;

struct Scripted(VecDeque<Outcome>);

impl Exporter for Scripted {
    async fn send(&mut self, _batch: &[Arc<Finding>]) -> Outcome {
        self.0.pop_front().unwrap_or(Outcome::Accepted(1))
    }
}

fn answer() -> String {
    "HTTP 400, code 6 \"no\"".to_owned()
}

fn config(folder: &tempfile::TempDir) -> Config {
    Config {
        path: folder.path().join("dead.ndjson"),
        ..Config::default()
    }
}

#[tokio::test]
async fn what_can_never_be_delivered_is_kept_whole() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let (_, full) = samples::full();
    let mut batch = samples::findings(3);
    batch[1] = Arc::new(full);
    let reason = answer();
    let script = [
        Outcome::Invalid {
            index: 1,
            reason: reason.clone(),
        },
        Outcome::Invalid {
            index: 99,
            reason: reason.clone(),
        },
        Outcome::TooLarge {
            findings: 3,
            reason: reason.clone(),
        },
        Outcome::TooLarge {
            findings: 1,
            reason: reason.clone(),
        },
        Outcome::Partial {
            findings: 2,
            rejected: 1,
            reason: reason.clone(),
        },
        Outcome::Refused {
            reason: reason.clone(),
            after: None,
        },
        Outcome::retry("down"),
    ];
    let attempts = script.len();
    let exporter = Scripted(script.into());
    let mut exporter = DeadLetters::new("splunk_hec/a", exporter, &config).unwrap();
    for _ in 0..attempts {
        exporter.send(&batch).await;
    }
    let text = fs::read_to_string(&config.path).unwrap();
    let letters: Vec<Letter<Finding>> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let seen: Vec<_> = letters
        .iter()
        .map(|letter| (letter.reason, &letter.finding))
        .collect();
    let wanted = [
        (Reason::Invalid, &*batch[1]),
        (Reason::TooLarge, &*batch[0]),
        (Reason::Rejected, &*batch[0]),
        (Reason::Rejected, &*batch[1]),
    ];
    assert_eq!(seen, wanted);
    assert!(
        letters
            .iter()
            .all(|letter| letter.exporter == "splunk_hec/a" && letter.answer == reason)
    );
    assert!(letters[0].time.ends_with('Z'), "{}", letters[0].time);
    let counters = exporter.counters();
    assert_eq!((counters.written(), counters.failed()), (4, 0));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_counted_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let script = [Outcome::Invalid {
        index: 0,
        reason: answer(),
    }];
    let mut exporter = DeadLetters::new("x", Scripted(script.into()), &config).unwrap();
    fs::remove_file(&config.path).unwrap();
    fs::create_dir(&config.path).unwrap();
    let outcome = exporter.send(&samples::findings(1)).await;
    let Outcome::Invalid { reason, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(reason.contains("cannot be written"), "{reason}");
    let counters = exporter.counters();
    assert_eq!((counters.written(), counters.failed()), (0, 1));

    let config = Config {
        path: folder.path().join("no/folder"),
        ..config
    };
    let error = DeadLetters::new("x", Scripted(VecDeque::new()), &config).unwrap_err();
    assert!(
        error.to_string().starts_with("dead_letter::path: cannot"),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_path_nothing_is_kept() {
    let script = [Outcome::Invalid {
        index: 0,
        reason: answer(),
    }];
    let exporter = Scripted(script.into());
    let mut exporter = DeadLetters::new("x", exporter, &Config::default()).unwrap();
    let outcome = exporter.send(&samples::findings(1)).await;
    assert_eq!(
        outcome,
        Outcome::Invalid {
            index: 0,
            reason: answer()
        }
    );
    assert_eq!(exporter.counters().written(), 0);
}
