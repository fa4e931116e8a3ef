//! What a request line asks for: the host, and the path in origin form (RFC 9112, 3.2).

use http::Method;

/// Longest host with its port.
const LONGEST_AUTHORITY: usize = 512;

/// Path and query, and a host if the target names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'b> {
    /// Host of an absolute form, or where CONNECT goes.
    pub(super) authority: Option<&'b str>,
    /// Path; empty of CONNECT.
    pub(super) path: &'b str,
    /// It is a query without a path: a slash belongs before it.
    pub(super) slash: bool,
}

/// Reads a target; `None` if it is none.
pub(super) fn read<'b>(method: &Method, target: &'b str) -> Option<Target<'b>> {
    // Fragments are never sent (RFC 9112, 3.2); others than ASCII must be escaped.
    if !target.bytes().fold(true, |all, b| all & b.is_ascii_graphic() & (b != b'#')) {
        return None;
    }
    if *method == Method::CONNECT {
        let (host, port) = target.rsplit_once(':')?;
        let good =
            !host.is_empty() && !port.is_empty() && port.parse::<u16>().is_ok() && is_authority(target.as_bytes());
        return good.then_some(Target { authority: Some(target), path: "", slash: false });
    }
    if target.starts_with('/') {
        return Some(Target { authority: None, path: target, slash: false });
    }
    if target == "*" {
        return (*method == Method::OPTIONS).then_some(Target { authority: None, path: target, slash: false });
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !is_authority(authority.as_bytes()) {
        return None;
    }
    let (path, slash) = match path {
        "" if *method == Method::OPTIONS => ("*", false),
        "" => ("/", false),
        path => (path, path.starts_with('?')),
    };
    Some(Target { authority: Some(authority), path, slash })
}

/// Whether text names a host, with or without a port.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let all = text.iter().fold(true, |all, b| all & GOOD[usize::from(*b)]);
    !text.is_empty() && text.len() <= LONGEST_AUTHORITY && all
}

/// Bytes of a host and a port.
static GOOD: [bool; 256] = {
    let mut good = [false; 256];
    let mut b = 0u8;
    while b < 128 {
        good[b as usize] =
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'~' | b'%');
        b += 1;
    }
    good
};
