//! `OTEL_EXPORTER_OTLP_*`: what the environment says of where our own metrics and spans are pushed
//! to, as OpenTelemetry specifies it.
//!
//! A variable fills what the configuration leaves open. A variable that contradicts a key is an
//! error at the start, because one of the two does not do what its author expects. The variable of
//! one signal (`OTEL_EXPORTER_OTLP_METRICS_TIMEOUT`) has priority over the general one
//! (`OTEL_EXPORTER_OTLP_TIMEOUT`), and an empty one is unset. The exporter reads the same variables
//! on its own. It finds the values that it got from here, or none.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use secrecy::{ExposeSecret as _, SecretString};

use super::read::Section;
use crate::telemetry::otlp::{Compression, Config, Protocol};

/// What is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Metrics,
    Traces,
}

/// The keys that are written, without their defaults.
pub(super) struct Written {
    pub(super) protocol: Option<Protocol>,
    pub(super) insecure: Option<bool>,
    pub(super) headers: BTreeMap<String, SecretString>,
    /// Name and value of the key.
    pub(super) timeout: (&'static str, Option<Duration>),
}

/// The variables of one signal.
pub(super) struct Variables<'s, 'a> {
    section: &'s Section<'a>,
    signal: Signal,
}

/// Something is wrong, and is reported.
struct Reported;

/// Value and name of a variable, if it is set.
type Found<T> = Result<Option<(T, String)>, Reported>;

/// What a variable holds, and its name.
struct Variable {
    name: String,
    value: String,
}

impl<'s, 'a> Variables<'s, 'a> {
    pub(super) fn new(section: &'s Section<'a>, signal: Signal) -> Self {
        Self { section, signal }
    }

    /// Whether the environment names an endpoint.
    pub(super) fn has_endpoint(&self) -> bool {
        self.find("ENDPOINT").is_some()
    }

    /// The settings, complete. `endpoint` is the URL as it is written, if any. `None` if something
    /// is wrong, which is reported.
    pub(super) fn complete(&self, written: Written, endpoint: Option<&str>) -> Option<Config> {
        self.completed(written, endpoint).ok()
    }

    fn completed(&self, written: Written, endpoint: Option<&str>) -> Result<Config, Reported> {
        let words = [("grpc", Protocol::Grpc), ("http/protobuf", Protocol::Http)];
        let protocol = self.word("PROTOCOL", &words);
        let protocol = self.one("protocol", written.protocol, protocol)?;
        let protocol = protocol.unwrap_or_default();
        let words = [("true", true), ("false", false)];
        let insecure = self.word("INSECURE", &words);
        let insecure = self.one("insecure", written.insecure, insecure)?;
        let (key, timeout) = written.timeout;
        let timeout = self.one(key, timeout, self.timeout())?;
        Ok(Config {
            protocol,
            endpoint: self.endpoint(endpoint, protocol, insecure.unwrap_or_default())?,
            headers: self.headers(written.headers)?,
            timeout: timeout.unwrap_or(Duration::from_secs(30)),
            compression: self.compression(protocol)?,
            ca: self.path("CERTIFICATE"),
            identity: self.identity()?,
        })
    }

    fn find(&self, what: &str) -> Option<Variable> {
        let signal = match self.signal {
            Signal::Metrics => "METRICS_",
            Signal::Traces => "TRACES_",
        };
        [signal, ""].into_iter().find_map(|signal| {
            let name = format!("OTEL_EXPORTER_OTLP_{signal}{what}");
            let value = self.section.variable(&name)?;
            (!value.is_empty()).then_some(Variable { name, value })
        })
    }

    /// The one value of a key and a variable, which must not contradict each other.
    fn one<T: PartialEq>(
        &self,
        key: &str,
        written: Option<T>,
        found: Found<T>,
    ) -> Result<Option<T>, Reported> {
        match (written, found?) {
            (Some(written), Some((found, name))) if written != found => {
                Err(self.contradiction(key, &name))
            }
            (Some(value), _) | (None, Some((value, _))) => Ok(Some(value)),
            (None, None) => Ok(None),
        }
    }

