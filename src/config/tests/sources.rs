//! Several sources, files in values, and the merged configuration as it is printed.
use std::{fs, path::PathBuf};

use super::{DEBUG, DETECTION, EVERYTHING, MINIMAL, OTLP, REFERENCE, SERVICE, env};
use crate::config::{Config, ConfigError, ExporterConfig, Source, checked, print, source};

fn yaml(text: &str) -> Source {
    Source::Yaml(text.to_owned())
}

fn set(text: &str) -> Source {
    Source::set(text).unwrap()
}

fn load(sources: &[Source]) -> Result<Config, ConfigError> {
    checked(source::load(sources, &env), &env).map(|(config, _)| config)
}

fn printed(sources: &[Source]) -> String {
    let (_, root) = checked(source::load(sources, &env), &env).unwrap_or_else(|e| panic!("{e}"));
    print::yaml(&root, &env)
}

#[track_caller]
fn refused(sources: &[Source], wanted: &[&str]) {
    let error = load(sources).unwrap_err();
    assert_eq!(error.problems(), wanted);
}

fn whole() -> Source {
    yaml(&format!("{OTLP}{DETECTION}{DEBUG}{SERVICE}"))
}

/// The rule's threshold, its window, and the exporters of the pipeline.
fn shape(config: &Config) -> (u64, i64, Vec<String>) {
    let detection = config.processors.values().next().unwrap();
    let pipeline = config.pipelines.values().next().unwrap();
    let exporters = pipeline.exporters.iter().map(ToString::to_string);
    (
        detection.rule.threshold,
        detection.rule.window / 1_000_000,
        exporters.collect(),
    )
}

#[test]
fn maps_are_merged_and_all_else_is_replaced() {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let first = yaml("processors: {detection: {threshold: 7, window: 2h}}");
    let second = yaml(
        "processors: {detection: {window: 3h}}
exporters: {file: {path: x}}
service: {pipelines: {logs: {exporters: [file]}}}",
    );
    let config = load(&[whole(), first.clone(), second.clone()]).unwrap();
    assert_eq!(shape(&config), (7, 3 * 3600, names(&["file"])));
    // The order decides.
    let config = load(&[second, whole(), first]).unwrap();
    assert_eq!(shape(&config), (7, 2 * 3600, names(&["debug"])));
    // Nothing at all says nothing; a key without a value is back to its default.
    let config = load(&[
        whole(),
        yaml("# nothing"),
        yaml("processors: {detection: }"),
    ])
    .unwrap();
    assert_eq!(shape(&config), (5, 3600, names(&["debug"])));
}

#[test]
fn keys_may_stand_for_several() {
    let config = load(&[
        whole(),
        yaml("processors::detection: {threshold: 1}"),
        yaml("processors::detection::window: 2h"),
        set("processors.detection.threshold=9"),
        set("service::pipelines::logs::exporters=[debug/2]"),
        set("exporters.debug/2="),
    ])
    .unwrap();
    assert_eq!(shape(&config), (9, 7200, vec!["debug/2".to_owned()]));
    // Within one source, too.
    let config = load(&[
        whole(),
        yaml("processors::detection::window: 2h\nprocessors: {detection: {threshold: 3}}"),
    ])
    .unwrap();
    assert_eq!(shape(&config).0, 3);
    assert_eq!(shape(&config).1, 7200);
}

#[test]
fn every_problem_names_its_source() {
    refused(
        &[
            whole(),
            yaml("processors:\n  detection: {treshold: 1}"),
            Source::Variable("LINE".to_owned()),
            set("processors.detection.window=\"s3cret"),
            set("processors.detection.who=nobody"),
            set("exporters.debug.verbosty=basic"),
            Source::Variable("NOT".to_owned()),
            Source::File(PathBuf::from("no/such.yaml")),
            yaml("a: ["),
        ],
        &[
            "--set processors.detection.window: not valid YAML: while scanning a quoted scalar, \
             found unexpected end of stream",
            "env:NOT: environment variable NOT is not set, set it to a configuration",
            "no/such.yaml: cannot read no/such.yaml: No such file or directory (os error 2)",
            "yaml::2:1: not valid YAML: while parsing a node, did not find expected node content",
        ],
    );
    refused(
        &[
            whole(),
            yaml("processors:\n  detection: {treshold: 1}"),
            set("processors.detection.who=nobody"),
            set("exporters.debug.verbosty=basic"),
        ],
        &[
            "yaml::2:15: processors::detection: unknown key \"treshold\", did you mean \"threshold\"?",
            "--set processors.detection.who: processors::detection::who: expected any or group, \
             got \"nobody\"",
            "--set exporters.debug.verbosty: exporters::debug: unknown key \"verbosty\", did you mean \
             \"verbosity\"?",
        ],
    );
    refused(
        &[Source::Variable("LINE".to_owned())],
        &[
            "env:LINE:1:1: expected a map",
            "env:LINE:1:1: service is required, it says which components make a pipeline",
        ],
    );
}

