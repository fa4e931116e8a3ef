//! What names and values of fields may consist of (RFC 9113, 8.2.1; RFC 9110, 5.5 and 5.6.2).

const NAME: u8 = 1;
const HOST: u8 = 2;
const PATH: u8 = 4;

/// What each byte may stand in.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut class = [0; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        let b = byte as u8;
        // Upper case is left out of names.
        if matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
        {
            class[byte] |= NAME;
        }
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%') {
            class[byte] |= HOST;
        }
        if b > b' ' && b < 0x7f && b != b'#' {
            class[byte] |= PATH;
        }
        byte += 1;
    }
    class
}

fn all(text: &[u8], class: u8) -> bool {
    text.iter().fold(class, |all, byte| all & CLASS[usize::from(*byte)]) != 0
}

/// A name: lower case, at least one byte; a colon only in front.
pub(super) fn name(name: &[u8]) -> bool {
    let name = name.strip_prefix(b":").unwrap_or(name);
    !name.is_empty() && all(name, NAME)
}

/// A value: no control characters, no white space around it.
pub(super) fn value(value: &[u8]) -> bool {
    let white = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    // Arithmetic instead of a table: it is done for many bytes at a time.
    let control = value.iter().fold(false, |any, b| any | ((*b < b' ') & (*b != b'\t')) | (*b == 0x7f));
    !control && !white(value.first()) && !white(value.last())
}

/// Longest host with its port.
const LONGEST_AUTHORITY: usize = 512;

/// A host with or without a port: no user, no path.
pub(super) fn authority(authority: &[u8]) -> bool {
    (1..=LONGEST_AUTHORITY).contains(&authority.len()) && all(authority, HOST)
}

/// Where CONNECT goes: a host with a port.
pub(super) fn target(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Path and query. What is beyond ASCII must be escaped.
pub(super) fn path(path: &[u8]) -> bool {
    path.first() == Some(&b'/') && all(path, PATH)
}

/// A scheme, or the name of a protocol.
pub(super) fn token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| CLASS[usize::from(b.to_ascii_lowercase())] & NAME != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_values_hosts_and_paths_are_told_from_others() {
        for good in [&b"a"[..], b"x-a_b.1", b":path"] {
            assert!(name(good), "{good:?}");
        }
        for bad in [&b""[..], b":", b"A", b"a:b", b"a b", b"a\0", b"\x80", b"a\x7f"] {
            assert!(!name(bad), "{bad:?}");
        }
        for good in [&b""[..], b"a b", b"\xc3\xa4", b"a\tb"] {
            assert!(value(good), "{good:?}");
        }
        for bad in [&b" a"[..], b"a\t", b"a\rb", b"a\nb", b"a\0b", b"\x7f", b"a\x01"] {
            assert!(!value(bad), "{bad:?}");
        }
        assert!(authority(b"[::1]:80") && authority(b"a.b:1"));
        for bad in [&b""[..], b"a/b", b"u@h", b"a b", b"a?b", b"a#b", b"a\\b"] {
            assert!(!authority(bad), "{bad:?}");
        }
        assert!(path(b"/a?b=%c3%a4"));
        for bad in [&b""[..], b"a", b"/ a", b"/#a", b"/\x80", b"/\xc3\xa4", b"*", b"/a\x00"] {
            assert!(!path(bad), "{bad:?}");
        }
        assert!(target("a:1") && target("[::1]:65535"));
        for bad in ["a", "a:", ":1", "a:x", "a:65536"] {
            assert!(!target(bad), "{bad:?}");
        }
        assert!(token(b"https") && !token(b"") && !token(b"a b") && token(b"WebSocket"));
    }
}
