//! The fields of an audit event that findings show as evidence: one row each.
//!
//! Everything that names such a field follows from its row: the readers of JSON and maps, the
//! texts of a hit, the evidence of a finding, the columns of `scan`, the forms for Splunk and
//! OTLP, the report, and what is left out of a finding that is too large. To add a field, add its
//! row at the end and its list to `proto/auditwatch/v1/finding.proto`; tests compare the two, and
//! the Splunk add-on with both.

/// Where the values of a field come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The value itself, if it is a text, a number or a truth value.
    Single,
    /// The elements of a list that are such values.
    List,
    /// The members of an object with such values, each as `key=value`.
    Map,
    /// The elements of `sourceIPs` that are not the address the event counts for.
    Claimed,
    /// The last element of `sourceIPs`, the peer of the connection, when it is not the address
    /// the event counts for: it handed that address over.
    Peer,
}

/// What is known of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The field of this row.
    pub field: AuditField,
    /// Its place in the audit event: a member, or a member of an object that is a member. Of a
    /// derived field its name in rules.
    pub path: &'static str,
    /// Where its values come from.
    pub kind: Kind,
    /// The list of the finding that holds its distinct values, as `finding.proto` names it.
    pub list: Option<&'static str>,
    /// The field of `Sample` that shows its value, as `finding.proto` names it.
    pub sample: Option<&'static str>,
    /// Its name in Splunk: of an indexed field of HEC events, and of a key of risk events.
    pub column: Option<&'static str>,
    /// Its place among the `values()` columns of the ESCU search, which are the columns of `scan`.
    pub escu: Option<u8>,
    /// The attribute of OpenTelemetry's semantic conventions that a lone value has besides.
    pub convention: Option<&'static str>,
    /// The heading of its values in the report of `scan`, if they are shown there.
    pub heading: Option<&'static str>,
}

/// The table, handed to a macro: `name: "path" kind, list [..], sample [..], column [..],
/// escu [..], convention [..], heading [..];` and so on, where brackets may be empty.
///
/// Rows are only ever added at the end: their order is that of the texts of a hit, which are kept.
macro_rules! audit_fields {
    ($with:ident) => {
        $with! {
            /// `verb`
            Verb: "verb" Single,
                list [verbs], sample [verb], column ["verb"], escu [3],
                convention [], heading ["Verbs"];
            /// `requestURI`
            RequestUri: "requestURI" Single,
                list [paths], sample [path], column ["requestURI"], escu [4],
                convention [], heading ["Paths"];
            /// `userAgent`
            UserAgent: "userAgent" Single,
                list [user_agents], sample [user_agent], column ["userAgent"], escu [0],
                convention ["user_agent.original"], heading ["User agents"];
            /// `user.username`, which the ESCU search renames
            Username: "user.username" Single,
                list [users], sample [user], column ["user"], escu [1],
                convention [], heading ["Users"];
            /// `user.groups`
            Groups: "user.groups" List,
                list [groups], sample [], column ["user.groups{}"], escu [2],
                convention [], heading ["Groups"];
            /// `responseStatus.code`
            Code: "responseStatus.code" Single,
                list [codes], sample [code], column ["responseStatus.code"], escu [5],
                convention [], heading [];
            /// `responseStatus.message`
            Message: "responseStatus.message" Single,
                list [messages], sample [], column ["responseStatus.message"], escu [6],
                convention [], heading ["Messages"];
            /// `responseStatus.reason`
            Reason: "responseStatus.reason" Single,
                list [reasons], sample [], column ["responseStatus.reason"], escu [7],
                convention [], heading ["Reasons"];
            /// `responseStatus.status`
            Status: "responseStatus.status" Single,
                list [statuses], sample [], column ["responseStatus.status"], escu [8],
                convention [], heading [];
            /// The addresses in `sourceIPs` that a client may have written itself
            ClaimedIps: "sourceIPs" Claimed,
                list [claimed_ips], sample [], column [], escu [],
                convention [], heading ["Claimed addresses"];
            /// `auditID`
            AuditId: "auditID" Single,
                list [], sample [audit_id], column [], escu [],
                convention [], heading [];
            /// `stage`
            Stage: "stage" Single,
                list [], sample [stage], column [], escu [],
                convention [], heading [];
            /// `objectRef.resource`
            Resource: "objectRef.resource" Single,
                list [resources], sample [], column ["objectRef.resource"], escu [],
                convention [], heading ["Resources"];
            /// `annotations`
            Annotations: "annotations" Map,
                list [annotations], sample [], column [], escu [],
                convention [], heading ["Annotations"];
            /// The peer in `sourceIPs` that handed over the address the event counts for
            Peers: "source.peer" Peer,
                list [peers], sample [], column [], escu [],
                convention ["network.peer.address"], heading ["Peers"];
        }
    };
}
pub(crate) use audit_fields;

