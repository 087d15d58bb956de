//! The test that any home must pass, and what the home on disk must withstand.

use std::{fs, path::Path};

use super::{torn::TornFile, *};

fn batch(storage: &dyn Storage, entries: &[&str], findings: &[&str]) -> Batch {
    let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let bounds = storage.bounds();
    Batch {
        first_entry: bounds.next_entry,
        entries: bytes(entries),
        first_finding: bounds.next_finding,
        findings: bytes(findings),
        cursors: Vec::new(),
    }
}

fn texts(numbered: Numbered) -> Vec<(u64, String)> {
    let text = |(number, bytes)| (number, String::from_utf8(bytes).unwrap());
    numbered.into_iter().map(text).collect()
}

/// What any home must do. `open` takes ownership of the same home each time.
fn any_home(mut open: impl FnMut() -> Box<dyn Storage>) {
    let mut storage = open();
    assert_eq!(storage.bounds(), Bounds::default());
    assert!(storage.snapshots().load().unwrap().is_none());
    assert!(storage.entries(0, 100).unwrap().is_empty());
    let mut first = batch(&*storage, &["a", "bb", ""], &["f"]);
    first.cursors.push(("hec".to_owned(), 0));
    storage.commit(&first).unwrap();
    let error = storage.commit(&first).unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::Misplaced {
                entry: 3,
                finding: 1
            }
        ),
        "{error}"
    );
    let second = batch(&*storage, &["d"], &["g", "h"]);
    storage.commit(&second).unwrap();
    storage.snapshots().keep(b"one").unwrap();
    storage.snapshots().keep(b"two").unwrap();
    drop(storage);

    let mut storage = open();
    let bounds = Bounds {
        next_entry: 4,
        next_finding: 3,
        entry_bytes: 4,
        finding_bytes: 3,
        ..Bounds::default()
    };
    assert_eq!(storage.bounds(), bounds);
    assert_eq!(storage.cursor("hec"), Some(0));
    assert_eq!(storage.cursor("other"), None);
    assert_eq!(storage.snapshots().load().unwrap().unwrap(), b"two");
    let entries = texts(storage.entries(1, 1000).unwrap());
    let all = [(1, "bb"), (2, ""), (3, "d")].map(|(at, text)| (at, text.to_owned()));
    assert_eq!(entries, all);
    assert_eq!(storage.entries(0, 1).unwrap().len(), 1);
    assert_eq!(storage.findings(1, 1).unwrap(), [(1, b"g".to_vec())]);
    storage.cut(3, 2).unwrap();
    storage.cut(1, 1).unwrap();
    let bounds = storage.bounds();
    assert_eq!((bounds.first_entry, bounds.first_finding), (3, 2));
    assert_eq!((bounds.entry_bytes, bounds.finding_bytes), (1, 1));
    assert_eq!(storage.entries(0, 100).unwrap(), [(3, b"d".to_vec())]);
    assert_eq!(storage.findings(0, 100).unwrap(), [(2, b"h".to_vec())]);
    storage.cut(100, 100).unwrap();
    assert_eq!(storage.bounds().first_entry, 4);
    let error = storage.commit(&Batch::default()).unwrap_err();
    assert!(
        matches!(error, StorageError::Misplaced { entry: 4, .. }),
        "{error}"
    );
    let cursor = Batch {
        cursors: vec![("hec".to_owned(), 3)],
        ..batch(&*storage, &[], &[])
    };
    storage.commit(&cursor).unwrap();
    drop(storage);

    let mut storage = open();
    assert_eq!(storage.cursor("hec"), Some(3));
    assert_eq!(storage.bounds().next_entry, 4);
    storage.set_aside(10, 20).unwrap();
    let third = batch(&*storage, &["k"], &["l"]);
    storage.commit(&third).unwrap();
    assert_eq!(storage.entries(0, 100).unwrap(), [(10, b"k".to_vec())]);
    assert_eq!(storage.findings(0, 100).unwrap(), [(20, b"l".to_vec())]);
    assert_eq!(storage.cursor("hec"), None);
    // Large findings are read a few at a time.
    let large = Batch {
        findings: vec![vec![7; FINDINGS_BYTES / 2 - 64]; 4],
        ..batch(&*storage, &[], &[])
    };
    storage.commit(&large).unwrap();
    assert_eq!(storage.findings(21, 100).unwrap().len(), 2);
    assert_eq!(storage.findings(24, 100).unwrap().len(), 1);
}

#[test]
fn the_home_in_memory_keeps_the_contract() {
    let home = MemoryHome::default();
    any_home(|| Box::new(home.open()));
}

#[test]
fn a_home_that_is_measured_keeps_the_contract() {
    let home = MemoryHome::default();
    let mut usage = Vec::new();
    any_home(|| {
        let (measured, counted) = Measured::new(home.open());
        usage.push(counted);
        Box::new(measured)
    });
    let of = |count: fn(&Usage) -> u64| usage.iter().map(|one| count(one)).collect::<Vec<_>>();
    // Cutting is a write too.
    assert_eq!(of(Usage::commits), [2, 4, 2]);
    assert_eq!(of(Usage::failed_commits), [1, 1, 0]);
    assert_eq!(of(Usage::snapshots), [2, 0, 0]);
    assert_eq!(of(Usage::snapshot_bytes), [3, 3, 0]);
    assert_eq!(of(|usage| usage.bounds().next_entry), [4, 4, 11]);
}

#[test]
fn the_home_on_disk_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    any_home(|| Box::new(Disk::open(folder.path(), "logs").unwrap().disk));
    assert!(folder.path().join("logs.redb.corrupt-1").exists());
}

