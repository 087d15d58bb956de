//! Labels evaluated together are labels evaluated one by one.

use std::sync::Arc;

use proptest::prelude::*;

use crate::{
    audit::json,
    rules::{
        Scratch, load,
        model::{Detection, LabelSet},
        predicate::Context,
        settings::Rule,
    },
};

/// Labels one by one, by their conditions alone.
fn one_by_one(detection: &Detection, event: &str) -> LabelSet {
    let event = json::one(event.as_bytes(), "t").unwrap().unwrap();
    let mut labels = LabelSet::default();
    for (place, label) in detection.labels.iter().enumerate() {
        let mut scratch = Scratch::default();
        let mut context = Context {
            event: &event,
            hops: &detection.hops,
            scratch: &mut scratch,
        };
        if label.condition.holds(&mut context) {
            labels.insert(place);
        }
    }
    labels
}

fn together(detection: &Detection, event: &str) -> LabelSet {
    let event = json::one(event.as_bytes(), "t").unwrap().unwrap();
    detection.labels_of(&event, &mut Scratch::default())
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/",
        "api",
        "v1",
        "secrets",
        "/secrets",
        "healthz",
        "readyz",
        "pods",
        "exec",
        "?",
        "watch=true",
        "..",
        "%2e%2e",
        ".env",
        "curl/8",
        "kubectl/v1",
        "zgrab",
        "Mozilla/",
        "PYTHON",
        "ß",
        "K",
        "\u{212a}",
        "é",
        "\n",
        "",
        "apis/rbac.authorization.k8s.io/v1/roles",
        "/metrics",
        "/version",
        "kube-public/configmaps/cluster-info",
    ]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn event() -> impl Strategy<Value = String> {
    let verb = prop::sample::select(vec!["get", "list", "watch", "create", "delete", ""]);
    let agent = prop::option::of(text());
    let resource = prop::option::of(prop::sample::select(vec![
        "secrets",
        "pods",
        "selfsubjectreviews",
    ]));
    let code = prop::sample::select(vec![401, 403]);
    let source = prop::sample::select(vec!["127.0.0.1", "203.0.113.7", "::1"]);
    (verb, text(), agent, resource, code, source).prop_map(
        |(verb, uri, agent, resource, code, source)| {
            serde_json::json!({
                "verb": verb, "requestURI": uri, "userAgent": agent, "sourceIPs": [source],
                "objectRef": {"resource": resource, "subresource": resource.map(|_| "exec")},
                "responseStatus": {"code": code}, "user": {},
            })
            .to_string()
        },
    )
}

const FLAGS: &str = r"title: T
id: 11111111-2222-4333-8444-555555555555
level: low
logsource: {product: kubernetes, service: audit}
detection:
  s: {verb: get}
  condition: s
custom:
  labels:
    - {name: a, kind: tool, title: A, match: {userAgent|re: '^curl'}}
    - {name: b, kind: tool, title: B, match: {userAgent|re|i: '^CURL'}}
    - {name: c, kind: tool, title: C, match: {userAgent|re|m: '^k'}}
    - {name: d, kind: tool, title: D, match: {userAgent|re|s: 'é.*'}}
    - {name: e, kind: tool, title: E, match: {userAgent|contains: [ß, K]}}
    - {name: f, kind: tool, title: F, match: {userAgent|cased|contains: K}}
    - {name: g, kind: tool, title: G, match: {userAgent|startswith|neq: curl}}
    - {name: h, kind: tool, title: H, match: {userAgent: [null, 'curl/8']}}
    - {name: i, kind: tool, title: I, match: {userAgent|contains|all: [curl, k]}}
";

proptest! {
    /// Evaluating all labels together is evaluating each by itself.
    #[test]
    fn together_is_one_by_one(events in prop::collection::vec(event(), 1..8)) {
        use std::sync::OnceLock;
        static DETECTIONS: OnceLock<Vec<Arc<Detection>>> = OnceLock::new();
        let detections = DETECTIONS.get_or_init(|| {
            let flags = load::load_text("t.yaml", FLAGS, &Rule::default()).unwrap();
            let mut all = flags.detections();
            all.push(Arc::new(Detection::of(&Rule::default())));
            all
        });
        for detection in detections {
            prop_assert!(detection.labels.len() > 8);
            prop_assert_eq!(detection.labeler.count(), detection.labels.len());
            for event in &events {
                prop_assert_eq!(together(detection, event), one_by_one(detection, event), "{}", event);
            }
        }
    }
}

/// The state on disk names labels by their place: new ones are added at the end of the rule.
#[test]
fn the_places_of_shipped_labels_stay() {
    let detection = Detection::of(&Rule::default());
    let names: Vec<_> = detection
        .labels
        .iter()
        .map(|label| label.name.as_str())
        .collect();
    assert_eq!(
        names,
        "reads_secrets remote_access attempts_writes requests_tokens impersonates \
         guesses_credentials enumerates_resources reads_access_rules asks_for_permissions \
         reads_internals kubelet_paths refused_often watches_secrets discovery many_paths \
         path_traversal rotates_user_agents web_paths one_path one_request_each unusual_methods \
         kube_hunter nuclei zgrab masscan censys other_scanner curl python go kubectl browser \
         no_user_agent api_server_start health_probe kubectl_without_credentials oc_login \
         expired_token metrics_scraper kubeadm_join openid_discovery browser_visit \
         aggregated_api_server"
            .split(' ')
            .collect::<Vec<_>>()
    );
}
