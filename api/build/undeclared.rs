//! The table of declared messages, as Rust source: what `undeclared` holds bytes against.
//!
//! In: descriptors. Out: `&[Message]`, sorted by name; fields sorted by number. Invariant: equal descriptors give
//! equal text.

use std::collections::BTreeMap;
use std::fmt::Write;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Renders the table.
pub(crate) fn render(descriptors: &FileDescriptorSet) -> Result<String, Box<dyn std::error::Error>> {
    let mut found = Found::default();
    for file in &descriptors.file {
        let scope = format!(".{}", file.package());
        file.message_type.iter().for_each(|m| found.message(&scope, m));
        file.enum_type.iter().for_each(|e| found.enumeration(&scope, e));
    }
    let index: BTreeMap<&str, usize> = found.messages.keys().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let mut text = String::from("static MESSAGES: &[Message] = &[\n");
    for (name, message) in &found.messages {
        writeln!(text, "    Message {{ name: {:?}, fields: &[", name.trim_start_matches('.'))?;
        let mut fields: Vec<&FieldDescriptorProto> = message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        for field in fields {
            let (number, name) = (field.number(), field.name());
            let repeated = field.label() == Label::Repeated;
            let kind = kind(field, &index, &found.enums).ok_or_else(|| format!("{name}: unknown type"))?;
            writeln!(
                text,
                "        Field {{ number: {number}, name: {name:?}, repeated: {repeated}, kind: {kind} }},"
            )?;
        }
        text.push_str("    ] },\n");
    }
    text.push_str("];\n");
    Ok(text)
}

#[derive(Default)]
struct Found<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
}

impl<'a> Found<'a> {
    fn message(&mut self, scope: &str, message: &'a DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        message.nested_type.iter().for_each(|m| self.message(&name, m));
        message.enum_type.iter().for_each(|e| self.enumeration(&name, e));
        self.messages.insert(name, message);
    }

    fn enumeration(&mut self, scope: &str, enumeration: &'a EnumDescriptorProto) {
        self.enums.insert(format!("{scope}.{}", enumeration.name()), enumeration);
    }
}

fn kind(
    field: &FieldDescriptorProto,
    messages: &BTreeMap<&str, usize>,
    enums: &BTreeMap<String, &EnumDescriptorProto>,
) -> Option<String> {
    Some(match field.r#type() {
        Type::Message if field.type_name() == ".google.protobuf.Any" => "Kind::Any".to_owned(),
        Type::Message => format!("Kind::Message({})", messages.get(field.type_name())?),
        Type::Enum => {
            let mut numbers: Vec<i32> = enums.get(field.type_name())?.value.iter().map(|v| v.number()).collect();
            numbers.sort_unstable();
            numbers.dedup();
            format!("Kind::Enum(&{numbers:?})")
        }
        Type::String | Type::Bytes => "Kind::Bytes".to_owned(),
        Type::Double | Type::Fixed64 | Type::Sfixed64 => "Kind::Fixed64".to_owned(),
        Type::Float | Type::Fixed32 | Type::Sfixed32 => "Kind::Fixed32".to_owned(),
        Type::Group => return None,
        _ => "Kind::Varint".to_owned(),
    })
}
