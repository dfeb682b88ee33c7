use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const TEXT: &str = "ts,value,gap\n1998-06-10 15:30:00,12,0\n1998-06-10T17:31:00+02:00,,0\n1998-06-10 15:32:00,7,1\n\
                    1998-06-10 15:33:00,NaN,0\n1998-06-10 15:34:00,many,0\n\"1998-06-10 15:35:00,1,0\nsoon,1,0\n\
                    1998-06-10 15:36:00,2.5\n\n1998-06-10 15:37:00,2.5,0\n";

fn columns() -> TraceColumns {
    TraceColumns {
        time: "ts".to_owned(),
        value: "value".to_owned(),
        workload: None,
        default_workload: WorkloadId::try_new("shop").expect("legal"),
    }
}

fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("writes");
    path
}

fn rows(path: &Path, columns: &TraceColumns) -> Vec<Row> {
    TraceReader::open(path, columns).expect("opens").collect::<Result<_, _>>().expect("reads")
}

/// Each row in one word, with the message of those that are rejected.
fn words(rows: &[Row]) -> Vec<String> {
    let time = |time: EventTime| time.to_string().get(11..16).unwrap_or_default().to_owned();
    let word = |row: &Row| match &row.entry {
        Entry::Sample(sample) => format!("{}={}@{}", sample.workload, sample.value, time(sample.time)),
        Entry::Gap(at) => format!("gap@{}", time(*at)),
        Entry::Rejected(rejected) => {
            format!("{} {} <{}>", rejected.error.place, rejected.error.column, rejected.error.found)
        }
    };
    rows.iter().map(word).collect()
}

#[test]
fn plain_and_gzip_csv_read_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = file(&folder, "load.csv", TEXT.as_bytes());
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(TEXT.as_bytes()).expect("compresses");
    let gzip = file(&folder, "load.gz", &gzip.finish().expect("compresses"));
    let expected = [
        "shop=12@15:30",
        "gap@15:31",
        "gap@15:32",
        "gap@15:33",
        "line 6 value <many>",
        "line 7 ts <1998-06-10 15:35:00,1,0>",
        "line 8 ts <soon>",
        "line 9 ts <1998-06-10 15:36:00,2.5>",
        "shop=2.5@15:37",
    ];
    assert_eq!(words(&rows(&plain, &columns())), expected);
    assert_eq!(words(&rows(&gzip, &columns())), expected);
    assert_eq!(count_rows(&gzip).expect("counts"), 9);
    let Entry::Rejected(rejected) = &rows(&plain, &columns())[5].entry else { panic!("a stray quote") };
    assert_eq!(rejected.raw, "\"1998-06-10 15:35:00,1,0");
}

#[test]
fn parquet_reads_timestamps_and_texts() {
    let folder = tempfile::tempdir().expect("a folder");
    let millis = [Some(897_492_600_000), None, Some(897_492_720_000), Some(897_492_780_000)];
    let stamps: ArrayRef = Arc::new(TimestampMillisecondArray::from(millis.to_vec()).with_timezone("Europe/Paris"));
    let texts: ArrayRef =
        Arc::new(StringArray::from(vec!["1998-06-10 15:30:00", "", "1998-06-10 15:32:00", "1998-06-10T15:33:00Z"]));
    let values: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), None, Some(4)]));
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("a"), None]));
    for (name, times) in [("stamps", stamps), ("texts", texts)] {
        let path =
            parquet(&folder, name, &[("ts", times), ("value", Arc::clone(&values)), ("who", Arc::clone(&names))]);
        let columns = TraceColumns { workload: Some("who".to_owned()), ..columns() };
        assert_eq!(words(&rows(&path, &columns)), ["a=1@15:30", "row 2 ts <>", "gap@15:32", "row 4 who <>"], "{name}");
        assert_eq!(count_rows(&path).expect("counts"), 4);
    }
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let path = parquet(&folder, "numbers", &[("ts", Arc::clone(&values)), ("value", values)]);
    let error = TraceReader::open(&path, &columns()).expect_err("a number is no time").to_string();
    assert!(error.contains("`ts` holds Float64") && error.contains("timestamp"), "{error}");
}

fn parquet(folder: &tempfile::TempDir, name: &str, columns: &[(&str, ArrayRef)]) -> PathBuf {
    let batch = RecordBatch::try_from_iter(columns.iter().cloned()).expect("columns of one length");
    let path = folder.path().join(name);
    let mut writer = parquet::arrow::ArrowWriter::try_new(File::create(&path).expect("creates"), batch.schema(), None)
        .expect("a writer");
    writer.write(&batch).expect("writes");
    writer.close().expect("closes");
    path
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |path: &Path| TraceReader::open(path, &columns()).expect_err("refused").to_string();
    assert!(open(Path::new("nowhere.csv")).contains("nowhere.csv"));
    assert!(open(folder.path()).contains("directory"));
    let other = open(&file(&folder, "other.csv", b"\xef\xbb\xbftime,load\n1,2\n"));
    assert!(other.contains("`time`, `load`") && other.contains("--time-column"), "{other}");
    assert!(open(&file(&folder, "empty.csv", b"")).contains("found none"));
    assert!(open(&file(&folder, "cut.parquet", b"PAR1 and no more")).contains("Parquet"));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(TEXT.as_bytes()).expect("compresses");
    let mut bytes = gzip.finish().expect("compresses");
    bytes.truncate(bytes.len() - 10);
    let cut = file(&folder, "cut.csv.gz", &bytes);
    let outcome: Result<Vec<_>, _> = TraceReader::open(&cut, &columns()).expect("the header is there").collect();
    assert!(outcome.expect_err("cut short").to_string().contains("cut short"));
}
