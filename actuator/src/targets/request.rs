//! Any other system, by a program or a web service of yours: a signed request to set a value, and one to read it back.
//!
//! # What is sent
//!
//! A JSON object, and the three values of Standard Webhooks 1.0 (`webhook-id`, `webhook-timestamp`, `webhook-signature`),
//! which any of its libraries checks. The id of a change is the same whenever it is sent again.
//!
//! ```json
//! {"type": "headroom.capacity.apply.v1", "timestamp": "2026-11-21T08:10:00Z",
//!  "data": {"workload": "shop", "value": "50", "key": "shop/1790000000000000",
//!           "fence": "01790000000000000-000000000007"}}
//! {"type": "headroom.capacity.read.v1", "timestamp": "2026-11-21T08:10:00Z", "data": {"workload": "shop"}}
//! ```
//!
//! `value` is a number in digits, or null to return to "not set".
//!
//! # What is expected
//!
//! - To an `apply`: the value is set, or will be shortly. A `key` that was seen is not done again. A `fence` that is less
//!   than the greatest one seen, as text, is refused as overtaken: this guards against two actuators that do not share a
//!   data folder.
//! - To a `read`: `{"value": "50", "ready": 40}`: what is set (null when nothing is) and, if it is known, how much of it
//!   serves already. This is what counts: an apply is done when a read reports its value.
//!
//! - With `drain` set, before a release: `headroom.capacity.drain.v1`, with the data of the `apply` that will follow:
//!   `{"drained": true}`, or `{"drained": false, "left": "3 connections"}` and it is asked again. It takes nothing away:
//!   it lets the work of what will go be finished elsewhere.
//!
//! How each is said stands in [`super::exec`] and [`super::webhook`]. The record of changes is a file of ours.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use headroom_actuator_decide::audit::hex;
use headroom_proto::Clock;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use standardwebhooks::Webhook;

use super::governed::{Failure, Knob, Reading, Setting};
use super::ledger::{self, Book, Entry};
use super::secret::{Secret, SecretSettings};
use crate::{ApplyRequest, Drain};

/// Bytes of an answer that are read; a longer one is refused.
pub(super) const MAX_ANSWER: usize = 64 * 1024;
/// Characters of what a system says that stand in a message.
const MAX_SAID: usize = 300;

/// A request, signed when a secret is named.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: String,
    /// Seconds since the Unix epoch.
    pub(super) timestamp: i64,
    pub(super) signature: Option<String>,
    pub(super) body: String,
}

/// How a request gets to where it is obeyed.
#[async_trait]
pub(super) trait Transport: Send + Sync {
    /// Sends it; the answer's bytes.
    async fn send(&self, request: &Request) -> Result<Vec<u8>, Failure>;
}

/// A value that is asked for and about.
pub(super) struct Remote<T> {
    transport: T,
    secret: SecretSettings,
    /// Where the record of changes is, with one file for each workload.
    folder: PathBuf,
    name: String,
}

/// Whose value, and the record of its changes.
pub(super) struct Session {
    workload: String,
    book: Book,
}

#[derive(Serialize)]
struct Message<'a, D> {
    r#type: &'a str,
    timestamp: String,
    data: D,
}

#[derive(Serialize)]
struct Apply<'a> {
    workload: &'a str,
    value: &'a Setting,
    key: &'a str,
    fence: String,
}

#[derive(Serialize)]
struct Read<'a> {
    workload: &'a str,
}

/// The answer to a read. What else it has is not looked at.
#[derive(Deserialize)]
struct Report {
    value: Option<String>,
    ready: Option<u64>,
}

/// The answer to a drain.
#[derive(Deserialize)]
struct Drained {
    drained: bool,
    left: Option<String>,
}

impl<T: Transport> Remote<T> {
    pub(super) fn new(transport: T, secret: &SecretSettings, name: &str, folder: &Path) -> Self {
        Self { transport, secret: secret.clone(), folder: folder.to_owned(), name: name.to_owned() }
    }

    fn journal(&self, workload: &str) -> PathBuf {
        ledger::file_of(&self.folder, &self.name, workload)
    }

