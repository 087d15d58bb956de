//! `auditwatch --config FILE`: the service, until a signal stops it.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tracing::{info, level_filters::LevelFilter};

use super::{
    changes::{Changes, Loaded},
    signals::{Request, Signals},
};
use crate::{
    config::{self, Config, Encoding, Level, Source},
    service::{Service, log_refused},
    telemetry,
};

/// Runs the service until a signal stops it. Whether all findings found their way out.
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
    telemetry::start_service(level, config.telemetry.encoding == Encoding::Json);
    for setting in &config.without_effect {
        info!("{setting}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(sources, config));
    // What still runs after the deadline is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    if ended.is_ok() {
        telemetry::flush();
    }
    // An error is the last line, and waited for together with those before.
    ended
}

async fn serve(sources: &[Source], config: Config) -> anyhow::Result<bool> {
    let mut signals = Signals::listen()?;
    let mut changes = tokio::select! {
        changes = Changes::since(sources, &config) => changes?,
        () = signals.stop() => {
            info!("stopped before it had started");
            return Ok(true);
        }
    };
    // A task of its own: what blocks in it, on a disk that hangs, must not keep us from hearing.
    let mut starting = Handle::current().spawn(Service::start(config));
    let mut service = tokio::select! {
        service = &mut starting => service.context("the start panicked")??,
        () = signals.stop() => {
            info!("stopped before it had started");
            return Ok(true);
        }
    };
    let well = loop {
        let loaded = tokio::select! {
            request = signals.request() => match request {
                Request::Stop => break true,
                Request::Reload => {
                    info!("SIGHUP: loading the configuration again");
                    changes.load().await
                }
            },
            loaded = changes.next() => Some(loaded),
            () = service.failed() => break false,
        };
        let Some(loaded) = loaded else { continue };
        let failure = service.failure();
        tokio::select! {
            () = reload(&mut service, loaded) => changes.look_every(service.reload_interval()),
            () = failure => break false,
            () = signals.stop() => break true,
        }
    };
    let deadline = service.shutdown_timeout();
    let delivered = tokio::select! {
        delivered = service.shutdown(deadline) => delivered,
        () = signals.end_at_once() => {
            info!("interrupted again, stopping at once");
            false
        }
    };
    Ok(delivered && well)
}

/// Applies what was loaded, or says why not.
async fn reload(service: &mut Service, loaded: Loaded) {
    match loaded {
        Ok((config, files)) => {
            for setting in &config.without_effect {
                info!("{setting}");
            }
            if let Err(refused) = service.reload(*config, files).await {
                log_refused(&refused);
            }
        }
        Err(error) => {
            service.count_refused();
            log_refused(&error);
        }
    }
}
