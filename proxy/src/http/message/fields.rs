//! Fields of a head: one buffer of text, and places in it.

use super::Known;

/// A place in the buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    at: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Span,
    value: Span,
    known: Known,
}

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'f> {
    /// Which one it is, if anything here asks for it by name.
    pub known: Known,
    /// Name, lower case.
    pub name: &'f [u8],
    /// Value, without white space around it.
    pub value: &'f [u8],
}

/// Fields in the order they came. Whoever fills them bounds them: text is at most 4 GiB, and a head far below.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    list: Vec<Entry>,
}

impl Fields {
    /// Empty, with room.
    pub fn with_capacity(bytes: usize, fields: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), list: Vec::with_capacity(fields) }
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a field whose name is lower case.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(!name.iter().any(u8::is_ascii_uppercase));
        let (name, known) = (self.keep(name), Known::of(name));
        let value = self.keep(value);
        self.list.push(Entry { name, value, known });
    }

    /// Adds a field of which it is known already which one it is.
    pub fn push_as(&mut self, known: Known, name: &[u8], value: &[u8]) {
        debug_assert!(known == Known::of(name));
        let (name, value) = (self.keep(name), self.keep(value));
        self.list.push(Entry { name, value, known });
    }

    /// Adds a field that is known by name.
    pub fn push_known(&mut self, known: Known, value: &[u8]) {
        self.push(known.name().as_bytes(), value);
    }

    /// Adds a field; its name is made lower case.
    pub fn push_any_case(&mut self, name: &[u8], value: &[u8]) {
        let span = self.keep(name);
        let kept = &mut self.bytes[span.at as usize..];
        kept.make_ascii_lowercase();
        let known = Known::of(kept);
        let value = self.keep(value);
        self.list.push(Entry { name: span, value, known });
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        self.list.iter().map(|entry| self.field(entry))
    }

    /// The first value of a field that is known by name.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        debug_assert!(known != Known::Other);
        self.list.iter().find(|e| e.known == known).map(|e| self.bytes(e.value))
    }

    /// The first value of a field; `name` is lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let known = Known::of(name.as_bytes());
        let is = |e: &&Entry| e.known == known && (known != Known::Other || self.bytes(e.name) == name.as_bytes());
        self.list.iter().find(is).map(|e| self.bytes(e.value))
    }

    /// All values of a field; `name` is lower case.
    pub fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> + Clone {
        let known = Known::of(name.as_bytes());
        let is = move |e: &&Entry| e.known == known && (known != Known::Other || self.bytes(e.name) == name.as_bytes());
        self.list.iter().filter(is).map(|e| self.bytes(e.value))
    }

    /// Removes all fields of a name that is known; whether there was one.
    pub fn remove_known(&mut self, known: Known) -> bool {
        let before = self.list.len();
        self.list.retain(|e| e.known != known);
        self.list.len() != before
    }

    /// Removes all fields of a name, which is lower case; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        match Known::of(name.as_bytes()) {
            Known::Other => {
                let before = self.list.len();
                self.retain(|f| f.known != Known::Other || f.name != name.as_bytes());
                self.list.len() != before
            }
            known => self.remove_known(known),
        }
    }

    /// Keeps the fields that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let bytes = &self.bytes;
        let cut = |span: Span| slice(bytes, span);
        self.list.retain(|e| keep(Field { known: e.known, name: cut(e.name), value: cut(e.value) }));
    }

    /// Makes `value` the only one of a field; `name` is lower case.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.push(name.as_bytes(), value);
    }

    /// Removes all fields; room is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    fn field(&self, entry: &Entry) -> Field<'_> {
        Field { known: entry.known, name: self.bytes(entry.name), value: self.bytes(entry.value) }
    }

    /// Keeps text beside the fields.
    pub(super) fn keep(&mut self, text: &[u8]) -> Span {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(text);
        // Heads are bounded far below 4 GiB by whoever reads them.
        Span { at: u32::try_from(at).unwrap_or(u32::MAX), len: u32::try_from(text.len()).unwrap_or(0) }
    }

    pub(super) fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    fn bytes(&self, span: Span) -> &[u8] {
        slice(&self.bytes, span)
    }
}

fn slice(bytes: &[u8], span: Span) -> &[u8] {
    let at = span.at as usize;
    bytes.get(at..at + span.len as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_changed_and_removed_by_name() {
        let mut fields = Fields::default();
        fields.push_any_case(b"X-Forwarded-For", b"10.0.0.1");
        fields.push(b"x-a", b"1");
        fields.push(b"x-a", b"2");
        assert_eq!(fields.known(Known::ForwardedFor), Some(&b"10.0.0.1"[..]));
        assert_eq!(fields.all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        fields.set("x-a", b"3");
        assert_eq!(fields.all("x-a").collect::<Vec<_>>(), [b"3"]);
        assert!(fields.remove("x-forwarded-for") && !fields.remove("x-forwarded-for"));
        assert_eq!(fields.iter().map(|f| f.name).collect::<Vec<_>>(), [b"x-a"]);
        assert_eq!(fields.get("x-b"), None);
    }
}
