//! What a record costs the screen: nanoseconds a record, and how many times that of the same screen
//! without follow-ups in the same run. Nothing waits for what it prints.
//!
//! `cargo bench --bench screen`
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a program that measures and prints: what is wrong ends it"
)]

use std::{hint::black_box, sync::Arc, time::Instant};

use auditwatch::{
    detection::{
        limits::Limits,
        rule::Rule,
        screen::Screen,
        watch::{Change, Watch},
    },
    pdata::{Sink as _, Walk},
    rules::{load, model::Detection},
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use prost::Message as _;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records of one request, and requests of one measurement.
const BATCH: usize = 1000;
const REQUESTS: u64 = 20;
/// Measurements, of which the fastest counts: others do other work meanwhile.
const ROUNDS: usize = 15;

/// An event that matches nothing, of the size that they have on average.
fn event(at: usize) -> String {
    let namespace = ["default", "kube-system", "monitoring", "shop"][at % 4];
    serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request",
        "auditID": format!("7b1d3c52-6a3f-4a6e-9a0e-{at:012}"), "stage": "ResponseComplete",
        "requestURI": format!("/api/v1/namespaces/{namespace}/pods/web-{at}/status?fieldManager=kubelet"),
        "verb": "patch",
        "user": {
            "username": format!("system:node:worker-{}", at % 64),
            "groups": ["system:nodes", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": [format!("X509SHA256={at:064x}")]}
        },
        "sourceIPs": [format!("10.0.{}.{}", at % 16, at % 250)],
        "userAgent": "kubelet/v1.33.2 (linux/amd64) kubernetes/a57b6f7",
        "objectRef": {"resource": "pods", "namespace": namespace, "name": format!("web-{at}"), "subresource": "status"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestObject": {
            "metadata": {"uid": "0d5b0f6c-7f0b-4b8c-8f3d-1a2b3c4d5e6f"},
            "status": {
                "conditions": [{"lastTransitionTime": "2026-11-25T10:00:00Z", "status": "True", "type": "Ready"}],
                "containerStatuses": [{"containerID": format!("containerd://{at:064x}"), "image": "registry.example/shop/web:1.4.2", "ready": true, "restartCount": 0, "started": true}],
                "phase": "Running", "podIPs": [{"ip": "10.244.3.17"}], "message": format!("{at:0400}")
            }
        },
        "requestReceivedTimestamp": "2026-11-25T10:00:00.000000Z",
        "stageTimestamp": "2026-11-25T10:00:00.004512Z",
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""}
    })
    .to_string()
}

fn request() -> Vec<u8> {
    let records = (0..BATCH).map(|at| LogRecord {
        body: Some(AnyValue {
            value: Some(Value::StringValue(event(at))),
        }),
        ..LogRecord::default()
    });
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: records.collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}

/// Nanoseconds a record.
fn measure(screen: &Screen, request: &[u8]) -> f64 {
    let mut now = 1_795_600_000_000_000_000;
    let start = Instant::now();
    for _ in 0..REQUESTS {
        // At 100,000 records a second.
        now += 10_000_000;
        let mut walk = Walk::new(screen.visitor(now));
        for piece in request.chunks(16 * 1024) {
            walk.feed(piece).unwrap();
        }
        let screened = walk.finish().unwrap().into_screened();
        black_box(screened.hits.len());
    }
    let records = f64::from(u32::try_from(BATCH).unwrap()) * 20.0;
    start.elapsed().as_secs_f64() * 1e9 / records
}

/// Watches this many addresses that send nothing.
fn watching(many: u32) -> Watch {
    let watch = Watch::default();
    let change = |at: u32| {
        let address: Arc<str> = format!("198.51.{}.{}", at / 250, at % 250).into();
        Change {
            cluster: Arc::from(""),
            detection: 0,
            key: Arc::clone(&address),
            address,
            is_watched: true,
        }
    };
    watch.apply(&(0..many).map(change).collect::<Vec<_>>());
    watch
}

fn main() {
    let (rule, limits) = (Rule::default(), Limits::default());
    let scans = vec![Arc::new(Detection::of(&rule))];
    let mut all = scans.clone();
    all.extend(load::load(&["anonymous_success".to_owned()], &rule).unwrap());
    let screen = |detections: &[_]| Screen::of(detections.to_vec(), rule.clone(), &limits, None);
    let kinds = [
        ("scans alone", screen(&scans)),
        ("with anonymous successes", screen(&all)),
        (
            "with follow-ups, none watched",
            screen(&all).watching(&watching(0)),
        ),
        ("a thousand watched", screen(&all).watching(&watching(1000))),
    ];
    let request = request();
    println!("{} bytes a record", request.len() / BATCH);
    let mut best = [f64::MAX; 4];
    for _ in 0..ROUNDS {
        for (best, (_, screen)) in best.iter_mut().zip(&kinds) {
            *best = best.min(measure(screen, &request));
        }
    }
    for (best_of, (name, _)) in best.iter().zip(&kinds) {
        println!("{name:32} {best_of:7.0} ns {:5.2}", best_of / best[0]);
    }
}
