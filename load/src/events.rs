//! Audit events: most as API servers log them all day, some of unauthenticated clients.
//!
//! Their sizes are those of real logs: half of them have up to 1.5 KB, one in a hundred has more than
//! 3.7 KB. The same scenario makes the same events in each run.

use std::{collections::BTreeMap, net::Ipv4Addr};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use crate::scenario::Scenario;

/// Sizes of events in bytes, by the share of events that are smaller.
const SIZES: [(f64, f64); 6] = [
    (0.0, 750.0),
    (0.1, 950.0),
    (0.5, 1500.0),
    (0.9, 2400.0),
    (0.99, 3700.0),
    (1.0, 8000.0),
];

/// Requests of an address within an hour above which it is found.
const THRESHOLD: u64 = 5;
/// Events of one second of the log.
const A_SECOND: u64 = 2000;

/// Where events come from.
pub(crate) struct Source {
    random: SmallRng,
    scenario: Scenario,
    next: u64,
    /// Requests of each address.
    refused: BTreeMap<Ipv4Addr, u64>,
}

impl Source {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            random: SmallRng::seed_from_u64(7),
            scenario: *scenario,
            next: 0,
            refused: BTreeMap::new(),
        }
    }

    /// The addresses that are to be found, with their requests.
    pub(crate) fn expected(&self) -> BTreeMap<Ipv4Addr, u64> {
        let refused = self.refused.iter();
        let found = refused.filter(|(_, count)| **count > THRESHOLD);
        found.map(|(address, count)| (*address, *count)).collect()
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Value {
        let number = self.next;
        self.next += 1;
        if self.random.random_bool(self.scenario.hits) {
            return self.refused(number);
        }
        self.allowed(number)
    }

    /// An event under the next number of one address, whatever the share of such.
    pub(crate) fn of(&mut self, address: Ipv4Addr) -> Value {
        self.next += 1;
        self.probe(self.next - 1, address)
    }

    fn refused(&mut self, number: u64) -> Value {
        let address = match self.scenario.addresses {
            // Scattered, as addresses of a botnet are: hardly two in one /24.
            0 => {
                let nth = u32::try_from(number & 0xffff_ffff).unwrap_or_default();
                Ipv4Addr::from_bits((16 << 24) + nth.wrapping_mul(2_654_435_761) % (1 << 29))
            }
            // Each in a /24 of its own.
            many => {
                let at = self.random.random_range(0..many);
                Ipv4Addr::from_bits(0xc612_0000 + (at << 8) + 7)
            }
        };
        self.probe(number, address)
    }

    fn probe(&mut self, number: u64, address: Ipv4Addr) -> Value {
        *self.refused.entry(address).or_default() += 1;
        let resource = self.one_of(["secrets", "pods", "configmaps", "nodes"]);
        let uri = format!("/api/v1/{resource}?limit=500&continue={number}");
        let message = format!(
            "{resource} is forbidden: User \"system:anonymous\" cannot list resource \"{resource}\" in API group \"\" at the cluster scope"
        );
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
            "auditID": self.id(), "stage": "ResponseComplete", "requestURI": uri, "verb": "list",
            "user": {"username": "system:anonymous", "groups": ["system:unauthenticated"]},
            "sourceIPs": [address.to_string()], "userAgent": "python-requests/2.32.3",
            "objectRef": {"resource": resource, "apiVersion": "v1"},
            "responseStatus": {
                "metadata": {}, "status": "Failure", "message": message, "reason": "Forbidden",
                "details": {"kind": resource}, "code": 403
            },
            "requestReceivedTimestamp": time(number, 0), "stageTimestamp": time(number, 900),
            "annotations": {"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""}
        })
    }

    fn allowed(&mut self, number: u64) -> Value {
        let size = self.size();
        let namespace = self.one_of(["default", "kube-system", "monitoring", "shop"]);
        let (node, pod) = (
            self.random.random_range(0..64),
            self.random.random_range(0..4000),
        );
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request",
            "auditID": self.id(), "stage": "ResponseComplete",
            "requestURI": format!("/api/v1/namespaces/{namespace}/pods/web-{pod}/status?fieldManager=kubelet"),
            "verb": "patch",
            "user": {
                "username": format!("system:node:worker-{node}"),
                "groups": ["system:nodes", "system:authenticated"]
            },
            "sourceIPs": [format!("10.0.{}.{node}", node % 16)],
            "userAgent": "kubelet/v1.33.2 (linux/amd64) kubernetes/a57b6f7",
            "objectRef": {
                "resource": "pods", "namespace": namespace, "name": format!("web-{pod}"),
                "apiVersion": "v1", "subresource": "status"
            },
            "responseStatus": {"metadata": {}, "code": 200},
            "requestReceivedTimestamp": time(number, 0), "stageTimestamp": time(number, 4512),
            "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""}
        });
        let missing = size.saturating_sub(event.to_string().len());
        if let (61.., Some(event)) = (missing, event.as_object_mut()) {
            let status = json!({"conditions": self.conditions(missing - 40)});
            event.insert("requestObject".to_owned(), json!({"status": status}));
        }
        event
    }

    /// Conditions of a pod, until they have at least this many bytes.
    fn conditions(&mut self, bytes: usize) -> Vec<Value> {
        const KINDS: [&str; 5] = [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ];
        let (mut all, mut taken) = (Vec::new(), 0);
        while taken < bytes {
            let one = json!({
                "lastProbeTime": null, "lastTransitionTime": "2026-11-25T10:00:00Z", "status": "True",
                "type": KINDS.get(all.len() % KINDS.len()),
                "message": format!("containers with ready status: [web-{:x}]", self.random.random::<u32>())
            });
            taken += one.to_string().len() + 1;
            all.push(one);
        }
        all
    }

    /// A size from [`SIZES`].
    fn size(&mut self) -> usize {
        let share: f64 = self.random.random();
        let of = SIZES.windows(2).find_map(|pair| {
            let [(from, least), (to, most)] = pair else {
                return None;
            };
            (share <= *to).then(|| least + (share - from) / (to - from) * (most - least))
        });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small size"
        )]
        let size = of.unwrap_or(1500.0) as usize;
        size
    }

    fn one_of<T: Copy + Default>(&mut self, all: [T; 4]) -> T {
        all.choose(&mut self.random).copied().unwrap_or_default()
    }

    fn id(&mut self) -> String {
        let bits: u128 = self.random.random();
        let text = format!("{bits:032x}");
        let parts =
            [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| text.get(part).unwrap_or_default());
        parts.join("-")
    }
}

/// The time of an event by its number, and microseconds after that.
fn time(number: u64, micros: u64) -> String {
    let second = number / A_SECOND;
    let micros = number % A_SECOND * (1_000_000 / A_SECOND) / 2 + micros;
    let (hour, minute) = (7 + second / 3600, second / 60 % 60);
    format!(
        "2026-11-25T{hour:02}:{minute:02}:{:02}.{micros:06}Z",
        second % 60
    )
}
