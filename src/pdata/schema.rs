//! The schema of OTLP logs: one table for protobuf and JSON.
//!
//! A row is a field: its number, its names in protobuf and JSON, what it holds. The walk over the
//! wire and the reader of JSON follow this table; a test compares it with the descriptors of
//! `opentelemetry-proto`. What the walk needs of it is worked out when it is compiled.

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// `string`.
    Text,
    /// `bytes`, in JSON as hex digits: an id.
    Hex,
    /// `bytes`, in JSON as base64.
    Base64,
    /// `bool`.
    Bool,
    /// `int64`, in JSON as text or number.
    Int64,
    /// `uint32`.
    Uint32,
    /// `fixed32`.
    Fixed32,
    /// `fixed64`, in JSON as text or number.
    Fixed64,
    /// `double`.
    Double,
    /// An enum.
    Enum,
    /// `int32`: an index into a dictionary that only profiles have. The specification asks that logs
    /// ignore it.
    Index,
    /// A message.
    Message(&'static Schema),
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// Its name in protobuf, which JSON may use too.
    pub(super) name: &'static str,
    /// Its name in JSON.
    pub(super) json: &'static str,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// How the value of a field is laid out on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Fixed32,
    Bytes,
    /// Bytes that are a message.
    Message,
}

/// Greater than every field number of the table.
const NUMBERS: usize = 13;

/// A message.
#[derive(Debug)]
pub(super) struct Schema {
    /// Its full name in protobuf.
    #[cfg(test)]
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
    /// The layout of each field, by its number.
    wire: [Option<Wire>; NUMBERS],
    /// The message that each field holds, by its number.
    inner: [Option<&'static Schema>; NUMBERS],
}

impl Schema {
    #[cfg_attr(
        not(test),
        expect(unused_variables, reason = "the test compares by name")
    )]
    #[expect(
        clippy::indexing_slicing,
        reason = "this runs in the compiler alone, which refuses an index out of bounds"
    )]
    const fn new(name: &'static str, fields: &'static [Field]) -> Self {
        let mut wire = [None; NUMBERS];
        let mut inner = [None; NUMBERS];
        let mut at = 0;
        while at < fields.len() {
            let number = fields[at].number as usize;
            wire[number] = Some(match fields[at].kind {
                Kind::Text | Kind::Hex | Kind::Base64 => Wire::Bytes,
                Kind::Bool | Kind::Int64 | Kind::Uint32 | Kind::Enum | Kind::Index => Wire::Varint,
                Kind::Fixed32 => Wire::Fixed32,
                Kind::Fixed64 | Kind::Double => Wire::Fixed64,
                Kind::Message(schema) => {
                    inner[number] = Some(schema);
                    Wire::Message
                }
            });
            at += 1;
        }
        Self {
            #[cfg(test)]
            name,
            fields,
            wire,
            inner,
        }
    }

    /// How the field of this number is laid out; `None` when it is unknown.
    #[inline]
    pub(super) fn wire(&self, number: u32) -> Option<Wire> {
        self.wire.get(number as usize).copied().flatten()
    }

    /// The message that the field of this number holds; `None` when it holds none.
    #[inline]
    pub(super) fn inner(&self, number: u32) -> Option<&'static Self> {
        self.inner.get(number as usize).copied().flatten()
    }
}

const fn one(number: u32, name: &'static str, json: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        json,
        kind,
        repeated: false,
    }
}

const fn many(number: u32, name: &'static str, json: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        json,
        kind,
        repeated: true,
    }
}

