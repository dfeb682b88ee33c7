//! What the store counts. Records read = stored + set aside.

use headroom_ingest_lake::Table;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Of {
    table: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Aside {
    table: &'static str,
    reason: &'static str,
}

/// Why a record was not stored.
pub(super) const REPEAT: &str = "repeat";
/// See [`REPEAT`].
pub(super) const THINNED: &str = "thinned";
/// See [`REPEAT`].
pub(super) const DEAD: &str = "dead";

#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    read: Family<Of, Counter>,
    stored: Family<Of, Counter>,
    aside: Family<Aside, Counter>,
    rows: Family<Of, Counter>,
    commits: Family<Of, Counter>,
    compactions: Family<Of, Counter>,
    rewritten: Family<Of, Counter>,
    expired: Family<Of, Counter>,
    vacuumed: Family<Of, Counter>,
    pub(super) upkeep_failures: Counter,
    lost: Family<Of, Counter>,
    pub(super) buffered_bytes: Gauge,
}

impl Ledger {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let ledger = Self::default();
        for (name, help, family) in [
            ("headroom_store_read_records", "records read from the topics", &ledger.read),
            ("headroom_store_stored_records", "records whose rows are in the lake", &ledger.stored),
            ("headroom_store_rows", "rows committed", &ledger.rows),
            ("headroom_store_commits", "commits", &ledger.commits),
            ("headroom_store_compactions", "compactions of small files", &ledger.compactions),
            ("headroom_store_rewritten_bytes", "bytes of small files that were joined", &ledger.rewritten),
            ("headroom_store_expired_files", "files of days past their retention", &ledger.expired),
            ("headroom_store_vacuumed_files", "files removed from storage", &ledger.vacuumed),
            ("headroom_store_lost_records", "records that the topic let go before they were read", &ledger.lost),
        ] {
            registry.register(name, help, family.clone());
        }
        let help = "upkeep of a table that failed, to be tried again";
        registry.register("headroom_store_upkeep_failures", help, ledger.upkeep_failures.clone());
        let help = "records set aside: repeats, thinned forecasts, dead letters";
        registry.register("headroom_store_aside_records", help, ledger.aside.clone());
        registry.register("headroom_store_buffered_bytes", "rows waiting for a commit", ledger.buffered_bytes.clone());
        ledger
    }

    pub(super) fn read(&self, table: Table) {
        self.read.get_or_create(&of(table)).inc();
    }

    pub(super) fn stored(&self, table: Table) {
        self.stored.get_or_create(&of(table)).inc();
    }

    pub(super) fn aside(&self, table: Table, reason: &'static str) {
        self.aside.get_or_create(&Aside { table: table.name(), reason }).inc();
    }

    pub(super) fn committed(&self, table: Table, rows: u64) {
        self.commits.get_or_create(&of(table)).inc();
        self.rows.get_or_create(&of(table)).inc_by(rows);
    }

    pub(super) fn compacted(&self, table: Table, bytes: u64) {
        self.compactions.get_or_create(&of(table)).inc();
        self.rewritten.get_or_create(&of(table)).inc_by(bytes);
    }

    pub(super) fn expired(&self, table: Table, files: u64) {
        self.expired.get_or_create(&of(table)).inc_by(files);
    }

    pub(super) fn vacuumed(&self, table: Table, files: u64) {
        self.vacuumed.get_or_create(&of(table)).inc_by(files);
    }

    pub(super) fn lost(&self, table: Table, records: u64) {
        self.lost.get_or_create(&of(table)).inc_by(records);
    }
}

fn of(table: Table) -> Of {
    Of { table: table.name() }
}
