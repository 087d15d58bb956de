//! The configuration loaded again: the real binary, whose files change while it runs.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    receiver_tls::shown_by,
    support::{
        certificates::Authority,
        corpus::{self, denied},
        hec::{HecServer, Options},
        process::{Process, free_address, now},
        prometheus::scrape,
        sender::{client, request, send, try_send},
    },
};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(30);
/// What the log says when a configuration is in use.
const APPLIED: &str = "the configuration was loaded again";
const REFUSED: &str = "the configuration was not applied";

/// Makes another configuration of one.
type Change = Box<dyn Fn(String) -> String>;

/// A configuration whose parts can be replaced.
struct Setup {
    folder: tempfile::TempDir,
    address: SocketAddr,
    metrics: SocketAddr,
    hec: String,
}

impl Setup {
    fn new(hec: &HecServer) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            address: free_address(),
            metrics: free_address(),
            hec: hec.url(),
        }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration, in one step as Kubernetes and good editors do.
    fn write(&self, change: impl Fn(String) -> String) {
        let (address, metrics) = (self.address, self.metrics);
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'}}}}}}}}\n\
             processors: {{detection: {{DETECTION}}}}\n\
             exporters: {{splunk_hec: {{token: TOKEN, endpoint: '{}'}}, \
             file: {{path: '{}'}}}}\n\
             extensions: {{file_storage: {{directory: '{}', create_directory: true}}}}\n\
             service: {{extensions: [file_storage], reload_interval: 0s, \
             telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: \
             {{host: '{}', port: {}}}}}}}}}]}}}}, \
             pipelines: {{logs: {{receivers: [otlp], processors: [detection], \
             exporters: [splunk_hec]}}}}}}\n",
            self.hec,
            self.file("findings.jsonl").display(),
            self.file("storage").display(),
            metrics.ip(),
            metrics.port(),
        );
        let text = change(text);
        let text = text.replace("TOKEN", "test-token").replace("DETECTION", "");
        let new = self.file("new.yaml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.config()).unwrap();
    }

    fn start(&self) -> Process {
        let process = Process::auditwatch_as_it_is(&self.config(), &[]);
        process.wait_for("listening", LONG);
        process
    }

    /// Requests of one address, at these seconds.
    async fn scan(&self, source: &str, at: std::ops::Range<u32>) {
        let lines: Vec<_> = at.map(|at| denied(source, at, &format!("/{at}"))).collect();
        send(self.address, &lines, None).await.unwrap();
    }
}

