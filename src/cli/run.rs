//! `auditwatch --config FILE`: the service, until it is told to stop.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, level_filters::LevelFilter};

use crate::{
    config::{self, Config, Encoding, Level, Source},
    service::Service,
    telemetry,
};

/// Runs the service until SIGTERM or Ctrl-C. Whether all findings found their way out.
///
/// # Errors
/// When the configuration is wrong, or the service cannot start.
pub(super) fn run(sources: &[Source]) -> anyhow::Result<bool> {
    let config = config::load(sources)?;
    let level = match config.telemetry.level {
        Level::Trace => LevelFilter::TRACE,
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    };
    telemetry::start(level, config.telemetry.encoding == Encoding::Json);
    for setting in &config.without_effect {
        info!("{setting}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(config));
    // Whatever still runs after the deadline is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

async fn serve(config: Config) -> anyhow::Result<bool> {
    let deadline = config.shutdown_timeout;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let service = Service::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let delivered = tokio::select! {
        delivered = service.shutdown(deadline) => delivered,
        _ = interrupt.recv() => {
            info!("interrupted again, stopping at once");
            false
        }
    };
    Ok(delivered)
}
