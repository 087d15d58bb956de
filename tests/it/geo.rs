//! Location databases of all vendors, and what is said of those that locate nothing.

use std::{path::PathBuf, process::Command};

use auditwatch::{
    detection::geo::{Locate as _, Location},
    geo::Databases,
};
use serde_json::{Value, json};

use crate::support::{corpus, mmdb};

/// The databases of a test, which are files.
struct Files {
    folder: tempfile::TempDir,
    paths: Vec<PathBuf>,
}

fn files(databases: &[(&str, Value)]) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let paths = databases
        .iter()
        .enumerate()
        .map(|(number, (kind, record))| {
            let path = folder.path().join(format!("{number}.mmdb"));
            let records = [
                ("198.51.100.0/24", record.clone()),
                ("2001:db8::/32", record.clone()),
            ];
            std::fs::write(&path, mmdb::database(kind, &records)).unwrap();
            path
        });
    let paths = paths.collect();
    Files { folder, paths }
}

fn location(texts: [&str; 4], degrees: Option<(f64, f64)>) -> Location {
    let [country, city, region, country_iso_code] =
        texts.map(|text| (!text.is_empty()).then(|| text.to_owned()));
    Location {
        country,
        city,
        region,
        country_iso_code,
        lat: degrees.map(|(lat, _)| lat),
        lon: degrees.map(|(_, lon)| lon),
    }
}

/// A database of a vendor: its type, a record, and what is known from it.
type Layout = (&'static str, Value, Location, Option<u32>);

/// Where the record of each layout is. Names and places are invented.
const PLACE: Option<(f64, f64)> = Some((52.01, 4.36));
const ALL: [&str; 4] = ["Northland", "Port Case", "South", "XN"];

/// MaxMind, and who has its layouts.
fn nested() -> Vec<Layout> {
    let names = json!({"en": "Northland", "de": "Nordland"});
    let country = json!({"geoname_id": 1, "iso_code": "XN", "names": names});
    let city = json!({"geoname_id": 2, "names": {"en": "Port Case"}});
    vec![
        (
            "GeoLite2-City",
            json!({"continent": {"code": "XX"}, "country": country, "city": city,
                   "subdivisions": [{"iso_code": "S", "names": {"en": "South"}}, {"names": {"en": "Inner"}}],
                   "location": {"accuracy_radius": 5, "latitude": 52.01, "longitude": 4.36, "time_zone": "Etc/UTC"},
                   "registered_country": {"iso_code": "XS"}}),
            location(ALL, PLACE),
            None,
        ),
        (
            "GeoLite2-Country",
            json!({"country": country, "registered_country": country}),
            location(["Northland", "", "", "XN"], None),
            None,
        ),
        (
            "GeoLite2-ASN",
            json!({"autonomous_system_number": 64500, "autonomous_system_organization": "Example"}),
            Location::default(),
            Some(64_500),
        ),
        (
            "GeoIP2-Enterprise",
            json!({"country": {"confidence": 99, "iso_code": "XN", "names": names}, "city": city,
                   "traits": {"autonomous_system_number": 64500, "is_anonymous_proxy": true}}),
            location(["Northland", "Port Case", "", "XN"], None),
            Some(64_500),
        ),
        (
            "DBIP-City-Lite",
            json!({"country": {"geoname_id": 1, "is_in_european_union": false, "iso_code": "XN", "names": names},
                   "city": {"names": {"en": "Port Case"}}, "subdivisions": [{"names": {"en": "South"}}],
                   "location": {"latitude": 52.01, "longitude": 4.36}}),
            location(ALL, PLACE),
            None,
        ),
    ]
}

/// `IPinfo`, `IPLocate`, and what tools make of a CSV.
fn flat() -> Vec<Layout> {
    vec![
        (
            "ipinfo lite",
            json!({"country": "Northland", "country_code": "XN", "continent": "Somewhere",
                   "asn": "AS64500", "as_name": "Example", "as_domain": "example.com"}),
            location(["Northland", "", "", "XN"], None),
            Some(64_500),
        ),
        (
            "ipinfo standard_location",
            json!({"city": "Port Case", "region": "South", "country": "XN", "lat": "52.01", "lng": "4.36",
                   "postal_code": "0000", "timezone": "Etc/UTC"}),
            location(["XN", "Port Case", "South", "XN"], PLACE),
            None,
        ),
        (
            "ipinfo core",
            json!({"geo": {"city": "Port Case", "region": "South", "country": "Northland", "country_code": "XN",
                           "latitude": 52.01, "longitude": 4.36},
                   "as": {"asn": "AS64500", "name": "Example"}}),
            location(ALL, PLACE),
            Some(64_500),
        ),
        (
            "iplocate ip-to-country",
            json!({"country_code": "XN", "country_name": "Northland", "continent_code": "XX", "is_eu": false}),
            location(["Northland", "", "", "XN"], None),
            None,
        ),
        (
            "iplocate ip-to-asn",
            json!({"asn": 64500, "country_code": "XN", "name": "EXAMPLE", "org": "Example"}),
            location(["XN", "", "", "XN"], None),
            Some(64_500),
        ),
        (
            "ip-location-db city",
            json!({"country_code": "XN", "state1": "South", "state2": "", "city": "Port Case",
                   "latitude": {"float": 52.01}, "longitude": {"float": 4.36}}),
            location(["XN", "Port Case", "South", "XN"], PLACE),
            None,
        ),
    ]
}

#[test]
fn the_layouts_of_vendors_are_read() {
    for (kind, record, wanted, system) in nested().into_iter().chain(flat()) {
        let files = files(&[(kind, record)]);
        let databases = Databases::open(&files.paths).unwrap();
        for address in ["198.51.100.7", "2001:db8::7"] {
            let address = address.parse().unwrap();
            let found = databases.locate(address).unwrap_or_default();
            assert_eq!(found, wanted, "{kind}");
            assert_eq!(databases.system(address), system, "{kind}");
        }
        assert_eq!(databases.locate("192.0.2.1".parse().unwrap()), None);
        assert_eq!(databases.has_systems(), system.is_some(), "{kind}");
        let needs = wanted.country.is_none();
        assert_eq!(databases.warnings(true).len(), usize::from(needs), "{kind}");
        assert!(databases.warnings(false).is_empty(), "{kind}");
    }
}

/// A field of another type is that field absent.
#[test]
fn a_field_of_another_type_costs_no_other() {
    let good = json!({"country": {"iso_code": "XN", "names": {"en": "Northland"}}, "city": {"names": {"en": "Port Case"}},
                      "subdivisions": [{"names": {"en": "South"}}], "location": {"latitude": 52.01, "longitude": 4.36}});
    for other in [
        json!("text"),
        json!(""),
        json!(7),
        json!(-7),
        json!(1.5),
        json!(true),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"names": 1}),
        json!({"names": {"en": 2}}),
        json!({"latitude": "north"}),
        json!({"float": 0.5}),
        json!(5_000_000_000_u64),
    ] {
        for key in ["country", "city", "subdivisions", "location"] {
            let mut record = good.clone();
            record[key] = other.clone();
            let files = files(&[("test", record)]);
            let databases = Databases::open(&files.paths).unwrap();
            let found = databases.locate("198.51.100.7".parse().unwrap()).unwrap();
            let kept = |name: &str, value: bool| {
                assert!(key == name || value, "{key}: {other}: {found:?}");
            };
            kept("country", found.country.as_deref() == Some("Northland"));
            kept("city", found.city.as_deref() == Some("Port Case"));
            kept("subdivisions", found.region.as_deref() == Some("South"));
            kept(
                "location",
                (found.lat, found.lon) == (Some(52.01), Some(4.36)),
            );
        }
    }
}

