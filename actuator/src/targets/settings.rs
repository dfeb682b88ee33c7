//! `[actuate.targets.<name>]` and who uses them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headroom_actuator_decide::stage::Kind;
use serde::{Deserialize, Serialize};

use super::aws::{ReadersConfig, ScalingConfig, ServerlessConfig};
use super::exec::{self, ExecConfig};
use super::git::{self, GitConfig};
use super::keda::{self, KedaConfig};
use super::kubernetes::{self, KubernetesConfig};
use super::pgbouncer::{self, PgBouncerConfig};
use super::postgres::{self, PostgresConfig};
use super::webhook::{self, WebhookConfig};
use crate::{ActuatorConfig, Target, Targets};

/// One value of one system; `kind` says of which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum TargetSettings {
    /// The pool of a database.
    PgBouncer(PgBouncerConfig),
    /// A setting of a server.
    Postgres(PostgresConfig),
    /// A program of yours.
    Exec(ExecConfig),
    /// A web service of yours.
    Webhook(WebhookConfig),
    /// A number in a repository.
    Git(GitConfig),
    /// A number that KEDA fetches.
    Keda(KedaConfig),
    /// A number of an object in Kubernetes.
    Kubernetes(KubernetesConfig),
    /// The readers of an Aurora cluster.
    #[serde(rename = "aws-readers")]
    AwsReaders(ReadersConfig),
    /// The minimum of Aurora Serverless v2.
    #[serde(rename = "aws-serverless")]
    AwsServerless(ServerlessConfig),
    /// The minimum of a target of Application Auto Scaling.
    #[serde(rename = "aws-scaling")]
    AwsScaling(ScalingConfig),
    /// The same, raised by a scheduled action of AWS.
    #[serde(rename = "aws-scheduled")]
    AwsScheduled(ScalingConfig),
}

/// What is said of one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSettings {
    /// The section of `targets` that has its capacity.
    pub target: String,
    /// Kinds of actions that cannot be undone there: they always need a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub irreversible: Vec<Kind>,
}

impl TargetSettings {
    /// Everything that is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::PgBouncer(config) => config.problems(),
            Self::Postgres(config) => config.problems(),
            Self::Exec(config) => config.problems(),
            Self::Webhook(config) => config.problems(),
            Self::Git(config) => config.problems(),
            Self::Keda(config) => config.problems(),
            Self::Kubernetes(config) => config.problems(),
            Self::AwsReaders(config) => config.problems(),
            Self::AwsServerless(config) => config.problems(),
            Self::AwsScaling(config) | Self::AwsScheduled(config) => config.problems(),
        }
    }

    /// Paths, which are relative to the folder of the configuration.
    pub fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::PgBouncer(config) => config.ini.iter_mut().chain(config.console.paths()).collect(),
            Self::Postgres(config) => config.server.paths().collect(),
            // A program without a folder is looked for in `PATH`.
            Self::Exec(config) => {
                let program = Some(&mut config.program).filter(|program| program.components().count() > 1);
                program.into_iter().chain(config.secret.file.as_mut()).collect()
            }
            Self::Webhook(config) => config.secret.file.iter_mut().chain(config.ca_file.as_mut()).collect(),
            Self::Kubernetes(config) => config.cluster.paths().collect(),
            Self::AwsReaders(config) => config.aws.paths().collect(),
            Self::AwsServerless(config) => config.aws.paths().collect(),
            Self::AwsScaling(config) | Self::AwsScheduled(config) => config.aws.paths().collect(),
            Self::Git(_) | Self::Keda(_) => Vec::new(),
        }
    }

    /// Has each workload a value of its own there?
    fn tells_workloads_apart(&self) -> bool {
        matches!(self, Self::Exec(_) | Self::Webhook(_) | Self::Keda(_))
    }

    fn open(&self, name: &str, folder: &Path) -> Arc<dyn Target> {
        match self {
            Self::PgBouncer(config) => Arc::new(pgbouncer::open(name, config, folder)),
            Self::Postgres(config) => Arc::new(postgres::open(name, config)),
            Self::Exec(config) => Arc::new(exec::open(name, config, folder)),
            Self::Webhook(config) => Arc::new(webhook::open(name, config, folder)),
            Self::Git(config) => Arc::new(git::open(name, config, folder)),
            Self::Keda(config) => Arc::new(keda::open(name, config, folder)),
            Self::Kubernetes(config) => Arc::new(kubernetes::open(name, config, folder)),
            Self::AwsReaders(config) => config.open(name, folder),
            Self::AwsServerless(config) => config.open(name, folder),
            Self::AwsScaling(config) => config.open(name, folder),
            Self::AwsScheduled(config) => config.open_scheduled(name, folder),
        }
    }
}

impl ActuatorConfig {
    /// The target of each workload; `fallback` for those that name none. In `folder` is kept what a target cannot keep.
    #[must_use]
    pub fn open_targets(&self, fallback: Arc<dyn Target>, folder: &Path) -> Targets {
        let opened: BTreeMap<&str, Arc<dyn Target>> =
            self.targets.iter().map(|(name, settings)| (name.as_str(), settings.open(name, folder))).collect();
        let named = self.workloads.iter().filter_map(|(workload, settings)| {
            opened.get(settings.target.as_str()).map(|target| (workload, Arc::clone(target)))
        });
        named.fold(Targets::new(fallback), |targets, (workload, target)| targets.with(workload, target))
    }

    /// What does not fit together between workloads and targets, and what is wrong with each.
    pub(crate) fn target_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, settings) in &self.targets {
            if !is_plain(name) {
                problems.push(format!("targets.{name}: a name has letters, digits, `-` and `_` only"));
            }
            problems.extend(settings.problems().into_iter().map(|problem| format!("targets.{name}: {problem}")));
            let users: Vec<&str> = self.users_of(name).collect();
            if users.len() > 1 && !settings.tells_workloads_apart() {
                let users = users.join(", ");
                problems.push(format!("targets.{name}: it is one value, and {users} would each set it"));
            }
        }
        for (workload, settings) in &self.workloads {
            if !self.targets.contains_key(&settings.target) {
                let known: Vec<&str> = self.targets.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
                let target = &settings.target;
                problems.push(format!("workloads.{workload}: no target `{target}` among `targets`: {known}"));
            }
        }
        problems
    }

    fn users_of<'a>(&'a self, target: &'a str) -> impl Iterator<Item = &'a str> {
        let users = self.workloads.iter().filter(move |(_, settings)| settings.target == target);
        users.map(|(workload, _)| workload.as_str())
    }
}

/// May it be a part of a file's name, and of a name in another system?
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}
