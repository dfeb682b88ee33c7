//! The forecaster's loop: windows, signals and outcomes in; forecasts and models out.
//!
//! Durability. A forecast is sent once the model records and outlooks up to its origin are acknowledged. The state is written only
//! when every forecast that it reflects is acknowledged. So after a crash the forecaster reads again what came after
//! its state, and publishes what is not yet at the end of the forecasts topic. Should one be published twice all the
//! same, readers drop the second by its origin. Both are equal byte by byte, since forecasts follow from the windows and
//! the signals announced by each window's end; only outcomes, which can bring a training forward, are taken in when they
//! come.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use headroom_ingest_broker::{Broker, BrokerError, Consumer, Record};
use headroom_models::{Engine, Outlook};
use headroom_proto::status::StageState;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{Forecast, Verdict};
use headroom_proto::{Clock, EventTime};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::intake::{Batch, Intake};
use crate::learner::{Learners, Turn};
use crate::lifts::Question;
use crate::lineage::SCORED;
use crate::metrics::Metrics;
use crate::outbox::{Acked, Outbox, message};
use crate::recovery::{Recovered, recover};
use crate::snapshot::{SnapshotFolder, sha256};
use crate::{ForecasterConfig, ForecasterError, ForecasterHandle, lineage, transfer};

/// The stage that learns from windows and publishes forecasts.
#[derive(Debug)]
pub struct ForecasterService {
    config: Arc<ForecasterConfig>,
    engine: Engine,
    outlook: Option<Outlook>,
    group_outlook: Option<Outlook>,
    broker: Broker,
    clock: Clock,
    folder: SnapshotFolder,
    metrics: Metrics,
    handle: ForecasterHandle,
    questions: mpsc::Receiver<Question>,
    adopted: BTreeMap<String, Engine>,
}

/// Everything that can happen to the forecaster.
#[derive(Debug)]
enum Event {
    /// Windows, outcomes, and the signals announced before them.
    Batch(Batch),
    /// A forecast is durable.
    Acked(Acked),
    /// Somebody asks what signals do.
    Asked(Question),
    /// It is time to write the state.
    SnapshotDue,
    /// The program ends.
    Shutdown,
}

impl ForecasterService {
    /// A forecaster whose state lives in the folder `state_dir`.
    ///
    /// # Errors
    /// When the settings are out of range.
    pub fn new(
        config: ForecasterConfig,
        broker: Broker,
        clock: Clock,
        state_dir: PathBuf,
        registry: &mut Registry,
    ) -> Result<(Self, ForecasterHandle), ForecasterError> {
        let engine = Engine::try_new(config.engine()?)?;
        let (outlook, group_outlook) = (config.outlook()?, config.group_outlook()?);
        let folder = SnapshotFolder::new(state_dir, fingerprint(&config)?);
        let (handle, questions) = ForecasterHandle::new(&config, clock.clone());
        let metrics = Metrics::register(registry);
        let adopted =
            config.adopt.as_deref().map(|folder| transfer::read_folder(folder, engine.config())).transpose()?;
        let (config, shown) = (Arc::new(config), handle.clone());
        let adopted = adopted.unwrap_or_default();
        let service = Self {
            config,
            engine,
            outlook,
            group_outlook,
            broker,
            clock,
            folder,
            metrics,
            handle: shown,
            questions,
            adopted,
        };
        Ok((service, handle))
    }

    /// Works until told to stop; then waits for its acknowledgements and writes its state.
    ///
    /// # Errors
    /// When the broker fails for good, or the state cannot be written.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ForecasterError> {
        let handle = self.handle.clone();
        let outcome = self.work(shutdown).await;
        match &outcome {
            Ok(()) => handle.end(StageState::Drained, "stopped".to_owned()),
            Err(error) => handle.end(StageState::Failed, error.to_string()),
        }
        outcome
    }

    async fn work(self, shutdown: CancellationToken) -> Result<(), ForecasterError> {
        let outbox = Outbox::new(self.broker.producer()?);
        let recovered = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            recovered = recover(&self.broker, &self.folder, self.config.tail_records) => recovered?,
        };
        let (ends, positions) = (&recovered.ends, &recovered.state.positions);
        let intake = Intake::open(&self.broker, ends, positions, self.config.max_batch_records).await?;
        // The reader ends with the loop, however that ends.
        let reading = shutdown.child_token();
        let _stop_reading = reading.clone().drop_guard();
        let (batches, inputs) = intake.spawn(reading);
        let running = Running::new(self, recovered, batches, inputs, outbox);
        running.work(&shutdown).await
    }
}

