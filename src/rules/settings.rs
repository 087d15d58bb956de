//! The settings of the detection of scans: parameters of its rule files.
//!
//! It is one detection in two semantics, [`Semantics`]. A setting is the parameter of that name in
//! rules/scanning.yaml or rules/scanning-escu.yaml; how the source address is found, which records
//! are looked at and which field is the time holds for all detections of a pipeline.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::audit::{selector::Selector, text::hex};

/// How events are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Semantics {
    /// One trusted address per request, one count per request, sliding window.
    #[default]
    Native,
    /// Exactly as the ESCU search: every event, every element of `sourceIPs`, tumbling window.
    Escu,
}

/// Whose requests count in native semantics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// Group `system:unauthenticated`, user `system:anonymous`, or no user and no
    /// group (failed authentication).
    #[default]
    Any,
    /// Group `system:unauthenticated` only, as ESCU.
    Group,
}

/// What becomes of a located address without a city in escu semantics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissingCity {
    /// It makes a row with City "".
    #[default]
    Empty,
    /// It makes no row.
    Drop,
}

/// The status code of a request whose authentication failed.
pub const UNAUTHORIZED: u16 = 401;

/// One second in the unit of event time.
pub const SECOND: i64 = 1_000_000;

/// The settings of the rule. Field names are those of the configuration and of `scan`'s flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How events are counted.
    pub semantics: Semantics,
    /// Which log records are looked at (service).
    pub selector: Selector,
    /// A window with more than this many is a scan.
    pub threshold: u64,
    /// The same for requests with code 401 alone, which then count apart from the others (native).
    /// `None`: they count together.
    pub threshold_401: Option<u64>,
    /// Length of a window, in microseconds, at least one.
    pub window: i64,
    /// Start of the tumbling windows, in microseconds since 1970 (escu).
    pub window_offset: i64,
    /// Top-level field that holds the event time.
    pub time_field: String,
    /// Status codes that count (native; escu is always 403).
    pub codes: Vec<u16>,
    /// Whose requests count (native).
    pub who: Who,
    /// Proxies whose word about the next address is believed (native).
    pub trusted_proxies: Vec<IpNet>,
    /// IPv6 addresses are counted by their first bits, 1 to 128 (native).
    pub ipv6_prefix: u8,
    /// Located addresses without a city (escu).
    pub missing_city: MissingCity,
    /// How far events may be behind the newest and still be on time, in microseconds.
    pub lateness: i64,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            semantics: Semantics::Native,
            selector: Selector::default(),
            threshold: 5,
            threshold_401: None,
            window: 3600 * SECOND,
            window_offset: 3000 * SECOND,
            time_field: "requestReceivedTimestamp".to_owned(),
            codes: vec![401, 403],
            who: Who::Any,
            trusted_proxies: Vec::new(),
            ipv6_prefix: 128,
            missing_city: MissingCity::Empty,
            lateness: 600 * SECOND,
        }
    }
}

impl Rule {
    /// The codes that count: the configured ones, or 403 alone in escu semantics.
    pub fn wanted_codes(&self) -> &[u16] {
        match self.semantics {
            Semantics::Native => &self.codes,
            Semantics::Escu => &[403],
        }
    }

    /// The threshold of 401 where it counts apart from other codes.
    pub fn own_threshold_401(&self) -> Option<u64> {
        let counts = self.semantics == Semantics::Native && self.codes.contains(&UNAUTHORIZED);
        self.threshold_401.filter(|_| counts)
    }

    /// 16 hex digits that are equal for equal settings, in this version and later ones.
    pub fn fingerprint(&self) -> String {
        // Taken apart by name, so that the compiler asks about each new field. What is not set
        // is left out, so that a new setting leaves the fingerprints of old rules alone.
        let Self {
            semantics,
            selector,
            threshold,
            // Where it is set there are two detections, and each has its threshold and codes.
            threshold_401: _,
            window,
            window_offset,
            time_field,
            codes,
            who,
            trusted_proxies,
            ipv6_prefix,
            missing_city,
            lateness,
        } = self;
        let mut text = format!(
            "{semantics} {threshold} {window} {window_offset} {time_field:?} {codes:?} {who} \
             {ipv6_prefix} {missing_city} {lateness}"
        );
        let proxies = trusted_proxies.iter().map(ToString::to_string);
        for (name, values) in [("trusted_proxies", proxies.collect())]
            .into_iter()
            .chain(selector.settings())
        {
            if !values.is_empty() {
                // Quoted, so that no value reads as two. Writing into a string cannot fail.
                let _ok = write!(text, " {name} {values:?}");
            }
        }
        hex(&Sha256::digest(text.as_bytes()), 8)
    }
}

/// A word that the setting does not accept.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected {expected}")]
pub struct UnknownWord {
    expected: &'static str,
}

