//! What a target remembers of the changes that were asked of it: enough to drop a repeat, to refuse what has been
//! overtaken, and to undo exactly. It is kept where the capacity is, or in a file of ours where that cannot be.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headroom_actuator_decide::audit::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::governed::{Failure, Setting};
use crate::{ApplyRequest, Fault, Fence};

/// Changes that are kept: a rollback reaches as far back.
pub(super) const KEPT: usize = 32;
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) fence: Fence,
    /// What stood there before, to return to.
    pub(super) before: Setting,
    /// What it set.
    pub(super) after: Setting,
    /// The target has reported it.
    pub(super) done: bool,
}

/// The last changes, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
}

/// What is to be done about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It has happened.
    Known(Entry),
    /// It was begun.
    Begun(Entry),
    /// It is new.
    New,
}

impl Ledger {
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// Reads what `text` made of it.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        serde_json::from_str(text).map_err(|error| {
            Failure::refused(format!("the record of earlier changes cannot be read ({error}): {text}"))
        })
    }

    /// In one line.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("texts and truth values only")
    }

    pub(super) fn newest(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// Is the request new, known, begun, or overtaken?
    pub(super) fn admit(&self, request: &ApplyRequest) -> Result<Admission, Failure> {
        let newest = self.entries.last();
        let overtaken = |fence: Fence| {
            let what = format!("overtaken: it knows a change of {fence}, and this one is of {}", request.fence);
            Err(Failure::new(Fault::Fenced, what))
        };
        match self.find(&request.idempotency_key) {
            Some(entry) if entry.done => Ok(Admission::Known(entry.clone())),
            Some(entry) => match newest {
                Some(newest) if newest.key != entry.key => overtaken(newest.fence),
                _ => Ok(Admission::Begun(entry.clone())),
            },
            None => match newest {
                Some(newest) if request.fence <= newest.fence => overtaken(newest.fence),
                _ => Ok(Admission::New),
            },
        }
    }

    /// What stood there before the change of that key; none when it never came here.
    pub(super) fn before(&self, key: &str) -> Result<Option<Setting>, Failure> {
        match self.find(key) {
            Some(entry) => Ok(Some(entry.before.clone())),
            None if self.entries.len() < KEPT => Ok(None),
            None => {
                let what = format!(
                    "the change {key} is older than the last {KEPT}, which is how far back it can be undone exactly: \
                     set the value by hand"
                );
                Err(Failure::refused(what))
            }
        }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        let surplus = self.entries.len().saturating_sub(KEPT);
        self.entries.drain(..surplus);
    }

    /// The newest has been seen to hold.
    pub(super) fn settle(&mut self) {
        if let Some(entry) = self.entries.last_mut() {
            entry.done = true;
        }
    }

    fn find(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.key == key)
    }
}

/// A ledger in a file of ours, in use; others of ours are held off from `hold` on, until it is dropped.
#[derive(Debug)]
pub(super) struct Book {
    file: PathBuf,
    lock: Option<File>,
}

impl Book {
    pub(super) fn of(file: PathBuf) -> Self {
        Self { file, lock: None }
    }

    pub(super) async fn hold(&mut self) -> Result<(), Failure> {
        self.lock = Some(lock(&self.file).await?);
        Ok(())
    }

    pub(super) fn ledger(&self) -> Result<Ledger, Failure> {
        load(&self.file)
    }

    pub(super) fn keep(&self, ledger: &Ledger) -> Result<(), Failure> {
        replace(&self.file, &ledger.text())
    }
}

/// The file with the ledger of a workload, of a target that tells workloads apart.
pub(super) fn file_of(folder: &Path, target: &str, workload: &str) -> PathBuf {
    let digest = hex(&Sha256::digest(workload));
    folder.join(format!("{target}-{}.json", digest.get(..16).unwrap_or(&digest)))
}

/// Reads a ledger of ours; one that is not there is empty.
pub(super) fn load(file: &Path) -> Result<Ledger, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ledger::parse(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ledger::default()),
        Err(error) => Err(Failure::refused(format!("{}: {error}", file.display()))),
    }
}

/// Holds others of ours off a file until the lock is dropped. Whoever waits looks again; the caller limits the wait.
pub(super) async fn lock(file: &Path) -> Result<File, Failure> {
    let mut path = file.as_os_str().to_owned();
    path.push(".headroom-lock");
    let failed = |error: std::io::Error| Failure::refused(format!("a lock beside {}: {error}", file.display()));
    let lock = File::options().create(true).append(true).open(&path).map_err(failed)?;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_AGAIN).await,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// Puts a file in the place of another, wholly or not at all, with the owner and the rights of the one before.
pub(super) fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::refused(format!("{}: {error}", file.display()));
    let mut staged = file.as_os_str().to_owned();
    staged.push(".headroom-new");
    let staged = Path::new(&staged);
    let mut new = File::create(staged).map_err(failed)?;
    if let Ok(old) = std::fs::metadata(file) {
        keep_owner(&new, &old).map_err(|error| {
            let what = format!("{}: its owner cannot be kept ({error}): run as that user", file.display());
            Failure::refused(what)
        })?;
        new.set_permissions(old.permissions()).map_err(failed)?;
    }
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all()).map_err(failed)?;
    std::fs::rename(staged, file).map_err(failed)
}

#[cfg(unix)]
fn keep_owner(new: &File, old: &std::fs::Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let made = new.metadata()?;
    if (made.uid(), made.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    fchown(new, Some(old.uid()), Some(old.gid()))
}

#[cfg(not(unix))]
fn keep_owner(_new: &File, _old: &std::fs::Metadata) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use headroom_proto::EventTime;

    use super::*;

    fn request(key: &str, position: u64) -> ApplyRequest {
        ApplyRequest {
            workload: "shop".to_owned(),
            units: 1,
            idempotency_key: key.to_owned(),
            fence: Fence::new(EventTime::from_micros(7), position),
            undoes: None,
            at: EventTime::from_micros(7),
            begin_at: None,
        }
    }

    fn entry(key: &str, position: u64, done: bool) -> Entry {
        let fence = request(key, position).fence;
        Entry { key: key.to_owned(), fence, before: None, after: Some(key.to_owned()), done }
    }

    #[test]
    fn a_repeat_is_known_and_what_is_overtaken_is_refused() {
        let ledger = Ledger::of(vec![entry("a", 1, true), entry("b", 2, false), entry("c", 5, false)]);
        let back = Ledger::parse(&ledger.text()).expect("its own text");
        assert_eq!(back, ledger);
        assert_eq!(ledger.admit(&request("a", 1)).expect("known"), Admission::Known(entry("a", 1, true)));
        assert_eq!(ledger.admit(&request("c", 5)).expect("begun"), Admission::Begun(entry("c", 5, false)));
        assert_eq!(ledger.admit(&request("d", 6)).expect("new"), Admission::New);
        for (key, position) in [("b", 2), ("d", 5), ("d", 4)] {
            let refused = ledger.admit(&request(key, position)).expect_err("overtaken");
            assert_eq!(refused.fault, Fault::Fenced, "{key} {position}");
        }
        assert!(Ledger::parse("[").is_err());
    }

    #[test]
    fn what_is_too_long_ago_is_not_guessed() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.before("k0").expect("never came"), None);
        for number in 0..40_u64 {
            ledger.push(entry(&format!("k{number}"), number, true));
        }
        assert_eq!(ledger.before("k39").expect("kept"), Some(None));
        assert_eq!(ledger.before("k1").expect_err("forgotten").fault, Fault::Refused);
    }
}
