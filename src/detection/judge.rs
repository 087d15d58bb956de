//! The [`Hit`] that an event becomes when it matches.

use super::{
    event::{Event, Field, List, Status},
    hit::Hit,
    limits::Bounds,
    text::Text,
};
use crate::rules::{Scratch, matches::Match, model::Detection};

impl Event<'_> {
    /// Shows a hit, within these bounds, for each match of the event.
    pub fn hits(
        &self,
        detection: &Detection,
        scratch: &mut Scratch,
        bounds: &Bounds,
        show: &mut dyn FnMut(Hit),
    ) {
        detection.matches(self, scratch, bounds.value_bytes, &mut |found| {
            show(self.hit(found, bounds));
        });
    }

    /// The hit that a match makes of the event, with so much of it as these bounds say.
    pub fn hit(&self, found: Match, bounds: &Bounds) -> Hit {
        let status = self.status.as_ref();
        let code = status.and_then(|status| status.code.value());
        let of_status = |field: for<'a, 's> fn(&'s Status<'a>) -> &'s Field<'a>| {
            status.and_then(|status| kept(field(status), bounds))
        };
        let (texts, user) = (|field| kept(field, bounds), self.user.as_ref());
        Hit {
            time: self.time(),
            clamped: false,
            cluster: "".into(),
            key: found.key,
            sources: sources(self.sources.unwrap_or_default(), bounds),
            code: code.and_then(number).unwrap_or_default(),
            code_text: code
                .map(|code| code.cut(bounds.value_bytes))
                .unwrap_or_default(),
            user: user.and_then(|user| texts(&user.name)),
            groups: user.map_or_else(Vec::new, |user| groups(user.groups, bounds)),
            verb: texts(&self.verb),
            uri: texts(&self.uri),
            agent: texts(&self.agent),
            message: of_status(|status| &status.message),
            reason: of_status(|status| &status.reason),
            status: of_status(|status| &status.status),
            audit_id: texts(&self.audit_id),
            stage: texts(&self.stage),
            identity: found.identity,
        }
    }
}

/// A status code as a whole number, however it is spelled.
fn number(code: Text<'_>) -> Option<u16> {
    let number = crate::rules::number(&code.short()?)?;
    (0..=999).find(|code| f64::from(*code).total_cmp(&number).is_eq())
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

/// The texts of `sourceIPs` that are kept: the last ones, those that a client can least write.
fn sources(list: List<'_>, bounds: &Bounds) -> Vec<String> {
    let mut texts = Last::new(bounds.source_ips);
    list.for_each(|source| {
        if let Some(text) = source.value() {
            texts.push(text);
        }
    });
    let texts = texts.into_vec();
    let mut kept = Vec::with_capacity(texts.len());
    kept.extend(texts.iter().map(|text| text.cut(bounds.value_bytes)));
    kept
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
    use crate::detection::rule::Rule;

    fn judge(event: &Event<'_>, rule: &Rule, bounds: &Bounds) -> Option<Hit> {
        let mut found = None;
        let detection = Detection::of(rule);
        event.hits(&detection, &mut Scratch::default(), bounds, &mut |hit| {
            found = Some(hit);
        });
        found
    }

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
        let whole = judge(&event, &rule, &Bounds::NONE).unwrap();
        assert_eq!((whole.sources.len(), whole.groups.len()), (201, 302));
        for (value_bytes, source_ips, most) in [(1024, 64, 100), (1, 1, 1), (5, 500, 500)] {
            let bounds = Bounds {
                value_bytes,
                source_ips,
                groups: most,
            };
            let hit = judge(&event, &rule, &bounds).unwrap();
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
            judge(&event, &Rule::default(), &Bounds::NONE)
        };
        let with = hit(&event(&format!("{many}\"system:unauthenticated\",\"h\"")));
        assert_eq!(with.unwrap().groups.len(), 10_002);
        assert_eq!(hit(&event(&format!("{many}\"h\""))), None);
    }
}
