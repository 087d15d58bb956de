//! Disks that are full, read-only, forbidden or taken, and files that are damaged or of another version:
//! a clear error, or refusals until it works again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::sleep;

use crate::support::{
    corpus::denied,
    process::{Process, now},
    sender::try_send,
    stored::{LONG, Setup, Splunk, states, until},
};

/// Some requests of a scan.
fn scan(source: &str, range: std::ops::Range<u32>) -> Vec<String> {
    range
        .map(|at| denied(source, at, &format!("/{at}")))
        .collect()
}

/// What it says when it does not start.
fn refused(setup: &Setup) -> String {
    let mut process = setup.spawn();
    last_words(&mut process)
}

/// What it says when it ends with an error.
fn last_words(process: &mut Process) -> String {
    assert_eq!(process.wait(LONG).code(), Some(1), "{}", process.stderr());
    process.wait_for("auditwatch: ", LONG);
    process.stderr()
}

/// A command in a mount namespace of its own, in which `script` has mounted what it wants. `None`,
/// loudly, where that is not allowed.
fn in_namespace(script: &str, setup: &Setup) -> Option<Process> {
    let works = |flags: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(flags)
            .args(["sh", "-c", "mount -t tmpfs tmpfs /mnt"]);
        command.stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let flags = [&["-m"][..], &["-rm"]]
        .into_iter()
        .find(|flags| works(flags));
    let Some(flags) = flags else {
        use std::io::Write as _;
        let _told = writeln!(
            std::io::stderr(),
            "\n*** SKIPPED: a test of a storage may not mount a file system here\n"
        );
        return None;
    };
    let directory = setup.directory();
    fs::create_dir_all(&directory).unwrap();
    let script = format!(
        "set -e; {}; exec '{}' --config '{}'",
        script.replace("DIRECTORY", &directory.display().to_string()),
        env!("CARGO_BIN_EXE_auditwatch"),
        setup.config.display()
    );
    let arguments: Vec<_> = flags.iter().copied().chain(["sh", "-c", &script]).collect();
    Some(Process::start(Path::new("unshare"), &arguments, &[]))
}

