//! A number of units that KEDA fetches and has Kubernetes scale to: a cluster that runs KEDA needs to give no rights to us.
//!
//! A change is a file of ours, which [`scaler`] serves as KEDA's external scaler. A ScaledObject names
//! it by its trigger:
//!
//! ```yaml
//! triggers:
//!   - type: external
//!     metadata:
//!       scalerAddress: headroom.default.svc:8689
//!       workload: shop
//! ```
//!
//! What is reported is what is served. Whether KEDA has asked, and the cluster followed, is not seen from here:
//! `headroom_actuate_keda_questions_total` counts the questions, and the way from a question to a pod that serves belongs
//! into the planner's `lead_time`.
//!
//! Two things of the cluster are worth knowing. A HorizontalPodAutoscaler leaves changes of less than a tenth alone unless its
//! `behavior` sets a `tolerance`. And it heeds `minReplicaCount` and `maxReplicaCount` of the ScaledObject, so these must be
//! no narrower than the planner's bounds.

pub mod scaler;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};

use super::governed::{Failure, Governed, Knob, Patience, Reading, Setting};
use super::ledger::{self, Book, Entry};
use crate::Target;

/// Settings of a number that KEDA fetches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KedaConfig {
    /// Replicas in one unit.
    #[serde(default = "super::one")]
    pub per_unit: u32,
    /// A change or a question takes no longer.
    #[serde(default = "super::default_timeout", with = "span_text")]
    pub timeout: Span,
    /// A change is reported within this time.
    #[serde(default = "super::default_settle", with = "span_text")]
    pub settle: Span,
}

/// What is served of each workload, in files of ours.
#[derive(Clone, Debug)]
struct Served {
    name: String,
    folder: PathBuf,
}

/// Whose number, and the record of its changes.
struct Session {
    workload: String,
    book: Book,
}

/// A target over the number; it and the record of changes are in `folder`.
pub(super) fn open(name: &str, config: &KedaConfig, folder: &Path) -> impl Target + 'static {
    let patience = Patience::new(config.timeout, config.settle);
    Governed::new(name, Served::new(name, folder), config.per_unit, patience)
}

impl KedaConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        super::common_problems(self.per_unit, self.timeout, self.settle)
    }
}

impl Served {
    fn new(name: &str, folder: &Path) -> Self {
        Self { name: name.to_owned(), folder: folder.to_owned() }
    }

    fn journal(&self, workload: &str) -> PathBuf {
        ledger::file_of(&self.folder, &self.name, workload)
    }

    fn number_file(&self, workload: &str) -> PathBuf {
        self.journal(workload).with_extension("served")
    }

    /// The replicas that are served of a workload; none before the first change.
    fn number(&self, workload: &str) -> Result<Option<u64>, Failure> {
        let path = self.number_file(workload);
        let failed = |problem: String| Failure::refused(format!("{}: {problem}", path.display()));
        match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map(Some).map_err(|_| failed(format!("`{}` is no number", text.trim()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

#[async_trait]
impl Knob for Served {
    type Session = Session;

    async fn open(&self, workload: &str) -> Result<Session, Failure> {
        Ok(Session { workload: workload.to_owned(), book: Book::of(self.journal(workload)) })
    }

    fn book<'s>(&self, session: &'s mut Session) -> Option<&'s mut Book> {
        Some(&mut session.book)
    }

    async fn read(&self, session: &mut Session) -> Result<Reading, Failure> {
        let number = self.number(&session.workload)?;
        let commanded = number.unwrap_or(0);
        let setting = number.map(|number| number.to_string());
        Ok(Reading { setting, commanded, ready: commanded, unsettled: None })
    }

    async fn write(&self, session: &mut Session, entry: &Entry) -> Result<(), Failure> {
        let path = self.number_file(&session.workload);
        let Some(text) = &entry.after else {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Failure::refused(format!("{}: {error}", path.display())))
                }
                _ => Ok(()),
            };
        };
        ledger::replace(&path, text)
    }

    fn setting(&self, number: u64) -> Result<String, Failure> {
        Ok(number.to_string())
    }

    fn shown(&self, setting: &Setting) -> String {
        setting.as_ref().map_or_else(|| "nothing served".to_owned(), |number| format!("{number} replicas served"))
    }

    async fn ready_for_change(&self, session: &mut Session) -> Result<(), Failure> {
        self.hold(session).await
    }
}
