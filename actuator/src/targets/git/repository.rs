//! A branch of a repository elsewhere, by the program `git`. Nothing is checked out: commits are made of objects.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::Fault;
use crate::targets::governed::Failure;
use crate::targets::request::said;

/// Where the branch's newest commit is kept here.
const HEAD: &str = "refs/headroom/head";
const NO_PARENT: &str = "^{commit}";

/// A branch, and a bare repository of ours for its objects.
pub(super) struct Repository {
    pub(super) remote: String,
    pub(super) branch: String,
    pub(super) author: String,
    pub(super) email: String,
    /// Ours; it can be lost at any time.
    pub(super) folder: PathBuf,
}

/// How a push ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Push {
    Taken,
    /// Somebody has pushed since.
    Overtaken,
}

/// A file in a commit.
pub(super) struct Blob {
    mode: String,
    pub(super) text: String,
}

impl Repository {
    /// Brings the branch here; its newest commit.
    pub(super) async fn fetch(&self) -> Result<String, Failure> {
        if !self.folder.join("HEAD").exists() {
            self.run(&["init", "--quiet", "--bare", "."], None).await?;
        }
        let refspec = format!("+refs/heads/{}:{HEAD}", self.branch);
        let fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", &self.remote, &refspec];
        self.run(&fetch, None).await.map_err(|failure| {
            if failure.problem.contains("couldn't find remote ref") {
                return Failure::refused(format!("the repository has no branch `{}`", self.branch));
            }
            failure
        })?;
        let commit = self.run(&["rev-parse", "--verify", "--quiet", &format!("{HEAD}{NO_PARENT}")], None).await?;
        Ok(commit.trim().to_owned())
    }

    /// A file of a commit.
    pub(super) async fn file(&self, commit: &str, path: &str) -> Result<Blob, Failure> {
        let listed = self.run(&["ls-tree", commit, "--", path], None).await?;
        let mode = listed.split_whitespace().next().filter(|mode| mode.starts_with("100"));
        let Some(mode) = mode.map(str::to_owned) else {
            return Err(Failure::refused(format!("the branch `{}` has no file `{path}`", self.branch)));
        };
        Ok(Blob { mode, text: self.run(&["show", &format!("{commit}:{path}")], None).await? })
    }

    /// The bodies of the newest commits that have this line, newest first.
    pub(super) async fn told(&self, commit: &str, line: &str, count: usize) -> Result<Vec<String>, Failure> {
        let count = format!("--max-count={count}");
        let grep = format!("--grep=^{line}$");
        let log = self.run(&["log", &count, &grep, "--format=%B%x00", commit, "--"], None).await?;
        Ok(log.split('\0').map(str::trim).filter(|body| !body.is_empty()).map(str::to_owned).collect())
    }

    /// A commit upon another that changes one file, or nothing, with that message.
    pub(super) async fn commit(
        &self,
        parent: &str,
        change: Option<(&str, &Blob)>,
        message: &str,
    ) -> Result<String, Failure> {
        let mut tree = format!("{parent}^{{tree}}");
        if let Some((path, blob)) = change {
            let object = self.run(&["hash-object", "-w", "--stdin"], Some(&blob.text)).await?;
            self.run(&["read-tree", parent], None).await?;
            let entry = format!("{},{},{path}", blob.mode, object.trim());
            self.run(&["update-index", "--add", "--cacheinfo", &entry], None).await?;
            tree = self.run(&["write-tree"], None).await?.trim().to_owned();
        }
        let commit = self.run(&["commit-tree", &tree, "-p", parent, "-F", "-"], Some(message)).await?;
        Ok(commit.trim().to_owned())
    }

    /// Makes a commit the branch's newest, if it stands upon the newest.
    pub(super) async fn push(&self, commit: &str) -> Result<Push, Failure> {
        let refspec = format!("{commit}:refs/heads/{}", self.branch);
        match self.run(&["push", "--quiet", "--", &self.remote, &refspec], None).await {
            Ok(_) => Ok(Push::Taken),
            Err(failure)
                if ["(fetch first)", "(non-fast-forward)", "(failed to update ref)", "cannot lock ref"]
                    .iter()
                    .any(|sign| failure.problem.contains(sign)) =>
            {
                Ok(Push::Overtaken)
            }
            // A hook or a protection of the branch says no: it will again.
            Err(failure) if failure.problem.contains("[remote rejected]") => {
                Err(Failure { fault: Fault::Refused, ..failure })
            }
            Err(failure) => Err(failure),
        }
    }

    async fn run(&self, args: &[&str], input: Option<&str>) -> Result<String, Failure> {
        let failed = |error: std::io::Error| Failure::refused(format!("git cannot be run: {error}"));
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        let mut child = self.command(args, &self.folder).spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.unwrap_or_default().as_bytes()).await.map_err(failed)?;
        }
        let output = child.wait_with_output().await.map_err(failed)?;
        if output.status.success() {
            return String::from_utf8(output.stdout)
                .map_err(|_| Failure::refused("the file is no text in UTF-8".to_owned()));
        }
        let verb = args.first().copied().unwrap_or_default();
        // Before the rest, which may be long: the lines that say why.
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_why = |line: &&str| line.starts_with(" ! ") || line.starts_with("fatal:") || line.starts_with("error:");
        let why: Vec<&str> = stderr.lines().filter(is_why).collect();
        let told = if why.is_empty() { stderr.into_owned() } else { why.join(" ") };
        Err(Failure::new(Fault::Away, format!("git {verb}: {}", said(told.as_bytes()))))
    }

    fn command(&self, args: &[&str], folder: &Path) -> Command {
        let mut command = Command::new("git");
        // No hooks of this machine, no questions to a terminal, words that do not depend on a language.
        command.args(["-c", "core.hooksPath=/dev/null"]).args(args).current_dir(folder);
        command.env("GIT_DIR", ".").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").env("GIT_INDEX_FILE", "index");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), &self.author).env(format!("GIT_{role}_EMAIL"), &self.email);
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

impl Blob {
    /// The file with another text.
    pub(super) fn with(&self, text: String) -> Self {
        Self { mode: self.mode.clone(), text }
    }
}
