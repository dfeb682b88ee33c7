//! The minimum capacity of a target of Application Auto Scaling. Its maximum, its policies and its scheduled actions stay
//! what they are: they scale between the two.
//!
//! Application Auto Scaling does not say how much serves: what is set counts as what serves, and the way to it belongs into
//! the planner's `lead_time`.

use std::path::Path;

use async_trait::async_trait;
use aws_sdk_applicationautoscaling::Client;
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ScalableTarget, ServiceNamespace};

use super::client::failure;
use super::knob::{self, Quantity};
use super::{AwsSettings, ScalingConfig};
use crate::Target;
use crate::targets::governed::Failure;

struct Minimum {
    aws: AwsSettings,
    service: ServiceNamespace,
    resource: String,
    dimension: ScalableDimension,
}

/// A target over the minimum.
pub(super) fn open(name: &str, config: &ScalingConfig, folder: &Path) -> impl Target + 'static {
    let quantity = Minimum {
        aws: config.aws.clone(),
        service: ServiceNamespace::from(config.service.as_str()),
        resource: config.resource.clone(),
        dimension: ScalableDimension::from(config.dimension.as_str()),
    };
    knob::target(name, quantity, folder, config.per_unit, (config.timeout, config.settle))
}

impl Minimum {
    async fn registered(&self, client: &Client) -> Result<ScalableTarget, Failure> {
        let question = client.describe_scalable_targets().service_namespace(self.service.clone());
        let question = question.resource_ids(&self.resource).scalable_dimension(self.dimension.clone());
        let found = question.send().await.map_err(failure)?.scalable_targets.unwrap_or_default();
        found.into_iter().next().ok_or_else(|| {
            let what = format!("{} {}", self.resource, self.dimension.as_str());
            Failure::refused(format!("{what} is no scalable target: register it, with its maximum"))
        })
    }
}

#[async_trait]
impl Quantity for Minimum {
    async fn read(&self) -> Result<(u64, u64), Failure> {
        let client = Client::new(&self.aws.load().await?);
        let minimum = self.registered(&client).await?.min_capacity;
        let number = u64::try_from(minimum)
            .map_err(|_| Failure::refused(format!("{} has a minimum of {minimum}", self.resource)))?;
        Ok((number, number))
    }

    async fn write(&self, number: u64, _key: &str) -> Result<(), Failure> {
        let client = Client::new(&self.aws.load().await?);
        let maximum = self.registered(&client).await?.max_capacity;
        let minimum = i32::try_from(number).ok().filter(|number| *number <= maximum).ok_or_else(|| {
            Failure::refused(format!("{} is above the maximum of {maximum}: raise that first", self.shown(number)))
        })?;
        let change = client.register_scalable_target().service_namespace(self.service.clone());
        let change = change.resource_id(&self.resource).scalable_dimension(self.dimension.clone());
        change.min_capacity(minimum).send().await.map_err(failure).map(drop)
    }

    fn shown(&self, number: u64) -> String {
        format!("MinCapacity={number}")
    }
}
