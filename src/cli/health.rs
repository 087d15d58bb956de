//! `auditwatch health`: asks a running auditwatch whether it is ready, for images without a shell.

use std::{io::Write, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{redact, tls, visible};

/// Most bytes of an answer that are shown.
const MOST: usize = 64 * 1024;

/// Ask a running auditwatch whether it is ready
#[derive(Args, Debug)]
pub(super) struct Health {
    /// Where its `health_check` extension listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:13133/")]
    endpoint: String,

    /// How long the answer may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl Health {
    /// Prints the answer. Whether it says ready.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<bool> {
        let url = match self.endpoint.split_once("://") {
            Some(("http", _)) => self.endpoint.clone(),
            Some(_) => bail!("--endpoint: expected http://host:port/path"),
            None => format!("http://{}", self.endpoint),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let (ready, body) = runtime.block_on(self.ask(&url))?;
        writeln!(visible::Writer(out), "{}", body.trim_end())?;
        Ok(ready)
    }

    async fn ask(&self, url: &str) -> anyhow::Result<(bool, String)> {
        tls::install();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(self.timeout))
            .redirect(reqwest::redirect::Policy::none())
            // It is on this machine or near it, and without TLS.
            .no_proxy()
            .tls_certs_only([])
            .build()?;
        let answer = client.get(url).send().await;
        let answer = answer
            .map_err(reqwest::Error::without_url)
            .with_context(|| {
                let shown = redact::url(url);
                format!("nobody answers at {shown}: is the health_check extension on?")
            })?;
        let ready = answer.status() == reqwest::StatusCode::OK;
        Ok((ready, beginning(answer).await))
    }
}

/// The beginning of an answer: whatever listens there decides how long it is.
async fn beginning(mut answer: reqwest::Response) -> String {
    let mut body = Vec::new();
    while body.len() < MOST
        && let Ok(Some(part)) = answer.chunk().await
    {
        body.extend_from_slice(&part);
    }
    body.truncate(MOST);
    String::from_utf8_lossy(&body).into_owned()
}
