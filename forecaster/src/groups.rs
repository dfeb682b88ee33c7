//! Groups of workloads, such as the databases of a cluster: a series of its own, the sum of the members, has outlooks, and
//! those of the members and the group are reconciled, so that they add up.
//!
//! An hour of the group is known when every member has one: those seen within a day. The members' outlooks of an hour wait for
//! each other, up to two hours; what is waited for in vain is told, and the others go out as they are. Forecasts by steps,
//! which are acted on, wait for nobody. In which order partitions are read decides who is waited for in vain, so these
//! outlooks alone may differ after a crash.

use std::collections::{BTreeMap, BTreeSet};

use headroom_models::reconcile::{Rows, reconcile};
use headroom_models::{Abstention, ForecastSet, KnownEvent, ModelCard, Note, Outlook};
use headroom_proto::WorkloadId;
use headroom_proto::v1::{Forecast, Verdict};
use serde::{Deserialize, Serialize};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// Hours that may wait for members.
const MOST_WAITING: usize = 3;

/// Which workloads a group has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupConfig {
    /// Names, or beginnings of names with a `*` behind them.
    pub workloads: Vec<String>,
}

impl GroupConfig {
    /// Is a workload of the group?
    pub(crate) fn has(&self, workload: &str) -> bool {
        WorkloadId::try_new(workload).is_ok_and(|id| !self.workloads.is_empty() && id.is_selected(&self.workloads))
    }
}

/// A group at work.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    outlook: Outlook,
    /// When each member's last hour began.
    seen: BTreeMap<String, i64>,
    /// Hours that wait for members: the means so far.
    hours: BTreeMap<i64, BTreeMap<String, f64>>,
    /// Outlooks that wait, by origin.
    waiting: BTreeMap<i64, BTreeMap<String, Held>>,
}

/// A member's outlook, and how far off it usually is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) outlook: Forecast,
    pub(crate) deviations: Vec<f64>,
}

impl Group {
    /// `outlook` takes hours as its steps.
    pub(crate) fn new(outlook: Outlook) -> Self {
        Self { outlook, seen: BTreeMap::new(), hours: BTreeMap::new(), waiting: BTreeMap::new() }
    }

    pub(crate) fn signal(&mut self, event: KnownEvent) {
        self.outlook.signal(event);
    }

    /// Has nothing been heard of a member yet?
    pub(crate) fn is_new(&self, member: &str) -> bool {
        !self.seen.contains_key(member)
    }

    /// The members seen within a day of an hour.
    fn members(&self, hour_us: i64) -> BTreeSet<&str> {
        let is_present = |(_, seen): &(&String, &i64)| hour_us - **seen <= DAY_US;
        self.seen.iter().filter(is_present).map(|(name, _)| name.as_str()).collect()
    }

    /// Takes the mean of a member's hour in; none for a gap. When it was the last one of that hour, the group's hour is
    /// known, and models that were fitted to it are returned.
    pub(crate) fn hour(&mut self, member: &str, hour_us: i64, mean: Option<f64>) -> Vec<ModelCard> {
        let seen = self.seen.entry(member.to_owned()).or_insert(hour_us);
        *seen = hour_us.max(*seen);
        if let Some(mean) = mean {
            self.hours.entry(hour_us).or_default().insert(member.to_owned(), mean);
        }
        let members = self.members(hour_us);
        let Some(means) = self.hours.get(&hour_us) else { return Vec::new() };
        let is_whole = members.iter().all(|name| means.contains_key(*name));
        let sum: f64 = means.values().sum();
        let notes = if is_whole { self.outlook.observe(hour_us, sum) } else { Vec::new() };
        // What the group is behind of will not be waited for.
        let done_us = self.outlook.last_hour().map_or(i64::MIN, |(start_us, _)| start_us);
        self.hours.retain(|hour_us, _| *hour_us > done_us);
        while self.hours.len() > MOST_WAITING {
            self.hours.pop_first();
        }
        let card = |note| if let Note::Refitted(card) = note { Some(card) } else { None };
        notes.into_iter().filter_map(card).collect()
    }

