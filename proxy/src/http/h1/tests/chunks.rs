//! Bodies in chunks: decoded the same wherever they are cut, refused if they could be read in two ways.

use proptest::prelude::*;

use super::*;
use crate::http::h1::body::{Found, Inbound};
use crate::http::h1::framing::Framing;
use crate::http::h1::write;

/// Decodes `parts` one after the other, as they would be read: body, trailers, and what is left behind them.
fn decode(parts: &[&[u8]]) -> Result<(String, String), Broken> {
    let mut body = Inbound::new(Framing::Chunked);
    let (mut held, mut data, mut trailers) = (Vec::new(), Vec::new(), String::new());
    for part in parts {
        held.extend_from_slice(part);
        while !body.has_ended() {
            let (used, found) = body.next(&held)?;
            held.drain(..used);
            match found {
                Found::More => break,
                Found::Data { len, last } => {
                    data.extend_from_slice(&held[..len]);
                    let done = body.took(len);
                    held.drain(..done);
                    assert_eq!(last, body.has_ended());
                }
                Found::Trailers(fields) => trailers = list(&fields),
                Found::End => {}
            }
        }
    }
    if !body.has_ended() {
        return Err(Broken::Gone);
    }
    Ok((show(&data) + &show(&held), trailers))
}

fn check(rows: &[(&str, Result<&str, &str>)]) {
    for (text, expected) in rows {
        let bytes = text.replace('|', "\r\n").replace('¶', "\n").replace('®', "\r").replace('Ø', "\0");
        let result = |parts: &[&[u8]]| match decode(parts) {
            Ok((data, trailers)) if trailers.is_empty() => Ok(data),
            Ok((data, trailers)) => Ok(format!("{data} {trailers}")),
            Err(Broken::Malformed(_)) => Err("bad".to_owned()),
            Err(why) => Err(why.to_string()),
        };
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(result(&[bytes.as_bytes()]), expected, "{text}");
        for cut in 1..bytes.len() {
            let (a, b) = bytes.as_bytes().split_at(cut);
            assert_eq!(result(&[a, b]), expected, "{text} cut at {cut}");
        }
        let each: Vec<&[u8]> = bytes.as_bytes().chunks(1).collect();
        assert_eq!(result(&each), expected, "{text} byte by byte");
    }
}

#[test]
fn chunks_extensions_trailers() {
    check(&[
        ("0||", Ok("")),
        ("3|abc|0||", Ok("abc")),
        ("3|abc|2|de|0||", Ok("abcde")),
        ("A|0123456789|0||", Ok("0123456789")),
        ("a|0123456789|0||", Ok("0123456789")),
        ("0003|abc|000||", Ok("abc")),
        ("3;x|abc|0;y=z||", Ok("abc")),
        ("3;x=\"a;b\"|abc|0||", Ok("abc")),
        ("3 ;x|abc|0 \t||", Ok("abc")),
        ("3|abc|0|X-T: 1||", Ok("abc x-t=1")),
        ("3|abc|0|X-T: 1|Y:2||", Ok("abc x-t=1,y=2")),
        ("1|a|0|Content-Length: 5|Host: b|Transfer-Encoding: chunked|X: 1|Connection: close||", Ok("a x=1")),
        ("1|a|0|Authorization: x||", Ok("a")),
        // What follows the body is not of it.
        ("3|abc|0||GET", Ok("abcGET")),
        ("3|0\r\n|0||", Ok("0\r\n")),
    ]);
}

#[test]
fn chunks_that_are_refused() {
    check(&[
        ("", Err("the connection broke")),
        ("3|abc|0|", Err("the connection broke")),
        ("3|abc|0|X: 1|", Err("the connection broke")),
        ("|", Err("bad")),
        ("g|", Err("bad")),
        ("-1|", Err("bad")),
        ("+1|a|", Err("bad")),
        (" 1|a|", Err("bad")),
        ("0x1|a|", Err("bad")),
        (";x|", Err("bad")),
        ("1 1|a|", Err("bad")),
        ("1_0|", Err("bad")),
        ("10000000000000000|", Err("bad")),
        ("00000000000000001|", Err("bad")),
        ("ffffffffffffffffff|", Err("bad")),
        // A line ends with CR LF: other ends are how chunks are smuggled.
        ("3¶abc|0||", Err("bad")),
        ("3®abc|0||", Err("bad")),
        ("3;x¶abc|0||", Err("bad")),
        ("3;®x|abc|0||", Err("bad")),
        ("3;Ø|abc|0||", Err("bad")),
        ("3;\u{1}|abc|0||", Err("bad")),
        ("3|abc¶0||", Err("bad")),
        ("3|abc®0||", Err("bad")),
        ("3|abcd|0||", Err("bad")),
        ("3|ab|0||", Err("bad")),
        ("0|¶", Err("bad")),
        ("0|X: 1¶|", Err("bad")),
        ("0| X: 1||", Err("bad")),
        ("0|X : 1||", Err("bad")),
        ("0|X: 1| y||", Err("bad")),
        ("0|X: Ø||", Err("bad")),
        ("0|X||", Err("bad")),
    ]);
}

#[test]
fn what_frames_is_bounded() {
    let extension = |n: usize| decode(&[format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(n)).as_bytes()]);
    assert!(extension(16 * 1024).is_ok());
    assert_eq!(extension(16 * 1024 + 1), Err(Broken::TooLarge));
    let many = "1;xxxxxxxx\r\na\r\n".repeat(3000) + "0\r\n\r\n";
    assert_eq!(decode(&[many.as_bytes()]), Err(Broken::TooLarge));
    let trailers = |n: usize| decode(&[format!("0\r\n{}\r\n", "x: 1\r\n".repeat(n)).as_bytes()]);
    assert!(trailers(64).is_ok());
    assert_eq!(trailers(65), Err(Broken::TooLarge));
    let long = |n: usize| decode(&[format!("0\r\nx: {}", "1".repeat(n)).as_bytes()]);
    assert_eq!((long(16_000), long(17_000)), (Err(Broken::Gone), Err(Broken::TooLarge)));
}

#[test]
fn a_size_is_written_as_it_is_read() {
    for n in [1, 9, 10, 15, 16, 255, 4096, 65_535, 65_536, 1 << 40, usize::MAX] {
        let mut line = Vec::new();
        write::chunk_size(&mut line, n);
        assert_eq!(show(&line), format!("{n:x}\r\n"));
        let mut line = Vec::new();
        write::content_length(&mut line, n as u64);
        assert_eq!(show(&line), format!("content-length: {n}\r\n"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn what_is_written_in_chunks_is_read_back_wherever_it_is_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        trailers in prop::collection::vec("[a-z]{1,8}", 0..3),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            write::chunk_size(&mut wire, chunk.len());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(write::CHUNK_END);
        }
        let mut fields = Fields::default();
        for value in &trailers {
            fields.push(b"x-trailer", value.as_bytes());
        }
        write::last_chunk(&mut wire, Some(&fields));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|w| &wire[w[0]..w[1]]).collect();
        let (data, read) = decode(&parts).unwrap();
        prop_assert_eq!(data, show(&chunks.concat()));
        prop_assert_eq!(read, list(&fields));
    }

    #[test]
    fn any_bytes_end_somewhere(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let (a, b) = bytes.split_at(cut.index(bytes.len() + 1).min(bytes.len()));
        prop_assert_eq!(decode(&[a, b]), decode(&[&bytes]));
    }
}
