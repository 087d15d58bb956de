//! Location databases: files in MaxMind's format, in the layout of any vendor.

mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
};

use self::record::Value;
use crate::{
    detection::geo::{Locate, Location},
    visible,
};

/// Records of a database that are looked at when it is opened.
const SAMPLE: usize = 10_000;
/// Keys of its records that a warning names.
const NAMED_KEYS: usize = 8;
/// Words in the type of a database that has numbers of autonomous systems.
const SYSTEMS: [&str; 3] = ["asn", "isp", "enterprise"];

/// One or more databases; the first one that knows an address answers.
pub struct Databases {
    databases: Vec<Database>,
}

struct Database {
    path: PathBuf,
    reader: maxminddb::Reader<Vec<u8>>,
    has: Has,
}

/// What records of a database say.
#[derive(Clone, Copy, Debug, Default)]
struct Has {
    places: bool,
    systems: bool,
}

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the location database {}: {reason}", visible::path(.path))]
pub struct GeoError {
    path: PathBuf,
    reason: maxminddb::MaxMindDbError,
}

impl Databases {
    /// Reads the databases into memory, and looks at what they have.
    ///
    /// # Errors
    /// When one cannot be read or is no MaxMind database.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, GeoError> {
        let databases = paths
            .iter()
            .map(|path| {
                let path = path.as_ref();
                let reader = maxminddb::Reader::open_readfile(path).map_err(|reason| GeoError {
                    path: path.to_owned(),
                    reason,
                })?;
                Ok(Database {
                    path: path.to_owned(),
                    has: Has::of(&reader),
                    reader,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { databases })
    }

    /// What whoever configured them should know: databases of which nothing can be used, and, where
    /// rows need a place, that no database has places.
    pub fn warnings(&self, needs_places: bool) -> Vec<String> {
        let mut warnings: Vec<_> = self
            .databases
            .iter()
            .filter_map(Database::warning)
            .collect();
        if needs_places && !self.databases.iter().any(|one| one.has.places) {
            warnings.push(
                "no location database has countries or cities, so escu semantics finds nothing: add one \
                 such as GeoLite2-City.mmdb, or leave all of them out"
                    .to_owned(),
            );
        }
        warnings
    }
}

impl Has {
    /// Looks at the first records, which are those of the lowest addresses.
    fn of(reader: &maxminddb::Reader<Vec<u8>>) -> Self {
        let kind = reader.metadata().database_type.to_ascii_lowercase();
        let mut has = Self {
            places: false,
            systems: SYSTEMS.iter().any(|word| kind.contains(word)),
        };
        let Ok(networks) = reader.networks(maxminddb::WithinOptions::default()) else {
            return has;
        };
        for found in networks.take(SAMPLE).flatten() {
            // What is damaged is passed over, as it is when an address is located.
            if let Ok(Some(record)) = found.decode::<Value>() {
                has.places |= is_place(&record.location());
                has.systems |= record.autonomous_system().is_some();
            }
            if has.places && has.systems {
                break;
            }
        }
        has
    }
}

/// Whether a location names a place.
fn is_place(location: &Location) -> bool {
    location.country.is_some() || location.city.is_some()
}

impl Database {
    fn record(&self, address: IpAddr) -> Option<Value> {
        // A database that cannot hold the address (IPv6 in an IPv4 tree) or whose record is
        // damaged knows nothing of it.
        self.reader.lookup(address).ok()?.decode().ok()?
    }

    fn warning(&self) -> Option<String> {
        if self.has.places || self.has.systems {
            return None;
        }
        let keys = self.keys();
        let keys = if keys.is_empty() {
            "it has no records".to_owned()
        } else {
            format!("its records have {}", keys.join(", "))
        };
        Some(format!(
            "the location database {} ({}) locates no address: {keys}, and neither a country, a city nor an \
             autonomous system that can be read",
            visible::path(&self.path),
            visible::escaped(&self.reader.metadata().database_type),
        ))
    }

    /// Keys of the first records.
    fn keys(&self) -> Vec<String> {
        let networks = self.reader.networks(maxminddb::WithinOptions::default());
        let mut keys = BTreeSet::new();
        for found in networks.into_iter().flatten().take(SAMPLE).flatten() {
            if let Ok(Some(record)) = found.decode::<BTreeMap<String, Value>>() {
                keys.extend(record.into_keys());
            }
            if keys.len() >= NAMED_KEYS {
                break;
            }
        }
        let shown = keys.iter().take(NAMED_KEYS);
        shown.map(|key| visible::escaped(key).to_string()).collect()
    }
}

impl Locate for Databases {
    fn locate(&self, address: IpAddr) -> Option<Location> {
        self.databases.iter().find_map(|database| {
            let location = database.record(address)?.location();
            (location != Location::default()).then_some(location)
        })
    }

    fn system(&self, address: IpAddr) -> Option<u32> {
        let mut databases = self.databases.iter().filter(|one| one.has.systems);
        databases.find_map(|database| database.record(address)?.autonomous_system())
    }

    fn has_systems(&self) -> bool {
        self.databases.iter().any(|one| one.has.systems)
    }
}
