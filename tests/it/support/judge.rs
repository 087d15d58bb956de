//! Which events count for the detection of scans, written by hand: what its rule files have to say.

use std::{cell::RefCell, sync::Arc};

use auditwatch::{
    detection::{
        event::{Event, is_code},
        fields::AuditField,
        hit::Hit,
        limits::Bounds,
        rule::{Rule, Semantics, Who},
    },
    rules::{Scratch, model::Detection},
};

thread_local! {
    static DETECTION: RefCell<Option<(Rule, Arc<Detection>)>> = const { RefCell::new(None) };
}

/// The rule files with these settings; the last are kept.
fn detection(rule: &Rule) -> Arc<Detection> {
    DETECTION.with_borrow_mut(|kept| match kept {
        Some((of, detection)) if of == rule => Arc::clone(detection),
        _ => {
            let detection = Arc::new(Detection::of(rule));
            *kept = Some((rule.clone(), Arc::clone(&detection)));
            detection
        }
    })
}

/// The hit of an event that counts, with all of it.
pub(crate) fn judge(event: &Event<'_>, rule: &Rule) -> Option<Hit> {
    let mut hits = Vec::new();
    let mut scratch = Scratch::default();
    event.hits(&detection(rule), &mut scratch, &Bounds::NONE, &mut |hit| {
        hits.push(hit);
    });
    let counts = counts(event, rule);
    assert_eq!(hits.len(), usize::from(counts), "{rule:?}\n{event:?}");
    hits.pop()
}

fn counts(event: &Event<'_>, rule: &Rule) -> bool {
    let code = event.field(AuditField::Code).text();
    let is_wanted = |code: &str| {
        rule.wanted_codes()
            .iter()
            .any(|wanted| is_code(code, *wanted))
    };
    if !code.is_some_and(|code| code.len() <= 1024 && is_wanted(&code)) {
        return false;
    }
    let mut groups = Vec::new();
    let list = event.field(AuditField::Groups).list().unwrap_or_default();
    list.for_each(|group| groups.extend(group.text()));
    if groups
        .iter()
        .any(|group| group.eq_ignore_ascii_case("system:unauthenticated"))
    {
        return true;
    }
    if rule.semantics == Semantics::Escu || rule.who == Who::Group {
        return false;
    }
    let name = event.field(AuditField::Username).text();
    let name = name.unwrap_or_default();
    name == "system:anonymous" || (name.is_empty() && groups.is_empty())
}
