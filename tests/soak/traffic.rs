//! What reaches the service: senders that come and go, scrapers that are slow, and a HEC server
//! that fails now and then.

use std::{net::Ipv4Addr, time::Duration};

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, any_value::Value},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tonic::codec::CompressionEncoding;

use crate::{
    Addresses,
    support::{
        corpus::{denied, lines},
        hec::{Answer, HecServer},
        sender::{client, http, request},
    },
};

/// Requests of a finding: one more than the threshold.
const REQUESTS: u32 = 6;
/// Names of clusters, each for a few findings, over and over: one that stays away keeps its state.
const CLUSTERS: u32 = 4;
/// Events a second that match nothing.
const OTHERS: u32 = 300;
/// Seconds until a sender connects again.
const RECONNECT: u32 = 7;
/// Seconds from one outage to the next.
const OUTAGE: u64 = 15;

/// Starts everything that sends and asks.
pub(crate) fn start(addresses: Addresses, rate: u32) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(findings(addresses, rate));
    tasks.spawn(recordings(addresses));
    tasks.spawn(slow_scrapes(addresses));
    tasks.spawn(passers_by(addresses));
    tasks
}

/// Breaks the HEC server for some requests, in one way or another.
pub(crate) fn disturb(hec: &HecServer, second: u64) {
    if second % OUTAGE != OUTAGE / 3 {
        return;
    }
    let busy = || Answer::code(9);
    hec.answer_next(match second / OUTAGE % 4 {
        0 => vec![busy(), busy(), busy()],
        1 => vec![Answer::reset(), Answer::reset()],
        2 => vec![busy().header("retry-after", "2")],
        _ => vec![Answer::hang(), Answer::new(502, "<html>bad gateway</html>")],
    });
}

/// New scanners among events that match nothing, over gRPC, each in a request of its own.
async fn findings(addresses: Addresses, rate: u32) {
    let rate = rate.max(1);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut sender = None;
    let mut connected = 0_u32;
    for number in 0_u32.. {
        ticks.tick().await;
        let source = Ipv4Addr::from(0x1400_0000 | (number & 0x00ff_ffff)).to_string();
        let hits = (0..REQUESTS).map(|at| denied(&source, at, &format!("/api/{number}/{at}")));
        let other = denied("192.0.2.1", number, "/healthz").replace("403", "200");
        let others = (0..OTHERS / rate).map(|_| other.clone());
        let events: Vec<_> = hits.chain(others).map(|event| now(&event)).collect();
        if number.is_multiple_of(rate * RECONNECT) {
            let fresh = client(addresses.grpc).await;
            connected += 1;
            sender = Some(if connected.is_multiple_of(2) {
                fresh.send_compressed(CompressionEncoding::Gzip)
            } else {
                fresh
            });
        }
        if let Some(sender) = &mut sender {
            let request = of_cluster(request(&events), number / 16 % CLUSTERS);
            // Refusals are counted by the service; the next requests show whether it recovers.
            let _answered = sender.export(request).await;
        }
    }
}

/// Recorded logs, moved to now, over HTTP with a connection for each request.
async fn recordings(addresses: Addresses) {
    let recorded = lines("kube-hunter");
    let mut round = 0_u32;
    loop {
        for part in recorded.chunks(200) {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let part: Vec<_> = part.iter().map(|line| again(line, round)).collect();
            let body = prost::Message::encode_to_vec(&request(&part));
            let kind = [("content-type", "application/x-protobuf")];
            let _answered = http(addresses.http, "POST", "/v1/logs", &kind, body).await;
        }
        round = round.wrapping_add(1);
    }
}

/// A scraper that takes seconds to ask and to read.
async fn slow_scrapes(addresses: Addresses) {
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let _left = slow_scrape(addresses).await;
    }
}

async fn slow_scrape(addresses: Addresses) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addresses.metrics).await?;
    for part in ["GET /metrics HTTP/1.1\r\n", "host: a\r\n", "\r\n"] {
        stream.write_all(part.as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let mut piece = [0; 2048];
    while stream.read(&mut piece).await? > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Connections that say nothing or half of something, and questions whether it is ready.
async fn passers_by(addresses: Addresses) {
    loop {
        for address in [addresses.grpc, addresses.http, addresses.health] {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                let _sent = stream.write_all(b"POST /v1/logs HTTP/1.1\r\nho").await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        let _answered = http(addresses.health, "GET", "/", &[], Vec::new()).await;
    }
}

/// An event of [`denied`] that happens now.
fn now(event: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(event).unwrap_or_default();
    event["requestReceivedTimestamp"] = time().into();
    event.to_string()
}

/// A recorded event that happens now, under another identity than the last time.
fn again(line: &str, round: u32) -> String {
    let Ok(mut event) = serde_json::from_str::<serde_json::Value>(line) else {
        return line.to_owned();
    };
    let id = format!("{}-{round}", event["auditID"].as_str().unwrap_or_default());
    event["auditID"] = id.into();
    for key in ["requestReceivedTimestamp", "stageTimestamp"] {
        event[key] = time().into();
    }
    event.to_string()
}

fn time() -> String {
    let micros = auditwatch::clock::unix_nanos() / 1000;
    let micros = i64::try_from(micros).unwrap_or(i64::MAX);
    auditwatch::detection::time::Micros(micros).to_string()
}

fn of_cluster(mut request: ExportLogsServiceRequest, number: u32) -> ExportLogsServiceRequest {
    let resources = request
        .resource_logs
        .iter_mut()
        .filter_map(|logs| logs.resource.as_mut());
    for attribute in resources.flat_map(|resource| &mut resource.attributes) {
        attribute.value = Some(AnyValue {
            value: Some(Value::StringValue(format!("cluster-{number}"))),
        });
    }
    request
}
