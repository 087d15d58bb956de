//! Cloud Audit Logs of GKE: another schema for the same requests. A gRPC status stands for the
//! status code, the method and the name of the resource for verb and URI, and there are no groups.

use super::{
    node::Node,
    outcome::Reason,
    shape::{Opening, Within},
    written::{self, Object},
};

const ANONYMOUS: &str = "system:anonymous";

/// What of an entry becomes a part of the event.
#[derive(Default)]
struct Entry<'a> {
    time: Option<Node<'a>>,
    insert_id: Option<Node<'a>>,
    operation: Option<Node<'a>>,
    resource: Option<Node<'a>>,
    labels: Option<Node<'a>>,
}

/// What of its payload does.
#[derive(Default)]
struct Payload<'a> {
    service: Option<Node<'a>>,
    method: Option<Node<'a>>,
    name: Option<Node<'a>>,
    status: Option<Node<'a>>,
    principal: Option<Node<'a>>,
    address: Option<Node<'a>>,
    agent: Option<Node<'a>>,
    response: Option<Node<'a>>,
}

pub(super) fn open(
    opener: &mut dyn Opening,
    entry: Node<'_>,
    payload: Node<'_>,
    within: Within<'_>,
) {
    let payload = Payload::read(payload);
    let service = payload.service.and_then(Node::short);
    if service.as_deref().is_some_and(|name| name != "k8s.io") {
        opener.outcome().ignore(Reason::Category);
        return;
    }
    let entry = Entry::read(entry);
    let resource = entry.resource.and_then(|one| one.member(b"labels"));
    let cluster = resource.and_then(|labels| labels.member(b"cluster_name"));
    let cluster = cluster.and_then(Node::short);
    let within = Within {
        cluster: cluster.as_deref().or(within.cluster),
        ..within.at(entry.time.and_then(Node::time))
    };
    let event = written::object(opener.left(), |event| write(event, &entry, &payload));
    opener.written(event, within);
}

impl<'a> Entry<'a> {
    fn read(node: Node<'a>) -> Self {
        let mut entry = Self::default();
        node.members(|key, value| {
            let place = match key {
                b"timestamp" => &mut entry.time,
                b"insertId" => &mut entry.insert_id,
                b"operation" => &mut entry.operation,
                b"resource" => &mut entry.resource,
                b"labels" => &mut entry.labels,
                _ => return,
            };
            *place = Some(value);
        });
        entry
    }
}

impl<'a> Payload<'a> {
    fn read(node: Node<'a>) -> Self {
        let mut payload = Self::default();
        node.members(|key, value| {
            let place = match key {
                b"serviceName" => &mut payload.service,
                b"methodName" => &mut payload.method,
                b"resourceName" => &mut payload.name,
                b"status" => &mut payload.status,
                b"response" => &mut payload.response,
                b"authenticationInfo" => {
                    // Identities of a workload or a workforce pool have no address of mail.
                    let email = value.member(b"principalEmail");
                    payload.principal = email.or_else(|| value.member(b"principalSubject"));
                    return;
                }
                b"requestMetadata" => {
                    payload.address = value.member(b"callerIp");
                    payload.agent = value.member(b"callerSuppliedUserAgent");
                    return;
                }
                _ => return,
            };
            *place = Some(value);
        });
        payload
    }
}

/// Writes the request as an event of audit.k8s.io/v1.
fn write(event: &mut Object<'_>, entry: &Entry<'_>, payload: &Payload<'_>) {
    let id = entry.operation.and_then(|one| one.member(b"id"));
    let method = payload.method.and_then(Node::short).unwrap_or_default();
    let (path, verb) = method.rsplit_once('.').unwrap_or(("", &method));
    let name = payload.name.and_then(Node::short).unwrap_or_default();
    let code = code(payload);
    let principal = payload.principal.and_then(Node::short).unwrap_or_default();
    // A refused request without a principal was made without credentials. One that succeeded may have
    // been made with some that the entry does not show.
    let is_anonymous = principal == ANONYMOUS || principal.is_empty() && code == 403;
    event.text("kind", "Event");
    event.text("apiVersion", "audit.k8s.io/v1");
    event.text("level", "Metadata");
    if let Some(id) = id.or(entry.insert_id) {
        event.node(b"auditID", id);
    }
    event.text("stage", "ResponseComplete");
    let is_resource = path.matches('.').count() > 2;
    event.text("requestURI", &uri(&name, is_resource));
    event.text("verb", verb);
    event.object("user", |user| {
        if is_anonymous {
            user.text("username", ANONYMOUS);
            user.raw("groups", |out| {
                out.push(br#"["system:unauthenticated"]"#);
            });
        } else if !principal.is_empty() {
            user.text("username", &principal);
        }
    });
    event.raw("sourceIPs", |out| {
        out.push(b"[");
        if let Some(address) = payload.address {
            written::node(address, out);
        }
        out.push(b"]");
    });
    if let Some(agent) = payload.agent {
        event.node(b"userAgent", agent);
    }
    if let Some(resource) = path.rsplit('.').next().filter(|_| is_resource) {
        event.object("objectRef", |object| object.text("resource", resource));
    }
    event.object("responseStatus", |status| {
        status.raw("code", |out| {
            out.push(code.to_string().as_bytes());
        });
        status.text("status", if code < 400 { "Success" } else { "Failure" });
        if let Some(reason) = reason(code) {
            status.text("reason", reason);
        }
        if let Some(message) = payload.status.and_then(|one| one.member(b"message")) {
            status.node(b"message", message);
        }
    });
    if let Some(time) = entry.time {
        event.node(b"requestReceivedTimestamp", time);
        event.node(b"stageTimestamp", time);
    }
    if let Some(labels) = entry.labels.filter(|labels| labels.is_object()) {
        event.node(b"annotations", labels);
    }
}

/// The status code: that of the response if it is there, else the one that the gRPC status stands
/// for.
fn code(payload: &Payload<'_>) -> u16 {
    let number = |node: Option<Node<'_>>| -> Option<u16> {
        let text = node?.member(b"code")?.short()?;
        text.parse().ok()
    };
    if let Some(code @ 100..=599) = number(payload.response) {
        return code;
    }
    match number(payload.status).unwrap_or(0) {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        code @ 100..=599 => code,
        _ => 500,
    }
}

fn reason(code: u16) -> Option<&'static str> {
    Some(match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => return None,
    })
}

/// The URI of a resource: `core/v1/...` is below `/api`, another group below `/apis`, and what is
/// no resource is the path itself.
fn uri(name: &str, is_resource: bool) -> String {
    if let Some(rest) = name.strip_prefix("core/") {
        return format!("/api/{rest}");
    }
    if is_resource && !name.is_empty() {
        return format!("/apis/{name}");
    }
    format!("/{}", name.trim_start_matches('/'))
}
