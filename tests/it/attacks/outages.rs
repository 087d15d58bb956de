//! A peer, a file, a pipe or a signal that does not do what it should.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tonic::{Code, Status};

use crate::support::{
    corpus::denied,
    hec::{Answer, HecServer, Options},
    otlp_peer::{self, Peer, Protocol},
    process::{Process, free_address, now},
    prometheus::scrape,
    sender::send,
};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);

/// A configuration with one exporter, on this machine.
struct Setup {
    folder: tempfile::TempDir,
    address: SocketAddr,
    config: PathBuf,
}

impl Setup {
    /// `exporter` is its type and settings; `service` is what stands in that section beside the
    /// pipelines.
    fn new(exporter: &str, service: &str) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let config = folder.path().join("config.yaml");
        let (kind, settings) = exporter.split_once(' ').unwrap_or((exporter, ""));
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'}}}}}}}}\n\
             processors: {{detection: }}\n\
             exporters: {{{kind}: {settings}}}\n\
             service: {{{service}pipelines: {{logs: {{receivers: [otlp], \
             processors: [detection], exporters: [{kind}]}}}}}}\n"
        );
        std::fs::write(
            &config,
            text.replace("FOLDER", &folder.path().display().to_string()),
        )
        .unwrap();
        Self {
            folder,
            address,
            config,
        }
    }

    fn hec(hec: &HecServer, more: &str, service: &str) -> Self {
        let url = hec.url();
        let exporter = format!("splunk_hec {{token: test-token, endpoint: '{url}', {more}}}");
        Self::new(&exporter, service)
    }

    fn start(&self) -> Process {
        let process = Process::auditwatch(&self.config, &[]);
        process.wait_for("listening", LONG);
        process
    }

    /// Scans from `count` addresses, each of its own network, a finding for each.
    async fn scans(&self, count: u32) {
        for chunk in (0..count).collect::<Vec<_>>().chunks(200) {
            let lines: Vec<String> = chunk
                .iter()
                .flat_map(|n| scan(&format!("198.{}.{}.7", n / 250, n % 250)))
                .collect();
            send(self.address, &lines, None).await.unwrap();
        }
    }
}

fn scan(source: &str) -> Vec<String> {
    (0..6)
        .map(|at| denied(source, at, &format!("/{at}")))
        .collect()
}

