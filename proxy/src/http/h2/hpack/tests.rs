use super::*;
use crate::http::message::{Fields, Length, RequestHead, ResponseHead, Version};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Bad> {
    let mut all = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder.decode(block, |item| all.push((text(item.name), text(item.value)))).map(|()| all)
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A block, what it says, the size of the table after it.
type Step<'s> = (&'s str, &'s [(&'s str, &'s str)], usize);

fn history(limit: Option<usize>, steps: &[Step<'_>]) {
    let mut decoder = Decoder::default();
    if let Some(limit) = limit {
        decoder.table.resize(limit);
    }
    for (block, fields, size) in steps {
        assert_eq!(decode(&mut decoder, &hex(block)).unwrap(), pairs(fields), "{block}");
        assert_eq!(decoder.table.size(), *size, "{block}");
    }
}

const FIRST: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
const SECOND: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
    ("cache-control", "no-cache"),
];
const THIRD: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
];
const DATE: &str = "Mon, 21 Oct 2013 20:13:21 GMT";
const ANSWER: &[(&str, &str)] =
    &[(":status", "302"), ("cache-control", "private"), ("date", DATE), ("location", "https://www.example.com")];
const ANSWER2: &[(&str, &str)] =
    &[(":status", "307"), ("cache-control", "private"), ("date", DATE), ("location", "https://www.example.com")];
const ANSWER3: &[(&str, &str)] = &[
    (":status", "200"),
    ("cache-control", "private"),
    ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
    ("location", "https://www.example.com"),
    ("content-encoding", "gzip"),
    ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
];

#[test]
fn c2_single_fields() {
    history(
        None,
        &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &[("custom-key", "custom-header")], 55)],
    );
    history(None, &[("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], 0)]);
    history(None, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], 0)]);
    history(None, &[("82", &[(":method", "GET")], 0)]);
}

#[test]
fn c3_requests_without_huffman() {
    history(
        None,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", FIRST, 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", SECOND, 110),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", THIRD, 164),
        ],
    );
}

#[test]
fn c4_requests_with_huffman() {
    history(
        None,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", FIRST, 57),
            ("8286 84be 5886 a8eb 1064 9cbf", SECOND, 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", THIRD, 164),
        ],
    );
}

#[test]
fn c5_responses_without_huffman_in_a_table_of_256_bytes() {
    history(
        Some(256),
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
                 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                ANSWER,
                222,
            ),
            ("4803 3330 37c1 c0bf", ANSWER2, 222),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
                 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
                 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
                ANSWER3,
                215,
            ),
        ],
    );
}

#[test]
fn c6_responses_with_huffman_in_a_table_of_256_bytes() {
    history(
        Some(256),
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
                 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                ANSWER,
                222,
            ),
            ("4883 640e ffc1 c0bf", ANSWER2, 222),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
                 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                ANSWER3,
                215,
            ),
        ],
    );
}

#[test]
fn c1_numbers() {
    let number = |bits, bytes: &[u8]| Block(bytes).number(bits);
    assert_eq!(number(5, &[0b0000_1010]), Ok(10));
    assert_eq!(number(5, &[0b0001_1111, 0b1001_1010, 0b0000_1010]), Ok(1337));
    assert_eq!(number(8, &[0b0010_1010]), Ok(42));
    assert_eq!(number(7, &[0x7f]), Err(Bad::Short));
    assert_eq!(number(7, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x01]), Err(Bad::Number));
    assert_eq!(number(7, &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), Err(Bad::Number));
}

#[test]
fn blocks_that_cannot_be_decoded_are_refused() {
    for (block, why) in [
        ("80", Bad::Index),
        ("be", Bad::Index),
        ("7f 00 00", Bad::Index),
        ("ff ff ff ff ff 7f", Bad::Number),
        ("40", Bad::Short),
        ("40 0a 63", Bad::Short),
        ("00 01 61", Bad::Short),
        ("00 7f ff ff ff 07", Bad::Short),
        ("82 3f e1 1f", Bad::Size),
        ("3f e2 1f", Bad::Size),
        ("00 81 ff 01 61", Bad::Huffman),
    ] {
        assert_eq!(decode(&mut Decoder::default(), &hex(block)), Err(why), "{block}");
    }
}

#[test]
fn a_name_of_the_table_may_be_used_for_an_entry_that_pushes_it_out() {
    let mut decoder = Decoder::default();
    decode(&mut decoder, &hex("3f 19 40 01 61 05 62 62 62 62 62")).unwrap();
    assert_eq!(decoder.table.list(), pairs(&[("a", "bbbbb")]));
    assert_eq!(decode(&mut decoder, &hex("7e 05 63 63 63 63 63")).unwrap(), pairs(&[("a", "ccccc")]));
    assert_eq!(decoder.table.list(), pairs(&[("a", "ccccc")]));
    assert_eq!(decode(&mut decoder, &hex("20")).unwrap(), []);
    assert_eq!(decoder.table.list(), []);
}

#[test]
fn heads_are_encoded_so_that_they_decode_to_themselves() {
    let mut head = RequestHead::new(http::Method::PUT, Version::Http11);
    head.set_authority(b"a.b:80");
    head.set_path(b"/x?y");
    let long = vec![b'v'; 5000];
    for (name, value) in [
        ("te", &b"trailers"[..]),
        ("connection", b"close"),
        ("upgrade", b"h2c"),
        ("user-agent", b"me"),
        ("x-long", &long),
        ("authorization", b"secret"),
        ("x-127", &long[..127]),
        ("x-128", &long[..126]),
    ] {
        head.fields.push(name.as_bytes(), value);
    }
    let mut block = Vec::new();
    request(&mut block, &head, Length::Exact(1234), true);
    let all = decode(&mut Decoder::default(), &block).unwrap();
    let text = String::from_utf8(long).unwrap();
    assert_eq!(
        all,
        pairs(&[
            (":method", "PUT"),
            (":scheme", "https"),
            (":path", "/x?y"),
            (":authority", "a.b:80"),
            ("content-length", "1234"),
            ("te", "trailers"),
            ("user-agent", "me"),
            ("x-long", &text),
            ("authorization", "secret"),
            ("x-127", &text[..127]),
            ("x-128", &text[..126]),
        ])
    );
    let mut block = Vec::new();
    let fields = Fields::default();
    response(&mut block, &ResponseHead { status: 418, length: Length::Exact(0), fields, ..ResponseHead::new(200) });
    let all = decode(&mut Decoder::default(), &block).unwrap();
    assert_eq!(all, pairs(&[(":status", "418"), ("content-length", "0")]));
}
