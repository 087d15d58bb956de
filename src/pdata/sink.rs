//! What takes a message in pieces.

use super::wire::Malformed;

/// Where the bytes of a message go as they come.
pub trait Sink {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the message is malformed. It is then over: to feed it on is pointless.
    fn feed(&mut self, piece: &[u8]) -> Result<(), Malformed>;

    /// Bytes on the heap that it holds by now.
    fn heap_bytes(&self) -> usize;

    /// Whether this number of further bytes may make it work for milliseconds.
    fn may_take_long(&self, _further: usize) -> bool {
        false
    }
}
