//! Where the forecaster goes on after a stop, however it stopped.

use std::sync::Arc;

use headroom_ingest_broker::{Broker, BrokerError, Received};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{Forecast, Model};
use prost::Message;

use crate::intake::misfit;
use crate::learner::State;
use crate::snapshot::{Found, SnapshotFolder};

/// The state to go on from, and what had been published.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) forecasts: Vec<Arc<Forecast>>,
    pub(crate) models: Vec<Model>,
}

/// Reads the snapshot, or starts with an empty state when there is none that fits; then the ends of the forecast
/// partitions, since more may have been published than the state knows of.
pub(crate) async fn recover(
    broker: &Broker,
    folder: &SnapshotFolder,
    tail_records: usize,
) -> Result<Recovered, BrokerError> {
    let mut state = match folder.read() {
        Found::State(state) => match misfit(broker, &state.positions).await? {
            None => *state,
            Some(reason) => rebuild(&reason),
        },
        Found::Nothing => State::default(),
        Found::Refused(reason) => rebuild(&reason),
    };
    let mut forecasts = Vec::new();
    for record in tail(broker, Topic::Forecasts, tail_records).await? {
        // What does not decode is not ours: it has no part in what we have published.
        let Ok(forecast) = Forecast::decode(&*record.value) else { continue };
        let published = state.published.entry(forecast.workload.clone()).or_insert(forecast.origin_us);
        *published = forecast.origin_us.max(*published);
        forecasts.push(Arc::new(forecast));
    }
    let models = tail(broker, Topic::Models, tail_records).await?;
    let models = models.iter().filter_map(|record| Model::decode(&*record.value).ok()).collect();
    Ok(Recovered { state, forecasts, models })
}

fn rebuild(reason: &str) -> State {
    tracing::warn!(reason, "the forecaster's state cannot be used: reading the windows again from the start");
    State::default()
}

async fn tail(broker: &Broker, topic: Topic, records: usize) -> Result<Vec<Received>, BrokerError> {
    let mut found = Vec::new();
    for (partition, _, _) in broker.ends(topic).await? {
        found.extend(broker.tail(topic, partition, records).await?);
    }
    Ok(found)
}