/// Waits for something that takes no event to notice.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = now();
    while !is_so() {
        assert!(begin.elapsed() < LONG, "{what}: it never came to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Splunk was away and is back, while the exporter waits because Splunk, or its own settings, asked
/// for a long wait. What waits behind that batch has its turn too.
#[tokio::test(flavor = "multi_thread")]
async fn the_shutdown_wakes_a_retry_that_waits() {
    let busy = Answer::code(9);
    for (answer, settings) in [
        (busy.clone().header("retry-after", "1000000000"), ""),
        (
            busy,
            "retry_on_failure: {initial_interval: 5m, max_interval: 5m, max_elapsed_time: 0s}",
        ),
    ] {
        let hec = HecServer::start(Options::default()).await;
        hec.answer_next(vec![answer]);
        let setup = Setup::hec(&hec, settings, "");
        let mut process = setup.start();
        setup.scans(1).await;
        process.wait_for("will try again", LONG);
        setup.scans(700).await;
        assert!(hec.events().is_empty());
        process.signal("TERM");
        let status = process.wait(LONG);
        assert_eq!(status.code(), Some(0), "{}", process.stderr());
        // Each is sent as opened, and as closed by the shutdown.
        assert_eq!(hec.events().len(), 1400, "{}", process.stderr());
    }
}

/// The end of the outage comes during the shutdown, after `max_elapsed_time` would have ended.
#[tokio::test(flavor = "multi_thread")]
async fn the_shutdown_tries_each_second_until_its_deadline() {
    let hec = HecServer::start(Options::default()).await;
    let busy = Answer::code(9).header("retry-after", "3600");
    hec.answer_next(vec![busy; 9]);
    let retry = "retry_on_failure: {initial_interval: 3s, max_interval: 3s, \
                 randomization_factor: 0, max_elapsed_time: 6s}";
    let setup = Setup::hec(&hec, retry, "");
    let mut process = setup.start();
    setup.scans(3).await;
    process.wait_for("will try again", LONG);
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
    // Each is sent as opened, and as closed by the shutdown.
    assert_eq!(hec.events().len(), 6);
    let arrived: Vec<Instant> = hec.requests().iter().map(|seen| seen.arrived).collect();
    // What waits behind the batch that is tried again goes as soon as that one was taken.
    let waits: Vec<Duration> = arrived
        .windows(2)
        .skip(1)
        .take(8)
        .map(|two| two[1] - two[0])
        .collect();
    assert!(
        waits.iter().all(|wait| *wait > Duration::from_millis(500)),
        "each second, no oftener: {waits:?}"
    );
}

/// An attempt that hangs is no reason to lose what another one would deliver.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_hangs_leaves_time_for_another() {
    let hec = HecServer::start(Options::default()).await;
    hec.answer_next(vec![Answer::hang()]);
    let setup = Setup::hec(&hec, "timeout: 5m", "shutdown_timeout: 6s, ");
    let mut process = setup.start();
    setup.scans(2).await;
    until("a request", || !hec.requests().is_empty()).await;
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
    assert_eq!(hec.events().len(), 4);
}

/// The question for an acknowledgement waits too: it is asked at once.
#[tokio::test(flavor = "multi_thread")]
async fn the_shutdown_wakes_who_waits_for_an_acknowledgement() {
    let options = Options {
        use_ack: true,
        ..Options::default()
    };
    let hec = HecServer::start(options).await;
    let ack = "ack: {enabled: true, poll_interval: 3m, timeout: 4m}";
    let setup = Setup::hec(&hec, ack, "");
    let mut process = setup.start();
    setup.scans(1).await;
    hec.wait_for(1, LONG).await;
    setup.scans(3).await;
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
    assert_eq!(hec.events().len(), 6);
}

/// An acknowledgement that never comes does not keep other findings from being sent, and the exit
/// code says that it did not come.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_acknowledgement_costs_no_other_finding() {
    let hec = HecServer::start(Options::default()).await;
    let accepted = r#"{"text":"Success","code":0,"ackId":0}"#;
    let not_yet = Answer::new(200, r#"{"acks":{"0":false}}"#);
    hec.answer_next(vec![Answer::new(200, accepted).storing()]);
    let ack = "ack: {enabled: true, poll_interval: 3m, timeout: 4m}";
    let setup = Setup::hec(&hec, ack, "shutdown_timeout: 6s, ");
    let mut process = setup.start();
    setup.scans(1).await;
    hec.wait_for(1, LONG).await;
    setup.scans(3).await;
    // Asked at once, and each second: two seconds are a third of the time.
    hec.answer_next(vec![not_yet; 2]);
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(1), "{}", process.stderr());
    let stderr = process.stderr();
    assert!(stderr.contains("not acknowledged as indexed"), "{stderr}");
    assert!(hec.events().len() >= 3, "{stderr}");
}

/// The same over OTLP, where `RetryInfo` or `Retry-After` asks for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn otlp_exporters_are_woken_too() {
    use tonic_types::{ErrorDetails, StatusExt as _};

    let hour = ErrorDetails::with_retry_info(Some(Duration::from_hours(1)));
    let later = Status::with_error_details(Code::Unavailable, "later", hour);
    let header = vec![("retry-after", "3600".to_owned())];
    for (protocol, kind, answer) in [
        (
            Protocol::Grpc,
            "otlp_grpc",
            otlp_peer::Answer::Grpc(Err(later)),
        ),
        (
            Protocol::Http,
            "otlp_http",
            otlp_peer::Answer::Http(503, header, Vec::new()),
        ),
    ] {
        for answer in [answer, otlp_peer::Answer::Hang] {
            let peer = Peer::start(protocol).await;
            let hangs = matches!(answer, otlp_peer::Answer::Hang);
            peer.answer_next([answer]);
            let address = peer.address;
            let exporter = format!(
                "{kind} {{endpoint: 'http://{address}', timeout: 5m, tls: {{insecure: true}}}}"
            );
            let setup = Setup::new(&exporter, "shutdown_timeout: 6s, ");
            let mut process = setup.start();
            setup.scans(1).await;
            if hangs {
                until("a request", || !peer.seen().is_empty()).await;
            } else {
                process.wait_for("will try again", LONG);
            }
            process.signal("TERM");
            let status = process.wait(LONG);
            assert_eq!(status.code(), Some(0), "{kind} {}", process.stderr());
            // Once more what was opened, and that it is closed by the shutdown.
            assert_eq!(peer.seen().len(), 3, "{kind} {}", process.stderr());
        }
    }
}

