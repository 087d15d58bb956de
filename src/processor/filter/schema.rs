//! What a filter may ask of a finding: the fields of `finding.proto` with their types.
//!
//! The schema itself is read, so a new field needs no line here. Its grammar is that of our file
//! alone; a test compares the result with the one of a real compiler.

use std::{collections::BTreeMap, sync::LazyLock};

use cel::{
    Value,
    objects::{Key, Map},
};
use serde_json::Value as Json;
use std::sync::Arc;

/// The messages of `finding.proto`.
pub(super) static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| Schema::read(include_str!("../../../proto/auditwatch/v1/finding.proto")));

/// The message that a filter is asked about.
pub(super) const FINDING: &str = "Finding";

/// Messages by name.
#[derive(Debug, Default)]
pub(super) struct Schema(BTreeMap<&'static str, BTreeMap<&'static str, Shape>>);

/// The type of a value, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Number,
    Truth,
    Null,
    /// A value that may be null.
    Optional(Box<Shape>),
    List(Box<Shape>),
    /// By texts.
    Map(Box<Shape>),
    /// A message of the schema.
    Message(&'static str),
    Any,
}

impl Shape {
    /// What it is called in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "a number",
            Self::Truth => "true or false",
            Self::Null => "null",
            Self::Optional(of) => of.name(),
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Message(_) => "an object",
            Self::Any => "a value",
        }
    }

    /// The type without null.
    pub(super) fn filled(&self) -> &Self {
        match self {
            Self::Optional(of) => of,
            other => other,
        }
    }

    /// Whether values of both can be equal.
    pub(super) fn may_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _)
            | (_, Self::Any)
            | (Self::Optional(_), Self::Null)
            | (Self::Null, Self::Optional(_)) => true,
            (Self::Optional(of), other) | (other, Self::Optional(of)) => of.may_equal(other),
            (Self::List(a), Self::List(b)) | (Self::Map(a), Self::Map(b)) => a.may_equal(b),
            _ => self == other,
        }
    }

    fn named(name: &'static str) -> Self {
        match name {
            // A time is its RFC 3339 text in JSON; times in UTC compare as texts.
            "string" | "google.protobuf.Timestamp" => Self::Text,
            "uint32" | "uint64" | "double" => Self::Number,
            "bool" => Self::Truth,
            message => Self::Message(message),
        }
    }

    /// What a field without a value is.
    fn default(&self, schema: &Schema) -> Value {
        match self {
            Self::Text => Value::String(Arc::default()),
            Self::Number => Value::Int(0),
            Self::Truth => Value::Bool(false),
            Self::List(_) => Value::List(Arc::default()),
            Self::Map(_) => object(std::iter::empty()),
            Self::Message(name) => schema.message(name, &serde_json::Map::new()),
            Self::Null | Self::Optional(_) | Self::Any => Value::Null,
        }
    }

    /// The value of a field as CEL has it.
    fn value(&self, json: &Json, schema: &Schema) -> Value {
        match (self, json) {
            (Self::Message(name), Json::Object(fields)) => schema.message(name, fields),
            (Self::List(of), Json::Array(items)) => Value::List(Arc::new(
                items.iter().map(|item| of.value(item, schema)).collect(),
            )),
            (Self::Map(of), Json::Object(members)) => object(
                members
                    .iter()
                    .map(|(key, member)| (key.as_str(), of.value(member, schema))),
            ),
            (Self::Optional(of), json) => of.value(json, schema),
            (_, Json::String(text)) => Value::String(Arc::new(text.clone())),
            (_, Json::Bool(truth)) => Value::Bool(*truth),
            (_, Json::Number(number)) => match (number.as_u64(), number.as_f64()) {
                (Some(whole), _) => Value::Int(i64::try_from(whole).unwrap_or(i64::MAX)),
                (None, Some(number)) => Value::Float(number),
                (None, None) => Value::Null,
            },
            (shape, _) => shape.default(schema),
        }
    }
}

