//! A HEC endpoint that notes when a text arrives.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Posts, each with the time when all of it was there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hec(Arc<Mutex<Vec<(Instant, String)>>>);

impl Hec {
    /// Starts one; where it listens.
    pub(crate) async fn start() -> anyhow::Result<(Self, SocketAddr)> {
        let hec = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = hec.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let hec = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| hec.clone().take(request));
                    // A connection that breaks is the sender's to open anew.
                    let _ended = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok((hec, address))
    }

    async fn take(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
        if let Ok(body) = request.into_body().collect().await {
            let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            let mut posts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            posts.push((Instant::now(), text));
        }
        Ok(Response::new(Full::from(r#"{"text":"Success","code":0}"#)))
    }

    /// When a post with this text arrived.
    pub(crate) fn arrived(&self, text: &str) -> Option<Instant> {
        let posts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of = posts.iter().filter(|(_, post)| post.contains(text));
        of.next().map(|(at, _)| *at)
    }
}
