//! What a frame or a model was made from.

use std::collections::BTreeMap;
use std::fmt;

use headroom_proto::Span;
use headroom_proto::time::span_text;
use serde::{Deserialize, Serialize};

use super::Loads;
use crate::lineage::CODE_VERSION;

/// The lineage of what was made from tables of the lake. Who reads the same versions again makes the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// The version of each table that was read; a table that nothing had been written to is absent.
    pub table_versions: BTreeMap<String, u64>,
    /// The column of the windows that is the load.
    pub feature: String,
    /// Whose load, in order.
    pub workloads: Vec<String>,
    /// The length of the windows.
    #[serde(with = "span_text")]
    pub step: Span,
    /// The version of the code that made it.
    pub code_version: String,
}

impl Sources {
    /// Those of what this code makes of these loads.
    #[must_use]
    pub fn of(loads: &Loads, feature: &str, table_versions: BTreeMap<String, u64>) -> Self {
        Self {
            table_versions,
            feature: feature.to_owned(),
            workloads: loads.workloads(),
            step: loads.step(),
            code_version: CODE_VERSION.to_owned(),
        }
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: Vec<String> =
            self.table_versions.iter().map(|(table, version)| format!("{table}@{version}")).collect();
        let Self { feature, step, code_version, .. } = self;
        write!(f, "{feature} by {step} from {}, headroom {code_version}", tables.join(" and "))
    }
}
