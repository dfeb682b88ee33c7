//! Models as files: what one workload's engine has learned, for another environment.

use std::collections::BTreeMap;
use std::path::Path;

use headroom_models::{Engine, EngineConfig};

use crate::frames::Sources;
use crate::service::fingerprint;
use crate::snapshot::{Found, SnapshotFolder, sha256};
use crate::{ForecasterConfig, ForecasterError};

const MAGIC: &str = "headroom-model ";
/// Files of the version before have no line of sources.
const BEFORE: &str = "1";
const VERSION: &str = "2";
const SUFFIX: &str = "model";

/// A model that was learned elsewhere.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// What was learned.
    pub engine: Engine,
    /// The versions of tables that it was learned from; none of one that was taken out of a running forecaster, or
    /// learned from a file.
    pub sources: Option<Sources>,
}

/// A model file: a line that tells its kind and the SHA-256 of what follows, a line with its sources as JSON, and the body.
///
/// # Errors
/// When it cannot be encoded.
pub fn encode(engine: &Engine, from: &str, sources: Option<&Sources>) -> Result<Vec<u8>, ForecasterError> {
    let body = postcard::to_stdvec(&engine.artefact(from)).map_err(|error| model_error("writing it", &error))?;
    let sources = serde_json::to_string(&sources).map_err(|error| model_error("writing its sources", &error))?;
    let rest = [format!("{sources}\n").into_bytes(), body].concat();
    Ok([format!("{MAGIC}{VERSION} {}\n", sha256(&rest)).into_bytes(), rest].concat())
}

/// An engine that starts from a model file, and what it was learned from.
///
/// # Errors
/// When it is not one, or is damaged.
pub fn decode(bytes: &[u8]) -> Result<ModelFile, ForecasterError> {
    let refused = |problem: &str| ForecasterError::Config(format!("not a model file: {problem}"));
    let (first, rest) = line_of(bytes).ok_or_else(|| refused("it has no first line"))?;
    let first = std::str::from_utf8(first).ok().and_then(|first| first.strip_prefix(MAGIC));
    let (version, sum) =
        first.and_then(|first| first.split_once(' ')).ok_or_else(|| refused("it is of another kind"))?;
    if version != BEFORE && version != VERSION {
        return Err(refused(&format!("it is of version {version}, this headroom knows {BEFORE} and {VERSION}")));
    }
    if sum != sha256(rest) {
        return Err(refused("its checksum is wrong"));
    }
    let (sources, body) = match version {
        BEFORE => (None, rest),
        _ => {
            let (sources, body) = line_of(rest).ok_or_else(|| refused("it has no line of sources"))?;
            (serde_json::from_slice(sources).map_err(|error| model_error("reading its sources", &error))?, body)
        }
    };
    let engine = postcard::from_bytes(body).map_err(|error| model_error("reading it", &error))?;
    Ok(ModelFile { engine, sources })
}

fn line_of(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
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
            encode(&engine, from, None)
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
        let ModelFile { engine, sources } = decode(&bytes).map_err(|error| refused(format!("{workload}: {error}")))?;
        if let Some(sources) = sources {
            tracing::info!(workload, %sources, "a model that was learned elsewhere");
        }
        let of = |config: &EngineConfig| (config.step_us, config.horizon_steps, config.levels.clone());
        if of(engine.config()) != of(wanted) {
            return Err(refused(format!("{workload}: its step, horizon or levels are not those of this forecaster")));
        }
        models.insert(workload.to_owned(), engine);
    }
    Ok(models)
}

fn model_error(doing: &str, error: &impl std::fmt::Display) -> ForecasterError {
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
        let bytes = encode(&home.state().engine("shop").expect("known"), "home", None).expect("writes");
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

    #[test]
    fn a_model_file_names_the_versions_of_tables_and_older_files_are_read() {
        let engine = Engine::try_new(config().engine().expect("legal")).expect("legal");
        let sources = Sources {
            table_versions: BTreeMap::from([("windows".to_owned(), 12), ("signals".to_owned(), 5)]),
            feature: "requests_per_s".to_owned(),
            workloads: vec!["shop".to_owned()],
            step: headroom_proto::Span::from_mins(5),
            code_version: "0.1.0".to_owned(),
        };
        let file = decode(&encode(&engine, "home", Some(&sources)).expect("writes")).expect("reads");
        assert_eq!(file.sources, Some(sources.clone()));
        assert_eq!(sources.to_string(), "requests_per_s by 5m from signals@5 and windows@12, headroom 0.1.0");
        let body = postcard::to_stdvec(&engine.artefact("home")).expect("writes");
        let older = [format!("headroom-model 1 {}\n", sha256(&body)).into_bytes(), body.clone()].concat();
        assert_eq!(decode(&older).expect("reads").sources, None);
        let newer = [format!("headroom-model 3 {}\n", sha256(&body)).into_bytes(), body].concat();
        assert!(decode(&newer).expect_err("of another program").to_string().contains("version 3"));
    }
}
