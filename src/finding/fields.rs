//! The fields of the audit event in a finding: its lists, and what a sample shows.
//!
//! What is here follows from the table of [`crate::audit::fields`] and the names in
//! `finding.proto`.

use super::{Finding, Sample};
use crate::audit::fields::{self, AuditField, Row, audit_fields};

macro_rules! accessors {
    ($(
        $(#[$meaning:meta])*
        $name:ident: $path:literal $kind:ident,
        list [$($list:ident)?], sample [$($sample:ident)?], $($rest:ident $of:tt),*;
    )*) => {
        impl Finding {
            /// The distinct values of a field, if the finding has a list of them.
            pub fn list(&self, field: AuditField) -> Option<&Vec<String>> {
                match field {
                    $(AuditField::$name => None$(.or(Some(&self.$list)))?,)*
                }
            }

            /// The same, to be changed.
            pub(crate) fn list_mut(&mut self, field: AuditField) -> Option<&mut Vec<String>> {
                match field {
                    $(AuditField::$name => None$(.or(Some(&mut self.$list)))?,)*
                }
            }
        }

        impl Sample {
            /// What the sample shows of a field, to be changed; `None` when it shows nothing.
            pub(crate) fn text_mut(&mut self, field: AuditField) -> Option<&mut String> {
                match field {
                    $(AuditField::$name => None$(.or(Some(&mut self.$sample)))?,)*
                }
            }
        }
    };
}
audit_fields!(accessors);

/// A list of a finding, and what is known of its field.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// The field.
    pub row: &'static Row,
    /// The name of the list in `finding.proto`.
    pub name: &'static str,
    /// Its values.
    pub values: &'a Vec<String>,
}

impl Finding {
    /// All lists of evidence, in the order of the table.
    pub fn lists(&self) -> impl Iterator<Item = List<'_>> {
        fields::TABLE.iter().filter_map(|row| {
            Some(List {
                row,
                name: row.list?,
                values: self.list(row.field)?,
            })
        })
    }

    /// The columns of values of the ESCU search under their names in Splunk, and behind them the
    /// other lists that have such a name.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
        let others = fields::TABLE.iter().filter(|row| row.escu.is_none());
        fields::escu_columns()
            .chain(others)
            .filter_map(|row| Some((row.column?, self.list(row.field)?)))
    }
}
