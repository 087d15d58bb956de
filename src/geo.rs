//! Location databases: MaxMind's file format, in the nested layout (GeoIP2, GeoLite2, DB-IP) and
//! in the flat one (ip-location-db).

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    detection::geo::{Locate, Location},
    visible,
};

/// One or more databases; the first one that knows an address answers.
pub struct Databases {
    readers: Vec<maxminddb::Reader<Vec<u8>>>,
}

/// Words in the type of a database that has numbers of autonomous systems.
const SYSTEMS: [&str; 3] = ["asn", "isp", "enterprise"];

fn names_systems(reader: &maxminddb::Reader<Vec<u8>>) -> bool {
    let kind = reader.metadata().database_type.to_ascii_lowercase();
    SYSTEMS.iter().any(|word| kind.contains(word))
}

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the location database {}: {reason}", visible::path(.path))]
pub struct GeoError {
    path: PathBuf,
    reason: maxminddb::MaxMindDbError,
}

impl Databases {
    /// Reads the databases into memory.
    ///
    /// # Errors
    /// When one cannot be read or is no MaxMind database.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, GeoError> {
        let readers = paths
            .iter()
            .map(|path| {
                maxminddb::Reader::open_readfile(path).map_err(|reason| GeoError {
                    path: path.as_ref().to_owned(),
                    reason,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { readers })
    }
}

impl Locate for Databases {
    fn locate(&self, address: IpAddr) -> Option<Location> {
        // A database that cannot hold the address (IPv6 in an IPv4 tree) or whose record is
        // damaged knows nothing of it.
        self.readers.iter().find_map(|reader| {
            let record: Record = reader.lookup(address).ok()?.decode().ok()??;
            let location = record.into_location();
            (location != Location::default()).then_some(location)
        })
    }

    fn system(&self, address: IpAddr) -> Option<u32> {
        let mut readers = self.readers.iter().filter(|reader| names_systems(reader));
        readers.find_map(|reader| {
            let record: System = reader.lookup(address).ok()?.decode().ok()??;
            record.autonomous_system_number
        })
    }

    fn has_systems(&self) -> bool {
        self.readers.iter().any(names_systems)
    }
}

/// What a database of autonomous systems says of an address.
#[derive(Deserialize)]
struct System {
    autonomous_system_number: Option<u32>,
}

/// Both layouts at once: their field names do not meet.
#[derive(Deserialize)]
struct Record {
    country: Option<Place>,
    city: Option<City>,
    subdivisions: Option<Vec<Place>>,
    location: Option<Coordinates>,
    country_code: Option<String>,
    state1: Option<String>,
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

#[derive(Deserialize)]
struct Place {
    iso_code: Option<String>,
    names: Option<Names>,
}

#[derive(Deserialize)]
struct Names {
    en: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum City {
    Flat(String),
    Nested(Place),
}

#[derive(Deserialize)]
struct Coordinates {
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

/// A double, or the float of the flat files rounded to the four digits it means.
#[derive(Clone, Copy, Deserialize)]
#[serde(transparent)]
struct Degrees(#[serde(deserialize_with = "degrees")] f64);

fn degrees<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    struct Number;
    impl serde::de::Visitor<'_> for Number {
        type Value = f64;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a number of degrees")
        }

        fn visit_f64<E>(self, degrees: f64) -> Result<f64, E> {
            Ok(degrees)
        }

        fn visit_f32<E>(self, degrees: f32) -> Result<f64, E> {
            Ok((f64::from(degrees) * 10_000.0).round() / 10_000.0)
        }
    }
    from.deserialize_any(Number)
}

impl Record {
    fn into_location(self) -> Location {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let name = |place: Option<Place>| filled(place.and_then(|place| place.names?.en));
        let iso = self
            .country
            .as_ref()
            .and_then(|country| country.iso_code.clone());
        let iso = filled(iso.or(self.country_code));
        let region = self.subdivisions.and_then(|all| all.into_iter().next());
        let (lat, lon) = match self.location {
            Some(location) => (location.latitude, location.longitude),
            None => (self.latitude, self.longitude),
        };
        Location {
            // The flat layout has codes only; the code is a better answer than none.
            country: name(self.country).or_else(|| iso.clone()),
            city: match self.city {
                Some(City::Flat(city)) => filled(Some(city)),
                Some(City::Nested(city)) => name(Some(city)),
                None => None,
            },
            region: name(region).or_else(|| filled(self.state1)),
            country_iso_code: iso,
            lat: lat.map(|degrees| degrees.0),
            lon: lon.map(|degrees| degrees.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of this type, in which one record is that of all addresses of IPv4.
    fn database(kind: &str, system: u32) -> Vec<u8> {
        let text = |text: &str| {
            let length = u8::try_from(text.len()).unwrap();
            assert!(length < 29);
            [&[0x40 | length], text.as_bytes()].concat()
        };
        let short = |number: u16| [&[0xA2], &number.to_be_bytes()[..]].concat();
        let mut bytes = vec![0, 0, 17, 0, 0, 17];
        bytes.extend([0; 16]);
        bytes.push(0xE1);
        bytes.extend(text("autonomous_system_number"));
        bytes.push(0xC4);
        bytes.extend(system.to_be_bytes());
        bytes.extend(b"\xab\xcd\xefMaxMind.com");
        bytes.push(0xE9);
        for (name, value) in [
            ("node_count", [&[0xC4], &1_u32.to_be_bytes()[..]].concat()),
            ("record_size", short(24)),
            ("ip_version", short(4)),
            ("database_type", text(kind)),
            ("languages", vec![0x00, 0x04]),
            ("binary_format_major_version", short(2)),
            ("binary_format_minor_version", short(0)),
            (
                "build_epoch",
                [&[0x08, 0x02], &1_u64.to_be_bytes()[..]].concat(),
            ),
            ("description", vec![0xE0]),
        ] {
            bytes.extend(text(name));
            bytes.extend(value);
        }
        bytes
    }

    /// Autonomous systems are read of databases that are made for them, and of no others.
    #[test]
    fn a_database_of_autonomous_systems_is_known_by_its_type() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, wanted) in [
            ("GeoLite2-ASN", Some(64_500)),
            ("DBIP-ASN-Lite", Some(64_500)),
            ("GeoLite2-City", None),
        ] {
            let path = folder.path().join("test.mmdb");
            std::fs::write(&path, database(kind, 64_500)).unwrap();
            let databases = Databases::open(&[path]).unwrap();
            let address = "198.51.100.7".parse().unwrap();
            assert_eq!(databases.has_systems(), wanted.is_some(), "{kind}");
            assert_eq!(databases.system(address), wanted, "{kind}");
            assert_eq!(databases.locate(address), None);
            assert_eq!(databases.system("2001:db8::1".parse().unwrap()), None);
        }
    }
}
