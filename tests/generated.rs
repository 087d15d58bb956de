//! The Rust code of `src/proto` is what the schemas of `proto` say. It is checked in so that a
//! build needs neither a protobuf compiler nor the crates that stand in for one.
//!
//! `UPDATE_GENERATED=1 cargo test --test generated` writes it anew. A binary of its own, so that it
//! can be built while other tests cannot.
#![cfg(test)]

use std::{fs, path::Path};

use prost_build::{Config, Module};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

const PACKAGE: &str = "auditwatch.v1";
const FOLDER: &str = "auditwatch/v1";

/// Every file of our package and those they import, compiled, in the order of their names.
fn schemas(proto: &Path) -> Vec<FileDescriptorProto> {
    let entries = fs::read_dir(proto.join(FOLDER)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| format!("{FOLDER}/{name}"))
        .collect();
    names.sort();
    let mut files = protox::compile(&names, [proto]).unwrap().file;
    for name in names {
        let file = files.iter().find(|file| file.name() == name).unwrap();
        assert_eq!(file.package(), PACKAGE, "{name}");
    }
    files.sort_by(|a, b| a.name().cmp(b.name()));
    files
}

fn is_ours(file: &FileDescriptorProto) -> bool {
    file.package() == PACKAGE
}

/// The module that a file becomes: `finding` for `auditwatch/v1/finding.proto`.
fn module(file: &FileDescriptorProto) -> &str {
    let name = file.name().rsplit('/').next().unwrap();
    name.strip_suffix(".proto").unwrap()
}

fn generate(file: &FileDescriptorProto, all: &[FileDescriptorProto]) -> String {
    let mut config = Config::new();
    // Maps are written in the order of their keys, so that equal messages have equal bytes.
    config.btree_map(["."]);
    let others = all.iter().filter(|other| is_ours(other));
    for other in others.filter(|other| other.name() != file.name()) {
        let messages = other.message_type.iter().map(DescriptorProto::name);
        for name in messages.chain(other.enum_type.iter().map(EnumDescriptorProto::name)) {
            config.extern_path(
                format!(".{PACKAGE}.{name}"),
                format!("crate::proto::{}::{name}", module(other)),
            );
        }
    }
    if module(file) == "finding" {
        config.type_attribute(
            ".",
            "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]",
        );
        for message in &file.message_type {
            json_form(&mut config, PACKAGE, message);
        }
    }
    let key = Module::from_protobuf_package_name(module(file));
    // What is imported is only looked at.
    let requests = all.iter().map(|each| {
        let imported = Module::from_protobuf_package_name("imported");
        let key = if each.name() == file.name() {
            key.clone()
        } else {
            imported
        };
        (key, each.clone())
    });
    let mut modules = config.generate(requests.collect()).unwrap();
    format!(
        "//! Generated from proto/{}, do not edit: UPDATE_GENERATED=1 cargo test --test generated\n{}",
        file.name(),
        modules.remove(&key).unwrap()
    )
}

/// The JSON form is the schema's own: its field names, times as RFC 3339, and what has its default
/// left out.
fn json_form(config: &mut Config, parent: &str, message: &DescriptorProto) {
    let path = format!("{parent}.{}", message.name());
    for field in &message.field {
        let time = field.type_name() == ".google.protobuf.Timestamp";
        config.field_attribute(
            format!("{path}.{}", field.name()),
            if time {
                "#[serde(serialize_with = \"crate::proto::rfc3339\", deserialize_with = \"crate::proto::from_rfc3339\", skip_serializing_if = \"crate::proto::is_default\")]"
            } else {
                "#[serde(skip_serializing_if = \"crate::proto::is_default\")]"
            },
        );
    }
    for nested in &message.nested_type {
        json_form(config, &path, nested);
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a switch of the test, not a setting of the program"
)]
fn the_code_is_what_the_schemas_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("src/proto");
    let files = schemas(&root.join("proto"));
    let update = std::env::var_os("UPDATE_GENERATED").is_some();
    let mut wanted = Vec::new();
    for file in files.iter().filter(|file| is_ours(file)) {
        let name = format!("{}.rs", module(file));
        let code = generate(file, &files);
        if update {
            fs::write(folder.join(&name), code).unwrap();
        } else {
            let kept = fs::read_to_string(folder.join(&name)).unwrap_or_default();
            assert!(
                kept == code,
                "src/proto/{name} is not what proto/{} says: \
                 run UPDATE_GENERATED=1 cargo test --test generated",
                file.name()
            );
        }
        wanted.push(name);
    }
    let mut kept: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, wanted, "src/proto holds a file without a schema");
}
