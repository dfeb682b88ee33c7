//! A web service: requests as `POST` with the headers of Standard Webhooks. See [`super::request`] for the contract.
//!
//! Any 2xx is a yes. 409 and 412 are "overtaken". 408, 429 and 5xx may work later; every other answer is a refusal.
//! Redirects are not followed: the signature is for one receiver.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use headroom_proto::time::{Span, span_text};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::governed::{Failure, Governed, Patience};
use super::request::{MAX_ANSWER, Remote, Request, Transport, said};
use super::secret::SecretSettings;
use crate::{Fault, Target};

/// Settings of a web service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where requests go: `https`, or `http` on this machine.
    pub url: String,
    /// The key of the signature, `whsec_` and base64, as Standard Webhooks has it.
    pub secret: SecretSettings,
    /// Authorities in PEM, beside those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Of the value, in one unit.
    #[serde(default = "super::one")]
    pub per_unit: u32,
    /// A change or a question takes no longer.
    #[serde(default = "super::default_timeout", with = "span_text")]
    pub timeout: Span,
    /// A change is reported within this time.
    #[serde(default = "super::default_settle", with = "span_text")]
    pub settle: Span,
    /// Before a release it is asked for so long to let work go; 0 asks nothing.
    #[serde(default, with = "span_text")]
    pub drain: Span,
}

struct Post {
    config: WebhookConfig,
}

/// A target over the service.
pub(super) fn open(name: &str, config: &WebhookConfig, folder: &Path) -> impl Target + 'static {
    let knob = Remote::new(Post { config: config.clone() }, &config.secret, name, folder);
    Governed::new(name, knob, config.per_unit, Patience::new(config.timeout, config.settle)).draining(config.drain)
}

impl WebhookConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = super::common_problems(self.per_unit, self.timeout, self.settle);
        problems.extend(super::drain_problem(self.drain));
        problems.extend(self.secret.problems().into_iter().map(|problem| format!("secret: {problem}")));
        if !self.secret.is_named() {
            problems.push("secret: name its `file` or `env`: requests are signed".to_owned());
        }
        match Url::parse(&self.url) {
            Err(error) => problems.push(format!("`url`: {error}")),
            Ok(url) => {
                if !url.username().is_empty() || url.password().is_some() {
                    problems.push("`url`: it must not hold a password: requests are signed".to_owned());
                }
                if url.scheme() != "https" && !(url.scheme() == "http" && is_here(&url)) {
                    problems.push("`url`: it must be https, or http on this machine".to_owned());
                }
            }
        }
        problems
    }
}

/// Is it on this machine?
pub(super) fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl Post {
    fn client(&self) -> Result<Client, Failure> {
        let mut builder = Client::builder().redirect(Policy::none()).user_agent("headroom");
        if let Some(path) = &self.config.ca_file {
            let failed = |problem: String| Failure::refused(format!("{}: {problem}", path.display()));
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
            builder = builder.tls_certs_merge(authorities);
        }
        builder.build().map_err(|error| Failure::away(&error.without_url()))
    }
}

#[async_trait]
impl Transport for Post {
    async fn send(&self, request: &Request) -> Result<Vec<u8>, Failure> {
        let post = self
            .client()?
            .post(&self.config.url)
            .header("content-type", "application/json")
            .header(standardwebhooks::HEADER_WEBHOOK_ID, &request.id)
            .header(standardwebhooks::HEADER_WEBHOOK_TIMESTAMP, request.timestamp)
            .header(standardwebhooks::HEADER_WEBHOOK_SIGNATURE, request.signature.as_deref().unwrap_or_default())
            .body(request.body.clone());
        // The address may hold a token.
        let response = post.send().await.map_err(|error| Failure::away(&error.without_url()))?;
        let status = response.status();
        let answer = body(response, MAX_ANSWER).await?;
        let fault = match status {
            status if status.is_success() => return Ok(answer),
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Fault::Fenced,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Fault::Away,
            status if status.is_server_error() => Fault::Away,
            _ => Fault::Refused,
        };
        let overtaken = if fault == Fault::Fenced { "overtaken: " } else { "" };
        Err(Failure::new(fault, format!("{overtaken}it answers {status}; {}", said(&answer))))
    }
}

/// All of an answer that is not too long.
pub(super) async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::away(&error.without_url()))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limit {
            return Err(Failure::refused(format!("its answer is longer than {limit} bytes")));
        }
    }
    Ok(bytes)
}
