//! The state on disk: one file, replaced as a whole, that says of which version and configuration it is.
//!
//! Layout: `headroom-forecaster <version> <fingerprint> <SHA-256 of the body>`, a line feed, the body in postcard, which gives back
//! every number bit by bit.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::ForecasterError;
use crate::learner::State;
use crate::windows::hex;

const MAGIC: &str = "headroom-forecaster";
const VERSION: &str = "5";
const FILE: &str = "state";
const TEMPORARY: &str = "state.tmp";

/// What was found in the state folder.
#[derive(Debug)]
pub(crate) enum Found {
    /// A state of this configuration.
    State(Box<State>),
    /// None: the first start.
    Nothing,
    /// One that cannot be used, and why.
    Refused(String),
}

/// The folder of the state.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFolder {
    folder: PathBuf,
    fingerprint: String,
}

impl SnapshotFolder {
    /// `fingerprint` is a word that differs for configurations whose states do not fit each other.
    pub(crate) fn new(folder: PathBuf, fingerprint: String) -> Self {
        Self { folder, fingerprint }
    }

    /// Replaces the state; returns its size in bytes. After a crash either the old or the new one is there.
    pub(crate) fn write(&self, state: &State) -> Result<usize, ForecasterError> {
        let body = postcard::to_stdvec(state).map_err(|error| self.error(FILE, error.to_string()))?;
        let bytes = [format!("{MAGIC} {VERSION} {} {}\n", self.fingerprint, sha256(&body)).into_bytes(), body].concat();
        self.replace(&bytes).map_err(|error| self.error(TEMPORARY, error.to_string()))?;
        Ok(bytes.len())
    }

    pub(crate) fn read(&self) -> Found {
        match fs::read(self.folder.join(FILE)) {
            Ok(bytes) => self.check(&bytes).unwrap_or_else(Found::Refused),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(error) => Found::Refused(error.to_string()),
        }
    }

    fn check(&self, bytes: &[u8]) -> Result<Found, String> {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
        let (first, body) = bytes.split_at(end);
        let body = body.get(1..).unwrap_or_default();
        let first = std::str::from_utf8(first).map_err(|_| "its first line is not text")?;
        let mut words = first.split(' ');
        if (words.next(), words.next()) != (Some(MAGIC), Some(VERSION)) {
            return Err("it is of another version".to_owned());
        }
        if words.next() != Some(&self.fingerprint) {
            return Err("it is of another configuration or build".to_owned());
        }
        if words.next() != Some(&sha256(body)) {
            return Err("its checksum is wrong".to_owned());
        }
        let state = postcard::from_bytes(body).map_err(|error| error.to_string())?;
        Ok(Found::State(Box::new(state)))
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let temporary = self.folder.join(TEMPORARY);
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.folder.join(FILE))?;
        sync_folder(&self.folder)
    }

    fn error(&self, file: &str, problem: String) -> ForecasterError {
        ForecasterError::Snapshot { path: self.folder.join(file), problem }
    }
}

/// Makes the rename itself durable, where a folder can be opened as a file.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// SHA-256, hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START_US, config, days, encoded, handle, learners, sale, window_records, with_state};

    fn found(folder: &SnapshotFolder) -> State {
        let read = folder.read();
        if let Found::State(state) = read { *state } else { panic!("{read:?}") }
    }

    #[test]
    fn a_restored_state_goes_on_with_the_same_forecasts() {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshots = SnapshotFolder::new(folder.path().join("state"), "a".to_owned());
        let mut windows = window_records(&days(18), 1);
        let later = windows.split_off(windows.len() * 9 / 10);
        let mut running = learners(&config());
        let at = i64::try_from(windows.len()).expect("few");
        handle(&mut running, vec![sale(START_US, START_US)], windows, 0);
        assert!(matches!(snapshots.read(), Found::Nothing));
        snapshots.write(running.state()).expect("writes");
        let mut restored = with_state(&config(), found(&snapshots));
        let expected = handle(&mut running, Vec::new(), later.clone(), at).forecasts;
        assert!(expected.iter().all(|forecast| !forecast.values.is_empty()));
        assert_eq!(encoded(&handle(&mut restored, Vec::new(), later, at).forecasts), encoded(&expected));
    }

    #[test]
    fn what_is_damaged_or_of_another_configuration_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshots = SnapshotFolder::new(folder.path().to_owned(), "a".to_owned());
        snapshots.write(&State::default()).expect("writes");
        let other = SnapshotFolder::new(folder.path().to_owned(), "b".to_owned());
        assert!(matches!(other.read(), Found::Refused(reason) if reason.contains("configuration")));
        let file = folder.path().join(FILE);
        let bytes = fs::read(&file).expect("reads");
        for end in 0..bytes.len() {
            fs::write(&file, &bytes[..end]).expect("writes");
            assert!(matches!(snapshots.read(), Found::Refused(_)), "cut at {end}");
        }
        fs::write(&file, bytes).expect("writes");
        assert!(matches!(snapshots.read(), Found::State(_)));
    }
}
