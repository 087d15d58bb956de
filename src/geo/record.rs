//! One record of a location database, in whatever layout a vendor has. A field of another type than
//! expected is absent, and costs no other field.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::detection::geo::Location;

/// How deep the fields are that are read; deeper ones are passed over.
const DEPTH: u8 = 4;

/// The keys that are read, at any depth; all else is passed over without a copy.
///
/// MaxMind (GeoIP2, GeoLite2) and DB-IP nest: `country.names.en`, `location.latitude`. `IPinfo`,
/// `IPLocate`, ip-location-db and what tools make of a CSV are flat, and each has words of its own.
const KEYS: [&str; 28] = [
    "as",
    "as_number",
    "asn",
    "autonomous_system_number",
    "city",
    "city_name",
    "country",
    "country_code",
    "country_code2",
    "country_name",
    "en",
    "geo",
    "iso_code",
    "lat",
    "latitude",
    "lng",
    "location",
    "lon",
    "longitude",
    "name",
    "names",
    "region",
    "region_name",
    "state",
    "state1",
    "subdivision",
    "subdivisions",
    "traits",
];

/// A value of a record. A list stands for its first element, which is the most general one of
/// `subdivisions`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(f64),
    Map(Vec<(&'static str, Value)>),
    /// Nothing that is read here.
    Other,
}

impl Value {
    fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries
                .iter()
                .find_map(|(name, value)| (*name == key).then_some(value)),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.trim()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// The name of a place: a text, or its English name, or the one name it has.
    fn name(&self) -> Option<&str> {
        let names = self.get("names");
        self.text()
            .or_else(|| names?.get("en")?.text())
            .or_else(|| self.get("name")?.text())
    }

    /// Degrees up to a bound, as a number or as text.
    fn degrees(&self, bound: f64) -> Option<f64> {
        let degrees = match self {
            Self::Number(degrees) => *degrees,
            Self::Text(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        (degrees.abs() <= bound).then_some(degrees)
    }

    /// The number of an autonomous system: `64500`, `"64500"` or `"AS64500"`.
    fn system(&self) -> Option<u32> {
        match self {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is a whole number within the bounds of u32"
            )]
            Self::Number(number)
                if number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(number) =>
            {
                Some(*number as u32)
            }
            Self::Text(text) => {
                let text = text.trim();
                let digits = text
                    .strip_prefix("AS")
                    .or_else(|| text.strip_prefix("as"))
                    .unwrap_or(text);
                digits.parse().ok().filter(|number| *number > 0)
            }
            Self::Map(_) => self.get("asn").or_else(|| self.get("number"))?.system(),
            _ => None,
        }
    }

    /// What of these keys has something to say, asked in this order.
    fn first<'a, T>(&'a self, keys: &[&str], ask: impl Fn(&'a Self) -> Option<T>) -> Option<T> {
        keys.iter().find_map(|key| self.get(key).and_then(&ask))
    }

    /// Where the address is.
    pub(super) fn location(&self) -> Location {
        // IPinfo's newer files have all of it one level down.
        let place = match self.get("geo") {
            Some(geo @ Self::Map(_)) => geo,
            _ => self,
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let country = place.get("country");
        let code = |value: &'_ Self| {
            let text = value.text()?;
            is_code(text).then(|| text.to_owned())
        };
        let iso = country
            .and_then(|country| country.get("iso_code")?.text().map(str::to_owned))
            .or_else(|| {
                place
                    .first(&["country_code", "country_code2"], Self::text)
                    .map(str::to_owned)
            })
            .or_else(|| country.and_then(code));
        let named = country
            .and_then(Self::name)
            .filter(|name| !is_code(name))
            .or_else(|| place.get("country_name").and_then(Self::name));
        let around = place
            .get("location")
            .filter(|at| matches!(at, Self::Map(_)));
        let around = around.unwrap_or(place);
        Location {
            // A code is a better answer than none.
            country: owned(named).or_else(|| iso.clone()),
            city: owned(place.first(&["city", "city_name"], Self::name)),
            region: owned(place.first(
                &[
                    "subdivisions",
                    "subdivision",
                    "region",
                    "region_name",
                    "state1",
                    "state",
                ],
                Self::name,
            )),
            country_iso_code: iso,
            lat: around.first(&["latitude", "lat"], |at| at.degrees(90.0)),
            lon: around.first(&["longitude", "lng", "lon"], |at| at.degrees(180.0)),
        }
    }

    /// The autonomous system that announces the address.
    pub(super) fn autonomous_system(&self) -> Option<u32> {
        const KEYS: [&str; 4] = ["autonomous_system_number", "asn", "as_number", "as"];
        self.first(&KEYS, Self::system)
            // Enterprise has it among its traits.
            .or_else(|| self.get("traits")?.first(&KEYS, Self::system))
    }
}

/// Whether a text is a code of ISO 3166-1, and no name.
fn is_code(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|letter| letter.is_ascii_uppercase())
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Reading { depth: DEPTH }.deserialize(from)
    }
}

/// Reads a value whose maps and lists are this deep at most.
#[derive(Clone, Copy)]
struct Reading {
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Reading {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of systems and degrees are small enough for a double"
)]
impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a record")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    /// The float of the flat files is rounded to the four digits it means.
    fn visit_f32<E>(self, number: f32) -> Result<Value, E> {
        let number = (f64::from(number) * 10_000.0).round() / 10_000.0;
        Ok(Value::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut first = None;
        if let Some(depth) = self.depth.checked_sub(1) {
            first = list.next_element_seed(Self { depth })?;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first.unwrap_or(Value::Other))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Key>()? {
            match (key.0, self.depth.checked_sub(1)) {
                (Some(key), Some(depth)) => {
                    entries.push((key, map.next_value_seed(Self { depth })?));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Map(entries))
    }
}

/// A key that is read; `None`: another one.
struct Key(Option<&'static str>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Known;
        impl Visitor<'_> for Known {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                let found = KEYS.binary_search(&text).ok();
                Ok(Key(found.and_then(|at| KEYS.get(at).copied())))
            }
        }
        from.deserialize_str(Known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted() {
        assert!(KEYS.is_sorted());
    }

    /// Any JSON is read, and none of it is an error.
    #[test]
    fn any_value_is_read() {
        for text in [
            "1",
            r#"{"country": [], "city": {"names": []}, "location": "52.1,4.2", "traits": 7}"#,
            r#"{"country": {"names": {"en": {"en": {"en": {"en": {"en": "deep"}}}}}}}"#,
            r#"{"latitude": "north", "longitude": 1e300, "asn": -1, "as": true}"#,
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(value.location(), Location::default(), "{text}");
            assert_eq!(value.autonomous_system(), None, "{text}");
        }
    }

    #[test]
    fn systems_are_numbers_or_names() {
        for (text, wanted) in [
            (r#"{"autonomous_system_number": 64500}"#, Some(64_500)),
            (r#"{"asn": "AS64500"}"#, Some(64_500)),
            (r#"{"asn": "64500"}"#, Some(64_500)),
            (r#"{"as": {"asn": "AS64500"}}"#, Some(64_500)),
            (
                r#"{"traits": {"autonomous_system_number": 64500}}"#,
                Some(64_500),
            ),
            (r#"{"asn": "", "as_number": 4294967295}"#, Some(u32::MAX)),
            (r#"{"asn": 4294967296}"#, None),
            (r#"{"asn": 0}"#, None),
            (r#"{"asn": 1.5}"#, None),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(value.autonomous_system(), wanted, "{text}");
        }
    }
}
