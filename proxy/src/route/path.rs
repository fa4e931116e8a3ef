//! Paths made plain, so that what is matched is what is forwarded.

use std::borrow::Cow;

/// A path that can't be made plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPath;

/// If `dots`: letters that are escaped without need are not, what must be escaped is, `\` is `/`, and `.` and `..` are
/// resolved. If `slashes`: one slash of many. Nobody gets by a rule for `/admin` with `/%61dmin`.
///
/// # Errors
/// If the path leads above its root, or has a NUL.
pub fn normalize(path: &str, dots: bool, slashes: bool) -> Result<Cow<'_, str>, InvalidPath> {
    let odd = dots && (path.bytes().fold(false, |odd, b| odd | ODD[usize::from(b)]) || path.contains("/."));
    let plain = !(odd || slashes && path.contains("//"));
    if plain || !path.starts_with('/') {
        return Ok(path.into());
    }
    let unified = if dots { spelled(path)? } else { path.into() };
    if !dots || !unified.contains("/.") {
        return Ok(if slashes && unified.contains("//") { resolved(&unified, dots, slashes)?.into() } else { unified });
    }
    resolved(&unified, dots, slashes).map(Cow::Owned)
}

/// Bytes that a path should not have as they are, and `%`.
static ODD: [bool; 256] = {
    let mut odd = [false; 256];
    let bytes = b"%\\\"<>^`{|}";
    let mut i = 0;
    while i < bytes.len() {
        odd[bytes[i] as usize] = true;
        i += 1;
    }
    odd
};

/// Each byte in the one way it should be written. What was escaped makes no escape together with what is beside it, which
/// whoever reads the path next would take for one: the percent sign before it is escaped.
fn spelled(path: &str) -> Result<Cow<'_, str>, InvalidPath> {
    let bytes = path.as_bytes();
    if !bytes.iter().any(|b| ODD[usize::from(*b)]) {
        return Ok(path.into());
    }
    let digit = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
    let mut out = String::with_capacity(path.len() + 16);
    // Behind the last letter that was escaped.
    let mut fresh = 0;
    let mut chars = path.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, digit(at + 1), digit(at + 2)) {
            ('%', Some(0), Some(0)) => return Err(InvalidPath),
            ('%', Some(high), Some(low)) => {
                let byte = (high << 4 | low) as u8;
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                    out.push(byte.into());
                    fresh = out.len();
                    chars.nth(1);
                } else {
                    out.push('%');
                }
            }
            ('\\', ..) => out.push('/'),
            ('%', ..) => out.push('%'),
            (c, ..) if c.is_ascii() && ODD[c as usize] => {
                let hex = |n: u8| char::from(b"0123456789ABCDEF"[usize::from(n & 15)]);
                out.extend(['%', hex(c as u8 >> 4), hex(c as u8)]);
            }
            (c, ..) => out.push(c),
        }
        if fresh > 0
            && fresh + 1 >= out.len()
            && let [.., b'%', high, low] = out.as_bytes()
            && high.is_ascii_hexdigit()
            && low.is_ascii_hexdigit()
        {
            out.insert_str(out.len() - 2, "25");
            fresh = 0;
        }
    }
    Ok(out.into())
}

fn resolved(path: &str, dots: bool, slashes: bool) -> Result<String, InvalidPath> {
    let mut out = String::with_capacity(path.len());
    let mut parts = path[1..].split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match dot(part).filter(|_| dots) {
            Some(of) => {
                if of == 2 {
                    out.truncate(out.rfind('/').ok_or(InvalidPath)?);
                }
                if last {
                    out.push('/');
                }
            }
            None if part.is_empty() && slashes && !last => {}
            None => {
                out.push('/');
                out.push_str(part);
            }
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

/// 1 for `.`, 2 for `..`. Some servers read no further than a semicolon.
fn dot(part: &str) -> Option<u8> {
    match part.split_once(';').map_or(part, |(before, _)| before) {
        "." => Some(1),
        ".." => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_plain() {
        for (path, is) in [
            ("/a/b", Ok("/a/b")),
            ("/a/./b", Ok("/a/b")),
            ("/a/../b", Ok("/b")),
            ("/a/%2e%2E/b", Ok("/b")),
            ("/a/b/..", Ok("/a/")),
            ("/a/.", Ok("/a/")),
            ("//a///b//", Ok("/a/b/")),
            ("/a\\..\\b", Ok("/b")),
            ("/..", Err(InvalidPath)),
            ("/a/../../b", Err(InvalidPath)),
            ("/a/..;/b", Ok("/b")),
            ("/a/.;x=1/b", Ok("/a/b")),
            ("/a;/b", Ok("/a;/b")),
            ("/a%00b", Err(InvalidPath)),
            ("/%61dm%69n", Ok("/admin")),
            ("/a%2Fb%20c%c3%a9", Ok("/a%2Fb%20c%c3%a9")),
            ("/%2561", Ok("/%2561")),
            ("/%2%65%2%65/b", Ok("/%252e%252e/b")),
            ("/%%32e/b", Ok("/%252e/b")),
            ("/%%32%65/b", Ok("/%252e/b")),
            ("/%%333", Ok("/%2533")),
            ("/%2F%61%2Fb", Ok("/%2Fa%2Fb")),
            ("/%61%2F%2f", Ok("/a%2F%2f")),
            ("/a%zz%", Ok("/a%zz%")),
            ("/<a>{b}", Ok("/%3Ca%3E%7Bb%7D")),
            ("/a%2e", Ok("/a.")),
            ("/...", Ok("/...")),
            ("/a/b/../../", Ok("/")),
            ("/a/b/./..//", Ok("/a/")),
            ("/.well-known/x", Ok("/.well-known/x")),
            ("*", Ok("*")),
        ] {
            assert_eq!(normalize(path, true, true).as_deref().map_err(|e| *e), is, "{path}");
        }
        assert_eq!(normalize("//a/../b", false, false).as_deref(), Ok("//a/../b"));
        assert_eq!(normalize("//a/../b", true, false).as_deref(), Ok("//b"));
        assert_eq!(normalize("//../b", true, false).as_deref(), Ok("/b"));
    }
}