/// The storage as the process sees it.
fn seen(process: &Process, setup: &Setup) -> PathBuf {
    let root = format!("/proc/{}/root", process.pid());
    Path::new(&root).join(setup.directory().strip_prefix("/").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_hits_until_there_is_room() {
    let splunk = Splunk::start().await;
    let setup = Setup::new(&splunk.url(), "");
    let mount = "mount -t tmpfs -o size=16m tmpfs 'DIRECTORY'";
    let Some(mut process) = in_namespace(mount, &setup) else {
        return;
    };
    process.wait_for("listening", LONG);
    setup.send(&scan("198.18.0.1", 0..3)).await;
    setup.wait_for_health(200, &process).await;
    // All that is left goes, to the last byte.
    let fill = seen(&process, &setup).join("fill");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=4096"])
        .arg(format!("of={}", fill.display()))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!filled.success(), "there was no end of the disk");
    // Pages that are free inside the file take some.
    let begin = now();
    let refusal = loop {
        match try_send(setup.address, &scan("198.18.0.1", 0..3)).await {
            Err(status) => break status,
            Ok(()) => assert!(begin.elapsed() < LONG, "it is never full"),
        }
        let noise: Vec<_> = (0..500)
            .map(|at| {
                denied(
                    &format!("198.19.{}.{}", at / 250, at % 250),
                    0,
                    &"/x".repeat(300),
                )
            })
            .collect();
        let _answer = try_send(setup.address, &noise).await;
    };
    assert_eq!(refusal.code(), tonic::Code::Unavailable, "{refusal}");
    setup.wait_for_health(503, &process).await;
    // Requests without hits pass.
    try_send(setup.address, &["no audit event".to_owned()])
        .await
        .unwrap();
    process.wait_for("is full: make room", LONG);
    let stderr = process.stderr();
    assert!(!stderr.contains("damaged"), "{stderr}");
    fs::remove_file(fill).unwrap();
    setup.send(&scan("198.18.0.1", 3..6)).await;
    setup.wait_for_health(200, &process).await;
    process.wait_for("the storage can be written again", LONG);
    until("the finding", &process, || {
        states(&splunk.events())
            .keys()
            .any(|state| state.ends_with("/opened/6"))
    })
    .await;
    process.signal("TERM");
    assert!(process.wait(LONG).success(), "{}", process.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_or_read_only_at_the_start_is_an_error() {
    let splunk = Splunk::start().await;
    for (mount, says) in [
        (
            "mount -t tmpfs -o ro tmpfs 'DIRECTORY'",
            "is read-only: mount it with write access",
        ),
        (
            "mount -t tmpfs -o size=4k tmpfs 'DIRECTORY'",
            "is full: make room",
        ),
    ] {
        let setup = Setup::new(&splunk.url(), "");
        let Some(mut process) = in_namespace(mount, &setup) else {
            return;
        };
        let stderr = last_words(&mut process);
        assert!(stderr.contains(says), "{stderr}");
        assert!(
            stderr.contains("cannot continue pipeline logs from its storage"),
            "{stderr}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_may_not_be_written_is_an_error() {
    use std::os::unix::fs::PermissionsExt as _;
    let splunk = Splunk::start().await;
    let setup = Setup::new(&splunk.url(), "");
    fs::create_dir(setup.directory()).unwrap();
    // For root there are no permissions: it becomes another user.
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let mode = if is_root { 0o755 } else { 0o555 };
    fs::set_permissions(setup.directory(), fs::Permissions::from_mode(mode)).unwrap();
    fs::set_permissions(setup.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = env!("CARGO_BIN_EXE_auditwatch");
    let config = setup.config.to_str().unwrap();
    let mut process = if is_root {
        let user = [
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            binary,
            "--config",
            config,
        ];
        Process::start(Path::new("setpriv"), &user, &[])
    } else {
        Process::start(Path::new(binary), &["--config", config], &[])
    };
    if is_root && process.wait(LONG).code() != Some(1) {
        // The folder of the build is closed to others: nothing was tested.
        return;
    }
    let stderr = last_words(&mut process);
    let says = "may not be written: give the user of this process the right to write there";
    assert!(stderr.contains(says), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_one_directory_does_not_start() {
    let splunk = Splunk::start().await;
    let setup = Setup::new(&splunk.url(), "");
    let first = setup.start();
    let other = Setup::new(&splunk.url(), "");
    let [theirs, ours] = [&other, &setup].map(|one| one.directory().display().to_string());
    let text = fs::read_to_string(&other.config).unwrap();
    fs::write(&other.config, text.replace(&theirs, &ours)).unwrap();
    let stderr = refused(&other);
    assert!(stderr.contains("is in use by another process"), "{stderr}");
    setup.send(&scan("198.18.0.1", 0..6)).await;
    until("the finding", &first, || !splunk.events().is_empty()).await;
    assert_eq!(setup.health().await, 200);
}

/// A directory with three requests of a scan in it, which ended with this signal.
async fn used(splunk: &Splunk, signal: &str) -> Setup {
    let setup = Setup::new(&splunk.url(), "");
    let mut process = setup.start();
    setup.send(&scan("198.18.0.1", 0..3)).await;
    process.signal(signal);
    process.wait(LONG);
    setup
}

/// What is done to a file.
type Damage = fn(&mut Vec<u8>);

/// After it, the scan goes on; whether it is found depends on what was kept.
async fn goes_on(setup: &Setup, splunk: &Splunk, is_found: bool) {
    let mut process = setup.start();
    setup.send(&scan("198.18.0.1", 3..6)).await;
    setup.send(&scan("198.18.0.2", 0..6)).await;
    until("the finding of what is new", &process, || {
        let events = splunk.events();
        events
            .iter()
            .any(|event| event.event["src_ip"] == "198.18.0.2")
    })
    .await;
    sleep(Duration::from_millis(100)).await;
    let events = splunk.events();
    let old = events
        .iter()
        .filter(|event| event.event["src_ip"] == "198.18.0.1");
    assert_eq!(old.count(), usize::from(is_found), "{}", process.stderr());
    process.signal("TERM");
    assert!(process.wait(LONG).success(), "{}", process.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_set_aside_and_what_is_lost_is_said() {
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let foreign = |bytes: &mut Vec<u8>| *bytes = b"a letter to a friend".repeat(1000);
    let flipped = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    };
    // What was acknowledged is in the snapshot after SIGTERM, in the log after SIGKILL.
    let cases: [(&str, &str, Damage, bool); 6] = [
        ("logs.redb", "TERM", cut, true),
        ("logs.redb", "TERM", foreign, true),
        ("logs.redb", "KILL", foreign, false),
        ("logs.snapshot", "TERM", cut, false),
        ("logs.snapshot", "TERM", flipped, false),
        ("logs.snapshot", "KILL", foreign, true),
    ];
    for (name, signal, damage, is_found) in cases {
        let splunk = Splunk::start().await;
        let setup = used(&splunk, signal).await;
        let path = setup.directory().join(name);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        goes_on(&setup, &splunk, is_found).await;
        let aside = setup.directory().join(format!("{name}.corrupt-1"));
        assert_eq!(
            fs::read(aside).unwrap().len(),
            bytes.len(),
            "{name} {signal}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_wrote_is_refused_by_name() {
    let splunk = Splunk::start().await;
    let setup = used(&splunk, "TERM").await;
    let path = setup.directory().join("logs.redb");
    let before = fs::read(&path).unwrap();
    {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        transaction
            .open_table(meta)
            .unwrap()
            .insert("version", 2)
            .unwrap();
        transaction.commit().unwrap();
    }
    let stderr = refused(&setup);
    assert!(
        stderr.contains("has version 2, this auditwatch reads up to 1"),
        "{stderr}"
    );
    assert!(!setup.directory().join("logs.redb.corrupt-1").exists());
    // The version that wrote it goes on.
    fs::write(&path, before).unwrap();
    goes_on(&setup, &splunk, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_storage_say_what_it_does() {
    use crate::support::prometheus::scrape;
    let splunk = Splunk::start().await;
    let setup = Setup::new(&splunk.url(), "");
    let text = fs::read_to_string(&setup.config).unwrap();
    let pull = "metrics: {level: normal, readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, \
                port: 0}}}}]}";
    let text = text.replace("metrics: {level: none}", pull);
    let config = auditwatch::config::parse("test.yaml", &text, &|_| None).unwrap();
    let service = auditwatch::service::Service::start(config).await.unwrap();
    let metrics = service.metrics_addresses()[0];
    setup.send(&scan("198.18.0.1", 0..6)).await;
    let seen = scrape(metrics).await;
    let of = |name: &str, labels: &[(&str, &str)]| {
        seen.sum(&format!("auditwatch_storage_{name}"), labels)
    };
    assert_eq!(of("up", &[("pipeline", "logs")]), Some(1.0));
    assert_eq!(of("failed_commits", &[]), Some(0.0));
    assert_eq!(of("size_limit", &[]), Some(512.0 * 1024.0 * 1024.0));
    // The start, the hits, and time that passed.
    assert!(of("entries", &[("part", "log")]) >= Some(2.0));
    assert!(of("commits", &[]) >= Some(2.0));
    assert!(of("commit_duration_count", &[]) >= Some(1.0));
    assert!(of("size", &[("part", "log")]) > Some(500.0));
    assert!(of("snapshot_age", &[]) < Some(60.0));
    assert_eq!(
        of("entries", &[("part", "outbox")]).map(|some| some <= 1.0),
        Some(true)
    );
    assert_eq!(of("snapshots", &[]), Some(1.0));
    assert!(service.shutdown(LONG).await);
}
