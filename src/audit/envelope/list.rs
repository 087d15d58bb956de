//! `EventList`: what the audit webhook posts. Its items need not name their kind.

use super::{
    node::Node,
    shape::{Opening, Within},
};

pub(super) fn open(opener: &mut dyn Opening, items: Node<'_>, within: Within<'_>) {
    items.elements(|item| opener.node(item, within.deeper()));
}
