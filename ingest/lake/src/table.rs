//! The tables, what they hold and how they are laid out.

use std::fmt;

use arrow::datatypes::SchemaRef;
use headroom_proto::topics::Topic;

use crate::schema;

/// A table of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Closed feature windows, one row for each window, workload and revision; grows a column for each new feature.
    Windows,
    /// Event signals, one row for each revision that was announced.
    Signals,
    /// Forecasts, one row for each workload, origin and step; grows a column for each new quantile.
    Forecasts,
    /// Outlooks, forecasts by the hour for two weeks, one row for each workload, origin and hour.
    Outlooks,
    /// Capacity plans, one row each.
    Plans,
    /// Actions, one row for each move; switches set by people stand between them.
    Actions,
    /// What actions did, one row each.
    Outcomes,
    /// Model versions and where they came from, one row each.
    Models,
    /// What became of the rows of the telemetry, one row for each shard and epoch of the processor.
    Ledger,
    /// What follows from outlooks, one row for each workload, outlook, quantity and step.
    Derived,
    /// Scores of backtests, one row for each model and each policy of a run.
    Backtests,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 11] = [
        Table::Windows,
        Table::Signals,
        Table::Forecasts,
        Table::Outlooks,
        Table::Plans,
        Table::Actions,
        Table::Outcomes,
        Table::Models,
        Table::Ledger,
        Table::Derived,
        Table::Backtests,
    ];

    /// The name in SQL and of the folder.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Table::Windows => "windows",
            Table::Signals => "signals",
            Table::Forecasts => "forecasts",
            Table::Outlooks => "outlooks",
            Table::Plans => "plans",
            Table::Actions => "actions",
            Table::Outcomes => "outcomes",
            Table::Models => "models",
            Table::Ledger => "ledger",
            Table::Derived => "derived",
            Table::Backtests => "backtests",
        }
    }

    /// The topic whose records it keeps; what is derived and backtests are written by who makes them.
    #[must_use]
    pub const fn topic(self) -> Option<Topic> {
        Some(match self {
            Table::Windows => Topic::Windows,
            Table::Signals => Topic::Signals,
            Table::Forecasts => Topic::Forecasts,
            Table::Outlooks => Topic::Outlooks,
            Table::Plans => Topic::Plans,
            Table::Actions => Topic::Actions,
            Table::Outcomes => Topic::Outcomes,
            Table::Models => Topic::Models,
            Table::Ledger => Topic::Ledger,
            Table::Derived | Table::Backtests => return None,
        })
    }

    /// The tables that keep a topic's records, with the topic.
    pub fn of_topics() -> impl Iterator<Item = (Table, Topic)> {
        Table::ALL.into_iter().filter_map(|table| Some((table, table.topic()?)))
    }

    /// The table that keeps a topic's records, when one does.
    #[must_use]
    pub fn of_topic(topic: Topic) -> Option<Table> {
        Table::of_topics().find(|(_, kept)| *kept == topic).map(|(table, _)| table)
    }

    /// The columns that the table always has, in order. Windows, forecasts and outlooks add to them.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        match self {
            Table::Windows => schema::windows(),
            Table::Signals => schema::signals(),
            Table::Forecasts | Table::Outlooks => schema::forecasts(),
            Table::Plans => schema::plans(),
            Table::Actions => schema::actions(),
            Table::Outcomes => schema::outcomes(),
            Table::Models => schema::models(),
            Table::Ledger => schema::ledger(),
            Table::Derived => schema::derived(),
            Table::Backtests => schema::backtests(),
        }
    }

    /// The column of a row's leading time.
    #[must_use]
    pub const fn time_column(self) -> &'static str {
        match self {
            Table::Windows => "window_start",
            Table::Signals => "starts_at",
            Table::Forecasts | Table::Outlooks | Table::Derived => "origin",
            Table::Plans => "decided_at",
            Table::Actions => "at",
            Table::Outcomes => "measured_to",
            Table::Models => "trained_at",
            Table::Ledger => "watermark",
            Table::Backtests => "run_at",
        }
    }

    /// Signals, models and backtests are few and are looked up by id, the others by time.
    pub(crate) const fn partition_columns(self) -> &'static [&'static str] {
        match self {
            Table::Signals | Table::Models | Table::Backtests => &[],
            Table::Windows
            | Table::Forecasts
            | Table::Outlooks
            | Table::Plans
            | Table::Actions
            | Table::Outcomes
            | Table::Ledger
            | Table::Derived => &[schema::DATE],
        }
    }

    /// The columns whose smallest and largest values are kept for each file, so that a query skips files.
    pub(crate) const fn skipping_columns(self) -> &'static [&'static str] {
        match self {
            Table::Windows => &["workload", "window_size_s", "window_start", "window_end"],
            Table::Signals => &["signal_id", "starts_at", "announced_at"],
            Table::Forecasts | Table::Outlooks => &["workload", "origin", "at"],
            Table::Plans => &["workload", "decided_at"],
            Table::Actions => &["workload", "at"],
            Table::Outcomes => &["workload", "measured_from", "measured_to"],
            Table::Models => &["workload", "model_version", "trained_at"],
            Table::Ledger => &["shard", "epoch", "watermark"],
            Table::Derived => &["workload", "quantity", "origin", "at"],
            Table::Backtests => &["run", "run_at"],
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
