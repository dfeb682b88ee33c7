//! Reads that wait for records.
//!
//! tansu's fetch looks once and sleeps for the rest of the reader's patience, whether it found something or not, and each
//! look costs half a dozen statements that SQLite has to plan. Here a look that finds something is answered at once, one
//! that finds nothing waits until one of its topics has grown, and it is not repeated before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rama::{Context, Service};
use tansu_sans_io::fetch_request::FetchTopic;
use tansu_sans_io::{FetchRequest, FetchResponse, ProduceRequest, ProduceResponse};
use tansu_storage::{Error, FetchService, ProduceService, Storage, TopicId};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

/// Answers without records that are kept at the most.
const MAX_KEPT: usize = 1_000;

/// Where a reader stands: topic, partition and offset of each of its partitions.
type Place = Vec<(String, i32, i64)>;

/// What was written since the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    /// How many times something was written to each topic.
    counts: watch::Sender<HashMap<String, u64>>,
    /// What readers at the end of their topics were told, and at which counts.
    nothing_new: Arc<Mutex<HashMap<Place, (u64, FetchResponse)>>>,
    /// Names of topics, which newer readers call by their ids.
    names: Arc<Mutex<HashMap<TopicId, String>>>,
}

/// Answers reads.
#[derive(Clone, Debug)]
pub(super) struct Fetch(pub(super) Arrivals);

/// Takes records in, and tells of them.
#[derive(Clone, Debug)]
pub(super) struct Produce(pub(super) Arrivals);

impl Arrivals {
    fn tell(&self, topics: &[String]) {
        self.counts
            .send_modify(|counts| topics.iter().for_each(|topic| *counts.entry(topic.clone()).or_default() += 1));
    }

    /// The answer from this place, if nothing was written since it was found to have nothing new.
    fn nothing_new(&self, place: &Place, count: u64) -> Option<FetchResponse> {
        let kept = self.nothing_new.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(place).filter(|(then, _)| *then == count).map(|(_, response)| response.clone())
    }

    /// Where the reader stands; nothing when it asks for a topic that there is not.
    async fn place<S: Storage>(&self, storage: &S, request: &FetchRequest) -> Result<Option<Place>, Error> {
        let mut place = Place::new();
        for topic in request.topics.iter().flatten() {
            let Some(name) = self.name(storage, topic).await? else { return Ok(None) };
            let partitions = topic.partitions.iter().flatten();
            place.extend(partitions.map(|one| (name.clone(), one.partition, one.fetch_offset)));
        }
        Ok(Some(place))
    }

    async fn name<S: Storage>(&self, storage: &S, topic: &FetchTopic) -> Result<Option<String>, Error> {
        let id = match (&topic.topic, &topic.topic_id) {
            (Some(name), _) => return Ok(Some(name.clone())),
            (None, Some(id)) => TopicId::Id(Uuid::from_bytes(*id)),
            (None, None) => return Ok(None),
        };
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let told = storage.metadata(Some(std::slice::from_ref(&id))).await?;
        let name = told.topics().iter().find(|topic| topic.error_code == 0).and_then(|topic| topic.name.clone());
        if let Some(name) = &name {
            self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(id, name.clone());
        }
        Ok(name)
    }

    fn keep(&self, place: Place, count: u64, response: FetchResponse) {
        let mut kept = self.nothing_new.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(place, (count, response));
    }
}

impl<S: Storage> Service<S, ProduceRequest> for Produce {
    type Response = ProduceResponse;
    type Error = Error;

    async fn serve(&self, context: Context<S>, request: ProduceRequest) -> Result<Self::Response, Self::Error> {
        let topics: Vec<String> = request.topic_data.iter().flatten().map(|topic| topic.name.clone()).collect();
        let response = ProduceService.serve(context, request).await;
        self.0.tell(&topics);
        response
    }
}

impl<S: Storage> Service<S, FetchRequest> for Fetch {
    type Response = FetchResponse;
    type Error = Error;

    async fn serve(&self, context: Context<S>, request: FetchRequest) -> Result<Self::Response, Self::Error> {
        let patience = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let deadline = Instant::now() + patience;
        let Some(place) = self.0.place(context.state(), &request).await? else {
            return FetchService.serve(context, request).await;
        };
        let look = request.max_wait_ms(0);
        let mut counts = self.0.counts.subscribe();
        let count =
            |counts: &HashMap<String, u64>| place.iter().filter_map(|(topic, ..)| counts.get(topic)).sum::<u64>();
        loop {
            let seen = count(&counts.borrow_and_update());
            let response = match self.0.nothing_new(&place, seen) {
                Some(response) => response,
                None => FetchService.serve(context.clone(), look.clone()).await?,
            };
            if has_news(&response) {
                return Ok(response);
            }
            self.0.keep(place.clone(), seen, response.clone());
            let more = counts.wait_for(|counts| count(counts) != seen);
            if !matches!(tokio::time::timeout_at(deadline, more).await, Ok(Ok(_))) {
                return Ok(response);
            }
        }
    }
}

/// Records, or an error.
fn has_news(response: &FetchResponse) -> bool {
    let mut partitions = response.responses.iter().flatten().flat_map(|topic| topic.partitions.iter().flatten());
    partitions.any(|partition| partition.error_code != 0 || partition.records.is_some())
}
