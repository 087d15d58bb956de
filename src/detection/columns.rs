//! The value columns of a row of `scan`.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::fields::{self, AuditField};

/// The `values()` columns of the search: distinct, sorted by bytes, null when empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns([BTreeSet<String>; fields::COUNT]);

impl Columns {
    /// The values of a field.
    pub fn get(&self, field: AuditField) -> &BTreeSet<String> {
        const NONE: &BTreeSet<String> = &BTreeSet::new();
        self.0.get(field.index()).unwrap_or(NONE)
    }

    pub(super) fn insert(&mut self, field: AuditField, value: String) {
        if let Some(column) = self.0.get_mut(field.index()) {
            column.insert(value);
        }
    }
}

impl FromIterator<(AuditField, String)> for Columns {
    fn from_iter<I: IntoIterator<Item = (AuditField, String)>>(values: I) -> Self {
        let mut columns = Self::default();
        for (field, value) in values {
            columns.insert(field, value);
        }
        columns
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(None)?;
        for row in fields::escu_columns() {
            let values = Some(self.get(row.field)).filter(|values| !values.is_empty());
            map.serialize_entry(row.column.unwrap_or(row.path), &values)?;
        }
        map.end()
    }
}
