//! JSON Web Tokens (RFC 7519), signed by RS256 or HS256 (RFC 7518) with keys from files: nothing is fetched. A key is of one
//! kind, so that a token cannot choose how it is checked.

use std::path::PathBuf;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headroom_actuator::Caller;
use headroom_actuator_decide::roles::{Role, Roles};
use headroom_proto::EventTime;
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
pub(super) struct Verifier {
    config: JwtConfig,
    keys: Vec<(Option<String>, Key)>,
}

enum Key {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Secret(Box<hmac::Key>),
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<JsonKey>,
}

#[derive(Deserialize)]
struct JsonKey {
    kty: String,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Verifier {
    pub(super) fn open(config: &JwtConfig) -> Result<Self, String> {
        let told = |problem: String| format!("{}: {problem}", config.jwks_file.display());
        let text = std::fs::read_to_string(&config.jwks_file).map_err(|error| told(error.to_string()))?;
        // The error of a key would tell the key.
        let set: KeySet = serde_json::from_str(&text).map_err(|_| told("it is no JSON Web Key Set".to_owned()))?;
        let keys: Vec<(Option<String>, Key)> =
            set.keys.into_iter().filter_map(|key| key.usable().transpose()).collect::<Result<_, _>>().map_err(told)?;
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
        let (signed, signature) = token.rsplit_once('.').ok_or("it has no signature")?;
        let (head, claims) = signed.split_once('.').ok_or("it has no claims")?;
        let head: Head = serde_json::from_slice(&decoded(head)?).map_err(|_| "its head cannot be read")?;
        if head.crit.is_some() {
            return Err("it asks for what is not known here".to_owned());
        }
        let is_meant = |id: &Option<String>| head.kid.is_none() || id.is_none() || *id == head.kid;
        let signature = decoded(signature)?;
        let mut keys = self.keys.iter().filter(|(id, _)| is_meant(id)).map(|(_, key)| key);
        if !keys.any(|key| key.has_signed(&head.alg, signed.as_bytes(), &signature)) {
            return Err(format!("no key has signed it by {}", head.alg.chars().take(10).collect::<String>()));
        }
        let claims: Value = serde_json::from_slice(&decoded(claims)?).map_err(|_| "its claims cannot be read")?;
        self.claimed(&claims, now)
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
        if time("nbf").is_some_and(|from| from > late) {
            return Err("it does not hold yet".to_owned());
        }
        if claims.get("iss").and_then(Value::as_str) != Some(self.config.issuer.as_str()) {
            return Err("another has issued it".to_owned());
        }
        if !texts(claims.get("aud")).contains(&self.config.audience.as_str()) {
            return Err("it is for another audience".to_owned());
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

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is not base64".to_owned())
}

impl JsonKey {
    /// The key; none of a kind that is not used here.
    fn usable(self) -> Result<Option<(Option<String>, Key)>, String> {
        let part = |part: Option<String>| {
            part.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or_else(|| "a key is not whole".to_owned())
        };
        let key = match self.kty.as_str() {
            "RSA" => Key::Rsa(RsaPublicKeyComponents { n: part(self.n)?, e: part(self.e)? }),
            "oct" => {
                let secret = part(self.k)?;
                if secret.len() < MIN_SECRET {
                    return Err(format!("a symmetric key has fewer than {MIN_SECRET} bytes"));
                }
                Key::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
            }
            _ => return Ok(None),
        };
        Ok(Some((self.kid, key)))
    }
}

impl Key {
    fn has_signed(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Rsa(key), "RS256") => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok(),
            (Self::Secret(key), "HS256") => hmac::verify(key, message, signature).is_ok(),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("config", &self.config).field("keys", &self.keys.len()).finish()
    }
}