/// A replay that waits to try again tries once more when a signal ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_stopped_tries_once_more() {
    use tonic_types::{ErrorDetails, StatusExt as _};

    let hour = ErrorDetails::with_retry_info(Some(Duration::from_hours(1)));
    let later = Status::with_error_details(Code::Unavailable, "later", hour);
    let peer = Peer::start(Protocol::Grpc).await;
    peer.answer_next([otlp_peer::Answer::Grpc(Err(later))]);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::fs::write(&log, scan("203.0.113.7").join("\n")).unwrap();
    let mut process = replay(&[
        log.to_str().unwrap(),
        "--speed=full",
        &format!("--endpoint={}", peer.address),
    ]);
    process.wait_for("trying again in", LONG);
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
    assert_eq!(peer.messages().len(), 2);
}

fn replay(arguments: &[&str]) -> Process {
    let program = Path::new(env!("CARGO_BIN_EXE_auditwatch"));
    Process::start(program, &[&["replay"], arguments].concat(), &[])
}

/// A pipe whose reader does not read holds a replay up only until a signal ends it.
#[test]
fn a_replay_into_a_pipe_that_is_not_read_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (log, pipe) = (folder.path().join("log"), folder.path().join("pipe"));
    let line = denied("203.0.113.7", 1, &"x".repeat(100_000));
    std::fs::write(&log, [line.as_str(); 4].join("\n")).unwrap();
    let _reader = fifo(&pipe);
    let output = format!("--output={}", pipe.display());
    let mut process = replay(&[log.to_str().unwrap(), "--speed=full", &output]);
    // It has nothing to say until it is stopped.
    std::thread::sleep(Duration::from_secs(1));
    process.signal("TERM");
    let begin = now();
    process.wait(LONG);
    assert!(begin.elapsed() < Duration::from_secs(15));
}

/// What would kill the process by default does nothing, and SIGQUIT ends it as SIGTERM does.
#[tokio::test(flavor = "multi_thread")]
async fn signals_lose_nothing() {
    for stop in ["TERM", "QUIT"] {
        let hec = HecServer::start(Options::default()).await;
        let setup = Setup::hec(&hec, "", "");
        let mut process = setup.start();
        for name in ["USR1", "USR1", "USR2", "ALRM", "IO", "USR1"] {
            process.signal(name);
            process.wait_for("this signal does nothing here", LONG);
        }
        let lines: Vec<String> = (0..8).map(|at| denied("203.0.113.7", at, "/")).collect();
        send(setup.address, &lines, None).await.unwrap();
        process.signal(stop);
        assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
        let counts: Vec<_> = hec
            .events()
            .iter()
            .map(|event| event.event["count"].as_u64())
            .collect();
        assert_eq!(counts, [Some(6), Some(8)], "{stop}");
        let stderr = process.stderr();
        let logged = |text: &str| stderr.matches(text).count();
        for name in ["USR2", "ALRM", "IO"] {
            assert_eq!(logged(&format!("SIG{name}\"")), 1, "{stderr}");
        }
        // One at once, and at most one at the end that counts the suppressed ones.
        assert!((1..=2).contains(&logged("SIGUSR1\"")), "{stderr}");
    }
}

/// Who starts it with nohup wants it to outlive the terminal.
#[tokio::test(flavor = "multi_thread")]
async fn nohup_keeps_its_meaning() {
    let setup = Setup::new("debug", "");
    let program = env!("CARGO_BIN_EXE_auditwatch");
    let config = crate::support::process::quiet(&std::fs::read_to_string(&setup.config).unwrap());
    std::fs::write(&setup.config, config).unwrap();
    let script = format!(
        "trap '' HUP; exec {program} --config {}",
        setup.config.display()
    );
    let mut process = Process::start(Path::new("/bin/sh"), &["-c", &script], &[]);
    process.wait_for("listening", LONG);
    process.signal("HUP");
    setup.scans(1).await;
    process.wait_for("Kubernetes scanning from ip", LONG);
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0));
}

/// A child whose standard error is what the test says. It is killed when dropped.
struct Bare(Child);

impl Bare {
    fn start(arguments: &[&str], stderr: impl Into<Stdio>) -> Self {
        let program = env!("CARGO_BIN_EXE_auditwatch");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self(command.stderr(stderr).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        let begin = now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < LONG, "still running");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A pipe that takes nothing more until it is read.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&vec![b'.'; 64 * 1024]).unwrap();
    (reader, writer)
}

