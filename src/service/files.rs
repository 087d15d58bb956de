//! Whether the files have changed that parts of the service read when they are made.
//!
//! A file counts as changed when its place in the file system, its length or its times are others:
//! what replaces a file, as Kubernetes does with a link to a new folder, and what writes into it
//! changes one of them. What is then read is decided by its content alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::config::{ComponentId, Config, Section};

/// Files of a component that are looked at, and folders within each other.
const MOST_FILES: usize = 10_000;
const MOST_DEPTH: usize = 8;

/// The files of each component, as they were at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<(Section, ComponentId), BTreeMap<PathBuf, Option<Mark>>>);

/// What says whether a file is another one: device, inode, length, and the times of its content and
/// of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark(u64, u64, u64, (i64, i64), (i64, i64));

impl Files {
    /// The files that this configuration names, as they are now. Blocks.
    pub fn of(config: &Config) -> Self {
        let mut all = BTreeMap::new();
        for (component, paths) in config.files() {
            let mut files = BTreeMap::new();
            for path in paths {
                add(&mut files, &path, MOST_DEPTH);
            }
            all.insert(component, files);
        }
        Self(all)
    }

    /// The components whose files are others there.
    pub(super) fn changes(&self, other: &Self) -> BTreeSet<(Section, ComponentId)> {
        let all = self.0.keys().chain(other.0.keys());
        let changed = all.filter(|at| self.0.get(*at) != other.0.get(*at));
        changed.cloned().collect()
    }
}

/// Adds a file, or all files of a folder.
fn add(files: &mut BTreeMap<PathBuf, Option<Mark>>, path: &Path, depth: usize) {
    if files.len() >= MOST_FILES {
        return;
    }
    let metadata = fs::metadata(path).ok();
    let is_folder = metadata.as_ref().is_some_and(fs::Metadata::is_dir);
    let mark = metadata.map(|is| {
        let content = (is.mtime(), is.mtime_nsec());
        let file = (is.ctime(), is.ctime_nsec());
        Mark(is.dev(), is.ino(), is.len(), content, file)
    });
    files.insert(path.to_owned(), mark);
    if is_folder
        && let Some(depth) = depth.checked_sub(1)
        && let Ok(entries) = fs::read_dir(path)
    {
        for path in entries.flatten().map(|entry| entry.path()) {
            // What else is in a folder of rules is not read.
            let is_rule = path
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml");
            if is_rule || path.is_dir() {
                add(files, &path, depth);
            }
        }
    }
}
