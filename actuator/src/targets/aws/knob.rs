//! What the numbers at AWS have in common: one whole number, and a record of changes in a file of ours.

use std::fs::File;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use headroom_proto::time::Span;

use crate::targets::governed::{Failure, Governed, Knob, Patience, Reading, Setting};
use crate::targets::ledger::{self, Entry, Ledger};
use crate::{ApplyRequest, Drain, Target};

/// A number that AWS keeps.
#[async_trait]
pub(super) trait Quantity: Send + Sync {
    /// What it is, and what serves.
    async fn read(&self) -> Result<(u64, u64), Failure>;

    /// Makes it so, for the change of that key.
    async fn write(&self, number: u64, key: &str) -> Result<(), Failure>;

    /// Lets the work go of what a smaller number takes away.
    async fn drain(&self, _number: u64) -> Result<Drain, Failure> {
        Ok(Drain::Done)
    }

    /// A number for people.
    fn shown(&self, number: u64) -> String;
}

struct Recorded<Q> {
    quantity: Q,
    journal: PathBuf,
}

struct Session {
    lock: Option<File>,
}

/// A target over the number.
pub(super) fn target<Q: Quantity + 'static>(
    name: &str,
    quantity: Q,
    folder: &Path,
    per_unit: u32,
    patience: (Span, Span),
    drain: Span,
) -> impl Target + 'static {
    let knob = Recorded { quantity, journal: folder.join(format!("{name}.json")) };
    Governed::new(name, knob, per_unit, Patience::new(patience.0, patience.1)).draining(drain)
}

#[async_trait]
impl<Q: Quantity> Knob for Recorded<Q> {
    type Session = Session;

    async fn open(&self, _workload: &str) -> Result<Session, Failure> {
        Ok(Session { lock: None })
    }

    async fn hold(&self, session: &mut Session) -> Result<(), Failure> {
        session.lock = Some(ledger::lock(&self.journal).await?);
        Ok(())
    }

    async fn ledger(&self, _session: &mut Session) -> Result<Ledger, Failure> {
        ledger::load(&self.journal)
    }

    async fn keep(&self, _session: &mut Session, ledger: &Ledger) -> Result<(), Failure> {
        ledger::replace(&self.journal, &ledger.text())
    }

    async fn read(&self, _session: &mut Session) -> Result<Reading, Failure> {
        let (commanded, ready) = self.quantity.read().await?;
        Ok(Reading { setting: Some(commanded.to_string()), commanded, ready, unsettled: None })
    }

    async fn write(&self, _session: &mut Session, entry: &Entry) -> Result<(), Failure> {
        let number = entry.after.as_deref().and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| Failure::refused(format!("{:?} is no number", entry.after)))?;
        self.quantity.write(number, &entry.key).await
    }

    async fn drain(
        &self,
        _session: &mut Session,
        _request: &ApplyRequest,
        setting: &Setting,
    ) -> Result<Drain, Failure> {
        let number = setting.as_deref().and_then(|text| text.parse().ok());
        match number {
            Some(number) => self.quantity.drain(number).await,
            None => Ok(Drain::Done),
        }
    }

    fn setting(&self, number: u64) -> Result<String, Failure> {
        Ok(number.to_string())
    }

    fn shown(&self, setting: &Setting) -> String {
        let number = setting.as_deref().and_then(|text| text.parse().ok());
        number.map_or_else(|| "nothing".to_owned(), |number| self.quantity.shown(number))
    }

    async fn ready_for_change(&self, session: &mut Session) -> Result<(), Failure> {
        self.hold(session).await
    }
}
