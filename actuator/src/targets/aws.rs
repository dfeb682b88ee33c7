//! Numbers at AWS: the readers of an Aurora cluster, the minimum of Aurora Serverless v2, the minimum of a target of
//! Application Auto Scaling. The AWS SDK is behind the feature `aws`, since it costs each build minutes.
//!
//! Who asks is found as by every program of AWS (environment, profile, web identity, container, instance). The record of
//! changes is a file of ours: AWS has nothing of its own that could hold it and can be written only if unchanged.

#[cfg(not(feature = "aws"))]
mod absent;
#[cfg(feature = "aws")]
mod client;
#[cfg(feature = "aws")]
mod cloudwatch;
#[cfg(feature = "aws")]
mod knob;
#[cfg(feature = "aws")]
mod readers;
#[cfg(feature = "aws")]
mod scaling;
#[cfg(feature = "aws")]
mod scheduled;
#[cfg(feature = "aws")]
mod serverless;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::Target;

/// Which region, and what differs from how AWS is usually reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsSettings {
    /// The region: `eu-central-1`.
    pub region: String,
    /// A profile in place of the usual search for who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The file that has the profile, in place of `~/.aws/credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// An address in place of AWS's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// The number of readers of an Aurora cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadersConfig {
    /// How AWS is reached.
    pub aws: AwsSettings,
    /// The cluster's identifier.
    pub cluster: String,
    /// The class of new readers: `db.r8g.large`, or `db.serverless`.
    pub instance_class: String,
    /// Readers in one unit.
    #[serde(default = "super::one")]
    pub per_unit: u32,
    /// A change or a question takes no longer.
    #[serde(default = "default_timeout", with = "span_text")]
    pub timeout: Span,
    /// A change is reported within this time.
    #[serde(default = "default_settle", with = "span_text")]
    pub settle: Span,
    /// How long the connections of readers may take to end before these are deleted; not waited for without.
    #[serde(default, with = "span_text")]
    pub drain: Span,
}

/// The minimum capacity of an Aurora Serverless v2 cluster, in half Aurora capacity units (ACU), which is AWS's step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerlessConfig {
    /// How AWS is reached.
    pub aws: AwsSettings,
    /// The cluster's identifier.
    pub cluster: String,
    /// Half ACUs in one unit.
    #[serde(default = "super::one")]
    pub per_unit: u32,
    /// A change or a question takes no longer.
    #[serde(default = "default_timeout", with = "span_text")]
    pub timeout: Span,
    /// A change is reported within this time.
    #[serde(default = "default_settle", with = "span_text")]
    pub settle: Span,
}

/// The minimum capacity of a scalable target of Application Auto Scaling, which must be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalingConfig {
    /// How AWS is reached.
    pub aws: AwsSettings,
    /// The service: `rds`, `ecs`, `dynamodb`.
    pub service: String,
    /// The resource: `cluster:shop`, `service/prod/shop`.
    pub resource: String,
    /// The dimension: `rds:cluster:ReadReplicaCount`, `ecs:service:DesiredCount`.
    pub dimension: String,
    /// Of the capacity, in one unit.
    #[serde(default = "super::one")]
    pub per_unit: u32,
    /// A change or a question takes no longer.
    #[serde(default = "default_timeout", with = "span_text")]
    pub timeout: Span,
    /// A change is reported within this time.
    #[serde(default = "default_settle", with = "span_text")]
    pub settle: Span,
}

fn default_timeout() -> Span {
    Span::from_mins(1)
}

fn default_settle() -> Span {
    Span::from_secs(20)
}

impl AwsSettings {
    /// What is wrong with these and with what all settings of a cluster have.
    fn of_cluster(&self, cluster: &str, per_unit: u32, timeout: Span, settle: Span) -> Vec<String> {
        let mut problems = super::common_problems(per_unit, timeout, settle);
        problems.extend(self.problems());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let is_one = cluster.starts_with(|c: char| c.is_ascii_alphabetic()) && cluster.chars().all(is_plain);
        problems.extend((!is_one).then(|| format!("`cluster`: `{cluster}` is no identifier of a cluster")));
        problems
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !cfg!(feature = "aws") {
            problems.push("this headroom was built without AWS: build it with `--features aws`".to_owned());
        }
        if self.region.is_empty() || !self.region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            problems.push(format!("aws: `region`: `{}` is none: write `eu-central-1`", self.region));
        }
        if self.credentials_file.is_some() && self.profile.is_none() {
            problems.push("aws: `credentials_file` has profiles: name the `profile`".to_owned());
        }
        if let Some(endpoint) = &self.endpoint {
            match Url::parse(endpoint) {
                Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && super::webhook::is_here(&url)) => {}
                Ok(_) => problems.push("aws: `endpoint`: it must be https, or http on this machine".to_owned()),
                Err(error) => problems.push(format!("aws: `endpoint`: {error}")),
            }
        }
        problems
    }

    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.credentials_file.iter_mut()
    }
}

impl ReadersConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.aws.of_cluster(&self.cluster, self.per_unit, self.timeout, self.settle);
        problems.extend(super::drain_problem(self.drain));
        if !self.instance_class.starts_with("db.") {
            problems.push(format!("`instance_class`: `{}` is none: write `db.r8g.large`", self.instance_class));
        }
        problems
    }

    pub(super) fn open(&self, name: &str, folder: &Path) -> Arc<dyn Target> {
        #[cfg(feature = "aws")]
        return Arc::new(readers::open(name, self, folder));
        #[cfg(not(feature = "aws"))]
        return Arc::new(absent::Absent::new(name, folder));
    }
}

impl ServerlessConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        self.aws.of_cluster(&self.cluster, self.per_unit, self.timeout, self.settle)
    }

    pub(super) fn open(&self, name: &str, folder: &Path) -> Arc<dyn Target> {
        #[cfg(feature = "aws")]
        return Arc::new(serverless::open(name, self, folder));
        #[cfg(not(feature = "aws"))]
        return Arc::new(absent::Absent::new(name, folder));
    }
}

impl ScalingConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = super::common_problems(self.per_unit, self.timeout, self.settle);
        problems.extend(self.aws.problems());
        let named = [&self.service, &self.resource, &self.dimension];
        if named.iter().any(|text| text.is_empty()) {
            problems.push("name the `service`, `resource` and `dimension` of the scalable target".to_owned());
        }
        if !self.dimension.starts_with(&format!("{}:", self.service)) {
            problems.push(format!("`dimension`: it begins with the service: `{}:..`", self.service));
        }
        problems
    }

    pub(super) fn open(&self, name: &str, folder: &Path) -> Arc<dyn Target> {
        #[cfg(feature = "aws")]
        return Arc::new(scaling::open(name, self, folder));
        #[cfg(not(feature = "aws"))]
        return Arc::new(absent::Absent::new(name, folder));
    }

    /// The same, where AWS raises the minimum by itself at the time.
    pub(super) fn open_scheduled(&self, name: &str, folder: &Path) -> Arc<dyn Target> {
        #[cfg(feature = "aws")]
        return Arc::new(scheduled::open(name, self, folder));
        #[cfg(not(feature = "aws"))]
        return Arc::new(absent::Absent::new(name, folder));
    }
}
