//! The file that `kubectl` and its kin use: which cluster, and who asks.
//!
//! A context's cluster and user are taken. Of the ways to say who one is: a token, a file with one, a client certificate,
//! and a program that gets a token (`exec`, as EKS, GKE and AKS have it), which runs at each use and must not ask people.
//! What would weaken TLS, and what Kubernetes itself has removed, is refused.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use super::access::Access;
use super::yaml;
use crate::targets::governed::Failure;
use crate::targets::request::said;
use crate::targets::secret::Secret;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    current_context: Option<String>,
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    cluster: Option<Value>,
    user: Option<Value>,
    context: Option<Value>,
}

/// What the program that gets a token says.
#[derive(Deserialize)]
struct Credential {
    status: CredentialStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialStatus {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Where the cluster of a context is and who asks; without a name, of the file's own context.
pub(super) async fn read(path: &Path, context: Option<&str>) -> Result<Access, Failure> {
    let failed = |problem: String| Failure::refused(format!("{}: {problem}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let value = yaml::parse(&text).map_err(failed)?;
    // The error of the library could tell of a secret.
    let file: File = serde_json::from_value(value).map_err(|_| failed("it is no kubeconfig".to_owned()))?;
    file.access(path, context).await.map_err(|failure| Failure { problem: failed(failure.problem).problem, ..failure })
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn decoded(text: &str, key: &str) -> Result<Vec<u8>, Failure> {
    STANDARD.decode(text).map_err(|_| Failure::refused(format!("`{key}` is no base64")))
}

/// Bytes that stand in the file, or in one that it names.
fn bytes(value: &Value, key: &str, folder: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let data = format!("{key}-data");
    if let Some(text) = text(value, &data) {
        return decoded(text, &data).map(Some);
    }
    let Some(path) = text(value, key) else { return Ok(None) };
    let path = folder.join(path);
    std::fs::read(&path).map(Some).map_err(|error| Failure::refused(format!("{}: {error}", path.display())))
}

impl File {
    async fn access(&self, path: &Path, context: Option<&str>) -> Result<Access, Failure> {
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let Some(name) = context.or(self.current_context.as_deref()) else {
            return Err(Failure::refused("it has no `current-context`: name a `context`".to_owned()));
        };
        let context = find(&self.contexts, name, "context", |named| named.context.as_ref())?;
        let cluster = text(context, "cluster").unwrap_or_default();
        let cluster = find(&self.clusters, cluster, "cluster", |named| named.cluster.as_ref())?;
        let user = text(context, "user").unwrap_or_default();
        let user = find(&self.users, user, "user", |named| named.user.as_ref())?;
        for (value, key, mend) in [
            (cluster, "insecure-skip-tls-verify", "name the `certificate-authority`"),
            (cluster, "tls-server-name", "let `server` have the name in its certificate"),
            (cluster, "proxy-url", "let `server` be reachable without it"),
            (user, "username", "use a token, a certificate or `exec`"),
            (user, "auth-provider", "use `exec`"),
            (user, "as", "let the user itself have the rights"),
        ] {
            if text(value, key).is_some_and(|text| text != "false") || value.get(key).is_some_and(Value::is_object) {
                return Err(Failure::refused(format!("`{key}` of context `{name}` is not followed: {mend}")));
            }
        }
        let Some(server) = text(cluster, "server") else {
            return Err(Failure::refused(format!("the cluster of context `{name}` has no `server`")));
        };
        let access = Access {
            server: server.to_owned(),
            authorities: bytes(cluster, "certificate-authority", &folder)?,
            token: token(user, &folder)?,
            identity: None,
        };
        let pair = (bytes(user, "client-certificate", &folder)?, bytes(user, "client-key", &folder)?);
        match (pair, user.get("exec").filter(|exec| exec.is_object())) {
            ((Some(certificate), Some(key)), _) => Ok(access.with_identity(&certificate, &key)),
            ((None, None), Some(exec)) if access.token.is_none() => ask(exec, &folder, access).await,
            ((None, None), _) => Ok(access),
            _ => Err(Failure::refused(format!("the user of context `{name}` has a certificate or a key, not both"))),
        }
    }
}

fn find<'a>(
    all: &'a [Named],
    name: &str,
    what: &str,
    pick: impl Fn(&'a Named) -> Option<&'a Value>,
) -> Result<&'a Value, Failure> {
    let known = || all.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = all.iter().find(|named| named.name == name).and_then(pick);
    found.ok_or_else(|| Failure::refused(format!("it has no {what} `{name}`: {}", known())))
}

fn token(user: &Value, folder: &Path) -> Result<Option<Secret>, Failure> {
    if let Some(path) = text(user, "tokenFile") {
        let path = folder.join(path);
        let read = std::fs::read_to_string(&path);
        let token = read.map_err(|error| Failure::refused(format!("{}: {error}", path.display())))?;
        return Ok(Some(Secret::new(token.trim())));
    }
    Ok(text(user, "token").map(Secret::new))
}

/// Runs the program that gets a token or a certificate.
async fn ask(exec: &Value, folder: &Path, access: Access) -> Result<Access, Failure> {
    let program = text(exec, "command").unwrap_or_default();
    let failed = |problem: String| Failure::refused(format!("`exec` runs {program}: {problem}"));
    // One with a folder in its name is meant from the file; any other is looked for in `PATH`.
    let place = PathBuf::from(program);
    let place = if place.components().count() > 1 { folder.join(place) } else { place };
    let version = text(exec, "apiVersion").unwrap_or("client.authentication.k8s.io/v1");
    let info = json!({"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": false}});
    let mut command = Command::new(place);
    command.kill_on_drop(true).stdin(Stdio::null()).env("KUBERNETES_EXEC_INFO", info.to_string());
    let list = |key: &str| exec.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    command.args(list("args").iter().filter_map(Value::as_str));
    for pair in list("env") {
        command.env(text(&pair, "name").unwrap_or_default(), text(&pair, "value").unwrap_or_default());
    }
    let output = command.output().await.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("it ends with {}; {}", output.status, said(&output.stderr))));
    }
    let credential: Credential =
        serde_json::from_slice(&output.stdout).map_err(|_| failed("what it says is no ExecCredential".to_owned()))?;
    let status = credential.status;
    let access = Access { token: status.token.as_deref().map(Secret::new), ..access };
    match (status.client_certificate_data, status.client_key_data) {
        (Some(certificate), Some(key)) => Ok(access.with_identity(certificate.as_bytes(), key.as_bytes())),
        _ => Ok(access),
    }
}
