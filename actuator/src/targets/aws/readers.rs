//! The readers of an Aurora cluster: instances are made and deleted.
//!
//! All readers count, whoever made them; only those that bear our tag are ever deleted. A name tells the place of a reader,
//! so that a change which is asked again makes none twice. A reader takes minutes to serve and is paid from the start: what
//! is asked for, and what serves, are reported apart. Before readers are deleted their connections may be waited for.

use std::collections::BTreeSet;
use std::path::Path;

use async_trait::async_trait;
use aws_sdk_rds::Client;
use aws_sdk_rds::types::{DbCluster, DbInstance, Filter, Tag};
use headroom_proto::Clock;

use super::client::failure;
use super::cloudwatch::Metric;
use super::knob::{self, Quantity};
use super::serverless::cluster;
use super::{AwsSettings, ReadersConfig};
use crate::targets::governed::Failure;
use crate::{Drain, Target};

/// Aurora has no more beside the writer.
const MAX_READERS: u64 = 15;
/// The tag of what we made, whose value is the target's name, and the one that says for which change.
const TAG: &str = "headroom:target";
const CHANGE: &str = "headroom:change";

struct Readers {
    name: String,
    aws: AwsSettings,
    cluster: String,
    instance_class: String,
    /// `CloudWatch` goes by the wall clock.
    clock: Clock,
}

/// A target over the number of readers.
pub(super) fn open(name: &str, config: &ReadersConfig, folder: &Path) -> impl Target + 'static {
    let quantity = Readers {
        name: name.to_owned(),
        aws: config.aws.clone(),
        cluster: config.cluster.clone(),
        instance_class: config.instance_class.clone(),
        clock: Clock::Wall,
    };
    knob::target(name, quantity, folder, config.per_unit, (config.timeout, config.settle), config.drain)
}

fn name_of(instance: &DbInstance) -> &str {
    instance.db_instance_identifier.as_deref().unwrap_or_default()
}

fn has_status(instance: &DbInstance, status: &str) -> bool {
    instance.db_instance_status.as_deref() == Some(status)
}

fn staying(all: &[DbInstance]) -> Vec<&DbInstance> {
    all.iter().filter(|instance| !has_status(instance, "deleting")).collect()
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

impl Readers {
    /// The readers, those that are being deleted among them: these have their names still.
    async fn all(&self, client: &Client, cluster: &DbCluster) -> Result<Vec<DbInstance>, Failure> {
        let of_cluster = Filter::builder().name("db-cluster-id").values(&self.cluster).build();
        let found = client.describe_db_instances().filters(of_cluster);
        let instances = found.send().await.map_err(failure)?.db_instances.unwrap_or_default();
        let writer = cluster.db_cluster_members().iter().find(|member| member.is_cluster_writer == Some(true));
        let writer = writer.and_then(|member| member.db_instance_identifier.as_deref());
        Ok(instances.into_iter().filter(|instance| Some(name_of(instance)) != writer).collect())
    }

    fn is_ours(&self, instance: &DbInstance) -> bool {
        let tags = instance.tag_list();
        tags.iter().any(|tag| tag.key.as_deref() == Some(TAG) && tag.value.as_deref() == Some(self.name.as_str()))
    }

    /// The readers that a smaller number takes away: those of ours that were made last. They have served least, and their
    /// caches are the coldest.
    fn leaving<'r>(&self, readers: &[&'r DbInstance], number: u64) -> Result<Vec<&'r DbInstance>, Failure> {
        let surplus = usize::try_from(count(readers).saturating_sub(number)).unwrap_or(usize::MAX);
        let mut ours: Vec<&DbInstance> = readers.iter().copied().filter(|reader| self.is_ours(reader)).collect();
        if surplus > ours.len() {
            let others = readers.len() - ours.len();
            let problem = format!("{others} of its {} readers were made by others, and are not deleted", readers.len());
            return Err(Failure::refused(format!("{number} readers: {problem}")));
        }
        ours.sort_by_key(|reader| {
            (reader.instance_create_time.map(|time| time.secs()), name_of(reader).len(), name_of(reader))
        });
        Ok(ours.into_iter().rev().take(surplus).collect())
    }

    async fn add(&self, client: &Client, cluster: &DbCluster, name: &str, key: &str) -> Result<(), Failure> {
        // What may stand in a tag; the rest of a key is replaced.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.:/=+-@".contains(c);
        let key: String = key.chars().map(|c| if is_plain(c) { c } else { '_' }).take(256).collect();
        let tag = |name: &str, value: &str| Tag::builder().key(name).value(value).build();
        let made = client
            .create_db_instance()
            .db_instance_identifier(name)
            .db_cluster_identifier(&self.cluster)
            .db_instance_class(&self.instance_class)
            .set_engine(cluster.engine.clone())
            .tags(tag(TAG, &self.name))
            .tags(tag(CHANGE, &key))
            .send()
            .await;
        match made {
            Err(error) if error.as_service_error().is_some_and(|told| told.is_db_instance_already_exists_fault()) => {
                Ok(())
            }
            other => other.map_err(failure).map(drop),
        }
    }

    async fn remove(&self, client: &Client, name: &str) -> Result<(), Failure> {
        let gone = client.delete_db_instance().db_instance_identifier(name).send().await;
        match gone {
            Err(error) if error.as_service_error().is_some_and(|told| told.is_db_instance_not_found_fault()) => Ok(()),
            other => other.map_err(failure).map(drop),
        }
    }
}

