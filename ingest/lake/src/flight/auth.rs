//! Who may ask: bearer tokens from a file. A client may also log in with a name and its token as the password; the
//! handshake then gives it the token to send.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use sha2::{Digest, Sha256};
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Status};

const HEADER: &str = "authorization";
/// Some clients leave the padding off.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("token file {file}: {problem}")]
pub struct TokenError {
    file: PathBuf,
    problem: String,
}

/// Lets requests through that carry a token. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    /// Names by the hash of their token; hashes, so that a comparison tells nothing of a token. None lets all through.
    names: Option<Arc<BTreeMap<[u8; 32], String>>>,
}

impl Auth {
    /// Lets everyone through.
    pub(super) fn open() -> Self {
        Self { names: None }
    }

    /// Reads `name:token` lines; empty lines and lines that begin with `#` are left out.
    ///
    /// # Errors
    /// When the file cannot be read, a line is malformed, or there is no token. Tokens are never told.
    pub fn from_file(file: &Path) -> Result<Self, TokenError> {
        let failed = |problem: String| TokenError { file: file.to_owned(), problem };
        let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
        let mut names = BTreeMap::new();
        for (line, content) in (1..).zip(text.lines().map(str::trim)) {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (name, token) = content
                .split_once(':')
                .map(|(name, token)| (name.trim(), token.trim()))
                .filter(|(name, token)| !name.is_empty() && token.len() >= 16)
                .ok_or_else(|| {
                    failed(format!("line {line}: write `name:token` with a token of 16 characters or more"))
                })?;
            names.insert(hashed(token), name.to_owned());
        }
        if names.is_empty() {
            return Err(failed("holds no token: write `name:token` lines".to_owned()));
        }
        Ok(Self { names: Some(Arc::new(names)) })
    }

    /// The token of a request that may pass; empty when everyone may.
    ///
    /// # Errors
    /// `Unauthenticated`, when it has none that is known.
    pub(super) fn token(&self, metadata: &MetadataMap) -> Result<String, Status> {
        let given = metadata.get(HEADER).and_then(|value| value.to_str().ok()).and_then(token_of);
        let Some(names) = &self.names else { return Ok(given.unwrap_or_default()) };
        let given = given.ok_or_else(|| Status::unauthenticated("send `authorization: Bearer TOKEN`"))?;
        if names.contains_key(&hashed(&given)) {
            return Ok(given);
        }
        Err(Status::unauthenticated("the token is not known"))
    }
}

impl Interceptor for Auth {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        self.token(request.metadata())?;
        Ok(request)
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.names.iter().flat_map(|names| names.values()).collect();
        f.debug_struct("Auth").field("names", &names).finish()
    }
}

/// The token in a bearer or basic header.
pub(super) fn token_of(header: &str) -> Option<String> {
    let (kind, value) = header.split_once(' ')?;
    if kind.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !kind.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(value.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

fn hashed(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
