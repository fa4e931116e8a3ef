//! Durations as the API writes them: `5s`, `1h30m`, `0.5s`, `100ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration as Std;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::{Check, Checker};
use super::error::shown;

/// A duration of at least 0. Written as whole seconds, else milliseconds, else seconds with decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub Std);

/// Longest duration: what protobuf's JSON form can say.
const LONGEST: u64 = 315_576_000_000;

impl Duration {
    /// As the standard library has it.
    pub fn get(self) -> Std {
        self.0
    }

    /// Whole seconds.
    pub fn from_secs(seconds: u64) -> Self {
        Self(Std::from_secs(seconds))
    }
}

impl From<Duration> for Std {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("\"{}\" is not a duration; write it as 5s, 1m30s or 100ms", shown(text));
        if text == "0" {
            return Ok(Self::default());
        }
        if text.starts_with('-') {
            return Err(format!("\"{}\" is less than 0", shown(text)));
        }
        if text.is_empty() || text.len() > 64 {
            return Err(form());
        }
        let mut nanos: u128 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(form)?;
            let (number, tail) = rest.split_at(number_end);
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            nanos = nanos.saturating_add(part(number, unit).ok_or_else(form)?);
            rest = tail;
        }
        let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        if seconds > LONGEST {
            return Err(format!("\"{}\" is longer than 10,000 years", shown(text)));
        }
        Ok(Self(Std::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0))))
    }
}

/// Nanoseconds of one number with its unit.
fn part(number: &str, unit: &str) -> Option<u128> {
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 18 || fraction.len() > 18 || fraction.contains('.') {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits(whole)? * unit + digits(fraction)? * unit / scale)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos == 0 {
            write!(f, "{seconds}s")
        } else if nanos % 1_000_000 == 0 {
            write!(f, "{}ms", self.0.as_millis())
        } else {
            write!(f, "{}s", format!("{seconds}.{nanos:09}").trim_end_matches('0'))
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 5s, 1m30s or 100ms")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl Check for Duration {}

/// The API's rule for most durations: at least a millisecond.
pub(crate) fn at_least_1ms(c: &mut Checker, field: &str, duration: Option<Duration>) {
    if duration.is_some_and(|d| d.0 < Std::from_millis(1)) {
        c.wrong(field, "Invalid value: must be at least 1ms");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, canonical) in [
            ("5s", "5s"),
            ("1h", "3600s"),
            ("1h30m", "5400s"),
            ("0.5s", "500ms"),
            ("1.000001s", "1.000001s"),
            ("100ms", "100ms"),
            ("0s", "0s"),
            ("0", "0s"),
            ("10us", "0.00001s"),
            (".5s", "500ms"),
        ] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let huge = "9".repeat(60) + "h";
        for text in ["", "5", "s", "-5s", "5 s", "5x", "1.2.3s", ".s", "5s5", "1e3s", "999999999999999999h", &huge] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
