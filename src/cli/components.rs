//! `auditwatch components`: what this build consists of, as YAML, in the Collector's form.

use std::io::{self, Write};

use crate::config;

/// Prints every component type that a configuration may name.
pub(super) fn print(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "buildinfo:")?;
    writeln!(out, "    command: {}", env!("CARGO_PKG_NAME"))?;
    writeln!(
        out,
        "    description: {}",
        env!("CARGO_PKG_DESCRIPTION").replace(": ", ", ")
    )?;
    writeln!(out, "    version: {}", env!("CARGO_PKG_VERSION"))?;
    for (section, types) in config::component_types() {
        writeln!(out, "{section}:")?;
        for name in types {
            writeln!(out, "    - name: {name}")?;
        }
    }
    Ok(())
}
