//! The [`Hit`] that an event becomes when it matches.

use std::sync::Arc;

use super::{
    address::{self, Trusted},
    event::{Event, List, Value},
    fields::{self, AuditField, Kind},
    hit::{Hit, Texts},
    limits::Bounds,
    text::Text,
    texts::Writer,
};
use crate::{
    audit::marked::Marker,
    rules::{
        Scratch,
        matches::Match,
        model::{Detection, GroupBy},
    },
};

impl Event<'_> {
    /// Shows a hit, within these bounds, for each match of the event.
    pub fn hits(
        &self,
        detection: &Detection,
        scratch: &mut Scratch,
        bounds: &Bounds,
        show: &mut dyn FnMut(Hit),
    ) {
        let mut matches = Vec::new();
        detection.matches(self, scratch, bounds.value_bytes, &mut |found| {
            matches.push(found);
        });
        if matches.is_empty() {
            return;
        }
        let labels = detection.labels_of(self, scratch);
        for found in matches {
            let mut hit = self.hit(detection, found, bounds);
            hit.labels = labels;
            show(hit);
        }
    }

    /// The hit that a match makes of the event, with as much of it as these bounds allow.
    fn hit(&self, detection: &Detection, found: Match, bounds: &Bounds) -> Hit {
        let sources = sources(self.sources().unwrap_or_default(), bounds);
        let (sources, claims) = match detection.group_by {
            GroupBy::Fields(_) => {
                let own = found.own.unwrap_or_else(|| detection.address(self));
                (Vec::new(), claims(sources, own))
            }
            // Every element is a source of its own, so none is a mere claim.
            GroupBy::Sources { .. } => {
                let mut kept = Vec::with_capacity(sources.len());
                kept.extend(sources.iter().map(|text| text.cut(bounds.value_bytes)));
                (kept, Claims::default())
            }
        };
        let code = self.field(AuditField::Code).value();
        let (time, is_time_coarse) = self.read_time().unzip();
        Hit {
            detection: 0,
            time,
            clamped: false,
            // The screen names it at the end of the resource.
            cluster: Arc::default(),
            key: found.key,
            sources,
            code: code.and_then(number).unwrap_or_default(),
            texts: texts(self, &claims, bounds),
            identity: found.identity,
            is_time_coarse: is_time_coarse.unwrap_or_default(),
            ..Hit::default()
        }
    }
}

/// A status code as a whole number, however it is spelled.
fn number(code: Text<'_>) -> Option<u16> {
    let code = code.short()?;
    // As nearly all are spelled.
    if let Ok(code) = code.parse() {
        return Some(code).filter(|code| *code <= 999);
    }
    let number = crate::rules::number(&code)?;
    (0..=999).find(|code| f64::from(*code).total_cmp(&number).is_eq())
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
fn sources<'a>(list: List<'a>, bounds: &Bounds) -> Vec<Text<'a>> {
    let mut texts = Last::new(bounds.source_ips);
    list.for_each(|source| {
        if let Some(text) = source.value() {
            texts.push(text);
        }
    });
    texts.into_vec()
}

/// What `sourceIPs` says besides the address an event counts for.
#[derive(Default)]
pub(super) struct Claims<'a> {
    /// The sources that are mere claims.
    addresses: Vec<Text<'a>>,
    /// The peer that handed the address over, if it is not the peer itself.
    peer: Option<String>,
}

