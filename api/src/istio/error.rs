//! What is wrong with a resource: where, which field, why, and the cure.

use std::fmt;

use super::{FieldPath, ObjectRef};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 where there are no lines.
    pub line: u32,
    /// The field; empty for the document as a whole.
    pub path: FieldPath,
    /// What was expected, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A document that can't be used: all that is wrong with it. `Display` gives one line a problem, `file:line: field: reason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", render(file, problems))]
pub struct ParseError {
    /// The file, or whatever else the text came from.
    pub file: String,
    /// Line on which the document starts, from 1; 0 where there are no lines.
    pub line: u32,
    /// Which object it was to be, if that much could be read.
    pub object: Option<ObjectRef>,
    /// At least one.
    pub problems: Vec<Problem>,
}

fn render(file: &str, problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        if !text.is_empty() {
            text.push('\n');
        }
        match (file.is_empty(), problem.line) {
            (true, _) => {}
            (false, 0) => text.push_str(&format!("{file}: ")),
            (false, line) => text.push_str(&format!("{file}:{line}: ")),
        }
        text.push_str(&problem.to_string());
    }
    text
}

/// `text` as it may be shown: short, on one line, without control characters.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut out: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}
