//! Paths made plain, so that what is matched is what is forwarded.

use std::borrow::Cow;

/// A path that can't be made plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPath;

/// Resolves `.` and `..` (written as `%2e` too) if `dots`, makes one slash of many if `slashes`. A path that leads
/// above its root is invalid.
///
/// # Errors
/// If the path leads above its root.
pub fn normalize(path: &str, dots: bool, slashes: bool) -> Result<Cow<'_, str>, InvalidPath> {
    let plain = !(dots && (path.contains("/.") || path.contains("/%2") || path.contains('\\')))
        && !(slashes && path.contains("//"));
    if plain || !path.starts_with('/') {
        return Ok(path.into());
    }
    let unified: Cow<'_, str> = if dots && path.contains('\\') { path.replace('\\', "/").into() } else { path.into() };
    let mut out = String::with_capacity(unified.len());
    let mut parts = unified[1..].split('/').peekable();
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
    Ok(out.into())
}

/// 1 for `.`, 2 for `..`.
fn dot(part: &str) -> Option<u8> {
    let mut rest = part;
    let mut count = 0;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').or_else(|| rest.strip_prefix("%2e")).or_else(|| rest.strip_prefix("%2E"))?;
        count += 1;
    }
    (1..=2).contains(&count).then_some(count)
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
