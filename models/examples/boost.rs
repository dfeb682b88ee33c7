//! Fits boosted quantiles to the rows of one file and predicts those of another, for the comparison in `bench/boost`.
//!
//! `boost TRAIN TEST PREDICTIONS LEVELS SETTINGS`: files of comma-separated numbers below a line of names, the first
//! column the target, the second a weight, an empty cell is missing; levels with commas between; settings as JSON, with
//! `bins` beside those of a fit. Prints the seconds taken as JSON.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use headroom_models::boost::{Boosted, Matrix, Settings};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [train, test, predictions, levels, settings] = arguments.as_slice() else {
        return Err("boost TRAIN TEST PREDICTIONS LEVELS SETTINGS".into());
    };
    let mut settings: Value = serde_json::from_str(settings)?;
    let bins = settings.as_object_mut().and_then(|object| object.remove("bins")?.as_u64()).unwrap_or(255);
    let settings: Settings = serde_json::from_value(settings)?;
    let levels = levels.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let mut train = read(Path::new(train))?;
    let mut test = read(Path::new(test))?;
    let features = train.split_off(2);
    let weights = train.pop().ok_or("no weights")?;
    let target = train.pop().ok_or("no target")?;
    let weights = weights.iter().any(|weight| weight.total_cmp(&1.0).is_ne()).then_some(weights);

    let (matrix, bin_s) = timed(|| Matrix::try_new(&features, usize::try_from(bins)?).map_err(Box::<dyn Error>::from))?;
    let (fitted, fit_s) = timed(|| Ok(Boosted::fit(&matrix, &target, weights.as_deref(), &levels, &settings)?))?;
    let (values, predict_s) = timed(|| Ok(fitted.predict_all(&test.split_off(2))?))?;

    let mut out = std::io::BufWriter::new(std::fs::File::create(predictions)?);
    for row in values.chunks_exact(levels.len()) {
        let cells: Vec<String> = row.iter().map(f32::to_string).collect();
        writeln!(out, "{}", cells.join(","))?;
    }
    out.flush()?;
    let report = json!({"bin_s": bin_s, "fit_s": fit_s, "predict_s": predict_s, "trees": fitted.trees()});
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

/// Columns of a file.
fn read(path: &Path) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)?;
    let mut lines = text.lines();
    let mut columns = vec![Vec::new(); lines.next().ok_or("an empty file")?.split(',').count()];
    for line in lines {
        for (column, cell) in columns.iter_mut().zip(line.split(',')) {
            column.push(if cell.is_empty() { f32::NAN } else { cell.parse()? });
        }
    }
    Ok(columns)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures how long the fit takes")]
fn timed<T>(work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<(T, f64), Box<dyn Error>> {
    let began = std::time::Instant::now();
    Ok((work()?, began.elapsed().as_secs_f64()))
}
