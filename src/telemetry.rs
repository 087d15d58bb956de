//! Our own logs: key/value, one event per change of state, never per record.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Starts logging to standard error. A second start in one process changes nothing.
pub fn start(level: LevelFilter, json: bool) {
    // Libraries speak up only when something is wrong.
    let own = EnvFilter::builder().parse_lossy(format!("warn,auditwatch={level}"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(own)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false);
    // Tests start several services in one process; the first one's logging serves all.
    let _started = if json {
        logs.json().try_init()
    } else {
        logs.try_init()
    };
}