#[test]
fn reads_what_the_command_line_names() {
    for (text, wanted) in [
        ("a.yaml", Source::File("a.yaml".into())),
        ("file:a.yaml", Source::File("a.yaml".into())),
        ("./env:a", Source::File("./env:a".into())),
        ("env:CONFIG", Source::Variable("CONFIG".to_owned())),
        ("yaml:a::b: 1", yaml("a::b: 1")),
    ] {
        assert_eq!(text.parse(), Ok(wanted), "{text}");
    }
    assert!("https://a/b.yaml".parse::<Source>().is_err());
    for text in ["", "a", "=b", "a..b=c", ".=c"] {
        assert!(Source::set(text).is_err(), "{text}");
    }
    let secret = set("exporters.splunk_hec.token=s3cret");
    assert_eq!(format!("{secret:?}"), "--set exporters.splunk_hec.token");
}

#[test]
fn a_file_may_hold_a_secret_or_a_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("token", "s3cret$$\r\n");
    write("colons", "a: b: [c\n");
    write(
        "exporters.yaml",
        &format!(
            "splunk_hec: {{endpoint: 'http://a', token: '${{file:{}}}', source: '${{file:{}}}'}}",
            path("token"),
            path("colons"),
        ),
    );
    let text = format!(
        "{OTLP}{DETECTION}exporters: ${{file:{}}}\n{SERVICE}",
        path("exporters.yaml")
    )
    .replace("[debug]", "[splunk_hec]");
    let config = load(&[yaml(&text)]).unwrap();
    let ExporterConfig::SplunkHec(hec) = &config.exporters.values().next().unwrap() else {
        panic!()
    };
    assert_eq!(secrecy::ExposeSecret::expose_secret(&hec.token), "s3cret$$");
    assert_eq!(hec.source, "a: b: [c");
    assert!(!printed(&[yaml(&text)]).contains("s3cret"));

    // An error inside names the file that it is in.
    write("exporters.yaml", "debug:\n  verbosty: basic\n");
    let text = text.replace("[splunk_hec]", "[debug]");
    let wanted = format!(
        "{}:2:3: exporters::debug: unknown key \"verbosty\", did you mean \"verbosity\"?",
        path("exporters.yaml")
    );
    refused(&[yaml(&text)], &[&wanted]);

    // A file that is not there, and one without end in itself.
    write("again", &format!("a: ${{file:{}}}\n", path("again")));
    let none = path("none");
    let error = load(&[
        whole(),
        set(&format!("processors.detection.cluster=${{file:{none}}}")),
        yaml(&format!("a: ${{file:{}}}", path("again"))),
        set(&format!(
            "exporters.debug.verbosity=${{file:{}}}",
            path("token")
        )),
    ])
    .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains(&format!("cannot read {none}: No such file")),
        "{message}"
    );
    assert!(
        message.contains("more than 64 files or variables are pulled in"),
        "{message}"
    );
    assert!(
        message.contains("expected basic, normal or detailed, got something else (from ${file:")
    );
    assert!(!message.contains("s3cret"), "{message}");
}

