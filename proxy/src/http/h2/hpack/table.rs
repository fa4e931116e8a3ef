//! The tables of HPACK: the one that everybody has, and the one that a peer fills (RFC 7541, section 2.3).

use std::collections::VecDeque;

use super::Name;
use crate::http::message::Known;

/// What an entry counts beside its text.
const OVERHEAD: usize = 32;
/// How many entries everybody has.
pub(super) const STATIC: usize = 61;

/// The entry with an index from 1 to 61.
pub(super) fn fixed(index: usize) -> Option<(&'static [u8], &'static [u8], Name)> {
    let (name, value, tag) = FIXED.get(index.checked_sub(1)?)?;
    Some((name.as_bytes(), value.as_bytes(), *tag))
}

/// An entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Where its text begins, counted from the first text ever.
    at: usize,
    name: u32,
    value: u32,
    /// What its name is.
    pub(super) tag: Name,
    /// Whether name and value are such as a field may have. Looked at once, when it is added.
    pub(super) valid: bool,
}

/// What a peer has told us to remember. The text of all entries lies in one buffer, the oldest first; it is moved to
/// the front when the buffer has grown to twice the table's size, so that adding costs one copy, or two now and then.
#[derive(Debug, Default)]
pub(super) struct Table {
    text: Vec<u8>,
    /// How much text was dropped before what `text` begins with.
    gone: usize,
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

impl Table {
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// The newest entry is number 0.
    pub(super) fn get(&self, n: usize) -> Option<(&[u8], &[u8], Entry)> {
        let entry = *self.entries.get(n)?;
        let text = self.text.get(entry.at.checked_sub(self.gone)?..)?;
        let (name, rest) = text.split_at_checked(entry.name as usize)?;
        Some((name, rest.get(..entry.value as usize)?, entry))
    }

    /// Adds an entry; older ones leave if it has no room beside them. One that is larger than the table empties it.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8], tag: Name, valid: bool) {
        let size = name.len() + value.len() + OVERHEAD;
        self.shrink(self.most.saturating_sub(size));
        if size > self.most {
            return;
        }
        let oldest = self.entries.back().map_or(self.gone + self.text.len(), |e| e.at);
        if self.text.len() + size > self.most * 2 {
            self.text.drain(..oldest - self.gone);
            self.gone = oldest;
        }
        let at = self.gone + self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        // Both are shorter than the table.
        self.entries.push_front(Entry { at, name: name.len() as u32, value: value.len() as u32, tag, valid });
        self.size += size;
    }

    /// Changes how much it may hold.
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.shrink(most);
    }

    fn shrink(&mut self, to: usize) {
        while self.size > to {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size -= oldest.name as usize + oldest.value as usize + OVERHEAD;
        }
        if self.entries.is_empty() {
            self.gone += self.text.len();
            self.text.clear();
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    #[cfg(test)]
    pub(super) fn list(&self) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (0..self.entries.len())
            .map(|n| self.get(n).map(|(name, value, _)| (text(name), text(value))).unwrap())
            .collect()
    }
}

const OTHER: Name = Name::Field(Known::Other);

/// RFC 7541, appendix A.
#[rustfmt::skip]
static FIXED: [(&str, &str, Name); STATIC] = [
    (":authority", "", Name::Authority),
    (":method", "GET", Name::Method),
    (":method", "POST", Name::Method),
    (":path", "/", Name::Path),
    (":path", "/index.html", Name::Path),
    (":scheme", "http", Name::Scheme),
    (":scheme", "https", Name::Scheme),
    (":status", "200", Name::Status),
    (":status", "204", Name::Status),
    (":status", "206", Name::Status),
    (":status", "304", Name::Status),
    (":status", "400", Name::Status),
    (":status", "404", Name::Status),
    (":status", "500", Name::Status),
    ("accept-charset", "", OTHER),
    ("accept-encoding", "gzip, deflate", OTHER),
    ("accept-language", "", OTHER),
    ("accept-ranges", "", OTHER),
    ("accept", "", OTHER),
    ("access-control-allow-origin", "", OTHER),
    ("age", "", OTHER),
    ("allow", "", OTHER),
    ("authorization", "", OTHER),
    ("cache-control", "", OTHER),
    ("content-disposition", "", OTHER),
    ("content-encoding", "", OTHER),
    ("content-language", "", OTHER),
    ("content-length", "", Name::Field(Known::ContentLength)),
    ("content-location", "", OTHER),
    ("content-range", "", OTHER),
    ("content-type", "", Name::Field(Known::ContentType)),
    ("cookie", "", Name::Field(Known::Cookie)),
    ("date", "", Name::Field(Known::Date)),
    ("etag", "", OTHER),
    ("expect", "", Name::Field(Known::Expect)),
    ("expires", "", OTHER),
    ("from", "", OTHER),
    ("host", "", Name::Field(Known::Host)),
    ("if-match", "", OTHER),
    ("if-modified-since", "", OTHER),
    ("if-none-match", "", OTHER),
    ("if-range", "", OTHER),
    ("if-unmodified-since", "", OTHER),
    ("last-modified", "", OTHER),
    ("link", "", OTHER),
    ("location", "", Name::Field(Known::Location)),
    ("max-forwards", "", OTHER),
    ("proxy-authenticate", "", OTHER),
    ("proxy-authorization", "", OTHER),
    ("range", "", OTHER),
    ("referer", "", OTHER),
    ("refresh", "", OTHER),
    ("retry-after", "", OTHER),
    ("server", "", Name::Field(Known::Server)),
    ("set-cookie", "", OTHER),
    ("strict-transport-security", "", OTHER),
    ("transfer-encoding", "", Name::Field(Known::TransferEncoding)),
    ("user-agent", "", Name::Field(Known::UserAgent)),
    ("vary", "", OTHER),
    ("via", "", OTHER),
    ("www-authenticate", "", OTHER),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_fixed_table_are_what_they_are_tagged_as() {
        for (name, _, tag) in &FIXED {
            assert_eq!(Name::of(name.as_bytes()), *tag, "{name}");
        }
        assert!(fixed(0).is_none() && fixed(62).is_none());
        assert_eq!(fixed(61).unwrap().0, b"www-authenticate");
    }

    #[test]
    fn a_table_keeps_the_newest_that_fit_whatever_was_added() {
        let mut table = Table::new(200);
        let mut all: Vec<(String, String)> = Vec::new();
        for n in 0..500_usize {
            let (name, value) = (format!("n{n}"), "v".repeat(n * 7 % 90));
            table.add(name.as_bytes(), value.as_bytes(), OTHER, true);
            all.insert(0, (name, value));
            let mut room = 200;
            let fits = |e: &&(String, String)| {
                let size = e.0.len() + e.1.len() + OVERHEAD;
                let fits = size <= room;
                room = if fits { room - size } else { 0 };
                fits
            };
            assert_eq!(table.list(), all.iter().take_while(fits).cloned().collect::<Vec<_>>());
            assert!(table.text.len() <= 400);
        }
        table.add(b"large", &[b'x'; 200], OTHER, true);
        assert_eq!((table.list(), table.size()), (vec![], 0));
    }
}
