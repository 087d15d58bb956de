//! The prefilter never says no to an event that a rule matches, however the event is spelled.

use auditwatch::{
    detection::{json, limits::Bounds},
    rules::Scratch,
};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{event, hits, j, loaded, rule};
use crate::support::json::Noise;

fn field() -> impl Strategy<Value = String> {
    select(vec![
        "verb: create",
        "verb: [list, get]",
        "verb|contains: rea",
        "objectRef.resource: secrets",
        "objectRef.resource|startswith: sec",
        "objectRef.subresource|exists: true",
        "objectRef.subresource: null",
        "requestURI|contains: '/exec?command'",
        "requestURI|endswith: '&x=1'",
        "requestURI: '*/namespaces/*/secrets*'",
        "user.username|startswith: 'system:'",
        "user.groups: system:unauthenticated",
        "responseStatus.code: [401, 403]",
        "responseStatus.code: 200",
        "responseStatus.code|gte: 400",
        "requestObject.spec.hostPID: true",
        "requestObject.spec.volumes[].hostPath.path|startswith: /etc",
        "requestObject.spec.replicas: '3'",
        "annotations.team/owner: Kelvin",
        "userAgent|re: 'curl|wget'",
        "sourceIPs|cidr: 10.0.0.0/8",
        "impersonatedUser.username|exists: true",
    ])
    .prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    let fields = || {
        vec(field(), 1..4).prop_map(|mut fields| {
            fields.sort();
            fields.dedup_by(|a, b| a.split(':').next() == b.split(':').next());
            fields
        })
    };
    let condition = select(vec![
        "a and b",
        "a or b",
        "a and not b",
        "not a",
        "1 of them",
        "2 of them",
        "a",
    ]);
    (fields(), fields(), condition).prop_map(|(a, b, condition)| {
        let of = |name: &str, fields: &[String]| {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| format!("        {field}"))
                .collect();
            format!("    {name}:\n{}", fields.join("\n"))
        };
        rule(&format!("{}\n{}", of("a", &a), of("b", &b)), condition)
    })
}

fn audit_event() -> impl Strategy<Value = serde_json::Value> {
    let change = (
        select(vec!["create", "LIST", "get", "x"]),
        select(vec!["secrets", "SECRETS", "pods", "sec"]),
        prop::option::of(select(vec!["exec", "status"])),
        select(vec![
            "/api/v1/namespaces/a/secrets/b",
            "/p/exec?command=sh&x=1",
            "/EXEC?COMMAND",
            "/",
        ]),
        select(vec!["system:anonymous", "jane", ""]),
        select(vec![200, 401, 403, 500]),
        select(vec!["curl/8", "kubectl"]),
        any::<[bool; 4]>(),
    );
    change.prop_map(|(verb, resource, sub, uri, user, code, agent, flags)| {
        let mut change = serde_json::json!({
            "verb": verb, "requestURI": uri, "userAgent": agent,
            "objectRef": {"resource": resource, "subresource": sub},
            "user": {"username": user, "groups": ["system:unauthenticated"]},
            "responseStatus": {"code": code},
            "annotations": {"team/owner": if flags[0] { "kelvin" } else { "\u{212a}elvin" }},
            "requestObject": {"spec": {"hostPID": flags[1], "replicas": 3,
                "volumes": [{"hostPath": {"path": "/ETC/x"}}]}},
        });
        if flags[2] {
            change["user"]["groups"] = serde_json::json!(["a"]);
        }
        if flags[3] {
            change["impersonatedUser"] = serde_json::json!({"username": "root"});
        }
        event(change)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_prefilter_never_misses(
        texts in vec(text(), 1..4),
        event in audit_event(),
        seed in any::<u64>(),
        as_map in any::<bool>(),
    ) {
        let detections: Vec<_> = texts.iter().flat_map(|text| loaded(text).detections()).collect();
        let event = j(&event);
        let plain = event.spell(&mut Noise::new(0));
        let parsed = match json::read(&plain, "requestReceivedTimestamp").unwrap() {
            json::Document::Event(event) => *event,
            other => panic!("{other:?}"),
        };
        let mut wanted = 0;
        for detection in &detections {
            parsed.hits(detection, &mut Scratch::default(), &Bounds::NONE, &mut |_| wanted += 1);
        }
        prop_assert_eq!(hits(&detections, &event, as_map, seed), wanted);
    }
}
