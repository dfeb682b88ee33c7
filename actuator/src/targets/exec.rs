//! A program: a request on its standard input, the answer on its standard output. See [`super::request`] for the contract.
//!
//! `WEBHOOK_ID`, `WEBHOOK_TIMESTAMP` and, when a secret is named, `WEBHOOK_SIGNATURE` are in its environment, so that it
//! can pass the request on as it is. Beside them it has `PATH`, `HOME`, `LANG` and what `pass_env` names, nothing else of
//! ours. Its exit status is 0 for a yes, 75 for "later" (`EX_TEMPFAIL`), 76 for "overtaken"; every other is a refusal, and
//! the first line of its standard error says why. One that is slow is killed with all that it has started: a change that
//! came later, from a child that lives on, would come behind what has been decided since.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::governed::{Failure, Governed, Patience};
use super::request::{MAX_ANSWER, Remote, Request, Transport, said};
use super::secret::SecretSettings;
use crate::{Fault, Target};

const LATER: i32 = 75;
const OVERTAKEN: i32 = 76;
/// What every program has of our environment.
const PASSED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Settings of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program; no shell reads this.
    pub program: PathBuf,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Variables of our environment that it has too.
    #[serde(default)]
    pub pass_env: Vec<String>,
    /// The key of the signature, `whsec_` and base64; without one requests are not signed.
    #[serde(default)]
    pub secret: SecretSettings,
    /// Of the value, in one unit.
    #[serde(default = "super::one")]
    pub per_unit: u32,
    /// A change or a question takes no longer.
    #[serde(default = "super::default_timeout", with = "span_text")]
    pub timeout: Span,
    /// A change is reported within this time.
    #[serde(default = "super::default_settle", with = "span_text")]
    pub settle: Span,
    /// Before a release it is asked for so long to let work go; 0 asks nothing.
    #[serde(default, with = "span_text")]
    pub drain: Span,
}

struct Run {
    config: ExecConfig,
}

/// A target over the program.
pub(super) fn open(name: &str, config: &ExecConfig, folder: &Path) -> impl Target + 'static {
    let knob = Remote::new(Run { config: config.clone() }, &config.secret, name, folder);
    Governed::new(name, knob, config.per_unit, Patience::new(config.timeout, config.settle)).draining(config.drain)
}

impl ExecConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = super::common_problems(self.per_unit, self.timeout, self.settle);
        problems.extend(super::drain_problem(self.drain));
        problems.extend(self.secret.problems().into_iter().map(|problem| format!("secret: {problem}")));
        if self.program.as_os_str().is_empty() {
            problems.push("`program` is empty".to_owned());
        }
        problems
    }

    fn command(&self, request: &Request) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().kill_on_drop(true).process_group(0);
        for name in PASSED.into_iter().chain(self.pass_env.iter().map(String::as_str)) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("WEBHOOK_ID", &request.id).env("WEBHOOK_TIMESTAMP", request.timestamp.to_string());
        if let Some(signature) = &request.signature {
            command.env("WEBHOOK_SIGNATURE", signature);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

#[async_trait]
impl Transport for Run {
    async fn send(&self, request: &Request) -> Result<Vec<u8>, Failure> {
        let named =
            |fault, problem: String| Failure::new(fault, format!("{}: {problem}", self.config.program.display()));
        let failed = |error: std::io::Error| named(Fault::Away, error.to_string());
        let mut child = self.config.command(request).spawn().map_err(failed)?;
        let group = Group(child.id());
        let stdin = child.stdin.take();
        let body = request.body.clone();
        // A program that does not read what it is told may do its work all the same.
        let writes = async move {
            if let Some(mut stdin) = stdin {
                let _unread = stdin.write_all(body.as_bytes()).await;
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ((), answer, complaint) = tokio::join!(writes, all_of(stdout), all_of(stderr));
        let (answer, complaint) = (answer.map_err(failed)?, complaint.map_err(failed)?);
        let status = child.wait().await.map_err(failed)?;
        group.has_ended();
        if answer.len() > MAX_ANSWER {
            return Err(named(Fault::Refused, format!("its answer is longer than {MAX_ANSWER} bytes")));
        }
        let fault = match status.code() {
            Some(0) => return Ok(answer),
            Some(LATER) | None => Fault::Away,
            Some(OVERTAKEN) => Fault::Fenced,
            Some(_) => Fault::Refused,
        };
        let overtaken = if fault == Fault::Fenced { "overtaken: " } else { "" };
        let line = complaint.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Err(named(fault, format!("{overtaken}it ends with {status}; {}", said(line))))
    }
}

/// The processes of a program, by the id of the first of them. They are killed with it, unless it has ended by itself.
struct Group(Option<u32>);

impl Group {
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(id) = self.0 else { return };
        let mut kill = std::process::Command::new("/bin/sh");
        kill.args(["-c", "kill -s KILL -- \"-$1\"", "sh", &id.to_string()]);
        kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let killed = kill.status();
        if !killed.as_ref().is_ok_and(std::process::ExitStatus::success) {
            tracing::warn!(?killed, group = id, "the children of a slow program may live on");
        }
    }
}

/// All that is written, as far as it is looked at; the rest is read and dropped.
async fn all_of(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(bytes) };
    let limit = u64::try_from(MAX_ANSWER).unwrap_or(u64::MAX).saturating_add(1);
    (&mut pipe).take(limit).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(bytes)
}
