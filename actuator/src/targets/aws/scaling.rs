//! The minimum capacity of a target of Application Auto Scaling. Its maximum, its policies and its scheduled actions stay
//! what they are: they scale between the two.
//!
//! Application Auto Scaling does not say how much serves: what is set counts as what serves, and the way to it belongs into
//! the planner's `lead_time`.

use std::path::Path;

use async_trait::async_trait;
use aws_sdk_applicationautoscaling::Client;
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ScalableTarget, ServiceNamespace};
use headroom_proto::Span;

use super::client::failure;
use super::knob::{self, Quantity};
use super::{AwsSettings, ScalingConfig};
use crate::Target;
use crate::targets::governed::Failure;

/// A minimum there.
pub(super) struct Minimum {
    pub(super) aws: AwsSettings,
    pub(super) service: ServiceNamespace,
    pub(super) resource: String,
    pub(super) dimension: ScalableDimension,
}

/// A target over the minimum.
pub(super) fn open(name: &str, config: &ScalingConfig, folder: &Path) -> impl Target + 'static {
    knob::target(name, Minimum::of(config), folder, config.per_unit, (config.timeout, config.settle), Span::default())
}

impl Minimum {
    pub(super) fn of(config: &ScalingConfig) -> Self {
        Self {
            aws: config.aws.clone(),
            service: ServiceNamespace::from(config.service.as_str()),
            resource: config.resource.clone(),
            dimension: ScalableDimension::from(config.dimension.as_str()),
        }
    }

    async fn registered(&self, client: &Client) -> Result<ScalableTarget, Failure> {
        let question = client.describe_scalable_targets().service_namespace(self.service.clone());
        let question = question.resource_ids(&self.resource).scalable_dimension(self.dimension.clone());
        let found = question.send().await.map_err(failure)?.scalable_targets.unwrap_or_default();
        found.into_iter().next().ok_or_else(|| {
            let what = format!("{} {}", self.resource, self.dimension.as_str());
            Failure::refused(format!("{what} is no scalable target: register it, with its maximum"))
        })
    }

    pub(super) async fn number(&self, client: &Client) -> Result<u64, Failure> {
        let minimum = self.registered(client).await?.min_capacity;
        u64::try_from(minimum).map_err(|_| Failure::refused(format!("{} has a minimum of {minimum}", self.resource)))
    }

    /// The number as AWS takes it; what is above the maximum is refused.
    pub(super) async fn within_maximum(&self, client: &Client, number: u64) -> Result<i32, Failure> {
        let maximum = self.registered(client).await?.max_capacity;
        i32::try_from(number).ok().filter(|number| *number <= maximum).ok_or_else(|| {
            Failure::refused(format!("{} is above the maximum of {maximum}: raise that first", self.shown(number)))
        })
    }

    pub(super) async fn set(&self, client: &Client, number: u64) -> Result<(), Failure> {
        let minimum = self.within_maximum(client, number).await?;
        let change = client.register_scalable_target().service_namespace(self.service.clone());
        let change = change.resource_id(&self.resource).scalable_dimension(self.dimension.clone());
        change.min_capacity(minimum).send().await.map_err(failure).map(drop)
    }
}

#[async_trait]
impl Quantity for Minimum {
    async fn read(&self) -> Result<(u64, u64), Failure> {
        let client = Client::new(&self.aws.load().await?);
        let number = self.number(&client).await?;
        Ok((number, number))
    }

    async fn write(&self, number: u64, _key: &str) -> Result<(), Failure> {
        let client = Client::new(&self.aws.load().await?);
        self.set(&client, number).await
    }

    fn shown(&self, number: u64) -> String {
        format!("MinCapacity={number}")
    }
}
