//! What was done, one file for each workload, so that a study that was stopped goes on where it was.
//!
//! A file counts only for the very study it was made by: the same settings, loads and signals, by the same version.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use headroom_actuator_decide::simulation::PolicyResult;
use headroom_forecaster::backtest::ModelScores;
use serde::{Deserialize, Serialize};

use super::report::Course;
use crate::cli::UserError;

/// All that was found of one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Done {
    /// The forecasts' scores.
    pub(super) scores: Vec<ModelScores>,
    /// What each policy came to.
    pub(super) policies: Vec<PolicyResult>,
    /// By how many minutes each policy was ahead of each rise of the load.
    pub(super) leads: Vec<Vec<f64>>,
    /// For the report.
    pub(super) course: Course,
    /// What was measured, and how.
    pub(super) premise: String,
    /// The forecasts that are asked for, as an IPC stream.
    pub(super) forecasts: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct File {
    fingerprint: u64,
    done: Done,
}

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Results {
    folder: PathBuf,
}

impl Results {
    /// Makes the folder unless it is there.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| refused(folder, &error.to_string()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// What was done of a workload; none when nothing was, or for another study.
    pub(super) fn read(&self, workload: &str, fingerprint: u64) -> Option<Done> {
        let bytes = std::fs::read(self.place(workload)).ok()?;
        let file: File = postcard::from_bytes(&bytes).ok()?;
        (file.fingerprint == fingerprint).then_some(file.done)
    }

    /// Keeps what was done; a reader sees the whole or nothing.
    pub(super) fn write(&self, workload: &str, fingerprint: u64, done: &Done) -> anyhow::Result<()> {
        let place = self.place(workload);
        let bytes = postcard::to_stdvec(&File { fingerprint, done: done.clone() })?;
        let staged = place.with_extension("new");
        let written = std::fs::write(&staged, bytes).and_then(|()| std::fs::rename(&staged, &place));
        written.map_err(|error| refused(&place, &error.to_string()))
    }

    /// A workload's name may hold what a file's may not.
    fn place(&self, workload: &str) -> PathBuf {
        let safe: String =
            workload.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        self.folder.join(format!("{safe}-{:08x}.done", hash(workload) & 0xffff_ffff))
    }
}

fn refused(path: &Path, problem: &str) -> anyhow::Error {
    UserError::new(format!("--results {}: {problem}", path.display()))
}

/// A hash that tells one study from another.
pub(super) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), text).hash(&mut hasher);
    hasher.finish()
}
