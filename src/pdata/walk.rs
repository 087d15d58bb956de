//! The resumable walk over an `ExportLogsServiceRequest`.

use super::{
    buffer,
    record::Record,
    schema::{self, Schema},
    sink::Sink,
    wire::{self, MAX_DEPTH, Malformed, WireType},
};

/// What the walk shows, in the order of the wire.
pub trait Visitor {
    /// A `Resource`, encoded. It may come behind its records, and in several parts, which then
    /// count as one concatenated message, as protobuf merges them.
    fn resource(&mut self, encoded: &[u8]);
    /// One log record.
    fn record(&mut self, record: &Record<'_>);
    /// The records since the last end belong to the resource seen since then.
    fn resource_end(&mut self);
    /// Bytes on the heap that it holds by now.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// A message or group that has been entered and not yet left.
#[derive(Clone, Copy, Debug)]
struct Level {
    kind: LevelKind,
    /// Position just behind it; a group ends where its end says, but within its message.
    end: u64,
    /// Levels that may still be opened below it.
    budget: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LevelKind {
    Message(Place),
    Group(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Request,
    ResourceLogs,
    ScopeLogs,
}

impl Place {
    fn schema(self) -> &'static Schema {
        match self {
            Self::Request => &schema::REQUEST_MESSAGE,
            Self::ResourceLogs => &schema::RESOURCE_LOGS_MESSAGE,
            Self::ScopeLogs => &schema::SCOPE_LOGS_MESSAGE,
        }
    }

    /// The place inside a field, if it is entered instead of visited whole.
    fn inner(self, number: u32) -> Option<Self> {
        match (self, number) {
            (Self::Request, schema::RESOURCE_LOGS) => Some(Self::ResourceLogs),
            (Self::ResourceLogs, schema::SCOPE_LOGS) => Some(Self::ScopeLogs),
            _ => None,
        }
    }
}

/// What is at the start of the bytes at hand.
enum Step<'a> {
    /// A message that is visited or checked whole.
    Whole(Item<'a>),
    /// The start or the end of a message that holds others, of this length: it has been entered or left.
    Passed(usize),
    /// Something of which at least this number of bytes is needed.
    Need(usize),
    /// A field that is passed over: the length of its header, and of what follows it.
    Skip(usize, u64),
}

/// A message that lies whole in the bytes at hand.
struct Item<'a> {
    place: Place,
    number: u32,
    schema: &'static Schema,
    encoded: &'a [u8],
    /// Levels that may still be opened inside it.
    budget: u32,
    /// Its length with its header.
    length: usize,
}

/// What is set aside for a record that straddles two pieces, before its bytes are there.
const CARRY: usize = 16 * 1024;
/// A buffer that a record made longer than this is not kept for the next.
const LARGE: usize = 256 * 1024;

/// A record of more bytes may take milliseconds to read.
const LONG_RECORD: usize = 256 * 1024;

/// A visitor on its walk over one request: [`Sink::feed`] its bytes, then [`Walk::finish`].
///
/// Memory is bounded by the longest record (or resource) of the request, not by the request, and by
/// what the visitor keeps.
#[derive(Debug)]
pub struct Walk<V> {
    visitor: V,
    /// Position of the next step in the request.
    position: u64,
    /// Innermost level last; the request itself is at the bottom and never left.
    levels: Vec<Level>,
    /// The start of an item whose end has not come yet.
    carry: Vec<u8>,
    /// Bytes the item in `carry` needs at least.
    want: usize,
    /// Bytes to pass over before the next step.
    skip: u64,
}

impl<V: Visitor> Sink for Walk<V> {
    fn feed(&mut self, mut piece: &[u8]) -> Result<(), Malformed> {
        loop {
            self.leave();
            if self.skip > 0 {
                let length = usize::try_from(self.skip)
                    .unwrap_or(usize::MAX)
                    .min(piece.len());
                piece = piece.get(length..).unwrap_or_default();
                self.skip -= length as u64;
                self.position += length as u64;
                if self.skip > 0 {
                    return Ok(());
                }
                continue;
            }
            if self.carry.is_empty() {
                if piece.is_empty() {
                    return Ok(());
                }
                match self.step(piece)? {
                    Step::Need(want) => {
                        self.want = want;
                        // At once, but never on the word of a length alone.
                        self.carry.reserve(want.min(CARRY).max(piece.len()));
                        self.carry.extend_from_slice(piece);
                        return Ok(());
                    }
                    Step::Whole(item) => {
                        self.visit(&item)?;
                        self.position += item.length as u64;
                        piece = piece.get(item.length..).unwrap_or_default();
                    }
                    Step::Passed(length) => {
                        self.position += length as u64;
                        piece = piece.get(length..).unwrap_or_default();
                    }
                    Step::Skip(length, skip) => {
                        self.position += length as u64;
                        self.skip = skip;
                        piece = piece.get(length..).unwrap_or_default();
                    }
                }
                continue;
            }
            let missing = self.want.saturating_sub(self.carry.len()).min(piece.len());
            let (head, rest) = piece.split_at_checked(missing).unwrap_or((piece, &[]));
            self.carry_on(head);
            piece = rest;
            if self.carry.len() < self.want {
                return Ok(());
            }
            self.step_carried()?;
        }
    }

    /// A record that is not whole yet, and what the visitor holds.
    fn heap_bytes(&self) -> usize {
        buffer::heap_bytes(&self.carry) + self.visitor.heap_bytes()
    }

    /// They may complete a long record.
    fn may_take_long(&self, further: usize) -> bool {
        self.want > LONG_RECORD && self.carry.len().saturating_add(further) >= self.want
    }
}

impl<V: Visitor> Walk<V> {
    /// A visitor at the start of a request.
    pub fn new(visitor: V) -> Self {
        let mut levels = Vec::with_capacity(4);
        levels.push(Level {
            kind: LevelKind::Message(Place::Request),
            end: u64::MAX,
            budget: MAX_DEPTH,
        });
        Self {
            visitor,
            position: 0,
            levels,
            carry: Vec::new(),
            want: 0,
            skip: 0,
        }
    }

    /// Keeps more of an item that is not whole yet. The buffer never reaches beyond the item.
    fn carry_on(&mut self, more: &[u8]) {
        buffer::make_room(&mut self.carry, more.len(), self.want);
        self.carry.extend_from_slice(more);
    }

    /// The request has ended. The visitor, which has seen all of it.
    ///
    /// # Errors
    /// When it ended too early.
    pub fn finish(mut self) -> Result<V, Malformed> {
        self.leave();
        if self.skip > 0 || !self.carry.is_empty() || self.levels.len() > 1 {
            return Err(Malformed::Truncated);
        }
        Ok(self.visitor)
    }

    /// Leaves the messages that end here.
    fn leave(&mut self) {
        while let Some(Level {
            kind: LevelKind::Message(place),
            end,
            ..
        }) = self.levels.last()
        {
            if *end != self.position || *place == Place::Request {
                return;
            }
            if *place == Place::ResourceLogs {
                self.visitor.resource_end();
            }
            self.levels.pop();
        }
    }

    fn step_carried(&mut self) -> Result<(), Malformed> {
        let mut carry = std::mem::take(&mut self.carry);
        match self.step(&carry)? {
            Step::Need(want) => {
                self.want = want;
                self.carry = carry;
                return Ok(());
            }
            // The step was tried again with each byte it asked for, so nothing is left over ...
            Step::Whole(item) => {
                self.visit(&item)?;
                self.position += item.length as u64;
            }
            Step::Passed(length) => self.position += length as u64,
            // ... but of what is to be passed over some may be here already.
            Step::Skip(length, skip) => {
                let here = (carry.len() - length.min(carry.len())) as u64;
                self.position += length as u64 + here;
                self.skip = skip.saturating_sub(here);
            }
        }
        carry.clear();
        self.want = 0;
        if carry.capacity() <= LARGE {
            self.carry = carry;
        }
        Ok(())
    }

    /// Shows a message to the visitor.
    #[inline]
    fn visit(&mut self, item: &Item<'_>) -> Result<(), Malformed> {
        let Item {
            place,
            number,
            schema,
            encoded,
            budget,
            ..
        } = *item;
        match (place, number) {
            (Place::ScopeLogs, schema::LOG_RECORDS) => {
                self.visitor.record(&Record::read(encoded, budget)?);
            }
            (Place::ResourceLogs, schema::RESOURCE) => {
                wire::check(schema, encoded, budget)?;
                self.visitor.resource(encoded);
            }
            _ => wire::check(schema, encoded, budget)?,
        }
        Ok(())
    }

    /// Finds the field at the start of `bytes`, or enters it.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Malformed> {
        let Some(&level) = self.levels.last() else {
            return Err(Malformed::Truncated);
        };
        let Some(((tag, wire_type), mut header)) = wire::key(bytes)? else {
            return self.need(bytes.len() + 1, level);
        };
        if wire_type == WireType::EndGroup {
            if level.kind != LevelKind::Group(tag) {
                return Err(Malformed::EndGroup);
            }
            self.levels.pop();
            return Ok(Step::Passed(header));
        }
        let schema = match level.kind {
            LevelKind::Message(place) => Some(place.schema()),
            LevelKind::Group(_) => None,
        };
        let known = schema.and_then(|schema| schema.wire(tag));
        if known.is_none() && level.budget == 0 {
            return Err(Malformed::TooDeep);
        }
        if known.is_some() && wire_type != WireType::Bytes {
            // Every known field of these three messages is a message or a text.
            return Err(Malformed::WireType(tag));
        }
        let length = match wire_type {
            WireType::StartGroup => {
                self.enter_group(tag, level)?;
                self.check_end(header as u64, level)?;
                return Ok(Step::Passed(header));
            }
            WireType::Varint => {
                let rest = bytes.get(header..).unwrap_or_default();
                let Some((_, length)) = wire::varint(rest)? else {
                    return self.need(bytes.len() + 1, level);
                };
                length as u64
            }
            WireType::Fixed64 => 8,
            WireType::Fixed32 => 4,
            WireType::Bytes | WireType::EndGroup => {
                let rest = bytes.get(header..).unwrap_or_default();
                let Some((length, size)) = wire::varint(rest)? else {
                    return self.need(bytes.len() + 1, level);
                };
                header += size;
                length
            }
        };
        let total = (header as u64)
            .checked_add(length)
            .ok_or(Malformed::Length)?;
        self.check_end(total, level)?;
        let inner = schema.and_then(|schema| schema.inner(tag));
        let (LevelKind::Message(place), Some(schema)) = (level.kind, inner) else {
            return Ok(Step::Skip(header, length));
        };
        let budget = level.budget - 1;
        if let Some(inner) = place.inner(tag) {
            self.levels.push(Level {
                kind: LevelKind::Message(inner),
                end: self.position + total,
                budget,
            });
            return Ok(Step::Passed(header));
        }
        let length = usize::try_from(total).map_err(|_| Malformed::Length)?;
        let Some(encoded) = bytes.get(header..length) else {
            return Ok(Step::Need(length));
        };
        Ok(Step::Whole(Item {
            place,
            number: tag,
            schema,
            encoded,
            budget,
            length,
        }))
    }

    fn enter_group(&mut self, number: u32, around: Level) -> Result<(), Malformed> {
        let budget = around.budget.checked_sub(1).ok_or(Malformed::TooDeep)?;
        self.levels.push(Level {
            kind: LevelKind::Group(number),
            end: around.end,
            budget,
        });
        Ok(())
    }

    /// Refuses what reaches beyond the message around it.
    fn check_end(&self, length: u64, level: Level) -> Result<(), Malformed> {
        match self.position.checked_add(length) {
            Some(end) if end <= level.end => Ok(()),
            _ => Err(Malformed::Length),
        }
    }

    /// More bytes are needed, if the message around has them.
    fn need<'a>(&self, want: usize, level: Level) -> Result<Step<'a>, Malformed> {
        self.check_end(want as u64, level)?;
        Ok(Step::Need(want))
    }
}
