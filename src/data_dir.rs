//! The one folder that holds all state, used by one process at a time.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::UserError;

/// The format of data folders that this program reads and writes.
pub(crate) const FORMAT: &str = "2";

/// A data folder that this process owns until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates or opens a folder, checks its format and takes its lock, which ends with the process however it ends.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)
            .map_err(|error| UserError::new(format!("data folder {}: {error}", path.display())))?;
        check_format(path)?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path)
            .map_err(|error| UserError::new(format!("{}: {error}: is the folder writable?", lock_path.display())))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(UserError::new(format!(
                    "data folder {} is in use by another headroom: stop it, or choose another with --data-dir",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(error).context("locking the data folder"),
        }
        write_format(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder below it, created when missing.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.path.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(folder)
    }
}

/// Refuses a folder that another format of this program wrote, or that something else did.
pub(crate) fn check_format(path: &Path) -> anyhow::Result<()> {
    let found = match std::fs::read_to_string(path.join("VERSION")) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let is_empty = std::fs::read_dir(path).map(|mut entries| entries.next().is_none()).unwrap_or(true);
            if is_empty || path.join("lock").exists() {
                return Ok(());
            }
            return Err(UserError::new(format!(
                "{} holds files but no headroom data: choose an empty or new folder with --data-dir",
                path.display()
            )));
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.join("VERSION").display())),
    };
    if found == FORMAT {
        return Ok(());
    }
    Err(UserError::new(format!(
        "data folder {} has format `{found}`, this program reads and writes format {FORMAT}: use the program that wrote \
         it, or choose another folder with --data-dir",
        path.display()
    )))
}

fn write_format(path: &Path) -> anyhow::Result<()> {
    let version = path.join("VERSION");
    if version.exists() {
        return Ok(());
    }
    let staged = path.join("VERSION.new");
    let mut file = File::create(&staged).with_context(|| format!("writing {}", staged.display()))?;
    file.write_all(FORMAT.as_bytes()).and_then(|()| file.sync_all()).context("writing the format")?;
    std::fs::rename(&staged, &version).with_context(|| format!("writing {}", version.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_owned_once_and_its_format_checked() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("state");
        let owned = DataDir::open(&path).expect("a new folder");
        assert!(DataDir::open(&path).expect_err("locked").to_string().contains("in use"));
        drop(owned);
        std::fs::write(path.join("VERSION"), "99").expect("writes");
        let error = DataDir::open(&path).expect_err("another format");
        assert!(error.is::<UserError>() && error.to_string().contains("format `99`"), "{error}");
    }

    #[test]
    fn a_folder_with_other_files_is_refused() {
        let folder = tempfile::tempdir().expect("temp folder");
        std::fs::write(folder.path().join("thesis.tex"), "x").expect("writes");
        assert!(DataDir::open(folder.path()).is_err());
    }
}
