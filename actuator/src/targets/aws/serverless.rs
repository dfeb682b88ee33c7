//! The minimum capacity of an Aurora Serverless v2 cluster, in half ACUs. Its maximum stays what it is.
//!
//! AWS does not say through this API how much serves at the moment; within its bounds it follows in seconds to minutes, so
//! what is set counts as what serves.

use std::path::Path;

use async_trait::async_trait;
use aws_sdk_rds::Client;
use aws_sdk_rds::types::{DbCluster, ServerlessV2ScalingConfiguration};
use headroom_proto::Span;

use super::client::failure;
use super::knob::{self, Quantity};
use super::{AwsSettings, ServerlessConfig};
use crate::Target;
use crate::targets::governed::Failure;

/// AWS takes nothing above, in half ACUs.
const MAX_HALVES: u64 = 512;

struct Minimum {
    aws: AwsSettings,
    cluster: String,
}

/// A target over the minimum.
pub(super) fn open(name: &str, config: &ServerlessConfig, folder: &Path) -> impl Target + 'static {
    let quantity = Minimum { aws: config.aws.clone(), cluster: config.cluster.clone() };
    knob::target(name, quantity, folder, config.per_unit, (config.timeout, config.settle), Span::default())
}

/// The cluster of that name.
pub(super) async fn cluster(client: &Client, name: &str) -> Result<DbCluster, Failure> {
    let found = client.describe_db_clusters().db_cluster_identifier(name).send().await.map_err(failure)?;
    let clusters = found.db_clusters.unwrap_or_default();
    clusters.into_iter().next().ok_or_else(|| Failure::refused(format!("there is no cluster `{name}`")))
}

fn halves(acu: f64) -> Option<u64> {
    let halves = (acu * 2.0).round();
    // A whole number between 0 and 512, and so one of u64.
    (0..=MAX_HALVES).find(|number| f64::from(u32::try_from(*number).unwrap_or(u32::MAX)) >= halves)
}

fn acu(halves: u64) -> f64 {
    f64::from(u32::try_from(halves).unwrap_or(u32::MAX)) / 2.0
}

#[async_trait]
impl Quantity for Minimum {
    async fn read(&self) -> Result<(u64, u64), Failure> {
        let client = Client::new(&self.aws.load().await?);
        let cluster = cluster(&client, &self.cluster).await?;
        let minimum = cluster.serverless_v2_scaling_configuration.and_then(|scaling| scaling.min_capacity);
        let Some(halves) = minimum.and_then(halves) else {
            return Err(Failure::refused(format!("the cluster `{}` is not of Serverless v2", self.cluster)));
        };
        Ok((halves, halves))
    }

    async fn write(&self, number: u64, _key: &str) -> Result<(), Failure> {
        let client = Client::new(&self.aws.load().await?);
        let before = cluster(&client, &self.cluster).await?.serverless_v2_scaling_configuration;
        let maximum = before.and_then(|scaling| scaling.max_capacity);
        if let Some(maximum) = maximum.filter(|maximum| acu(number) > *maximum) {
            let problem = format!("{} is above the cluster's maximum of {maximum} ACU", self.shown(number));
            return Err(Failure::refused(problem));
        }
        let scaling = ServerlessV2ScalingConfiguration::builder().min_capacity(acu(number));
        let scaling = scaling.set_max_capacity(maximum).build();
        let change = client.modify_db_cluster().db_cluster_identifier(&self.cluster);
        let change = change.serverless_v2_scaling_configuration(scaling).apply_immediately(true);
        change.send().await.map_err(failure).map(drop)
    }

    fn shown(&self, number: u64) -> String {
        format!("MinCapacity={}", acu(number))
    }
}
