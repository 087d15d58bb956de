//! OTLP logs in JSON, made to the form that the library reads.
//!
//! The specification maps protobuf to JSON with a few freedoms that senders use and the library
//! does not know: null stands for the default, an empty list or map may leave out its `values` (the
//! Collector does), bytes come in either alphabet of base64, and doubles may be `"NaN"`.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use serde_json::Value;

/// Reads one request.
///
/// # Errors
/// When the text is no JSON, not of the shape of a request, or more than 127 levels deep.
pub(super) fn read(text: &[u8]) -> serde_json::Result<ExportLogsServiceRequest> {
    let mut value: Value = serde_json::from_slice(text)?;
    normalise(&mut value);
    serde_json::from_value(value)
}

/// Recursion is bounded by the depth that the parser lets through.
fn normalise(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(normalise),
        Value::Object(members) => {
            members.retain(|key, value| match (key.as_str(), value) {
                (_, Value::Null) => false,
                // Text is none of the numbers that matter to us, and JSON has no other way.
                ("doubleValue", Value::String(text)) => {
                    text.parse::<f64>().is_ok_and(f64::is_finite)
                }
                _ => true,
            });
            for (key, value) in members {
                normalise(value);
                match (key.as_str(), value) {
                    ("arrayValue" | "kvlistValue", Value::Object(list)) => {
                        list.entry("values")
                            .or_insert_with(|| Value::Array(Vec::new()));
                    }
                    ("bytesValue", Value::String(text)) => *text = standard_base64(text),
                    ("doubleValue", number) => {
                        if let Some(parsed) =
                            number.as_str().and_then(|text| text.parse::<f64>().ok())
                        {
                            *number = parsed.into();
                        }
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// Either alphabet, with or without padding, in the standard alphabet with padding.
fn standard_base64(text: &str) -> String {
    let mut standard: String = text
        .trim_end_matches('=')
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    standard
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value;

    use super::*;

    /// The value of the one record's body.
    fn body(json: &str) -> Option<any_value::Value> {
        let text = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{json}}}]}}]}}]}}"#
        );
        let request = read(text.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
        request.resource_logs[0].scope_logs[0].log_records[0]
            .body
            .clone()?
            .value
    }

    #[test]
    fn what_senders_leave_out_has_its_default() {
        for empty in [
            "null",
            "{}",
            r#"{"stringValue":null}"#,
            r#"{"doubleValue":"NaN"}"#,
        ] {
            assert_eq!(body(empty), None, "{empty}");
        }
        for (json, values) in [
            (r#"{"arrayValue":{}}"#, 0),
            (r#"{"arrayValue":{"values":null}}"#, 0),
            (r#"{"arrayValue":{"values":[{},{"kvlistValue":{}}]}}"#, 2),
        ] {
            let Some(any_value::Value::ArrayValue(list)) = body(json) else {
                panic!("{json}")
            };
            assert_eq!(list.values.len(), values);
        }
        for text in [
            r#"{"resourceLogs":null}"#,
            r#"{"resourceLogs":[{"resource":null,"scopeLogs":null,"schemaUrl":null}]}"#,
            r#"{"resourceLogs":[{"scopeLogs":[{"scope":null,"logRecords":[{"attributes":null,
                "severityText":null,"timeUnixNano":null,"traceId":null,"flags":null}]}]}]}"#,
        ] {
            assert!(read(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn bytes_come_in_either_alphabet() {
        let wanted = Some(any_value::Value::BytesValue(vec![0xfb, 0xff, 0xfe, 0x01]));
        for text in ["+//+AQ==", "+//+AQ", "-__-AQ==", "-__-AQ"] {
            assert_eq!(
                body(&format!(r#"{{"bytesValue":"{text}"}}"#)),
                wanted,
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_come_as_text_or_number() {
        for text in ["403", r#""403""#] {
            assert_eq!(
                body(&format!(r#"{{"intValue":{text}}}"#)),
                Some(any_value::Value::IntValue(403))
            );
        }
        for text in ["403.5", r#""403.5""#] {
            let wanted = Some(any_value::Value::DoubleValue(403.5));
            assert_eq!(body(&format!(r#"{{"doubleValue":{text}}}"#)), wanted);
        }
    }
}