    /// Takes a member's outlook in; returns those that need not wait any longer, and the group's own, named `name`.
    pub(crate) fn outlook(&mut self, name: &str, member: &str, held: Held) -> Vec<Forecast> {
        let origin_us = held.outlook.origin_us;
        self.waiting.entry(origin_us).or_default().insert(member.to_owned(), held);
        let members = self.members(origin_us - HOUR_US);
        let is_whole =
            self.waiting.get(&origin_us).is_some_and(|held| members.iter().all(|member| held.contains_key(*member)));
        let mut out = Vec::new();
        if is_whole {
            // Nobody will come for what is older.
            while let Some((at_us, held)) = self.waiting.pop_first() {
                if at_us >= origin_us {
                    out.extend(self.joined(name, held));
                    break;
                }
                out.extend(given_up(name, held));
            }
        }
        while self.waiting.len() >= MOST_WAITING {
            if let Some((_, held)) = self.waiting.pop_first() {
                out.extend(given_up(name, held));
            }
        }
        out
    }

    /// The outlooks of every member, reconciled with the group's, and that.
    fn joined(&mut self, name: &str, held: BTreeMap<String, Held>) -> Vec<Forecast> {
        let Some(like) = held.values().next().map(|held| held.outlook.clone()) else { return Vec::new() };
        let silent = held.iter().find(|(_, held)| held.outlook.values.is_empty()).map(|(member, _)| member.clone());
        let is_behind = self.outlook.last_hour().is_none_or(|(start_us, _)| start_us + HOUR_US != like.origin_us);
        let own = match silent {
            Some(member) => Err(Abstention { reason: format!("its member {member} has no outlook") }),
            None if is_behind => Err(Abstention { reason: "an hour of some member is missing".to_owned() }),
            None => self.outlook.forecast_alone(),
        };
        let base = Forecast {
            workload: name.to_owned(),
            target: like.target,
            feature_version: like.feature_version,
            origin_us: like.origin_us,
            step_us: HOUR_US,
            basis: format!("the sum of {} workloads", held.len()),
            ..Forecast::default()
        };
        let own: ForecastSet = match own {
            Ok(own) => own,
            Err(Abstention { reason }) => {
                let verdict = Verdict::Abstain.into();
                let abstention = Forecast { verdict, verdict_reason: reason, ..base };
                return given_up(name, held).into_iter().chain([abstention]).collect();
            }
        };
        let deviations = self.outlook.deviations(&own.levels, &own.values, &own.event_steps);
        let made = crate::workload::made(own);
        let mut group = Forecast {
            workload: base.workload,
            target: base.target,
            feature_version: base.feature_version,
            basis: base.basis,
            ..made
        };
        let (mut records, of_members): (Vec<Forecast>, Vec<Vec<f64>>) =
            held.into_values().map(|held| (held.outlook, held.deviations)).unzip();
        let levels = group.levels.clone();
        let mut rows: Vec<Rows<'_>> = records
            .iter_mut()
            .zip(&of_members)
            .map(|(record, deviations)| Rows { levels: &levels, values: &mut record.values, deviations })
            .collect();
        reconcile(Rows { levels: &levels, values: &mut group.values, deviations: &deviations }, &mut rows);
        records.iter_mut().for_each(|record| add_basis(record, &format!("reconciled with {name}")));
        records.push(group);
        records
    }
}

/// As they are.
fn given_up(name: &str, held: BTreeMap<String, Held>) -> Vec<Forecast> {
    let told = |mut record: Forecast| {
        add_basis(&mut record, &format!("not reconciled with {name}, of which not every member has an outlook"));
        record
    };
    held.into_values().map(|held| told(held.outlook)).collect()
}

fn add_basis(record: &mut Forecast, basis: &str) {
    let before = std::mem::take(&mut record.basis);
    record.basis = if before.is_empty() { basis.to_owned() } else { format!("{before}; {basis}") };
}
