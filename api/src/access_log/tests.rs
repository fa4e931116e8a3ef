use super::*;

fn header(name: &str, or: Option<&str>, most: Option<usize>) -> Header {
    Header { name: name.into(), or: or.map(str::to_owned), most }
}

#[test]
fn a_format_is_text_and_operators() {
    let parts = parse("a%%b %REQ(X-A?:PATH):7%%RESPONSE_CODE%\n").unwrap();
    assert_eq!(
        parts,
        [
            Part::Text("a%b ".into()),
            Part::Operator(Operator::Request(header("x-a", Some(":path"), Some(7)))),
            Part::Operator(Operator::Fact(Fact::ResponseCode)),
            Part::Text("\n".into()),
        ]
    );
    assert_eq!(parse("").unwrap(), []);
}

#[test]
fn a_time_has_percent_signs_and_brackets_of_its_own() {
    let parts = parse("%START_TIME(%Y (%s.%3f))%;%START_TIME%;%EMIT_TIME(%E6S)%").unwrap();
    let time = |parts| Some(TimeFormat { parts });
    let text = |text: &str| TimePart::Text(text.into());
    assert_eq!(
        parts,
        [
            Part::Operator(Operator::StartTime(time(vec![
                TimePart::Field('Y'),
                text(" ("),
                TimePart::Field('s'),
                text("."),
                TimePart::Fraction(3),
                text(")"),
            ]))),
            Part::Text(";".into()),
            Part::Operator(Operator::StartTime(None)),
            Part::Text(";".into()),
            Part::Operator(Operator::EmitTime(time(vec![TimePart::Field('S'), text("."), TimePart::Fraction(6)]))),
        ]
    );
}

#[test]
fn what_is_not_known_is_named() {
    for (format, why) in [
        ("%NO_SUCH%", "operator %NO_SUCH% is not supported"),
        ("%CEL(request.path)%", "operator %CEL% is not supported"),
        ("%DURATION(1)%", "%DURATION% takes no parameters"),
        ("%DURATION:3%", "%DURATION% takes no length"),
        ("%GRPC_STATUS(X)%", "%GRPC_STATUS(X)%: it takes CAMEL_STRING, SNAKE_STRING or NUMBER"),
        ("%REQ%", "%REQ% needs parameters in brackets"),
        ("%REQ()%", "%REQ% needs parameters in brackets"),
        ("%REQ(a b)%", "%REQ(a b)%: a header, or HEADER?OTHER, is expected"),
        ("%REQ(a?)%", "%REQ(a?)%: a header, or HEADER?OTHER, is expected"),
        ("%START_TIME(%Q)%", "%START_TIME(%Q)%: it has a conversion that is not supported"),
        ("100 %", "\"%\" begins no operator; a percent sign itself is written %%"),
        ("%REQ(a):x%", "\"%REQ(a):x%\" begins no operator; a percent sign itself is written %%"),
        ("%lower%", "\"%lower%\" begins no operator; a percent sign itself is written %%"),
        ("%REQ(a", "\"%REQ(a\" begins no operator; a percent sign itself is written %%"),
    ] {
        assert_eq!(parse(format).unwrap_err().to_string(), why, "{format}");
    }
    assert!(parse(&"x".repeat(LONGEST + 1)).is_err());
    assert!(parse("%REQ(a):99999999999999999999999%").is_err());
}

#[test]
fn the_known_formats_are_read() {
    for text in [ISTIO_TEXT, ENVOY_TEXT] {
        assert!(parse(text).unwrap().len() > 20);
    }
    for (key, value) in ISTIO_JSON {
        assert!(matches!(parse(value).unwrap().as_slice(), [Part::Operator(_)]), "{key}");
    }
    assert!(ISTIO_JSON.is_sorted());
    for fact in Fact::ALL {
        let parts = parse(&format!("%{}%", fact.name())).unwrap();
        assert_eq!(parts, [Part::Operator(Operator::Fact(*fact))]);
    }
    for unset in ["%FILTER_STATE(a:PLAIN):9%", "%DYNAMIC_METADATA(a)%", "%VIRTUAL_CLUSTER_NAME%"] {
        assert_eq!(parse(unset).unwrap(), [Part::Operator(Operator::Unset)]);
    }
    let said = Operator::Metadata { filter: "a".into(), key: "b".into(), most: Some(9) };
    assert_eq!(parse("%DYNAMIC_METADATA(a:b):9%").unwrap(), [Part::Operator(said)]);
}
