//! An event under a key of an object, as text or as an object: `{"log": "{...}"}`.

use super::{
    node::Node,
    outcome::Reason,
    shape::{Opening, Within},
    survey::Survey,
};

/// Opens the first member that holds an event.
pub(super) fn open(opener: &mut dyn Opening, survey: &Survey<'_>, within: Within<'_>) {
    let within = within.deeper().at(survey.time.and_then(Node::time));
    let before = *opener.outcome();
    for value in survey.carriers.iter().flatten() {
        if !(value.is_text() || value.is_object() || value.is_list()) {
            continue;
        }
        // Of several only one counts, also as ignored.
        *opener.outcome() = before;
        opener.node(*value, within);
        if opener.outcome().events > before.events {
            return;
        }
    }
    if *opener.outcome() == before {
        opener.outcome().ignore(Reason::NoEvent);
    }
}