#[test]
fn layouts_of_other_vendors_make_rows_of_escu() {
    let path = |name| corpus::case(name).display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_auditwatch"))
        .args(["scan", "--semantics", "escu", "--output", "ndjson"])
        .args([
            "--geo-db",
            &path("geo-other-layouts.mmdb"),
            &path("geo-other-layouts.ndjson"),
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        ["src_ip", "Country", "City"]
            .map(|key| row[key].as_str().unwrap().to_owned())
            .join("|")
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    assert_eq!(
        rows,
        [
            "192.0.2.17|Northland|",
            "192.0.2.1|Northland|Port Case",
            "192.0.2.33|XN|Port Case",
            "192.0.2.49|Northland|Port Case",
            "192.0.2.65|XN|Port Case",
            "192.0.2.81|Northland|Port Case",
            "192.0.2.97|Northland|Port Case",
        ]
    );
}

/// A database of which nothing can be read is told of, with what it has.
#[test]
fn a_database_that_locates_nothing_is_told() {
    let files = files(&[
        (
            "Anonymous\u{1b}-IP",
            json!({"is_vpn": true, "is_hosting": true}),
        ),
        ("GeoLite2-ASN", json!({"autonomous_system_number": 64500})),
    ]);
    let databases = Databases::open(&files.paths).unwrap();
    let warnings = databases.warnings(true);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("its records have is_hosting, is_vpn")
            && !warnings[0].contains('\u{1b}'),
        "{warnings:?}"
    );
    let log = corpus::case("geo-other-layouts.ndjson")
        .display()
        .to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_auditwatch"))
        .args(["scan", "--semantics", "escu", &log, "--geo-db"])
        .arg(&files.paths[0])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("locates no address"), "{stderr}");

    let empty = files.folder.path().join("empty.mmdb");
    std::fs::write(&empty, mmdb::database("City", &[])).unwrap();
    let warnings = Databases::open(&[empty]).unwrap().warnings(false);
    assert!(warnings[0].contains("it has no records"), "{warnings:?}");
}
