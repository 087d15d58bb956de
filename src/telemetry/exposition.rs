//! Metrics of the SDK in the text exposition format of Prometheus, version 0.0.4.
//!
//! OpenTelemetry discontinued its exporter for Prometheus, and client libraries of Prometheus have
//! registries of their own (docs/decisions/0033-lighter.md). Names and labels follow OpenTelemetry's
//! rules of compatibility with Prometheus. Exponential histograms, which we do not use, are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Display, Write as _},
};

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::{
    Resource,
    metrics::data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics},
};

/// The `Content-Type` of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// How metrics are named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming {
    /// Names of counters end in `_total`.
    pub(super) type_suffix: bool,
    /// Names end in their unit.
    pub(super) units: bool,
    /// Every sample has labels that name the library that measured it.
    pub(super) scope: bool,
}

/// Labels of one sample in the order in which they are written, names sanitized.
type Labels = Vec<(String, String)>;

/// One metric: all lines under one `# TYPE`.
struct Family {
    help: String,
    kind: &'static str,
    samples: BTreeMap<Labels, Value>,
}

/// The value of one sample.
enum Value {
    Number(String),
    Histogram {
        /// Upper bounds, and how many values are not above each.
        buckets: Vec<(f64, u64)>,
        sum: String,
        count: u64,
    },
}

/// All metrics as text, families in the order of their names, samples in that of their labels.
pub(super) fn render(metrics: &ResourceMetrics, naming: Naming) -> String {
    let mut families = BTreeMap::new();
    if !metrics.resource().is_empty() {
        families.insert("target_info".to_owned(), target_info(metrics.resource()));
    }
    for of_scope in metrics.scope_metrics() {
        let scope = if naming.scope {
            scope_labels(of_scope.scope())
        } else {
            Labels::new()
        };
        for metric in of_scope.metrics() {
            let Some((kind, samples)) = samples(metric.data(), &scope) else {
                continue;
            };
            let family = families
                .entry(name(metric, kind, naming))
                .or_insert_with(|| Family {
                    help: metric.description().to_owned(),
                    kind,
                    samples: BTreeMap::new(),
                });
            // One name has one type; a second one would make the text unreadable.
            if family.kind == kind {
                family.samples.extend(samples);
            }
        }
    }
    let mut text = String::new();
    for (name, family) in &families {
        family.write(name, &mut text);
    }
    text
}

/// What the process is, as the labels of a metric that is always 1.
fn target_info(resource: &Resource) -> Family {
    let labels = labels(
        resource
            .iter()
            .map(|(key, value)| (key.as_str(), value.to_string())),
    );
    Family {
        help: "Target metadata".to_owned(),
        kind: "gauge",
        samples: BTreeMap::from([(labels, Value::Number("1".to_owned()))]),
    }
}

fn name(metric: &Metric, kind: &str, naming: Naming) -> String {
    let mut name = metric.name().to_owned();
    let unit = match metric.unit() {
        "s" => Some("seconds"),
        "By" => Some("bytes"),
        // Annotations such as {records} are no units.
        _ => None,
    };
    if let Some(unit) = unit.filter(|_| naming.units) {
        name = format!("{name}_{unit}");
    }
    if naming.type_suffix && kind == "counter" {
        name.push_str("_total");
    }
    name
}

/// The type and the samples of a metric; nothing when it has no form in Prometheus.
fn samples(
    data: &AggregatedMetrics,
    scope: &Labels,
) -> Option<(&'static str, Vec<(Labels, Value)>)> {
    match data {
        AggregatedMetrics::F64(data) => of(data, scope),
        AggregatedMetrics::U64(data) => of(data, scope),
        AggregatedMetrics::I64(data) => of(data, scope),
    }
}

