//! The topics, their keys and partitions. They are the only bus between stages.

/// A topic of Headroom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Query events, Arrow batches of [`crate::schema::queries`].
    Queries,
    /// Metric samples, Arrow batches of [`crate::schema::metrics`].
    Metrics,
    /// Event signals as CloudEvents, keyed by signal id.
    Signals,
    /// Closed feature windows, self-describing Arrow batches that begin with [`crate::schema::WINDOW_ENVELOPE`].
    Windows,
    /// [`crate::v1::Forecast`], keyed by workload.
    Forecasts,
    /// [`crate::v1::Forecast`] by the hour for two weeks, keyed by workload.
    Outlooks,
    /// [`crate::v1::Model`], keyed by workload.
    Models,
    /// [`crate::v1::Plan`], keyed by workload.
    Plans,
    /// [`crate::v1::ActionRecord`] and [`crate::v1::Switch`], keyed by workload.
    Actions,
    /// [`crate::v1::Outcome`], keyed by workload.
    Outcomes,
    /// [`crate::v1::LogCheckpoint`], keyed by log: signed checkpoints of the record of plans, actions and outcomes.
    Checkpoints,
    /// [`crate::v1::LedgerEntry`], keyed by shard: what became of every row of the telemetry.
    Ledger,
    /// Rows that came after their window had closed, as Arrow batches of their own schema.
    Late,
    /// What could not be read: the original bytes, with reason and origin in headers.
    DeadLetter,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 14] = [
        Topic::Queries,
        Topic::Metrics,
        Topic::Signals,
        Topic::Windows,
        Topic::Forecasts,
        Topic::Outlooks,
        Topic::Models,
        Topic::Plans,
        Topic::Actions,
        Topic::Outcomes,
        Topic::Checkpoints,
        Topic::Ledger,
        Topic::Late,
        Topic::DeadLetter,
    ];

    /// The name on the broker.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Topic::Queries => "headroom.telemetry.queries",
            Topic::Metrics => "headroom.telemetry.metrics",
            Topic::Signals => "headroom.signals",
            Topic::Windows => "headroom.windows",
            Topic::Forecasts => "headroom.forecasts",
            Topic::Outlooks => "headroom.outlooks",
            Topic::Models => "headroom.models",
            Topic::Plans => "headroom.plans",
            Topic::Actions => "headroom.actions",
            Topic::Outcomes => "headroom.outcomes",
            Topic::Checkpoints => "headroom.checkpoints",
            Topic::Ledger => "headroom.ledger",
            Topic::Late => "headroom.late",
            Topic::DeadLetter => "headroom.dead-letter",
        }
    }

    /// The topic of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Does the topic scale by partitions? Those that do not have one partition, so that one reader sees one order.
    #[must_use]
    pub const fn is_partitioned(self) -> bool {
        !matches!(self, Topic::Signals | Topic::Checkpoints | Topic::DeadLetter | Topic::Late)
    }
}
