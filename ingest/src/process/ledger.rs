//! What became of every row, for each shard and epoch:
//! open_before + read = emitted + corrected + late + dead + filtered + open_after.

use std::collections::BTreeMap;

use headroom_proto::v1::LedgerEntry;
use headroom_proto::{EventTime, Span};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The sums of all shards since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) read: Counter,
    pub(crate) emitted: Counter,
    corrected: Counter,
    pub(crate) late: Counter,
    pub(crate) dead: Counter,
    pub(crate) filtered: Counter,
    windows: Counter,
    pub(crate) checkpoints: Counter,
    pub(crate) overtaken: Counter,
}

/// The count of one shard.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Since the last checkpoint.
    epoch: LedgerEntry,
    /// Rows in open panes, by the start of their pane.
    open: BTreeMap<i64, u64>,
}

impl Totals {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let totals = Self::default();
        for (name, help, counter) in [
            ("headroom_process_read_rows", "telemetry rows read", &totals.read),
            ("headroom_process_emitted_rows", "rows in windows that were emitted", &totals.emitted),
            ("headroom_process_corrected_rows", "late rows that corrected their window", &totals.corrected),
            ("headroom_process_late_rows", "rows that came after their window had closed", &totals.late),
            ("headroom_process_dead_rows", "rows set aside: unreadable or too far in the future", &totals.dead),
            ("headroom_process_filtered_rows", "rows that no feature query reads", &totals.filtered),
            ("headroom_process_windows", "closed windows written", &totals.windows),
            ("headroom_process_checkpoints", "checkpoints written", &totals.checkpoints),
            ("headroom_process_overtaken", "checkpoints that another processor had overtaken", &totals.overtaken),
        ] {
            registry.register(name, help, counter.clone());
        }
        totals
    }

    /// Adds an epoch that is in a checkpoint.
    pub(crate) fn add(&self, entry: &LedgerEntry) {
        self.read.inc_by(entry.read);
        self.emitted.inc_by(entry.emitted);
        self.corrected.inc_by(entry.corrected);
        self.late.inc_by(entry.late);
        self.dead.inc_by(entry.dead);
        self.filtered.inc_by(entry.filtered);
        self.windows.inc_by(entry.windows);
    }
}

impl Tally {
    /// Goes on from a checkpoint's open rows.
    pub(crate) fn new(open: impl IntoIterator<Item = (i64, u64)>) -> Self {
        let open: BTreeMap<i64, u64> = open.into_iter().collect();
        let epoch = LedgerEntry { open_before: open.values().sum(), ..LedgerEntry::default() };
        Self { epoch, open }
    }

    /// Rows that were read, whatever becomes of them.
    pub(crate) fn read(&mut self, rows: usize) {
        self.epoch.read += wide(rows);
    }

    pub(crate) fn corrected(&mut self, rows: usize) {
        self.epoch.corrected += wide(rows);
    }

    pub(crate) fn late(&mut self, rows: usize) {
        self.epoch.late += wide(rows);
    }

    pub(crate) fn dead(&mut self, rows: usize) {
        self.epoch.dead += wide(rows);
    }

    pub(crate) fn filtered(&mut self, rows: usize) {
        self.epoch.filtered += wide(rows);
    }

    pub(crate) fn windows(&mut self, windows: usize) {
        self.epoch.windows += wide(windows);
    }

    /// Rows with these event times, in microseconds, are in their panes.
    pub(crate) fn opened(&mut self, times: &[i64], pane: Span) {
        let pane = pane.micros().max(1);
        let mut times = times.iter().copied().peekable();
        while let Some(first) = times.next() {
            let start = first.div_euclid(pane) * pane;
            let mut rows = 1;
            while times.next_if(|time| (start..start.saturating_add(pane)).contains(time)).is_some() {
                rows += 1;
            }
            *self.open.entry(start).or_default() += rows;
        }
    }

    /// Panes that end at or before the watermark have been emitted.
    pub(crate) fn closed(&mut self, watermark: EventTime, pane: Span) {
        let still_open = self.open.split_off(&watermark.floor(pane).micros());
        let emitted: u64 = std::mem::replace(&mut self.open, still_open).into_values().sum();
        self.epoch.emitted += emitted;
    }

    /// Rows in open panes, by the start of their pane.
    pub(crate) fn open_rows(&self) -> &BTreeMap<i64, u64> {
        &self.open
    }

    /// Ends the epoch; the next begins.
    pub(crate) fn end_epoch(&mut self) -> LedgerEntry {
        let open_after = self.open.values().sum();
        let next = LedgerEntry { open_before: open_after, ..LedgerEntry::default() };
        LedgerEntry { open_after, ..std::mem::replace(&mut self.epoch, next) }
    }
}

fn wide(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}
