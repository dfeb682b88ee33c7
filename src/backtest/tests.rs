use std::path::Path;

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    args: BacktestArgs,
}

fn args(folder: &Path, more: &[&str]) -> BacktestArgs {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut words =
        vec!["backtest".to_owned(), "--data".to_owned(), file("load.csv"), "--signals".to_owned(), file("signals.csv")];
    words.extend(["--step", "1h", "--lead-time", "1h"].map(str::to_owned));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    Command::try_parse_from(words).expect("legal arguments").args
}

/// Twelve days of hours with a daily rhythm, and an evening event every other day from the fifth on.
fn write_history(folder: &Path) {
    let start = EventTime::parse("2026-03-01").expect("a date");
    let (mut load, mut signals) = (
        "ts,value\n".to_owned(),
        "event_id,kind,announced_at,starts_at,ends_at,expected_reach,weight,audience,name\n".to_owned(),
    );
    for hour in 0..12 * 24 {
        let (day, of_day) = (hour / 24, hour % 24);
        let is_event = day >= 4 && day % 2 == 0 && (18..20).contains(&of_day);
        let rhythm = 100 + 20 * (of_day - 12_i64).abs();
        load.push_str(&format!("{},{}\n", start + Span::from_hours(hour), if is_event { 3 * rhythm } else { rhythm }));
        if is_event && of_day == 18 {
            let begin = start + Span::from_hours(hour);
            signals.push_str(&format!("e{day},match,2026-02-01,{begin},{},,,,Match\n", begin + Span::from_hours(2)));
        }
    }
    std::fs::write(folder.join("load.csv"), load).expect("writes");
    std::fs::write(folder.join("signals.csv"), signals).expect("writes");
}

fn findings(args: &BacktestArgs) -> anyhow::Result<Findings> {
    let signals = csv_signals::read(args.signals.as_deref().expect("given"))?;
    let series = series::read(&args.data, &args.columns()?, args.step)?;
    Ok(study::study(args, &series, &signals)?.0)
}

#[test]
fn the_findings_have_the_shape_that_programs_expect() {
    let folder = tempfile::tempdir().expect("a folder");
    write_history(folder.path());
    let found = findings(&args(folder.path(), &["--score-from", "2026-03-10"])).expect("studies");
    let json = serde_json::to_value(&found).expect("JSON");
    assert_eq!(json.as_object().expect("an object").len(), 2);
    let policies = json["policies"].as_array().expect("a list");
    for policy in policies {
        assert_eq!(policy.as_object().expect("an object").len(), 4);
        for number in ["violation_minutes", "unit_hours", "cost_vs_oracle"] {
            assert!(policy[number].is_number(), "{number} of {policy}");
        }
    }
    assert_eq!(policies.last().expect("the oracle")["policy"], "oracle");
    let models = json["models"].as_array().expect("a list");
    let names: Vec<_> = models.iter().filter_map(|model| model["model"].as_str()).collect();
    for expected in ["headroom", "seasonal-naive", "augurs-mstl-ets"] {
        assert!(names.contains(&expected), "{expected} in {names:?}");
    }
    for score in [
        "wql",
        "event_wql",
        "wape",
        "event_wape",
        "mase",
        "coverage_80",
        "coverage_95",
        "event_coverage_80",
        "event_coverage_95",
    ] {
        assert!(models[0][score].is_number(), "{score} of {}", models[0]);
    }
    let table = found.to_string();
    assert!(
        table.contains("violation minutes") && table.contains("event wQL") && table.contains("headroom p90"),
        "{table}"
    );
}

#[test]
fn mistakes_are_told_with_a_way_to_mend_them() {
    let folder = tempfile::tempdir().expect("a folder");
    write_history(folder.path());
    for (more, expected) in [
        (&["--score-from", "2026-03-02"][..], "choose 2026-03-08"),
        (&["--score-from", "2027-01-01"], "2026-03-13"),
        (&["--value-column", "load"], "--value-column"),
    ] {
        let error = findings(&args(folder.path(), more)).expect_err(expected);
        assert!(error.is::<UserError>() && error.to_string().contains(expected), "{error}");
    }
    for (more, expected) in [
        (&["--step", "0s"][..], "--step"),
        (&["--horizon", "1m"], "--horizon"),
        (&["--lead-time", "25h"], "--lead-time"),
        (&["--violation-at", "1.5"], "--violation-at"),
        (&["--unit-capacity=-1"], "--unit-capacity"),
    ] {
        let parsed = Command::try_parse_from(["backtest", "--data", "x"].iter().chain(more)).expect("legal words").args;
        assert!(parsed.problems().join("; ").contains(expected), "{expected}: {:?}", parsed.problems());
    }
}

#[test]
fn forecasts_are_written_for_the_origins_that_are_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    write_history(folder.path());
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (written, origins) = (place("forecasts.parquet"), place("origins"));
    std::fs::write(&origins, "2026-03-10T00:00:00Z\n\n2026-03-11\n").expect("writes");
    let more = ["--score-from", "2026-03-10", "--forecasts", &written, "--origins", &origins, "--horizon", "6h"];
    let found = findings(&args(folder.path(), &more)).expect("studies");
    assert!(!found.models.is_empty());
    let file = std::fs::File::open(&written).expect("written");
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100_000).expect("Parquet");
    let batches = reader.collect::<Result<Vec<_>, _>>().expect("reads");
    let rows: usize = batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
    let levels = rows / (2 * 6);
    assert!(levels >= 10 && rows == 2 * 6 * levels, "{rows} rows");
    let names: Vec<_> = batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["workload", "origin", "ts", "level", "value"]);

    std::fs::write(&origins, "2026-03-10\nsoon\n").expect("writes");
    let error = findings(&args(folder.path(), &more)).expect_err("refused").to_string();
    assert!(error.contains("--origins") && error.contains("line 2"), "{error}");
    let nowhere = place("missing/forecasts.parquet");
    let error = findings(&args(folder.path(), &["--forecasts", &nowhere])).expect_err("refused").to_string();
    assert!(error.contains("--forecasts") && error.contains("missing"), "{error}");
}
