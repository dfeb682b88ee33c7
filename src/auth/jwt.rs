//! JSON Web Tokens (RFC 7519), signed by RS256 or HS256 (RFC 7518) with keys from files: nothing is fetched. A key is of one
//! kind, so that a token cannot choose how it is checked.

use std::path::PathBuf;

use headroom_actuator::Caller;
use headroom_actuator_decide::roles::{Role, Roles};
use headroom_proto::EventTime;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A token is no longer.
const MAX_LENGTH: usize = 16 * 1024;
/// Clocks may differ by so much, in seconds.
const LEEWAY_S: i64 = 60;
/// HS256 asks for a secret that is no shorter than its hash.
const MIN_SECRET: usize = 32;

/// `[grpc.auth.jwt]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JwtConfig {
    /// Who must have issued it: `iss`.
    pub(crate) issuer: String,
    /// For whom it must be: `aud`, or one of them.
    pub(crate) audience: String,
    /// The provider's keys, a JSON Web Key Set (RFC 7517): RSA keys for RS256, symmetric ones for HS256.
    pub(crate) jwks_file: PathBuf,
    /// The claim that names the roles, with dots into objects: `realm_access.roles`.
    #[serde(default = "roles_claim")]
    pub(crate) roles_claim: String,
}

fn roles_claim() -> String {
    "roles".to_owned()
}

/// Checks tokens.
#[derive(Debug)]
pub(super) struct Verifier {
    config: JwtConfig,
    keys: Vec<Key>,
}

/// A key of the provider, and what it is good for.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier {
    pub(super) fn open(config: &JwtConfig) -> Result<Self, String> {
        let told = |problem: String| format!("{}: {problem}", config.jwks_file.display());
        let text = std::fs::read_to_string(&config.jwks_file).map_err(|error| told(error.to_string()))?;
        // The error of a key would tell the key.
        let set: JwkSet = serde_json::from_str(&text).map_err(|_| told("it is no JSON Web Key Set".to_owned()))?;
        let keys = set.keys.iter().filter_map(|key| usable(key).transpose());
        let keys: Vec<Key> = keys.collect::<Result<_, _>>().map_err(told)?;
        if keys.is_empty() {
            return Err(told("it has no key for RS256 or HS256".to_owned()));
        }
        if config.issuer.is_empty() || config.audience.is_empty() {
            return Err("jwt: name the `issuer` and the `audience`".to_owned());
        }
        Ok(Self { config: config.clone(), keys })
    }

    /// Who bears the token.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn caller(&self, token: &str, now: EventTime) -> Result<Caller, String> {
        if token.len() > MAX_LENGTH {
            return Err("it is too long".to_owned());
        }
        let head = decode_header(token).map_err(|_| "its head cannot be read, or it is not signed")?;
        if head.crit.is_some() {
            return Err("it asks for what is not known here".to_owned());
        }
        let is_meant =
            |key: &&Key| key.algorithm == head.alg && (head.kid.is_none() || key.id.is_none() || key.id == head.kid);
        let validation = self.validation(head.alg);
        for key in self.keys.iter().filter(is_meant) {
            match decode::<Value>(token, &key.key, &validation) {
                Ok(token) => return self.claimed(&token.claims, now),
                // Another key may have signed it.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(error) => return Err(fault(&error)),
            }
        }
        Err(format!("no key has signed it by {:?}", head.alg))
    }

    /// What is asked of a token beside its times: those are held against our own clock.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        validation
    }

    fn claimed(&self, claims: &Value, now: EventTime) -> Result<Caller, String> {
        let now_s = now.micros().div_euclid(1_000_000);
        let time = |name: &str| claims.get(name).and_then(Value::as_f64);
        #[expect(clippy::cast_precision_loss, reason = "seconds of this age")]
        let (early, late) = ((now_s - LEEWAY_S) as f64, (now_s + LEEWAY_S) as f64);
        let until = time("exp").ok_or("it does not say until when it holds")?;
        if until <= early {
            return Err("it has expired".to_owned());
        }
        // One that is no number is none that we could keep to.
        let has_begun = match claims.get("nbf") {
            None | Some(Value::Null) => true,
            Some(from) => from.as_f64().is_some_and(|from| from <= late),
        };
        if !has_begun {
            return Err("it does not hold yet".to_owned());
        }
        let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.trim().is_empty());
        let subject = subject.ok_or("it names nobody")?.to_owned();
        let named = self.config.roles_claim.split('.').try_fold(claims, |value, name| value.get(name));
        let words = texts(named).into_iter().flat_map(str::split_whitespace);
        // A provider has roles of others as well.
        let roles = Roles::of(words.filter_map(|role| role.parse::<Role>().ok()));
        Ok(Caller { subject, roles })
    }
}

/// One text, or each of a list.
fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What is wrong with a token that a key has signed; never a part of it.
fn fault(error: &Error) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may add kinds")]
    let problem = match error.kind() {
        ErrorKind::InvalidIssuer => "another has issued it",
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => "it does not say until when it holds",
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => "it does not say who has issued it",
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => "it does not say for whom it is",
        ErrorKind::MissingRequiredClaim(_) => "it names nobody",
        _ => "it cannot be read",
    };
    problem.to_owned()
}

/// The key; none of a kind, or for a use, that is not ours.
fn usable(jwk: &Jwk) -> Result<Option<Key>, String> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may add kinds")]
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        // A part is missing: it would be left out without a word.
        AlgorithmParameters::Other(key)
            if matches!(key.fields.get("kty").and_then(Value::as_str), Some("RSA" | "oct")) =>
        {
            return Err(NOT_WHOLE.to_owned());
        }
        _ => return Ok(None),
    };
    let is_for_us = jwk.common.key_algorithm.is_none_or(|declared| declared == name)
        && jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    if !is_for_us {
        return Ok(None);
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| NOT_WHOLE.to_owned())?;
    if algorithm == Algorithm::HS256 && key.try_get_as_bytes().map_or(0, <[u8]>::len) < MIN_SECRET {
        return Err(format!("a symmetric key has fewer than {MIN_SECRET} bytes"));
    }
    Ok(Some(Key { id: jwk.common.key_id.clone(), algorithm, key }))
}

const NOT_WHOLE: &str = "a key is not whole";
