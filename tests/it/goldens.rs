//! Every recording of the corpus, in every variant, against what the oracle says of it.

use std::{collections::BTreeMap, ffi::OsString, fmt, fs, io::Read as _, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use crate::support::{
    auditwatch::{Ran, run, run_on_stdin},
    corpus::path as corpus,
};

/// Goldens that must have been compared for the comparison to mean anything.
const GOLDENS: usize = 46;

/// Flags of each variant, and of the same variant with alerting rows only.
const VARIANTS: [(&str, &[&str]); 7] = [
    ("escu", &["--semantics", "escu"]),
    ("escu-geo", &["--semantics", "escu", "--geo-db", "GEO"]),
    (
        "escu-geo-drop",
        &[
            "--semantics",
            "escu",
            "--geo-db",
            "GEO",
            "--missing-city",
            "drop",
        ],
    ),
    ("native", &["--all"]),
    ("native403", &["--all", "--codes", "403", "--who", "group"]),
    (
        "native-proxy",
        &["--all", "--trusted-proxies", "10.20.0.0/24"],
    ),
    ("native-v6-64", &["--all", "--ipv6-prefix", "64"]),
];

/// A JSON value whose objects keep the order of their keys, and repeated ones.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn get(&self, wanted: &str) -> &Json {
        let Json::Object(members) = self else {
            panic!("no object: {self:?}")
        };
        let found = members.iter().find(|(key, _)| key == wanted);
        &found.unwrap_or_else(|| panic!("no {wanted} in {self:?}")).1
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = seq.next_element()? {
                    list.push(value);
                }
                Ok(Json::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Json::Object(members))
            }
        }
        from.deserialize_any(Any)
    }
}

fn lines(text: &str) -> Vec<Json> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn scan(output: &str, flags: &[&str], files: &[&Path]) -> Ran {
    let mut args: Vec<OsString> = vec!["scan".into(), "--output".into(), output.into()];
    for flag in flags {
        args.push(match *flag {
            "GEO" => corpus("test-geo.mmdb").into(),
            flag => flag.into(),
        });
    }
    args.extend(files.iter().map(|file| file.as_os_str().to_owned()));
    let ran = run(&args);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
    ran
}

/// All goldens: recording, flags of the variant, rows.
fn goldens() -> Vec<(String, &'static str, &'static [&'static str], Vec<Json>)> {
    let flags: BTreeMap<_, _> = VARIANTS.into();
    let mut all = Vec::new();
    for entry in fs::read_dir(corpus("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".json") else {
            continue;
        };
        let (recording, variant) = stem.rsplit_once('.').unwrap();
        let (variant, flags) = flags
            .get_key_value(variant)
            .unwrap_or_else(|| panic!("{name} is of a variant that no test knows"));
        let rows = lines(&fs::read_to_string(corpus(&name)).unwrap());
        all.push((recording.to_owned(), *variant, *flags, rows));
    }
    all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    assert!(all.len() >= GOLDENS, "only {} goldens", all.len());
    all
}

fn recording(name: &str) -> std::path::PathBuf {
    corpus(&format!("{name}.ndjson.gz"))
}

#[test]
fn every_recording_gives_the_rows_of_the_oracle() {
    for (name, variant, flags, golden) in goldens() {
        let rows = lines(&scan("ndjson", flags, &[&recording(&name)]).out);
        assert_eq!(rows.len(), golden.len(), "rows of {name}.{variant}");
        for (at, (row, golden)) in rows.iter().zip(&golden).enumerate() {
            assert_eq!(row, golden, "row {at} of {name}.{variant}");
        }
    }
}

#[test]
fn json_output_is_the_same_rows_in_one_array() {
    for (name, variant, flags, golden) in goldens() {
        if ["native", "escu-geo"].contains(&variant) {
            let out = scan("json", flags, &[&recording(&name)]).out;
            let array: Json = serde_json::from_str(&out).unwrap();
            assert_eq!(array, Json::List(golden), "{name}.{variant}");
        }
    }
}

#[test]
fn native_rows_are_by_default_those_that_alert() {
    let mut alerting = 0;
    for (name, variant, flags, golden) in goldens() {
        if !variant.starts_with("native") {
            continue;
        }
        let flags: Vec<_> = flags
            .iter()
            .copied()
            .filter(|flag| *flag != "--all")
            .collect();
        let rows = lines(&scan("ndjson", &flags, &[&recording(&name)]).out);
        let wanted: Vec<_> = golden
            .into_iter()
            .filter(|row| *row.get("alert_at") != Json::Null)
            .collect();
        alerting += wanted.len();
        assert_eq!(rows, wanted, "{name}.{variant}");
    }
    assert!(alerting > 200, "{alerting}");
}

/// A recording unpacked.
fn unpacked(name: &str) -> Vec<u8> {
    let mut text = Vec::new();
    let packed = fs::File::open(recording(name)).unwrap();
    flate2::read::MultiGzDecoder::new(packed)
        .read_to_end(&mut text)
        .unwrap();
    text
}

#[test]
fn compression_and_standard_input_make_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let text = unpacked("scenario-1");
    let (plain, zstd) = (folder.path().join("plain"), folder.path().join("zstd"));
    fs::write(&plain, &text).unwrap();
    fs::write(&zstd, zstd::encode_all(text.as_slice(), 3).unwrap()).unwrap();
    let packed = recording("scenario-1");
    let wanted = scan("ndjson", &["--all"], &[&packed]).out;
    assert_eq!(wanted.lines().count(), 73);
    for file in [&plain, &zstd, &packed] {
        assert!(
            scan("ndjson", &["--all"], &[file]).out == wanted,
            "{file:?}"
        );
        let ran = run_on_stdin(["scan", "--output", "ndjson", "--all", "-"], file);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert!(ran.out == wanted, "{file:?} as standard input");
    }
}

#[test]
fn several_files_are_one_stream() {
    let folder = tempfile::tempdir().unwrap();
    let text = unpacked("scenario-1-stretched");
    let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
    // Three files whose lines are taken in turn, so that every scan is spread over all.
    let files: Vec<_> = (0..3usize)
        .map(|third| {
            let path = folder.path().join(third.to_string());
            let part: Vec<_> = lines.iter().skip(third).step_by(3).copied().collect();
            fs::write(&path, part.concat()).unwrap();
            path
        })
        .collect();
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    for flags in [&["--all"] as &[&str], &["--semantics", "escu"]] {
        let whole = scan("ndjson", flags, &[&recording("scenario-1-stretched")]).out;
        assert!(scan("ndjson", flags, &files).out == whole);
    }
}
