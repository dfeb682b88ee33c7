//! Who may ask what.

use std::io::Write;

use axum::Router;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headroom_actuator_decide::roles::Roles;
use headroom_proto::EventTime;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::*;

const SECRET: &str = "a secret of the provider, 32 bytes or more";
const ANN: &str = "token-of-ann-0123456789";
/// Signed by OpenSSL 3.0.19 with a key that was thrown away; it holds until 2100.
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6Im9uZSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUub3JnIiwiYXV\
    kIjpbImhlYWRyb29tIiwib3RoZXIiXSwic3ViIjoiYW5uIiwiZXhwIjo0MTAyNDQ0ODAwLCJyZWFsbV9hY2Nlc3MiOnsicm9sZXM\
    iOlsiYXBwcm92ZXIiLCJvZmZsaW5lX2FjY2VzcyJdfX0.jyVujNZYBLB9B104i9q-50z2UYcTbXhB5ovINHixytLqQX8zvfdYqNf\
    fzK00GBBroSy9_EGTiX-AiezDuv9514cuwSNSRyrMRWGRYpjcz8JPXzHiYWlt12nKYu2Sac878uMvsjdU0Om_FsD2ygXdPQME6Hl\
    VReGgRvTGZOPWEV-qEozgD56OMjDV62HNcDOvT63qAqISuK6-S6zT5HbzCxH9uklIRekQNBArY9ikfYKraZ4_gwYyXJE6NbhpfrZ\
    Tw5h-pXjnTtYlAGAUOP29M0OZzU0UXw2Vl4vNiRrDEaEcWOPYuS5NABH_CIspiPXmAnj5o23r8Rv7vIxQ1hZ2Rg";
const RSA_N: &str = "yPxLCJeqZkIlned62Gnlplibgq66lmZZXdRJkEOl7U1ItsiMinsJ1rrOnnroCZo_owIhWzK73SKyst18VPA5lyk-qD6MzMgefHyD\
    Q5wGsrY3dH4nPTHaBnRPVa9UwIuoTE1lrFSgubTch9M_86xiGn17ue-fNFs3MklKNMW2pTkg09IEBIDWS0tdQ1ZrNBoVMGPNitfz\
    AF-BCRvHPmjEGsTtB9VqNSefWf72svS_9M4mfmWZhEgN1CtgYd7LZUHe33jksB4mcBUo0y4U0eGIbfjJkQaPVsFvLdNTu_WL0mTz\
    J021fAKwQY6gWX98uAV0fm39QvikEjbYfah8xp_8SQ";

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temp file");
    file.write_all(text.as_bytes()).expect("writes");
    file
}

fn keys() -> NamedTempFile {
    let secret = URL_SAFE_NO_PAD.encode(SECRET);
    let keys = json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" },
        { "kty": "RSA", "kid": "one", "n": RSA_N, "e": "AQAB", "alg": "RS256" },
        { "kty": "oct", "kid": "two", "k": secret },
    ] });
    file(&keys.to_string())
}

fn config(keys: &NamedTempFile) -> JwtConfig {
    JwtConfig {
        issuer: "https://id.example.org".to_owned(),
        audience: "headroom".to_owned(),
        jwks_file: keys.path().to_owned(),
        roles_claim: "realm_access.roles".to_owned(),
    }
}

fn now() -> EventTime {
    EventTime::parse("2026-11-21T12:00:00Z").expect("a time")
}

fn claims() -> Value {
    json!({ "iss": "https://id.example.org", "aud": "headroom", "sub": "bob", "exp": now().micros() / 1_000_000 + 300,
        "realm_access": { "roles": ["operator"] } })
}

/// Signed by the symmetric key, whatever the head says.
fn signed(head: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(head), part(claims));
    let tag = tag(&text, SECRET.as_bytes(), Algorithm::HS256);
    format!("{text}.{tag}")
}

fn tag(text: &str, secret: &[u8], algorithm: Algorithm) -> String {
    crypto::sign(text.as_bytes(), &EncodingKey::from_secret(secret), algorithm).expect("signs")
}

#[test]
fn tokens_of_a_provider_are_checked_by_its_keys() {
    let file = keys();
    let verifier = Verifier::open(&config(&file)).expect("keys");
    let ann = verifier.caller(RSA_TOKEN, now()).expect("signed by RS256");
    assert_eq!((ann.subject.as_str(), ann.roles), ("ann", Roles::of([Role::Approver])));
    let bob = verifier.caller(&signed(&json!({ "alg": "HS256" }), &claims()), now()).expect("signed by HS256");
    assert_eq!((bob.subject.as_str(), bob.roles), ("bob", Roles::of([Role::Operator])));
    assert!(!format!("{verifier:?}").contains(SECRET));
}

