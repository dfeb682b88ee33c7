//! Reading and applying objects: the REST API of Kubernetes, as far as a number needs it.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::Fault;
use crate::targets::governed::Failure;
use crate::targets::webhook::body;

/// Server-side apply. JSON is YAML.
const APPLY: &str = "application/apply-patch+yaml";
/// An object of the API is no larger: etcd takes 1.5 MiB.
const MAX_OBJECT: usize = 2 * 1024 * 1024;

/// An API server, and who asks it.
pub(super) struct Api {
    pub(super) server: String,
    pub(super) client: Client,
}

/// How an object is applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner<'a> {
    /// Who owns the fields from then on.
    pub(super) manager: &'a str,
    /// Take them from others?
    pub(super) force: bool,
    /// Only look whether it could be done?
    pub(super) dry_run: bool,
}

/// Why an object was not applied.
pub(super) enum Refusal {
    /// It has been changed since it was read.
    Changed,
    /// Anything else.
    Other(Failure),
}

impl Api {
    /// Reads an object.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let request = self.client.get(format!("{}{path}", self.server));
        match answer(request, path).await {
            Ok(object) => Ok(object),
            Err(Refusal::Other(failure)) => Err(failure),
            Err(Refusal::Changed) => Err(Failure::new(Fault::Away, format!("{path}: it answers a question with 409"))),
        }
    }

    /// Applies fields of an object; what it is then.
    pub(super) async fn apply(&self, path: &str, manner: Manner<'_>, fields: &Value) -> Result<Value, Refusal> {
        let force = if manner.force { "&force=true" } else { "" };
        let dry_run = if manner.dry_run { "&dryRun=All" } else { "" };
        let query = format!("fieldManager={}{force}{dry_run}", manner.manager);
        let request = self.client.patch(format!("{}{path}?{query}", self.server));
        answer(request.header(CONTENT_TYPE, APPLY).body(fields.to_string()), path).await
    }
}

async fn answer(request: RequestBuilder, path: &str) -> Result<Value, Refusal> {
    let other = |fault, problem: String| Refusal::Other(Failure::new(fault, format!("{path}: {problem}")));
    let response = request.send().await.map_err(|error| Refusal::Other(Failure::away(&error.without_url())))?;
    let status = response.status();
    let bytes = body(response, MAX_OBJECT).await.map_err(Refusal::Other)?;
    let told: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if status.is_success() && told.is_object() {
        return Ok(told);
    }
    let message = told.get("message").and_then(Value::as_str).unwrap_or("it gives no reason");
    let fault = match status {
        StatusCode::CONFLICT => {
            return Err(conflict(&told).map_or(Refusal::Changed, |said| other(Fault::Refused, said)));
        }
        StatusCode::UNAUTHORIZED => {
            let problem = format!("it does not know who asks ({message}): is the token or certificate still good?");
            return Err(other(Fault::Refused, problem));
        }
        StatusCode::FORBIDDEN => {
            return Err(other(Fault::Refused, format!("{message}: `get` and `patch` must be allowed by a role")));
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Fault::Away,
        status if status.is_server_error() => Fault::Away,
        // What answers is not the API, or something is between.
        status if status.is_success() => Fault::Away,
        _ => Fault::Refused,
    };
    Err(other(fault, format!("it answers {status}: {message}")))
}

/// Who owns the fields that were to be changed; none when the refusal is of another kind.
fn conflict(status: &Value) -> Option<String> {
    let causes = status.pointer("/details/causes")?.as_array()?;
    let text = |cause: &Value, key: &str| cause.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let of_managers = causes.iter().filter(|cause| text(cause, "reason") == "FieldManagerConflict");
    let owned: Vec<String> = of_managers
        .map(|cause| {
            let who = text(cause, "message");
            format!("{} belongs to {}", text(cause, "field"), who.trim_start_matches("conflict with "))
        })
        .collect();
    let mend = "take the field out of what that one applies, or say `force = true` to take it over";
    (!owned.is_empty()).then(|| format!("{}: {mend}", owned.join("; ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conflict_names_the_owner() {
        let status = json!({"details": {"causes": [
            {"reason": "FieldManagerConflict", "message": "conflict with \"helm\" using apps/v1", "field": ".spec.replicas"},
        ]}});
        let said = conflict(&status).expect("a conflict");
        assert!(said.starts_with(".spec.replicas belongs to \"helm\" using apps/v1: take"), "{said}");
        assert_eq!(conflict(&json!({"message": "the object has been modified"})), None);
    }
}
