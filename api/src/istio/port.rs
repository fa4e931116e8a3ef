//! Port numbers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::check::{Check, Checker};

/// A port, 1 to 65535; the default is 0, "not set", and is never read from a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Port(u16);

impl Port {
    /// Port `number`.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number, 0 if it is not set.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Its number, if it is set.
    pub fn number(self) -> Option<u16> {
        (self.0 != 0).then_some(self.0)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Check for Port {}

/// A port that must be there.
pub(crate) fn required(c: &mut Checker, field: &str, port: Port) {
    c.required(field, port != Port::default());
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Port;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Port, E> {
                let port = u16::try_from(number).ok().filter(|p| *p != 0).map(Port);
                port.ok_or_else(|| E::custom(format!("Invalid value: {number}: a port must be between 1-65535")))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Port, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::custom(format!("Invalid value: {number}: a port must be between 1-65535"))),
                }
            }
        }
        deserializer.deserialize_u64(Visitor)
    }
}