#[test]
fn a_token_that_is_not_good_in_every_respect_is_refused() {
    let file = keys();
    let verifier = Verifier::open(&config(&file)).expect("keys");
    let refused = |head: Value, changes: &[(&str, Value)]| {
        let mut claims = claims();
        changes.iter().for_each(|(name, value)| claims[*name] = value.clone());
        verifier.caller(&signed(&head, &claims), now()).expect_err("refused")
    };
    let hs = || json!({ "alg": "HS256" });
    let seconds = now().micros() / 1_000_000;
    for (head, changes, said) in [
        (hs(), vec![("exp", json!(seconds - 61))], "expired"),
        (hs(), vec![("exp", Value::Null)], "until when"),
        (hs(), vec![("exp", json!("tomorrow"))], "until when"),
        (hs(), vec![("exp", json!(-1))], "until when"),
        (hs(), vec![("nbf", json!(seconds + 61))], "not hold yet"),
        (hs(), vec![("nbf", json!("tomorrow"))], "not hold yet"),
        (hs(), vec![("iss", json!("https://evil.example.org"))], "another has issued"),
        (hs(), vec![("iss", Value::Null)], "who has issued"),
        (hs(), vec![("aud", json!(["shop"]))], "another audience"),
        (hs(), vec![("aud", json!("shop"))], "another audience"),
        (hs(), vec![("aud", Value::Null)], "for whom"),
        (hs(), vec![("sub", json!(" "))], "names nobody"),
        (hs(), vec![("sub", Value::Null)], "names nobody"),
        (json!({ "alg": "none" }), vec![], "not signed"),
        (json!({}), vec![], "not signed"),
        (json!({ "alg": "HS256", "kid": "one" }), vec![], "no key has signed"),
        (json!({ "alg": "HS256", "kid": "three" }), vec![], "no key has signed"),
        (json!({ "alg": "HS384" }), vec![], "no key has signed"),
        (json!({ "alg": "RS256" }), vec![], "no key has signed"),
        (json!({ "alg": "RS512" }), vec![], "no key has signed"),
        (json!({ "alg": "HS256", "crit": ["exp"] }), vec![], "not known here"),
    ] {
        let problem = refused(head.clone(), &changes);
        assert!(problem.contains(said), "{head} {changes:?}: {said}: {problem}");
    }
    let almost = [("exp", json!(seconds - 59)), ("nbf", json!(seconds + 59)), ("aud", json!(["shop", "headroom"]))];
    let mut held = claims();
    almost.into_iter().for_each(|(name, value)| held[name] = value);
    assert_eq!(verifier.caller(&signed(&hs(), &held), now()).expect("clocks may differ").subject, "bob");
    // A longer hash with the right secret is another algorithm.
    let (text, _) = RSA_TOKEN.rsplit_once('.').expect("three parts");
    let head = URL_SAFE_NO_PAD.encode(json!({ "alg": "HS512", "kid": "two" }).to_string());
    let longer = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims().to_string()));
    let longer = format!("{longer}.{}", tag(&longer, SECRET.as_bytes(), Algorithm::HS512));
    assert!(verifier.caller(&longer, now()).expect_err("another").contains("no key has signed it by HS512"));
    // The public key is no secret: who signs with it by HMAC is refused, whichever key and algorithm the head names.
    let claims_of_ann = text.split_once('.').expect("two parts").1;
    for head in [json!({ "alg": "RS256", "kid": "one" }), json!({ "alg": "HS256", "kid": "one" }), hs()] {
        let text = format!("{}.{claims_of_ann}", URL_SAFE_NO_PAD.encode(head.to_string()));
        for secret in [RSA_N.as_bytes(), &URL_SAFE_NO_PAD.decode(RSA_N).expect("base64")] {
            let forged = format!("{text}.{}", tag(&text, secret, Algorithm::HS256));
            assert!(verifier.caller(&forged, now()).expect_err("forged").contains("no key has signed"), "{head}");
        }
    }
    for unsigned in [text.to_owned(), format!("{text}."), format!("{text}.AAAA"), format!("{RSA_TOKEN}.AAAA")] {
        assert!(verifier.caller(&unsigned, now()).is_err(), "{unsigned}");
    }
    let tampered = RSA_TOKEN.replacen("eyJpc3Mi", "eyJpc3Nj", 1);
    assert!(verifier.caller(&tampered, now()).is_err() && verifier.caller("", now()).is_err());
    // Without a role of ours there is nothing that one may do.
    let stranger = signed(&hs(), &{
        let mut claims = claims();
        claims["realm_access"] = json!({ "roles": "offline_access" });
        claims
    });
    assert_eq!(verifier.caller(&stranger, now()).expect("known").roles, Roles::default());
}