fn of<T: Copy + Display>(
    data: &MetricData<T>,
    scope: &Labels,
) -> Option<(&'static str, Vec<(Labels, Value)>)> {
    let number = |value: T| Value::Number(value.to_string());
    Some(match data {
        MetricData::Sum(sum) => {
            let kind = if sum.is_monotonic() {
                "counter"
            } else {
                "gauge"
            };
            let points = sum.data_points();
            let samples = points.map(|at| (with(at.attributes(), scope), number(at.value())));
            (kind, samples.collect())
        }
        MetricData::Gauge(gauge) => {
            let points = gauge.data_points();
            let samples = points.map(|at| (with(at.attributes(), scope), number(at.value())));
            ("gauge", samples.collect())
        }
        MetricData::Histogram(histogram) => {
            let samples = histogram.data_points().map(|at| {
                let counts = at.bucket_counts().scan(0_u64, |all, count| {
                    *all = all.saturating_add(count);
                    Some(*all)
                });
                let value = Value::Histogram {
                    buckets: at.bounds().zip(counts).collect(),
                    sum: at.sum().to_string(),
                    count: at.count(),
                };
                (with(at.attributes(), scope), value)
            });
            ("histogram", samples.collect())
        }
        MetricData::ExponentialHistogram(_) => return None,
    })
}

fn with<'a>(attributes: impl Iterator<Item = &'a KeyValue>, scope: &Labels) -> Labels {
    let mut labels = labels(attributes.map(|pair| (pair.key.as_str(), pair.value.to_string())));
    labels.extend(scope.iter().cloned());
    labels
}

fn scope_labels(scope: &InstrumentationScope) -> Labels {
    let mut labels = vec![("otel_scope_name".to_owned(), scope.name().to_owned())];
    if let Some(version) = scope.version() {
        labels.push(("otel_scope_version".to_owned(), version.to_owned()));
    }
    labels
}

/// Attributes as labels in the order of their names. Values whose names became the same are joined,
/// in the order of the names that they had.
fn labels<'a>(attributes: impl Iterator<Item = (&'a str, String)>) -> Labels {
    let mut labels: BTreeMap<String, BTreeSet<(&str, String)>> = BTreeMap::new();
    for (key, value) in attributes {
        labels
            .entry(label_name(key))
            .or_default()
            .insert((key, value));
    }
    let joined = |values: BTreeSet<(&str, String)>| {
        let values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
        values.join(";")
    };
    labels
        .into_iter()
        .map(|(name, values)| (name, joined(values)))
        .collect()
}

/// An attribute's name with the letters that a label may have.
fn label_name(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let digit = key.starts_with(|c: char| c.is_ascii_digit());
    let before = if digit { "_" } else { "" };
    before.chars().chain(key.chars().map(letter)).collect()
}

impl Family {
    fn write(&self, name: &str, text: &mut String) {
        if !self.help.is_empty() {
            let help = escaped(&self.help, &['\\', '\n']);
            line(text, format_args!("# HELP {name} {help}"));
        }
        line(text, format_args!("# TYPE {name} {}", self.kind));
        for (labels, value) in &self.samples {
            match value {
                Value::Number(number) => {
                    let labels = written(labels, None);
                    line(text, format_args!("{name}{labels} {number}"));
                }
                Value::Histogram {
                    buckets,
                    sum,
                    count,
                } => {
                    let all = ("+Inf".to_owned(), *count);
                    let buckets = buckets
                        .iter()
                        .map(|(bound, count)| (bound.to_string(), *count));
                    for (bound, count) in buckets.chain([all]) {
                        let labels = written(labels, Some(&bound));
                        line(text, format_args!("{name}_bucket{labels} {count}"));
                    }
                    let labels = written(labels, None);
                    line(text, format_args!("{name}_sum{labels} {sum}"));
                    line(text, format_args!("{name}_count{labels} {count}"));
                }
            }
        }
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _written = writeln!(text, "{line}");
}

/// Labels as they stand behind a name, the bound of a bucket last.
fn written(labels: &Labels, bound: Option<&str>) -> String {
    let labels = labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let pairs: Vec<_> = labels
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value, &['\\', '\n', '"'])))
        .collect();
    if pairs.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", pairs.join(","))
    }
}

