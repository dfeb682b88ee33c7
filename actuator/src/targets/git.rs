//! One number in a YAML or JSON file on a branch of a repository, for systems that follow one (GitOps).
//!
//! A change is one commit, which sets the number and is pushed upon the branch's newest commit, never by force: the number
//! and the record of the change come together or not at all. The record is in the commit's message (`Headroom-Change`), so
//! that every actuator and every person sees it. What is reported is what the branch says; that the cluster has followed is
//! not seen from here, and belongs into the planner's `lead_time`.
//!
//! Access is git's own: a key of ssh, a credential helper. The address must not hold a password.

mod repository;
mod scalar;

use std::fs::File;
use std::path::Path;

use async_trait::async_trait;
use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};

use self::repository::{Push, Repository};
use super::governed::{Failure, Governed, Knob, Patience, Reading, Setting};
use super::ledger::{self, Entry, KEPT, Ledger};
use crate::{Fault, Target};

/// How often a change is made anew when somebody else pushes at the same time.
const ATTEMPTS: usize = 3;
const CHANGE: &str = "Headroom-Change: ";

/// Settings of a number in a repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitConfig {
    /// Where the repository is, as git takes it.
    pub repository: String,
    /// The branch that is followed.
    pub branch: String,
    /// The file, from the root of the repository.
    pub file: String,
    /// The way to the number: keys, and places in lists from 0, such as `["spec", "replicas"]`.
    pub path: Vec<String>,
    /// Who commits.
    #[serde(default = "default_author")]
    pub author: String,
    /// The address of who commits.
    #[serde(default = "default_email")]
    pub email: String,
    /// Of the number, in one unit.
    #[serde(default = "super::one")]
    pub per_unit: u32,
    /// A change or a question takes no longer.
    #[serde(default = "default_timeout", with = "span_text")]
    pub timeout: Span,
    /// A change is reported within this time.
    #[serde(default = "super::default_settle", with = "span_text")]
    pub settle: Span,
}

fn default_author() -> String {
    "Headroom".to_owned()
}

fn default_email() -> String {
    "headroom@localhost".to_owned()
}

fn default_timeout() -> Span {
    Span::from_mins(1)
}

struct Number {
    name: String,
    config: GitConfig,
    repository: Repository,
}

/// The branch's newest commit, and a lock on our copy of its objects.
struct Session {
    commit: String,
    _lock: File,
}

/// A target over the number; the copy of the repository is in `folder`.
pub(super) fn open(name: &str, config: &GitConfig, folder: &Path) -> impl Target + 'static {
    let repository = Repository {
        remote: config.repository.clone(),
        branch: config.branch.clone(),
        author: config.author.clone(),
        email: config.email.clone(),
        folder: folder.join(format!("{name}.git")),
    };
    let knob = Number { name: name.to_owned(), config: config.clone(), repository };
    Governed::new(name, knob, config.per_unit, Patience::new(config.timeout, config.settle))
}

impl GitConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = super::common_problems(self.per_unit, self.timeout, self.settle);
        let is_odd = |text: &str| text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control);
        for (key, text) in [("repository", &self.repository), ("branch", &self.branch), ("file", &self.file)] {
            if is_odd(text) {
                problems.push(format!("`{key}` is empty, or begins with a dash, or has a line break"));
            }
        }
        let is_branch = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.');
        if !self.branch.chars().all(is_branch) || self.branch.contains("..") {
            problems.push(format!("`branch`: `{}` is no name of a branch", self.branch));
        }
        let has_password = url::Url::parse(&self.repository).is_ok_and(|url| url.password().is_some());
        if has_password {
            problems
                .push("`repository`: it must not hold a password: use a key of ssh or a credential helper".to_owned());
        }
        if self.file.starts_with('/') || self.file.split('/').any(|part| part == "..") {
            problems.push("`file`: write it from the root of the repository".to_owned());
        }
        if self.path.is_empty() {
            problems.push("`path` is empty: name the keys that lead to the number".to_owned());
        }
        if [&self.author, &self.email].iter().any(|text| is_odd(text) || text.contains(['<', '>'])) {
            problems.push("`author` and `email` must be plain words".to_owned());
        }
        problems
    }
}

impl Number {
    /// The line that marks our commits.
    fn mark(&self) -> String {
        format!("Headroom-Target: {}", self.name)
    }