/// The content of brackets of the table.
const fn first<T: Copy>(content: &[T]) -> Option<T> {
    match content {
        [one, ..] => Some(*one),
        [] => None,
    }
}

/// The members that a path names: of the event, and of the object that this one is.
pub(super) const fn members(path: &str) -> (&[u8], Option<&[u8]>) {
    let path = path.as_bytes();
    let mut at = 0;
    while at < path.len() {
        if let Some((outer, [b'.', inner @ ..])) = path.split_at_checked(at) {
            return (outer, Some(inner));
        }
        at += 1;
    }
    (path, None)
}

macro_rules! table {
    ($(
        $(#[$meaning:meta])*
        $name:ident: $path:literal $kind:ident,
        list [$($list:ident)?], sample [$($sample:ident)?], column [$($column:literal)?],
        escu [$($escu:literal)?], convention [$($convention:literal)?],
        heading [$($heading:literal)?];
    )*) => {
        /// A field of the audit event that may be evidence.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AuditField {
            $($(#[$meaning])* $name,)*
        }

        /// How many fields there are.
        pub const COUNT: usize = [$(AuditField::$name),*].len();

        /// The row of each field, in order.
        pub const TABLE: [Row; COUNT] = [$(Row {
            field: AuditField::$name,
            path: $path,
            kind: Kind::$kind,
            list: first(&[$(stringify!($list))?]),
            sample: first(&[$(stringify!($sample))?]),
            column: first(&[$($column)?]),
            escu: first(&[$($escu)?]),
            convention: first(&[$($convention)?]),
            heading: first(&[$($heading)?]),
        }),*];
    };
}
audit_fields!(table);

impl AuditField {
    /// Its place in the table.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its place in the audit event.
    pub fn path(self) -> &'static str {
        TABLE.get(self.index()).map_or("", |row| row.path)
    }
}

/// The rows of the `values()` columns of the ESCU search, in its order.
pub fn escu_columns() -> impl Iterator<Item = &'static Row> {
    (0..)
        .map(|place| TABLE.iter().find(|row| row.escu == Some(place)))
        .map_while(|row| row)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_stand_at_their_index_and_name_nothing_twice() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.field.index(), at);
            let (_, inner) = members(row.path);
            assert!(
                inner.is_none_or(|inner| !inner.contains(&b'.')),
                "{}",
                row.path
            );
            assert!(
                row.list.is_some() || row.sample.is_some(),
                "{}: shown nowhere",
                row.path
            );
            assert!(row.escu.is_none() || row.column.is_some(), "{}", row.path);
        }
        let names: [fn(&Row) -> Option<&'static str>; 5] = [
            |row| Some(row.path),
            |row| row.list,
            |row| row.sample,
            |row| row.column,
            |row| row.heading,
        ];
        for name in names {
            let all: Vec<_> = TABLE.iter().filter_map(name).collect();
            assert_eq!(
                all.iter().collect::<BTreeSet<_>>().len(),
                all.len(),
                "{all:?}"
            );
        }
    }

    #[test]
    fn the_columns_of_the_search_are_in_its_order() {
        let columns: Vec<_> = escu_columns().filter_map(|row| row.column).collect();
        let wanted = [
            "userAgent",
            "user",
            "user.groups{}",
            "verb",
            "requestURI",
            "responseStatus.code",
            "responseStatus.message",
            "responseStatus.reason",
            "responseStatus.status",
        ];
        assert_eq!(columns, wanted);
        assert_eq!(
            TABLE.iter().filter(|row| row.escu.is_some()).count(),
            wanted.len()
        );
    }
}
