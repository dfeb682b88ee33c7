//! Where secrets come from: a file or a variable of the environment, read at each use, so that one that was changed
//! counts at once. A secret is never printed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::governed::Failure;
use crate::Fault;

/// Names the place of a secret; with neither there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretSettings {
    /// A file whose first line it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// A variable of the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

/// A secret in memory.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl SecretSettings {
    pub(crate) fn problems(&self) -> Vec<String> {
        if self.file.is_some() && self.env.is_some() {
            return vec!["name `file` or `env`, not both".to_owned()];
        }
        Vec::new()
    }

    pub(crate) fn is_named(&self) -> bool {
        self.file.is_some() || self.env.is_some()
    }

    /// Reads it.
    pub(crate) fn read(&self) -> Result<Option<Secret>, Failure> {
        let refused = |problem| Failure::new(Fault::Refused, problem);
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| refused(format!("the secret in {}: {error}", path.display())))?;
            return Ok(Some(Secret(text.lines().next().unwrap_or_default().to_owned())));
        }
        let Some(name) = &self.env else { return Ok(None) };
        match std::env::var(name) {
            Ok(text) => Ok(Some(Secret(text))),
            Err(_) => Err(refused(format!("the secret in ${name}: it is not set"))),
        }
    }
}

impl Secret {
    /// One that another system's file has.
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// For the one place that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// The text without the secret, if some system has put it there.
    pub(super) fn hidden_in(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "***") }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
