//! Brings the notices of one receiver to it.

use std::time::Duration;

use headroom_proto::{Clock, Span};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use standardwebhooks::Webhook;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::settings::url_problem;
use super::{Notice, NoticeCounters, NotifyConfig, body};

/// How long what waits at the end may still take.
const GRACE: Duration = Duration::from_secs(3);

/// Empties the queue of one receiver.
#[derive(Debug)]
pub(crate) struct Courier {
    /// Its place in the configuration; addresses are not shown.
    receiver: usize,
    config: NotifyConfig,
    waiting: mpsc::Receiver<Notice>,
    counters: NoticeCounters,
}

/// Why an attempt has failed, and whether another may succeed.
struct Failure {
    problem: String,
    is_passing: bool,
}

impl Courier {
    pub(super) fn new(
        receiver: usize,
        config: NotifyConfig,
        waiting: mpsc::Receiver<Notice>,
        counters: NoticeCounters,
    ) -> Self {
        Self { receiver, config, waiting, counters }
    }

    /// Works until shutdown; what waits then has a short time.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let client = Client::builder()
            .redirect(Policy::none())
            .user_agent("headroom")
            .timeout(duration(self.config.timeout))
            .build();
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(receiver = self.receiver, error = %error.without_url(), "nobody can be told");
                return;
            }
        };
        loop {
            let notice = tokio::select! {
                biased;
                notice = self.waiting.recv() => notice,
                () = shutdown.cancelled() => break,
            };
            let Some(notice) = notice else { return };
            tokio::select! {
                () = self.bring(&client, &notice) => {}
                () = shutdown.cancelled() => {
                    let _in_vain = timeout(GRACE, self.bring(&client, &notice)).await;
                    break;
                }
            }
        }
        let rest = async {
            while let Ok(notice) = self.waiting.try_recv() {
                self.bring(&client, &notice).await;
            }
        };
        let _in_vain = timeout(GRACE, rest).await;
    }

    async fn bring(&self, client: &Client, notice: &Notice) {
        let mut pause = duration(self.config.pause);
        for attempt in 1..=self.config.attempts {
            let failure = match self.post(client, notice).await {
                Ok(()) => {
                    self.counters.delivered.inc();
                    return;
                }
                Err(failure) => failure,
            };
            let is_last = attempt == self.config.attempts || !failure.is_passing;
            let (receiver, kind, problem) = (self.receiver, notice.kind.name(), failure.problem);
            if is_last {
                self.counters.dropped.inc();
                tracing::warn!(receiver, kind, attempt, problem, "a notice is dropped");
                return;
            }
            tracing::debug!(receiver, kind, attempt, problem, "a notice is tried again");
            sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }

    async fn post(&self, client: &Client, notice: &Notice) -> Result<(), Failure> {
        let lasting = |problem: String| Failure { problem, is_passing: false };
        let url = match &self.config.url {
            Some(url) => url.clone(),
            None => {
                let secret = self.config.url_from.read().map_err(|failure| lasting(failure.problem))?;
                secret.map(|secret| secret.reveal().trim().to_owned()).unwrap_or_default()
            }
        };
        if let Some(problem) = url_problem(&url) {
            return Err(lasting(problem));
        }
        let (id, timestamp) = (body::id(notice), Clock::Wall.now().micros() / 1_000_000);
        let text = body::body(notice, self.config.format).to_string();
        let mut post = client
            .post(url)
            .header("content-type", "application/json")
            .header(standardwebhooks::HEADER_WEBHOOK_ID, &id)
            .header(standardwebhooks::HEADER_WEBHOOK_TIMESTAMP, timestamp);
        if let Some(secret) = self.config.secret.read().map_err(|failure| lasting(failure.problem))? {
            // The error of the library could tell of the secret.
            let unusable = |_| lasting("the secret is not one of Standard Webhooks: `whsec_` and base64".to_owned());
            let webhook = Webhook::new(secret.reveal()).map_err(unusable)?;
            let signature = webhook.sign(&id, timestamp, text.as_bytes()).map_err(unusable)?;
            post = post.header(standardwebhooks::HEADER_WEBHOOK_SIGNATURE, signature);
        }
        let sent = post.body(text).send().await;
        let answer = sent.map_err(|error| Failure { problem: error.without_url().to_string(), is_passing: true })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let is_passing =
            status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(Failure { problem: format!("it answers {status}"), is_passing })
    }
}

fn duration(span: Span) -> Duration {
    Duration::from_micros(span.micros().unsigned_abs())
}
