//! Settings that every source has, as a file of registries writes them.

use std::time::Duration;

use serde::Deserialize;

/// Longest duration that may be meant.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Keys that every source's own settings take in beside theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Settings {
    /// When a loss is not believed.
    pub freeze: Freeze,
}

/// A loss that is larger than this within `window` is not believed: the last state stays, and an alarm is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Freeze {
    /// Share of what was known, in percent; 100 never freezes.
    #[serde(deserialize_with = "percent")]
    pub percent: u8,
    /// Fewer instances (or services) than this may always go.
    pub at_least: u32,
    /// Losses within this time count together.
    #[serde(deserialize_with = "duration")]
    pub window: Duration,
    /// A loss that the source stands by for so long is believed; never, if absent.
    #[serde(deserialize_with = "optional_duration")]
    pub accept_after: Option<Duration>,
}

impl Default for Freeze {
    fn default() -> Self {
        Self { percent: 30, at_least: 3, window: Duration::from_secs(10), accept_after: None }
    }
}

impl Freeze {
    /// Whether to lose `lost` of `known` is too much to be believed.
    pub(crate) fn doubts(&self, lost: u64, known: u64) -> bool {
        lost > 0 && lost >= u64::from(self.at_least) && lost * 100 > known * u64::from(self.percent)
    }
}

/// Reads a duration as people write it: `30s`, `5m`, `1h 30m`. For `#[serde(deserialize_with)]`.
///
/// # Errors
/// If it is none.
pub fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// The same, where there need be none.
///
/// # Errors
/// If it is none.
pub fn optional_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse(&text)).transpose().map_err(serde::de::Error::custom)
}

fn parse(text: &str) -> Result<Duration, String> {
    let known = text.parse::<humantime::Duration>().map(Duration::from);
    let shown: String = text.chars().take(40).collect();
    let known = known.map_err(|_| format!("{shown:?} is not a duration; write it as 30s, 5m or 1h"))?;
    // Whoever adds it to the time must not come to its end.
    if known > LONGEST { Err(format!("{shown:?} is longer than a year")) } else { Ok(known) }
}

fn percent<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = u8::deserialize(deserializer)?;
    let valid = (1..=100).contains(&number);
    valid.then_some(number).ok_or_else(|| serde::de::Error::custom("a share is 1 to 100 percent"))
}

/// A digest of settings that is the same in every run and build: what a stored state was made with.
pub fn digest(settings: &str) -> u64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, settings.as_bytes());
    digest.as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_do_and_end_before_time_does() {
        assert_eq!(parse("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(parse("1").unwrap_err().contains("write it as 30s"));
        assert!(parse("500000000000years").is_err());
        assert!(parse("2years").unwrap_err().contains("longer than a year"));
    }
}