/// `ExportLogsServiceRequest.resource_logs`
pub(super) const RESOURCE_LOGS: u32 = 1;
/// `ResourceLogs.resource`
pub(super) const RESOURCE: u32 = 1;
/// `ResourceLogs.scope_logs`
pub(super) const SCOPE_LOGS: u32 = 2;
/// `ScopeLogs.log_records`
pub(super) const LOG_RECORDS: u32 = 2;
/// `Resource.attributes`
pub(super) const RESOURCE_ATTRIBUTES: u32 = 1;
/// `LogRecord.time_unix_nano`
pub(super) const TIME: u32 = 1;
/// `LogRecord.observed_time_unix_nano`
pub(super) const OBSERVED_TIME: u32 = 11;
/// `LogRecord.body`
pub(super) const BODY: u32 = 5;
/// `LogRecord.attributes`
pub(super) const ATTRIBUTES: u32 = 6;
/// `AnyValue.string_value`
pub(super) const STRING: u32 = 1;
/// `AnyValue.bool_value`
pub(super) const BOOL: u32 = 2;
/// `AnyValue.int_value`
pub(super) const INT: u32 = 3;
/// `AnyValue.double_value`
pub(super) const DOUBLE: u32 = 4;
/// `AnyValue.array_value`
pub(super) const ARRAY: u32 = 5;
/// `AnyValue.kvlist_value`
pub(super) const MAP: u32 = 6;
/// `AnyValue.bytes_value`
pub(super) const BYTES: u32 = 7;
/// `AnyValue.string_value_strindex`
pub(super) const STRING_INDEX: u32 = 8;
/// `ArrayValue.values` and `KeyValueList.values`
pub(super) const VALUES: u32 = 1;
/// `KeyValue.key`
pub(super) const KEY: u32 = 1;
/// `KeyValue.value`
pub(super) const VALUE: u32 = 2;

const DROPPED: &str = "dropped_attributes_count";
const DROPPED_JSON: &str = "droppedAttributesCount";

