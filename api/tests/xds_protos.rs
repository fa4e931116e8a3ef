//! Our .proto files against the published descriptors: every name, number, type and label of the xDS subset.
//!
//! The descriptors come with the Python package `xds-protos`, in an environment below `target/testbeds` that is made
//! on first use, or in the one that `HAWSER_TESTBED_VENV` names.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hawser_api::proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use serde::Deserialize;

/// Ours or theirs.
#[derive(Debug, Deserialize)]
enum Described {
    /// Number, type, repeated, type's name, oneof.
    #[serde(rename = "fields")]
    Message(BTreeMap<String, (i32, i32, bool, String, Option<String>)>),
    #[serde(rename = "values")]
    Enum(BTreeMap<String, i32>),
}

#[test]
fn the_subset_agrees_with_the_published_descriptors() {
    let ours = ours();
    let theirs = published(&ours.keys().collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (name, mine) in &ours {
        match (mine, theirs.get(name)) {
            (Described::Message(mine), Some(Some(Described::Message(their)))) => {
                for (field, mine) in mine {
                    if their.get(field) != Some(mine) {
                        wrong.push(format!("{name}.{field}: ours {mine:?}, published {:?}", their.get(field)));
                    }
                }
            }
            (Described::Enum(mine), Some(Some(Described::Enum(their)))) => {
                for (value, mine) in mine {
                    if their.get(value) != Some(mine) {
                        wrong.push(format!("{name}.{value}: ours {mine}, published {:?}", their.get(value)));
                    }
                }
            }
            (_, found) => wrong.push(format!("{name}: published {found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ours.len() > 100, "only {} names were compared", ours.len());
}

fn ours() -> BTreeMap<String, Described> {
    let mut found = BTreeMap::new();
    for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap().file {
        if file.package().starts_with("envoy.") || file.package() == "google.rpc" {
            file.message_type.iter().for_each(|message| add_message(file.package(), message, &mut found));
            file.enum_type.iter().for_each(|enumeration| add_enum(file.package(), enumeration, &mut found));
        }
    }
    found
}

fn add_message(scope: &str, message: &DescriptorProto, found: &mut BTreeMap<String, Described>) {
    let name = format!("{scope}.{}", message.name());
    message.nested_type.iter().for_each(|nested| add_message(&name, nested, found));
    message.enum_type.iter().for_each(|nested| add_enum(&name, nested, found));
    let fields = message.field.iter().map(|field| {
        let oneof = field.oneof_index.map(|i| message.oneof_decl[usize::try_from(i).unwrap()].name().to_owned());
        let type_name = field.type_name().trim_start_matches('.').to_owned();
        let repeated = field.label() == Label::Repeated;
        (field.name().to_owned(), (field.number(), field.r#type() as i32, repeated, type_name, oneof))
    });
    found.insert(name, Described::Message(fields.collect()));
}

fn add_enum(scope: &str, enumeration: &EnumDescriptorProto, found: &mut BTreeMap<String, Described>) {
    let values = enumeration.value.iter().map(|value| (value.name().to_owned(), value.number())).collect();
    found.insert(format!("{scope}.{}", enumeration.name()), Described::Enum(values));
}

fn published(names: &[&String]) -> BTreeMap<String, Option<Described>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xds_protos.py");
    let mut python = Command::new(python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python of the test bed starts");
    python.stdin.take().unwrap().write_all(&serde_json::to_vec(names).unwrap()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "xds_protos.py failed: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Python with xds-protos.
fn python() -> PathBuf {
    if let Some(venv) = std::env::var_os("HAWSER_TESTBED_VENV") {
        return PathBuf::from(venv).join("bin/python");
    }
    let beds = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("testbeds");
    std::fs::create_dir_all(&beds).unwrap();
    let venv = beds.join("xds-protos");
    let lock = std::fs::File::create(beds.join("xds-protos.lock")).unwrap();
    lock.lock().unwrap();
    if !venv.join("complete").is_file() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), "install python3 and python3-venv");
        let pip = ["install", "--quiet", "--disable-pip-version-check", "xds-protos"];
        run(Command::new(venv.join("bin/pip")).args(pip), "the package index must be reachable, once");
        std::fs::write(venv.join("complete"), "").unwrap();
    }
    venv.join("bin/python")
}

fn run(command: &mut Command, cure: &str) {
    let status = command.stdin(Stdio::null()).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "the descriptors to compare with can't be had: {command:?}: {status:?}; {cure}"
    );
}
