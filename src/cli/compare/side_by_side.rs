//! Both ways of counting over one log, joined by address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::Ipv6Net;
use serde::{Serialize, Serializer};

use crate::{
    detection::{
        address,
        event::Event,
        geo::Locate,
        limits::Bounds,
        rows::{NativeRow, Row as AnyRow, Rows},
        rule::{Rule, SECOND},
        time::Micros,
    },
    rules::{Scratch, model::Detection},
};

/// How long after the end of its window the search runs: it looks at the hour that ended ten
/// minutes ago.
const DELAY: i64 = 600 * SECOND;
/// Claimed addresses for which it is noted who claimed them.
const MOST_CLAIMED: usize = 100_000;
/// Rows that text and page show; JSON has all.
pub(super) const MOST_ROWS: usize = 1000;
/// Peers that are noted for one claimed address.
const MOST_PEERS: usize = 3;

/// The result for a log.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Compared {
    /// Events of any kind.
    pub(super) events: u64,
    /// Median of the seconds by which streaming is earlier, over addresses that both find.
    pub(super) median_lead_seconds: Option<i64>,
    /// By address, in order.
    pub(super) rows: Vec<Row>,
}

/// One address that at least one of the two finds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// Canonical address or network, else the text as logged.
    pub(super) address: String,
    /// Which of the two finds it.
    pub(super) verdict: Verdict,
    /// What streaming finds.
    pub(super) streaming: Option<Streaming>,
    /// What the search finds.
    pub(super) search: Option<Search>,
    /// Seconds by which streaming is earlier.
    pub(super) lead_seconds: Option<i64>,
    /// Why one of the two does not find it.
    pub(super) why: Vec<String>,
}

/// Which of the two finds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Both.
    Both,
    /// Streaming alone.
    StreamingOnly,
    /// The search alone.
    SearchOnly,
}

/// What streaming finds of an address.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Streaming {
    /// Event time of the request that takes a window above the threshold.
    #[serde(serialize_with = "stamp")]
    pub(super) found_at: Micros,
    /// Requests in all.
    pub(super) count: u64,
    /// The most requests in one window.
    pub(super) max_in_window: u64,
}

/// What the search finds of an address.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Search {
    /// When the search runs whose result has its first row.
    #[serde(serialize_with = "stamp")]
    pub(super) found_at: Micros,
    /// Events in that row.
    pub(super) count: u64,
    /// Its rows in all, one for each window.
    pub(super) rows: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn stamp<S: Serializer>(time: &Micros, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(time)
}

impl Compared {
    /// Addresses with this verdict.
    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.rows
            .iter()
            .filter(|row| row.verdict == verdict)
            .count()
    }
}

/// What the search counts of one address.
#[derive(Default)]
struct Counted {
    events: u64,
    /// The most events in one window, and its start.
    most: u64,
    most_start: Option<Micros>,
    found: Option<Search>,
}

/// Both ways of counting.
pub(super) struct SideBySide {
    streaming: (Rule, Rows),
    search: (Rule, Rows),
    /// The search without locations, where there is a database: what it drops for want of one.
    unlocated: Option<Rows>,
    locate: Option<Arc<dyn Locate>>,
    detection: Detection,
    scratch: Scratch,
    /// Who claimed an address, by address.
    claimed: BTreeMap<String, BTreeSet<String>>,
}

impl SideBySide {
    /// Nothing is counted yet.
    pub(super) fn new(streaming: Rule, search: Rule, locate: Option<Arc<dyn Locate>>) -> Self {
        Self {
            detection: Detection::of(&streaming),
            streaming: (streaming, Rows::default()),
            search: (search, Rows::default()),
            unlocated: locate.is_some().then(Rows::default),
            locate,
            scratch: Scratch::default(),
            claimed: BTreeMap::new(),
        }
    }

    /// The rule of streaming.
    pub(super) fn streaming(&self) -> &Rule {
        &self.streaming.0
    }

    /// Events that count without a readable time, and requests left out for want of room.
    pub(super) fn missing(&self) -> (u64, u64) {
        let (_, streaming) = &self.streaming;
        let (_, search) = &self.search;
        (
            streaming.untimed.max(search.untimed),
            streaming.left_out.max(search.left_out),
        )
    }

    /// Takes an event of any kind.
    pub(super) fn add(&mut self, event: &Event<'_>) {
        let (rule, rows) = &mut self.streaming;
        rows.add_event(event, rule, None);
        let (rule, rows) = &mut self.search;
        rows.add_event(event, rule, self.locate.as_deref());
        if let Some(rows) = &mut self.unlocated {
            rows.add_event(event, rule, None);
        }
        let mut keys = Vec::new();
        let bounds = Bounds {
            source_ips: 0,
            ..Bounds::NONE
        };
        event.hits(&self.detection, &mut self.scratch, &bounds, &mut |hit| {
            keys.push(hit.key);
        });
        for key in keys {
            event.for_each_source(&mut |source: &str| self.claim(source, &key));
        }
    }

    /// Notes that a request from `peer` named this source.
    fn claim(&mut self, source: &str, peer: &str) {
        let name = self.canonical(source);
        if name == peer {
            return;
        }
        let is_full = self.claimed.len() >= MOST_CLAIMED;
        if is_full && !self.claimed.contains_key(&name) {
            return;
        }
        let peers = self.claimed.entry(name).or_default();
        if peers.len() < MOST_PEERS {
            peers.insert(peer.to_owned());
        }
    }

    /// A source as streaming names it.
    fn canonical(&self, source: &str) -> String {
        let prefix = self.streaming.0.ipv6_prefix;
        match address::locatable(source) {
            Some(IpAddr::V6(address)) if prefix < 128 => Ipv6Net::new(address, prefix)
                .map_or_else(|_| address.to_string(), |net| net.trunc().to_string()),
            Some(address) => address.to_string(),
            None => source.to_owned(),
        }
    }

