//! The walk over OTLP bytes against `prost`: the same records from the same bytes, however they
//! are cut, and the same verdict on what is malformed.

use auditwatch::pdata::{AnyValue, KeyValues, Malformed, Record, Sink as _, Visitor, Walk};
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use crate::support::{
    otlp::{self, KeyValue, KeyValueList, LogRecord, Request, Resource, ResourceLogs, ScopeLogs},
    props::cases,
};

/// A value as both sides see it.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Empty,
    Text(Vec<u8>),
    Bool(bool),
    Int(i64),
    /// Its bits: NaN equals itself here.
    Double(u64),
    Array(Vec<Seen>),
    Map(Pairs),
    Bytes(Vec<u8>),
}

type Pairs = Vec<(Vec<u8>, Seen)>;

/// Of one resource: its attributes, and its records.
type Group = (Pairs, Vec<(u64, u64, Seen, Pairs)>);

fn seen(value: &AnyValue<'_>) -> Seen {
    match value {
        AnyValue::Empty => Seen::Empty,
        AnyValue::Text(text) => Seen::Text(text.to_vec()),
        AnyValue::Bool(value) => Seen::Bool(*value),
        AnyValue::Int(number) => Seen::Int(*number),
        AnyValue::Double(number) => Seen::Double(number.to_bits()),
        AnyValue::Array(list) => {
            let mut all = Vec::new();
            list.for_each(|element| all.push(seen(&element)));
            Seen::Array(all)
        }
        AnyValue::Map(map) => Seen::Map(pairs(map)),
        AnyValue::Bytes(bytes) => Seen::Bytes(bytes.to_vec()),
    }
}

fn pairs(map: &KeyValues<'_>) -> Pairs {
    let mut all = Vec::new();
    map.for_each(|key, value| all.push((key.to_vec(), seen(&value))));
    all
}

fn wanted(value: Option<&otlp::AnyValue>) -> Seen {
    match value.and_then(|value| value.value.as_ref()) {
        None | Some(otlp::Value::Index(_)) => Seen::Empty,
        Some(otlp::Value::Text(text)) => Seen::Text(text.clone()),
        Some(otlp::Value::Bool(value)) => Seen::Bool(*value),
        Some(otlp::Value::Int(number)) => Seen::Int(*number),
        Some(otlp::Value::Double(number)) => Seen::Double(number.to_bits()),
        Some(otlp::Value::Array(list)) => Seen::Array(
            list.values
                .iter()
                .map(|value| wanted(Some(value)))
                .collect(),
        ),
        Some(otlp::Value::Map(map)) => Seen::Map(wanted_pairs(&map.values)),
        Some(otlp::Value::Bytes(bytes)) => Seen::Bytes(bytes.clone()),
    }
}

fn wanted_pairs(pairs: &[KeyValue]) -> Pairs {
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), wanted(pair.value.as_ref())))
        .collect()
}

/// What `prost` sees; `None` when it refuses.
fn prost(bytes: &[u8]) -> Option<Vec<Group>> {
    let request = Request::decode(bytes).ok()?;
    let groups = request.resource_logs.iter().map(|group| {
        let resource = group
            .resource
            .as_ref()
            .map(|resource| wanted_pairs(&resource.attributes));
        let records = group.scope_logs.iter().flat_map(|scope| &scope.log_records);
        let records = records.map(|record| {
            (
                record.time_unix_nano,
                record.observed_time_unix_nano,
                wanted(record.body.as_ref()),
                wanted_pairs(&record.attributes),
            )
        });
        (resource.unwrap_or_default(), records.collect())
    });
    Some(groups.collect())
}

#[derive(Default)]
struct Collector {
    groups: Vec<Group>,
    resource: Vec<u8>,
    records: Vec<(u64, u64, Seen, Pairs)>,
}

impl Visitor for Collector {
    fn resource(&mut self, encoded: &[u8]) {
        self.resource.extend_from_slice(encoded);
    }

    fn record(&mut self, record: &Record<'_>) {
        let attributes = pairs(&record.attributes());
        assert_eq!(record.has_attributes(), !attributes.is_empty());
        self.records.push((
            record.time_unix_nano,
            record.observed_time_unix_nano,
            seen(&record.body()),
            attributes,
        ));
    }

    fn resource_end(&mut self) {
        let resource = pairs(&KeyValues::of_resource(&self.resource));
        self.groups
            .push((resource, std::mem::take(&mut self.records)));
        self.resource.clear();
    }
}

