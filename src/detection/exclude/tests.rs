//! Which requests each condition excludes, until when, and for what.

use super::*;
use crate::{
    audit::json,
    detection::{limits::Bounds, rule::Rule},
    rules::load,
};

fn wildcards(patterns: &[&str]) -> Vec<Wildcard> {
    let patterns = patterns.iter().map(|text| Wildcard::new(text).unwrap());
    patterns.collect()
}

fn nets(nets: &[&str]) -> Vec<IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

/// A refused request with these members in place of others.
fn event(change: &serde_json::Value) -> String {
    let mut event = serde_json::json!({
        "auditID": "a", "verb": "get", "requestURI": "/healthz?verbose=1",
        "user": {"username": "system:anonymous", "groups": ["system:unauthenticated"]},
        "sourceIPs": ["192.0.2.7", "10.0.0.5"], "userAgent": "kube-probe/1.32",
        "responseStatus": {"code": 403},
        "requestReceivedTimestamp": "2026-11-25T07:17:03.000000Z",
    });
    let members = event.as_object_mut().unwrap();
    for (key, value) in change.as_object().unwrap() {
        members.insert(key.clone(), value.clone());
    }
    event.to_string()
}

/// What the exclusions make of the first hit of an event.
fn marked(exclusions: &[Exclusion], detections: &[Arc<Detection>], event: &str) -> Hit {
    let exclusions = Exclusions::new(exclusions, detections).unwrap();
    let event = json::one(event.as_bytes(), "requestReceivedTimestamp");
    let event = event.unwrap().unwrap();
    let mut marked = Vec::new();
    for (place, detection) in (0..).zip(detections) {
        let mut scratch = Scratch::default();
        event.hits(detection, &mut scratch, &Bounds::NONE, &mut |mut hit| {
            hit.detection = place;
            exclusions.mark(&event, detection, &mut hit);
            let named = exclusions.matching(
                &event,
                detection,
                &Hit {
                    excluded: None,
                    ..hit.clone()
                },
            );
            let place = hit.excluded.map(usize::from);
            let wanted = place.and_then(|place| exclusions.names().nth(place));
            assert_eq!(named.map(|one| one.name.as_str()), wanted);
            marked.push(hit);
        });
    }
    marked.remove(0)
}

fn is_excluded(exclusion: &Exclusion, change: &serde_json::Value) -> bool {
    let detections = load::scans(&Rule::default());
    let hit = marked(std::slice::from_ref(exclusion), &detections, &event(change));
    hit.excluded.is_some()
}

#[test]
fn each_condition_must_hold_and_one_of_its_values() {
    let nothing = serde_json::json!({});
    let named = Exclusion::default;
    let conditions = [
        (
            Exclusion {
                cidr: nets(&["10.0.0.0/28"]),
                ..named()
            },
            true,
        ),
        // The client claims that one.
        (
            Exclusion {
                cidr: nets(&["192.0.2.0/24"]),
                ..named()
            },
            false,
        ),
        (
            Exclusion {
                cidr: nets(&["192.0.2.0/24", "10.0.0.5/32"]),
                ..named()
            },
            true,
        ),
        (
            Exclusion {
                path: wildcards(&["/healthz"]),
                ..named()
            },
            true,
        ),
        (
            Exclusion {
                path: wildcards(&["/livez", "/healthz*"]),
                ..named()
            },
            true,
        ),
        (
            Exclusion {
                path: wildcards(&["/health?"]),
                ..named()
            },
            true,
        ),
        (
            Exclusion {
                path: wildcards(&["/health\\?"]),
                ..named()
            },
            false,
        ),
        (
            Exclusion {
                path: wildcards(&["/Healthz"]),
                ..named()
            },
            false,
        ),
        (
            Exclusion {
                path: wildcards(&["healthz"]),
                ..named()
            },
            false,
        ),
        (
            Exclusion {
                path: wildcards(&["*verbose*"]),
                ..named()
            },
            false,
        ),
        (
            Exclusion {
                user_agent: wildcards(&["kube-probe/*"]),
                ..named()
            },
            true,
        ),
        (
            Exclusion {
                user_agent: wildcards(&["Kube-probe/*"]),
                ..named()
            },
            false,
        ),
        (
            Exclusion {
                user_agent: wildcards(&["curl/*", ""]),
                ..named()
            },
            false,
        ),
        (
            Exclusion {
                user: wildcards(&["system:*"]),
                ..named()
            },
            true,
        ),
        (
            Exclusion {
                user: wildcards(&["system:node:*", ""]),
                ..named()
            },
            false,
        ),
        (
            Exclusion {
                code: vec![401, 403],
                ..named()
            },
            true,
        ),
        (
            Exclusion {
                code: vec![401],
                ..named()
            },
            false,
        ),
    ];
    for (exclusion, wanted) in &conditions {
        assert!(exclusion.has_condition());
        assert_eq!(is_excluded(exclusion, &nothing), *wanted, "{exclusion:?}");
    }
    // Any two of them together: both have to hold.
    for (one, first) in &conditions {
        for (other, second) in &conditions {
            let both = Exclusion {
                cidr: [one, other]
                    .into_iter()
                    .flat_map(|of| of.cidr.clone())
                    .collect(),
                path: one.path.clone(),
                user_agent: other.user_agent.clone(),
                user: one.user.clone(),
                code: other.code.clone(),
                ..named()
            };
            let is_lost = (!one.cidr.is_empty() && !other.cidr.is_empty())
                || !one.user_agent.is_empty()
                || !one.code.is_empty()
                || !other.path.is_empty()
                || !other.user.is_empty();
            if !is_lost {
                assert_eq!(is_excluded(&both, &nothing), *first && *second, "{both:?}");
            }
        }
    }
}

