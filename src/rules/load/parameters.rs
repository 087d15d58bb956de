//! The settings of the detection of scans as parameters of its rule files.

use super::reader::Typed;
use crate::rules::settings::{Rule, Semantics};

/// The Splunk search for the events that these settings count, in the words of the ESCU search.
/// A native finding leads to all activity of its source instead.
pub(super) fn search(settings: &Rule) -> String {
    match settings.semantics {
        Semantics::Native => String::new(),
        Semantics::Escu => {
            let codes: Vec<_> = settings
                .wanted_codes()
                .iter()
                .map(|code| format!(r#""responseStatus.code"={code}"#))
                .collect();
            let codes = match codes.as_slice() {
                [code] => code.clone(),
                codes => format!("({})", codes.join(" OR ")),
            };
            format!(r#"`kube_audit` "user.groups{{}}"="system:unauthenticated" {codes}"#)
        }
    }
}

/// The settings that are parameters of the detection of scans.
pub(super) fn settings(settings: &Rule) -> Vec<(&'static str, Vec<Typed>)> {
    let number = |number: u64| {
        let text = number.to_string();
        #[expect(clippy::cast_precision_loss, reason = "the spelling is what is read")]
        let value = number as f64;
        Typed::Number(value, text)
    };
    let length = |micros: i64| vec![Typed::Text(format!("{micros}us"))];
    let word = |word: String| vec![Typed::Text(word)];
    let mut all = vec![
        ("threshold", vec![number(settings.threshold)]),
        ("window", length(settings.window)),
        ("lateness", length(settings.lateness)),
    ];
    match settings.semantics {
        Semantics::Native => {
            let codes = settings.codes.iter().map(|code| number(u64::from(*code)));
            all.push(("codes", codes.collect()));
            all.push(("who", word(settings.who.to_string())));
        }
        Semantics::Escu => {
            // The same windows, whatever the sign of the offset.
            let offset = settings.window_offset.rem_euclid(settings.window.max(1));
            all.push(("window_offset", length(offset)));
            all.push(("missing_city", word(settings.missing_city.to_string())));
        }
    }
    all
}