macro_rules! words {
    ($type:ty, $expected:literal, $($word:literal => $value:path),+) => {
        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok($value),)+
                    _ => Err(UnknownWord { expected: $expected }),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($value => $word,)+ })
            }
        }
    };
}

words!(Semantics, "native or escu", "native" => Semantics::Native, "escu" => Semantics::Escu);
words!(Who, "any or group", "any" => Who::Any, "group" => Who::Group);
words!(MissingCity, "empty or drop", "empty" => MissingCity::Empty, "drop" => MissingCity::Drop);

/// Reads one trusted proxy: a CIDR without host bits, or a single address.
///
/// # Errors
/// A text for people when it is neither.
pub fn parse_proxy(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("{text:?} is no CIDR, expected one such as 10.0.0.0/8"))?;
    if net.trunc() != net {
        return Err(format!(
            "{text} has bits set behind the prefix, did you mean {}?",
            net.trunc()
        ));
    }
    Ok(match net {
        // Addresses of events are compared as IPv4 where they are mapped, so networks are too.
        IpNet::V6(mapped) if mapped.prefix_len() >= 96 => mapped
            .addr()
            .to_ipv4_mapped()
            .and_then(|address| Ipv4Net::new(address, mapped.prefix_len() - 96).ok())
            .map_or(net, IpNet::V4),
        net => net,
    })
}

/// Why proxies that [cover all](covers_all) are refused, to stand behind their name.
pub const TRUST_IN_ALL: &str = "covers every address: each would be believed to be a proxy, and \
    the leftmost claim in sourceIPs would be counted, which a client writes";

/// Whether every address that may be on the internet, of IPv4 or of IPv6, is in one of these
/// networks, alone or together.
pub fn covers_all(networks: &[IpNet]) -> bool {
    /// What no sender on the internet has: private, local, reserved and multicast addresses.
    const OTHERS: [&str; 11] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
        "::/3",
        "4000::/2",
        "8000::/1",
    ];
    let others = OTHERS.iter().filter_map(|net| net.parse().ok());
    let all: Vec<IpNet> = networks.iter().copied().chain(others).collect();
    IpNet::aggregate(&all)
        .iter()
        .any(|net| net.prefix_len() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::selector::Pattern;

    #[test]
    fn networks_that_cover_the_internet_are_known() {
        let covers = |nets: &[&str]| {
            let nets: Vec<_> = nets.iter().map(|net| parse_proxy(net).unwrap()).collect();
            covers_all(&nets)
        };
        for all in [
            &["0.0.0.0/0"] as &[&str],
            &["::/0"],
            &["::ffff:0.0.0.0/96"],
            &["2000::/3"],
            &["10.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1"],
            &["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"],
        ] {
            assert!(covers(all), "{all:?}");
        }
        for some in [
            &[] as &[&str],
            &["0.0.0.0/1"],
            &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"],
            &["::ffff:0.0.0.0/97", "2001:db8::/32"],
        ] {
            assert!(!covers(some), "{some:?}");
        }
    }

    #[test]
    fn mapped_proxies_are_those_of_ipv4() {
        for (mapped, wanted) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/96", "::/96"),
        ] {
            assert_eq!(parse_proxy(mapped).unwrap().to_string(), wanted);
        }
    }

    #[test]
    fn every_setting_is_in_the_fingerprint() {
        let default = Rule::default();
        let pattern = || vec![Pattern::new("a")];
        let changes: [fn(&mut Rule); 12] = [
            |rule| rule.semantics = Semantics::Escu,
            |rule| rule.threshold = 6,
            |rule| rule.window += 1,
            |rule| rule.window_offset += 1,
            |rule| rule.time_field = "stageTimestamp".to_owned(),
            |rule| rule.codes = vec![403],
            |rule| rule.who = Who::Group,
            |rule| rule.trusted_proxies = vec![parse_proxy("10.0.0.0/8").unwrap()],
            |rule| rule.ipv6_prefix = 64,
            |rule| rule.missing_city = MissingCity::Drop,
            |rule| rule.lateness += 1,
            |rule| rule.codes = vec![403, 401],
        ];
        let mut seen = vec![default.fingerprint()];
        for change in changes {
            let mut rule = default.clone();
            change(&mut rule);
            seen.push(rule.fingerprint());
        }
        for key in 0..3 {
            let mut rule = default.clone();
            let selector = &mut rule.selector;
            let lists = [
                &mut selector.source,
                &mut selector.sourcetype,
                &mut selector.index,
            ];
            *lists.into_iter().nth(key).unwrap() = pattern();
            seen.push(rule.fingerprint());
        }
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
        // It is stored with findings, so it may not change from one version to the next.
        assert_eq!(default.fingerprint(), "5572a46a2cb65ba2");
    }
}