/// A state fits when the same windows lead to the same forecasts: the same settings, by the same code.
pub(crate) fn fingerprint(config: &ForecasterConfig) -> Result<String, ForecasterError> {
    let engine = config.engine()?;
    let looks = (config.outlook, &config.groups);
    let parts = (&config.target, config.window_size, config.forecast_from, looks, engine, lineage::CODE_VERSION);
    let text = serde_json::to_vec(&parts).map_err(|error| ForecasterError::Config(error.to_string()))?;
    Ok(sha256(&text))
}

/// The forecaster at work.
#[derive(Debug)]
struct Running {
    service: ForecasterService,
    learners: Arc<Mutex<Learners>>,
    batches: mpsc::Receiver<Result<Batch, BrokerError>>,
    inputs: Arc<Consumer>,
    outbox: Outbox,
    ticks: Interval,
    /// Has anything been read since the last snapshot?
    changed: bool,
}

impl Running {
    fn new(
        mut service: ForecasterService,
        recovered: Recovered,
        batches: mpsc::Receiver<Result<Batch, BrokerError>>,
        inputs: Arc<Consumer>,
        outbox: Outbox,
    ) -> Self {
        let every = service.config.snapshot_every();
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        service.handle.show(|view| {
            recovered.outlooks.into_iter().for_each(|outlook| view.outlook(outlook));
            recovered.forecasts.into_iter().for_each(|forecast| view.forecast(forecast));
            recovered.models.into_iter().for_each(|model| view.model(model));
        });
        let adopted = std::mem::take(&mut service.adopted);
        let learners = Learners::new(Arc::clone(&service.config), service.engine.clone(), recovered.state);
        let learners = learners.adopting(adopted).looking_out(service.outlook.take(), service.group_outlook.take());
        service.handle.update(|status| {
            status.state = StageState::Running;
            status.event_time = learners.handled_us().map(EventTime::from_micros);
            status.note = format!("{} workloads known", learners.workloads());
        });
        let learners = Arc::new(Mutex::new(learners));
        Self { service, learners, batches, inputs, outbox, ticks, changed: false }
    }

    async fn work(mut self, shutdown: &CancellationToken) -> Result<(), ForecasterError> {
        loop {
            match self.next_event(shutdown).await? {
                Event::Batch(batch) => self.on_batch(batch).await?,
                Event::Acked(acked) => self.on_acked(&acked),
                Event::Asked(question) => self.on_question(question).await?,
                Event::SnapshotDue => self.snapshot().await?,
                Event::Shutdown => return self.snapshot().await,
            }
            self.service.metrics.in_flight.set(i64::try_from(self.outbox.len()).unwrap_or(i64::MAX));
        }
    }