/// As in the Collector: only a value that is a variable as a whole, and only when it has that form.
#[test]
fn a_variable_may_hold_a_list_or_map() {
    let env = |name: &str| match name {
        "LIST" => Some("[debug, file]".to_owned()),
        "MAP" => Some("{threshold: 7, window: '${env:WINDOW}'}".to_owned()),
        "WINDOW" => Some("2h".to_owned()),
        "TEXT" => Some("threshold: 7".to_owned()),
        "LOOP" => Some("['${LOOP}']".to_owned()),
        _ => None,
    };
    let load = |set: &[&str]| {
        let mut sources = vec![whole(), yaml("exporters: {file: {path: x}}")];
        sources.extend(set.iter().map(|text| Source::set(text).unwrap()));
        checked(source::load(&sources, &env), &env).map(|(config, _)| config)
    };
    let config = load(&[
        "service.pipelines.logs.exporters=${env:LIST}",
        "processors.detection=${MAP}",
    ]);
    let exporters = vec!["debug".to_owned(), "file".to_owned()];
    assert_eq!(shape(&config.unwrap()), (7, 2 * 3600, exporters));
    let config = load(&["processors.detection='${env:NONE:-{threshold: 8}}'"]);
    assert_eq!(shape(&config.unwrap()).0, 8);
    for (set, wanted) in [
        (
            "processors.detection=${env:TEXT}",
            "--set processors.detection: processors::detection: expected a map",
        ),
        (
            "processors.detection.cluster=${env:LIST}",
            "env:LIST:1:1: processors::detection::cluster: expected a single value",
        ),
    ] {
        assert_eq!(load(&[set]).unwrap_err().problems(), [wanted]);
    }
    let message = load(&["processors.detection.codes=${LOOP}"]).unwrap_err();
    assert!(
        message
            .to_string()
            .contains("more than 64 files or variables"),
        "{message}"
    );
}

/// The form in which the Collector prints them, and in which its telemetry writes them.
#[test]
fn headers_and_attributes_may_be_pairs() {
    let pairs = "[{name: X-A, value: s3cret}, {name: X-B, value: '${SPLUNK_HEC_TOKEN}'}]";
    let text = format!(
        "exporters: {{splunk_hec: {{token: t, endpoint: 'http://a', headers: {pairs}}}}}
service: {{telemetry: {{
  resource: {{schema_url: 'https://a', attributes: [{{name: service.name, value: mine}}]}},
  metrics: {{readers: [{{periodic: {{exporter: {{otlp: {{endpoint: 'http://a', headers: {pairs}}}}}}}}}]}}}}}}"
    );
    let sources = [whole(), yaml(&text)];
    let config = load(&sources).unwrap();
    let ExporterConfig::SplunkHec(hec) = &config.exporters[&"splunk_hec".parse().unwrap()] else {
        panic!("{config:?}")
    };
    assert_eq!(hec.headers["x-a"], "s3cret");
    assert_eq!(hec.headers["x-b"], "s3cret");
    let resource = [("service.name".to_owned(), "mine".to_owned())];
    assert_eq!(config.resource, resource.into());
    let text = printed(&sources);
    assert!(!text.contains("s3cret"), "{text}");
    assert!(
        text.contains("name: X-A\n        value: \"[REDACTED]\""),
        "{text}"
    );
    assert_eq!(printed(&[yaml(&text)]), text);
    let wrong = yaml(
        "exporters: {splunk_hec: {token: t, endpoint: 'http://a', headers: [{name: a}, {value: b}, c]}}",
    );
    refused(
        &[whole(), wrong],
        &[
            "yaml::1:68: exporters::splunk_hec::headers: value is required",
            "yaml::1:79: exporters::splunk_hec::headers: name is required",
            "yaml::1:91: exporters::splunk_hec::headers: expected a map",
            "yaml::1:91: exporters::splunk_hec::headers: name is required",
            "yaml::1:91: exporters::splunk_hec::headers: value is required",
        ],
    );
}

#[test]
fn what_is_printed_reads_the_same_and_shows_no_secret() {
    let trick = yaml(
        r#"
exporters:
  splunk_hec:
    {token: s3cret, endpoint: 'https://a:1/b?token=s3cret', source: "~", index: "",
    host: " a: b # c\n\"", sourcetype: "$${A}"}
"#,
    );
    let without = yaml("exporters: {splunk_hec: {endpoint: 'https://a:1/b'}}");
    let text = printed(&[yaml(MINIMAL), without.clone()]);
    assert!(text.contains("    token: \"[REDACTED]\"\n"), "{text}");
    for sources in [
        vec![yaml(MINIMAL)],
        vec![yaml(REFERENCE)],
        vec![yaml(EVERYTHING)],
        vec![yaml(MINIMAL), trick.clone(), without],
    ] {
        let text = printed(&sources);
        assert!(
            !text.contains("s3cret") && !text.contains("pa$word"),
            "{text}"
        );
        let (first, again) = (load(&sources), load(&[yaml(&text)]));
        let message = again.as_ref().err().map(ToString::to_string);
        assert_eq!(
            format!("{:?}", first.unwrap()),
            format!("{again:?}")
                .replacen("Ok(", "", 1)
                .strip_suffix(')')
                .unwrap_or_default(),
            "{message:?}\n{text}"
        );
        assert_eq!(printed(&[yaml(&text)]), text);
    }
}

