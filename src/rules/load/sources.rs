//! Where rules come from: names of shipped ones, files, folders.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    problem::Problem,
    reader::{Scalar, hint, quoted},
};
use crate::{
    rules::shipped::{self, Shipped},
    visible,
    yaml::Mark,
};

/// Bytes of one file.
const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// Files of one folder, with those below it.
const MOST_FILES: usize = 5000;
/// Folders within each other.
const MOST_DEPTH: usize = 16;
/// What marks the file of a shipped rule in messages.
const SHIPPED: &str = "shipped:";

/// The text of one file.
pub(super) struct Source {
    pub(super) file: String,
    pub(super) text: String,
    /// Parameters in place of those of the file.
    pub(super) parameters: BTreeMap<String, Vec<Scalar>>,
    /// Where they are given.
    pub(super) taken_at: Option<Mark>,
}

impl Source {
    pub(super) fn shipped(shipped: &Shipped) -> Self {
        Self {
            file: format!("{SHIPPED}{}", shipped.file),
            text: shipped.text.to_owned(),
            parameters: BTreeMap::new(),
            taken_at: None,
        }
    }

    pub(super) fn is_shipped(&self) -> bool {
        self.file.starts_with(SHIPPED)
    }
}

/// Names of all shipped rules that make findings: the last of each file.
pub(super) fn names() -> Vec<String> {
    let names = shipped::ALL.iter().filter_map(|shipped| {
        let lines = shipped.text.lines();
        lines.rev().find_map(|line| line.strip_prefix("name: "))
    });
    names.map(str::to_owned).collect()
}

/// The texts of all that is named, and what cannot be read.
pub(super) fn find(names: &[String]) -> (Vec<Source>, Vec<Problem>) {
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if let Some(shipped) = shipped::named(name) {
            if !seen.contains(&shipped.file) {
                seen.push(shipped.file);
                sources.push(Source::shipped(shipped));
            }
            continue;
        }
        let path = Path::new(name);
        if path.is_dir() {
            match files(path) {
                Ok(files) if files.is_empty() => problems.push(whole(
                    name,
                    "no .yaml and no .yml file is in this folder".to_owned(),
                )),
                Ok(files) => {
                    for file in files {
                        read(&file, &mut sources, &mut problems);
                    }
                }
                Err(text) => problems.push(whole(name, text)),
            }
        } else if path.exists() {
            read(path, &mut sources, &mut problems);
        } else {
            let names = self::names();
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let hint = hint(name, &known);
            problems.push(whole(
                name,
                format!(
                    "no such file or folder, and no shipped rule is named {}{hint}; auditwatch rules \
                     list shows them",
                    quoted(name)
                ),
            ));
        }
    }
    (sources, problems)
}

fn whole(file: &str, text: String) -> Problem {
    Problem {
        file: file.to_owned(),
        line: 0,
        column: 0,
        text,
    }
}

fn read(path: &Path, sources: &mut Vec<Source>, problems: &mut Vec<Problem>) {
    let file = visible::path(path).to_string();
    match text(path) {
        Ok(text) => sources.push(Source {
            file,
            text,
            parameters: BTreeMap::new(),
            taken_at: None,
        }),
        Err(why) => problems.push(whole(&file, why)),
    }
}

fn text(path: &Path) -> Result<String, String> {
    let about = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !about.is_file() {
        return Err("is no file".to_owned());
    }
    if about.len() > MOST_BYTES {
        return Err("is larger than 4 MiB: split it".to_owned());
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

/// The rule files of a folder and those below it, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    collect(folder, MOST_DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!("more than {MOST_DEPTH} folders within each other"));
    };
    let cannot = |error| format!("{}: cannot be read: {error}", visible::path(folder));
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.is_dir() {
            collect(&path, depth, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            found.push(path);
        }
        if found.len() > MOST_FILES {
            return Err(format!("more than {MOST_FILES} rule files"));
        }
    }
    Ok(())
}