/// Waits until a port is listened on, and gives the time for that.
async fn listening(address: SocketAddr) {
    let begin = now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        assert!(begin.elapsed() < LONG, "it does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A log that is not read: the service starts, detects, answers, and ends in time. What was dropped
/// is counted, and logged when there is a reader again.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_read_stops_nothing() {
    let metrics = free_address();
    let port = metrics.port();
    let telemetry = format!(
        "telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: \
         {{host: 127.0.0.1, port: {port}}}}}}}}}]}}}}, "
    );
    let setup = Setup::new("debug {verbosity: detailed}", &telemetry);
    let (mut reader, writer) = full_pipe();
    let mut service = Bare::start(&["--config", setup.config.to_str().unwrap()], writer);
    listening(setup.address).await;
    let scans = async |n: u32| {
        let long = "x".repeat(1000);
        let hits = (0..40u32).flat_map(|m| (0..6).map(move |at| (m, at)));
        let lines: Vec<String> = hits
            .map(|(m, at)| denied(&format!("203.0.{n}.{m}"), at, &format!("/{at}{long}")))
            .collect();
        send(setup.address, &lines, None).await.unwrap();
    };
    let dropped = async || {
        scrape(metrics)
            .await
            .sum("auditwatch_log_lines_dropped", &[])
    };
    // Each finding is a line of tens of kilobytes, and 4 MiB of lines may wait.
    let begin = now();
    for n in 0..100 {
        assert!(begin.elapsed() < 3 * LONG, "no line was dropped");
        scans(n).await;
        if dropped().await > Some(10.0) {
            break;
        }
    }
    let all = std::thread::scope(|threads| {
        let reading = threads.spawn(|| {
            let mut all = Vec::new();
            let mut piece = vec![0; 64 * 1024];
            while !String::from_utf8_lossy(&all).contains("log lines were dropped") {
                let count = reader.read(&mut piece).unwrap();
                assert!(count > 0, "it is never logged");
                all.extend_from_slice(&piece[..count]);
            }
            all
        });
        reading.join().unwrap()
    });
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(all.trim_start_matches('.').contains("listening"));
    // It is blocked again, and ends all the same.
    scans(100).await;
    let begin = now();
    service.signal("TERM");
    assert_eq!(service.wait().code(), Some(0));
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "{:?}",
        begin.elapsed()
    );
}

/// Even the error of a failed start does not wait for a reader.
#[test]
fn an_error_at_the_start_waits_for_no_reader() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::new("debug", "");
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let text = text.replace(&setup.address.to_string(), &taken);
    std::fs::write(&setup.config, crate::support::process::quiet(&text)).unwrap();
    let path = setup.config.to_str().unwrap();
    let (_reader, writer) = full_pipe();
    assert_eq!(
        Bare::start(&["--config", path], writer).wait().code(),
        Some(1)
    );
    // Read, it is there in full, behind the lines of the log.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut service = Bare::start(&["--config", path], writer);
    assert_eq!(service.wait().code(), Some(1));
    let mut stderr = String::new();
    reader.read_to_string(&mut stderr).unwrap();
    let last = stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("auditwatch: cannot start receiver otlp") && last.contains(&taken),
        "{stderr}"
    );
}

/// Standard error that is closed, full, or has lost its reader costs its lines and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_stops_nothing() {
    let full = || {
        std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    for kind in ["full", "broken", "closed"] {
        let hec = HecServer::start(Options::default()).await;
        let setup = Setup::hec(&hec, "", "telemetry: {metrics: {level: none}}, ");
        let path = setup.config.to_str().unwrap();
        let mut service = match kind {
            "full" => Bare::start(&["--config", path], full()),
            "broken" => {
                let (reader, writer) = std::io::pipe().unwrap();
                drop(reader);
                Bare::start(&["--config", path], writer)
            }
            _ => {
                let program = env!("CARGO_BIN_EXE_auditwatch");
                let script = format!("exec {program} --config {path} 2>&-");
                let mut shell = Command::new("/bin/sh");
                Bare(
                    shell
                        .args(["-c", &script])
                        .stdin(Stdio::null())
                        .spawn()
                        .unwrap(),
                )
            }
        };
        listening(setup.address).await;
        setup.scans(2).await;
        hec.wait_for(2, LONG).await;
        service.signal("TERM");
        assert_eq!(service.wait().code(), Some(0), "{kind}");
    }
}