#[test]
fn what_is_absent_is_like_an_empty_pattern_alone() {
    let absent = serde_json::json!({
        "userAgent": null, "user": {}, "responseStatus": {"code": 401},
    });
    let agent = |pattern: &str| Exclusion {
        user_agent: wildcards(&[pattern]),
        ..Exclusion::default()
    };
    let user = |pattern: &str| Exclusion {
        user: wildcards(&[pattern]),
        ..Exclusion::default()
    };
    assert!(is_excluded(&agent(""), &absent) && is_excluded(&user(""), &absent));
    assert!(is_excluded(&agent("*"), &absent) && is_excluded(&user("*"), &absent));
    assert!(!is_excluded(&agent("?*"), &absent) && !is_excluded(&user("a*"), &absent));
    let path = Exclusion {
        path: wildcards(&["*"]),
        ..Exclusion::default()
    };
    assert!(!is_excluded(
        &path,
        &serde_json::json!({"requestURI": null})
    ));
}

/// A path that a server may read as another one is not excluded by what it looks like.
#[test]
fn a_path_that_is_not_plain_is_not_excluded() {
    let exclusion = Exclusion {
        path: wildcards(&["/healthz*", "/"]),
        ..Exclusion::default()
    };
    for (path, wanted) in [
        ("/healthz", true),
        ("/healthz/", true),
        ("/", true),
        ("/healthz/etcd?x=/../", true),
        ("/healthz.old", true),
        ("/healthz/../api/v1/secrets", false),
        ("/healthz/./", false),
        ("/healthz/..", false),
        ("/healthz//api/v1/secrets", false),
        ("/healthz/%2e%2e/api/v1/secrets", false),
        ("/healthz;x", false),
        ("/healthz\\..\\api", false),
        ("/healthz\u{0}", false),
        ("//healthz", false),
        ("https://a/healthz", false),
    ] {
        let change = serde_json::json!({ "requestURI": path });
        assert_eq!(is_excluded(&exclusion, &change), wanted, "{path}");
    }
    // Nor is one that is too long for any probe: its end is not looked at.
    let long = format!("/healthz{}", "x".repeat(MOST_BYTES));
    let change = serde_json::json!({ "requestURI": long, "userAgent": long });
    assert!(!is_excluded(&exclusion, &change));
    let agent = Exclusion {
        user_agent: wildcards(&["/healthz*"]),
        ..Exclusion::default()
    };
    assert!(!is_excluded(&agent, &change));
}

