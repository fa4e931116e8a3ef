//! The notation of the tables: text in which what can't be seen has a name in braces.
//!
//! In: text. Out: [`Step`]s. A line end is CR LF in HTTP/1. `{host}` and `{name}` are the case's own. `{a*300}` is 300 times
//! `a`; `#` in what is repeated counts, `LONG` is 800 bytes. `{xE9}` is a byte, `{cr}`, `{lf}` and `{nul}` are bytes alone. All others are steps.

/// What is done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// These bytes are sent.
    Bytes(Vec<u8>),
    /// The client reads one answer.
    Read,
    /// The client reads so many bytes.
    ReadBytes(usize),
    /// The sender says that nothing follows.
    Eof,
    /// Long enough for the other end to act on what came before.
    Pause,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// What comes in goes back, to its end.
    Echo,
    /// Nothing is said until the other end closes.
    Hold,
    /// The server does not wait for the body before it answers.
    Early,
    /// HTTP/2: what follows are trailers.
    Trailers,
    /// HTTP/2: the stream stays open.
    Open,
    /// HTTP/2: the stream is reset with this code.
    ResetStream(u32),
}

/// The line end of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// CR LF.
    Http1,
    /// As they are written: a line is a field of HTTP/2.
    Http2,
}

/// Reads the notation.
///
/// # Panics
/// If a word in braces is not known: the table is wrong.
pub(crate) fn steps(text: &str, name: &str, lines: Lines) -> Vec<Step> {
    let mut all = Vec::new();
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        plain(&mut bytes, before, lines);
        let (word, after) = after.split_once('}').unwrap_or_else(|| panic!("{text:?} has an open brace"));
        rest = after;
        match word {
            "host" => bytes.extend_from_slice(host(name).as_bytes()),
            "name" => bytes.extend_from_slice(name.as_bytes()),
            "cr" => bytes.push(b'\r'),
            "lf" => bytes.push(b'\n'),
            "nul" => bytes.push(0),
            _ => match repeated(word, lines).or_else(|| byte(word)) {
                Some(more) => bytes.extend(more),
                None => {
                    let step = step(word).unwrap_or_else(|| panic!("{{{word}}} is not known, in {text:?}"));
                    flush(&mut all, &mut bytes);
                    all.push(step);
                }
            },
        }
    }
    plain(&mut bytes, rest, lines);
    flush(&mut all, &mut bytes);
    all
}

/// The host name of a case.
pub(crate) fn host(name: &str) -> String {
    format!("{name}.diff.test")
}

fn flush(all: &mut Vec<Step>, bytes: &mut Vec<u8>) {
    if !bytes.is_empty() {
        all.push(Step::Bytes(std::mem::take(bytes)));
    }
}

fn plain(bytes: &mut Vec<u8>, text: &str, lines: Lines) {
    match lines {
        Lines::Http1 => bytes.extend_from_slice(text.replace('\n', "\r\n").as_bytes()),
        Lines::Http2 => bytes.extend_from_slice(text.as_bytes()),
    }
}

fn repeated(word: &str, lines: Lines) -> Option<Vec<u8>> {
    let (what, times) = word.rsplit_once('*')?;
    let times: usize = times.parse().ok()?;
    let mut all = Vec::new();
    for i in 0..times {
        let one = what.replace('#', &i.to_string()).replace("LONG", &"a".repeat(800));
        plain(&mut all, &one, lines);
    }
    Some(all)
}

fn byte(word: &str) -> Option<Vec<u8>> {
    let digits = word.strip_prefix('x').filter(|d| d.len() == 2)?;
    u8::from_str_radix(digits, 16).ok().map(|b| vec![b])
}

fn step(word: &str) -> Option<Step> {
    Some(match word {
        "read" => Step::Read,
        "eof" => Step::Eof,
        "pause" => Step::Pause,
        "close" => Step::Close,
        "reset" => Step::Reset,
        "echo" => Step::Echo,
        "hold" => Step::Hold,
        "early" => Step::Early,
        "trailers" => Step::Trailers,
        "open" => Step::Open,
        _ => match word.split_once(' ')? {
            ("rst", code) => Step::ResetStream(code.parse().ok()?),
            ("read", n) => Step::ReadBytes(n.parse().ok()?),
            _ => return None,
        },
    })
}

#[test]
fn the_notation_says_what_cannot_be_seen() {
    let bytes = |text: &str| Step::Bytes(text.as_bytes().to_vec());
    let read = |text| steps(text, "n", Lines::Http1);
    assert_eq!(read("a\n{host}{lf}"), [bytes("a\r\nn.diff.test\n")]);
    assert_eq!(read("{a*3}{f#: v\n*2}"), [bytes("aaaf0: v\r\nf1: v\r\n")]);
    assert_eq!(read("{x41}{read}b{rst 8}"), [bytes("A"), Step::Read, bytes("b"), Step::ResetStream(8)]);
    assert_eq!(steps("a\nb", "n", Lines::Http2), [bytes("a\nb")]);
}
