//! The rules that every real target keeps, in one place: a turn at a time, a repeat is dropped, what is overtaken is
//! refused, the intent is kept before the effect, the target is believed when it reports the change, and everything has
//! its time.

use std::time::Duration;

use async_trait::async_trait;
use headroom_proto::{EventTime, Span};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::ledger::{Admission, Book, Entry, Ledger};
use crate::{Applied, ApplyRequest, Drain, Fault, Target, TargetError, TargetState};

/// How often a change that was asked for is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The value of what is set, in the target's own words; none is a value that is not set there.
pub(super) type Setting = Option<String>;

/// What went wrong, before it bears the target's name.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) problem: String,
}

/// What a target says of itself.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// What is written down there, exactly: an undo returns to it.
    pub(super) setting: Setting,
    /// What holds because of it.
    pub(super) commanded: u64,
    /// What serves.
    pub(super) ready: u64,
    /// Why what is written down does not hold; none when it does.
    pub(super) unsettled: Option<String>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// A whole change or question.
    pub(super) whole: Duration,
    /// From a change until it is reported.
    pub(super) settle: Duration,
}

/// One value of one system: how it is read and written. `Governed` makes a target of it.
#[async_trait]
pub(super) trait Knob: Send + Sync {
    /// A connection, or what stands for it.
    type Session: Send;

    /// Begins a turn.
    async fn open(&self, workload: &str) -> Result<Self::Session, Failure>;

    /// The record of changes, where that is a file of ours; else `hold`, `ledger` and `keep` say where it is.
    fn book<'s>(&self, _session: &'s mut Self::Session) -> Option<&'s mut Book> {
        None
    }

    /// Holds others off while the session lives, where the system can.
    async fn hold(&self, session: &mut Self::Session) -> Result<(), Failure> {
        match self.book(session) {
            Some(book) => book.hold().await,
            None => Ok(()),
        }
    }

    /// The earlier changes.
    async fn ledger(&self, session: &mut Self::Session) -> Result<Ledger, Failure> {
        self.book(session).ok_or_else(no_record)?.ledger()
    }

    /// Keeps them.
    async fn keep(&self, session: &mut Self::Session, ledger: &Ledger) -> Result<(), Failure> {
        self.book(session).ok_or_else(no_record)?.keep(ledger)
    }

    /// What is set, and what holds.
    async fn read(&self, session: &mut Self::Session) -> Result<Reading, Failure>;

    /// Sets the value of the entry.
    async fn write(&self, session: &mut Self::Session, entry: &Entry) -> Result<(), Failure>;

    /// Lets the work go of what a release to that setting takes away.
    async fn drain(
        &self,
        _session: &mut Self::Session,
        _request: &ApplyRequest,
        _setting: &Setting,
    ) -> Result<Drain, Failure> {
        Ok(Drain::Done)
    }

    /// The setting of that many.
    fn setting(&self, number: u64) -> Result<String, Failure>;

    /// The setting that a request for that many asks for, where it depends on what there is.
    fn setting_of(&self, number: u64, _request: &ApplyRequest, _there: &Reading) -> Result<String, Failure> {
        self.setting(number)
    }

    /// Is what stands there what was wanted?
    fn is_there(&self, there: &Setting, wanted: &Setting) -> bool {
        there == wanted
    }

    /// Does it begin changes by itself at the time that they are given?
    fn schedules(&self) -> bool {
        false
    }

    /// A setting for people.
    fn shown(&self, setting: &Setting) -> String;

    /// Everything that a change needs, beyond reading.
    async fn ready_for_change(&self, _session: &mut Self::Session) -> Result<(), Failure> {
        Ok(())
    }
}

/// A target over a knob.
pub(super) struct Governed<K> {
    name: String,
    knob: K,
    /// Of the knob's numbers, in one unit.
    per_unit: u64,
    patience: Patience,
    drain: Option<Duration>,
    turn: Mutex<()>,
}

impl<K: Knob> Governed<K> {
    pub(super) fn new(name: &str, knob: K, per_unit: u32, patience: Patience) -> Self {
        Self {
            name: name.to_owned(),
            knob,
            per_unit: u64::from(per_unit.max(1)),
            patience,
            drain: None,
            turn: Mutex::new(()),
        }
    }

    /// With so much time to let work go before a release; zero is none.
    pub(super) fn draining(mut self, within: Span) -> Self {
        self.drain = Some(duration(within)).filter(|within| !within.is_zero());
        self
    }