#[test]
fn the_address_counts_not_the_network_that_is_the_key() {
    let rule = Rule {
        ipv6_prefix: 64,
        trusted_proxies: nets(&["10.0.0.0/8"]),
        ..Rule::default()
    };
    let exclusion = Exclusion {
        cidr: nets(&["2001:db8::7/128"]),
        ..Exclusion::default()
    };
    for (sources, wanted) in [
        (&["2001:db8::7", "10.0.0.1"], true),
        (&["2001:db8::8", "10.0.0.1"], false),
        (&["2001:db8::7", "203.0.113.1"], false),
        (&["nonsense", "10.0.0.1"], false),
    ] {
        let event = event(&serde_json::json!({ "sourceIPs": sources }));
        let hit = marked(
            std::slice::from_ref(&exclusion),
            &load::scans(&rule),
            &event,
        );
        assert_eq!(hit.excluded.is_some(), wanted, "{sources:?}");
    }
}

#[test]
fn it_expires_by_the_time_of_the_request() {
    let exclusion = Exclusion {
        name: "old".to_owned(),
        code: vec![403],
        cidr: nets(&["10.0.0.5/32"]),
        expires: Micros::parse("2026-11-25T07:17:03Z"),
        ..Exclusion::default()
    };
    for (time, wanted) in [
        ("2026-11-25T07:17:02.999999Z", true),
        ("2026-11-25T07:17:03.000000Z", false),
        ("2027-11-25T07:17:03.000000Z", false),
    ] {
        let change = serde_json::json!({ "requestReceivedTimestamp": time });
        assert_eq!(is_excluded(&exclusion, &change), wanted, "{time}");
        let now = Micros::parse(time).unwrap();
        let warnings = exclusion.warnings(now);
        assert_eq!(warnings.is_empty(), wanted, "{warnings:?}");
        if !wanted {
            assert!(warnings[0].contains("\"old\" has expired on 2026-11-25T07:17:03"));
        }
    }
}

/// Success and forgery are excluded only where they are named.
#[test]
fn an_exclusion_applies_to_what_it_names() {
    let names = ["anonymous_success", "pod_exec"].map(str::to_owned);
    let switches = crate::rules::switches::Switches::default();
    let detections = load::pipeline(&Rule::default(), &switches, &names).unwrap();
    let success = event(&serde_json::json!({
        "requestURI": "/metrics", "responseStatus": {"code": 200},
    }));
    let exec = event(&serde_json::json!({
        "verb": "create", "requestURI": "/api/v1/namespaces/a/pods/b/exec",
        "user": {"username": "jane", "groups": ["system:authenticated"]},
        "objectRef": {"resource": "pods", "subresource": "exec", "namespace": "a", "name": "b"},
        "responseStatus": {"code": 101},
    }));
    let scan = event(&serde_json::json!({}));
    // What is excluded of a scan, a success, an exec; and of a scan for forgery.
    for (applies_to, wanted) in [
        (&[] as &[&str], [true, false, false, false]),
        (&["scanning"], [true, false, false, false]),
        (&["success"], [false, true, false, false]),
        (&["forgery"], [false, false, false, true]),
        (&["scanning", "forgery"], [true, false, false, true]),
        (&["pod_exec"], [false, false, true, false]),
        (&["scanning", "success", "forgery", "pod_exec"], [true; 4]),
    ] {
        let exclusion = Exclusion {
            cidr: nets(&["10.0.0.0/8"]),
            applies_to: applies_to
                .iter()
                .map(|name| name.parse().unwrap())
                .collect(),
            ..Exclusion::default()
        };
        let hits = [&scan, &success, &exec]
            .map(|event| marked(std::slice::from_ref(&exclusion), &detections, event));
        let excluded = hits.each_ref().map(|hit| hit.excluded.is_some());
        let forgery = hits[0].is_excluded_from_forgery;
        assert_eq!(
            [excluded[0], excluded[1], excluded[2], forgery],
            wanted,
            "{applies_to:?}"
        );
    }
    // A success of a watched address is no match of a rule.
    for (target, wanted) in [(Target::Scanning, false), (Target::Success, true)] {
        let exclusion = Exclusion {
            cidr: nets(&["10.0.0.0/8"]),
            applies_to: vec![target],
            ..Exclusion::default()
        };
        let exclusions = Exclusions::new(&[exclusion], &detections).unwrap();
        let event = json::one(success.as_bytes(), "t").unwrap().unwrap();
        let mut hit = Hit {
            role: Role::Success,
            ..Hit::default()
        };
        exclusions.mark(&event, &detections[0], &mut hit);
        assert_eq!(hit.excluded.is_some(), wanted);
    }
    let unknown = Exclusion {
        name: "a".to_owned(),
        applies_to: vec!["pod_exce".parse().unwrap()],
        ..Exclusion::default()
    };
    let error = Exclusions::new(&[unknown], &detections).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"pod_exce\", and this processor runs no such")
    );
}

