//! The recorded logs and what is to be found in them.

use std::{collections::BTreeMap, io::Read as _, path::PathBuf};

use serde_json::Value;

/// A file of the corpus.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/corpus")
        .join(name)
}

/// A file of the cases.
pub(crate) fn case(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/cases")
        .join(name)
}

/// The lines of a recording.
pub(crate) fn lines(name: &str) -> Vec<String> {
    let file = std::fs::File::open(path(&format!("{name}.ndjson.gz"))).unwrap();
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The native rows that alert, by address.
pub(crate) fn alerts(name: &str) -> BTreeMap<String, Value> {
    std::fs::read_to_string(path(&format!("{name}.native.json")))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|row| !row["alert_at"].is_null())
        .map(|row| (row["src_ip"].as_str().unwrap().to_owned(), row))
        .collect()
}

/// An anonymous request answered 403, as a log has it. Its minute and second are those of `at`.
pub(crate) fn denied(source: &str, at: u32, uri: &str) -> String {
    serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
        "auditID": format!("{source}-{at}"), "stage": "ResponseComplete",
        "requestURI": uri, "verb": "get",
        "user": {"username": "system:anonymous", "groups": ["system:unauthenticated"]},
        "sourceIPs": [source], "userAgent": "curl/8.5.0",
        "responseStatus": {"metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403},
        "requestReceivedTimestamp":
            format!("2026-11-25T07:{:02}:{:02}.000000Z", at / 60 % 60, at % 60),
    })
    .to_string()
}
