//! Whose turn it is to act, and what an actuator does while it is not its own.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use headroom_ingest_broker::{Broker, BrokerError, Change, Consumer, Start};
use headroom_proto::topics::Topic;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Command;

/// The consumer group in which actuators wait for their turn.
const GROUP: &str = "headroom-actuate-turn";
const POLL: Duration = Duration::from_millis(500);

/// How an actuator comes by its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It acts from its start on, in the place of whoever acted before.
    Alone,
    /// The consumer group gives the turn to one of its members, and to another when that one is gone.
    Group,
}

/// Waits for its turn.
pub(super) struct Turn {
    /// The number of the turn that it has, as far as it knows.
    given: watch::Receiver<Option<u64>>,
    used: u64,
}

impl Turn {
    pub(super) fn new(
        membership: Membership,
        broker: &Broker,
        instance: Option<&str>,
        shutdown: CancellationToken,
    ) -> Result<Self, BrokerError> {
        let (sender, given) = watch::channel((membership == Membership::Alone).then_some(1));
        if membership == Membership::Group {
            let member = broker.member(GROUP, instance)?;
            member.join(&[Topic::Actions])?;
            tokio::spawn(wait_for_turns(member, sender, shutdown));
        }
        Ok(Self { given, used: 0 })
    }

    /// Returns when it is this actuator's turn; each is used once.
    pub(super) async fn comes(&mut self) {
        let used = self.used;
        match self.given.wait_for(|given| given.is_some_and(|turn| turn > used)).await.map(|given| *given) {
            Ok(given) => self.used = given.unwrap_or(used),
            // No turn will be given any more.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Who has the first partition has the turn.
async fn wait_for_turns(member: Consumer, given: watch::Sender<Option<u64>>, shutdown: CancellationToken) {
    let mut turns = 0;
    loop {
        let polled = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            polled = member.poll(1_000, POLL) => polled,
        };
        let changes = polled.and_then(|_| member.changes());
        let changes = match changes {
            Ok(changes) => changes,
            Err(error) => {
                tracing::error!(%error, "no turn will be given to this actuator any more");
                return;
            }
        };
        for change in changes {
            let Change::Given(parts) = change else {
                given.send_replace(None);
                continue;
            };
            let behind: Vec<_> = parts.iter().map(|(topic, number)| (*topic, *number, Start::Latest)).collect();
            if let Err(error) = member.assign(&behind).await {
                tracing::warn!(%error, "the group's partitions are not taken");
            }
            turns += 1;
            given.send_replace(parts.contains(&(Topic::Actions, 0)).then_some(turns));
        }
    }
}

/// Answers for an actuator that stands by, until its turn comes; false at the shutdown.
pub(super) async fn stand_by(
    turn: &mut Turn,
    commands: &mut mpsc::Receiver<Command>,
    shutdown: &CancellationToken,
    why: &str,
) -> bool {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return false,
            () = turn.comes() => return true,
            Some(command) = commands.recv() => {
                let message = format!("this actuator stands by: {why}; ask that one. A pause is taken here as well");
                command.refuse(&Status::failed_precondition(message));
            }
        }
    }
}

/// A name for the record: the one that was given, or the machine's, told apart from all others.
pub(super) fn holder(instance: Option<&str>) -> String {
    let machine = std::env::var("HOSTNAME").unwrap_or_else(|_| "headroom".to_owned());
    let name = instance.unwrap_or(&machine);
    let mark = RandomState::new().build_hasher().finish() & 0xffff_ffff;
    format!("{name}-{mark:08x}")
}