/// Where 401 counts apart, an exclusion for scans is for both detections.
#[test]
fn both_detections_of_scans_are_excluded() {
    let detections = load::scans(&Rule {
        threshold_401: Some(30),
        ..Rule::default()
    });
    assert_eq!(detections.len(), 2);
    let exclusion = Exclusion {
        cidr: nets(&["10.0.0.5/32"]),
        ..Exclusion::default()
    };
    for (code, place) in [(403, 0), (401, 1)] {
        let event = event(&serde_json::json!({ "responseStatus": {"code": code} }));
        let hit = marked(std::slice::from_ref(&exclusion), &detections, &event);
        assert_eq!((hit.detection, hit.excluded), (place, Some(0)));
    }
}

#[test]
fn the_first_of_several_is_named_and_forgery_is_that_of_all() {
    let one = |name: &str, applies_to: &[Target]| Exclusion {
        name: name.to_owned(),
        code: vec![403],
        applies_to: applies_to.to_vec(),
        ..Exclusion::default()
    };
    let all = [
        one("a", &[Target::Success]),
        one("b", &[Target::Scanning]),
        one("c", &[Target::Scanning, Target::Forgery]),
    ];
    let detections = load::scans(&Rule::default());
    let hit = marked(&all, &detections, &event(&serde_json::json!({})));
    assert_eq!(
        (hit.excluded, hit.is_excluded_from_forgery),
        (Some(1), true)
    );
}

#[test]
fn what_is_a_way_around_the_detection_is_warned_about() {
    type Change<'c> = &'c dyn Fn(&mut Exclusion);
    let of = |change: &dyn Fn(&mut Exclusion)| {
        let mut exclusion = Exclusion {
            name: "a".to_owned(),
            ..Exclusion::default()
        };
        change(&mut exclusion);
        exclusion.warnings(Micros(0)).join("\n")
    };
    let warned: [(Change<'_>, &str); 9] = [
        (
            &|one| one.cidr = nets(&["0.0.0.0/0"]),
            "excludes every request",
        ),
        (
            &|one| one.cidr = nets(&["0.0.0.0/1", "128.0.0.0/1"]),
            "excludes every request",
        ),
        (
            &|one| one.path = wildcards(&["/healthz", "*"]),
            "excludes every request",
        ),
        (
            &|one| one.path = wildcards(&["/*"]),
            "excludes every request",
        ),
        (
            &|one| one.user = wildcards(&["**"]),
            "excludes every request",
        ),
        (
            &|one| one.user_agent = wildcards(&["kube-probe/*"]),
            "any client can write",
        ),
        (
            &|one| one.user = wildcards(&["system:anonymous"]),
            "no scan is found",
        ),
        (&|one| one.user = wildcards(&[""]), "no scan is found"),
        (&|one| one.code = vec![401], "goes by code alone"),
    ];
    for (change, wanted) in warned {
        assert!(of(change).contains(wanted), "{wanted}: {:?}", of(change));
    }
    let fine: [Change<'_>; 4] = [
        &|one| one.cidr = nets(&["10.0.0.0/8"]),
        &|one| one.path = wildcards(&["/healthz"]),
        &|one| {
            one.user_agent = wildcards(&["*"]);
            one.cidr = nets(&["10.0.0.0/8"]);
        },
        &|one| one.user = wildcards(&["system:serviceaccount:*"]),
    ];
    for change in fine {
        assert_eq!(of(change), "");
    }
}
