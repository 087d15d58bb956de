//! The engine in native semantics: batching, repeats, order, restarts, and the life of a finding.

use std::collections::{BTreeMap, BTreeSet};

use auditwatch::detection::{
    Finding, Sample,
    engine::EngineState,
    fields::AuditField,
    hit::Hit,
    rows::{Row, Rows},
    rule::Rule,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::support::{
    hits::{
        Log, SECOND, START, after, all, drain, engine, findings, hit, lateness, log, observe,
        reordered, rule, tick,
    },
    props::cases,
};

/// One key of the model: hits in order of event time, one after the other.
#[derive(Clone, Default)]
struct Key {
    /// The closing watermark at its last hit.
    arrived: i64,
    /// Hits that belong to no finding (yet).
    free: Vec<Hit>,
    open: Option<Scan>,
    /// A later scan, while the first is open.
    next: Option<Scan>,
    /// Findings that are over.
    over: Vec<Scan>,
}

#[derive(Clone)]
struct Scan {
    alert_at: i64,
    members: Vec<Hit>,
    /// The closing watermark when a hit last joined.
    joined: i64,
    sent: Sent,
}

/// What the last state of a scan has shown.
#[derive(Clone, Default)]
struct Sent {
    count: usize,
    agents: usize,
    codes: usize,
    /// When that was, by the closing watermark.
    at: i64,
    /// How long what is new waits from then on.
    interval: i64,
}

/// A state of a finding: name, cluster, key, count, first, last, alert.
type Emitted = (String, String, String, u64, i64, i64, i64);

fn time(hit: &Hit) -> i64 {
    hit.time.unwrap().0 - START
}

impl Scan {
    fn last(&self) -> i64 {
        time(self.members.last().unwrap())
    }

    fn distinct(&self, field: AuditField) -> usize {
        let values = self.members.iter().flat_map(|hit| hit.texts.all(field));
        values.collect::<BTreeSet<_>>().len()
    }

    /// When a state is due, and whether because something is new.
    fn update(&self) -> Option<(i64, bool)> {
        let sent = &self.sent;
        if self.members.len() >= 2 * sent.count {
            return Some((sent.at, false));
        }
        let is_news = self.distinct(AuditField::UserAgent) > sent.agents
            || self.distinct(AuditField::Code) > sent.codes;
        let is_changed = self.members.len() > sent.count;
        match (is_news, is_changed) {
            (true, _) => Some((sent.at + sent.interval, true)),
            (false, true) => Some((sent.at + 3600 * SECOND, false)),
            (false, false) => None,
        }
    }

    fn emission(&mut self, state: &str, at: i64, is_news: bool) -> Emitted {
        let interval = match &self.sent {
            sent if sent.count == 0 || at - sent.at >= 3600 * SECOND => 10 * SECOND,
            sent if is_news => (2 * sent.interval).min(600 * SECOND),
            sent => sent.interval,
        };
        self.sent = Sent {
            count: self.members.len(),
            agents: self.distinct(AuditField::UserAgent),
            codes: self.distinct(AuditField::Code),
            at,
            interval,
        };
        let hit = &self.members[0];
        (
            state.to_owned(),
            hit.cluster.to_string(),
            hit.key.clone(),
            self.members.len() as u64,
            time(hit),
            self.last(),
            self.alert_at,
        )
    }
}

impl Key {
    fn take(&mut self, hit: Hit, rule: &Rule, emitted: &mut Vec<Emitted>) {
        let now = time(&hit);
        let mut scans = [&mut self.open, &mut self.next].into_iter().flatten();
        if let Some(scan) = scans.find(|scan| now - scan.last() < rule.window) {
            scan.members.push(hit);
            scan.joined = self.arrived;
            return;
        }
        drop(scans);
        self.free.push(hit);
        self.free.retain(|free| now - time(free) < rule.window);
        if self.free.len() as u64 > rule.threshold {
            let mut scan = Scan {
                alert_at: now,
                members: std::mem::take(&mut self.free),
                joined: self.arrived,
                sent: Sent::default(),
            };
            emitted.push(scan.emission("opened", self.arrived, false));
            let place = if self.open.is_none() {
                &mut self.open
            } else {
                &mut self.next
            };
            assert!(place.replace(scan).is_none());
        }
    }

    /// Says what has come of the hits that were taken.
    fn update(&mut self, emitted: &mut Vec<Emitted>) {
        for scan in [&mut self.open, &mut self.next].into_iter().flatten() {
            if let Some((due, is_news)) = scan.update()
                && due <= self.arrived
            {
                emitted.push(scan.emission("updated", self.arrived, is_news));
                return;
            }
        }
    }

    /// Says and closes what is due by this watermark.
    fn settle(&mut self, watermark: i64, rule: &Rule, emitted: &mut Vec<Emitted>) {
        while let Some(scan) = &mut self.open {
            let closes_at = (scan.last() + rule.window).max(scan.joined + rule.window);
            if closes_at <= watermark {
                emitted.push(scan.emission("closed", closes_at, false));
                self.next();
                continue;
            }
            let mut scans = [&mut self.open, &mut self.next].into_iter().flatten();
            let due = scans.find_map(|scan| {
                let (due, is_news) = scan.update().filter(|(due, _)| *due <= watermark)?;
                let at = due.max(scan.joined);
                Some(scan.emission("updated", at, is_news))
            });
            match due {
                Some(one) => emitted.push(one),
                None => return,
            }
        }
    }

    /// The open finding is over.
    fn next(&mut self) {
        self.over.extend(self.open.take());
        self.open = self.next.take();
    }
}

/// The model: what is said on each hit, and at last.
struct Model {
    rule: Rule,
    keys: BTreeMap<(String, String), Key>,
    fronts: BTreeMap<String, i64>,
}

impl Model {
    fn new(rule: &Rule) -> Self {
        Self {
            rule: rule.clone(),
            keys: BTreeMap::new(),
            fronts: BTreeMap::new(),
        }
    }

    fn observe(&mut self, hit: &Hit) -> Vec<Emitted> {
        let mut emitted = Vec::new();
        let cluster = hit.cluster.to_string();
        self.fronts.insert(cluster.clone(), time(hit));
        let watermark = time(hit) - lateness(&self.rule);
        for ((of, _), key) in &mut self.keys {
            if *of == cluster {
                key.settle(watermark, &self.rule, &mut emitted);
            }
        }
        let key = self.keys.entry((cluster, hit.key.clone())).or_default();
        key.arrived = watermark;
        key.take(hit.clone(), &self.rule, &mut emitted);
        key.update(&mut emitted);
        emitted
    }

    /// All findings in the end: whether each is closed, and what belongs to it.
    fn finish(mut self) -> Vec<(bool, Scan)> {
        let mut all = Vec::new();
        for ((cluster, _), key) in &mut self.keys {
            let watermark = self.fronts[cluster] - lateness(&self.rule);
            while key.open.is_some() {
                key.next();
            }
            for scan in &key.over {
                all.push((scan.last() + self.rule.window <= watermark, scan.clone()));
            }
        }
        all.sort_by_key(|(_, scan)| (place(&scan.members[0]), scan.last()));
        all
    }
}

fn place(hit: &Hit) -> (String, String, i64) {
    (hit.cluster.to_string(), hit.key.clone(), time(hit))
}

/// Of each distinct verb and path one hit, in order: all, or half of those that appeared first and
/// half of those that appeared last.
fn samples(members: &[Hit]) -> Vec<&Hit> {
    let text = |hit: &Hit, field| hit.texts.get(field).unwrap().to_owned();
    let request = |hit: &Hit| {
        (
            text(hit, AuditField::Verb),
            text(hit, AuditField::RequestUri),
        )
    };
    // Of each request its first hit and its last, by their place.
    let mut requests: BTreeMap<_, (usize, usize)> = BTreeMap::new();
    for (at, hit) in members.iter().enumerate() {
        requests.entry(request(hit)).or_insert((at, at)).1 = at;
    }
    let mut firsts: Vec<_> = requests.values().map(|(first, _)| *first).collect();
    firsts.sort_unstable();
    firsts.truncate(10);
    let mut lasts: Vec<_> = requests.values().map(|(_, last)| *last).collect();
    lasts.sort_unstable();
    let lasts = lasts.split_off(lasts.len().saturating_sub(5));
    let mut shown: Vec<_> = requests
        .values()
        .filter(|_| requests.len() <= 10)
        .copied()
        .collect();
    if requests.len() > 10 {
        let is_shown =
            |(first, last): &(usize, usize)| firsts[..5].contains(first) || lasts.contains(last);
        shown = requests
            .values()
            .filter(|of| is_shown(of))
            .copied()
            .collect();
        for first in &firsts[5..] {
            let of = requests.values().find(|of| of.0 == *first).unwrap();
            if shown.len() < 10 && !shown.contains(of) {
                shown.push(*of);
            }
        }
    }
    let place = |(first, last)| if firsts.contains(&first) { first } else { last };
    let mut samples: Vec<usize> = shown.into_iter().map(place).collect();
    samples.sort_unstable();
    samples.into_iter().map(|at| &members[at]).collect()
}

/// The finding the model expects, as far as hits decide it.
fn finding(scan: &Scan, rule: &Rule) -> Finding {
    let members = &scan.members;
    let set = |field: AuditField| -> Vec<String> {
        let set: BTreeSet<_> = members
            .iter()
            .flat_map(|hit| hit.texts.all(field))
            .collect();
        set.into_iter().map(str::to_owned).collect()
    };
    let text = |hit: &Hit, field| hit.texts.get(field).unwrap().to_owned();
    let stamp = |after: i64| Some(auditwatch::detection::time::Micros(START + after).to_proto());
    let mut count_by_code = std::collections::HashMap::new();
    for hit in members {
        *count_by_code.entry(hit.code.to_string()).or_default() += 1;
    }
    let samples = samples(members);
    let sample = |hit: &&Hit| Sample {
        time: stamp(time(hit)),
        audit_id: text(hit, AuditField::AuditId),
        stage: text(hit, AuditField::Stage),
        verb: text(hit, AuditField::Verb),
        path: text(hit, AuditField::RequestUri),
        code: text(hit, AuditField::Code),
        user_agent: text(hit, AuditField::UserAgent),
        user: text(hit, AuditField::Username),
    };
    let mut finding = Finding {
        cluster: members[0].cluster.to_string(),
        src_ip: members[0].key.clone(),
        src: members[0].key.clone(),
        count: members.len() as u64,
        count_by_code: count_by_code.into_iter().collect(),
        first_time: stamp(time(&members[0])),
        last_time: stamp(scan.last()),
        alert_at: stamp(scan.alert_at),
        threshold: rule.threshold,
        verbs: set(AuditField::Verb),
        paths: set(AuditField::RequestUri),
        user_agents: set(AuditField::UserAgent),
        users: set(AuditField::Username),
        groups: vec!["system:unauthenticated".to_owned()],
        codes: set(AuditField::Code),
        messages: set(AuditField::Message),
        statuses: set(AuditField::Status),
        claimed_ips: set(AuditField::ClaimedIps),
        samples: samples.iter().map(sample).collect(),
        time_clamped: members.iter().any(|hit| hit.clamped),
        ..Finding::default()
    };
    let lists: Vec<_> = finding
        .lists()
        .filter(|list| !list.values.is_empty())
        .collect();
    let distinct = lists
        .iter()
        .map(|list| (list.name.to_owned(), list.values.len() as u64));
    finding.distinct = distinct.collect();
    finding
}

/// What the hits decide about a finding: without what the rule says, and without its id.
fn content(emitted: &Finding) -> Finding {
    let nothing = Finding::default();
    Finding {
        finding_id: String::new(),
        state: String::new(),
        rule_id: String::new(),
        rule_name: String::new(),
        rule_version: String::new(),
        semantics: String::new(),
        severity: String::new(),
        risk_score: 0,
        severity_reasons: Vec::new(),
        window_seconds: 0.0,
        mitre_technique_id: String::new(),
        mitre_technique: String::new(),
        mitre_tactic: String::new(),
        config_fingerprint: String::new(),
        drilldown_search: nothing.drilldown_search,
        message: String::new(),
        false_positives: vec![],
        references: vec![],
        attack_techniques: vec![],
        group_by: Vec::new(),
        // They depend on what was sent before, and on the order of arrival.
        new: None,
        duplicates: 0,
        close_reason: String::new(),
        ..emitted.clone()
    }
}

/// The last state of each finding that was not merged: closed or not, and its content; in order.
fn last_states(emitted: &[Finding]) -> Vec<(bool, Finding)> {
    let by_id: BTreeMap<_, _> = emitted
        .iter()
        .map(|one| (one.finding_id.clone(), one))
        .collect();
    let mut all: Vec<_> = by_id
        .into_values()
        .filter(|one| one.close_reason != "merged")
        .map(|one| (one.close_reason == "quiet", content(one)))
        .collect();
    all.sort_by_key(|(_, one)| {
        (
            one.cluster.clone(),
            one.src_ip.clone(),
            after(one.first_time),
            after(one.last_time),
        )
    });
    all
}

fn model_states(hits: &[Hit], rule: &Rule) -> Vec<(bool, Finding)> {
    let mut model = Model::new(rule);
    for hit in hits {
        model.observe(hit);
    }
    let all = model.finish();
    all.iter()
        .map(|(closed, scan)| (*closed, finding(scan, rule)))
        .collect()
}

fn rule_and_log() -> impl Strategy<Value = (Rule, Log)> {
    rule().prop_flat_map(|rule| {
        let log = log(&rule);
        (Just(rule), log)
    })
}

proptest! {
    #![proptest_config(cases(200))]

    /// `opened` comes on the hit that takes the window over the threshold, `updated` when the
    /// count has doubled, something is new or an hour has passed, `closed` after a window of quiet;
    /// a new scan is a new finding.
    #[test]
    fn each_hit_in_order_says_what_the_model_says((rule, Log(hits)) in rule_and_log()) {
        let mut engine = engine(&rule);
        let mut model = Model::new(&rule);
        let mut ids: BTreeMap<String, (String, Option<String>)> = BTreeMap::new();
        for hit in &hits {
            let emitted = observe(&mut engine, hit);
            for one in &emitted {
                let new = (one.state == "opened").then_some(hit.time);
                prop_assert_eq!(new.is_some(), !ids.contains_key(&one.finding_id));
                if new.is_some() {
                    prop_assert_eq!(one.count, rule.threshold + 1);
                }
                let entry = ids.entry(one.finding_id.clone()).or_default();
                prop_assert!(entry.1.is_none(), "spoke after it was closed");
                entry.0.clone_from(&one.state);
                entry.1 = (one.state == "closed").then(|| one.state.clone());
            }
            let mut got: Vec<Emitted> = emitted
                .iter()
                .map(|one| {
                    let times = (after(one.first_time), after(one.last_time), after(one.alert_at));
                    let names = (one.state.clone(), one.cluster.clone(), one.src_ip.clone());
                    (names.0, names.1, names.2, one.count, times.0, times.1, times.2)
                })
                .collect();
            let mut wanted = model.observe(hit);
            got.sort();
            wanted.sort();
            prop_assert_eq!(got, wanted);
        }
        prop_assert_eq!(engine.stats().late, 0);
    }

    /// Reordering within lateness changes when things are said, but not what is true in the end.
    #[test]
    fn reordering_within_lateness_gives_the_same_content(
        (rule, Log(hits)) in rule_and_log(),
        delays in vec(any::<u32>(), 40),
    ) {
        let wanted = model_states(&hits, &rule);
        prop_assert_eq!(last_states(&all(engine(&rule), &hits)), wanted.clone());
        let hits = reordered(&hits, &delays, lateness(&rule));
        let mut engine = engine(&rule);
        let mut emitted = Vec::new();
        for hit in &hits {
            for one in observe(&mut engine, hit) {
                if one.state == "opened" {
                    prop_assert_eq!(one.count, rule.threshold + 1);
                }
                emitted.push(one);
            }
        }
        prop_assert_eq!(engine.stats().late, 0);
        emitted.extend(drain(&mut engine));
        prop_assert_eq!(last_states(&emitted), wanted);
    }

    /// Repeated deliveries, however late, and ticks without time change nothing at all.
    #[test]
    fn repeats_change_nothing(
        (rule, Log(hits)) in rule_and_log(),
        delays in vec(any::<u32>(), 40),
        repeats in vec((any::<Index>(), any::<Index>(), any::<bool>()), 0..60),
    ) {
        if hits.is_empty() {
            return Ok(());
        }
        let hits = reordered(&hits, &delays, lateness(&rule));
        let mut after: Vec<Vec<Option<Hit>>> = vec![Vec::new(); hits.len()];
        let mut repeated = 0;
        for (at, of, tick) in repeats {
            let at = at.index(hits.len());
            let of = of.index(at + 1);
            repeated += u64::from(!tick);
            after[at].push((!tick).then(|| hits[of].clone()));
        }
        let mut engine_with_repeats = engine(&rule);
        let mut out = Vec::new();
        for (hit, after) in hits.iter().zip(after) {
            engine_with_repeats.observe(hit.clone(), &mut out);
            for more in after {
                match more {
                    Some(hit) => engine_with_repeats.observe(hit, &mut out),
                    None => engine_with_repeats.tick(std::time::Duration::ZERO, &mut out),
                }
            }
        }
        engine_with_repeats.drain(&mut out);
        let mut found = findings(out);
        let mut wanted = all(engine(&rule), &hits);
        // A finding says how many repeats there were.
        for one in found.iter_mut().chain(&mut wanted) {
            one.duplicates = 0;
            one.message.clear();
        }
        prop_assert_eq!(found, wanted);
        let stats = engine_with_repeats.stats();
        prop_assert_eq!(stats.duplicates + stats.late_dropped, repeated);
    }

    /// A finding and the row of `scan` agree where they speak of the same requests.
    #[test]
    fn findings_agree_with_the_rows_of_scan((rule, Log(hits)) in rule_and_log()) {
        let hits: Vec<_> = hits.into_iter().filter(|hit| hit.cluster.is_empty()).collect();
        let mut rows = Rows::default();
        for hit in &hits {
            rows.add(hit, &rule, None);
        }
        let states = last_states(&all(engine(&rule), &hits));
        let mut by_key: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
        for (_, finding) in states {
            by_key.entry(finding.src_ip.clone()).or_default().push(finding);
        }
        for row in rows.finish(&rule, true) {
            let Row::Native(row) = row else { unreachable!() };
            let findings = by_key.remove(&row.src_ip).unwrap_or_default();
            let first = findings.first().map(|finding| after(finding.alert_at));
            prop_assert_eq!(first, row.alert_at.map(|time| time.0 - START));
            // With one finding that holds all requests, everything is equal.
            if let [finding] = findings.as_slice() && finding.count == row.count {
                let times = (after(finding.first_time), after(finding.last_time));
                prop_assert_eq!(times, (row.first_time.0 - START, row.last_time.0 - START));
                let codes: BTreeMap<_, _> = row
                    .count_by_code
                    .iter()
                    .map(|(code, count)| (code.to_string(), *count))
                    .collect();
                prop_assert_eq!(finding.count_by_code.clone().into_iter().collect::<BTreeMap<_, _>>(), codes);
                prop_assert!(finding.verbs.iter().eq(row.seen.get(AuditField::Verb)));
                prop_assert!(finding.paths.iter().eq(row.seen.get(AuditField::RequestUri)));
            }
            let total: u64 = findings.iter().map(|finding| finding.count).sum();
            prop_assert!(total <= row.count);
        }
        prop_assert!(by_key.is_empty());
    }

    /// A state that was written down and read again goes on as if nothing had happened.
    #[test]
    fn an_exported_state_goes_on_identically(
        (rule, Log(hits)) in rule_and_log(),
        delays in vec(any::<u32>(), 40),
        cuts in vec(any::<Index>(), 1..4),
        ticks in vec((any::<Index>(), 0u64..8000), 0..4),
    ) {
        let hits = reordered(&hits, &delays, lateness(&rule));
        let cuts: BTreeSet<_> = cuts.iter().map(|cut| cut.index(hits.len() + 1)).collect();
        let ticks: BTreeMap<_, _> =
            ticks.iter().map(|(at, seconds)| (at.index(hits.len() + 1), *seconds)).collect();
        let (mut one, mut other) = (engine(&rule), engine(&rule));
        for (at, hit) in hits.iter().enumerate() {
            if cuts.contains(&at) {
                let state = EngineState::decode(&other.export().encode()).unwrap();
                prop_assert_eq!(&state, &one.export());
                other = engine(&rule);
                other.import(state);
            }
            if let Some(seconds) = ticks.get(&at) {
                let elapsed = std::time::Duration::from_secs(*seconds);
                prop_assert_eq!(tick(&mut one, elapsed), tick(&mut other, elapsed));
            }
            prop_assert_eq!(observe(&mut one, hit), observe(&mut other, hit));
        }
        prop_assert_eq!(drain(&mut one), drain(&mut other));
        prop_assert_eq!(one.stats(), other.stats());
        prop_assert_eq!(one.tracked(), other.tracked());
        prop_assert_eq!(one.export(), other.export());
    }
}

/// Ids come from the opening hit alone, so nothing that comes later can change them, and two
/// clusters never share one.
#[test]
fn ids_are_fixed_at_opening_and_differ_between_clusters() {
    let rule = Rule::default();
    let log = |cluster: &str, count: u32| -> Vec<_> {
        (0..count)
            .map(|id| hit(id, cluster, "192.0.2.1", i64::from(id)))
            .collect()
    };
    let short = all(engine(&rule), &log("a", 6));
    let long = all(engine(&rule), &log("a", 40));
    let other = all(engine(&rule), &log("b", 6));
    let states: Vec<_> = short.iter().map(|one| one.state.as_str()).collect();
    assert_eq!(states, ["opened", "closed"]);
    assert_eq!(short[1].close_reason, "shutdown");
    assert!(long.len() > 3);
    assert!(long.iter().all(|one| one.finding_id == short[0].finding_id));
    assert_ne!(other[0].finding_id, short[0].finding_id);
}

/// Three days of a balancer's probe each ten seconds, then a scan from its address: an update within
/// ten seconds that names what is new. Each day is a finding that continues the one before, and what
/// a member of it does needs no threshold.
#[test]
fn a_scan_behind_days_of_probes_is_named_at_once() {
    const DAY: i64 = 24 * 3600 * SECOND;
    let mut engine = engine(&Rule::default());
    let probe = |number: u32| {
        let mut hit = hit(number, "prod", "192.0.2.1", i64::from(number) * 10 * SECOND);
        for (field, value) in [
            (AuditField::RequestUri, "/healthz"),
            (AuditField::UserAgent, "probe"),
            (AuditField::Verb, "get"),
            (AuditField::Username, ""),
        ] {
            hit.texts.set(field, &[value]);
        }
        hit
    };
    let probes = 3 * 8640 + 90;
    let mut emitted: Vec<_> = (0..probes)
        .flat_map(|number| observe(&mut engine, &probe(number)))
        .collect();
    let opened: Vec<_> = emitted.iter().filter(|one| one.state == "opened").collect();
    assert_eq!(opened.len(), 4);
    let counts: Vec<_> = opened.iter().map(|one| one.count).collect();
    assert_eq!(counts, [6, 1, 1, 1]);
    for pair in opened.windows(2) {
        assert_eq!(pair[1].continues, pair[0].finding_id);
        assert_eq!(after(pair[1].alert_at), after(pair[0].alert_at) + DAY);
        let closed = emitted
            .iter()
            .find(|one| one.state == "closed" && one.finding_id == pair[0].finding_id);
        let closed = closed.unwrap();
        assert_eq!(closed.close_reason, "rolled_over");
        // The first finding has the five hits before its alert besides.
        assert!((8640..=8645).contains(&closed.count), "{}", closed.count);
    }
    // Doublings and hours, and no more.
    assert!(emitted.len() < 150, "{}", emitted.len());
    emitted.clear();
    let start = i64::from(probes) * 10 * SECOND;
    for number in 0..200_u32 {
        let mut secret = probe(0);
        secret.time = Some(auditwatch::detection::time::Micros(
            START + start + i64::from(number) * SECOND / 10,
        ));
        secret.identity.0[8..12].copy_from_slice(&(number + 1).to_be_bytes());
        secret.texts.set(AuditField::UserAgent, &["curl/8.0"]);
        let path = format!("/api/v1/namespaces/n{number}/secrets?limit=500");
        secret.texts.set(AuditField::RequestUri, &[&path]);
        emitted.extend(observe(&mut engine, &secret));
    }
    let first = &emitted[0];
    assert_eq!(
        (first.state.as_str(), first.close_reason.as_str()),
        ("updated", "")
    );
    assert!(after(first.last_time) - start <= 10 * SECOND);
    let new = first.new.as_ref().unwrap();
    assert_eq!(new.user_agents, ["curl/8.0"]);
    assert_eq!(new.paths, ["/api/v1/namespaces/n0/secrets"]);
    let last = drain(&mut engine).pop().unwrap();
    assert_eq!(
        (last.close_reason.as_str(), last.distinct["paths"]),
        ("shutdown", 201)
    );
}
