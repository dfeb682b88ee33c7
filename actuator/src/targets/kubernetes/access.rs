//! Which cluster, and who asks: a kubeconfig, an address with a token, or the service account of the pod we run in. It is
//! read at each use, so that a token that was renewed counts at once. None of it is printed.

use std::path::{Path, PathBuf};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity};
use serde::{Deserialize, Serialize};
use url::Url;

use super::kubeconfig;
use crate::targets::governed::Failure;
use crate::targets::secret::{Secret, SecretSettings};
use crate::targets::webhook::is_here;

/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Which cluster; with nothing named, the one that this program runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// A file as `kubectl` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of that file, in place of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The API server, `https://..`, in place of a kubeconfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Its authorities in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The token of who asks.
    #[serde(skip_serializing_if = "is_unnamed")]
    pub token: SecretSettings,
}

fn is_unnamed(settings: &SecretSettings) -> bool {
    !settings.is_named()
}

/// What is needed to ask.
pub(super) struct Access {
    pub(super) server: String,
    /// Authorities in PEM; without any those of the system.
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) token: Option<Secret>,
    /// A certificate and its key in PEM.
    pub(super) identity: Option<Vec<u8>>,
}

impl ClusterSettings {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let has_parts = self.server.is_some() || self.ca_file.is_some() || self.token.is_named();
        if self.kubeconfig.is_some() && has_parts {
            problems.push("`kubeconfig` has `server`, `ca_file` and `token` already: name it, or them".to_owned());
        }
        if self.context.is_some() && self.kubeconfig.is_none() {
            problems.push("`context` is one of a `kubeconfig`: name that too".to_owned());
        }
        if self.server.is_none() && self.kubeconfig.is_none() && has_parts {
            problems.push("`ca_file` and `token` are for a `server`: name that too".to_owned());
        }
        problems.extend(self.token.problems().into_iter().map(|problem| format!("token: {problem}")));
        if let Some(problem) = self.server.as_deref().and_then(|server| address(server).err()) {
            problems.push(problem);
        }
        problems
    }

    pub(in crate::targets) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.kubeconfig.iter_mut().chain(self.ca_file.as_mut()).chain(self.token.file.as_mut())
    }

    pub(super) async fn access(&self) -> Result<Access, Failure> {
        if let Some(path) = &self.kubeconfig {
            return kubeconfig::read(path, self.context.as_deref()).await;
        }
        if let Some(server) = &self.server {
            let authorities = self.ca_file.as_deref().map(read).transpose()?;
            return Ok(Access { server: server.clone(), authorities, token: self.token.read()?, identity: None });
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
        else {
            let problem = "this is no pod of a cluster: name a `kubeconfig`, or a `server`, in `cluster`";
            return Err(Failure::refused(problem.to_owned()));
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let account = Path::new(ACCOUNT);
        let token = SecretSettings { file: Some(account.join("token")), env: None };
        let authorities = Some(read(&account.join("ca.crt"))?);
        Ok(Access { server: format!("https://{host}:{port}"), authorities, token: token.read()?, identity: None })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::refused(format!("{}: {error}", path.display())))
}

/// The address of an API server: a token does not travel unprotected.
fn address(server: &str) -> Result<Url, String> {
    let url = Url::parse(server).map_err(|error| format!("`server`: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("`server`: it must not hold a password".to_owned());
    }
    if url.scheme() != "https" && !(url.scheme() == "http" && is_here(&url)) {
        return Err("`server`: it must be https, or http on this machine".to_owned());
    }
    Ok(url)
}

impl Access {
    pub(super) fn with_identity(self, certificate: &[u8], key: &[u8]) -> Self {
        Self { identity: Some([certificate, b"\n", key].concat()), ..self }
    }

    /// The server's address without a slash at its end, and a client that says who asks.
    pub(super) fn client(&self) -> Result<(String, Client), Failure> {
        let url = address(&self.server).map_err(Failure::refused)?;
        let mut builder = Client::builder().redirect(Policy::none()).no_proxy().user_agent("headroom");
        // What these libraries say of a key could tell of it.
        let unusable = |what: &str| Failure::refused(format!("{what} cannot be read: is it PEM?"));
        if let Some(pem) = &self.authorities {
            let authorities = Certificate::from_pem_bundle(pem).map_err(|_| unusable("the authority"))?;
            builder = builder.tls_certs_only(authorities);
        }
        if let Some(pem) = &self.identity {
            let identity = Identity::from_pem(pem).map_err(|_| unusable("the client certificate or its key"))?;
            builder = builder.identity(identity);
        }
        if let Some(token) = &self.token {
            let header = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
            let mut header = header.map_err(|_| Failure::refused("the token has characters of no token".to_owned()))?;
            header.set_sensitive(true);
            builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, header)]));
        }
        let client = builder.build().map_err(|error| Failure::away(&error.without_url()))?;
        Ok((url.as_str().trim_end_matches('/').to_owned(), client))
    }
}