/// What the walk sees when it gets the bytes in pieces of these lengths, over and over.
fn walk(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Group>, Malformed> {
    let mut walk = Walk::new(Collector::default());
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        walk.feed(piece)?;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    Ok(walk.finish()?.groups)
}

/// The two agree, whole and in pieces.
fn agree(bytes: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
    let wanted = prost(bytes);
    prop_assert_eq!(&walk(bytes, &[usize::MAX]).ok(), &wanted, "whole");
    prop_assert_eq!(&walk(bytes, cuts).ok(), &wanted, "cut by {:?}", cuts);
    Ok(())
}

fn value() -> impl Strategy<Value = otlp::Value> {
    let text = vec(any::<u8>(), 0..40);
    let leaf = prop_oneof![
        text.clone().prop_map(otlp::Value::Text),
        "[ -~é]{0,300}".prop_map(|text| otlp::Value::Text(text.into_bytes())),
        any::<bool>().prop_map(otlp::Value::Bool),
        any::<i64>().prop_map(otlp::Value::Int),
        any::<u64>().prop_map(|bits| otlp::Value::Double(f64::from_bits(bits))),
        text.prop_map(otlp::Value::Bytes),
        any::<i32>().prop_map(otlp::Value::Index),
    ];
    leaf.prop_recursive(4, 20, 5, |inner| {
        let any_value = prop::option::of(inner).prop_map(|value| otlp::AnyValue { value });
        prop_oneof![
            vec(any_value.clone(), 0..5)
                .prop_map(|values| otlp::Value::Array(otlp::ArrayValue { values })),
            vec((vec(any::<u8>(), 0..6), prop::option::of(any_value)), 0..5).prop_map(|pairs| {
                let values = pairs.into_iter().map(|(key, value)| KeyValue {
                    key,
                    value,
                    key_strindex: 0,
                });
                otlp::Value::Map(KeyValueList {
                    values: values.collect(),
                })
            }),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(("[a-z.]{0,8}", value()), 0..4).prop_map(|pairs| {
        pairs
            .into_iter()
            .map(|(key, value)| otlp::pair(&key, value))
            .collect()
    })
}

fn record() -> impl Strategy<Value = LogRecord> {
    (
        any::<u64>(),
        any::<u64>(),
        prop::option::of(value()),
        attributes(),
        any::<u32>(),
    )
        .prop_map(|(time, observed, body, attributes, flags)| LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: observed,
            severity_text: b"INFO".to_vec(),
            body: body.and_then(otlp::holding),
            attributes,
            flags,
            trace_id: vec![7; 16],
            ..Default::default()
        })
}

fn request() -> impl Strategy<Value = Request> {
    let scope = vec(record(), 0..4).prop_map(|log_records| ScopeLogs {
        scope: Some(otlp::Scope {
            name: b"scope".to_vec(),
            ..Default::default()
        }),
        log_records,
        schema_url: b"url".to_vec(),
    });
    let group =
        (prop::option::of(attributes()), vec(scope, 0..3)).prop_map(|(resource, scopes)| {
            ResourceLogs {
                resource: resource.map(|attributes| Resource {
                    attributes,
                    ..Default::default()
                }),
                scope_logs: scopes,
                schema_url: Vec::new(),
            }
        });
    vec(group, 0..3).prop_map(|resource_logs| Request { resource_logs })
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1]),
        vec(1usize..=20, 1..6),
        vec(1usize..=16 * 1024, 1..4),
    ]
}

/// Fields as the wire has them, with or without a schema: any tag, groups, nesting, repeats.
#[derive(Clone, Debug)]
enum Wire {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>),
    Message(Vec<(u32, Wire)>),
    Group(Vec<(u32, Wire)>),
    /// A group that is closed by the end of another.
    Crossed(u32),
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
}

