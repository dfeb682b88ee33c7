//! The live part: what a page that follows is told, at most once in each update interval.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use futures::stream::{self, Stream};
use headroom_proto::status::StageStatus;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior};

use super::Shared;
use super::page::{Facts, Position};
use super::view::{Request, State};

/// One page that follows.
pub(super) struct Follower {
    shared: Arc<Shared>,
    request: Request,
    scoreboard: watch::Receiver<Option<serde_json::Value>>,
    /// Has it been told nothing yet?
    is_new: bool,
    stages: Option<Vec<StageStatus>>,
    waiting: VecDeque<Event>,
    pace: Interval,
    _permit: OwnedSemaphorePermit,
}

/// The data of a `state` event and of `/api/state`.
#[derive(Serialize)]
pub(super) struct Told {
    /// Where the page stands once it has read this.
    pub(super) id: String,
    /// What the page must know to draw it; only with a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Facts>,
    #[serde(flatten)]
    state: State,
}

impl Told {
    /// What a request gets, and the number of the view's sequence that it stands at.
    pub(super) fn new(shared: &Shared, request: &Request) -> (Self, u64) {
        let view = shared.view();
        let (state, sequence) = (view.state(request), view.sequence());
        drop(view);
        let id = Position { run: shared.run.clone(), sequence }.to_string();
        let facts = request.since.is_none().then(|| Facts::new(&shared.config, &shared.sources.scale));
        (Self { id, facts, state }, sequence)
    }
}

impl Follower {
    /// A page that has seen what `request.since` says, or nothing of this run.
    pub(super) fn new(shared: Arc<Shared>, request: Request, permit: OwnedSemaphorePermit) -> Self {
        let mut pace = tokio::time::interval(Duration::from_millis(shared.config.update_interval_ms.max(1)));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let scoreboard = shared.sources.scoreboard.clone();
        Self {
            shared,
            request,
            scoreboard,
            is_new: true,
            stages: None,
            waiting: VecDeque::new(),
            pace,
            _permit: permit,
        }
    }

    /// What the page is told, until the console ends.
    pub(super) fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move { follower.next().await.map(|event| (Ok(event), follower)) })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            tokio::select! {
                () = self.shared.closed.cancelled() => return None,
                _ = self.pace.tick() => self.collect(),
            }
        }
    }

    fn collect(&mut self) {
        let sequence = self.shared.view().sequence();
        if self.request.since.is_none_or(|since| since < sequence) {
            let (told, sequence) = Told::new(&self.shared, &self.request);
            self.request.since = Some(sequence);
            self.request.from_us = None;
            self.queue("state", &told, Some(&told.id));
        }
        let stages = (self.shared.sources.stages)();
        if self.stages.as_ref() != Some(&stages) {
            self.queue("stages", &stages, None);
            self.stages = Some(stages);
        }
        if std::mem::take(&mut self.is_new) || self.scoreboard.has_changed().unwrap_or(false) {
            let board = self.scoreboard.borrow_and_update().clone();
            self.queue("scoreboard", &board, None);
        }
    }

    fn queue(&mut self, name: &str, data: &impl Serialize, id: Option<&str>) {
        match Event::default().event(name).json_data(data) {
            Ok(event) => self.waiting.push_back(id.map_or(event.clone(), |id| event.id(id))),
            Err(error) => tracing::warn!(%error, event = name, "an update of the page could not be written"),
        }
    }
}