/// Those of the sources that are not what the event counts for.
fn claims(mut sources: Vec<Text<'_>>, own: Trusted) -> Claims<'_> {
    let is_own = |source: Text<'_>| source.short().is_some_and(|source| own.is(&source));
    let last = sources.last().copied();
    sources.retain(|source| !is_own(*source));
    // It is among the others if it is not its own.
    let peer = sources
        .last()
        .copied()
        .filter(|_| own != Trusted::Unknown && last.is_some_and(|last| !is_own(last)));
    let peer = peer.and_then(|peer| address::parse(&peer.short()?));
    Claims {
        addresses: sources,
        peer: peer.map(|peer| peer.to_string()),
    }
}

/// The texts of an event, as many and as much of each as is kept of it.
pub(super) fn texts(event: &Event<'_>, claims: &Claims<'_>, bounds: &Bounds) -> Texts {
    let mut writer = Writer::default();
    for row in &fields::TABLE {
        match row.kind {
            Kind::Single => {
                let value = event.field(row.field).value().into_iter();
                writer.single(value, |text, out| {
                    text.marked(bounds.value_bytes, |piece| out.text(piece));
                });
            }
            Kind::List | Kind::Map => {
                several(&mut writer, bounds, |show| {
                    event.for_each_value(row, show);
                });
            }
            Kind::Claimed => {
                several(&mut writer, bounds, |show| {
                    for text in claims.addresses.iter().copied() {
                        show(Value { key: None, text });
                    }
                });
            }
            Kind::Peer => writer.several(|writer| {
                if let Some(peer) = &claims.peer {
                    writer.value(|out| out.text(peer));
                }
                usize::from(claims.peer.is_some())
            }),
        }
    }
    writer.finish()
}

/// Writes the values of a field, in order. Of more distinct ones than are kept the first in order
/// of bytes, as evidence keeps them, and one more, so that it shows that there are more.
fn several<'a>(writer: &mut Writer, bounds: &Bounds, each: impl Fn(&mut dyn FnMut(Value<'a>))) {
    let most = bounds.values.saturating_add(1);
    let mut count = 0_usize;
    each(&mut |_| count += 1);
    writer.several(|writer| {
        if count <= most {
            each(&mut |value| writer.value(|out| pieces(value, bounds, |piece| out.text(piece))));
            return count;
        }
        let least = least(bounds, most, each);
        for text in &least {
            writer.value(|out| out.text(text));
        }
        least.len()
    });
}

/// Shows a value, marked as one text if it is cut.
fn pieces(value: Value<'_>, bounds: &Bounds, show: impl FnMut(&str)) {
    let Some(key) = value.key else {
        value.text.marked(bounds.value_bytes, show);
        return;
    };
    let longest = key.longest().saturating_add(value.text.longest());
    let mut marker = Marker::new(bounds.value_bytes, longest.saturating_add(1), show);
    marker.text(key);
    marker.piece("=");
    marker.text(value.text);
    marker.finish();
}

/// The least distinct values, whatever their number.
fn least<'a>(
    bounds: &Bounds,
    most: usize,
    each: impl Fn(&mut dyn FnMut(Value<'a>)),
) -> Vec<String> {
    let reduce = |kept: &mut Vec<String>| {
        kept.sort_unstable();
        kept.dedup();
        kept.truncate(most);
    };
    let mut kept: Vec<String> = Vec::new();
    let mut is_reduced = false;
    each(&mut |value| {
        let mut text = String::new();
        pieces(value, bounds, |piece| text.push_str(piece));
        // In order: what is behind the last that is kept will not be.
        if is_reduced && kept.len() >= most && kept.get(most - 1).is_some_and(|last| text >= *last)
        {
            return;
        }
        kept.push(text);
        if kept.len() >= most.saturating_mul(2) {
            reduce(&mut kept);
            is_reduced = true;
        }
    });
    if kept.len() > most {
        reduce(&mut kept);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::{super::json, *};
    use crate::audit::marked::marked;
    use crate::detection::rule::{Rule, Semantics};

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
        let escu = Rule {
            semantics: Semantics::Escu,
            ..Rule::default()
        };
        assert_eq!(
            judge(&event, &escu, &Bounds::NONE).unwrap().sources.len(),
            201
        );
        let groups: Vec<_> = whole.texts.all(AuditField::Groups).collect();
        let claimed: Vec<_> = whole.texts.all(AuditField::ClaimedIps).collect();
        assert_eq!((claimed.len(), groups.len()), (201, 302));
        for (value_bytes, source_ips, most) in [(1024, 64, 100), (1, 1, 1), (5, 500, 500)] {
            let bounds = Bounds {
                value_bytes,
                source_ips,
                values: most,
            };
            let hit = judge(&event, &rule, &bounds).unwrap();
            let mut wanted = whole.clone();
            let last = claimed.len().saturating_sub(source_ips);
            for (field, all) in [
                (AuditField::Groups, &groups[..]),
                (AuditField::ClaimedIps, &claimed[last..]),
            ] {
                let mut all = all.to_vec();
                let cut: Vec<_> = all.iter().map(|text| marked(text, value_bytes)).collect();
                if all.len() > most + 1 {
                    all = cut.iter().map(|text| &**text).collect();
                    all.sort_unstable();
                    all.dedup();
                    all.truncate(most + 1);
                }
                wanted.texts.set(field, &all);
            }
            wanted.cut(value_bytes);
            assert_eq!(hit, wanted, "{bounds:?}");
            assert!(hit.heap_bytes() <= wanted.heap_bytes() + 64, "{bounds:?}");
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
        let groups = with.unwrap().texts.all(AuditField::Groups).count();
        assert_eq!(groups, 10_002);
        assert_eq!(hit(&event(&format!("{many}\"h\""))), None);
    }
}
