//! Each error in a rule names its place, the reason, and what to write instead; all are reported at once.

use auditwatch::{detection::rule::Rule, rules::load};
use proptest::prelude::*;

use super::rule;

fn problems(text: &str) -> Vec<String> {
    match load::load_text("r.yaml", text, &Rule::default()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// A rule of one field.
fn of(field: &str) -> String {
    rule(&format!("    sel:\n        {field}"), "sel")
}

fn correlation(body: &str) -> String {
    format!(
        "{}---\ntitle: C\nid: 22222222-2222-4333-8444-555555555555\nlevel: low\ncorrelation:\n{body}\n",
        rule("    sel:\n        verb: get", "sel")
    )
}

/// A field of a selection, and what is wrong with it.
const FIELDS: &[(&str, &str)] = &[
    (
        "verb|base64: x",
        "r.yaml:7:9: \"verb|base64\": the modifier base64 is not supported, audit events hold plain \
             text: write the text itself",
    ),
    (
        "verb|windash: x",
        "r.yaml:7:9: \"verb|windash\": the modifier windash is not supported, it is for command \
             lines of Windows: list the spellings",
    ),
    (
        "verb|startwith: x",
        "r.yaml:7:9: \"verb|startwith\": no modifier is named \"startwith\", did you mean startswith?",
    ),
    (
        "verb|re: '(?=x)'",
        "r.yaml:7:18: \"verb|re\": no regular expression: look-around, including look-ahead and \
             look-behind, is not supported (linear time: no look-around, no backreferences)",
    ),
    (
        "verb|re: 'x{5000}{5000}'",
        "r.yaml:7:18: \"verb|re\": it needs more than 1 MiB when it is compiled: write a shorter one, \
             or several rules",
    ),
    (
        "sourceIPs|cidr: 10.0.0.1/8",
        "r.yaml:7:25: \"sourceIPs|cidr\": no network: 10.0.0.1/8 has bits set behind the prefix, did \
             you mean 10.0.0.0/8?",
    ),
    (
        "responseStatus.code|gt: many",
        "r.yaml:7:33: \"responseStatus.code|gt\": expected a number, found \"many\"",
    ),
    (
        "verb|exists: maybe",
        "r.yaml:7:22: exists takes true or false",
    ),
    (
        "user.groups{}: x",
        "r.yaml:7:9: \"user.groups{}\" is no path: {} is Splunk's spelling of a list: write [] or \
             nothing, which is any element",
    ),
    (
        "a[0].b: x",
        "r.yaml:7:9: \"a[0].b\" is no path: it names one element of a list: write [] or nothing, \
             which is any element",
    ),
    (
        "objectRef: {resource: pods}",
        "r.yaml:7:20: \"objectRef\": a map is no value: write the path of the field, such as \
             objectRef.resource",
    ),
    (
        "verb: []",
        "r.yaml:7:15: \"verb\": the list is empty, name a value",
    ),
    (
        "cluster: prod",
        "r.yaml:7:9: cluster is no field of an event: it is always part of the group",
    ),
    (
        "source.adress: x",
        "r.yaml:7:9: no derived field is named \"source.adress\", did you mean source.address?",
    ),
    (
        "verb|expand: '%verbs%'",
        "r.yaml:7:22: no parameter verbs: write it under custom: parameters:",
    ),
    (
        "verb|contains|startswith: x",
        "r.yaml:7:9: \"verb|contains|startswith\": contains, startswith and endswith exclude each other",
    ),
    (
        "verb|contains: ''",
        "r.yaml:7:24: \"verb|contains\": an empty text is part of every text: write a text, or \
             exists: true",
    ),
];

#[test]
fn fields_and_modifiers() {
    for (field, wanted) in FIELDS {
        assert_eq!(problems(&of(field)), [*wanted], "{field}");
    }
}

#[test]
fn conditions() {
    for (condition, wanted) in [
        (
            "sel | count() > 5",
            "an aggregation behind | is Sigma 1: count in a correlation (type: event_count or value_count)",
        ),
        ("sle", "no selection is named \"sle\", did you mean sel?"),
        ("sel and", "ends where the name of a selection is expected"),
        ("(sel", "a parenthesis is not closed"),
        (
            "sel)",
            "a closing parenthesis without an opening one: remove it",
        ),
        ("1 of filter_*", "no selection is named \"filter_*\""),
        (
            "sel near sel",
            "near is Sigma 1: write a correlation of type temporal over two rules",
        ),
        ("sel sel", "expected and, or, or the end, found \"sel\""),
        ("sel*", "sel*: write 1 of sel* or all of sel*"),
        ("2 of sel*", "2 of sel*: there are only 1 of them"),
    ] {
        let text = rule("    sel:\n        verb: get", condition);
        assert_eq!(
            problems(&text),
            [format!("r.yaml:8:16: condition: {wanted}")],
            "{condition}"
        );
    }
    let deep = format!("{}sel{}", "(".repeat(5000), ")".repeat(5000));
    let long = problems(&rule("    sel:\n        verb: get", &deep));
    assert!(long[0].contains("is longer than 8192 bytes"), "{long:?}");
    let deep = format!("{}sel", "not ".repeat(500));
    let deep = problems(&rule("    sel:\n        verb: get", &deep));
    assert!(deep[0].contains("more than 64 parentheses"), "{deep:?}");
}

#[test]
fn documents() {
    let good = of("verb: get");
    for (text, wanted) in [
        (
            good.replace("id: 11", "id: x1"),
            "r.yaml:2:1: id: \"x1111111-2222-4333-8444-555555555555\" is no UUID: write one such as \
             929a690e-bef0-4204-a928-ef5e620d6fcc",
        ),
        (
            good.replace("level: low", "level: urgent"),
            "r.yaml:3:8: level: expected informational, low, medium, high or critical, found \"urgent\"",
        ),
        (
            good.replace("kubernetes", "windows"),
            "r.yaml:4:22: logsource: product: only audit events of Kubernetes are read: write product: \
             kubernetes",
        ),
        (
            good.replace("level:", "levle:"),
            "r.yaml:3:1: a rule: unknown key \"levle\", did you mean level?",
        ),
        (
            good.replace("title: T\n", ""),
            "r.yaml:1:1: title is missing: write what the rule finds",
        ),
        (
            good.replace("    condition: sel\n", ""),
            "r.yaml:6:5: detection: condition is missing: write condition: selection",
        ),
        (
            good.replace("    condition", "    timeframe: 5m\n    condition"),
            "r.yaml:8:5: timeframe is Sigma 1: write a correlation with timespan",
        ),
        (
            rule("    sel:\n        - word", "sel"),
            "r.yaml:7:11: keywords search a whole event, which is not supported: name the field, such as \
             requestURI|contains",
        ),
        (
            format!("{good}custom:\n    windows: 1h\n"),
            "r.yaml:10:5: custom: unknown key \"windows\", did you mean window?",
        ),
        (
            format!("{good}custom:\n    score: 200\n"),
            "r.yaml:10:12: score: expected a whole number from 0 to 100",
        ),
        (
            format!("{good}custom:\n    window_offset: 5m\n"),
            "r.yaml:10:5: window_offset is for window: tumbling: add that, or remove it",
        ),
        (
            format!("{good}---\n{}", good.replace("title: T", "title: U")),
            "r.yaml:11:5: \"11111111-2222-4333-8444-555555555555\" is the id, name or title of another \
             rule: each rule needs its own",
        ),
        (
            "title: F\nfilter: {rules: any}\n".to_owned(),
            "r.yaml:2:1: filters are not supported: write the exception into the rule's condition",
        ),
        (
            "action: global\n".to_owned(),
            "r.yaml:1:1: rule collections with action are not supported: write each rule whole",
        ),
        (String::new(), "r.yaml:1:1: no rule is in this file"),
        (
            "title: [\n".to_owned(),
            "r.yaml:2:1: not valid YAML: while parsing a node, did not find expected node content",
        ),
    ] {
        assert_eq!(problems(&text), [wanted], "{text}");
    }
}

#[test]
fn correlations() {
    for (body, wanted) in [
        (
            "    type: event_count\n    rules: [T]\n    timespan: 1h\n    condition: {lt: 5}",
            "r.yaml:17:17: condition: lt would be so before the window ends: write gt or gte",
        ),
        (
            "    type: temporal_ordered\n    rules: [T]\n    timespan: 1h",
            "r.yaml:14:11: type: temporal_ordered is not supported, events arrive in any order: write \
             temporal",
        ),
        (
            "    type: event_count\n    rules: [X]\n    timespan: 1h\n    condition: {gt: 5}",
            "r.yaml:15:13: rules: no rule is named \"X\": load it with this file, by name, id or title",
        ),
        (
            "    type: event_count\n    rules: [C]\n    timespan: 1h\n    condition: {gt: 5}",
            "r.yaml:15:13: rules: \"C\" is a correlation: name the rules that it counts",
        ),
        (
            "    type: event_count\n    rules: [T]\n    timespan: 1M\n    condition: {gt: 5}",
            "r.yaml:16:15: timespan: 1M: months and years have no fixed length, write days, such as 30d",
        ),
        (
            "    type: value_count\n    rules: [T]\n    timespan: 1h\n    condition: {gt: 5}",
            "r.yaml:17:16: condition: field is missing: name whose values count",
        ),
        (
            "    type: event_count\n    rules: [T]\n    timespan: 1h\n    condition: {gte: 0}",
            "r.yaml:17:22: condition: expected a whole number, for gte at least 1",
        ),
        (
            "    type: event_count\n    rules: [T]\n    timespan: 1h\n    condition: {gt: 1}\n    \
             group-by: [x]\n    aliases: {x: {Z: verb}}",
            "r.yaml:19:22: aliases: x: \"Z\" is no rule of this correlation",
        ),
    ] {
        assert_eq!(problems(&correlation(body)), [wanted], "{body}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let text = of("verb|base64: x").replace("level: low", "level: x") + "custom: {scor: 1}\n";
    assert_eq!(problems(&text).len(), 3, "{:?}", problems(&text));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A hostile file is refused or loaded; it does neither panic nor hang.
    #[test]
    fn hostile_files_do_no_harm(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "title: T\n", "id: x\n", "detection:\n", "  sel:\n", "    verb: get\n", "    - a\n",
            "  condition: sel\n", "  condition: not (1 of them) and\n", "logsource: {product: kubernetes}\n",
            "correlation:\n", "  type: event_count\n", "  rules: [T]\n", "---\n", "custom:\n",
            "  parameters: {a: [1]}\n", "  tests: {match: [{}]}\n", "&a [*a]\n", "*a\n", "{", "}", "[", "]",
            "'", "\"", "%a%", "\u{0}", "é", "  timespan: 99999999999h\n", "    verb|re: '('\n",
            "    verb|expand: '%a%'\n", "    'a.b|fieldref|all': c\n",
        ]), 0..25),
    ) {
        let _problems = problems(&pieces.concat());
    }
}

/// A rule whose `custom` has these lines, the first of them on line 10.
fn labelled(custom: &str) -> Vec<String> {
    problems(&format!(
        "{}custom:\n{custom}\n",
        rule("    sel:\n        verb: get", "sel")
    ))
}

/// The one label of a rule, and what is wrong with it.
const LABELS: &[(&str, &str)] = &[
    (
        "kind: tool, title: T, match: {verb: get}",
        "r.yaml:11:7: labels: name is missing: write one such as reads_secrets",
    ),
    (
        "name: a-b, kind: tool, title: T, match: {verb: get}",
        "r.yaml:11:14: name: \"a-b\" is no name: use letters, digits and _",
    ),
    (
        "name: a, kind: tol, title: T, match: {verb: get}",
        "r.yaml:11:23: kind: expected behaviour, shape, tool or benign, found \"tol\"",
    ),
    (
        "name: a, kind: behaviour, title: T, severity: sever, match: {verb: get}",
        "r.yaml:11:54: severity: expected informational, low, medium, high or critical, found \"sever\"",
    ),
    (
        "name: a, kind: tool, title: T, severity: low, match: {verb: get}",
        "r.yaml:11:49: severity: a tool has none, a user agent is a claim of the client: remove it",
    ),
    (
        "name: a, kind: tool, title: T",
        "r.yaml:11:7: labels: match is missing: write a selection, a condition over custom: \
         selections:, or for a shape a bound such as min_paths",
    ),
    (
        "name: a, kind: tool, title: T, match: nothing",
        "r.yaml:11:46: match: no selection is named \"nothing\"",
    ),
    (
        "name: a, kind: shape, title: T, min_paths: 0",
        "r.yaml:11:51: min_paths: expected a whole number, at least 1",
    ),
    (
        "name: a, kind: shape, title: T, severity: low, max_paths: 2",
        "r.yaml:11:55: labels: with an upper bound, more requests would lower the severity: remove \
         the bound or the severity",
    ),
    (
        "name: a, kind: benign, title: T, match: {verb: get}, max_paths: 2",
        "r.yaml:11:7: labels: a benign cause needs max_paths and max_user_agents, else a scan hides \
         behind it",
    ),
    (
        "name: a, kind: benign, title: T, match: {verb: get}, max_paths: 2, max_user_agents: 1, min_paths: 1",
        "r.yaml:11:95: labels: a benign cause has upper bounds alone, else more requests would lower \
         the severity: remove it",
    ),
    (
        "name: a, kind: benign, title: T, match: {verb: get}, max_paths: 2, max_user_agents: 1, explains: b",
        "r.yaml:11:105: explains: no label is named \"b\"",
    ),
    (
        "name: a, kind: benign, title: T, join: audit",
        "r.yaml:11:47: join: expected audit_id, found \"audit\"",
    ),
    (
        "name: a, kind: benign, title: T, join: audit_id",
        "r.yaml:11:47: join: is for a correlation with type: event_count and group-by: source.address \
         that counts each request once: remove it",
    ),
    (
        "name: a, kind: tool, title: T, match: {verb: get}, macth: x",
        "r.yaml:11:59: labels: unknown key \"macth\", did you mean match?",
    ),
];

#[test]
fn labels() {
    for (label, wanted) in LABELS {
        let found = labelled(&format!("  labels:\n    - {{{label}}}"));
        assert_eq!(found, [*wanted], "{label}");
    }
    let good = "{name: a, kind: tool, title: T, match: {verb: get}}";
    assert_eq!(labelled(&format!("  labels:\n    - {good}")), [""; 0]);
    assert_eq!(
        labelled(&format!("  labels:\n    - {good}\n    - {good}")),
        ["r.yaml:12:14: labels: the name \"a\" is given twice"]
    );
    assert_eq!(
        labelled(&format!("  score: 7\n  labels:\n    - {good}")),
        ["r.yaml:11:3: labels decide the score: remove score"]
    );
    assert_eq!(
        labelled(&format!("  window: tumbling 1h\n  labels:\n    - {good}")),
        ["r.yaml:11:3: labels are for window: session: remove them, or window: tumbling"]
    );
    assert_eq!(
        labelled("  selections:\n    a: {verb: get}"),
        ["r.yaml:11:5: selections are for labels: add labels, or remove them"]
    );
    let many: Vec<_> = (0..65)
        .map(|at| format!("    - {{name: a{at}, kind: tool, title: T, match: {{verb: get}}}}\n"))
        .collect();
    let many = many.concat();
    let found = labelled(&format!("  labels:\n{many}"));
    assert_eq!(
        found,
        ["r.yaml:11:5: labels: more than 64: join some of them"]
    );
}

#[test]
fn what_a_test_expects() {
    let label = "  labels:\n    - {name: a, kind: tool, title: T, match: {verb: get}}\n";
    for (tests, wanted) in [
        (
            "match:\n      - {events: [{verb: get}], expect: {severity: lo}}",
            "r.yaml:14:52: severity: expected informational, low, medium, high or critical, found \"lo\"",
        ),
        (
            "match:\n      - {events: [{verb: get}], expect: {labels: [b]}}",
            "r.yaml:14:51: expect: no label is named \"b\"",
        ),
        (
            "no_match:\n      - {events: [{verb: list}], expect: {labels: [a]}}",
            "r.yaml:14:42: expect is for match, no_match makes no finding: remove it",
        ),
        (
            "match:\n      - {events: {verb: get}}",
            "r.yaml:14:18: events: expected a list",
        ),
    ] {
        let found = labelled(&format!("{label}  tests:\n    {tests}"));
        assert_eq!(found, [wanted], "{tests}");
    }
}
