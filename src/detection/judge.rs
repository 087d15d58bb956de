//! Which events count: who asked and how it ended, and the [`Hit`] that such an event becomes.

use super::{
    address,
    event::{Event, Field, List, is_code},
    hit::Hit,
    identity,
    limits::Bounds,
    rule::{Rule, Semantics, Who},
    text::Text,
};

/// The group of every request without credentials.
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of every request without credentials.
const ANONYMOUS: &str = "system:anonymous";

impl Event<'_> {
    /// Judges the event by who and outcome: a [`Hit`] with all of the event when it counts.
    pub fn judge(&self, rule: &Rule) -> Option<Hit> {
        self.judge_within(rule, &Bounds::NONE)
    }

    /// Judges the event, and keeps so much of it as these bounds say when it counts.
    pub fn judge_within(&self, rule: &Rule, bounds: &Bounds) -> Option<Hit> {
        let status = self.status.as_ref()?;
        let code_text = status.code.value()?;
        let code = code_text.short()?;
        let wanted = *rule
            .wanted_codes()
            .iter()
            .find(|wanted| is_code(&code, **wanted))?;
        if !self.counts(rule) {
            return None;
        }
        let (tail, sources) = sources(self.sources.unwrap_or_default(), bounds);
        Some(Hit {
            detection: 0,
            time: self.time(),
            clamped: false,
            cluster: "".into(),
            key: match rule.semantics {
                Semantics::Native => address::key(&tail, &rule.trusted_proxies, rule.ipv6_prefix),
                Semantics::Escu => String::new(),
            },
            sources,
            code: wanted,
            code_text: code_text.cut(bounds.value_bytes),
            user: self.user.as_ref().and_then(|user| kept(&user.name, bounds)),
            groups: match &self.user {
                Some(user) => groups(user.groups, bounds),
                None => Vec::new(),
            },
            verb: kept(&self.verb, bounds),
            uri: kept(&self.uri, bounds),
            agent: kept(&self.agent, bounds),
            message: kept(&status.message, bounds),
            reason: kept(&status.reason, bounds),
            status: kept(&status.status, bounds),
            audit_id: kept(&self.audit_id, bounds),
            stage: kept(&self.stage, bounds),
            identity: identity::of([&self.audit_id, &self.received, &self.verb, &self.uri]),
        })
    }

    fn counts(&self, rule: &Rule) -> bool {
        let mut no_group = true;
        let mut is_unauthenticated = false;
        if let Some(user) = &self.user {
            user.groups.for_each(|group| {
                if let Some(group) = group.value() {
                    no_group = false;
                    // SPL's search command compares without case.
                    is_unauthenticated |= group.is_ignoring_case(UNAUTHENTICATED);
                }
            });
        }
        if is_unauthenticated {
            return true;
        }
        let name = self.user.as_ref().and_then(|user| user.name.value());
        let nobody = no_group && name.is_none_or(Text::is_empty);
        let anonymous = name.is_some_and(|name| name.is(ANONYMOUS));
        rule.semantics == Semantics::Native && rule.who == Who::Any && (anonymous || nobody)
    }
}

fn kept(field: &Field<'_>, bounds: &Bounds) -> Option<String> {
    field.value().map(|text| text.cut(bounds.value_bytes))
}

/// The last of very many.
struct Last<T> {
    most: usize,
    kept: Vec<T>,
    /// Where the oldest is.
    oldest: usize,
}

impl<T> Last<T> {
    fn new(most: usize) -> Self {
        Self {
            most,
            kept: Vec::new(),
            oldest: 0,
        }
    }

    fn push(&mut self, one: T) {
        if self.kept.len() < self.most {
            self.kept.push(one);
        } else if let Some(oldest) = self.kept.get_mut(self.oldest) {
            *oldest = one;
            self.oldest = (self.oldest + 1) % self.most;
        }
    }

    fn into_vec(mut self) -> Vec<T> {
        self.kept.rotate_left(self.oldest);
        self.kept
    }
}

/// The last elements of `sourceIPs`, as many as the key may depend on, and the texts that are kept:
/// the last ones too, those that a client can least write.
fn sources<'a>(list: List<'a>, bounds: &Bounds) -> (Vec<Field<'a>>, Vec<String>) {
    let mut tail = Last::new(address::MAX_HOPS);
    let mut texts = Last::new(bounds.source_ips);
    list.for_each(|source| {
        tail.push(source);
        if let Some(text) = source.value() {
            texts.push(text);
        }
    });
    let texts = texts.into_vec();
    let mut kept = Vec::with_capacity(texts.len());
    kept.extend(texts.iter().map(|text| text.cut(bounds.value_bytes)));
    (tail.into_vec(), kept)
}

