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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

    use super::*;

    fn schema(message: &str) -> MessageDescriptor {
        let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
        let files = protox::compile(["auditwatch/v1/finding.proto"], [proto]).unwrap();
        let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
        pool.get_message_by_name(&format!("auditwatch.v1.{message}"))
            .unwrap()
    }

    /// The table and the schema name the same lists: those between 50 and 69, without what is said
    /// about them, and the peers.
    #[test]
    fn every_list_of_evidence_has_a_row_and_every_row_a_list() {
        let finding = schema("Finding");
        let lists: BTreeSet<_> = finding
            .fields()
            .filter(|field| (50..70).contains(&field.number()) || field.name() == "peers")
            .filter(|field| field.is_list() && field.kind() == Kind::String)
            .map(|field| field.name().to_owned())
            .filter(|name| name != "truncated")
            .collect();
        let rows: BTreeSet<_> = fields::TABLE
            .iter()
            .filter_map(|row| row.list.map(str::to_owned))
            .collect();
        assert_eq!(rows, lists);
        let sample = schema("Sample");
        let texts: BTreeSet<_> = sample
            .fields()
            .filter(|field| field.kind() == Kind::String)
            .map(|field| field.name().to_owned())
            .collect();
        let rows: BTreeSet<_> = fields::TABLE
            .iter()
            .filter_map(|row| row.sample.map(str::to_owned))
            .collect();
        assert_eq!(rows, texts);
    }

    #[test]
    fn a_row_reaches_the_list_that_it_names() {
        for row in &fields::TABLE {
            let mut finding = Finding::default();
            if let Some(list) = finding.list_mut(row.field) {
                list.push("x".to_owned());
            }
            let wanted = row
                .list
                .map_or("{}".to_owned(), |list| format!(r#"{{"{list}":["x"]}}"#));
            assert_eq!(finding.to_json(), wanted);
            let values: Vec<_> = finding
                .lists()
                .filter(|list| !list.values.is_empty())
                .collect();
            assert_eq!(values.len(), usize::from(row.list.is_some()));
            let mut sample = Sample::default();
            if let Some(text) = sample.text_mut(row.field) {
                "x".clone_into(text);
            }
            let wanted = row
                .sample
                .map_or("{}".to_owned(), |field| format!(r#"{{"{field}":"x"}}"#));
            assert_eq!(serde_json::to_string(&sample).unwrap(), wanted);
        }
    }
}
