//! The metadata of a rule or correlation, and its log source.

use super::{
    custom::Custom,
    reader::{Map, Reader, quoted},
};
use crate::{rules::model::Annotations, yaml::Mark};

/// Metadata keys of any document.
pub(super) const HEAD: [&str; 19] = [
    "title",
    "id",
    "name",
    "taxonomy",
    "status",
    "description",
    "license",
    "references",
    "author",
    "date",
    "modified",
    "tags",
    "falsepositives",
    "level",
    "related",
    "scope",
    "fields",
    "regression_tests_path",
    "simulation",
];

const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
const STATUSES: [&str; 5] = [
    "stable",
    "test",
    "experimental",
    "deprecated",
    "unsupported",
];

impl<'d> Reader<'d> {
    pub(super) fn annotations(&self, map: &Map<'d, '_>, custom: &Custom) -> Annotations {
        let mut out = Annotations {
            title: map.text("title").unwrap_or_default(),
            name: map.text("name").unwrap_or_default(),
            description: map
                .text("description")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            version: custom.version.clone().unwrap_or_default(),
            search: custom.drilldown.clone().unwrap_or_default(),
            technique: custom.attack_technique.clone().unwrap_or_default(),
            ..Annotations::default()
        };
        if map.get("title").is_none() {
            self.fail(map.mark, "title is missing: write what the rule finds");
        } else if out.title.chars().count() > 256 {
            let mark = map.mark_of("title").unwrap_or(map.mark);
            self.fail(mark, "title: is longer than 256 characters");
        }
        self.check_id(map, &mut out);
        let level = map.word("level", &LEVELS).unwrap_or_else(|| {
            if map.get("level").is_none() {
                self.warn(map.mark, "no level: low is taken");
            }
            "low"
        });
        level.clone_into(&mut out.level);
        out.score = custom.score.unwrap_or(match level {
            "informational" => 0,
            "medium" => 40,
            "high" => 60,
            "critical" => 80,
            _ => 20,
        });
        out.message = custom.message.clone().unwrap_or_else(|| out.title.clone());
        map.word("status", &STATUSES);
        for key in ["date", "modified"] {
            if let Some(node) = map.get(key)
                && let Some(text) = self.text(node, key)
                && !is_date(&text)
            {
                self.fail(
                    node.mark,
                    format!(
                        "{key}: expected a date such as 2026-01-31, found {}",
                        quoted(&text)
                    ),
                );
            }
        }
        out.false_positives = map
            .texts("falsepositives")
            .into_iter()
            .map(|(text, _)| text)
            .collect();
        out.references = map
            .texts("references")
            .into_iter()
            .map(|(text, _)| text)
            .collect();
        for (tag, mark) in map.texts("tags") {
            self.tag(&tag, mark, &mut out);
        }
        out
    }

    fn check_id(&self, map: &Map<'d, '_>, out: &mut Annotations) {
        let Some(id) = map.text("id") else {
            if map.get("id").is_none() && out.name.is_empty() {
                self.warn(
                    map.mark,
                    "no id: findings name the title instead, which may change",
                );
            }
            out.id = if out.name.is_empty() {
                out.title.clone()
            } else {
                out.name.clone()
            };
            return;
        };
        if !is_uuid(&id) {
            let mark = map.mark_of("id").unwrap_or(map.mark);
            self.fail(
                mark,
                format!(
                    "id: {} is no UUID: write one such as 929a690e-bef0-4204-a928-ef5e620d6fcc",
                    quoted(&id)
                ),
            );
        }
        out.id = id.to_ascii_lowercase();
    }

    /// `attack.t1046` is a technique, `attack.discovery` a tactic; other tags are passed over.
    fn tag(&self, tag: &str, mark: Mark, out: &mut Annotations) {
        let Some((space, name)) = tag.split_once('.') else {
            self.fail(
                mark,
                format!(
                    "tags: {} has no namespace: write attack.t1046 or attack.discovery",
                    quoted(tag)
                ),
            );
            return;
        };
        if space != "attack" {
            return;
        }
        let mut letters = name.chars();
        match (letters.next(), letters.next()) {
            (Some('t' | 'T'), Some(digit)) if digit.is_ascii_digit() => {
                out.techniques.push(name.to_ascii_uppercase());
                if out.technique_id.is_empty() {
                    out.technique_id = name.to_ascii_uppercase();
                }
            }
            (Some('g' | 's' | 'G' | 'S'), Some(digit)) if digit.is_ascii_digit() => {}
            _ => {
                let words = name.split(['-', '_']).map(|word| match word {
                    "and" | "or" | "of" => word.to_owned(),
                    word => {
                        let mut letters = word.chars();
                        let first = letters.next().map(|c| c.to_ascii_uppercase());
                        first.into_iter().chain(letters).collect()
                    }
                });
                let tactic = words.collect::<Vec<String>>().join(" ");
                if out.tactic.is_empty() {
                    out.tactic.clone_from(&tactic);
                }
                out.tactics.push(tactic);
            }
        }
    }

    pub(super) fn logsource(&self, map: &Map<'d, '_>) {
        let Some(node) = map.get("logsource") else {
            self.fail(
                map.mark,
                "logsource is missing: write {product: kubernetes, service: audit}",
            );
            return;
        };
        let known = ["product", "service", "category", "definition"];
        let Some(source) = self.map(node, "logsource", &known) else {
            return;
        };
        for (key, wanted, is_needed) in [
            ("product", "kubernetes", true),
            ("service", "audit", true),
            ("category", "application", false),
        ] {
            let Some(node) = source.get(key) else {
                if is_needed {
                    self.fail(
                        source.mark,
                        format!("logsource: {key} is missing: write {key}: {wanted}"),
                    );
                }
                continue;
            };
            if self.text(node, key).is_some_and(|text| text != wanted) {
                self.fail(
                    node.mark,
                    format!(
                        "logsource: {key}: only audit events of Kubernetes are read: write {key}: \
                         {wanted}"
                    ),
                );
            }
        }
    }
}

/// 8-4-4-4-12 hex digits.
fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    lengths.iter().all(|length| {
        parts.next().is_some_and(|part| {
            part.len() == *length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }) && parts.next().is_none()
}

fn is_date(text: &str) -> bool {
    let text = text.replace('/', "-");
    text.parse::<jiff::civil::Date>().is_ok()
}
