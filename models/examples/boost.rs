//! Fits boosted quantiles to the rows of one file and predicts those of another, for the comparison in `bench/boost`.
//!
//! `boost TRAIN TEST PREDICTIONS LEVELS SETTINGS`: files of comma-separated numbers below a line of names, the first
//! column the target, the second a weight, an empty cell is missing; levels with commas between; settings as JSON, with
//! `bins` beside those of a fit. Prints the seconds of binning and fitting as JSON.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

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

    let bins = usize::try_from(bins)?;
    let began = Spent::now();
    let matrix = Matrix::try_new(&features, bins)?;
    let fitted = Boosted::fit(&matrix, &target, weights.as_deref(), &levels, &settings)?;
    let spent = Spent::now();
    let values = fitted.predict_all(&test.split_off(2))?;

    let mut out = std::io::BufWriter::new(std::fs::File::create(predictions)?);
    for row in values.chunks_exact(levels.len()) {
        let cells: Vec<String> = row.iter().map(f32::to_string).collect();
        writeln!(out, "{}", cells.join(","))?;
    }
    out.flush()?;
    let report = json!({
        "wall_s": (spent.wall - began.wall).as_secs_f64(), "cpu_s": spent.cpu_s - began.cpu_s, "trees": fitted.trees(),
    });
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

/// The time so far, by the wall and of the processor. The latter is right on a busy machine, too.
struct Spent {
    wall: Instant,
    cpu_s: f64,
}

impl Spent {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures how long the fit takes")]
    fn now() -> Self {
        // Linux tells the nanoseconds on the processor first.
        let schedule = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
        let cpu_ns: f64 = schedule.split(' ').next().unwrap_or_default().parse().unwrap_or(f64::NAN);
        Self { wall: Instant::now(), cpu_s: cpu_ns / 1e9 }
    }
}
