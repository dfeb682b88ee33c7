//! Policy as code: Cedar says who may do what to which workload, when, at which stage and risk.

mod cases;
mod question;

use std::collections::HashSet;
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Decision as Verdict, Entities, Entity, EntityUid, PolicySet, Request, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;
use sha2::{Digest, Sha256};

use crate::audit::hex;
use crate::roles::Roles;
pub use crate::stage::Stage;
pub use cases::{Case, Cases, Expected};
pub use question::Question;

/// The policies that are shipped.
pub const DEFAULT: &str = include_str!("policy/default.cedar");
/// What policies may ask about.
pub const SCHEMA: &str = include_str!("policy/schema.cedarschema");

/// Policies that cannot be used, or a question that cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("policy: {0}")]
pub struct PolicyError(String);

/// What the policies say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// May it be done?
    pub allowed: bool,
    /// The ids of the policies that decided; empty when none applied, which denies.
    pub rules: Vec<String>,
}

impl Answer {
    /// In words: `forbidden by paused`.
    #[must_use]
    pub fn told(&self) -> String {
        let rules = self.rules.join(", ");
        match (self.allowed, self.rules.is_empty()) {
            (true, _) => format!("permitted by {rules}"),
            (false, true) => "nothing permits it".to_owned(),
            (false, false) => format!("forbidden by {rules}"),
        }
    }
}

/// A set of policies, read and checked.
#[derive(Debug)]
pub struct Policy {
    policies: PolicySet,
    schema: Schema,
    version: String,
}

impl Policy {
    /// Reads policies in the Cedar language and holds them against the schema.
    ///
    /// # Errors
    /// Says in which line the text is not Cedar, or asks about what there is not, and how to mend it.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let told = |error: &dyn Diagnostic| PolicyError(told(text, error));
        let policies = PolicySet::from_str(text).map_err(|error| told(&error))?;
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
            .map_err(|error| PolicyError(format!("the schema that is shipped: {error}")))?;
        let checked = Validator::new(schema.clone()).validate(&policies, ValidationMode::default());
        let problems: Vec<String> = checked.validation_errors().map(|error| told(error).0).collect();
        if !problems.is_empty() {
            return Err(PolicyError(problems.join("\n  ")));
        }
        Ok(Self { policies, schema, version: hex(&Sha256::digest(text)) })
    }

    /// SHA-256 of the text, in hexadecimal.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Names of the policies, in the order of the text.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.policies.policies().map(|policy| self.name_of(policy.id())).collect()
    }

    /// Asks. What no policy permits is denied.
    ///
    /// # Errors
    /// When a name cannot be written as a Cedar entity, or the action is not in the schema.
    pub fn ask(&self, question: &Question<'_>) -> Result<Answer, PolicyError> {
        let (principal, entities) = match question.person {
            Some(person) => self.person(person, question.roles)?,
            None => (entity("Service", "headroom")?, Entities::empty()),
        };
        let context = question.context().map_err(PolicyError)?;
        let (action, workload) = (entity("Action", question.action)?, entity("Workload", question.workload)?);
        let request = Request::new(principal, action, workload, context, Some(&self.schema))
            .map_err(|error| PolicyError(error.to_string()))?;
        let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        let mut rules: Vec<String> = response.diagnostics().reason().map(|id| self.name_of(id)).collect();
        rules.sort();
        Ok(Answer { allowed: response.decision() == Verdict::Allow, rules })
    }

    /// A person within their roles.
    fn person(&self, name: &str, roles: Roles) -> Result<(EntityUid, Entities), PolicyError> {
        let person = entity("Person", name)?;
        let roles: HashSet<EntityUid> =
            roles.each().map(|role| entity("Role", role.name())).collect::<Result<_, _>>()?;
        let all =
            roles.iter().cloned().map(Entity::with_uid).chain([Entity::new_no_attrs(person.clone(), roles.clone())]);
        let entities = Entities::from_entities(all, Some(&self.schema));
        Ok((person, entities.map_err(|error| PolicyError(error.to_string()))?))
    }

    /// The policy's `@id`, or its place in the text.
    fn name_of(&self, id: &cedar_policy::PolicyId) -> String {
        let named = self.policies.policy(id).and_then(|policy| policy.annotation("id").map(str::to_owned));
        named.unwrap_or_else(|| id.to_string())
    }
}

/// A mistake with its line and how to mend it.
fn told(text: &str, error: &dyn Diagnostic) -> String {
    let offset = error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    let line = offset.and_then(|offset| text.get(..offset)).map(|before| before.matches('\n').count() + 1);
    let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
    format!("{line}{error}{help}")
}

fn entity(kind: &str, name: &str) -> Result<EntityUid, PolicyError> {
    let kind = cedar_policy::EntityTypeName::from_str(kind).map_err(|error| PolicyError(error.to_string()))?;
    Ok(EntityUid::from_type_name_and_id(kind, cedar_policy::EntityId::new(name)))
}

#[cfg(test)]
mod tests;
