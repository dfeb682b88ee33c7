//! Where the forecaster goes on after a stop, however it stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use headroom_ingest_broker::{Broker, BrokerError, Received};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{Forecast, Model};
use prost::Message;
use tokio::task::JoinSet;

use crate::ForecasterError;
use crate::learner::State;
use crate::positions::Positions;
use crate::snapshot::{Found, SnapshotFolder};

/// The topics that a state has positions in.
const READ: [Topic; 3] = [Topic::Windows, Topic::Outcomes, Topic::Signals];
const WRITTEN: [Topic; 3] = [Topic::Forecasts, Topic::Outlooks, Topic::Models];

/// For each topic its partitions, with the first offset and the one after the last.
#[derive(Debug, Default)]
pub(crate) struct Ends(BTreeMap<Topic, Vec<(i32, i64, i64)>>);

/// The state to go on from, and what had been published.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) ends: Ends,
    pub(crate) forecasts: Vec<Arc<Forecast>>,
    pub(crate) outlooks: Vec<Arc<Forecast>>,
    pub(crate) models: Vec<Model>,
}

impl Ends {
    /// Asks for all topics at once.
    async fn read(broker: &Broker) -> Result<Self, ForecasterError> {
        let mut asked = JoinSet::new();
        for topic in READ.into_iter().chain(WRITTEN) {
            let broker = broker.clone();
            asked.spawn(async move { broker.ends(topic).await.map(|ends| (topic, ends)) });
        }
        Ok(Self(all(asked).await?.into_iter().collect()))
    }

    pub(crate) fn of(&self, topic: Topic) -> &[(i32, i64, i64)] {
        self.0.get(&topic).map(Vec::as_slice).unwrap_or_default()
    }

    /// Why these positions cannot be of this broker: a topic ends before them.
    fn misfit(&self, positions: &Positions) -> Option<String> {
        let all = READ.into_iter().flat_map(|topic| self.of(topic).iter().map(move |ends| (topic.name(), ends)));
        let mut beyond = all.filter_map(|(name, (partition, _, high))| {
            let next = positions.next(name, *partition).filter(|next| next > high)?;
            Some(format!("it has read {name}/{partition} up to {next}, but the topic ends at {high}"))
        });
        beyond.next()
    }

    /// The last records of every partition that has any.
    async fn tails(&self, broker: &Broker, topic: Topic, records: usize) -> Result<Vec<Received>, ForecasterError> {
        let mut asked = JoinSet::new();
        for (partition, _, _) in self.of(topic).iter().filter(|(_, low, high)| low < high) {
            let (broker, partition) = (broker.clone(), *partition);
            asked.spawn(async move { broker.tail(topic, partition, records).await });
        }
        Ok(all(asked).await?.concat())
    }
}

/// Reads the snapshot, or starts with an empty state when there is none that fits; then the ends of the forecast
/// partitions, since more may have been published than the state knows of.
pub(crate) async fn recover(
    broker: &Broker,
    folder: &SnapshotFolder,
    tail_records: usize,
) -> Result<Recovered, ForecasterError> {
    let ends = Ends::read(broker).await?;
    let mut state = match folder.read() {
        Found::State(state) => match ends.misfit(&state.positions) {
            None => *state,
            Some(reason) => rebuild(&reason),
        },
        Found::Nothing => State::default(),
        Found::Refused(reason) => rebuild(&reason),
    };
    let mut forecasts = Vec::new();
    for record in ends.tails(broker, Topic::Forecasts, tail_records).await? {
        // What does not decode is not ours: it has no part in what we have published.
        let Ok(forecast) = Forecast::decode(&*record.value) else { continue };
        let published = state.published.entry(forecast.workload.clone()).or_insert(forecast.origin_us);
        *published = forecast.origin_us.max(*published);
        forecasts.push(Arc::new(forecast));
    }
    let outlooks = ends.tails(broker, Topic::Outlooks, tail_records).await?;
    let outlooks: Vec<Arc<Forecast>> =
        outlooks.iter().filter_map(|record| Forecast::decode(&*record.value).ok().map(Arc::new)).collect();
    for outlook in &outlooks {
        let published = state.outlooks.entry(outlook.workload.clone()).or_insert(outlook.origin_us);
        *published = outlook.origin_us.max(*published);
    }
    let models = ends.tails(broker, Topic::Models, tail_records).await?;
    let models = models.iter().filter_map(|record| Model::decode(&*record.value).ok()).collect();
    Ok(Recovered { state, ends, forecasts, outlooks, models })
}

fn rebuild(reason: &str) -> State {
    tracing::warn!(reason, "the forecaster's state cannot be used: reading the windows again from the start");
    State::default()
}

async fn all<T: 'static>(mut asked: JoinSet<Result<T, BrokerError>>) -> Result<Vec<T>, ForecasterError> {
    let mut answers = Vec::new();
    while let Some(answer) = asked.join_next().await {
        answers.push(answer.map_err(|_| ForecasterError::Stopped("a request to the broker"))??);
    }
    Ok(answers)
}
