//! Location of an address: the interface by which the pure core uses a location database.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a database knows of an address. Names are English; absent is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Name of the country.
    pub country: Option<String>,
    /// Name of the city.
    pub city: Option<String>,
    /// Name of the first subdivision.
    pub region: Option<String>,
    /// Two letters, ISO 3166-1.
    pub country_iso_code: Option<String>,
    /// Degrees north.
    pub lat: Option<f64>,
    /// Degrees east.
    pub lon: Option<f64>,
}

/// A location database.
pub trait Locate: Send + Sync {
    /// What is known of the address; `None` when there is no record of it.
    fn locate(&self, address: IpAddr) -> Option<Location>;

    /// The number of the autonomous system that announces the address; `None` when it is not known.
    fn system(&self, _address: IpAddr) -> Option<u32> {
        None
    }

    /// Whether it knows autonomous systems at all.
    fn has_systems(&self) -> bool {
        false
    }
}

/// `Country` and `City` of an escu row: the BY fields of the search.
pub type Place = (Option<String>, Option<String>);

/// The place of a logged source for an escu row; `None` when it makes no row.
///
/// Without a database the place plays no part. With one, an address without a record, or with
/// neither country nor city, makes no row, as `stats ... BY` leaves out what has no value; a
/// country without a city has the City "", or makes no row if `drop_missing_city`.
pub(super) fn place(
    source: &str,
    locate: Option<&dyn Locate>,
    drop_missing_city: bool,
) -> Option<Place> {
    let Some(locate) = locate else {
        return Some((None, None));
    };
    let location = locate.locate(super::address::parse(source)?)?;
    let (country, city) = (
        location.country.unwrap_or_default(),
        location.city.unwrap_or_default(),
    );
    if (country.is_empty() && city.is_empty()) || (city.is_empty() && drop_missing_city) {
        return None;
    }
    Some((Some(country), Some(city)))
}
