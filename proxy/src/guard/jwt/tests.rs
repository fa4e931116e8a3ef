use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as sign, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use hawser_api::proto::core::{DataSource, data_source::Specifier};
use hawser_api::proto::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use hawser_api::proto::route;
use serde_json::json;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::http::message::Version;

const NOW: u64 = 1_800_000_000;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unsigned(header: &Value, payload: &Value) -> String {
    format!("{}.{}", b64(header.to_string()), b64(payload.to_string()))
}

/// A key of a curve, as a set has it, and what signs with it.
struct Ec(EcdsaKeyPair);

impl Ec {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&sign::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, id: &str) -> Value {
        let point = self.0.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": id, "x": b64(&point[1..33]), "y": b64(&point[33..])})
    }

    fn token(&self, id: &str, payload: &Value) -> String {
        let text = unsigned(&json!({"alg": "ES256", "kid": id}), payload);
        let signature = self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", b64(signature))
    }
}

fn provider(issuer: &str, keys: &[Value]) -> proto::JwtProvider {
    let specifier = Some(Specifier::InlineString(json!({ "keys": keys }).to_string()));
    proto::JwtProvider {
        issuer: issuer.into(),
        jwks_source_specifier: Some(proto::jwt_provider::JwksSourceSpecifier::LocalJwks(DataSource { specifier })),
        payload_in_metadata: "payload".into(),
        ..Default::default()
    }
}

fn requires(kind: proto::jwt_requirement::RequiresType) -> proto::JwtRequirement {
    proto::JwtRequirement { requires_type: Some(kind) }
}

fn config(providers: &[proto::JwtProvider]) -> Jwt {
    use proto::jwt_requirement::RequiresType;
    let names = (0..providers.len()).map(|i| format!("origins-{i}"));
    let mut any: Vec<_> = names.clone().map(|name| requires(RequiresType::ProviderName(name))).collect();
    any.push(requires(RequiresType::AllowMissing(())));
    let all = proto::JwtRequirementOrList { requirements: any };
    let path = Some(route::route_match::PathSpecifier::Prefix("/".into()));
    let rule = proto::RequirementRule {
        r#match: Some(route::RouteMatch { path_specifier: path, ..Default::default() }),
        requirement_type: Some(proto::requirement_rule::RequirementType::Requires(requires(
            RequiresType::RequiresAny(all),
        ))),
    };
    let authentication = proto::JwtAuthentication {
        providers: names.zip(providers.iter().cloned()).collect(),
        rules: vec![rule],
        bypass_cors_preflight: true,
    };
    Jwt::new(&authentication).unwrap()
}

fn request(path: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::new(Method::GET, Version::Http11);
    head.set_path(path.as_bytes());
    fields.iter().for_each(|(name, value)| head.fields.push(name.as_bytes(), value.as_bytes()));
    head
}

fn ask(jwt: &Jwt, head: &mut RequestHead) -> Result<Claims, Invalid> {
    let mut claims = Claims::new();
    check(jwt, head, NOW, &mut claims).map(|()| claims)
}

fn bearer(jwt: &Jwt, token: &str) -> Result<Claims, Invalid> {
    ask(jwt, &mut request("/", &[("authorization", &format!("Bearer {token}"))]))
}

#[test]
fn a_token_is_good_for_its_issuer_its_audience_and_its_time() {
    let key = Ec::new();
    let jwt = config(&[proto::JwtProvider { audiences: vec!["shop".into()], ..provider("me", &[key.jwk("a")]) }]);
    let good = json!({"iss": "me", "sub": "you", "aud": ["x", "https://shop/"], "exp": NOW + 1});
    let with = |name: &str, value: Value| {
        let mut payload = good.clone();
        payload[name] = value;
        bearer(&jwt, &key.token("a", &payload)).err()
    };
    assert_eq!(bearer(&jwt, &key.token("a", &good)).unwrap()["payload"]["sub"], "you");
    assert_eq!(with("iss", json!("other")), Some(Invalid::Issuer));
    assert_eq!(with("iss", json!(1)), Some(Invalid::IssuerType));
    assert_eq!(with("aud", json!("store")), Some(Invalid::Audience));
    assert_eq!(with("exp", json!(NOW - 59)), None, "clocks differ");
    assert_eq!(with("exp", json!(NOW - 61)), Some(Invalid::Expired));
    assert_eq!(with("nbf", json!(NOW + 61)), Some(Invalid::NotYet));
    assert_eq!(bearer(&jwt, &key.token("b", &good)).err(), Some(Invalid::NoKey));
    assert_eq!(bearer(&jwt, &Ec::new().token("a", &good)).err(), Some(Invalid::Signature));
    assert_eq!(bearer(&jwt, "a.b").err(), Some(Invalid::Form));
    assert!(ask(&jwt, &mut request("/", &[])).unwrap().is_empty(), "none is no bad one");
}

#[test]
fn an_unsigned_token_and_one_of_another_kind_of_key_are_refused() {
    let key = Ec::new();
    let public = key.0.public_key().as_ref().to_vec();
    let jwt = config(&[provider("me", &[key.jwk("a")])]);
    let payload = json!({"iss": "me"});
    let none = unsigned(&json!({"alg": "none"}), &payload);
    assert_eq!(bearer(&jwt, &format!("{none}.")).err(), Some(Invalid::Algorithm));
    // The public key as if it were a secret.
    let text = unsigned(&json!({"alg": "HS256", "kid": "a"}), &payload);
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &public);
    let forged = format!("{text}.{}", b64(aws_lc_rs::hmac::sign(&secret, text.as_bytes())));
    assert_eq!(bearer(&jwt, &forged).err(), Some(Invalid::Signature));
}

