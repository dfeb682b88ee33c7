//! The name of what is forecast and scaled.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One database or service whose load is forecast and whose capacity is scaled: 1 to 200 characters, none of them
/// white space or control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadId(String);

/// A name that cannot be a workload.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a workload name: use 1 to 200 characters without white space")]
pub struct WorkloadError(String);

impl WorkloadId {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// When the name is empty, too long, or has white space or control characters.
    pub fn try_new(name: impl Into<String>) -> Result<Self, WorkloadError> {
        let name = name.into();
        let fits = !name.is_empty() && name.chars().count() <= 200;
        if fits && !name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Ok(Self(name))
        } else {
            Err(WorkloadError(name))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is this workload named by one of the selectors? No selector means every workload; `*` stands for any run of
    /// characters.
    #[must_use]
    pub fn is_selected(&self, selectors: &[String]) -> bool {
        selectors.is_empty() || selectors.iter().any(|selector| matches_glob(selector, &self.0))
    }
}

fn matches_glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

impl TryFrom<String> for WorkloadId {
    type Error = WorkloadError;

    fn try_from(name: String) -> Result<Self, WorkloadError> {
        Self::try_new(name)
    }
}

impl From<WorkloadId> for String {
    fn from(id: WorkloadId) -> Self {
        id.0
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let id = WorkloadId::try_new("shop-eu-orders").expect("legal");
        for (selector, selected) in [
            ("shop-eu-orders", true),
            ("shop-*", true),
            ("*orders", true),
            ("*eu*", true),
            ("*", true),
            ("shop", false),
            ("*us*", false),
            ("", false),
        ] {
            assert_eq!(id.is_selected(&[selector.to_owned()]), selected, "{selector}");
        }
        assert!(id.is_selected(&[]));
        assert!(WorkloadId::try_new("a b").is_err());
    }
}
