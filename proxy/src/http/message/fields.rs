//! Fields of a head: one buffer of text, and places in it.
//!
//! Each field lies there as HTTP/1 writes it, `name: value` and a line end: fields that are neighbours are written at once.

use std::ops::Range;

use super::Known;

/// A place in the buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    at: u32,
    len: u32,
}

/// A line: where it begins, how long its name and its value are.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u32,
    name: u32,
    value: u32,
    known: Known,
}

const COLON: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";

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

/// A name that is asked for again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    known: Known,
    text: Box<str>,
}

impl Name {
    /// A name; it is made lower case.
    pub fn new(name: &str) -> Self {
        let text = name.to_ascii_lowercase().into_boxed_str();
        Self { known: Known::of(text.as_bytes()), text }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }
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
        self.push_as(Known::of(name), name, value);
    }

    /// Adds a field of which it is known already which one it is.
    pub fn push_as(&mut self, known: Known, name: &[u8], value: &[u8]) {
        debug_assert!(known == Known::of(name) && !name.iter().any(u8::is_ascii_uppercase));
        let at = self.write(name, value);
        self.list.push(Entry { at, name: size(name.len()), value: size(value.len()), known });
    }

    /// Adds a field that is known by name.
    pub fn push_known(&mut self, known: Known, value: &[u8]) {
        self.push_as(known, known.name().as_bytes(), value);
    }

    /// Adds a field; its name is made lower case.
    pub fn push_any_case(&mut self, name: &[u8], value: &[u8]) {
        let at = self.write(name, value);
        self.adopt(at, name.len(), value.len());
    }

    /// Keeps the text of a head as it came. Its fields are added by [`Fields::push_placed`].
    pub fn place(&mut self, text: &[u8]) {
        debug_assert!(self.bytes.is_empty());
        self.bytes.extend_from_slice(text);
    }

    /// Adds a field whose name and value lie so in the text that was placed; the name is made lower case. Which one it is.
    pub fn push_placed(&mut self, name: Range<usize>, value: Range<usize>) -> Known {
        let is_line = value.start == name.end + COLON.len()
            && self.bytes.get(name.end..value.start) == Some(COLON)
            && self.bytes.get(value.end..value.end + LINE_END.len()) == Some(LINE_END);
        if is_line {
            return self.adopt(size(name.start), name.len(), value.len());
        }
        // It was written otherwise, and is written again.
        let at = size(self.bytes.len());
        let (name_len, value_len) = (name.len(), value.len());
        if name.end <= self.bytes.len() && value.end <= self.bytes.len() {
            self.bytes.extend_from_within(name);
            self.bytes.extend_from_slice(COLON);
            self.bytes.extend_from_within(value);
            self.bytes.extend_from_slice(LINE_END);
        }
        self.adopt(at, name_len, value_len)
    }

    /// Takes back what was added last.
    pub fn pop(&mut self) {
        self.list.pop();
    }

    /// The value of what was added last.
    pub fn last(&self) -> &[u8] {
        self.list.last().map(|e| self.value(e)).unwrap_or_default()
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        self.list.iter().map(|entry| self.field(entry))
    }

    /// The fields that `keep` wants, as lines: each run of neighbours at once, with how many they are.
    pub fn lines(&self, mut keep: impl FnMut(Known, &[u8]) -> bool, mut put: impl FnMut(&[u8], usize)) {
        let (mut run, mut lines) = (0..0, 0);
        for entry in &self.list {
            if !keep(entry.known, self.value(entry)) {
                continue;
            }
            let at = entry.at as usize;
            if at != run.end || lines == 0 {
                if lines > 0 {
                    put(self.bytes.get(run.clone()).unwrap_or_default(), lines);
                }
                (run, lines) = (at..at, 0);
            }
            run.end = entry.value_at() + entry.value as usize + LINE_END.len();
            lines += 1;
        }
        if lines > 0 {
            put(self.bytes.get(run).unwrap_or_default(), lines);
        }
    }

    /// The first value of a field that is known by name.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        debug_assert!(known != Known::Other);
        self.list.iter().find(|e| e.known == known).map(|e| self.value(e))
    }

    /// The first value of a field; `name` is lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let known = Known::of(name.as_bytes());
        let is = |e: &&Entry| e.known == known && (known != Known::Other || self.name(e) == name.as_bytes());
        self.list.iter().find(is).map(|e| self.value(e))
    }

    /// All values of a field; `name` is lower case.
    pub fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> + Clone {
        let known = Known::of(name.as_bytes());
        let is = move |e: &&Entry| e.known == known && (known != Known::Other || self.name(e) == name.as_bytes());
        self.list.iter().filter(is).map(|e| self.value(e))
    }

    /// All values of a field.
    pub fn named<'f>(&'f self, name: &Name) -> impl Iterator<Item = &'f [u8]> + Clone {
        let known = name.known;
        let is = move |e: &&Entry| e.known == known && (known != Known::Other || self.name(e) == name.text.as_bytes());
        self.list.iter().filter(is).map(|e| self.value(e))
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
        let cut = |at: usize, len: u32| bytes.get(at..at + len as usize).unwrap_or_default();
        self.list.retain(|e| {
            keep(Field { known: e.known, name: cut(e.at as usize, e.name), value: cut(e.value_at(), e.value) })
        });
    }

    /// Makes `value` the only one of a field; `name` is lower case.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.push(name.as_bytes(), value);
    }

    /// Makes one cookie of its crumbs. Empty ones say nothing, and would leave white space at an end.
    pub(in crate::http) fn join_cookies(&mut self) {
        let crumbs = self.all("cookie").filter(|crumb| !crumb.is_empty());
        let whole = crumbs.collect::<Vec<_>>().join(&b"; "[..]);
        self.set("cookie", &whole);
    }

    /// Removes all fields; room is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    fn field(&self, entry: &Entry) -> Field<'_> {
        Field { known: entry.known, name: self.name(entry), value: self.value(entry) }
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        self.span(Span { at: entry.at, len: entry.name })
    }

    fn value(&self, entry: &Entry) -> &[u8] {
        let at = entry.value_at();
        self.bytes.get(at..at + entry.value as usize).unwrap_or_default()
    }

    /// Writes a line; where it begins.
    fn write(&mut self, name: &[u8], value: &[u8]) -> u32 {
        let at = size(self.bytes.len());
        self.bytes.reserve(name.len() + value.len() + COLON.len() + LINE_END.len());
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(COLON);
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(LINE_END);
        at
    }

    /// Adds a line that lies there already.
    fn adopt(&mut self, at: u32, name: usize, value: usize) -> Known {
        let text = self.bytes.get_mut(at as usize..at as usize + name).unwrap_or_default();
        make_lower(text);
        let known = Known::of(text);
        self.list.push(Entry { at, name: size(name), value: size(value), known });
        known
    }

    /// Keeps text beside the fields.
    pub(super) fn keep(&mut self, text: &[u8]) -> Span {
        let at = size(self.bytes.len());
        self.bytes.extend_from_slice(text);
        Span { at, len: size(text.len()) }
    }

    pub(super) fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.span(span)).unwrap_or_default()
    }

    pub(super) fn span(&self, span: Span) -> &[u8] {
        let at = span.at as usize;
        self.bytes.get(at..at + span.len as usize).unwrap_or_default()
    }
}

