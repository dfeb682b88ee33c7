//! The state on disk: one file, replaced as a whole, that says of which version and configuration it is.
//!
//! Layout: `headroom-forecaster <version> <fingerprint> <SHA-256 of the body>`, a line feed, the body.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::ForecasterError;
use crate::learner::State;
use crate::windows::hex;

const MAGIC: &str = "headroom-forecaster";
const VERSION: &str = "1";
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
        let body = encode(state).map_err(|problem| self.error(FILE, problem))?;
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
        decode(body).map(|state| Found::State(Box::new(state)))
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

fn encode(state: &State) -> Result<Vec<u8>, String> {
    postcard::to_stdvec(state).map_err(|error| error.to_string())
}

fn decode(body: &[u8]) -> Result<State, String> {
    postcard::from_bytes(body).map_err(|error| error.to_string())
}