    /// The result.
    pub(super) fn finish(self, events: u64) -> Compared {
        let (rule, rows) = &self.streaming;
        let mut native: BTreeMap<String, NativeRow> = BTreeMap::new();
        for row in rows.rows(rule, true) {
            if let AnyRow::Native(row) = row {
                native.insert(row.src_ip.clone(), *row);
            }
        }
        let counted = self.counted(&self.search.1);
        let unlocated = self.unlocated.as_ref().map(|rows| self.counted(rows));
        let names: BTreeSet<&String> = native.keys().chain(counted.keys()).collect();
        let rows = names.into_iter().filter_map(|name| {
            let streaming = native.get(name);
            let search = counted.get(name);
            let dropped = unlocated.as_ref().and_then(|counted| counted.get(name));
            self.row(name, streaming, (search, dropped))
        });
        let rows: Vec<Row> = rows.collect();
        let mut leads: Vec<i64> = rows.iter().filter_map(|row| row.lead_seconds).collect();
        leads.sort_unstable();
        Compared {
            events,
            median_lead_seconds: leads.get(leads.len() / 2).copied(),
            rows,
        }
    }

    /// What the search counts of each address.
    fn counted(&self, rows: &Rows) -> BTreeMap<String, Counted> {
        let (rule, _) = &self.search;
        // All windows, and not those above the threshold alone.
        let all = Rule {
            threshold: 0,
            ..rule.clone()
        };
        let mut counted: BTreeMap<String, Counted> = BTreeMap::new();
        for row in rows.rows(&all, false) {
            let AnyRow::Escu(row) = row else { continue };
            let of = counted.entry(self.canonical(&row.src_ip)).or_default();
            of.events += row.count;
            if row.count > of.most {
                (of.most, of.most_start) = (row.count, Some(row.window_start));
            }
            if row.count > rule.threshold {
                let found = of.found.get_or_insert(Search {
                    found_at: row.window_end.plus(DELAY),
                    count: row.count,
                    rows: 0,
                });
                found.rows += 1;
            }
        }
        counted
    }

    fn row(
        &self,
        name: &str,
        native: Option<&NativeRow>,
        (counted, unlocated): (Option<&Counted>, Option<&Counted>),
    ) -> Option<Row> {
        let streaming = native.and_then(|row| {
            Some(Streaming {
                found_at: row.alert_at?,
                count: row.count,
                max_in_window: row.max_in_window,
            })
        });
        let search = counted.and_then(|counted| counted.found.clone());
        let (verdict, why) = match (&streaming, &search) {
            (Some(_), Some(_)) => (Verdict::Both, Vec::new()),
            (Some(_), None) => (
                Verdict::StreamingOnly,
                native.map_or_else(Vec::new, |row| self.why_missed(row, counted, unlocated)),
            ),
            (None, Some(_)) => (
                Verdict::SearchOnly,
                counted.map_or_else(Vec::new, |counted| self.why_alone(name, native, counted)),
            ),
            (None, None) => return None,
        };
        let lead = streaming.as_ref().zip(search.as_ref());
        Some(Row {
            address: name.to_owned(),
            verdict,
            lead_seconds: lead
                .map(|(streaming, search)| (search.found_at.0 - streaming.found_at.0) / SECOND),
            streaming,
            search,
            why,
        })
    }

    /// Why the search does not find an address that streaming finds.
    fn why_missed(
        &self,
        row: &NativeRow,
        counted: Option<&Counted>,
        unlocated: Option<&Counted>,
    ) -> Vec<String> {
        let (rule, _) = &self.search;
        let of_code = |code| row.count_by_code.get(&code).copied().unwrap_or_default();
        let (denied, others) = (of_code(403), row.count - of_code(403));
        let mut why = Vec::new();
        if others > 0 {
            let codes = row.count_by_code.keys().filter(|code| **code != 403);
            let codes: Vec<_> = codes.map(u16::to_string).collect();
            why.push(format!(
                "{others} of {} requests were answered {}; the search counts 403 alone",
                row.count,
                codes.join(" or ")
            ));
        }
        match counted {
            Some(counted) if counted.events > 0 => {
                let window = counted.most_start.map_or_else(String::new, |start| {
                    let time = |time| crate::cli::table::second(time);
                    format!(
                        ", from {} to {}",
                        time(start),
                        time(start.plus(rule.window))
                    )
                });
                why.push(format!(
                    "its windows are fixed: at most {} of {} events fall into one{window}; more \
                     than {} are needed",
                    counted.most, counted.events, rule.threshold
                ));
            }
            _ if unlocated.is_some_and(|counted| counted.events > 0) => why.push(
                "the location database does not know the address; the search drops it".to_owned(),
            ),
            _ if denied > 0 => why.push(format!(
                "none of its {denied} requests with 403 names the group system:unauthenticated",
            )),
            _ => {}
        }
        why
    }

    /// Why the search alone finds an address.
    fn why_alone(&self, name: &str, native: Option<&NativeRow>, counted: &Counted) -> Vec<String> {
        let mut why = Vec::new();
        if let Some(peers) = self.claimed.get(name) {
            let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
            why.push(format!(
                "requests from {} name it in a header, where a client can write any address; \
                 streaming counts them for the peer",
                peers.join(", ")
            ));
        }
        match native {
            Some(row) if counted.events > row.count => why.push(format!(
                "{} events are {} requests: the search counts repeats and further stages of a \
                 request again",
                counted.events, row.count
            )),
            None if why.is_empty() => why.push(
                "its requests do not match the settings of streaming (--codes, --who)".to_owned(),
            ),
            _ => {}
        }
        why
    }
}
