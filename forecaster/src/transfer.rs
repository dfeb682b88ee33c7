//! Models as files: what one workload's engine has learned, for another environment.

use std::collections::BTreeMap;
use std::path::Path;

use headroom_models::{Engine, EngineConfig};

use crate::service::fingerprint;
use crate::snapshot::{Found, SnapshotFolder, sha256};
use crate::{ForecasterConfig, ForecasterError};

const MAGIC: &str = "headroom-model 1";
const SUFFIX: &str = "model";

/// A model file: a line that tells its kind and its body's SHA-256, and the body.
///
/// # Errors
/// When it cannot be encoded.
pub fn encode(engine: &Engine, from: &str) -> Result<Vec<u8>, ForecasterError> {
    let body = postcard::to_stdvec(&engine.artefact(from)).map_err(|error| model_error("writing it", &error))?;
    Ok([format!("{MAGIC} {}\n", sha256(&body)).into_bytes(), body].concat())
}

/// An engine that starts from a model file.
///
/// # Errors
/// When it is not one, or is damaged.
pub fn decode(bytes: &[u8]) -> Result<Engine, ForecasterError> {
    let refused = |problem: &str| ForecasterError::Config(format!("not a model file: {problem}"));
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| refused("it has no first line"))?;
    let (first, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let sum = std::str::from_utf8(first).ok().and_then(|first| first.strip_prefix(MAGIC));
    if sum.ok_or_else(|| refused("it is of another kind"))?.trim() != sha256(body) {
        return Err(refused("its checksum is wrong"));
    }
    postcard::from_bytes(body).map_err(|error| model_error("reading it", &error))
}

/// The model of a workload out of the state of a forecaster that does not run, as a file.
///
/// # Errors
/// When there is no such state, of this configuration and build, or no such workload in it.
pub fn export(
    config: &ForecasterConfig,
    state_dir: &Path,
    workload: &str,
    from: &str,
) -> Result<Vec<u8>, ForecasterError> {
    let refused = |problem: String| ForecasterError::Config(format!("{}: {problem}", state_dir.display()));
    match SnapshotFolder::new(state_dir.to_owned(), fingerprint(config)?).read() {
        Found::State(state) => {
            let engine = state.engine(workload).ok_or_else(|| refused(format!("no workload `{workload}`")))?;
            encode(&engine, from)
        }
        Found::Nothing => Err(refused("no forecaster has kept its state here".to_owned())),
        Found::Refused(reason) => Err(refused(reason)),
    }
}

/// The models in a folder, by workload; those of other steps or horizons cannot be used.
///
/// # Errors
/// When the folder or a file cannot be read, or a model does not fit.
pub(crate) fn read_folder(folder: &Path, wanted: &EngineConfig) -> Result<BTreeMap<String, Engine>, ForecasterError> {
    let refused = |problem: String| ForecasterError::Config(format!("adopt {}: {problem}", folder.display()));
    let mut models = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|error| refused(error.to_string()))? {
        let path = entry.map_err(|error| refused(error.to_string()))?.path();
        let Some(workload) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        if path.extension().is_none_or(|suffix| suffix != SUFFIX) {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(|error| refused(format!("{workload}: {error}")))?;
        let engine = decode(&bytes).map_err(|error| refused(format!("{workload}: {error}")))?;
        let of = |config: &EngineConfig| (config.step_us, config.horizon_steps, config.levels.clone());
        if of(engine.config()) != of(wanted) {
            return Err(refused(format!("{workload}: its step, horizon or levels are not those of this forecaster")));
        }
        models.insert(workload.to_owned(), engine);
    }
    Ok(models)
}

fn model_error(doing: &str, error: &postcard::Error) -> ForecasterError {
    ForecasterError::Config(format!("a model file, {doing}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DAY_US, Row, config, days, handle, learners, window_records};
    use headroom_proto::v1::{Forecast, Verdict};

    fn later(rows: &[Row], workload: &str, from: usize, count: usize) -> Vec<Row> {
        let moved = |row: &Row| Row { workload: workload.to_owned(), ..row.clone() };
        rows.iter().skip(from).take(count).map(moved).collect()
    }

    #[test]
    fn a_new_workload_goes_by_the_others_until_it_has_history_and_drives_nothing() {
        let rows = days(9);
        let mut learners = learners(&config());
        handle(&mut learners, Vec::new(), window_records(&rows, 1), 0);
        let young = later(&rows, "young", rows.len() - 200, 200);
        // Its windows come behind those of the others.
        let shifted: Vec<Row> = young.into_iter().map(|row| Row { end_us: row.end_us + DAY_US, ..row }).collect();
        let turn = handle(&mut learners, Vec::new(), window_records(&shifted, 10_000), 10_000);
        let of_young: Vec<&Forecast> = turn.forecasts.iter().filter(|one| one.workload == "young").collect();
        let (first, last) = (of_young[0], of_young[of_young.len() - 1]);
        assert!(first.values.is_empty(), "one step tells no level");
        assert_eq!((last.verdict(), last.basis.as_str()), (Verdict::Abstain, "pooled over 1 workloads"));
        assert!(last.verdict_reason.contains("less than 168 hours of history"), "{}", last.verdict_reason);
        assert_eq!(last.values.len(), 24 * 3);
        let off = (f64::from(last.values[1]) / shifted[shifted.len() - 1].value.expect("a value") - 1.0).abs();
        assert!(off < 0.25, "{off}: {:?}", last.values);
    }

    #[test]
    fn a_model_file_is_adopted_and_measured_first() {
        let rows = days(12);
        let mut home = learners(&config());
        handle(&mut home, Vec::new(), window_records(&rows, 1), 0);
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = encode(&home.state().engine("shop").expect("known"), "home").expect("writes");
        std::fs::write(folder.path().join("shop.model"), &bytes).expect("writes");
        let settings = config();
        let engine = Engine::try_new(settings.engine().expect("legal")).expect("legal");
        let adopted = read_folder(folder.path(), engine.config()).expect("reads");
        let mut there = learners(&settings).adopting(adopted);
        let turn = handle(&mut there, Vec::new(), window_records(&later(&rows, "shop", 0, 900), 1), 0);
        let verdict_at = |hour: usize| {
            let forecast = &turn.forecasts[hour * 12];
            (forecast.verdict(), forecast.verdict_reason.clone(), forecast.basis.clone())
        };
        assert_eq!(verdict_at(12).0, Verdict::Abstain);
        let (verdict, reason, basis) = verdict_at(30);
        assert!(
            verdict == Verdict::Abstain && reason.contains("of 24 hours") && basis == "moved from home",
            "{reason}"
        );
        let (verdict, reason, _) = verdict_at(60);
        assert!(verdict == Verdict::Suspect && reason.contains("times that at home"), "{reason}");

        let mut other = settings.clone();
        other.horizon = headroom_proto::Span::from_hours(3);
        let error = read_folder(folder.path(), &other.engine().expect("legal")).expect_err("another horizon");
        assert!(error.to_string().contains("shop") && error.to_string().contains("horizon"), "{error}");
        assert!(decode(&bytes[..bytes.len() - 1]).is_err() && decode(b"nonsense\n").is_err());
    }
}
