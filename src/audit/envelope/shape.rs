//! What the shapes of envelopes need of who opens them.

use super::{node::Node, outcome::Outcome};

/// Where an event is looked for: what the layers around it say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Within<'c> {
    pub(super) layer: u8,
    /// The time that an envelope names, in nanoseconds since 1970.
    pub(super) time: Option<u64>,
    /// The cluster that an envelope names.
    pub(super) cluster: Option<&'c str>,
}

impl Within<'_> {
    /// A layer further in.
    pub(super) fn deeper(self) -> Self {
        Self {
            layer: self.layer + 1,
            ..self
        }
    }

    /// The same with this time, if it is known.
    pub(super) fn at(self, time: Option<u64>) -> Self {
        Self {
            time: time.or(self.time),
            ..self
        }
    }
}

/// Takes what a shape has found inside an envelope.
pub(super) trait Opening {
    /// A value that may be an event or another envelope.
    fn node(&mut self, node: Node<'_>, within: Within<'_>);

    /// Bytes that an event may have that is written anew from another schema.
    fn left(&self) -> usize;

    /// Such an event; `None` when it would have had more.
    fn written(&mut self, event: Option<Vec<u8>>, within: Within<'_>);

    /// What became of the record so far.
    fn outcome(&mut self) -> &mut Outcome;
}