impl Entry {
    fn value_at(&self) -> usize {
        self.at as usize + self.name as usize + COLON.len()
    }
}

/// Heads are bounded far below 4 GiB by whoever reads them.
fn size(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Makes letters lower case: eight at once, as a name has about a dozen.
fn make_lower(text: &mut [u8]) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = text.as_chunks_mut::<8>();
    for word in words {
        let x = u64::from_ne_bytes(*word);
        let low = x & (0x7f * ONES);
        // The top bit of each byte: it is at least `A`, and above `Z`.
        let (from_a, above_z) = (low + (0x80 - b'A' as u64) * ONES, low + (0x7f - b'Z' as u64) * ONES);
        let upper = from_a & !above_z & !x & (0x80 * ONES);
        *word = (x | upper >> 2).to_ne_bytes();
    }
    rest.make_ascii_lowercase();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_cookie_without_white_space_at_its_ends() {
        for (crumbs, whole) in [(&["", "a=1", "", "b=2", ""][..], "a=1; b=2"), (&["", ""], ""), (&["a=1", ""], "a=1")] {
            let mut fields = Fields::default();
            crumbs.iter().for_each(|crumb| fields.push(b"cookie", crumb.as_bytes()));
            fields.join_cookies();
            assert_eq!(fields.all("cookie").collect::<Vec<_>>(), [whole.as_bytes()]);
        }
    }

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

    #[test]
    fn letters_become_lower_case_and_nothing_else_changes() {
        let all: Vec<u8> = (0..=255).collect();
        for shift in 0..8 {
            let mut text = all[shift..].to_vec();
            make_lower(&mut text);
            assert_eq!(text, all[shift..].to_ascii_lowercase());
        }
    }

    #[test]
    fn placed_lines_are_written_as_they_came_or_made_so() {
        let text = b"Host: a\r\nX-A:1\r\nX-B:  2 \r\nX-C: 3\r\nX-D: 4\nX-E: 5\r\n";
        let mut fields = Fields::with_capacity(200, 8);
        fields.place(text);
        let at = |of: &str| {
            let start = text.windows(of.len()).position(|w| w == of.as_bytes()).unwrap();
            start..start + of.len()
        };
        assert_eq!(fields.push_placed(at("Host"), at("a")), Known::Host);
        assert_eq!(fields.last(), b"a");
        fields.pop();
        for (name, value) in [("X-A", "1"), ("X-B", "2"), ("X-C", "3"), ("X-D", "4"), ("X-E", "5")] {
            assert_eq!(fields.push_placed(at(name), at(value)), Known::Other);
        }
        fields.push(b"x-f", b"");
        fields.remove("x-c");
        let mut lines = Vec::new();
        fields.lines(|_, value| value != b"1", |run, n| lines.push((String::from_utf8_lossy(run).into_owned(), n)));
        let expected = [("x-b: 2\r\nx-d: 4\r\n", 2), ("x-e: 5\r\n", 1), ("x-f: \r\n", 1)];
        assert_eq!(lines, expected.map(|(run, n)| (run.to_owned(), n)));
        assert_eq!(fields.get("x-d"), Some(&b"4"[..]));
    }
}