#[test]
fn an_owner_that_was_replaced_writes_nothing() {
    let home = MemoryHome::default();
    let mut before = home.open();
    let mut now = home.open();
    let late = batch(&before, &["late"], &[]);
    let error = before.commit(&late).unwrap_err();
    assert!(
        matches!(error, StorageError::Fenced { current: 2, own: 1 }),
        "{error}"
    );
    now.commit(&late).unwrap();
    // On disk, the second owner does not begin.
    let folder = tempfile::tempdir().unwrap();
    let _first = Disk::open(folder.path(), "logs").unwrap();
    let error = Disk::open(folder.path(), "logs").unwrap_err();
    assert!(matches!(error, StorageError::InUse(_)), "{error}");
}

/// What a home must have after the power went: every commit that was acknowledged, at most one more,
/// and no part of one.
#[test]
fn power_loss_takes_nothing_that_was_acknowledged() {
    for seed in 0..40_u64 {
        let mut file = TornFile::default();
        let (mut acknowledged, mut cut) = (0_u64, 0);
        for life in 0..4 {
            let random = seed * 31 + life * 7;
            let opened = {
                let file = file.clone();
                file.fail_after(if life == 3 {
                    u32::MAX
                } else {
                    20 + u32::try_from(random % 60).unwrap()
                });
                Disk::on_backend(Path::new("torn"), move || file.clone())
            };
            // The power may go while it is opened.
            if let Ok(mut disk) = opened {
                let next = disk.bounds().next_entry;
                assert!(
                    (acknowledged..=acknowledged + 1).contains(&next),
                    "seed {seed} life {life}: {acknowledged} acknowledged, {next} found"
                );
                let all = disk.entries(cut, usize::MAX).unwrap();
                let numbers: Vec<_> = all.iter().map(|(number, _)| *number).collect();
                let first = disk.bounds().first_entry;
                assert_eq!(numbers, (first..next).collect::<Vec<_>>(), "seed {seed}");
                assert_eq!(disk.bounds().next_finding, next);
                acknowledged = next;
                for step in 0..30 {
                    let text =
                        "x".repeat(usize::try_from(random * 97 + step * 501).unwrap() % 6000);
                    let batch = batch(&disk, &[&text], &[&text]);
                    if disk.commit(&batch).is_err() {
                        break;
                    }
                    acknowledged += 1;
                    if step % 7 == 6 {
                        let before = acknowledged - 3;
                        if disk.cut(before, before).is_err() {
                            break;
                        }
                        cut = before;
                    }
                }
            } else {
                assert_ne!(life, 3, "seed {seed}: a good disk cannot be opened");
            }
            file = file.after_crash(random);
        }
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let file = TornFile::default();
    let copy = file.clone();
    let mut disk = Disk::on_backend(Path::new("full"), move || copy.clone()).unwrap();
    let text = "x".repeat(100_000);
    let first = batch(&disk, &[&text], &[]);
    disk.commit(&first).unwrap();
    file.fill(true);
    let second = batch(&disk, &[&text], &[]);
    let error = disk.commit(&second).unwrap_err();
    assert!(matches!(error, StorageError::Full(_)), "{error}");
    disk.commit(&second).unwrap_err();
    file.fill(false);
    disk.commit(&second).unwrap();
    assert_eq!(disk.bounds().next_entry, 2);
    assert_eq!(disk.entries(0, usize::MAX).unwrap().len(), 2);
}

#[test]
fn damaged_files_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.redb");
    let mut disk = Disk::open(folder.path(), "logs").unwrap().disk;
    let one = batch(&disk, &["the text of an entry"], &[]);
    disk.commit(&one).unwrap();
    drop(disk);
    let good = fs::read(&path).unwrap();
    let flipped = {
        let mut bytes = good.clone();
        let needle = b"the text of an entry";
        let at = bytes.windows(needle.len()).rposition(|part| part == needle);
        bytes[at.unwrap()] ^= 1;
        bytes
    };
    for (number, (bytes, is_open)) in [
        (
            b"not a database, but long enough to be one".repeat(900),
            false,
        ),
        (good[..good.len() / 2].to_vec(), false),
        (vec![0xa5; 8192], false),
        (flipped, true),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&path, &bytes).unwrap();
        let mut opened = Disk::open(folder.path(), "logs").unwrap();
        let aside = folder
            .path()
            .join(format!("logs.redb.corrupt-{}", number + 1));
        if is_open && opened.aside.is_none() {
            let error = opened.disk.entries(0, 100).unwrap_err();
            assert!(error.is_damage(), "{error}");
            opened.disk.set_aside(1, 0).unwrap();
        } else {
            assert!(opened.aside.unwrap().contains("corrupt-"));
        }
        assert!(aside.exists(), "{number}");
        drop(opened.disk);
        fs::remove_file(&path).unwrap();
    }
    let snapshots = Disk::open(folder.path(), "logs").unwrap().disk.snapshots();
    snapshots.keep(b"state").unwrap();
    let path = folder.path().join("logs.snapshot");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = snapshots.load().unwrap_err();
    assert!(error.is_damage(), "{error}");
    assert!(folder.path().join("logs.snapshot.corrupt-1").exists());
    assert!(snapshots.load().unwrap().is_none());
}

/// A later version may have other tables: it is refused by name, and not taken for damage.
#[test]
fn other_tables_of_a_later_version_are_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.redb");
    {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        let log = redb::TableDefinition::<&str, &str>::new("log");
        let mut meta = transaction.open_table(meta).unwrap();
        meta.insert("version", 2).unwrap();
        drop(meta);
        drop(transaction.open_table(log).unwrap());
        transaction.commit().unwrap();
    }
    let error = Disk::open(folder.path(), "logs").unwrap_err();
    assert!(
        matches!(error, StorageError::Newer { found: 2, .. }),
        "{error}"
    );
    assert!(path.exists());
}