#[test]
fn keys_and_tokens_that_cannot_be_used_say_why_and_are_not_told() {
    for (text, said) in [
        ("[]", "no JSON Web Key Set"),
        ("{\"keys\":[]}", "no key for"),
        ("{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}", "fewer than 32"),
        ("{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0!\"}]}", "not whole"),
        ("{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\"}]}", "not whole"),
        ("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}", "no key for"),
        ("{\"keys\":[{\"kty\":\"AKP\",\"pub\":\"AA\"}]}", "no key for"),
        // Keys of another use, or for another algorithm.
        ("{\"keys\":[{\"kty\":\"RSA\",\"use\":\"enc\",\"n\":\"AA\",\"e\":\"AQAB\"}]}", "no key for"),
        ("{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"RS512\",\"n\":\"AA\",\"e\":\"AQAB\"}]}", "no key for"),
    ] {
        let keys = file(text);
        let problem = Verifier::open(&config(&keys)).expect_err(said);
        assert!(problem.contains(said) && !problem.contains("c2VjcmV0"), "{said}: {problem}");
    }
    for (text, said) in [
        ("", "holds no token"),
        ("ann:viewer", "line 1: write"),
        ("# people\nann:boss:0123456789abcdef", "line 2: `boss` is none of viewer"),
        ("ann:viewer:short", "16 characters"),
    ] {
        let problem = Tokens::default().read(text, "people").expect_err(said);
        assert!(problem.contains(said) && !problem.contains("0123456789abcdef"), "{said}: {problem}");
    }
    assert!(AuthConfig::default().open().expect("nothing to read").is_none());
}

/// Asks a method behind the guard; the status of gRPC, and whom it took the caller for.
async fn asked(path: &str, token: Option<&str>) -> (String, String) {
    let tokens = file(&format!("ann:approver:{ANN}\n"));
    let keys = keys();
    let (token_file, jwt) = (Some(tokens.path().to_owned()), Some(config(&keys)));
    let auth = AuthConfig { token_file, jwt, ..AuthConfig::default() }.open().expect("opens").expect("asks");
    let whoever = |request: Request| async move {
        request.extensions().get::<Caller>().map_or_else(|| "nobody".to_owned(), |caller| caller.subject.clone())
    };
    let routes = Router::new().fallback(post(whoever));
    let routes = routes.layer(axum::middleware::from_fn_with_state(Arc::new(auth), guard));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}{path}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let mut request = reqwest::Client::new().post(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = request.send().await.expect("answers");
    let status = answer.headers().get("grpc-status").map_or("0", |status| status.to_str().expect("text")).to_owned();
    (status, answer.text().await.expect("text"))
}

#[tokio::test]
async fn each_method_asks_for_its_role() {
    let (ok, denied, unknown) = ("0", "7", "16");
    let method = |name: &str| format!("/headroom.v1.ActuatorService/{name}");
    for (path, token, status) in [
        (method("Approve"), Some(ANN), ok),
        (method("ListPlans"), Some(ANN), ok),
        (method("Pause"), Some(ANN), denied),
        (method("RollbackPlan"), Some(ANN), denied),
        ("/headroom.v1.SignalService/Announce".to_owned(), Some(ANN), denied),
        (method("Approve"), Some("token-of-nobody-0123456789"), unknown),
        (method("ListPlans"), None, unknown),
        (method("Approve"), Some(RSA_TOKEN), ok),
        (method("Pause"), Some(RSA_TOKEN), denied),
        ("/headroom.v1.AuditService/Export".to_owned(), Some(RSA_TOKEN), ok),
    ] {
        let (found, text) = asked(&path, token).await;
        assert_eq!(found, status, "{path} with {token:?}");
        assert_eq!(text == "ann", status == ok, "{path}: {text}");
    }
    assert_eq!(asked("/grpc.health.v1.Health/Check", None).await, ("0".to_owned(), "nobody".to_owned()));
}