/// Makes a named pipe and holds it open for reading. Nothing is read from it.
fn fifo(path: &Path) -> std::fs::File {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path);
    file.unwrap()
}

/// A pipe that no process reads from: the service starts and says so, is not ready, and ends in time
/// and the loss is logged. When a reader comes, findings go to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_without_a_reader_stops_nothing() {
    let health = free_address();
    let service = "extensions: [health_check], shutdown_timeout: 4s, ";
    let setup = Setup::new("file {path: 'FOLDER/pipe'}", service);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let extension = format!("extensions: {{health_check: {{endpoint: '{health}'}}}}\n");
    std::fs::write(&setup.config, extension + &text).unwrap();
    let pipe = setup.folder.path().join("pipe");
    drop(fifo(&pipe));
    let mut process = setup.start();
    setup.scans(1).await;
    process.wait_for("no process reads from this pipe", LONG);
    let (head, _) = crate::support::prometheus::get(health, "GET", "/").await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    let begin = now();
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(1), "{}", process.stderr());
    assert!(
        begin.elapsed() < Duration::from_secs(12),
        "{:?}",
        begin.elapsed()
    );
    let stderr = process.stderr();
    assert!(stderr.contains("findings were given up"), "{stderr}");
    assert!(stderr.contains("findings=1"), "{stderr}");

    let mut process = setup.start();
    setup.scans(2).await;
    process.wait_for("no process reads from this pipe", LONG);
    let mut reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
    let mut read = vec![0; 64 * 1024];
    let count = reader.read(&mut read).unwrap();
    let text = String::from_utf8_lossy(&read[..count]);
    assert_eq!(text.matches("\"state\":\"opened\"").count(), 2, "{text}");
    assert!(text.ends_with("}\n"));
}

/// A reader that stops reading holds up findings, and nothing beyond the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_is_not_read_stops_nothing() {
    let setup = Setup::new("file {path: 'FOLDER/pipe'}", "shutdown_timeout: 4s, ");
    let _reader = fifo(&setup.folder.path().join("pipe"));
    let mut process = setup.start();
    setup.scans(400).await;
    // Senders are heard meanwhile.
    send(setup.address, &[denied("198.51.100.1", 1, "/")], None)
        .await
        .unwrap();
    let begin = now();
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(1), "{}", process.stderr());
    assert!(
        begin.elapsed() < Duration::from_secs(12),
        "{:?}",
        begin.elapsed()
    );
    let stderr = process.stderr();
    assert!(stderr.contains("findings were given up"), "{stderr}");
    // What fits into the pipe is in it.
    assert!(!stderr.contains("sent=0"), "{stderr}");
}

/// Standard output that is a pipe is written to like any other pipe.
#[tokio::test(flavor = "multi_thread")]
async fn findings_go_to_standard_output() {
    let service = "telemetry: {metrics: {level: none}}, ";
    let setup = Setup::new("file {path: /dev/stdout}", service);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let program = env!("CARGO_BIN_EXE_auditwatch");
    let mut command = Command::new(program);
    command
        .args(["--config", setup.config.to_str().unwrap()])
        .stdout(writer)
        .stderr(Stdio::null());
    let mut service = Bare(command.spawn().unwrap());
    drop(command);
    listening(setup.address).await;
    setup.scans(3).await;
    service.signal("TERM");
    assert_eq!(service.wait().code(), Some(0));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
}

/// Tools that rotate logs rename the file, or copy and empty it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_rotated_is_left() {
    let setup = Setup::new("file {path: 'FOLDER/findings'}", "");
    let file = setup.folder.path().join("findings");
    let old = setup.folder.path().join("findings.1");
    let opened = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|finding| finding["state"] == "opened")
            .count()
    };
    let mut process = setup.start();
    setup.scans(1).await;
    until("the first finding", || opened(&file) == 1).await;
    std::fs::rename(&file, &old).unwrap();
    send(setup.address, &scan("198.51.100.1"), None)
        .await
        .unwrap();
    until("the second finding", || opened(&file) == 1).await;
    process.wait_for("the file was moved or removed", LONG);
    std::fs::remove_file(&file).unwrap();
    send(setup.address, &scan("198.51.100.2"), None)
        .await
        .unwrap();
    until("the third finding", || opened(&file) == 1).await;
    std::fs::write(&file, "").unwrap();
    send(setup.address, &scan("198.51.100.3"), None)
        .await
        .unwrap();
    until("the fourth finding", || opened(&file) == 1).await;
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
    assert_eq!(opened(&old), 1);
}

