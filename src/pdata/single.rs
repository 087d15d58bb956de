//! A request with one record, written around a text that came by another protocol.

use super::schema;

/// The bytes of an `ExportLogsServiceRequest` with one record, whose body is this text, in a
/// resource with the name of a cluster, if it has one.
pub fn record_of(body: &[u8], cluster: &str) -> Vec<u8> {
    // From the inside out: each message is a field of the next one.
    let value = length(body.len()) + body.len();
    let record = length(value) + value;
    let scope = length(record) + record;
    let name = named(cluster);
    let resource = length(scope) + scope + name.len();
    let mut out = Vec::with_capacity(length(resource) + resource);
    begin(&mut out, schema::RESOURCE_LOGS, resource);
    out.extend_from_slice(&name);
    begin(&mut out, schema::SCOPE_LOGS, scope);
    begin(&mut out, schema::LOG_RECORDS, record);
    begin(&mut out, schema::BODY, value);
    begin(&mut out, schema::STRING, body.len());
    out.extend_from_slice(body);
    out
}

/// The field `resource` with its one attribute.
fn named(cluster: &str) -> Vec<u8> {
    const KEY: &[u8] = b"k8s.cluster.name";
    let mut out = Vec::new();
    if cluster.is_empty() {
        return out;
    }
    let text = length(cluster.len()) + cluster.len();
    let pair = length(KEY.len()) + KEY.len() + length(text) + text;
    let attribute = length(pair) + pair;
    begin(&mut out, schema::RESOURCE, attribute);
    begin(&mut out, schema::RESOURCE_ATTRIBUTES, pair);
    begin(&mut out, schema::KEY, KEY.len());
    out.extend_from_slice(KEY);
    begin(&mut out, schema::VALUE, text);
    begin(&mut out, schema::STRING, cluster.len());
    out.extend_from_slice(cluster.as_bytes());
    out
}

/// Bytes of the tag and the length of a field: all numbers of these fields take one byte.
fn length(of: usize) -> usize {
    let mut bytes = 2;
    let mut rest = of >> 7;
    while rest > 0 {
        rest >>= 7;
        bytes += 1;
    }
    bytes
}

fn begin(out: &mut Vec<u8>, field: u32, length: usize) {
    const BYTES: u32 = 2;
    out.push(u8::try_from(field << 3 | BYTES).unwrap_or_default());
    let mut rest = length;
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use prost::Message as _;

    use super::*;

    #[test]
    fn it_is_a_request_of_otlp() {
        for (length, cluster) in [(0, ""), (1, "a"), (127, "b"), (128, "prod"), (70_000, "")] {
            let body = "x".repeat(length);
            let request = record_of(body.as_bytes(), cluster);
            assert_eq!(request.len(), request.capacity());
            let request = ExportLogsServiceRequest::decode(&request[..]).unwrap();
            let [logs] = &request.resource_logs[..] else {
                panic!("{request:?}")
            };
            let record = &logs.scope_logs[0].log_records[0];
            let shown = format!("{:?}", record.body);
            assert!(shown.contains(&format!("\"{body}\"")), "{length}");
            let resource = format!("{:?}", logs.resource);
            assert_eq!(
                resource.contains(&format!("\"{cluster}\"")),
                !cluster.is_empty()
            );
        }
    }
}