    async fn next_event(&mut self, shutdown: &CancellationToken) -> Result<Event, ForecasterError> {
        let has_room = self.outbox.len() < self.service.config.max_in_flight;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(Event::Shutdown),
            acked = self.outbox.acked() => Ok(Event::Acked(acked?)),
            _ = self.ticks.tick() => Ok(Event::SnapshotDue),
            Some(question) = self.service.questions.recv() => Ok(Event::Asked(question)),
            batch = self.batches.recv(), if has_room => match batch {
                Some(batch) => Ok(Event::Batch(batch?)),
                None if shutdown.is_cancelled() => Ok(Event::Shutdown),
                None => Err(ForecasterError::Stopped("the reader")),
            },
        }
    }

    async fn on_batch(&mut self, batch: Batch) -> Result<(), ForecasterError> {
        let records = batch.signals.len() + batch.records.len();
        let now = self.service.clock.now();
        let turn = self.blocking(move |learners| learners.handle(batch, now)).await?;
        self.changed = true;
        self.service.metrics.count(&turn.tally);
        self.service.metrics.workloads.set(i64::try_from(turn.workloads).unwrap_or(i64::MAX));
        self.service.handle.update(|status| {
            status.records_in += u64::try_from(records).unwrap_or(0);
            status.set_aside += turn.tally.set_aside();
            status.note = format!("{} workloads", turn.workloads);
        });
        self.publish(turn).await
    }

    async fn on_question(&self, Question { request, answer }: Question) -> Result<(), ForecasterError> {
        let lifts = self.blocking(move |learners| learners.lifts(&request)).await?;
        // Whoever asked may have gone.
        answer.send(lifts).ok();
        Ok(())
    }

    async fn publish(&mut self, turn: Turn) -> Result<(), ForecasterError> {
        let models =
            turn.models.iter().map(|(at_us, model)| message(Topic::Models, "Model", model, &model.workload, *at_us));
        let outlooks = turn
            .outlooks
            .iter()
            .map(|outlook| message(Topic::Outlooks, "Forecast", outlook, &outlook.workload, outlook.origin_us));
        let dead = turn.dead.into_iter().map(|letter| letter.into_record());
        let first: Vec<Record> = dead.chain(models).chain(outlooks).collect();
        self.outbox.send_first(first).await?;
        self.show_models(&turn.models);
        self.show_outlooks(turn.outlooks);
        for forecast in turn.forecasts {
            self.outbox.send(forecast).await?;
        }
        if let Some(handled_us) = turn.handled_us
            && !self.outbox.mark(handled_us)
        {
            self.handled(handled_us);
        }
        Ok(())
    }

    fn show_models(&self, models: &[(i64, headroom_proto::v1::Model)]) {
        let count = u64::try_from(models.len()).unwrap_or(0);
        self.service.metrics.models.inc_by(count);
        self.service.handle.update(|status| status.records_out += count);
        for (_, model) in models {
            if model.reason == SCORED {
                self.service.metrics.score(&lineage::score_view(model.clone()));
            }
            self.service.handle.show(|view| view.model(model.clone()));
        }
    }

    fn show_outlooks(&self, outlooks: Vec<Forecast>) {
        let count = u64::try_from(outlooks.len()).unwrap_or(0);
        self.service.handle.update(|status| status.records_out += count);
        self.service.handle.show(|view| outlooks.into_iter().for_each(|outlook| view.outlook(Arc::new(outlook))));
    }

    fn on_acked(&self, acked: &Acked) {
        let metrics = &self.service.metrics;
        metrics.forecasts.inc();
        if acked.forecast.verdict() == Verdict::Abstain {
            metrics.abstentions.inc();
        }
        self.service.handle.publish(&acked.forecast);
        self.service.handle.update(|status| status.records_out += 1);
        if let Some(handled_us) = acked.handled_us {
            self.handled(handled_us);
        }
    }

    fn handled(&self, handled_us: i64) {
        self.service
            .handle
            .update(|status| status.event_time = status.event_time.max(Some(EventTime::from_micros(handled_us))));
    }

    /// Waits for what is under way, then writes the state.
    async fn snapshot(&mut self) -> Result<(), ForecasterError> {
        if !self.changed {
            return Ok(());
        }
        while self.outbox.len() > 0 {
            let acked = self.outbox.acked().await?;
            self.on_acked(&acked);
        }
        let folder = self.service.folder.clone();
        let (bytes, positions) = self
            .blocking(move |learners| {
                folder.write(learners.state()).map(|bytes| (bytes, learners.state().positions.next_offsets()))
            })
            .await??;
        self.service.metrics.snapshot_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.changed = false;
        if let Err(error) = self.inputs.commit(&positions) {
            tracing::debug!(%error, "the advisory commit failed");
        }
        Ok(())
    }

    /// Runs mathematics and file writing where they do not hold up other tasks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Learners) -> T + Send + 'static,
    ) -> Result<T, ForecasterError> {
        let learners = Arc::clone(&self.learners);
        let done =
            tokio::task::spawn_blocking(move || work(&mut learners.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.map_err(|_| ForecasterError::Stopped("the engine"))
    }
}

#[cfg(test)]
mod tests;