    async fn send<D: Serialize + Send>(&self, kind: &str, key: Option<&str>, data: D) -> Result<Vec<u8>, Failure> {
        let now = Clock::Wall.now();
        let message = Message { r#type: kind, timestamp: now.to_string(), data };
        let body = serde_json::to_string(&message).map_err(|error| Failure::refused(error.to_string()))?;
        let unique = key.map_or_else(|| format!("{kind} {}", now.micros()), str::to_owned);
        let digest = hex(&Sha256::digest(format!("{} {unique}", self.name)));
        let id = format!("msg_{}", digest.get(..32).unwrap_or(&digest));
        let timestamp = now.micros() / 1_000_000;
        let secret = self.secret.read()?;
        let signature = secret.as_ref().map(|secret| signed(secret, &id, timestamp, &body)).transpose()?;
        let answer = self.transport.send(&Request { id, timestamp, signature, body }).await;
        answer.map_err(|failure| match &secret {
            Some(secret) => Failure { problem: secret.hidden_in(&failure.problem), ..failure },
            None => failure,
        })
    }
}

#[async_trait]
impl<T: Transport> Knob for Remote<T> {
    type Session = Session;

    async fn open(&self, workload: &str) -> Result<Session, Failure> {
        Ok(Session { workload: workload.to_owned(), book: Book::of(self.journal(workload)) })
    }

    fn book<'s>(&self, session: &'s mut Session) -> Option<&'s mut Book> {
        Some(&mut session.book)
    }

    async fn read(&self, session: &mut Session) -> Result<Reading, Failure> {
        let data = Read { workload: &session.workload };
        let answer = self.send("headroom.capacity.read.v1", None, data).await?;
        let report: Report = serde_json::from_slice(&answer).map_err(|error| {
            let told = said(&answer);
            Failure::refused(format!("its answer to a read is not {{\"value\": ..}} ({error}): {told}"))
        })?;
        let number = |text: &String| {
            let parsed = text.parse::<u64>();
            parsed.map_err(|_| Failure::refused(format!("it reports the value `{text}`, which is no whole number")))
        };
        let commanded = report.value.as_ref().map(number).transpose()?;
        let ready = report.ready.or(commanded).unwrap_or(0);
        Ok(Reading { setting: report.value, commanded: commanded.unwrap_or(ready), ready, unsettled: None })
    }

    async fn write(&self, session: &mut Session, entry: &Entry) -> Result<(), Failure> {
        let data =
            Apply { workload: &session.workload, value: &entry.after, key: &entry.key, fence: entry.fence.to_string() };
        let key = format!("{} {}", session.workload, entry.key);
        self.send("headroom.capacity.apply.v1", Some(&key), data).await.map(drop)
    }

    async fn drain(&self, session: &mut Session, request: &ApplyRequest, setting: &Setting) -> Result<Drain, Failure> {
        let (workload, key) = (&session.workload, &request.idempotency_key);
        let data = Apply { workload, value: setting, key, fence: request.fence.to_string() };
        let answer = self.send("headroom.capacity.drain.v1", None, data).await?;
        let drained: Drained = serde_json::from_slice(&answer).map_err(|error| {
            let told = said(&answer);
            Failure::refused(format!("its answer to a drain is not {{\"drained\": ..}} ({error}): {told}"))
        })?;
        let left = drained.left.map_or_else(|| "some work".to_owned(), |left| left.chars().take(MAX_SAID).collect());
        Ok(if drained.drained { Drain::Done } else { Drain::Left(left) })
    }

    fn setting(&self, number: u64) -> Result<String, Failure> {
        Ok(number.to_string())
    }

    fn shown(&self, setting: &Setting) -> String {
        setting.clone().unwrap_or_else(|| "not set".to_owned())
    }

    async fn ready_for_change(&self, session: &mut Session) -> Result<(), Failure> {
        self.hold(session).await
    }
}

fn signed(secret: &Secret, id: &str, timestamp: i64, body: &str) -> Result<String, Failure> {
    // The error of the library could tell of the secret.
    let unusable = |_| Failure::refused("the secret is not one of Standard Webhooks: `whsec_` and base64".to_owned());
    let webhook = Webhook::new(secret.reveal()).map_err(unusable)?;
    webhook.sign(id, timestamp, body.as_bytes()).map_err(unusable)
}

/// The beginning of what a system said, in one line.
pub(super) fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SAID).collect();
    if line.is_empty() { "it says nothing".to_owned() } else { format!("it says: {line}") }
}
