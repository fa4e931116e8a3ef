//! Text with `{label}` in it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Text in which `{label}` stands for a label of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Label(String),
}

impl Template {
    /// Text without labels.
    pub fn literal(text: impl Into<String>) -> Self {
        Self(vec![Piece::Text(text.into())])
    }

    /// The text, if no label is in it.
    pub fn fixed(&self) -> Option<String> {
        self.fill(&BTreeMap::new()).ok()
    }

    /// The text with the labels in it, or the first label that is missing.
    pub(crate) fn fill<'a>(&'a self, labels: &BTreeMap<String, String>) -> Result<String, &'a str> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Label(label) => text.push_str(labels.get(label).ok_or(label.as_str())?),
            }
        }
        Ok(text)
    }

    /// The same, with nothing for what is missing.
    pub(crate) fn fill_in(&self, labels: &BTreeMap<String, String>) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(piece) => piece.as_str(),
            Piece::Label(label) => labels.get(label).map_or("", String::as_str),
        });
        pieces.collect()
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let Some((label, behind)) = after.split_once('}') else {
                return Err(format!("{text:?}: a '{{' has no '}}'; write a label as {{label}}"));
            };
            if label.is_empty() || before.contains('}') {
                return Err(format!("{text:?}: write a label as {{label}}"));
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Label(label.to_owned()));
            rest = behind;
        }
        if rest.contains('}') {
            return Err(format!("{text:?}: a '}}' has no '{{'; write a label as {{label}}"));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_filled_in_and_a_missing_one_is_named() {
        let template = Template::try_from("{job}.x.{dc}".to_owned()).unwrap();
        let mut labels = BTreeMap::from([("job".to_owned(), "a".to_owned())]);
        assert_eq!((template.fill(&labels), template.fill_in(&labels)), (Err("dc"), "a.x.".to_owned()));
        labels.insert("dc".to_owned(), "b".to_owned());
        assert_eq!((template.fill(&labels), template.fixed()), (Ok("a.x.b".to_owned()), None));
        assert_eq!(Template::literal("x").fixed().as_deref(), Some("x"));
    }

    #[test]
    fn braces_come_in_pairs() {
        for bad in ["{", "}", "a{b", "a}b{c}", "{}", "x}{y}"] {
            assert!(Template::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