fn put_fields(fields: &[(u32, Wire)], out: &mut Vec<u8>) {
    for (tag, wire) in fields {
        let key = |wire_type: u64| u64::from(*tag) << 3 | wire_type;
        match wire {
            Wire::Varint(number) => {
                put_varint(key(0), out);
                put_varint(*number, out);
            }
            Wire::Fixed64(number) => {
                put_varint(key(1), out);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Wire::Fixed32(number) => {
                put_varint(key(5), out);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Wire::Bytes(bytes) => {
                put_varint(key(2), out);
                put_varint(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Wire::Message(fields) => {
                let mut inner = Vec::new();
                put_fields(fields, &mut inner);
                put_varint(key(2), out);
                put_varint(inner.len() as u64, out);
                out.extend_from_slice(&inner);
            }
            Wire::Group(fields) => {
                put_varint(key(3), out);
                put_fields(fields, out);
                put_varint(key(4), out);
            }
            Wire::Crossed(other) => {
                put_varint(key(3), out);
                put_varint(u64::from(*other) << 3 | 4, out);
            }
        }
    }
}

/// Wild fields, mostly of tags that mean something somewhere.
fn wild() -> impl Strategy<Value = Vec<(u32, Wire)>> {
    let leaf = prop_oneof![
        3 => any::<u64>().prop_map(Wire::Varint),
        3 => any::<u64>().prop_map(Wire::Fixed64),
        2 => any::<u32>().prop_map(Wire::Fixed32),
        5 => vec(any::<u8>(), 0..12).prop_map(Wire::Bytes),
        1 => (1u32..4).prop_map(Wire::Crossed),
    ];
    let tag = || prop_oneof![12 => 1u32..13, 1 => 0u32..=0x1fff_ffff];
    let wire = leaf.prop_recursive(8, 60, 5, move |inner| {
        let fields = vec((tag(), inner), 0..5);
        prop_oneof![
            6 => fields.clone().prop_map(Wire::Message),
            1 => fields.prop_map(Wire::Group),
        ]
    });
    vec((tag(), wire), 0..6)
}

/// Wild fields where the schema has known ones: unknown, repeated and out of order, but each known
/// one with the right type.
fn tame() -> impl Strategy<Value = Vec<(u32, Wire)>> {
    let value = wild_value();
    let unknown = || {
        (20u32..30, wild()).prop_flat_map(|(tag, fields)| {
            prop_oneof![
                Just((tag, Wire::Varint(5))),
                Just((tag, Wire::Message(fields.clone()))),
                Just((
                    tag,
                    Wire::Group(vec![(1, Wire::Varint(1)), (2, Wire::Bytes(vec![8]))])
                )),
            ]
        })
    };
    let attribute = vec(
        prop_oneof![
            vec(any::<u8>(), 0..5).prop_map(|key| (1, Wire::Bytes(key))),
            value.clone().prop_map(|value| (2, value)),
        ],
        0..4,
    )
    .prop_map(Wire::Message);
    let record = vec(
        prop_oneof![
            any::<u64>().prop_map(|time| (1, Wire::Fixed64(time))),
            any::<u64>().prop_map(|time| (11, Wire::Fixed64(time))),
            value.prop_map(|body| (5, body)),
            attribute.clone().prop_map(|attribute| (6, attribute)),
            unknown(),
        ],
        0..6,
    )
    .prop_map(|fields| (2, Wire::Message(fields)));
    let scope = vec(prop_oneof![6 => record, 1 => unknown()], 0..4)
        .prop_map(|fields| (2, Wire::Message(fields)));
    let resource = vec(attribute.prop_map(|attribute| (1, attribute)), 0..3)
        .prop_map(|fields| (1, Wire::Message(fields)));
    let group = vec(prop_oneof![3 => scope, 2 => resource, 1 => unknown()], 0..5)
        .prop_map(|fields| (1, Wire::Message(fields)));
    vec(prop_oneof![6 => group, 1 => unknown()], 0..3)
}

/// An `AnyValue` whose fields come in any number.
fn wild_value() -> impl Strategy<Value = Wire> + Clone {
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..8).prop_map(|text| (1u32, Wire::Bytes(text))),
        any::<u64>().prop_map(|number| (2, Wire::Varint(number))),
        any::<u64>().prop_map(|number| (3, Wire::Varint(number))),
        any::<u64>().prop_map(|number| (4, Wire::Fixed64(number))),
        vec(any::<u8>(), 0..8).prop_map(|bytes| (7, Wire::Bytes(bytes))),
        Just((8, Wire::Varint(3))),
    ];
    let fields = leaf.prop_recursive(3, 12, 3, |inner| {
        let value = vec(inner, 0..3).prop_map(Wire::Message);
        let pair = vec(
            prop_oneof![
                Just((1u32, Wire::Bytes(b"key".to_vec()))),
                value.clone().prop_map(|value| (2, value)),
            ],
            0..4,
        )
        .prop_map(Wire::Message);
        prop_oneof![
            vec(value.prop_map(|value| (1u32, value)), 0..3)
                .prop_map(|values| (5, Wire::Message(values))),
            vec(pair.prop_map(|pair| (1u32, pair)), 0..3)
                .prop_map(|pairs| (6, Wire::Message(pairs))),
        ]
    });
    vec(fields, 0..4).prop_map(Wire::Message).boxed()
}

/// A change to bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Delete(prop::sample::Index),
    Truncate(prop::sample::Index),
    Copy(prop::sample::Index, prop::sample::Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        if length == 0 {
            return;
        }
        match self {
            Self::Flip(at, bits) => bytes[at.index(length)] ^= bits,
            Self::Insert(at, byte) => bytes.insert(at.index(length), *byte),
            Self::Delete(at) => drop(bytes.remove(at.index(length))),
            Self::Truncate(at) => bytes.truncate(at.index(length)),
            Self::Copy(from, to) => {
                let part = bytes[from.index(length)..].to_vec();
                bytes.truncate(to.index(length));
                bytes.extend(part);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        at().prop_map(Change::Delete),
        at().prop_map(Change::Truncate),
        (at(), at()).prop_map(|(from, to)| Change::Copy(from, to)),
    ]
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn sees_what_prost_sees_however_it_is_cut(request in request(), cuts in cuts()) {
        let bytes = request.encode_to_vec();
        prop_assert!(prost(&bytes).is_some());
        agree(&bytes, &cuts)?;
    }

    #[test]
    fn the_generated_types_see_the_same(request in request(), cuts in cuts()) {
        use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
        let bytes = request.encode_to_vec();
        // With the schema's own types, what is no UTF-8 is refused; nothing else is.
        if ExportLogsServiceRequest::decode(&bytes[..]).is_ok() {
            prop_assert!(walk(&bytes, &cuts).is_ok());
        }
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn agrees_on_fields_that_are_unknown_repeated_and_out_of_order(
        fields in tame(),
        cuts in cuts(),
    ) {
        let mut bytes = Vec::new();
        put_fields(&fields, &mut bytes);
        agree(&bytes, &cuts)?;
    }

    #[test]
    fn agrees_on_what_is_malformed(
        request in request(),
        changes in vec(change(), 1..4),
        cuts in cuts(),
    ) {
        let mut bytes = request.encode_to_vec();
        for change in changes {
            change.apply(&mut bytes);
        }
        agree(&bytes, &cuts)?;
    }

    #[test]
    fn agrees_on_wild_fields(fields in wild(), cuts in cuts()) {
        let mut bytes = Vec::new();
        put_fields(&fields, &mut bytes);
        agree(&bytes, &cuts)?;
    }

    #[test]
    fn agrees_on_noise(bytes in vec(any::<u8>(), 0..60), cuts in cuts()) {
        agree(&bytes, &cuts)?;
    }
}

/// Every prefix of a request: an error unless `prost` takes it too.
#[test]
fn a_request_that_ends_early_is_malformed_where_prost_says_so() {
    let record = LogRecord {
        body: otlp::holding(otlp::Value::Text(b"body".to_vec())),
        attributes: vec![otlp::pair("key", otlp::Value::Int(5))],
        ..Default::default()
    };
    let scope = ScopeLogs {
        log_records: vec![record; 2],
        ..Default::default()
    };
    let resource = Resource {
        attributes: vec![otlp::pair("k", otlp::Value::Bool(true))],
        ..Default::default()
    };
    let group = ResourceLogs {
        resource: Some(resource),
        scope_logs: vec![scope; 2],
        schema_url: b"url".to_vec(),
    };
    let bytes = Request {
        resource_logs: vec![group; 2],
    }
    .encode_to_vec();
    let mut accepted = 0;
    for length in 0..=bytes.len() {
        agree(&bytes[..length], &[1]).unwrap();
        accepted += usize::from(walk(&bytes[..length], &[7]).is_ok());
    }
    assert_eq!(accepted, 3, "nothing, the first resource, and all of it");
}

/// Where `prost` gives up on depth, so does the walk: in values, and in groups at every level.
#[test]
fn agrees_on_depth() {
    for depth in 30..110 {
        let mut value = Wire::Message(vec![(1, Wire::Bytes(b"x".to_vec()))]);
        let mut group = Wire::Group(vec![(9, Wire::Varint(1))]);
        let mut empty = Wire::Group(Vec::new());
        for level in 0..depth {
            let list = Wire::Message(vec![(1, value)]);
            value = if level % 2 == 0 {
                Wire::Message(vec![(5, list)])
            } else {
                Wire::Message(vec![(
                    6,
                    Wire::Message(vec![(1, Wire::Message(vec![(2, list)]))]),
                )])
            };
            group = Wire::Group(vec![(9, group)]);
            empty = Wire::Group(vec![(9, empty)]);
        }
        let inside = |places: &[u32], fields: Vec<(u32, Wire)>| {
            places
                .iter()
                .rev()
                .fold(fields, |fields, tag| vec![(*tag, Wire::Message(fields))])
        };
        for fields in [
            inside(&[1, 2, 2], vec![(5, value.clone())]),
            inside(
                &[1, 2, 2],
                vec![(6, Wire::Message(vec![(2, value.clone())]))],
            ),
            inside(&[1, 1], vec![(1, Wire::Message(vec![(2, value.clone())]))]),
        ]
        .into_iter()
        .chain([group, empty].into_iter().flat_map(|group| {
            (0..4).map(move |level| inside(&[1, 2, 2][..level], vec![(30, group.clone())]))
        })) {
            let mut bytes = Vec::new();
            put_fields(&fields, &mut bytes);
            agree(&bytes, &[1]).unwrap();
            agree(&bytes, &[3, 50]).unwrap();
        }
    }
}
