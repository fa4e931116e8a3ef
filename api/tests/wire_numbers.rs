//! Our own packages on the wire: what was said once is never said otherwise.
//!
//! `golden/hawser-fields.txt` lists every field, value and method of `hawser.*`. A line that changes or goes is an
//! error; `HAWSER_BLESS=1` adds new ones and touches nothing else.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::collections::BTreeSet;
use std::path::Path;

use hawser_api::proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

#[test]
fn fields_are_only_ever_added() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hawser-fields.txt");
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let golden: BTreeSet<String> = golden.lines().map(str::to_owned).collect();
    let current = current();

    let gone: Vec<&String> = golden.difference(&current).collect();
    assert!(gone.is_empty(), "changed or removed, which breaks programs of other versions: {gone:#?}");
    let new: Vec<&String> = current.difference(&golden).collect();
    if std::env::var_os("HAWSER_BLESS").is_some() {
        let lines: Vec<&str> = current.iter().map(String::as_str).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        return;
    }
    assert!(new.is_empty(), "new; run with HAWSER_BLESS=1 to take them up: {new:#?}");
}

fn current() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap().file {
        if !file.package().starts_with("hawser.") {
            continue;
        }
        file.message_type.iter().for_each(|message| message_lines(file.package(), message, &mut lines));
        file.enum_type.iter().for_each(|enumeration| enum_lines(file.package(), enumeration, &mut lines));
        for service in &file.service {
            for method in &service.method {
                let stream = |on| if on { "stream " } else { "" };
                lines.insert(format!(
                    "rpc {}.{}/{}({}{}) returns ({}{})",
                    file.package(),
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type(),
                ));
            }
        }
    }
    lines
}

fn message_lines(scope: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let scope = format!("{scope}.{}", message.name());
    for field in &message.field {
        let label = field.label().as_str_name().trim_start_matches("LABEL_").to_ascii_lowercase();
        let ty = match field.type_name() {
            "" => field.r#type().as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
            name => name.to_owned(),
        };
        lines.insert(format!("{scope}.{} = {} {label} {ty}", field.name(), field.number()));
    }
    message.nested_type.iter().for_each(|nested| message_lines(&scope, nested, lines));
    message.enum_type.iter().for_each(|nested| enum_lines(&scope, nested, lines));
}

fn enum_lines(scope: &str, enumeration: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &enumeration.value {
        lines.insert(format!("{scope}.{}.{} = {}", enumeration.name(), value.name(), value.number()));
    }
}
