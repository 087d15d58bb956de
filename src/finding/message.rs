//! The line for people: the message of a rule, with values of the finding in it.

use serde_json::Value;

use super::{
    Finding,
    summary::{self, UNKNOWN},
};
use crate::audit::fields;

/// Values of one list that are named.
const MOST_VALUES: usize = 3;
/// Characters of a message.
const MOST: usize = 2048;

/// The reason of a finding whose rule has no labels.
const UNASSESSED: &str = "the level of the rule";

/// The template of a rule, in which `$name$` is a field of the finding: one that requests are
/// grouped by (`$user.username$`), one of `finding.proto` (`$src_ip$`, `$count$`,
/// `$severity_reasons$`; of labels their names), the strongest reason of the severity
/// (`$severity_reason$`), what an analyst has to know in sentences (`$summary$`), the number of
/// distinct values of a list of it (`$distinct.paths$`), or a field of the audit event that is
/// evidence (`$verb$`, `$objectRef.resource$`). A name that is none of these stays as it is, and so
/// does a lone `$`.
///
/// Whoever sent the requests has written the values: in the message, nothing in them acts on a
/// terminal or hides. The message is cut, save that of an escu row, which is that of the search.
pub(crate) fn render(template: &str, finding: &Finding) -> String {
    let mut text = String::with_capacity(template.len());
    // Made only for names that need it.
    let mut form = None;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        let named = after.split_once('$').and_then(|(name, after)| {
            if name == "summary" {
                // Its sentences have bounds of their own.
                return Some((summary::summary(finding), after));
            }
            let value = value(name, finding, &mut form)?;
            Some((shown(name, &value, finding), after))
        });
        if let Some((value, behind)) = named {
            text.push_str(&value);
            rest = behind;
        } else {
            text.push('$');
            rest = after;
        }
    }
    text.push_str(rest);
    if !finding.is_row()
        && let Some((end, _)) = text.char_indices().nth(MOST)
    {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// A value as it stands in the message.
fn shown(name: &str, value: &str, finding: &Finding) -> String {
    if finding.is_row() {
        return summary::own(value, usize::MAX);
    }
    let most = summary::MOST_IN_MESSAGE;
    match name {
        "severity_reason" | "severity_reasons" | "labels" => summary::own(value, most),
        _ => summary::value(value, most),
    }
}

/// The value of a name; `None` when it names no field.
fn value(name: &str, finding: &Finding, form: &mut Option<Value>) -> Option<String> {
    match name {
        "src_ip" => return Some(finding.src_ip.clone()),
        "cluster" if finding.cluster.is_empty() => return Some(UNKNOWN.to_owned()),
        "cluster" => return Some(finding.cluster.clone()),
        // The strongest of them is the first.
        "severity_reason" => {
            let reason = finding.severity_reasons.first();
            return Some(reason.map_or_else(|| UNASSESSED.to_owned(), Clone::clone));
        }
        "labels" => {
            let names: Vec<_> = finding.labels.iter().map(|label| &label.name).collect();
            return Some(several(&names));
        }
        "severity_reasons" => return Some(finding.severity_reasons.join("; ")),
        _ => {}
    }
    if let Some(list) = name.strip_prefix("distinct.") {
        let is_list = fields::TABLE.iter().any(|row| row.list == Some(list));
        let count = finding.distinct.get(list).copied().unwrap_or_default();
        return is_list.then(|| count.to_string());
    }
    if let Some(group) = finding.group_by.iter().find(|group| group.name == name) {
        return Some(group.value.clone().unwrap_or_default());
    }
    let is_row = |row: &&fields::Row| row.path == name || row.column == Some(name);
    if let Some(row) = fields::TABLE.iter().find(is_row) {
        return finding.list(row.field).map(|values| several(values));
    }
    let form = form.get_or_insert_with(|| serde_json::to_value(finding).unwrap_or_default());
    match form.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(values) => {
            let texts: Vec<_> = values.iter().filter_map(Value::as_str).collect();
            Some(several(&texts))
        }
        other => Some(other.to_string()),
    }
}

/// The first values, and how many more there are.
fn several(values: &[impl AsRef<str>]) -> String {
    let shown: Vec<_> = values.iter().take(MOST_VALUES).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    match values.len().saturating_sub(MOST_VALUES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{GroupValue, Label};

    fn label(name: &str) -> Label {
        Label {
            name: name.to_owned(),
            ..Label::default()
        }
    }

    #[test]
    fn names_between_dollars_are_values() {
        let finding = Finding {
            src_ip: "192.0.2.1".to_owned(),
            rule_name: "A rule".to_owned(),
            count: 7,
            verbs: ["create", "delete", "get", "list", "watch"]
                .map(str::to_owned)
                .to_vec(),
            resources: vec!["secrets".to_owned()],
            distinct: [("paths".to_owned(), 300)].into(),
            labels: ["curl", "probe"].map(label).to_vec(),
            severity_reasons: ["3 secrets", "2 writes"].map(str::to_owned).to_vec(),
            group_by: vec![GroupValue {
                name: "user.username".to_owned(),
                value: Some("$count$".to_owned()),
            }],
            ..Finding::default()
        };
        for (template, wanted) in [
            (
                "Kubernetes scanning from ip $src_ip$",
                "Kubernetes scanning from ip 192.0.2.1",
            ),
            (
                "$rule_name$: $count$ by $user.username$",
                "A rule: 7 by $count$",
            ),
            (
                "$verb$ of $objectRef.resource$",
                "create, delete, get and 2 more of secrets",
            ),
            ("$verbs$", "create, delete, get and 2 more"),
            (
                "$5 and $nothing$ in $cluster$.",
                "$5 and $nothing$ in unknown.",
            ),
            (
                "$count$ requests for $distinct.paths$ paths, $distinct.verbs$, $distinct.x$",
                "7 requests for 300 paths, 0, $distinct.x$",
            ),
            (
                "$labels$: $severity_reasons$ ($severity_reason$)",
                "curl, probe: 3 secrets; 2 writes (3 secrets)",
            ),
            ("$", "$"),
            ("", ""),
        ] {
            assert_eq!(render(template, &finding), wanted, "{template}");
        }
    }
}