    async fn change(&self, request: &ApplyRequest) -> Result<Applied, Failure> {
        let _turn = self.turn.lock().await;
        let mut session = self.knob.open(&request.workload).await?;
        self.knob.hold(&mut session).await?;
        let mut ledger = self.knob.ledger(&mut session).await?;
        let reading = match ledger.admit(request)? {
            Admission::Known(entry) => return Ok(self.applied(&entry)),
            Admission::Begun(_) => self.knob.read(&mut session).await?,
            Admission::New => {
                let reading = self.knob.read(&mut session).await?;
                let after = match &request.undoes {
                    None => {
                        let number = u64::from(request.units) * self.per_unit;
                        Some(self.knob.setting_of(number, request, &reading)?)
                    }
                    Some(undone) => match ledger.before(undone)? {
                        Some(before) => before,
                        // It never came here: there is nothing to undo.
                        None => reading.setting.clone(),
                    },
                };
                ledger.push(Entry {
                    key: request.idempotency_key.clone(),
                    fence: request.fence,
                    before: reading.setting.clone(),
                    after,
                    done: false,
                });
                self.knob.keep(&mut session, &ledger).await?;
                reading
            }
        };
        let Some(entry) = ledger.newest().cloned() else {
            return Err(Failure::refused("the record of changes is empty".to_owned()));
        };
        if !self.knob.is_there(&reading.setting, &entry.after) || reading.unsettled.is_some() {
            self.knob.write(&mut session, &entry).await.map_err(Failure::begun)?;
            self.read_back(&mut session, &entry).await?;
        }
        ledger.settle();
        self.knob.keep(&mut session, &ledger).await.map_err(Failure::begun)?;
        Ok(self.applied(&entry))
    }

    async fn read_back(&self, session: &mut K::Session, entry: &Entry) -> Result<(), Failure> {
        let deadline = Instant::now() + self.patience.settle;
        loop {
            let reading = self.knob.read(session).await.map_err(Failure::begun)?;
            if self.knob.is_there(&reading.setting, &entry.after) && reading.unsettled.is_none() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let wanted = self.knob.shown(&entry.after);
                let reported = self.knob.shown(&reading.setting);
                let why = reading.unsettled.map(|why| format!(": {why}")).unwrap_or_default();
                let problem = format!("it took the change to {wanted} and reports {reported}{why}");
                return Err(Failure::new(Fault::NotChanged, problem));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn applied(&self, entry: &Entry) -> Applied {
        Applied { before: self.knob.shown(&entry.before), after: self.knob.shown(&entry.after) }
    }

    fn units(&self, number: u64) -> u32 {
        u32::try_from(number / self.per_unit).unwrap_or(u32::MAX)
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Failure>> + Send) -> Result<T, TargetError> {
        let slow = |_| {
            let problem = format!("no answer within {:?}; asking again is safe", self.patience.whole);
            Failure::new(Fault::Slow, problem)
        };
        let outcome = timeout(self.patience.whole, work).await.map_err(slow).and_then(|outcome| outcome);
        outcome.map_err(|failure| failure.of(&self.name))
    }
}

#[async_trait]
impl<K: Knob> Target for Governed<K> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn apply(&self, request: &ApplyRequest) -> Result<Applied, TargetError> {
        self.in_time(self.change(request)).await
    }

    fn drains_within(&self) -> Option<Duration> {
        self.drain
    }

    fn schedules(&self) -> bool {
        self.knob.schedules()
    }

    async fn drain(&self, request: &ApplyRequest) -> Result<Drain, TargetError> {
        let asked = self.in_time(async {
            let mut session = self.knob.open(&request.workload).await?;
            // What has been begun is not put off.
            let ledger = self.knob.ledger(&mut session).await?;
            if !matches!(ledger.admit(request)?, Admission::New) {
                return Ok(Drain::Done);
            }
            let setting = Some(self.knob.setting(u64::from(request.units) * self.per_unit)?);
            self.knob.drain(&mut session, request, &setting).await
        });
        asked.await
    }

    async fn observe(&self, workload: &str, _at: EventTime) -> Result<TargetState, TargetError> {
        let reading = self.in_time(async {
            let mut session = self.knob.open(workload).await?;
            self.knob.read(&mut session).await
        });
        let reading = reading.await?;
        Ok(TargetState {
            ready: self.units(reading.ready),
            commanded: self.units(reading.commanded),
            value: self.knob.shown(&reading.setting),
        })
    }

    async fn probe(&self, workload: &str) -> Result<(), TargetError> {
        self.in_time(async {
            let mut session = self.knob.open(workload).await?;
            self.knob.ledger(&mut session).await?;
            self.knob.read(&mut session).await?;
            self.knob.ready_for_change(&mut session).await
        })
        .await
    }
}

fn no_record() -> Failure {
    Failure::refused("it has no record of changes".to_owned())
}

fn duration(span: Span) -> Duration {
    Duration::from_micros(span.micros().unsigned_abs())
}

impl Patience {
    pub(super) fn new(whole: Span, settle: Span) -> Self {
        Self { whole: duration(whole), settle: duration(settle) }
    }
}

impl Failure {
    pub(super) fn new(fault: Fault, problem: String) -> Self {
        Self { fault, problem }
    }

    /// One that lasts until somebody mends it.
    pub(super) fn refused(problem: String) -> Self {
        Self::new(Fault::Refused, problem)
    }

    /// What kept us from the target, with the causes behind it.
    pub(super) fn away(error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let problem = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Self::new(Fault::Away, problem)
    }

    pub(super) fn of(self, target: &str) -> TargetError {
        TargetError { target: target.to_owned(), fault: self.fault, problem: self.problem }
    }

    /// The same, of a change that may have been begun.
    fn begun(self) -> Self {
        match self.fault {
            Fault::Away | Fault::Slow => {
                let problem = format!("begun and not finished: {}; the same change finishes it", self.problem);
                Self { fault: Fault::HalfDone, problem }
            }
            Fault::HalfDone | Fault::NotChanged | Fault::Fenced | Fault::Refused => self,
        }
    }
}