/// What hangs at the start does not keep the service from hearing that it is to stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_hangs_can_be_stopped() {
    let hec = HecServer::start(Options::default()).await;
    hec.answer_next(vec![Answer::hang()]);
    let asks = Setup::hec(&hec, "timeout: 5m, health_check_enabled: true", "");
    let reads = Setup::new("debug", "extensions: [bearertokenauth], ");
    let text = std::fs::read_to_string(&reads.config).unwrap();
    let pipe = reads.folder.path().join("pipe");
    drop(fifo(&pipe));
    let extension = format!(
        "extensions: {{bearertokenauth: {{filename: '{}'}}}}\n",
        pipe.display()
    );
    std::fs::write(&reads.config, extension + &text).unwrap();
    for setup in [asks, reads] {
        let mut process = Process::auditwatch(&setup.config, &[]);
        // Before this it would be killed by the signal, as any process.
        let signals = format!("/proc/{}/status", process.pid());
        until("it hears signals", || {
            let status = std::fs::read_to_string(&signals).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            u64::from_str_radix(caught.unwrap().trim(), 16).unwrap() & (1 << 14) != 0
        })
        .await;
        let begin = now();
        process.signal("TERM");
        assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
        assert!(
            begin.elapsed() < Duration::from_secs(6),
            "{:?}",
            begin.elapsed()
        );
    }
}

/// A secret is taken out of what a peer repeats, and spoils no other word.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_hidden_and_short_ones_spoil_no_message() {
    for token in ["t", "e", "5ecre7-of-ours"] {
        let hec = HecServer::start(Options {
            tokens: vec![token.to_owned()],
            ..Options::default()
        })
        .await;
        let percent: Vec<String> = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let percent = percent.concat();
        let page = format!(
            "<html>the request failed, try later: Authorization: Splunk {token} \
             /login?next=Splunk%20{percent} {{\\\"token\\\": \\\"{token}\\\"}}</html>"
        );
        hec.answer_next(vec![Answer::new(503, page), Answer::reset()]);
        let url = hec.url();
        let exporter = format!(
            "splunk_hec {{token: {token}, endpoint: '{url}', \
             retry_on_failure: {{initial_interval: 100ms}}}}"
        );
        let setup = Setup::new(&exporter, "");
        let mut process = setup.start();
        setup.scans(1).await;
        process.wait_for("will try again", LONG);
        hec.wait_for(1, LONG).await;
        process.signal("TERM");
        assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
        let stderr = process.stderr();
        assert!(stderr.contains("the request failed, try later"), "{stderr}");
        if token.len() > 1 {
            assert!(
                !stderr.contains(token) && !stderr.contains(&percent),
                "{stderr}"
            );
        }
    }
}

/// Secrets of headers, of basic authentication and of the URL, as a proxy may show them.
#[tokio::test(flavor = "multi_thread")]
async fn no_part_of_a_request_that_is_shown_again_gives_a_secret_away() {
    let page = "<html>try later: POST /v1/logs?key=query-5ecret&amp;x=1 Authorization: Basic \
                YWRtaW46cGE1NXdvcmQ%3D {&quot;user&quot;: &quot;admin:pa55word&quot;} pa55word \
                X-Scope: 5ecre7\\/scope</html>";
    let peer = Peer::start(Protocol::Http).await;
    let kind = vec![("content-type", "text/html".to_owned())];
    peer.answer_next([otlp_peer::Answer::Http(503, kind, page.into())]);
    let address = peer.address;
    let exporter = format!(
        "otlp_http {{logs_endpoint: 'http://{address}/v1/logs?key=query-5ecret', headers: \
         {{Authorization: 'Basic YWRtaW46cGE1NXdvcmQ=', X-Scope: 5ecre7/scope}}, \
         retry_on_failure: {{initial_interval: 100ms}}}}"
    );
    let setup = Setup::new(&exporter, "");
    let mut process = setup.start();
    setup.scans(1).await;
    process.wait_for("will try again", LONG);
    process.signal("TERM");
    assert_eq!(process.wait(LONG).code(), Some(0), "{}", process.stderr());
    let stderr = process.stderr();
    assert!(
        stderr.contains("<html>try later: POST /v1/logs?key=[hidden]"),
        "{stderr}"
    );
    for secret in ["5ecre", "pa55word", "YWRtaW46"] {
        assert!(!stderr.contains(secret), "{secret} in {stderr}");
    }
}
