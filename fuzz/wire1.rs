//! A reader of HTTP/1 that forgives nothing, to look at what the proxy writes.
//!
//! In: bytes. Out: the one message they are. It shares no code with the proxy.

/// A message, field names as they were written.
pub(crate) struct Message {
    /// The words of the first line.
    pub(crate) line: [String; 3],
    /// `host`s.
    pub(crate) host: Vec<Vec<u8>>,
    /// All other fields, but for those that frame the body.
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) is_chunked: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A request, whole and alone.
pub(crate) fn request(bytes: &[u8]) -> Message {
    let (mut message, length, rest) = head(bytes).expect("a whole head");
    let rest = body(&mut message, rest, Some(length.unwrap_or_default())).expect("a whole body");
    assert!(rest.is_empty(), "behind the request: {:?}", String::from_utf8_lossy(rest));
    message
}

/// A response, alone; `None` if it is cut off.
pub(crate) fn response(bytes: &[u8], bodiless: bool) -> Option<Message> {
    let (mut message, length, rest) = head(bytes)?;
    let rest = if bodiless { rest } else { body(&mut message, rest, length)? };
    assert!(rest.is_empty(), "behind the response: {:?}", String::from_utf8_lossy(rest));
    Some(message)
}

type Head<'b> = (Message, Option<usize>, &'b [u8]);

fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let (first, mut rest) = line(bytes)?;
    let first = std::str::from_utf8(first).expect("a first line of text");
    let mut words = first.splitn(3, ' ').map(str::to_owned);
    let line = std::array::from_fn(|_| words.next().expect("three words"));
    let (mut host, mut lengths, mut codings, mut others) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, value) in fields(&mut rest)? {
        match &name[..] {
            b"host" => host.push(value),
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => codings.push(value),
            _ => others.push((name, value)),
        }
    }
    assert!(lengths.len() + codings.len() <= 1, "two lengths");
    assert!(codings.iter().all(|coding| coding == b"chunked"));
    let number = |text: &Vec<u8>| std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    let length = lengths.first().map(|text| number(text).expect("a length"));
    let is_chunked = !codings.is_empty();
    let message = Message { line, host, fields: others, is_chunked, body: Vec::new(), trailers: Vec::new() };
    Some((message, length, rest))
}

/// Lines up to an empty one.
fn fields(rest: &mut &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = Vec::new();
    loop {
        let (field, behind) = line(rest)?;
        *rest = behind;
        if field.is_empty() {
            return Some(all);
        }
        let colon = field.iter().position(|b| *b == b':').expect("a name and a value");
        let (name, value) = (&field[..colon], &field[colon + 1..]);
        assert!(!name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()), "{name:?}");
        all.push((name.to_vec(), value.trim_ascii().to_vec()));
    }
}

/// What is behind it; without a length a body ends where the bytes do.
fn body<'b>(message: &mut Message, mut rest: &'b [u8], length: Option<usize>) -> Option<&'b [u8]> {
    if !message.is_chunked {
        let (body, rest) = rest.split_at_checked(length.unwrap_or(rest.len()))?;
        message.body = body.to_vec();
        return Some(rest);
    }
    loop {
        let (size, behind) = line(rest)?;
        let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("the size of a chunk");
        if size == 0 {
            rest = behind;
            message.trailers = fields(&mut rest)?;
            return Some(rest);
        }
        let (data, behind) = behind.split_at_checked(size)?;
        message.body.extend_from_slice(data);
        rest = match behind {
            [b'\r', b'\n', behind @ ..] => behind,
            [] | [b'\r'] => return None,
            _ => panic!("a chunk does not end where it should"),
        };
    }
}

/// A line, without its end: that of a line holds no other.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = bytes.split_at(end);
    assert!(!line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "{:?}", String::from_utf8_lossy(line));
    Some((line, &rest[2..]))
}
