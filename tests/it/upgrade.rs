//! The steps of docs/upgrade.md, done to a real process: upgrade, backup in each way, check, restore,
//! downgrade.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::support::{
    corpus::denied,
    hec::{HecServer, Options},
    process::Process,
    stored::{LONG, Setup, states, until},
};

/// Some of the six requests of a scan.
fn scan(range: std::ops::Range<u32>) -> Vec<String> {
    range
        .map(|at| denied("203.0.113.7", at, &format!("/{at}")))
        .collect()
}

/// All files of a folder, as `cp -p` copies them.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Addresses that it goes on with, as its log says.
fn tracked(process: &Process) -> u64 {
    const LINE: &str = "continues from its storage";
    process.wait_for(LINE, LONG);
    let log = process.stderr();
    let line = log.lines().find(|line| line.contains(LINE)).unwrap();
    let (_, rest) = line.split_once("tracked").unwrap();
    let digits = rest.chars().skip_while(|one| !one.is_ascii_digit());
    let digits: String = digits.take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

fn term(mut process: Process) {
    process.signal("TERM");
    assert!(process.wait(LONG).success(), "{}", process.stderr());
}

/// "Restore", from the first step to the last.
fn restore(setup: &Setup, process: Process, backup: &Path, aside: &str) -> Process {
    term(process);
    fs::rename(setup.directory(), setup.folder.path().join(aside)).unwrap();
    copy(backup, &setup.directory());
    setup.start()
}

/// "Upgrade" and "Restore": the window goes on in the new version, and from the backup in the old one. Its
/// finding is then sent once more, under the same id.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_goes_on_and_a_backup_goes_back() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec.url(), "");
    let backup = setup.folder.path().join("backup");
    let process = setup.start();
    assert_eq!(tracked(&process), 0);
    setup.send(&scan(0..4)).await;
    term(process);
    copy(&setup.directory(), &backup);
    for file in fs::read_dir(&backup).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may read it: {mode:o}");
    }

    let process = setup.start();
    assert_eq!(tracked(&process), 1);
    setup.send(&scan(4..6)).await;
    let arrived = || states(&hec.events());
    until("the finding", &process, || arrived().len() == 1).await;

    let process = restore(&setup, process, &backup, "of-the-new-version");
    assert_eq!(tracked(&process), 1);
    // The logs of the time behind the backup, and of before, come again.
    setup.send(&scan(0..6)).await;
    until("the finding again", &process, || {
        arrived().values().sum::<usize>() == 2
    })
    .await;
    term(process);
    let arrived = arrived();
    assert_eq!(arrived.len(), 1, "{arrived:?}");
    assert!(arrived.keys().all(|state| state.ends_with("/opened/6")));
}

/// "Backup" of a process that runs: both files of one moment, or the snapshot alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_process_goes_on() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec.url(), "");
    let of = |name: &str| setup.folder.path().join(name);
    let process = setup.start();
    setup.send(&scan(0..4)).await;
    // As the snapshot of a volume: what the files hold at one moment.
    process.signal("STOP");
    copy(&setup.directory(), &of("volume"));
    process.signal("CONT");
    term(process);
    let process = setup.start();
    fs::create_dir(of("alone")).unwrap();
    let alone = "logs.snapshot";
    fs::copy(setup.directory().join(alone), of("alone").join(alone)).unwrap();

    let process = restore(&setup, process, &of("volume"), "first");
    assert_eq!(tracked(&process), 1, "{}", process.stderr());
    let process = restore(&setup, process, &of("alone"), "second");
    assert_eq!(tracked(&process), 1, "{}", process.stderr());
    setup.send(&scan(4..6)).await;
    until("the finding", &process, || {
        states(&hec.events())
            .keys()
            .any(|state| state.ends_with("/opened/6"))
    })
    .await;
    term(process);
}

/// "Check a backup": a start on a copy says what it holds and sends nothing; one that is damaged is set
/// aside, which the log says.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_checked_on_a_copy() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec.url(), "");
    let process = setup.start();
    setup.send(&scan(0..6)).await;
    until("the finding", &process, || hec.events().len() == 1).await;
    term(process);
    for is_damaged in [false, true] {
        let check = Setup::new("http://127.0.0.1:9", "");
        let text = fs::read_to_string(&check.config).unwrap();
        let lines = text.lines().map(|line| {
            let is_exporters = line.starts_with("exporters:");
            let line = if is_exporters {
                "exporters: {debug: }"
            } else {
                line
            };
            line.replace("[splunk_hec]", "[debug]") + "\n"
        });
        fs::write(&check.config, lines.collect::<String>()).unwrap();
        copy(&setup.directory(), &check.directory());
        if is_damaged {
            let path = check.directory().join("logs.snapshot");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }
        let process = check.start();
        assert_eq!(tracked(&process), u64::from(!is_damaged));
        let log = process.stderr();
        assert_eq!(log.contains("was set aside"), is_damaged, "{log}");
        term(process);
    }
    assert_eq!(hec.events().len(), 1);
}

/// "Downgrade": files of a later major version are refused by name and stay as they are; the backup goes
/// on, and so does an empty start.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_version_is_refused_and_the_backup_goes_on() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec.url(), "");
    let backup = setup.folder.path().join("backup");
    let process = setup.start();
    setup.send(&scan(0..4)).await;
    term(process);
    copy(&setup.directory(), &backup);
    let file = setup.directory().join("logs.redb");
    let snapshot = || fs::read(setup.directory().join("logs.snapshot")).unwrap();
    let before = snapshot();
    of_version(&file, 99);
    let mut process = setup.spawn();
    assert_eq!(process.wait(LONG).code(), Some(1), "{}", process.stderr());
    process.wait_for("has version 99", LONG);
    process.wait_for("run the version that wrote it", LONG);
    // The version that wrote it goes on.
    assert!(before == snapshot(), "it wrote there");
    of_version(&file, 1);
    let process = setup.start();
    assert_eq!(tracked(&process), 1);
    term(process);

    let aside = |name: &str| {
        fs::rename(setup.directory(), setup.folder.path().join(name)).unwrap();
    };
    aside("later");
    copy(&backup, &setup.directory());
    let process = setup.start();
    assert_eq!(tracked(&process), 1);
    term(process);
    aside("backup-in-use");
    let process = setup.start();
    assert_eq!(tracked(&process), 0);
    term(process);
}

/// Makes the file one of this version.
fn of_version(path: &Path, version: u64) {
    const META: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert("version", version).unwrap();
    drop(meta);
    transaction.commit().unwrap();
}