fn object<'a>(members: impl Iterator<Item = (&'a str, Value)>) -> Value {
    let members = members.map(|(key, value)| (Key::from(key), value));
    Value::Map(Map {
        map: Arc::new(members.collect()),
    })
}

impl Schema {
    fn read(text: &'static str) -> Self {
        let mut messages: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        let mut message = "";
        for line in text.lines().map(str::trim) {
            if let Some(name) = line
                .strip_prefix("message ")
                .and_then(|rest| rest.strip_suffix('{'))
            {
                message = name.trim();
                continue;
            }
            if message.is_empty() || line.starts_with("//") {
                continue;
            }
            let Some((declared, _number)) = line.split_once(" = ") else {
                continue;
            };
            let Some((kind, name)) = declared.rsplit_once(' ') else {
                continue;
            };
            let shape = if let Some(of) = kind.strip_prefix("repeated ") {
                Shape::List(Box::new(Shape::named(of)))
            } else if let Some(of) = kind.strip_prefix("optional ") {
                Shape::Optional(Box::new(Shape::named(of)))
            } else if let Some(of) = kind
                .strip_prefix("map<string, ")
                .and_then(|rest| rest.strip_suffix('>'))
            {
                Shape::Map(Box::new(Shape::named(of)))
            } else {
                Shape::named(kind)
            };
            messages.entry(message).or_default().insert(name, shape);
        }
        Self(messages)
    }

    /// The type of a field of a message.
    pub(super) fn field(&self, message: &str, field: &str) -> Option<&Shape> {
        self.0.get(message)?.get(field)
    }

    /// The fields of a message, in the order of their names.
    pub(super) fn fields(&self, message: &str) -> impl Iterator<Item = &'static str> {
        self.0
            .get(message)
            .into_iter()
            .flat_map(|fields| fields.keys().copied())
    }

    /// A message of these fields as CEL has it, those without a value too.
    pub(super) fn message(&self, message: &str, fields: &serde_json::Map<String, Json>) -> Value {
        let declared = self.0.get(message).into_iter().flatten();
        object(declared.map(|(name, shape)| {
            let value = match fields.get(*name) {
                Some(json) => shape.value(json, self),
                None => shape.default(self),
            };
            (*name, value)
        }))
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::{DescriptorPool, FieldDescriptor, Kind};

    use super::*;

    fn shape(field: &FieldDescriptor) -> Shape {
        let one = |kind: Kind| match kind {
            Kind::String => Shape::Text,
            Kind::Bool => Shape::Truth,
            Kind::Uint32 | Kind::Uint64 | Kind::Double => Shape::Number,
            Kind::Message(message) if message.name() == "Timestamp" => Shape::Text,
            Kind::Message(message) => Shape::Message(message.name().to_owned().leak()),
            other => panic!("{other:?}: the filter does not know this type"),
        };
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                panic!()
            };
            return Shape::Map(Box::new(one(entry.map_entry_value_field().kind())));
        }
        let is_message = matches!(field.kind(), Kind::Message(_));
        let shape = one(field.kind());
        if field.is_list() {
            Shape::List(Box::new(shape))
        } else if field.supports_presence() && !is_message {
            Shape::Optional(Box::new(shape))
        } else {
            shape
        }
    }

    #[test]
    fn the_schema_is_that_of_a_real_compiler() {
        let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
        let files = protox::compile(["auditwatch/v1/finding.proto"], [proto]).unwrap();
        let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
        let mut messages = 0;
        for message in pool.all_messages() {
            if message.package_name() != "auditwatch.v1" || message.is_map_entry() {
                continue;
            }
            messages += 1;
            let wanted: BTreeMap<_, _> = message
                .fields()
                .map(|field| (field.name().to_owned(), shape(&field)))
                .collect();
            let read: BTreeMap<_, _> = SCHEMA.0[message.name()]
                .iter()
                .map(|(name, shape)| ((*name).to_owned(), shape.clone()))
                .collect();
            assert_eq!(read, wanted, "{}", message.name());
        }
        assert_eq!(messages, SCHEMA.0.len());
    }
}