/// Loads the configuration again, and waits until the log says `ended` once more.
fn reload(process: &Process, ended: &str) {
    let before = process.stderr().matches(ended).count();
    process.signal("HUP");
    let begin = now();
    while process.stderr().matches(ended).count() == before {
        assert!(
            begin.elapsed() < LONG,
            "no {ended:?} in {}",
            process.stderr()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// State and count of the findings of an address, in the order in which they arrived.
fn states(hec: &HecServer, source: &str) -> Vec<(String, u64)> {
    let events = hec.events();
    let of = events
        .iter()
        .filter(|event| event.event["src_ip"] == source);
    of.map(|event| {
        let state = event.event["state"].as_str().unwrap().to_owned();
        (state, event.event["count"].as_u64().unwrap())
    })
    .collect()
}

async fn until(what: &str, process: &Process, is_so: impl Fn() -> bool) {
    let begin = now();
    while !is_so() {
        assert!(begin.elapsed() < LONG, "{what}\n{}", process.stderr());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn opened(count: u64) -> Vec<(String, u64)> {
    vec![("opened".to_owned(), count)]
}

/// A window goes on over a reload that does not shape it, and counts each request once; one whose
/// threshold has changed begins anew, which the log says.
#[tokio::test(flavor = "multi_thread")]
async fn windows_go_on_unless_what_shapes_them_has_changed() {
    for storage in ["", "storage: file_storage, "] {
        let hec = HecServer::start(Options::default()).await;
        let setup = Setup::new(&hec);
        let with = |more: &str| {
            setup.write(|text| text.replace("DETECTION", &format!("{storage}{more}")));
        };
        with("");
        let process = setup.start();
        setup.scan("203.0.113.7", 0..4).await;
        with("exclude: [{name: probes, path: /healthz}]");
        reload(&process, APPLIED);
        let log = process.stderr();
        assert!(
            log.contains("processors::detection::exclude::0::path"),
            "{log}"
        );
        assert!(!log.contains("begin anew"), "{log}");
        // Half of it was sent before.
        setup.scan("203.0.113.7", 2..6).await;
        until("six requests", &process, || {
            states(&hec, "203.0.113.7") == opened(6)
        })
        .await;
        // The new exclusion is in use.
        let probes: Vec<_> = (0..20)
            .map(|at| denied("203.0.113.8", at, "/healthz"))
            .collect();
        send(setup.address, &probes, None).await.unwrap();
        let excluded = scrape(setup.metrics).await;
        let excluded = excluded.sum("auditwatch_excluded_hits", &[("exclude", "probes")]);
        assert_eq!(excluded, Some(20.0));

        setup.scan("203.0.113.9", 0..4).await;
        with("threshold: 2");
        reload(&process, APPLIED);
        process.wait_for("begin anew", LONG);
        setup.scan("203.0.113.9", 4..7).await;
        until("three requests", &process, || {
            states(&hec, "203.0.113.9") == opened(3)
        })
        .await;
        // What was open of the old rule is closed.
        let all = states(&hec, "203.0.113.7");
        assert_eq!(all.last().unwrap(), &("closed".to_owned(), 6), "{all:?}");
    }
}

/// After a kill the storage continues with what the last reload made of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_survives_the_process() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec);
    let with = |more: &str| {
        setup.write(|text| text.replace("DETECTION", &format!("storage: file_storage, {more}")));
    };
    with("");
    let mut process = setup.start();
    setup.scan("203.0.113.1", 0..6).await;
    setup.scan("203.0.113.2", 0..3).await;
    with("threshold: 9");
    reload(&process, APPLIED);
    setup.scan("203.0.113.3", 0..9).await;
    process.signal("KILL");
    process.wait(LONG);
    process = setup.start();
    // Three of the old rule and seven of the new one are no ten.
    setup.scan("203.0.113.2", 3..10).await;
    setup.scan("203.0.113.3", 9..10).await;
    until("ten requests", &process, || {
        states(&hec, "203.0.113.3") == opened(10)
    })
    .await;
    assert_eq!(states(&hec, "203.0.113.2"), []);
    let mut all = states(&hec, "203.0.113.1");
    // The last batch before the kill may be sent again.
    all.dedup();
    assert_eq!(all, [("opened".to_owned(), 6), ("closed".to_owned(), 6)]);
}

/// Findings that a wrong token keeps waiting leave at once with the right one.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_token_sends_what_waits() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec);
    let token = setup.file("token");
    std::fs::write(&token, "wrong\n").unwrap();
    let named = format!("'${{file:{}}}'", token.display());
    // The interval looks into the file, though the configuration stays.
    let change = |text: String| {
        text.replace("TOKEN", &named)
            .replace("reload_interval: 0s", "reload_interval: 100ms")
    };
    setup.write(change);
    let process = setup.start();
    setup.scan("203.0.113.7", 0..6).await;
    process.wait_for("403", LONG);
    assert_eq!(states(&hec, "203.0.113.7"), []);
    std::fs::write(&token, "test-token\n").unwrap();
    until("the finding", &process, || {
        states(&hec, "203.0.113.7") == opened(6)
    })
    .await;
    let log = process.stderr();
    assert!(log.contains("exporters::splunk_hec::token"), "{log}");
    assert!(
        !log.contains("wrong") && !log.contains("test-token"),
        "{log}"
    );
}

/// One that is wrong, or needs a restart, changes nothing, with every reason; the next one counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_refused_whole() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec);
    setup.write(|text| text);
    let process = setup.start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let occupied = taken.local_addr().unwrap();
    let own = setup.address.to_string();
    let bad: [(&str, Change, &[&str]); 4] = [
        (
            "keys",
            Box::new(|text| text.replace("DETECTION", "treshold: 5, window: soon")),
            &["treshold", "window"],
        ),
        (
            "parts",
            Box::new(move |text| {
                text.replace(
                    "DETECTION",
                    "geo: {databases: [/missing.mmdb]}, rules: [/no.yaml]",
                )
                .replace(&own, &occupied.to_string())
            }),
            &["/no.yaml", "already in use"],
        ),
        (
            "restart",
            Box::new(|text| text.replace("DETECTION", "threshold: 1, storage: file_storage")),
            &["processors::detection::storage has changed, which needs a restart"],
        ),
        ("yaml", Box::new(|_| "a: [".to_owned()), &["not valid YAML"]),
    ];
    for (name, change, reasons) in bad {
        setup.write(change);
        reload(&process, REFUSED);
        until(name, &process, || {
            reasons
                .iter()
                .all(|reason| process.stderr().contains(reason))
        })
        .await;
        let metrics = scrape(setup.metrics).await;
        let last = metrics.sum("auditwatch_config_last_reload_successful", &[]);
        assert_eq!(last, Some(0.0), "{name}");
    }
    // The old one runs on.
    setup.scan("203.0.113.7", 0..6).await;
    until("six requests", &process, || {
        states(&hec, "203.0.113.7") == opened(6)
    })
    .await;
    setup.write(|text| text.replace("DETECTION", "threshold: 1"));
    reload(&process, APPLIED);
    let metrics = scrape(setup.metrics).await;
    let count = |outcome| metrics.sum("auditwatch_config_reloads", &[("outcome", outcome)]);
    assert_eq!((count("applied"), count("refused")), (Some(1.0), Some(4.0)));
    let last = metrics.sum("auditwatch_config_last_reload_successful", &[]);
    assert_eq!(last, Some(1.0));
}

/// A connection stays open when other parts change. When its receiver changes, no sender is refused:
/// the socket stays, and what was begun is answered.
#[tokio::test(flavor = "multi_thread")]
async fn listeners_stay_open() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec);
    setup.write(|text| text);
    let process = setup.start();
    let mut kept = client(setup.address).await;
    let lines = |at: u32| vec![denied("203.0.113.7", at, "/")];
    kept.export(request(&lines(0))).await.unwrap();
    let peers = || connections(setup.address);
    let before = peers();
    setup.write(|text| text.replace("DETECTION", "exclude: [{name: a, path: /a}]"));
    reload(&process, APPLIED);
    kept.export(request(&lines(1))).await.unwrap();
    assert_eq!(peers(), before);

    let address = setup.address;
    let mut senders = JoinSet::new();
    for sender in 0..8 {
        senders.spawn(async move {
            for at in 0..200 {
                let line = denied(&format!("198.51.100.{sender}"), at, "/");
                try_send(address, &[line]).await.unwrap();
            }
        });
    }
    for size in 20..30 {
        let limited = format!("{address}', max_recv_msg_size_mib: {size}");
        setup.write(|text| text.replace(&format!("{address}'"), &limited));
        reload(&process, APPLIED);
    }
    senders.join_all().await;
    kept.export(request(&lines(2))).await.unwrap();
    let metrics = scrape(setup.metrics).await;
    let accepted = metrics.sum("otelcol_receiver_accepted_log_records", &[]);
    assert_eq!(accepted, Some(1603.0));

    // To another address, and back.
    let other = free_address();
    setup.write(|text| text.replace(&address.to_string(), &other.to_string()));
    reload(&process, APPLIED);
    try_send(other, &lines(3)).await.unwrap();
    until("the old address", &process, || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    setup.write(|text| text);
    reload(&process, APPLIED);
    try_send(address, &lines(4)).await.unwrap();
}

/// Established connections to an address of this machine, by their other end.
fn connections(address: SocketAddr) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", address.port());
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        (local.ends_with(&port) && state == "01").then(|| remote.to_owned())
    });
    let mut all: Vec<_> = lines.collect();
    all.sort();
    all
}