#[test]
fn a_password_in_a_url_is_not_printed() {
    let text = printed(&[
        yaml(MINIMAL),
        set("processors.detection.cluster=https://user:s3cret@a:1/b"),
    ]);
    assert!(
        text.contains("cluster: \"https://[REDACTED]@a:1/b\"\n"),
        "{text}"
    );
}

#[test]
fn files_that_are_not_there_are_noted_and_no_problem() {
    let config = load(&[
        whole(),
        yaml(
            "processors::detection::geo::databases: [no/such.mmdb]
exporters:
  splunk_hec: {token: t, endpoint: 'https://a', tls: {ca_file: no/such.pem}}
  otlp_grpc: {endpoint: 'a:1', tls: {ca_file: no/such.more}}
extensions: {bearertokenauth: {filename: no/such.tokens}, bearertokenauth/idle: {filename: no/such.more}}
service: {extensions: [bearertokenauth], pipelines: {logs: {exporters: [splunk_hec]}}}
receivers::otlp::protocols::grpc::tls: {cert_file: no/such.crt, key_file: no/such.key}",
        ),
    ])
    .unwrap();
    let notes = config.notes();
    let wanted = [
        "otlp: tls::cert_file: cannot read no/such.crt: ",
        "detection: geo::databases: cannot read no/such.mmdb: ",
        "splunk_hec: tls::ca_file: cannot read no/such.pem: ",
        "bearertokenauth: filename: cannot read no/such.tokens: ",
    ];
    assert_eq!(notes.len(), wanted.len(), "{notes:?}");
    for (note, wanted) in notes.iter().zip(wanted) {
        assert!(note.starts_with(wanted), "{note}");
    }
}

#[test]
fn nothing_wrong_is_printed() {
    let error = print(&[whole(), yaml("exporters: {splunk_hec: {tokn: s3cret}}")]);
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("did you mean \"token\"?") && !message.contains("s3cret"),
        "{message}"
    );
}

/// Settings of the Collector that change nothing here may stay.
#[test]
fn what_changes_nothing_is_taken_and_noted() {
    let text = "
receivers:
  otlp:
    protocols:
      grpc: {transport: tcp, read_buffer_size: 524288, include_metadata: false,
        keepalive: {enforcement_policy: {min_time: 10s}}}
      http: {cors: , logs_url_path: /v1/logs}
exporters:
  splunk_hec:
    {token: t, endpoint: 'https://a', tls: {insecure: false}, log_data_enabled: true, batcher: ,
    sending_queue: {num_consumers: 10, storage: , block_on_overflow: false, sizer: requests}}
service:
  telemetry: {logs: {output_paths: [stderr], development: false, sampling: }}
";
    let config = load(&[whole(), yaml(text)]).unwrap();
    assert_eq!(
        config.without_effect,
        [
            "yaml::5:30: receivers::otlp::protocols::grpc::read_buffer_size has no effect here: not \
             available in this version",
            "yaml::6:21: receivers::otlp::protocols::grpc::keepalive::enforcement_policy has no effect \
             here: clients may ask whether we are there as often as they like",
            "yaml::11:21: exporters::splunk_hec::sending_queue::num_consumers has no effect here: one \
             request at a time keeps findings in order",
        ]
    );
    for (set, wanted) in [
        ("receivers.otlp.protocols.grpc.transport=unix", "always tcp"),
        (
            "exporters.splunk_hec.sending_queue.storage=file_storage",
            "not available",
        ),
        (
            "service.telemetry.logs.output_paths=[a.log]",
            "not available",
        ),
    ] {
        let message = load(&[whole(), yaml(text), self::set(set)])
            .unwrap_err()
            .to_string();
        assert!(message.contains(wanted), "{message}");
    }
}