#[test]
fn every_kind_of_key_verifies_what_it_signs() {
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let part = |bytes: &[u8]| b64(bytes);
    let modulus = rsa.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let exponent = rsa.public_key().exponent().big_endian_without_leading_zero().to_vec();
    let keys = [
        json!({"kty": "RSA", "kid": "r", "use": "sig", "n": part(&modulus), "e": part(&exponent)}),
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": part(ed.public_key().as_ref())}),
        json!({"kty": "oct", "kid": "s", "k": part(b"secret")}),
        json!({"kty": "RSA", "kid": "broken", "n": "AA", "e": "AQAB"}),
        json!({"kty": "what"}),
    ];
    let jwt = config(&[provider("me", &keys)]);
    let payload = json!({"iss": "me"});
    let encodings: [(&str, &'static dyn sign::RsaEncoding); 6] = [
        ("RS256", &sign::RSA_PKCS1_SHA256),
        ("RS384", &sign::RSA_PKCS1_SHA384),
        ("RS512", &sign::RSA_PKCS1_SHA512),
        ("PS256", &sign::RSA_PSS_SHA256),
        ("PS384", &sign::RSA_PSS_SHA384),
        ("PS512", &sign::RSA_PSS_SHA512),
    ];
    for (algorithm, encoding) in encodings {
        let text = unsigned(&json!({"alg": algorithm, "kid": "r"}), &payload);
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(encoding, &random, text.as_bytes(), &mut signature).unwrap();
        bearer(&jwt, &format!("{text}.{}", b64(&signature))).unwrap();
        signature[0] ^= 1;
        assert_eq!(bearer(&jwt, &format!("{text}.{}", b64(&signature))).err(), Some(Invalid::Signature));
    }
    let text = unsigned(&json!({"alg": "EdDSA", "kid": "e"}), &payload);
    bearer(&jwt, &format!("{text}.{}", b64(ed.sign(text.as_bytes())))).unwrap();
    let text = unsigned(&json!({"alg": "HS256", "kid": "s"}), &payload);
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"secret");
    bearer(&jwt, &format!("{text}.{}", b64(aws_lc_rs::hmac::sign(&secret, text.as_bytes())))).unwrap();
    let empty = config(&[provider("me", &[])]);
    assert_eq!(bearer(&empty, &format!("{text}.AA")).err(), Some(Invalid::NoKeys), "never open");
}

#[test]
fn tokens_are_found_where_they_may_be_and_taken_away_unless_they_go_on() {
    let key = Ec::new();
    let token = key.token("a", &json!({"iss": "me", "sub": "you", "n": 5, "o": {"p": ["q"]}, "scope": "a b"}));
    let made = |forward: bool| proto::JwtProvider {
        forward,
        from_headers: vec![proto::JwtHeader { name: "X-Token".into(), value_prefix: "T ".into() }],
        from_params: vec!["tok".into()],
        from_cookies: vec!["session".into()],
        forward_payload_header: "x-payload".into(),
        claim_to_headers: [("x-sub", "sub"), ("x-n", "n"), ("x-p", "o.p"), ("x-none", "none")]
            .map(|(h, c)| proto::JwtClaimToHeader { header_name: h.into(), claim_name: c.into() })
            .to_vec(),
        normalize_payload_in_metadata: Some(proto::jwt_provider::NormalizePayload {
            space_delimited_claims: vec!["scope".into()],
        }),
        ..provider("me", &[key.jwk("a")])
    };
    let jwt = config(&[made(false)]);
    let places = [
        ("/a?x=1".to_owned(), ("x-token", format!("T {token}"))),
        (format!("/a?tok={token}&x=1"), ("x-other", String::new())),
        ("/a?x=1".to_owned(), ("cookie", format!("a=b; session={token}"))),
    ];
    for (path, (name, value)) in &places {
        let mut head =
            request(path, &[(name, value), ("x-sub", "forged"), ("x-payload", "forged"), ("x-none", "forged")]);
        let claims = ask(&jwt, &mut head).unwrap();
        assert_eq!(claims["payload"]["scope"], json!(["a", "b"]));
        assert_eq!(head.path(), "/a?x=1");
        assert_eq!((head.fields.get("x-token"), head.fields.get("x-none")), (None, None));
        assert_eq!(head.fields.all("x-sub").collect::<Vec<_>>(), [b"you"]);
        assert_eq!(head.fields.get("x-n"), Some(&b"5"[..]));
        assert_eq!(head.fields.get("x-p"), Some(&b"WyJxIl0="[..]));
        assert_eq!(head.fields.get("x-payload"), token.split('.').nth(1).map(str::as_bytes));
    }
    let (path, (name, value)) = &places[0];
    let mut head = request(path, &[(name, value)]);
    ask(&config(&[made(true)]), &mut head).unwrap();
    assert!(head.fields.get("x-token").is_some());
    let mut forged = request("/", &[("x-sub", "forged")]);
    ask(&jwt, &mut forged).unwrap();
    assert_eq!(forged.fields.get("x-sub"), None, "also without a token");
}

#[test]
fn one_of_several_issuers_is_enough_and_a_strangers_token_is_not() {
    let (one, two) = (Ec::new(), Ec::new());
    let jwt = config(&[provider("one", &[one.jwk("a")]), provider("two", &[two.jwk("a")])]);
    bearer(&jwt, &one.token("a", &json!({"iss": "one"}))).unwrap();
    bearer(&jwt, &two.token("a", &json!({"iss": "two"}))).unwrap();
    assert_eq!(bearer(&jwt, &two.token("a", &json!({"iss": "one"}))).err(), Some(Invalid::Signature));
    assert_eq!(bearer(&jwt, &two.token("a", &json!({"iss": "three"}))).err(), Some(Invalid::Issuer));
}