    fn contradiction(&self, key: &str, name: &str) -> Reported {
        self.section.fail(format_args!(
            "{key} and the environment variable {name} say different things, remove the key or \
             unset the variable"
        ));
        Reported
    }

    /// Variables may hold secrets, so messages do not show their values.
    fn unreadable(&self, name: &str, expected: &str) -> Reported {
        self.section.fail(format_args!(
            "the environment variable {name} must be {expected}"
        ));
        Reported
    }

    fn word<T: Copy>(&self, what: &str, words: &[(&str, T)]) -> Found<T> {
        let Some(Variable { name, value }) = self.find(what) else {
            return Ok(None);
        };
        let found = words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(value.trim()));
        if let Some((_, found)) = found {
            return Ok(Some((*found, name)));
        }
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        Err(self.unreadable(&name, &words.join(" or ")))
    }

    fn timeout(&self) -> Found<Duration> {
        let Some(Variable { name, value }) = self.find("TIMEOUT") else {
            return Ok(None);
        };
        let millis = value.trim().parse().ok();
        let Some(millis) = millis.filter(|millis| (1..=86_400_000).contains(millis)) else {
            return Err(self.unreadable(&name, "a number of milliseconds from 1 to 86400000"));
        };
        Ok(Some((Duration::from_millis(millis), name)))
    }

    fn compression(&self, protocol: Protocol) -> Result<Option<Compression>, Reported> {
        let words = [
            ("none", None),
            ("gzip", Some(Compression::Gzip)),
            ("zstd", Some(Compression::Zstd)),
        ];
        match self.word("COMPRESSION", &words)? {
            Some((Some(Compression::Zstd), name)) if protocol == Protocol::Http => {
                Err(self.unreadable(&name, "gzip or none with protocol http/protobuf"))
            }
            found => Ok(found.and_then(|(compression, _)| compression)),
        }
    }

    /// The URL, whole: that of all signals gets the path of this one.
    fn endpoint(
        &self,
        written: Option<&str>,
        protocol: Protocol,
        insecure: bool,
    ) -> Result<String, Reported> {
        let of_all = |name: &str| name == "OTEL_EXPORTER_OTLP_ENDPOINT";
        let found = self.find("ENDPOINT").map(|Variable { name, value }| {
            let mut endpoint = url(value.trim(), insecure);
            if of_all(&name) && protocol == Protocol::Http {
                let signal = match self.signal {
                    Signal::Metrics => "metrics",
                    Signal::Traces => "traces",
                };
                endpoint = format!("{}/v1/{signal}", endpoint.trim_end_matches('/'));
            }
            (endpoint, name)
        });
        let written = written.map(|written| url(written, insecure));
        let Some((found, name)) = found else {
            return written.ok_or(Reported);
        };
        let Some(is) = uri(&found) else {
            return Err(self.unreadable(&name, "a URL such as http://localhost:4317"));
        };
        match written {
            // As URLs, so that a final slash makes no difference.
            Some(written) if uri(&written).is_some_and(|written| written != is) => {
                Err(self.contradiction("endpoint", &name))
            }
            Some(written) => Ok(written),
            None => Ok(found),
        }
    }