#[async_trait]
impl Quantity for Readers {
    async fn read(&self) -> Result<(u64, u64), Failure> {
        let client = Client::new(&self.aws.load().await?);
        let cluster = cluster(&client, &self.cluster).await?;
        let all = self.all(&client, &cluster).await?;
        let readers = staying(&all);
        let ready = readers.iter().filter(|reader| has_status(reader, "available")).count();
        Ok((count(&readers), u64::try_from(ready).unwrap_or(u64::MAX)))
    }

    async fn write(&self, number: u64, key: &str) -> Result<(), Failure> {
        if number > MAX_READERS {
            return Err(Failure::refused(format!("Aurora has at most {MAX_READERS} readers, not {number}")));
        }
        let client = Client::new(&self.aws.load().await?);
        let cluster = cluster(&client, &self.cluster).await?;
        let all = self.all(&client, &cluster).await?;
        let known: BTreeSet<&str> = all.iter().map(name_of).collect();
        let readers = staying(&all);
        let missing = number.saturating_sub(count(&readers));
        let names =
            (1..=MAX_READERS * 2).map(|place| format!("{}-{}-{place}", self.cluster, self.name.replace('_', "-")));
        let free = names.filter(|name| !known.contains(name.as_str()));
        for name in free.take(usize::try_from(missing).unwrap_or(usize::MAX)) {
            self.add(&client, &cluster, &name, key).await?;
        }
        for reader in self.leaving(&readers, number)? {
            self.remove(&client, name_of(reader)).await?;
        }
        Ok(())
    }

    async fn drain(&self, number: u64) -> Result<Drain, Failure> {
        let config = self.aws.load().await?;
        let client = Client::new(&config);
        let all = self.all(&client, &cluster(&client, &self.cluster).await?).await?;
        let mut left = Vec::new();
        for reader in self.leaving(&staying(&all), number)? {
            let name = name_of(reader);
            let dimension = ("DBInstanceIdentifier", name);
            let metric = Metric { namespace: "AWS/RDS", name: "DatabaseConnections", dimension };
            match self.aws.newest(&config, metric, self.clock.now()).await? {
                Some(connections) if connections < 1.0 => {}
                Some(connections) => left.push(format!("{name} has {connections} connections")),
                None => left.push(format!("{name}: no figure of its connections of late")),
            }
        }
        Ok(if left.is_empty() { Drain::Done } else { Drain::Left(left.join(", ")) })
    }

    fn shown(&self, number: u64) -> String {
        format!("{number} readers")
    }
}