fn escaped(text: &str, special: &[char]) -> String {
    let mut done = String::with_capacity(text.len());
    for c in text.chars() {
        if !special.contains(&c) {
            done.push(c);
        } else if c == '\n' {
            done.push_str("\\n");
        } else {
            done.extend(['\\', c]);
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::metrics::{SdkMeterProvider, reader::MetricReader as _};

    use super::*;
    use crate::telemetry::{metrics::ALL, otlp::Shared};

    const PLAIN: Naming = Naming {
        type_suffix: false,
        units: false,
        scope: false,
    };

    fn rendered(naming: Naming) -> String {
        let reader = Shared::default();
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", "it's \"mine\"\\\n"),
            KeyValue::new("a.b", "second"),
            KeyValue::new("a-b", "first"),
            KeyValue::new("1", "digit"),
        ]);
        let provider = SdkMeterProvider::builder()
            .with_reader(reader.clone())
            .with_resource(resource.build())
            .build();
        let meter = provider.meter("m");
        let counter = meter.u64_counter("z_records").with_unit("{records}");
        let counter = counter.with_description("Records,\nin \\ all.").build();
        counter.add(
            3,
            &[KeyValue::new("otel.signal", "b"), KeyValue::new("a", "x")],
        );
        counter.add(
            1,
            &[KeyValue::new("otel.signal", "a"), KeyValue::new("a", "x")],
        );
        let gauge = meter.u64_gauge("memory").with_unit("By").build();
        gauge.record(1 << 40, &[]);
        let seconds = meter.f64_counter("uptime").with_unit("s").build();
        seconds.add(0.25, &[]);
        let times = meter.f64_histogram("lag").with_unit("s");
        let times = times.with_boundaries(vec![0.005, 1.0]).build();
        for time in [0.001, 0.5, 0.5, 100.0] {
            times.record(time, &[KeyValue::new("state", "opened")]);
        }
        let mut metrics = ResourceMetrics::default();
        reader.collect(&mut metrics).unwrap();
        render(&metrics, naming)
    }

    #[test]
    fn metrics_have_the_exposition_format() {
        let wanted = r#"# TYPE lag histogram
lag_bucket{state="opened",le="0.005"} 1
lag_bucket{state="opened",le="1"} 3
lag_bucket{state="opened",le="+Inf"} 4
lag_sum{state="opened"} 101.001
lag_count{state="opened"} 4
# TYPE memory gauge
memory 1099511627776
# HELP target_info Target metadata
# TYPE target_info gauge
target_info{_1="digit",a_b="first;second",service_name="it's \"mine\"\\\n"} 1
# TYPE uptime counter
uptime 0.25
# HELP z_records Records,\nin \\ all.
# TYPE z_records counter
z_records{a="x",otel_signal="a"} 1
z_records{a="x",otel_signal="b"} 3
"#;
        assert_eq!(rendered(PLAIN), wanted);
    }

    #[test]
    fn names_follow_the_settings() {
        let text = rendered(Naming {
            type_suffix: true,
            units: true,
            scope: true,
        });
        for line in [
            "lag_seconds_count{state=\"opened\",otel_scope_name=\"m\"} 4\n",
            "memory_bytes{otel_scope_name=\"m\"} 1099511627776\n",
            "uptime_seconds_total{otel_scope_name=\"m\"} 0.25\n",
            "z_records_total{a=\"x\",otel_signal=\"a\",otel_scope_name=\"m\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    /// Names need no change, and units are those that `name` knows.
    #[test]
    fn our_metrics_have_names_and_units_that_are_known() {
        let letter = |c: char| c.is_ascii_lowercase() || c == '_';
        for metric in ALL {
            assert!(metric.name.chars().all(letter), "{}", metric.name);
            let unit = metric.unit;
            assert!(
                ["s", "By"].contains(&unit) || unit.starts_with('{'),
                "{unit}"
            );
        }
    }
}
