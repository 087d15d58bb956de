//! Writes location databases in MaxMind's format, so that the layouts of vendors need no files of theirs.

use std::net::IpAddr;

use serde_json::Value;

/// Where the records of IPv4 are in a tree of IPv6.
const IPV4_BITS: usize = 96;
/// Nothing is known below a side of a node.
const NONE: usize = usize::MAX;

/// One side of a node.
#[derive(Clone, Copy)]
enum Side {
    Node(usize),
    Record(usize),
}

/// A database of a type, with these networks, `address/bits`, and their records. A number with a fraction is a
/// double, `{"float": 1.5}` a float, another one as large as it needs to be.
pub(crate) fn database(kind: &str, records: &[(&str, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Side::Node(NONE); 2]];
    let mut data = Vec::new();
    for (network, record) in records {
        let (address, bits) = network.split_once('/').unwrap();
        let bits: usize = bits.parse().unwrap();
        let (octets, bits) = match address.parse().unwrap() {
            IpAddr::V4(address) => (
                [[0; 12].as_slice(), &address.octets()].concat(),
                bits + IPV4_BITS,
            ),
            IpAddr::V6(address) => (address.octets().to_vec(), bits),
        };
        let mut node = 0;
        for bit in 0..bits {
            let side = usize::from(octets[bit / 8] >> (7 - bit % 8) & 1);
            if bit + 1 == bits {
                nodes[node][side] = Side::Record(data.len());
            } else if let Side::Node(next) = nodes[node][side]
                && next != NONE
            {
                node = next;
            } else {
                nodes.push([Side::Node(NONE); 2]);
                let next = nodes.len() - 1;
                nodes[node][side] = Side::Node(next);
                node = next;
            }
        }
        value(&mut data, record);
    }
    let count = nodes.len();
    let mut bytes = Vec::new();
    for side in nodes.into_iter().flatten() {
        let number = match side {
            Side::Node(NONE) => count,
            Side::Node(node) => node,
            Side::Record(at) => count + 16 + at,
        };
        bytes.extend(u32::try_from(number).unwrap().to_be_bytes());
    }
    bytes.extend([0; 16]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    control(&mut bytes, 7, 9);
    for (name, number, kind) in [
        ("node_count", count, 6),
        ("record_size", 32, 5),
        ("ip_version", 6, 5),
        ("binary_format_major_version", 2, 5),
        ("binary_format_minor_version", 0, 5),
        ("build_epoch", 1_700_000_000, 9),
    ] {
        value(&mut bytes, &Value::from(name));
        unsigned(&mut bytes, kind, number as u64);
    }
    for (name, written) in [
        ("database_type", Value::from(kind)),
        ("languages", serde_json::json!(["en"])),
        ("description", serde_json::json!({"en": "made by a test"})),
    ] {
        value(&mut bytes, &Value::from(name));
        value(&mut bytes, &written);
    }
    bytes
}

/// The byte of a type and a size, with what follows it where they are large.
fn control(to: &mut Vec<u8>, kind: u8, size: usize) {
    let (short, more) = match size {
        0..29 => (u8::try_from(size).unwrap(), None),
        _ => (29, Some(u8::try_from(size - 29).unwrap())),
    };
    if kind < 8 {
        to.push(kind << 5 | short);
    } else {
        to.extend([short, kind - 7]);
    }
    to.extend(more);
}

fn unsigned(to: &mut Vec<u8>, kind: u8, number: u64) {
    let bytes = number.to_be_bytes();
    let bytes = &bytes[usize::try_from(number.leading_zeros() / 8).unwrap()..];
    control(to, kind, bytes.len());
    to.extend(bytes);
}

fn value(to: &mut Vec<u8>, written: &Value) {
    match written {
        Value::String(text) => {
            control(to, 2, text.len());
            to.extend(text.as_bytes());
        }
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) if u32::try_from(number).is_ok() => unsigned(to, 6, number),
            (Some(number), _) => unsigned(to, 9, number),
            (None, Some(number)) => {
                control(to, 8, 4);
                to.extend(i32::try_from(number).unwrap().to_be_bytes());
            }
            (None, None) => {
                control(to, 3, 8);
                to.extend(number.as_f64().unwrap().to_be_bytes());
            }
        },
        Value::Bool(flag) => control(to, 14, usize::from(*flag)),
        Value::Array(items) => {
            control(to, 11, items.len());
            for item in items {
                value(to, item);
            }
        }
        Value::Object(entries) => {
            if let Some(float) = entries.get("float") {
                control(to, 15, 4);
                #[expect(clippy::cast_possible_truncation, reason = "the format has floats")]
                to.extend((float.as_f64().unwrap() as f32).to_be_bytes());
                return;
            }
            control(to, 7, entries.len());
            for (key, item) in entries {
                value(to, &Value::from(key.as_str()));
                value(to, item);
            }
        }
        Value::Null => panic!("the format has no null"),
    }
}
