//! What the programs that measure have in common: events, connections, and what a process has taken.

use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// An event that matches nothing, of the size that they have on average.
pub(crate) fn event(at: usize) -> String {
    let namespace = ["default", "kube-system", "monitoring", "shop"][at % 4];
    serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request",
        "auditID": format!("7b1d3c52-6a3f-4a6e-9a0e-{at:012}"), "stage": "ResponseComplete",
        "requestURI": format!("/api/v1/namespaces/{namespace}/pods/web-{at}/status?fieldManager=kubelet&timeout=10s"),
        "verb": "patch",
        "user": {
            "username": format!("system:node:worker-{}", at % 64), "uid": "b1946ac9-2492-4d23-9a0e-0c2f1a3b4c5d",
            "groups": ["system:nodes", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": ["X509SHA256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]}
        },
        "sourceIPs": [format!("10.0.{}.{}", at % 16, at % 250)],
        "userAgent": "kubelet/v1.33.2 (linux/amd64) kubernetes/a57b6f7",
        "objectRef": {"resource": "pods", "namespace": namespace, "name": format!("web-{at}"), "apiVersion": "v1", "subresource": "status"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestObject": {
            "metadata": {"uid": "0d5b0f6c-7f0b-4b8c-8f3d-1a2b3c4d5e6f"},
            "status": {
                "$setElementOrder/conditions": [{"type": "PodReadyToStartContainers"}, {"type": "Initialized"}, {"type": "Ready"}, {"type": "ContainersReady"}, {"type": "PodScheduled"}],
                "conditions": [{"lastTransitionTime": "2026-11-25T10:00:00Z", "status": "True", "type": "Ready"}],
                "containerStatuses": [{"containerID": format!("containerd://{at:064x}"), "image": "registry.example/shop/web:1.4.2", "ready": true, "restartCount": 0, "started": true}],
                "phase": "Running", "podIPs": [{"ip": "10.244.3.17"}]
            }
        },
        "requestReceivedTimestamp": "2026-11-25T10:00:00.000000Z",
        "stageTimestamp": "2026-11-25T10:00:00.004512Z",
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""}
    })
    .to_string()
}

/// A connection with HTTP/2 to a server.
pub(crate) struct Connection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn to(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .max_frame_size(16 * 1024)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(driver);
        Ok(Self { address, sender })
    }

    /// Sends a gRPC message. An error: it was not accepted.
    pub(crate) async fn send(
        &mut self,
        message: &Bytes,
        encoding: Option<&'static str>,
    ) -> anyhow::Result<()> {
        let mut request = Request::post(format!(
            "http://{}/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            self.address
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        let request = request.body(Full::new(message.clone()))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let mut headers = answer.headers().clone();
        let body = answer.into_body().collect().await?;
        headers.extend(body.trailers().cloned().unwrap_or_default());
        let status = headers.get("grpc-status").context("no grpc-status")?;
        ensure!(status == "0", "{headers:?}");
        Ok(())
    }
}

/// Nanoseconds that each thread of a process has been on a processor.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<BTreeMap<OsString, u64>> {
    let mut threads = BTreeMap::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        // A thread may end in between.
        let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else {
            continue;
        };
        let nanos = text.split_ascii_whitespace().next().context("no number")?;
        threads.insert(thread.file_name(), nanos.parse()?);
    }
    Ok(threads)
}

/// The time from one reading to the next.
pub(crate) fn between(
    before: &BTreeMap<OsString, u64>,
    after: &BTreeMap<OsString, u64>,
) -> Duration {
    let spent = after
        .iter()
        .map(|(thread, nanos)| nanos.saturating_sub(before.get(thread).copied().unwrap_or(0)));
    Duration::from_nanos(spent.sum())
}
