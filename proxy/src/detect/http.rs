//! Is it HTTP, and which: the request line of HTTP/1, or the preface of HTTP/2.
//!
//! In: the first bytes of a plaintext connection. Out: [`HttpSniff`]. A request line counts only when it is whole, so
//! that no text protocol that happens to begin with a word is taken for HTTP.

/// What the bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpSniff {
    /// It may become HTTP.
    More,
    /// Something else.
    NotHttp,
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most bytes of a target.
const LONGEST_LINE: usize = 8 * 1024;
const LONGEST_METHOD: usize = 24;

/// Looks for HTTP at the start of `bytes`.
pub fn http(bytes: &[u8]) -> HttpSniff {
    let common = bytes.iter().zip(PREFACE).take_while(|(a, b)| a == b).count();
    if common == PREFACE.len() {
        return HttpSniff::Http2;
    }
    // "PRI" and its like: undecided while it agrees with the preface.
    if common == bytes.len() {
        return HttpSniff::More;
    }
    let method = bytes.iter().take_while(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_')).count();
    if method == 0 || method > LONGEST_METHOD {
        return HttpSniff::NotHttp;
    }
    let Some(rest) = bytes.get(method..).filter(|r| !r.is_empty()) else { return HttpSniff::More };
    if rest[0] != b' ' {
        return HttpSniff::NotHttp;
    }
    let target = &rest[1..];
    let length = target.iter().take_while(|b| b.is_ascii_graphic() || **b >= 0x80).count();
    // Of the line, not of what came with it: that depends on how it was cut.
    if length > LONGEST_LINE {
        return HttpSniff::NotHttp;
    }
    let version = &target[length..];
    if version.is_empty() {
        return HttpSniff::More;
    }
    if length == 0 {
        return HttpSniff::NotHttp;
    }
    for whole in [&b" HTTP/1.1\r\n"[..], b" HTTP/1.0\r\n", b" HTTP/1.1\n", b" HTTP/1.0\n"] {
        if version.starts_with(whole) {
            return HttpSniff::Http1;
        }
        if whole.starts_with(version) {
            return HttpSniff::More;
        }
    }
    HttpSniff::NotHttp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_request_line_or_preface_decides() {
        for (bytes, is) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], HttpSniff::Http1),
            (b"POST http://a/b HTTP/1.0\r\n", HttpSniff::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxx", HttpSniff::Http2),
            (b"PRI * HTTP/2.0\r\n", HttpSniff::More),
            (b"PROPFIND /a HTTP/1.1\r\n", HttpSniff::Http1),
            (b"", HttpSniff::More),
            (b"GET", HttpSniff::More),
            (b"GET /a HTT", HttpSniff::More),
            (b"GET /a\r\n", HttpSniff::NotHttp),
            (b"HELO mail\r\n", HttpSniff::NotHttp),
            (b"SSH-2.0-OpenSSH\r\n", HttpSniff::NotHttp),
            (b"\x00\x01", HttpSniff::NotHttp),
            (b"*1\r\n$4\r\nPING\r\n", HttpSniff::NotHttp),
            (b"GET  / HTTP/1.1\r\n", HttpSniff::NotHttp),
        ] {
            assert_eq!(http(bytes), is, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut line = b"GET /".to_vec();
        line.resize(LONGEST_LINE + 5, b'a');
        assert_eq!(http(&line), HttpSniff::NotHttp);
    }

    #[test]
    fn what_comes_with_a_line_does_not_change_what_it_is() {
        let mut bytes = b"POST / HTTP/1.1\r\n".to_vec();
        bytes.resize(2 * LONGEST_LINE, b'a');
        assert_eq!(http(&bytes), HttpSniff::Http1);
    }
}
