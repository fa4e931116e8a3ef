//! Finds what a message holds that our .proto files do not declare.
//!
//! In: a type URL and bytes, as a peer sent them. Out: nothing, or the first undeclared field, type or value with
//! its path. What is not declared is not supported, and a decoder would drop it in silence: a proxy would then run
//! with less than it was told, perhaps without a policy. Invariant: reads each byte a bounded number of times,
//! allocates only for an error, and goes no deeper than [`MAX_DEPTH`].

mod wire;

use std::fmt;

use crate::names::types::PREFIX;
use wire::{Reader, Value};

/// Messages within messages; what prost reads is no deeper.
pub const MAX_DEPTH: usize = 90;

/// Checks an encoded message. A proxy NACKs with the error's text.
pub fn check(type_url: &str, bytes: &[u8]) -> Result<(), Undeclared> {
    let Some(message) = find(type_url) else {
        return Err(Undeclared { path: String::new(), reason: Reason::Type { url: bounded(type_url) } });
    };
    message.check(bytes, 0).map_err(|mut found| {
        found.path.insert_str(0, message.short_name());
        found
    })
}

/// What is not declared, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeclared {
    /// `Listener.filter_chains[0].filters[1].typed_config<TcpProxy>`.
    pub path: String,
    /// What is there.
    pub reason: Reason,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A field that the message does not have.
    Field {
        /// Its number.
        number: u32,
        /// The message, with its package.
        message: &'static str,
    },
    /// An `Any` of a type that we do not have.
    Type {
        /// Its URL.
        url: String,
    },
    /// An enum's value that we do not have.
    Value {
        /// Its number.
        number: i32,
    },
    /// Bytes that are no such message.
    Malformed,
    /// Messages within messages, too many.
    TooDeep,
}

impl fmt::Display for Undeclared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.reason {
            Reason::Field { number, message } => write!(f, "{path}: field {number} of {message} is not supported"),
            Reason::Type { url } if path.is_empty() => write!(f, "type {url:?} is not supported"),
            Reason::Type { url } => write!(f, "{path}: type {url:?} is not supported"),
            Reason::Value { number } => write!(f, "{path}: value {number} is not supported"),
            Reason::Malformed => write!(f, "{path}: malformed bytes"),
            Reason::TooDeep => write!(f, "{path}: nested too deep"),
        }
    }
}

impl std::error::Error for Undeclared {}

struct Message {
    name: &'static str,
    fields: &'static [Field],
}

struct Field {
    number: u32,
    name: &'static str,
    repeated: bool,
    kind: Kind,
}

/// What a field's value looks like on the wire.
enum Kind {
    Varint,
    Fixed32,
    Fixed64,
    Bytes,
    /// Declared values, sorted.
    Enum(&'static [i32]),
    /// Index into the table.
    Message(usize),
    Any,
}

include!(concat!(env!("OUT_DIR"), "/undeclared.rs"));

fn find(type_url: &str) -> Option<&'static Message> {
    let name = type_url.strip_prefix(PREFIX)?;
    let index = MESSAGES.binary_search_by(|message| message.name.cmp(name)).ok()?;
    MESSAGES.get(index)
}

impl Message {
    fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    fn check(&self, bytes: &[u8], depth: usize) -> Result<(), Undeclared> {
        if depth > MAX_DEPTH {
            return Err(Reason::TooDeep.here());
        }
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let start = reader.position();
            let (number, value) = reader.field().ok_or_else(|| Reason::Malformed.here())?;
            let Ok(index) = self.fields.binary_search_by_key(&number, |field| field.number) else {
                return Err(Reason::Field { number, message: self.name }.here());
            };
            let field = &self.fields[index];
            field.check(value, depth).map_err(|found| found.within(field, count(&bytes[..start], number)))?;
        }
        Ok(())
    }
}

impl Field {
    fn check(&self, value: Value<'_>, depth: usize) -> Result<(), Undeclared> {
        match (&self.kind, value) {
            (Kind::Varint, Value::Varint(_))
            | (Kind::Fixed32, Value::Fixed32)
            | (Kind::Fixed64, Value::Fixed64)
            | (Kind::Bytes, Value::Bytes(_)) => Ok(()),
            (Kind::Enum(declared), Value::Varint(number)) => known(declared, number),
            (Kind::Message(index), Value::Bytes(bytes)) => match MESSAGES.get(*index) {
                Some(message) => message.check(bytes, depth + 1),
                None => Err(Reason::Malformed.here()),
            },
            (Kind::Any, Value::Bytes(bytes)) => check_any(bytes, depth + 1),
            (_, Value::Bytes(packed)) if self.repeated => self.check_packed(packed),
            _ => Err(Reason::Malformed.here()),
        }
    }

    fn check_packed(&self, packed: &[u8]) -> Result<(), Undeclared> {
        let mut reader = Reader::new(packed);
        match &self.kind {
            Kind::Fixed32 if packed.len().is_multiple_of(4) => return Ok(()),
            Kind::Fixed64 if packed.len().is_multiple_of(8) => return Ok(()),
            Kind::Varint | Kind::Enum(_) => {}
            _ => return Err(Reason::Malformed.here()),
        }
        while !reader.is_empty() {
            let number = reader.varint().ok_or_else(|| Reason::Malformed.here())?;
            if let Kind::Enum(declared) = &self.kind {
                known(declared, number)?;
            }
        }
        Ok(())
    }
}

/// An `Any`: its type must be declared, its message is checked in turn.
fn check_any(bytes: &[u8], depth: usize) -> Result<(), Undeclared> {
    let (mut url, mut body): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        match reader.field().ok_or_else(|| Reason::Malformed.here())? {
            (1, Value::Bytes(value)) => url = value,
            (2, Value::Bytes(value)) => body = value,
            (1 | 2, _) => return Err(Reason::Malformed.here()),
            (number, _) => return Err(Reason::Field { number, message: "google.protobuf.Any" }.here()),
        }
    }
    let url = std::str::from_utf8(url).map_err(|_| Reason::Malformed.here())?;
    let Some(message) = find(url) else { return Err(Reason::Type { url: bounded(url) }.here()) };
    message.check(body, depth).map_err(|mut found| {
        found.path.insert_str(0, &format!("<{}>", message.short_name()));
        found
    })
}

fn known(declared: &[i32], number: u64) -> Result<(), Undeclared> {
    // The wire carries enums as 64 bits, of which the lower 32 count.
    let number = number as u32 as i32;
    match declared.binary_search(&number) {
        Ok(_) => Ok(()),
        Err(_) => Err(Reason::Value { number }.here()),
    }
}

/// How often a field stands in bytes that were read before: the index of the next.
fn count(bytes: &[u8], number: u32) -> usize {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(|| if reader.is_empty() { None } else { reader.field() }).filter(|(n, _)| *n == number).count()
}

fn bounded(text: &str) -> String {
    text.chars().take(200).collect()
}

impl Reason {
    fn here(self) -> Undeclared {
        Undeclared { path: String::new(), reason: self }
    }
}

impl Undeclared {
    fn within(mut self, field: &Field, index: usize) -> Self {
        let step = if field.repeated { format!(".{}[{index}]", field.name) } else { format!(".{}", field.name) };
        self.path.insert_str(0, &step);
        self
    }
}

#[cfg(test)]
mod tests;
