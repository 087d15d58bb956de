//! `auditwatch health`: asks a running auditwatch whether it is ready, for images without a shell.

use std::{io::Write, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use reqwest::{Method, StatusCode, Url};

use crate::{
    exporter::http_client::{HttpClient, Settings, beginning, unreached},
    redact, tls, visible,
};

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
    /// Prints the answer; returns whether the service is ready.
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
        let url = Url::parse(url).context("--endpoint: expected http://host:port/path")?;
        let client = HttpClient::new(&Settings {
            url: &url,
            tls: &tls::client::Config::default(),
            timeout: Duration::from_secs(self.timeout),
            max_idle: 0,
            idle_timeout: Duration::ZERO,
            // It is on this machine or near it.
            proxy: None,
            cookies: false,
        })?;
        let answer = client.request(Method::GET, &url).send().await;
        let mut answer = answer.map_err(|error| {
            let reason = unreached(&error.without_url());
            let shown = redact::url(url.as_str());
            anyhow!("no answer from {shown}: {reason}; is the health_check extension on?")
        })?;
        let ready = answer.status() == StatusCode::OK;
        let body = beginning(&mut answer).await;
        Ok((ready, String::from_utf8_lossy(&body).into_owned()))
    }
}