pub(super) static REQUEST_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest",
    &[many(
        RESOURCE_LOGS,
        "resource_logs",
        "resourceLogs",
        Kind::Message(&RESOURCE_LOGS_MESSAGE),
    )],
);
pub(super) static RESOURCE_LOGS_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.logs.v1.ResourceLogs",
    &[
        one(
            RESOURCE,
            "resource",
            "resource",
            Kind::Message(&RESOURCE_MESSAGE),
        ),
        many(
            SCOPE_LOGS,
            "scope_logs",
            "scopeLogs",
            Kind::Message(&SCOPE_LOGS_MESSAGE),
        ),
        one(3, "schema_url", "schemaUrl", Kind::Text),
    ],
);
pub(super) static SCOPE_LOGS_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.logs.v1.ScopeLogs",
    &[
        one(1, "scope", "scope", Kind::Message(&SCOPE_MESSAGE)),
        many(
            LOG_RECORDS,
            "log_records",
            "logRecords",
            Kind::Message(&LOG_RECORD_MESSAGE),
        ),
        one(3, "schema_url", "schemaUrl", Kind::Text),
    ],
);
pub(super) static LOG_RECORD_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.logs.v1.LogRecord",
    &[
        one(BODY, "body", "body", Kind::Message(&ANY_VALUE_MESSAGE)),
        many(
            ATTRIBUTES,
            "attributes",
            "attributes",
            Kind::Message(&KEY_VALUE_MESSAGE),
        ),
        one(TIME, "time_unix_nano", "timeUnixNano", Kind::Fixed64),
        one(
            OBSERVED_TIME,
            "observed_time_unix_nano",
            "observedTimeUnixNano",
            Kind::Fixed64,
        ),
        one(2, "severity_number", "severityNumber", Kind::Enum),
        one(3, "severity_text", "severityText", Kind::Text),
        one(7, DROPPED, DROPPED_JSON, Kind::Uint32),
        one(8, "flags", "flags", Kind::Fixed32),
        one(9, "trace_id", "traceId", Kind::Hex),
        one(10, "span_id", "spanId", Kind::Hex),
        one(12, "event_name", "eventName", Kind::Text),
    ],
);
static RESOURCE_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.resource.v1.Resource",
    &[
        many(
            RESOURCE_ATTRIBUTES,
            "attributes",
            "attributes",
            Kind::Message(&KEY_VALUE_MESSAGE),
        ),
        one(2, DROPPED, DROPPED_JSON, Kind::Uint32),
        many(
            3,
            "entity_refs",
            "entityRefs",
            Kind::Message(&ENTITY_REF_MESSAGE),
        ),
    ],
);
static ENTITY_REF_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.common.v1.EntityRef",
    &[
        one(1, "schema_url", "schemaUrl", Kind::Text),
        one(2, "type", "type", Kind::Text),
        many(3, "id_keys", "idKeys", Kind::Text),
        many(4, "description_keys", "descriptionKeys", Kind::Text),
    ],
);
static SCOPE_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.common.v1.InstrumentationScope",
    &[
        one(1, "name", "name", Kind::Text),
        one(2, "version", "version", Kind::Text),
        many(
            3,
            "attributes",
            "attributes",
            Kind::Message(&KEY_VALUE_MESSAGE),
        ),
        one(4, DROPPED, DROPPED_JSON, Kind::Uint32),
    ],
);
static KEY_VALUE_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.common.v1.KeyValue",
    &[
        one(KEY, "key", "key", Kind::Text),
        one(VALUE, "value", "value", Kind::Message(&ANY_VALUE_MESSAGE)),
        one(3, "key_strindex", "keyStrindex", Kind::Index),
    ],
);
static ANY_VALUE_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.common.v1.AnyValue",
    &[
        one(STRING, "string_value", "stringValue", Kind::Text),
        one(BOOL, "bool_value", "boolValue", Kind::Bool),
        one(INT, "int_value", "intValue", Kind::Int64),
        one(DOUBLE, "double_value", "doubleValue", Kind::Double),
        one(
            ARRAY,
            "array_value",
            "arrayValue",
            Kind::Message(&ARRAY_VALUE_MESSAGE),
        ),
        one(
            MAP,
            "kvlist_value",
            "kvlistValue",
            Kind::Message(&KEY_VALUE_LIST_MESSAGE),
        ),
        one(BYTES, "bytes_value", "bytesValue", Kind::Base64),
        one(
            STRING_INDEX,
            "string_value_strindex",
            "stringValueStrindex",
            Kind::Index,
        ),
    ],
);
static ARRAY_VALUE_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.common.v1.ArrayValue",
    &[many(
        VALUES,
        "values",
        "values",
        Kind::Message(&ANY_VALUE_MESSAGE),
    )],
);
static KEY_VALUE_LIST_MESSAGE: Schema = Schema::new(
    "opentelemetry.proto.common.v1.KeyValueList",
    &[many(
        VALUES,
        "values",
        "values",
        Kind::Message(&KEY_VALUE_MESSAGE),
    )],
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::{DescriptorPool, Kind as Described, MessageDescriptor};

    use super::*;

    /// Whether the kind of a field is that of its descriptor.
    fn holds(kind: Kind, described: &Described) -> bool {
        match (kind, described) {
            (Kind::Text, Described::String)
            | (Kind::Hex | Kind::Base64, Described::Bytes)
            | (Kind::Bool, Described::Bool)
            | (Kind::Int64, Described::Int64)
            | (Kind::Uint32, Described::Uint32)
            | (Kind::Fixed32, Described::Fixed32)
            | (Kind::Fixed64, Described::Fixed64)
            | (Kind::Double, Described::Double)
            | (Kind::Enum, Described::Enum(_))
            | (Kind::Index, Described::Int32) => true,
            (Kind::Message(schema), Described::Message(message)) => {
                schema.name == message.full_name()
            }
            _ => false,
        }
    }

    fn compare(schema: &Schema, message: &MessageDescriptor) {
        let name = schema.name;
        let numbers: BTreeSet<_> = schema.fields.iter().map(|field| field.number).collect();
        let wanted: BTreeSet<_> = message.fields().map(|field| field.number()).collect();
        assert_eq!(numbers, wanted, "{name}");
        assert_eq!(numbers.len(), schema.fields.len(), "{name}");
        for field in schema.fields {
            let described = message.get_field(field.number).unwrap();
            assert_eq!(field.name, described.name(), "{name}");
            assert_eq!(field.json, described.json_name(), "{name}");
            assert_eq!(field.repeated, described.is_list(), "{name} {}", field.name);
            assert!(
                holds(field.kind, &described.kind()),
                "{name} {}",
                field.name
            );
            assert!(schema.wire(field.number).is_some());
        }
        assert!(schema.wire(u32::MAX).is_none());
    }

    /// The table is the schema of OpenTelemetry: every message that it reaches, field by field.
    #[test]
    fn the_table_is_the_schema_of_opentelemetry() {
        let pool = DescriptorPool::decode(opentelemetry_proto::DESCRIPTORS).unwrap();
        let mut open = vec![&REQUEST_MESSAGE];
        let mut seen = BTreeSet::new();
        while let Some(schema) = open.pop() {
            if !seen.insert(schema.name) {
                continue;
            }
            compare(schema, &pool.get_message_by_name(schema.name).unwrap());
            open.extend(schema.fields.iter().filter_map(|field| match field.kind {
                Kind::Message(schema) => Some(schema),
                _ => None,
            }));
        }
        assert_eq!(seen.len(), 11);
    }
}
