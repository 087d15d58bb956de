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
