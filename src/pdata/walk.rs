//! The resumable walk over an `ExportLogsServiceRequest`.

use super::{
    buffer,
    record::Record,
    wire::{
        self, Kind, MAX_DEPTH, Malformed, REQUEST, RESOURCE_LOGS, SCOPE_LOGS, Schema, WireType,
    },
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
            Self::Request => &REQUEST,
            Self::ResourceLogs => &RESOURCE_LOGS,
            Self::ScopeLogs => &SCOPE_LOGS,
        }
    }
}

/// Outcome of one step at the start of the bytes at hand.
enum Step {
    /// So many bytes are done with.
    Done(usize),
    /// At least so many bytes are needed, from the start of the step.
    Need(usize),
    /// So many bytes are done with, and as many as the second number are to be passed over.
    Skip(usize, u64),
}

/// What is set aside for a record that straddles two pieces, before its bytes are there.
const CARRY: usize = 16 * 1024;
/// A buffer that a record made longer than this is not kept for the next.
const LARGE: usize = 256 * 1024;

/// A walk over one request: [`Walk::feed`] its bytes, then [`Walk::finish`].
///
/// Memory is bounded by the longest record (or resource) of the request, not by the request.
#[derive(Debug)]
pub struct Walk {
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

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}

impl Walk {
    /// A walk at the start of a request.
    pub fn new() -> Self {
        let mut levels = Vec::with_capacity(4);
        levels.push(Level {
            kind: LevelKind::Message(Place::Request),
            end: u64::MAX,
            budget: MAX_DEPTH,
        });
        Self {
            position: 0,
            levels,
            carry: Vec::new(),
            want: 0,
            skip: 0,
        }
    }

    /// Takes the next bytes of the request.
    ///
    /// # Errors
    /// When the request is malformed. The walk is then over: feeding it on is pointless.
    pub fn feed(&mut self, mut piece: &[u8], visitor: &mut impl Visitor) -> Result<(), Malformed> {
        loop {
            self.leave(visitor);
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
                match self.step(piece, visitor)? {
                    Step::Need(want) => {
                        self.want = want;
                        // At once, but never on the word of a length alone.
                        self.carry.reserve(want.min(CARRY).max(piece.len()));
                        self.carry.extend_from_slice(piece);
                        return Ok(());
                    }
                    Step::Done(length) => {
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
            self.step_carried(visitor)?;
        }
    }

    /// Keeps more of an item that is not whole yet. The buffer never reaches beyond the item.
    fn carry_on(&mut self, more: &[u8]) {
        buffer::make_room(&mut self.carry, more.len(), self.want);
        self.carry.extend_from_slice(more);
    }

    /// Bytes of memory it holds.
    pub fn held(&self) -> usize {
        buffer::taken(&self.carry)
    }

    /// Whether so many further bytes may complete an item of more than `long` bytes.
    pub fn may_end_item(&self, further: usize, long: usize) -> bool {
        self.want > long && self.carry.len().saturating_add(further) >= self.want
    }

    /// The request has ended.
    ///
    /// # Errors
    /// When it ended too early.
    pub fn finish(mut self, visitor: &mut impl Visitor) -> Result<(), Malformed> {
        self.leave(visitor);
        if self.skip > 0 || !self.carry.is_empty() || self.levels.len() > 1 {
            return Err(Malformed::Truncated);
        }
        Ok(())
    }

    /// Leaves the messages that end here.
    fn leave(&mut self, visitor: &mut impl Visitor) {
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
                visitor.resource_end();
            }
            self.levels.pop();
        }
    }

    fn step_carried(&mut self, visitor: &mut impl Visitor) -> Result<(), Malformed> {
        let mut carry = std::mem::take(&mut self.carry);
        match self.step(&carry, visitor)? {
            Step::Need(want) => {
                self.want = want;
                self.carry = carry;
                return Ok(());
            }
            // The step was tried again with each byte it asked for, so nothing is left over ...
            Step::Done(length) => self.position += length as u64,
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

    /// Reads one field at the start of `bytes`, or enters it.
    fn step(&mut self, bytes: &[u8], visitor: &mut impl Visitor) -> Result<Step, Malformed> {
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
            return Ok(Step::Done(header));
        }
        let known = match level.kind {
            LevelKind::Message(place) => place.schema().kind(tag),
            LevelKind::Group(_) => None,
        };
        if known.is_none() && level.budget == 0 {
            return Err(Malformed::TooDeep);
        }
        if known.is_some() && wire_type != WireType::Bytes {
            // Every known field of these three messages is a message or a text.
            return Err(Malformed::WireType(tag));
        }
        let length = match wire_type {
            WireType::StartGroup => {
                let budget = level.budget.checked_sub(1).ok_or(Malformed::TooDeep)?;
                self.levels.push(Level {
                    kind: LevelKind::Group(tag),
                    end: level.end,
                    budget,
                });
                self.check_end(header as u64, level)?;
                return Ok(Step::Done(header));
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
        match (level.kind, known) {
            (LevelKind::Message(place), Some(Kind::Message(schema))) => self.message(
                &Item {
                    place,
                    tag,
                    schema,
                    header,
                    total,
                },
                bytes,
                level,
                visitor,
            ),
            _ => Ok(Step::Skip(header, length)),
        }
    }

    /// Enters a message that holds others, or reads one whole.
    fn message(
        &mut self,
        item: &Item,
        bytes: &[u8],
        level: Level,
        visitor: &mut impl Visitor,
    ) -> Result<Step, Malformed> {
        let budget = level.budget - 1;
        let inner = match (item.place, item.tag) {
            (Place::Request, 1) => Some(Place::ResourceLogs),
            (Place::ResourceLogs, 2) => Some(Place::ScopeLogs),
            _ => None,
        };
        if let Some(place) = inner {
            let end = self.position + item.total;
            self.levels.push(Level {
                kind: LevelKind::Message(place),
                end,
                budget,
            });
            return Ok(Step::Done(item.header));
        }
        let total = usize::try_from(item.total).map_err(|_| Malformed::Length)?;
        let Some(encoded) = bytes.get(item.header..total) else {
            return Ok(Step::Need(total));
        };
        match (item.place, item.tag) {
            (Place::ScopeLogs, 2) => visitor.record(&Record::read(encoded, budget)?),
            (Place::ResourceLogs, 1) => {
                item.schema.check(encoded, budget)?;
                visitor.resource(encoded);
            }
            _ => item.schema.check(encoded, budget)?,
        }
        Ok(Step::Done(total))
    }

    /// Refuses what reaches beyond the message around it.
    fn check_end(&self, length: u64, level: Level) -> Result<(), Malformed> {
        match self.position.checked_add(length) {
            Some(end) if end <= level.end => Ok(()),
            _ => Err(Malformed::Length),
        }
    }

    /// More bytes are needed, if the message around has them.
    fn need(&self, want: usize, level: Level) -> Result<Step, Malformed> {
        self.check_end(want as u64, level)?;
        Ok(Step::Need(want))
    }
}

/// A message field that has been found.
struct Item {
    place: Place,
    tag: u32,
    schema: &'static Schema,
    header: usize,
    total: u64,
}
