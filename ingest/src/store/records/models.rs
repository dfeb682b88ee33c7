//! Model versions as rows.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use headroom_ingest_lake::Table;
use headroom_proto::v1::Model;
use serde::Serialize;

use super::{count, required, row, text};

#[derive(Serialize)]
struct ModelRow<'a> {
    model_version: &'a str,
    workload: &'a str,
    family: Option<&'a str>,
    trained_at: i64,
    train_from: i64,
    train_to: i64,
    train_steps: i64,
    train_signals: i64,
    train_outcomes: i64,
    table_versions: BTreeMap<&'a str, i64>,
    feature_schema_hash: Option<&'a str>,
    code_version: Option<&'a str>,
    parameters_json: Option<&'a str>,
    scores: BTreeMap<&'a str, f64>,
    parent: Option<&'a str>,
    reason: Option<&'a str>,
    champion: bool,
}

pub(super) fn model_row(model: &Model) -> Result<RecordBatch, String> {
    row(
        Table::Models,
        &ModelRow {
            model_version: required("model_version", &model.model_version)?,
            workload: required("workload", &model.workload)?,
            family: text(&model.family),
            trained_at: model.trained_at_us,
            train_from: model.train_from_us,
            train_to: model.train_to_us,
            train_steps: count(model.train_steps),
            train_signals: count(model.train_signals),
            train_outcomes: count(model.train_outcomes),
            table_versions: model.table_versions.iter().map(|(name, version)| (name.as_str(), *version)).collect(),
            feature_schema_hash: text(&model.feature_schema_hash),
            code_version: text(&model.code_version),
            parameters_json: text(&model.parameters_json),
            scores: model.scores.iter().map(|(name, score)| (name.as_str(), *score)).collect(),
            parent: text(&model.parent),
            reason: text(&model.reason),
            champion: model.champion,
        },
    )
}