/// The groups, in order. Of more distinct ones than are kept the first in order of bytes, as
/// evidence keeps them, and one more, so that it shows that there are more.
fn groups(list: List<'_>, bounds: &Bounds) -> Vec<String> {
    let most = bounds.groups.saturating_add(1);
    let reduce = |kept: &mut Vec<String>| {
        kept.sort_unstable();
        let shown = |text: &str| text.floor_char_boundary(bounds.value_bytes);
        kept.dedup_by(|a, b| a.get(..shown(a)) == b.get(..shown(b)));
        kept.truncate(most);
    };
    let mut kept: Vec<String> = Vec::new();
    let mut is_reduced = false;
    list.for_each(|group| {
        let Some(group) = group.value() else { return };
        let group = group.cut(bounds.value_bytes);
        // In order: what is behind the last that is kept will not be.
        if is_reduced && kept.len() >= most && kept.get(most - 1).is_some_and(|last| group >= *last)
        {
            return;
        }
        kept.push(group);
        if kept.len() >= most.saturating_mul(2) {
            reduce(&mut kept);
            is_reduced = true;
        }
    });
    if kept.len() > most {
        reduce(&mut kept);
    }
    kept.shrink_to_fit();
    kept
}

#[cfg(test)]
mod tests {
    use super::{super::json, *};

    /// What a hit keeps is what a hit without bounds keeps, cut afterwards.
    #[test]
    fn reading_within_bounds_is_reading_all_and_cutting() {
        let sources: Vec<_> = (0..200).map(|at| format!("\"192.0.2.{at}\"")).collect();
        let groups: Vec<_> = (0..300)
            .map(|at| format!("\"g{}\"", at * 7 % 250))
            .collect();
        let long = "\\u00e9x".repeat(3000);
        let text = format!(
            r#"{{"verb":"{long}","requestURI":"/{long}","auditID":"{long}","userAgent":"a\n",
            "user":{{"username":"","groups":["system:UNauthenticated",7,null,{}]}},
            "sourceIPs":[{}, null, {{}}, true],"responseStatus":{{"code":403,"message":"{long}"}}}}"#,
            groups.join(","),
            sources.join(","),
        );
        let event = json::one(text.as_bytes(), "t").unwrap().unwrap();
        let rule = Rule::default();
        let whole = event.judge(&rule).unwrap();
        assert_eq!((whole.sources.len(), whole.groups.len()), (201, 302));
        for (value_bytes, source_ips, most) in [(1024, 64, 100), (1, 1, 1), (5, 500, 500)] {
            let bounds = Bounds {
                value_bytes,
                source_ips,
                groups: most,
            };
            let hit = event.judge_within(&rule, &bounds).unwrap();
            let mut wanted = whole.clone();
            wanted.cut(value_bytes);
            wanted.keep_sources(source_ips);
            if wanted.groups.len() > most + 1 {
                let groups: std::collections::BTreeSet<_> = wanted.groups.drain(..).collect();
                wanted.groups = groups.into_iter().collect();
                let shown = |text: &str| text.floor_char_boundary(value_bytes);
                let groups = &mut wanted.groups;
                groups.dedup_by(|a, b| a.get(..shown(a)) == b.get(..shown(b)));
                wanted.groups.truncate(most + 1);
            }
            assert_eq!(hit, wanted, "{bounds:?}");
            assert!(hit.held() <= wanted.held() + 64, "{bounds:?}");
        }
    }

    /// One among very many is found, wherever it stands.
    #[test]
    fn the_group_of_the_unauthenticated_is_found_among_all() {
        let event = |groups: &str| {
            format!(
                r#"{{"verb":"get","user":{{"username":"u","groups":[{groups}]}},"sourceIPs":[],
                "responseStatus":{{"code":403}}}}"#
            )
        };
        let many = "\"g\",".repeat(10_000);
        let hit = |text: &str| {
            let event = json::one(text.as_bytes(), "t").unwrap().unwrap();
            event.judge(&Rule::default())
        };
        let with = hit(&event(&format!("{many}\"system:unauthenticated\",\"h\"")));
        assert_eq!(with.unwrap().groups.len(), 10_002);
        assert_eq!(hit(&event(&format!("{many}\"h\""))), None);
    }
}