    /// Headers of both: `name=value,name=value`, values percent-encoded.
    fn headers(
        &self,
        mut all: BTreeMap<String, SecretString>,
    ) -> Result<BTreeMap<String, SecretString>, Reported> {
        let Some(Variable { name, value }) = self.find("HEADERS") else {
            return Ok(all);
        };
        for pair in value.split_terminator(',') {
            let Some((header, value)) = header(pair) else {
                let form = "a list name=value,name=value, values percent-encoded";
                return Err(self.unreadable(&name, form));
            };
            let same = all
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(&header));
            match same {
                Some((_, known)) if known.expose_secret() != value => {
                    return Err(self.contradiction(&format!("headers::{header}"), &name));
                }
                Some(_) => {}
                None => drop(all.insert(header, value.into())),
            }
        }
        Ok(all)
    }

    fn path(&self, what: &str) -> Option<PathBuf> {
        self.find(what).map(|found| PathBuf::from(found.value))
    }

    fn identity(&self) -> Result<Option<(PathBuf, PathBuf)>, Reported> {
        match (self.path("CLIENT_CERTIFICATE"), self.path("CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            _ => {
                self.section.fail(
                    "the environment variables OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and \
                     OTEL_EXPORTER_OTLP_CLIENT_KEY go together, set both or neither",
                );
                Err(Reported)
            }
        }
    }
}

/// An endpoint with its scheme.
pub(super) fn url(endpoint: &str, insecure: bool) -> String {
    if endpoint.contains("://") {
        return endpoint.to_owned();
    }
    format!("{}://{endpoint}", if insecure { "http" } else { "https" })
}

/// An endpoint that requests can be sent to.
pub(super) fn uri(endpoint: &str) -> Option<Uri> {
    let uri: Uri = endpoint.parse().ok()?;
    let good = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    good.then_some(uri)
}

/// One `name=value`, decoded.
fn header(pair: &str) -> Option<(String, String)> {
    let (name, value) = pair.split_once('=')?;
    let (name, value) = (name.trim(), decoded(value.trim())?);
    HeaderName::try_from(name).ok()?;
    HeaderValue::from_str(&value).ok()?;
    (!value.is_empty()).then(|| (name.to_owned(), value))
}

