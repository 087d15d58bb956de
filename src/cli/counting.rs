//! Flags that say which events count and how, shared by `scan`, `explain` and `compare`.

use std::{io::Write, path::PathBuf, sync::Arc};

use clap::Args;
use ipnet::IpNet;

use crate::{
    detection::{
        geo::Locate,
        rule::{MissingCity, Rule, SECOND, Semantics, TRUST_IN_ALL, Who, covers_all, parse_proxy},
        selector::Selector,
    },
    geo::Databases,
};

/// Which events count and how.
#[derive(Args, Debug)]
pub(super) struct Counting {
    /// Report more than this many in one window
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) threshold: u64,

    /// Length of a window, such as 1h or 3600
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    window: i64,

    /// Start of the tumbling windows, such as 50m (escu)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    window_offset: Option<i64>,

    /// Top-level field with the event time
    #[arg(long, value_name = "FIELD", default_value = "requestReceivedTimestamp")]
    time_field: String,

    /// Status codes that count, by comma or repetition (native) [default: 401,403]
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    codes: Vec<u16>,

    /// Whose requests count: any unauthenticated, or those of the group (native) [default: any]
    #[arg(long, value_name = "any|group")]
    who: Option<Who>,

    /// CIDRs of proxies whose word is believed, by comma or repetition (native)
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_proxy)]
    trusted_proxies: Vec<IpNet>,

    /// Accept --trusted-proxies that cover every address (native)
    #[arg(long, requires = "trusted_proxies")]
    allow_all: bool,

    /// Count IPv6 addresses by this many bits (native) [default: 128]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(1..=128))]
    ipv6_prefix: Option<u8>,

    /// Location database (MaxMind format); may be repeated
    #[arg(long, value_name = "FILE")]
    geo_db: Vec<PathBuf>,

    /// What becomes of a country without a city (escu) [default: empty]
    #[arg(long, value_name = "empty|drop", requires = "geo_db")]
    missing_city: Option<MissingCity>,
}

/// A duration such as `1h30m`, or a number of seconds; in microseconds.
fn duration(text: &str) -> Result<i64, String> {
    let micros = match text.parse::<i64>() {
        Ok(seconds) => seconds.checked_mul(SECOND),
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| i64::try_from(duration.as_micros()).ok()),
    };
    micros
        .filter(|micros| (0..=i64::MAX / 4).contains(micros))
        .ok_or_else(|| "expected a duration such as 1h, or a number of seconds".to_owned())
}

impl Counting {
    /// The flags that are given and are valid with these semantics alone.
    pub(super) fn only_with(&self, semantics: Semantics) -> Option<&'static str> {
        let native = [
            ("--codes", !self.codes.is_empty()),
            ("--who", self.who.is_some()),
            ("--trusted-proxies", !self.trusted_proxies.is_empty()),
            ("--allow-all", self.allow_all),
            ("--ipv6-prefix", self.ipv6_prefix.is_some()),
        ];
        let escu = [
            ("--window-offset", self.window_offset.is_some()),
            ("--missing-city", self.missing_city.is_some()),
        ];
        let flags = match semantics {
            Semantics::Native => native.as_slice(),
            Semantics::Escu => escu.as_slice(),
        };
        let mut flags = flags.iter();
        flags.find(|(_, given)| *given).map(|(flag, _)| *flag)
    }

    /// The rule that the flags describe, in these semantics. Flags that are valid in the other
    /// alone are ignored.
    ///
    /// # Errors
    /// When a value is out of range.
    pub(super) fn rule(&self, semantics: Semantics) -> Result<Rule, String> {
        if covers_all(&self.trusted_proxies) && !self.allow_all {
            return Err(format!(
                "--trusted-proxies {TRUST_IN_ALL}; list your proxies alone, or add --allow-all"
            ));
        }
        if self.window == 0 {
            return Err("--window must be longer than nothing".to_owned());
        }
        let default = Rule::default();
        Ok(Rule {
            semantics,
            // Files have no attributes to select by.
            selector: Selector::default(),
            threshold: self.threshold,
            window: self.window,
            window_offset: self.window_offset.unwrap_or(default.window_offset),
            time_field: self.time_field.clone(),
            codes: if self.codes.is_empty() {
                default.codes.clone()
            } else {
                self.codes.clone()
            },
            who: self.who.unwrap_or_default(),
            trusted_proxies: self.trusted_proxies.clone(),
            ipv6_prefix: self.ipv6_prefix.unwrap_or(default.ipv6_prefix),
            missing_city: self.missing_city.unwrap_or_default(),
            ..default
        })
    }

    /// The location databases, if there are any. Of those that locate nothing it tells.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(super) fn databases(
        &self,
        semantics: Semantics,
        err: &mut dyn Write,
    ) -> anyhow::Result<Option<Arc<dyn Locate>>> {
        if self.geo_db.is_empty() {
            return Ok(None);
        }
        let databases = Databases::open(&self.geo_db)?;
        for warning in databases.warnings(semantics == Semantics::Escu) {
            writeln!(err, "auditwatch: {warning}")?;
        }
        Ok(Some(Arc::new(databases)))
    }
}
