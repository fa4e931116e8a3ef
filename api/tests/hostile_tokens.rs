//! Join tokens that somebody damaged, cut, or made up: each is refused with a sentence, none is taken.

#![allow(clippy::unwrap_used)] // helpers of tests fail by panic

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hawser_api::token::{InvalidToken, JoinToken, Pin};

fn good() -> JoinToken {
    JoinToken {
        addresses: vec!["10.0.0.1:15012".into()],
        trust_domain: "cluster.local".parse().unwrap(),
        pins: vec![Pin([7; 32])],
        id: "abc".into(),
        secret: "s3cret".into(),
    }
}

fn made_of(json: &str) -> String {
    format!("hwj1.{}", URL_SAFE_NO_PAD.encode(json))
}

#[test]
fn a_cut_or_changed_token_is_never_taken_for_the_whole_one() {
    let whole = good();
    let text = whole.reveal();
    for end in 0..text.len() {
        assert!(text[..end].parse::<JoinToken>().is_err(), "cut after {end}");
    }
    for position in 5..text.len() {
        for other in ["A", "=", "+", "\u{e9}", "\0", " "] {
            let changed = format!("{}{other}{}", &text[..position], &text[position + 1..]);
            assert!(
                changed == text || changed.parse::<JoinToken>().ok() != Some(whole.clone()),
                "changed at {position}"
            );
        }
    }
}

#[test]
fn made_up_contents_are_refused() {
    let pin = Pin([7; 32]);
    let fields = |a: &str, t: &str, p: &str, i: &str, s: &str| {
        made_of(&format!("{{\"a\":{a},\"t\":{t},\"p\":{p},\"i\":{i},\"s\":{s}}}"))
    };
    let (a, t, p, i, s) = ("[\"h:1\"]", "\"cluster.local\"", &*format!("[\"{pin}\"]"), "\"id\"", "\"secret\"");
    assert!(fields(a, t, p, i, s).parse::<JoinToken>().is_ok(), "what the others are made from is good");
    let many = |n: usize, item: &str| format!("[{}]", vec![item; n].join(","));
    let long = format!("\"{}\"", "x".repeat(500));
    for bad in [
        fields("[]", t, p, i, s),
        fields(&many(9, "\"h:1\""), t, p, i, s),
        fields("\"h:1\"", t, p, i, s),
        fields("[1]", t, p, i, s),
        fields("null", t, p, i, s),
        fields(a, "\"Cluster.Local\"", p, i, s),
        fields(a, "\"\"", p, i, s),
        fields(a, "\"a/b\"", p, i, s),
        fields(a, "7", p, i, s),
        fields(a, t, "[]", i, s),
        fields(a, t, &many(3, &format!("\"{pin}\"")), i, s),
        fields(a, t, "[\"AAAA\"]", i, s),
        fields(a, t, "[\"not base64!\"]", i, s),
        fields(a, t, p, "\"\"", s),
        fields(a, t, p, &long, s),
        fields(a, t, p, i, "\"\""),
        fields(a, t, p, i, &long),
        fields(a, t, p, i, "{}"),
        made_of("{}"),
        made_of("[]"),
        made_of("null"),
        made_of(""),
        made_of("{\"a\":"),
        made_of(&"[".repeat(3000)),
        made_of(&format!("{{\"a\":{a},\"t\":{t},\"p\":{p},\"i\":{i},\"s\":{s},\"x\":1}}")),
        made_of(&format!("{{\"a\":{a},\"a\":{a},\"t\":{t},\"p\":{p},\"i\":{i},\"s\":{s}}}")),
        format!("hwj2.{}", &good().reveal()[5..]),
        format!("hwj1.{}", "A".repeat(1 << 20)),
        "hwj1.".into(),
        String::new(),
        "\0\0\0\0".into(),
    ] {
        let error = bad.parse::<JoinToken>().expect_err(&bad.chars().take(200).collect::<String>());
        assert!(error.to_string().contains("token"), "{error}");
        assert!(matches!(error, InvalidToken::Prefix | InvalidToken::Damaged | InvalidToken::Content(_)));
    }
}
