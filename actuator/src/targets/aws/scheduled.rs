//! The minimum of a target of Application Auto Scaling, raised by AWS itself at the time: a raise that is not needed yet is
//! put there as a scheduled action, which AWS carries out whether Headroom is there or not. What is needed at once, and
//! each release, is set at once, and takes the scheduled action away.
//!
//! There is one scheduled action, which bears the target's name. It counts while its time is to come and it raises the
//! minimum; a setting is written `10`, or `10>20@2026-11-27T08:00:00Z` while one counts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use async_trait::async_trait;
use aws_sdk_applicationautoscaling::Client;
use aws_sdk_applicationautoscaling::types::{ScalableTargetAction, ScheduledAction};
use headroom_proto::{Clock, EventTime, Span};

use super::ScalingConfig;
use super::client::failure;
use super::scaling::Minimum;
use crate::targets::governed::{Failure, Governed, Knob, Patience, Reading, Setting};
use crate::targets::ledger::{Book, Entry};
use crate::{ApplyRequest, Target};

/// What is nearer than this is set at once.
const AHEAD: Span = Span::from_mins(1);
const SECOND: Span = Span::from_secs(1);

struct Scheduled {
    minimum: Minimum,
    /// The scheduled action.
    name: String,
    journal: PathBuf,
    /// AWS acts by the wall clock.
    clock: Clock,
}

/// A minimum, and the raise that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Planned {
    minimum: u64,
    coming: Option<(u64, EventTime)>,
}

/// A target over the minimum and its scheduled action.
pub(super) fn open(name: &str, config: &ScalingConfig, folder: &Path) -> impl Target + 'static {
    let knob = Scheduled {
        minimum: Minimum::of(config),
        name: format!("headroom-{name}"),
        journal: folder.join(format!("{name}.json")),
        clock: Clock::Wall,
    };
    Governed::new(name, knob, config.per_unit, Patience::new(config.timeout, config.settle))
}

impl Planned {
    fn now(minimum: u64) -> Self {
        Self { minimum, coming: None }
    }

    fn commanded(&self) -> u64 {
        self.coming.map_or(self.minimum, |(number, _)| number)
    }

    /// What a request makes of it. A raise that comes while another waits takes its place, at the earlier time.
    fn with(self, number: u64, begin_at: Option<EventTime>, now: EventTime) -> Self {
        let begin_at = begin_at.map(|at| at.floor(SECOND)).filter(|at| *at >= now + AHEAD);
        match (begin_at, self.coming) {
            (Some(at), coming) if number > self.minimum => {
                let at = coming.map_or(at, |(_, sooner)| sooner.min(at));
                Self { coming: Some((number, at)), ..self }
            }
            _ => Self::now(number),
        }
    }

    /// What is left of it at a time.
    fn at(self, now: EventTime) -> Self {
        match self.coming {
            Some((number, at)) if at < now + AHEAD => Self::now(number.max(self.minimum)),
            _ => self,
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.minimum)?;
        self.coming.map_or(Ok(()), |(number, at)| write!(f, ">{number}@{at}"))
    }
}

impl FromStr for Planned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let none = || format!("`{text}` is no minimum with what is to come");
        let (minimum, coming) = text.split_once('>').map_or((text, None), |(minimum, coming)| (minimum, Some(coming)));
        let coming = coming.map(|coming| {
            let (number, at) = coming.split_once('@')?;
            Some((number.parse().ok()?, EventTime::parse(at).ok()?))
        });
        let coming = coming.map(|coming| coming.ok_or_else(none)).transpose()?;
        Ok(Self { minimum: minimum.parse().map_err(|_| none())?, coming })
    }
}

/// The number and the time of a scheduled action of ours.
fn coming(action: &ScheduledAction) -> Option<(u64, EventTime)> {
    let time = action.schedule.strip_prefix("at(")?.strip_suffix(')')?;
    let number = action.scalable_target_action.as_ref()?.min_capacity?;
    Some((u64::try_from(number).ok()?, EventTime::parse(&format!("{time}Z")).ok()?))
}

impl Scheduled {
    async fn planned(&self, client: &Client) -> Result<Planned, Failure> {
        let minimum = self.minimum.number(client).await?;
        let Minimum { service, resource, dimension, .. } = &self.minimum;
        let question = client.describe_scheduled_actions().service_namespace(service.clone());
        let question = question.resource_id(resource).scalable_dimension(dimension.clone());
        let found = question.scheduled_action_names(&self.name).send().await.map_err(failure)?;
        let coming = found.scheduled_actions.unwrap_or_default().iter().find_map(coming);
        let now = self.clock.now();
        Ok(Planned { minimum, coming: coming.filter(|(number, at)| *number > minimum && *at > now) })
    }