/// A text with each `%41` as the byte that it means.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, telemetry::Reader};

    const PERIODIC: &str = "service::telemetry::metrics::readers::periodic::exporter::otlp: ";

    /// The configuration of a push of metrics with these keys, in this environment.
    fn push(periodic: &str, env: &[(&str, &str)]) -> Result<Option<Config>, Vec<String>> {
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nprocessors: {{detection: }}\n\
             exporters: {{debug: }}\nservice: {{telemetry: {{metrics: {{readers: [{{periodic: \
             {periodic}}}]}}}}, pipelines: {{logs: {{receivers: [otlp], processors: [detection], \
             exporters: [debug]}}}}}}\n"
        );
        let variable = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let config = config::parse("a.yaml", &text, &variable);
        let config = config.map_err(|error| error.problems().to_vec())?;
        assert!(!format!("{config:?}").contains("s3cret"));
        Ok(match config.metrics.readers.as_slice() {
            [Reader::Periodic(periodic)] => Some(periodic.to.clone()),
            [] => None,
            other => panic!("{other:?}"),
        })
    }

    fn refused(periodic: &str, env: &[(&str, &str)], wanted: &str) {
        let problems = push(periodic, env).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let (_, found) = problems[0].split_once(PERIODIC).unwrap();
        assert_eq!(found, wanted);
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn variables_fill_what_the_configuration_leaves_open() {
        let open = "{exporter: {otlp: }}";
        let config = push(open, &[ENDPOINT]).unwrap().unwrap();
        assert_eq!(config.endpoint, "http://collector:4318/v1/metrics");
        assert_eq!(config.protocol, Protocol::Http);
        assert_eq!(config.timeout, Duration::from_secs(30));
        assert_eq!(config.compression, None);

        let all = [
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "other:4317"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "True"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=s3cret%20%41, b=c=d"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem"),
            ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "/k.pem"),
        ];
        let config = push(open, &all).unwrap().unwrap();
        assert_eq!(config.endpoint, "http://other:4317");
        assert_eq!(config.protocol, Protocol::Grpc);
        assert_eq!(config.timeout, Duration::from_millis(1500));
        assert_eq!(config.compression, Some(Compression::Zstd));
        let headers: Vec<_> = config.headers.iter().collect();
        assert_eq!(headers.len(), 2);
        assert_eq!(config.headers["x-token"].expose_secret(), "s3cret A");
        assert_eq!(config.headers["b"].expose_secret(), "c=d");
        assert_eq!(config.ca, Some("/ca.pem".into()));
        assert_eq!(config.identity, Some(("/c.pem".into(), "/k.pem".into())));
    }

    #[test]
    fn keys_and_variables_may_agree() {
        let written = "{timeout: 2s, exporter: {otlp: {protocol: grpc, insecure: true, \
                       endpoint: 'Collector:4318', headers: {X-Token: a}}}}";
        let all = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=a,y=b"),
        ];
        let config = push(written, &all).unwrap().unwrap();
        assert_eq!(config.endpoint, "http://Collector:4318");
        let headers: Vec<_> = config.headers.keys().map(String::as_str).collect();
        assert_eq!(headers, ["X-Token", "y"]);
    }

    #[test]
    fn contradictions_are_refused() {
        let written = "{timeout: 2s, exporter: {otlp: {protocol: grpc, insecure: true, \
                       endpoint: 'collector:4317', headers: {X-Token: a}}}}";
        let different = |key: &str, name: &str| {
            format!(
                "{key} and the environment variable OTEL_EXPORTER_OTLP_{name} say different \
                 things, remove the key or unset the variable"
            )
        };
        for (name, value, key) in [
            ("ENDPOINT", "http://other:4317", "endpoint"),
            ("METRICS_ENDPOINT", "http://collector:4317/x", "endpoint"),
            ("INSECURE", "false", "insecure"),
            ("PROTOCOL", "http/protobuf", "protocol"),
            ("TIMEOUT", "1999", "timeout"),
            ("METRICS_HEADERS", "y=b,x-token=s3cret", "headers::x-token"),
        ] {
            let variable = format!("OTEL_EXPORTER_OTLP_{name}");
            refused(written, &[(&variable, value)], &different(key, name));
        }
    }

    #[test]
    fn variables_that_cannot_be_read_are_refused_without_what_they_hold() {
        let open = "{exporter: {otlp: }}";
        for (name, value, expected) in [
            (
                "ENDPOINT",
                "ftp://s3cret",
                "a URL such as http://localhost:4317",
            ),
            ("PROTOCOL", "http/json", "grpc or http/protobuf"),
            ("INSECURE", "yes", "true or false"),
            (
                "TIMEOUT",
                "10s",
                "a number of milliseconds from 1 to 86400000",
            ),
            ("COMPRESSION", "lz4", "none or gzip or zstd"),
            (
                "COMPRESSION",
                "zstd",
                "gzip or none with protocol http/protobuf",
            ),
            (
                "HEADERS",
                "s3cret",
                "a list name=value,name=value, values percent-encoded",
            ),
            (
                "HEADERS",
                "a=%zz",
                "a list name=value,name=value, values percent-encoded",
            ),
        ] {
            let variable = format!("OTEL_EXPORTER_OTLP_{name}");
            let wanted = format!("the environment variable {variable} must be {expected}");
            let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c");
            let env = if name == "ENDPOINT" {
                vec![(variable.as_str(), value)]
            } else {
                vec![general, (variable.as_str(), value)]
            };
            refused(open, &env, &wanted);
        }
        let half = ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem");
        refused(
            open,
            &[ENDPOINT, half],
            "the environment variables OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and \
             OTEL_EXPORTER_OTLP_CLIENT_KEY go together, set both or neither",
        );
    }

    /// An empty endpoint is open, and without an endpoint nothing is pushed, whatever the other
    /// variables are.
    #[test]
    fn nothing_is_pushed_without_an_endpoint() {
        let empty = "{exporter: {otlp: {endpoint: ''}}}";
        let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
        assert!(push(empty, &[protocol]).unwrap().is_none());
        assert!(
            push(empty, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")])
                .unwrap()
                .is_none()
        );
        assert!(push(empty, &[ENDPOINT]).unwrap().is_some());
        refused("{exporter: {otlp: }}", &[], "endpoint is required");
    }
}
