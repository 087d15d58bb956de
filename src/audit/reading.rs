//! An audit event from its members, which come one by one, whatever they are written in.
//!
//! JSON text and parsed maps differ in how members are found and what a value is; [`Member`] is
//! that difference. The members that an event keeps are declared here, once, by the table of
//! [`fields`]. The last of equal members wins.

use super::{
    event::{Composite, Event, Field},
    fields::{self, AuditField, audit_fields},
};

/// The value of a member.
pub(super) trait Member<'a>: Copy {
    /// The value, where it lies.
    fn value(self) -> Composite<'a>;

    /// The value as a field.
    fn field(self) -> Field<'a> {
        self.value().field()
    }

    /// Visits the members of an object; returns false for any other value.
    fn members(self, show: impl FnMut(&[u8], Self)) -> bool;
}

/// Fields of the table, a bit each.
type Fields = u32;

const _: () = assert!(fields::COUNT <= Fields::BITS as usize);

macro_rules! lookups {
    ($($(#[$meaning:meta])* $name:ident: $path:literal $kind:ident, $($what:ident $of:tt),*;)*) => {
        /// The member inside an object that the path of each field names, in the order of the
        /// table.
        static INNER: [Option<&[u8]>; fields::COUNT] = [$(fields::members($path).1),*];

        /// The fields that are this member of an event, or are in the object that it is.
        #[inline]
        fn at_member(key: &[u8]) -> Fields {
            let mut found = 0;
            $({
                const OUTER: &[u8] = fields::members($path).0;
                found |= Fields::from(key == OUTER) << AuditField::$name.index();
            })*
            found
        }
    };
}
audit_fields!(lookups);

/// An event in the making.
pub(super) struct Reading<'a, 't> {
    time_field: &'t [u8],
    event: Event<'a>,
}

impl<'a, 't> Reading<'a, 't> {
    pub(super) fn new(time_field: &'t str) -> Self {
        Self {
            time_field: time_field.as_bytes(),
            event: Event::default(),
        }
    }

    pub(super) fn event(self) -> Event<'a> {
        self.event
    }

    /// Takes what the event itself is.
    pub(super) fn whole(&mut self, value: Composite<'a>) {
        self.event.parts.whole = Some(value);
    }

    /// Takes a member of the event.
    pub(super) fn member(&mut self, key: &[u8], value: impl Member<'a>) {
        if key == self.time_field {
            self.event.time = value.field();
        }
        if key == b"requestReceivedTimestamp" {
            self.event.received = value.field();
        }
        self.event.parts.member(key, || value.value());
        let found = at_member(key);
        if found == 0 {
            return;
        }
        let mut inner = 0;
        for (at, (field, name)) in self.event.values.iter_mut().zip(&INNER).enumerate() {
            let bit = 1 << at;
            if found & bit == 0 {
                continue;
            }
            if name.is_none() {
                *field = value.field();
            } else {
                inner |= bit;
                *field = Field::Absent;
            }
        }
        if inner != 0 {
            self.object(key, inner, value);
        }
    }

    /// Takes a member that is an object with these fields.
    fn object(&mut self, key: &[u8], inner: Fields, value: impl Member<'a>) {
        let is_object = value.members(|key, value| {
            for (at, (field, name)) in self.event.values.iter_mut().zip(&INNER).enumerate() {
                if inner & (1 << at) != 0 && *name == Some(key) {
                    *field = value.field();
                }
            }
        });
        match key {
            b"user" => self.event.has_user = is_object,
            b"responseStatus" => self.event.has_status = is_object,
            _ => {}
        }
    }
}