    async fn put(&self, client: &Client, number: u64, at: EventTime) -> Result<(), Failure> {
        let number = self.minimum.within_maximum(client, number).await?;
        let Minimum { service, resource, dimension, .. } = &self.minimum;
        let time = at.to_string();
        let put = client.put_scheduled_action().service_namespace(service.clone());
        let put = put.resource_id(resource).scalable_dimension(dimension.clone());
        let put = put.scheduled_action_name(&self.name).schedule(format!("at({})", time.trim_end_matches('Z')));
        let action = ScalableTargetAction::builder().min_capacity(number).build();
        put.scalable_target_action(action).send().await.map_err(failure).map(drop)
    }

    async fn remove(&self, client: &Client) -> Result<(), Failure> {
        let Minimum { service, resource, dimension, .. } = &self.minimum;
        let remove = client.delete_scheduled_action().service_namespace(service.clone());
        let remove = remove.resource_id(resource).scalable_dimension(dimension.clone());
        match remove.scheduled_action_name(&self.name).send().await {
            Err(error) if error.as_service_error().is_some_and(|told| told.is_object_not_found_exception()) => Ok(()),
            other => other.map_err(failure).map(drop),
        }
    }
}

#[async_trait]
impl Knob for Scheduled {
    type Session = Book;

    async fn open(&self, _workload: &str) -> Result<Book, Failure> {
        Ok(Book::of(self.journal.clone()))
    }

    fn book<'s>(&self, session: &'s mut Book) -> Option<&'s mut Book> {
        Some(session)
    }

    async fn read(&self, _session: &mut Book) -> Result<Reading, Failure> {
        let client = Client::new(&self.minimum.aws.load().await?);
        let planned = self.planned(&client).await?;
        let (commanded, ready) = (planned.commanded(), planned.minimum);
        Ok(Reading { setting: Some(planned.to_string()), commanded, ready, unsettled: None })
    }

    async fn write(&self, _session: &mut Book, entry: &Entry) -> Result<(), Failure> {
        let wanted: Planned = entry.after.as_deref().unwrap_or_default().parse().map_err(Failure::refused)?;
        let wanted = wanted.at(self.clock.now());
        let client = Client::new(&self.minimum.aws.load().await?);
        self.minimum.within_maximum(&client, wanted.commanded()).await?;
        match wanted.coming {
            Some((number, at)) => self.put(&client, number, at).await?,
            None => self.remove(&client).await?,
        }
        if self.minimum.number(&client).await? != wanted.minimum {
            self.minimum.set(&client, wanted.minimum).await?;
        }
        Ok(())
    }

    fn setting(&self, number: u64) -> Result<String, Failure> {
        Ok(Planned::now(number).to_string())
    }

    fn setting_of(&self, number: u64, request: &ApplyRequest, there: &Reading) -> Result<String, Failure> {
        let planned: Planned = there.setting.as_deref().unwrap_or_default().parse().map_err(Failure::refused)?;
        Ok(planned.with(number, request.begin_at, self.clock.now()).to_string())
    }

    fn is_there(&self, there: &Setting, wanted: &Setting) -> bool {
        let planned = |setting: &Setting| setting.as_deref().and_then(|text| text.parse::<Planned>().ok());
        there == wanted || planned(there) == planned(wanted).map(|planned| planned.at(self.clock.now()))
    }

    fn schedules(&self) -> bool {
        true
    }

    /// The same before AWS has raised it and after: that is nobody else's change.
    fn shown(&self, setting: &Setting) -> String {
        let planned: Option<Planned> = setting.as_deref().and_then(|text| text.parse().ok());
        planned.map_or_else(|| "nothing".to_owned(), |planned| format!("MinCapacity={}", planned.commanded()))
    }

    async fn ready_for_change(&self, session: &mut Book) -> Result<(), Failure> {
        session.hold().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> EventTime {
        EventTime::parse(text).expect("a time")
    }

    #[test]
    fn what_is_to_come_is_kept_until_its_time() {
        let (now, noon) = (time("2026-11-27T11:00:00Z"), time("2026-11-27T12:00:00Z"));
        let planned = Planned::now(10).with(20, Some(noon), now);
        assert_eq!(planned.to_string(), "10>20@2026-11-27T12:00:00Z");
        assert_eq!(planned.to_string().parse(), Ok(planned));
        assert_eq!(planned.with(30, Some(noon + AHEAD), now).to_string(), "10>30@2026-11-27T12:00:00Z", "the earlier");
        assert_eq!(planned.with(15, None, now).to_string(), "15", "at once");
        assert_eq!(planned.with(5, Some(noon), now).to_string(), "5", "a release is made at once");
        assert_eq!(Planned::now(10).with(20, Some(now + SECOND), now).to_string(), "20", "too near");
        assert_eq!(planned.at(noon).to_string(), "20", "it has come");
        assert_eq!(planned.at(now), planned);
        for text in ["", "ten", "10>", "10>20", "10>20@soon"] {
            assert!(text.parse::<Planned>().is_err(), "{text}");
        }
    }
}
