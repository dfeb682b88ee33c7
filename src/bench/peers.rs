//! Contestants that are programs of their own: they get their task in the environment and print what they measured.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use tokio::process::Command;

use super::rows::Workload;
use super::usage::Measured;
use crate::cli::UserError;

/// A contestant, from `--peer NAME=COMMAND`.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// How it is shown.
    pub(crate) name: String,
    command: String,
}

impl std::str::FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or_else(|| "write NAME=COMMAND".to_owned())?;
        Ok(Self { name: name.to_owned(), command: command.to_owned() })
    }
}

impl Peer {
    /// Lets it do its task and print its measurement as JSON in its last line.
    pub(crate) async fn run(
        &self,
        servers: &str,
        topic: &str,
        parquet: &Path,
        task: &Workload,
    ) -> anyhow::Result<Measured> {
        let output = Command::new("sh")
            .args(["-c", &self.command])
            .env("HEADROOM_BENCH_SERVERS", servers)
            .env("HEADROOM_BENCH_TOPIC", topic)
            .env("HEADROOM_BENCH_PARQUET", parquet)
            .env("HEADROOM_BENCH_EVENTS", task.events.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting peer {}", self.name))?
            .wait_with_output()
            .await
            .with_context(|| format!("peer {}", self.name))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().unwrap_or_default();
        if !output.status.success() {
            return Err(UserError::new(format!("peer {} failed: {}", self.name, output.status)));
        }
        serde_json::from_str(line).with_context(|| format!("peer {} printed `{line}`", self.name))
    }
}
