//! The page docs/xds.md: what of xDS is spoken, from the .proto files and their comments.
//!
//! In: [`crate::proto::DESCRIPTORS`]. Out: Markdown. Invariant: equal .proto files give an equal page; the page says
//! nothing that they do not say, but for its introduction.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::proto::DESCRIPTORS;

const INTRODUCTION: &str = "\
# xDS as Hawser speaks it

Made from the files in `api/proto` by `cargo xtask docs`; change them, not this page.

Discovery serves Envoy's xDS v3 over one aggregated stream (`StreamAggregatedResources`, state of the world, and
`DeltaAggregatedResources`, delta). This page lists every message and field that it sends and that `hawser-proxy`
understands. What is not listed is not supported: `hawser-proxy` refuses a resource that holds an undeclared field, type
or value, and its NACK names it. Names, numbers and types are Envoy's; a test compares them with the published
descriptors. Two types, `hawser.mesh.v1.Name` and `hawser.mesh.v1.Capture`, are Hawser's own and go to its agents only.

Resource types:

| resource | type URL |
|---|---|
";

/// Packages that are part of xDS; the others are services of our own.
const PACKAGES: [&str; 3] = ["envoy.", "google.rpc", "hawser.mesh."];

/// Top-level resources, in the order of the table.
const RESOURCES: [&str; 7] = [
    crate::names::types::LISTENER,
    crate::names::types::ROUTE,
    crate::names::types::CLUSTER,
    crate::names::types::ENDPOINTS,
    crate::names::types::SECRET,
    crate::names::types::NAME,
    crate::names::types::CAPTURE,
];

/// Numbers by which descriptors name their parts.
mod part {
    pub(super) const FILE_MESSAGES: i32 = 4;
    pub(super) const FILE_ENUMS: i32 = 5;
    pub(super) const MESSAGE_FIELDS: i32 = 2;
    pub(super) const MESSAGE_MESSAGES: i32 = 3;
    pub(super) const MESSAGE_ENUMS: i32 = 4;
    pub(super) const FILE_SYNTAX: i32 = 12;
}

/// The page.
pub fn xds() -> Result<String, prost::DecodeError> {
    let descriptors = FileDescriptorSet::decode(DESCRIPTORS)?;
    let mut files: Vec<&FileDescriptorProto> =
        descriptors.file.iter().filter(|file| PACKAGES.iter().any(|p| file.package().starts_with(p))).collect();
    files.sort_by_key(|file| (file.package(), file.name()));
    let mut text = INTRODUCTION.to_owned();
    for url in RESOURCES {
        let short = url.rsplit('.').next().unwrap_or(url);
        line(&mut text, format_args!("| {short} | `{url}` |"));
    }
    for file in files {
        Page { comments: comments(file), package: file.package() }.file(&mut text, file);
    }
    Ok(text)
}

struct Page<'a> {
    /// Path of a part within its file, to its comment.
    comments: BTreeMap<&'a [i32], String>,
    package: &'a str,
}

impl Page<'_> {
    fn file(&self, text: &mut String, file: &FileDescriptorProto) {
        line(text, format_args!("\n## {}\n", file.package()));
        if let Some(comment) = self.comments.get(&[part::FILE_SYNTAX][..]) {
            line(text, format_args!("{comment}"));
        }
        for (index, message) in (0..).zip(&file.message_type) {
            self.message(text, "", message, &[part::FILE_MESSAGES, index]);
        }
        for (index, enumeration) in (0..).zip(&file.enum_type) {
            self.enumeration(text, "", enumeration, &[part::FILE_ENUMS, index]);
        }
    }

    fn message(&self, text: &mut String, scope: &str, message: &DescriptorProto, path: &[i32]) {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let name = format!("{scope}{}", message.name());
        self.heading(text, &name, path);
        if !message.field.is_empty() {
            text.push_str("\n| number | field | type | |\n|---|---|---|---|\n");
        }
        for (index, field) in (0..).zip(&message.field) {
            let comment = self.comment(&[path, &[part::MESSAGE_FIELDS, index]].concat());
            let ty = self.type_of(field, message);
            line(text, format_args!("| {} | `{}` | {ty} | {comment} |", field.number(), field.name()));
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            self.message(text, &format!("{name}."), nested, &[path, &[part::MESSAGE_MESSAGES, index]].concat());
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            self.enumeration(text, &format!("{name}."), nested, &[path, &[part::MESSAGE_ENUMS, index]].concat());
        }
    }

    fn enumeration(&self, text: &mut String, scope: &str, enumeration: &EnumDescriptorProto, path: &[i32]) {
        self.heading(text, &format!("{scope}{}", enumeration.name()), path);
        let values: Vec<String> =
            enumeration.value.iter().map(|value| format!("`{}` = {}", value.name(), value.number())).collect();
        line(text, format_args!("\n{}", values.join(", ")));
    }

    fn heading(&self, text: &mut String, name: &str, path: &[i32]) {
        line(text, format_args!("\n### {name}"));
        let comment = self.comment(path);
        if !comment.is_empty() {
            line(text, format_args!("\n{comment}"));
        }
    }

    fn comment(&self, path: &[i32]) -> &str {
        self.comments.get(path).map_or("", String::as_str)
    }

    fn type_of(&self, field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
        let entry = message.nested_type.iter().find(|nested| {
            nested.options.as_ref().is_some_and(|options| options.map_entry())
                && field.type_name().rsplit('.').next() == Some(nested.name())
        });
        if let Some([key, value]) = entry.map(|entry| entry.field.as_slice()) {
            return format!("map of {} to {}", self.plain_type(key), self.plain_type(value));
        }
        let ty = self.plain_type(field);
        let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
        let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
        let oneof = oneof.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
        match oneof {
            Some(oneof) => format!("{ty}, one of `{}`", oneof.name()),
            None => format!("{repeated}{ty}"),
        }
    }

    fn plain_type(&self, field: &FieldDescriptorProto) -> String {
        match field.r#type() {
            Type::Message | Type::Enum => {
                let name = field.type_name().trim_start_matches('.');
                let own = name.strip_prefix(self.package).and_then(|rest| rest.strip_prefix('.'));
                own.unwrap_or(name).to_owned()
            }
            other => other.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
        }
    }
}

fn comments(file: &FileDescriptorProto) -> BTreeMap<&[i32], String> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let comment = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    locations
        .filter(|location| location.leading_comments.is_some())
        .map(|location| (location.path.as_slice(), comment(location.leading_comments())))
        .collect()
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{content}");
}
