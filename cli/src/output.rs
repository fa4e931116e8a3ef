//! Listings: a table for people, JSON or YAML for programs. The fields of the latter are stable.

use std::io::Write as _;

use clap::ValueEnum;
use serde::Serialize;

use crate::exit;
use crate::failure::{Failure, Outcome, printable};

/// How a listing is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, for people.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// A line of a table.
pub(crate) trait Row: Serialize {
    /// Column titles.
    const TITLES: &'static [&'static str];

    /// As many cells as there are titles.
    fn cells(&self) -> Vec<String>;
}

/// Writes a listing.
pub(crate) fn list<R: Row>(format: Format, rows: &[R]) -> Outcome<()> {
    if format != Format::Table {
        return value(format, &rows);
    }
    let mut lines = vec![R::TITLES.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(Row::cells));
    text(&table(&lines))
}

/// Writes one value as JSON or YAML.
pub(crate) fn value<T: Serialize>(format: Format, value: &T) -> Outcome<()> {
    let broken = |e: String| Failure::new(exit::FAILURE, format!("the answer can't be written: {e}"));
    match format {
        Format::Yaml => text(&serde_saphyr::to_string(value).map_err(|e| broken(e.to_string()))?),
        _ => text(&(serde_json::to_string_pretty(value).map_err(|e| broken(e.to_string()))? + "\n")),
    }
}

/// Writes to stdout; a reader that left early is no error.
pub(crate) fn text(text: &str) -> Outcome<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// Lines of `name  value`.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let lines: Vec<_> = pairs.iter().map(|(k, v)| vec![(*k).to_owned(), v.clone()]).collect();
    table(&lines)
}

/// Several values in one cell; nothing is `-`.
pub(crate) fn joined<I: IntoIterator>(values: I) -> String
where
    I::Item: ToString,
{
    let text = values.into_iter().map(|v| v.to_string()).collect::<Vec<_>>().join(",");
    if text.is_empty() { "-".to_owned() } else { text }
}

fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let clean = |cell: &str| printable(cell).replace(['\n', '\t'], " ");
    let lines: Vec<Vec<String>> = lines.iter().map(|l| l.iter().map(|c| clean(c)).collect()).collect();
    let widths: Vec<usize> = (0..columns)
        .map(|i| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max().unwrap_or_default())
        .collect();
    let mut out = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            row.push_str(&format!("{cell:<width$}   "));
        }
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out
}

/// Times as RFC 3339, and as people say them.
pub(crate) mod time {
    use jiff::{SignedDuration, Timestamp};

    /// RFC 3339, to the second.
    pub(crate) fn text(time: Option<prost_types::Timestamp>) -> Option<String> {
        let time = time?;
        Some(Timestamp::new(time.seconds, 0).ok()?.to_string())
    }

    /// `in 59m`, `3h ago`, `-`.
    pub(crate) fn relative(time: Option<prost_types::Timestamp>) -> String {
        let Some(time) = time.and_then(|t| Timestamp::new(t.seconds, 0).ok()) else { return "-".to_owned() };
        let away = time.duration_since(Timestamp::now());
        let text = short(away.abs());
        if away.is_negative() { format!("{text} ago") } else { format!("in {text}") }
    }

    fn short(d: SignedDuration) -> String {
        match d.as_secs() {
            s if s < 120 => format!("{s}s"),
            s if s < 2 * 3600 => format!("{}m", s / 60),
            s if s < 2 * 86_400 => format!("{}h", s / 3600),
            s => format!("{}d", s / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let line = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        assert_eq!(table(&[line("A", "B"), line("long", ""), line("x", "y\u{1b}z")]), "A      B\nlong\nx      yz\n");
    }
}