/// A link that is turned to another folder, as Kubernetes does, puts its database and its rules in use
/// without a signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_turned_is_seen() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec);
    let rule = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/pod-exec.yaml");
    for (version, city) in [("v1", CITY), ("v2", "Elsewhere")] {
        let folder = setup.file(version);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("geo.mmdb"), database(city)).unwrap();
        std::fs::copy(&rule, folder.join("rule.yaml")).unwrap();
    }
    let turn = |to: &str| {
        let new = setup.file("new");
        std::os::unix::fs::symlink(to, &new).unwrap();
        std::fs::rename(new, setup.file("data")).unwrap();
    };
    turn("v1");
    let data = setup.file("data");
    setup.write(|text| {
        let detection = format!(
            "geo: {{databases: ['{0}/geo.mmdb']}}, rules: ['{0}/rule.yaml']",
            data.display()
        );
        text.replace("DETECTION", &detection)
            .replace("reload_interval: 0s", "reload_interval: 100ms")
    });
    let process = setup.start();
    setup.scan("203.0.113.7", 0..4).await;
    turn("v2");
    process.wait_for(APPLIED, LONG);
    setup.scan("203.0.113.7", 4..6).await;
    until("six requests", &process, || {
        states(&hec, "203.0.113.7") == opened(6)
    })
    .await;
    let city = hec.events().first().unwrap().event["city"].clone();
    assert_eq!(city, "Elsewhere");
    // What cannot be read is refused, and a good one after it is not.
    std::fs::write(Path::new(&data).join("geo.mmdb"), "half").unwrap();
    process.wait_for(REFUSED, LONG);
    turn("v1");
    let begin = now();
    while process.stderr().matches(APPLIED).count() < 2 {
        assert!(begin.elapsed() < LONG, "{}", process.stderr());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A city of the database of the tests.
const CITY: &str = "Amsterdam";

/// That database with another name for it, of the same length.
fn database(city: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(corpus::path("test-geo.mmdb")).unwrap();
    let found = bytes
        .windows(CITY.len())
        .position(|part| part == CITY.as_bytes());
    let at = found.unwrap();
    bytes[at..at + CITY.len()].copy_from_slice(city.as_bytes());
    bytes
}

/// An exporter that comes gets the findings from then on; one that goes delivers what it has.
#[tokio::test(flavor = "multi_thread")]
async fn exporters_come_and_go() {
    for storage in ["", "storage: file_storage"] {
        let hec = HecServer::start(Options::default()).await;
        let setup = Setup::new(&hec);
        let with = |exporters: &str| {
            setup.write(|text| {
                text.replace("DETECTION", storage).replace(
                    "exporters: [splunk_hec]",
                    &format!("exporters: {exporters}"),
                )
            });
        };
        let written = || {
            let text = std::fs::read_to_string(setup.file("findings.jsonl"));
            text.unwrap_or_default().lines().count()
        };
        with("[splunk_hec]");
        let process = setup.start();
        setup.scan("203.0.113.1", 0..6).await;
        until("the first", &process, || hec.events().len() == 1).await;
        with("[splunk_hec, file]");
        reload(&process, APPLIED);
        setup.scan("203.0.113.2", 0..6).await;
        until("both", &process, || {
            hec.events().len() == 2 && written() == 1
        })
        .await;
        with("[file]");
        reload(&process, APPLIED);
        setup.scan("203.0.113.3", 0..6).await;
        until("the file", &process, || written() == 2).await;
        assert_eq!(hec.events().len(), 2);
        with("[splunk_hec]");
        reload(&process, APPLIED);
        setup.scan("203.0.113.4", 0..6).await;
        until("the last", &process, || {
            states(&hec, "203.0.113.4") == opened(6)
        })
        .await;
        // What came while it was away is not for it.
        assert_eq!(states(&hec, "203.0.113.3"), [], "{}", process.stderr());
        assert_eq!(written(), 2);
    }
}

/// A certificate that was renewed is shown to those who connect next, though `reload_interval` is 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec);
    let (first, second) = (Authority::new(), Authority::new());
    let (server, renewed) = (first.server("a"), second.server("a"));
    let files = format!(
        "endpoint: '{}', tls: {{cert_file: '{}', key_file: '{}'}}",
        setup.address,
        server.cert.display(),
        server.key.display()
    );
    let endpoint = format!("endpoint: '{}'", setup.address);
    setup.write(|text| text.replace(&endpoint, &files));
    let process = setup.start();
    shown_by(setup.address, &first).await;
    std::fs::copy(&renewed.cert, &server.cert).unwrap();
    reload(&process, REFUSED);
    shown_by(setup.address, &first).await;
    std::fs::copy(&renewed.key, &server.key).unwrap();
    reload(&process, APPLIED);
    shown_by(setup.address, &second).await;
}

/// What comes from a pipe is read once.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_read_once() {
    let hec = HecServer::start(Options::default()).await;
    let setup = Setup::new(&hec);
    setup.write(|text| text.replace("reload_interval: 0s", "reload_interval: 100ms"));
    let pipe = setup.file("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let text = std::fs::read_to_string(setup.config()).unwrap();
    let process = Process::auditwatch_as_it_is(&pipe, &[]);
    std::fs::write(&pipe, text).unwrap();
    process.wait_for("listening", LONG);
    process.signal("HUP");
    process.wait_for("in no regular file", LONG);
    setup.scan("203.0.113.7", 0..6).await;
    until("six requests", &process, || {
        states(&hec, "203.0.113.7") == opened(6)
    })
    .await;
}
