//! One answer of HTTP/1.1, looked at closely: status, length, every byte of the body.

/// What there is of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Not all of it yet.
    Partial,
    /// All of it, and as expected; whether the connection ends with it.
    Good { close: bool },
    /// Something else.
    Wrong(String),
}

/// Looks at what came on a connection since the request was sent.
pub(crate) fn look(bytes: &[u8], body: &[u8]) -> Answer {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return if bytes.len() > 64 << 10 { Answer::Wrong("a head without end".to_owned()) } else { Answer::Partial };
    };
    let (head, rest) = bytes.split_at(end + 4);
    let mut lines = head.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let status = lines.next().unwrap_or_default();
    let (mut length, mut chunked, mut close) = (None, false, false);
    for line in lines {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value).ok().and_then(|v| v.parse::<usize>().ok());
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"connection") {
            close = value.eq_ignore_ascii_case(b"close");
        }
    }
    if !status.starts_with(b"HTTP/1.1 200") {
        return Answer::Wrong(format!("status line {:?}", String::from_utf8_lossy(status)));
    }
    if chunked {
        return unchunk(rest).map_or(Answer::Partial, |found| compare(&found, body, close));
    }
    match length {
        None => Answer::Wrong("neither a length nor chunks".to_owned()),
        Some(length) if length != body.len() => Answer::Wrong(format!("{length} bytes for {}", body.len())),
        Some(length) if rest.len() < length => Answer::Partial,
        Some(_) => compare(rest, body, close),
    }
}

fn compare(found: &[u8], body: &[u8], close: bool) -> Answer {
    if found == body {
        Answer::Good { close }
    } else if found.len() != body.len() {
        Answer::Wrong(format!("{} bytes for {}", found.len(), body.len()))
    } else {
        Answer::Wrong("another body".to_owned())
    }
}

/// The body of chunks, when the last one is there. What can't be read is given as it is: it equals no expected body.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = vec![];
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|s| usize::from_str_radix(s.trim(), 16).ok());
        let Some(size) = size.filter(|size| *size < 1 << 30) else { return Some(rest.to_vec()) };
        rest = &rest[end + 2..];
        if rest.len() < size + 2 {
            return None;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
        if size == 0 {
            return Some(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        look(text.as_bytes(), b"ok\n")
    }

    #[test]
    fn a_right_answer_is_good_when_it_is_whole() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
        assert_eq!(answer(whole), Answer::Good { close: false });
        for cut in 0..whole.len() {
            assert_eq!(answer(&whole[..cut]), Answer::Partial, "{cut}");
        }
        let chunks =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n1\r\n\n\r\n0\r\n\r\n";
        assert_eq!(answer(chunks), Answer::Good { close: true });
        assert_eq!(answer(&chunks[..chunks.len() - 3]), Answer::Partial);
    }

    #[test]
    fn wrong_answers_are_wrong() {
        for text in [
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nok\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok\n\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nno\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\nHTTP/1.1",
            "HTTP/1.1 200 OK\r\n\r\nok\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\n",
        ] {
            assert!(matches!(answer(text), Answer::Wrong(_)), "{text}");
        }
    }
}
