//! `[[actuate.notify]]`: who is told, and how.

use std::path::PathBuf;

use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};

use super::NoticeKind;
use crate::targets::SecretSettings;

/// The body of a notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyFormat {
    /// `{"type", "timestamp", "data"}`, as Standard Webhooks has it.
    #[default]
    Generic,
    /// `{"text", "blocks"}`, as Slack and those that imitate it take it.
    Slack,
}

/// One receiver of notices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Where notices go: `https`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The place of the address, if it is a secret, as Slack's are.
    #[serde(default)]
    pub url_from: SecretSettings,
    /// The body.
    #[serde(default)]
    pub format: NotifyFormat,
    /// The key of the signature, `whsec_` and base64, as Standard Webhooks has it. Slack looks at none.
    #[serde(default)]
    pub secret: SecretSettings,
    /// What is told; everything when none is named.
    #[serde(default)]
    pub kinds: Vec<NoticeKind>,
    /// One attempt takes no longer.
    #[serde(default = "default_timeout", with = "span_text")]
    pub timeout: Span,
    /// Attempts before a notice is dropped; each waits twice as long as the one before.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    /// The wait before the second attempt.
    #[serde(default = "default_pause", with = "span_text")]
    pub pause: Span,
}

fn default_timeout() -> Span {
    Span::from_secs(10)
}

fn default_attempts() -> u32 {
    5
}

fn default_pause() -> Span {
    Span::from_secs(1)
}

impl NotifyConfig {
    /// What is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, secret) in [("url_from", &self.url_from), ("secret", &self.secret)] {
            problems.extend(secret.problems().into_iter().map(|problem| format!("{name}: {problem}")));
        }
        match (&self.url, self.url_from.is_named()) {
            (Some(url), false) => problems.extend(url_problem(url)),
            (None, true) => {}
            _ => problems.push("give `url`, or `url_from` with a `file` or `env`, one of them".to_owned()),
        }
        if self.format == NotifyFormat::Generic && !self.secret.is_named() {
            problems.push("secret: name its `file` or `env`: notices are signed".to_owned());
        }
        if self.timeout.micros() <= 0 || self.pause.micros() <= 0 || self.attempts == 0 {
            problems.push("`timeout`, `pause` and `attempts` must be positive".to_owned());
        }
        problems
    }

    /// Paths, which are relative to the folder of the configuration.
    pub(crate) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.url_from.file.iter_mut().chain(self.secret.file.as_mut())
    }
}

/// What is wrong with an address, without showing it.
pub(super) fn url_problem(url: &str) -> Option<String> {
    let problem = match url::Url::parse(url) {
        Err(error) => error.to_string(),
        Ok(url) if url.scheme() == "https" => return None,
        Ok(url) if url.scheme() == "http" && is_here(&url) => return None,
        Ok(_) => "it must be https, or http on this machine".to_owned(),
    };
    Some(format!("`url`: {problem}"))
}

fn is_here(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
