//! What a subscription of AWS delivers: `logEvents`, each with a time and a message. EKS
//! names the log group `/aws/eks/CLUSTER/cluster`.

use super::{
    node::Node,
    outcome::Reason,
    shape::{Opening, Within},
    survey::Survey,
};

pub(super) fn open(
    opener: &mut dyn Opening,
    survey: &Survey<'_>,
    events: Node<'_>,
    within: Within<'_>,
) {
    let message_type = survey.message_type.and_then(Node::short);
    if message_type.as_deref() == Some("CONTROL_MESSAGE") {
        opener.outcome().ignore(Reason::Control);
        return;
    }
    let group = survey.log_group.and_then(Node::short);
    let within = Within {
        cluster: group.as_deref().and_then(cluster).or(within.cluster),
        ..within
    };
    events.elements(|event| {
        let (mut message, mut time) = (None, None);
        event.members(|key, value| match key {
            b"message" => message = Some(value),
            b"timestamp" => time = value.time(),
            _ => {}
        });
        match message {
            Some(message) => opener.node(message, within.deeper().at(time)),
            None => opener.outcome().ignore(Reason::NoEvent),
        }
    });
}

/// The cluster whose log group this is.
fn cluster(group: &str) -> Option<&str> {
    let name = group.strip_prefix("/aws/eks/")?.strip_suffix("/cluster")?;
    (!name.is_empty()).then_some(name)
}
