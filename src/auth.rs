//! Who may ask on `grpc.listen`: bearer tokens from a file, or JSON Web Tokens of an identity provider. Each method asks for a
//! role; without `[grpc.auth]` everyone may ask everything, as whom they say.

mod jwt;
mod tokens;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use headroom_actuator::Caller;
use headroom_actuator_decide::roles::Role;
use headroom_proto::Clock;
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::cli::UserError;

pub(crate) use jwt::JwtConfig;
use jwt::Verifier;
use tokens::Tokens;

/// `[grpc.auth]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthConfig {
    /// A file with lines `name:role,role:token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<std::path::PathBuf>,
    /// The variable of the environment that has such lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_variable: Option<String>,
    /// Tokens of an identity provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jwt: Option<JwtConfig>,
}

/// Tells who asks.
#[derive(Debug)]
pub(crate) struct Auth {
    tokens: Tokens,
    jwt: Option<Verifier>,
    clock: Clock,
}

impl AuthConfig {
    /// What tells who asks; none where nobody is asked.
    ///
    /// # Errors
    /// When keys or tokens cannot be read. Neither is told.
    pub(crate) fn open(&self) -> anyhow::Result<Option<Auth>> {
        let told = |problem: String| UserError::new(format!("grpc.auth: {problem}"));
        let mut tokens = Tokens::default();
        if let Some(file) = &self.token_file {
            let text = std::fs::read_to_string(file).map_err(|error| told(format!("{}: {error}", file.display())))?;
            tokens.read(&text, &file.display().to_string()).map_err(told)?;
        }
        if let Some(name) = &self.token_variable {
            let text = std::env::var(name).map_err(|error| told(format!("{name}: {error}")))?;
            tokens.read(&text, name).map_err(told)?;
        }
        let jwt = self.jwt.as_ref().map(Verifier::open).transpose().map_err(told)?;
        let asks = self.token_file.is_some() || self.token_variable.is_some() || jwt.is_some();
        Ok(asks.then_some(Auth { tokens, jwt, clock: Clock::Wall }))
    }
}

impl Auth {
    /// The caller of a request.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Status> {
        let token = bearer(headers).ok_or_else(|| Status::unauthenticated("send `authorization: Bearer TOKEN`"))?;
        if let Some(caller) = self.tokens.caller(token) {
            return Ok(caller);
        }
        let Some(jwt) = &self.jwt else { return Err(Status::unauthenticated("the token is not known")) };
        jwt.caller(token, self.clock.now()).map_err(|problem| {
            tracing::info!(problem, "a token was refused");
            Status::unauthenticated("the token is not good")
        })
    }

    /// The caller, if that role is theirs.
    fn admit(&self, headers: &HeaderMap, role: Role) -> Result<Caller, Status> {
        let caller = self.caller(headers)?;
        if caller.may(role) {
            return Ok(caller);
        }
        Err(Status::permission_denied(format!("`{}` is no {}", caller.subject, role.name())))
    }
}

/// Lets a request through whose token gives the role that its method asks for.
pub(crate) async fn guard(State(auth): State<Arc<Auth>>, mut request: Request, next: Next) -> Response {
    let Some(role) = role_for(request.uri().path()) else { return next.run(request).await };
    match auth.admit(request.headers(), role) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(status) => status.into_http(),
    }
}

/// The role that a method asks for; none where everyone may ask.
fn role_for(path: &str) -> Option<Role> {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    match (service, method) {
        ("grpc.health.v1.Health", _) => None,
        ("headroom.v1.ActuatorService", "Approve") => Some(Role::Approver),
        ("headroom.v1.ActuatorService", "Reject" | "Rollback" | "RollbackPlan" | "Pause" | "Resume") => {
            Some(Role::Operator)
        }
        ("headroom.v1.SignalService", _) => Some(Role::Planner),
        _ => Some(Role::Viewer),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

#[cfg(test)]
mod tests;