    async fn ledger_at(&self, commit: &str) -> Result<Ledger, Failure> {
        let bodies = self.repository.told(commit, &self.mark(), KEPT).await?;
        let mut entries = Vec::new();
        for body in bodies.iter().rev() {
            let Some(line) = body.lines().find_map(|line| line.strip_prefix(CHANGE)) else { continue };
            let entry: Entry = serde_json::from_str(line)
                .map_err(|error| Failure::refused(format!("a commit's `{CHANGE}` cannot be read ({error}): {line}")))?;
            entries.push(entry);
        }
        Ok(Ledger::of(entries))
    }

    /// A commit with the entry, upon the branch's newest; anew when somebody pushes meanwhile.
    async fn push(&self, session: &mut Session, entry: &Entry) -> Result<(), Failure> {
        let entry = Entry { done: true, ..entry.clone() };
        for _ in 0..ATTEMPTS {
            let (path, text) = (&self.config.file, &entry.after);
            let file = self.repository.file(&session.commit, path).await?;
            let place = scalar::find(&file.text, &self.config.path).map_err(|failure| self.in_file(failure))?;
            let mut changed = file.text.clone();
            changed.replace_range(place.clone(), text.as_deref().unwrap_or_default());
            let is_changed = changed != file.text;
            let old = file.text.get(place).unwrap_or_default();
            let title = format!("{}: {old} -> {}", self.config.path.join("."), self.shown(text));
            let json = serde_json::to_string(&entry).map_err(|error| Failure::refused(error.to_string()))?;
            let message = format!("{title}\n\n{}\n{CHANGE}{json}\n", self.mark());
            let changed = file.with(changed);
            let change = is_changed.then_some((path.as_str(), &changed));
            let commit = self.repository.commit(&session.commit, change, &message).await?;
            if self.repository.push(&commit).await? == Push::Taken {
                return Ok(());
            }
            session.commit = self.repository.fetch().await?;
            let ledger = self.ledger_at(&session.commit).await?;
            if let Some(newest) = ledger.newest().filter(|newest| newest.fence >= entry.fence) {
                let problem = format!("overtaken: it knows a change of {}, pushed just now", newest.fence);
                return Err(Failure::new(Fault::Fenced, problem));
            }
        }
        Err(Failure::new(Fault::Away, "others push to the branch all the time".to_owned()))
    }

    fn in_file(&self, failure: Failure) -> Failure {
        Failure { problem: format!("{}: {}", self.config.file, failure.problem), ..failure }
    }
}

#[async_trait]
impl Knob for Number {
    type Session = Session;

    async fn open(&self, _workload: &str) -> Result<Session, Failure> {
        let lock = ledger::lock(&self.repository.folder).await?;
        Ok(Session { commit: self.repository.fetch().await?, _lock: lock })
    }

    async fn ledger(&self, session: &mut Session) -> Result<Ledger, Failure> {
        self.ledger_at(&session.commit).await
    }

    /// The intent needs no record: a commit is wholly there or not at all. A change that found its value there already is
    /// recorded by a commit that changes nothing.
    async fn keep(&self, session: &mut Session, ledger: &Ledger) -> Result<(), Failure> {
        let Some(newest) = ledger.newest().filter(|newest| newest.done) else { return Ok(()) };
        let recorded = self.ledger_at(&session.commit).await?;
        if recorded.newest().is_some_and(|known| known.key == newest.key) {
            return Ok(());
        }
        self.push(session, newest).await
    }

    async fn read(&self, session: &mut Session) -> Result<Reading, Failure> {
        session.commit = self.repository.fetch().await?;
        let file = self.repository.file(&session.commit, &self.config.file).await?;
        let place = scalar::find(&file.text, &self.config.path).map_err(|failure| self.in_file(failure))?;
        let digits = file.text.get(place).unwrap_or_default().to_owned();
        let number = digits.parse().map_err(|_| Failure::refused(format!("the number {digits} is too large")))?;
        Ok(Reading { setting: Some(digits), commanded: number, ready: number, unsettled: None })
    }

    async fn write(&self, session: &mut Session, entry: &Entry) -> Result<(), Failure> {
        self.push(session, entry).await
    }

    fn setting(&self, number: u64) -> Result<String, Failure> {
        Ok(number.to_string())
    }

    fn shown(&self, setting: &Setting) -> String {
        setting.clone().unwrap_or_else(|| "nothing".to_owned())
    }
}
