//! Diagnostic logs of AKS, as an Event Hub holds them: `properties.log` is the event, as text or
//! as an object. Its category says that it is one.

use super::{
    node::Node,
    outcome::Reason,
    shape::{Opening, Within},
};

/// Opens one record.
pub(super) fn open(opener: &mut dyn Opening, record: Node<'_>, within: Within<'_>) {
    let (mut properties, mut category, mut time, mut resource) = (None, None, None, None);
    let is_object = record.members(|key, value| match key {
        b"properties" => properties = Some(value),
        b"category" | b"Category" => category = value.short(),
        b"time" => time = value.time(),
        b"resourceId" | b"resourceID" | b"ResourceId" => resource = value.short(),
        _ => {}
    });
    if !is_object {
        opener.node(record, within.deeper());
        return;
    }
    let is_audit = category.as_deref().is_some_and(|category| {
        ["kube-audit", "kube-audit-admin"]
            .iter()
            .any(|one| category.eq_ignore_ascii_case(one))
    });
    if !is_audit {
        opener.outcome().ignore(Reason::Category);
        return;
    }
    let within = Within {
        cluster: resource.as_deref().and_then(cluster).or(within.cluster),
        ..within.deeper().at(time)
    };
    let Some(properties) = properties else {
        opener.outcome().ignore(Reason::NoEvent);
        return;
    };
    match properties.member(b"log") {
        Some(log) => opener.node(log, within),
        // Some forwarders leave them as the text that they were.
        None => opener.node(properties, within),
    }
}

/// The cluster that this resource is.
fn cluster(resource: &str) -> Option<&str> {
    let mut parts = resource.split('/');
    parts.find(|part| part.eq_ignore_ascii_case("managedClusters"))?;
    parts.next().filter(|name| !name.is_empty())
}
