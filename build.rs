//! Compiles our own schemas with a compiler written in Rust, so that nobody needs protoc.

use std::io::{Error, Result};

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let files =
        protox::compile(["auditwatch/v1/finding.proto"], ["proto"]).map_err(Error::other)?;

    let mut config = prost_build::Config::new();
    config.btree_map(["."]);
    // The JSON form is the proto's own: the field names of the schema, times as RFC 3339, and
    // what has its default left out.
    config.type_attribute(".", "#[derive(serde::Serialize)]");
    for file in files.file.iter().filter(|f| f.package() == "auditwatch.v1") {
        for message in &file.message_type {
            for field in &message.field {
                let time = field.type_name() == ".google.protobuf.Timestamp";
                config.field_attribute(
                    format!("{}.{}.{}", file.package(), message.name(), field.name()),
                    if time {
                        "#[serde(serialize_with = \"super::rfc3339\", skip_serializing_if = \"super::is_default\")]"
                    } else {
                        "#[serde(skip_serializing_if = \"super::is_default\")]"
                    },
                );
            }
        }
    }
    config.compile_fds(files)
}
