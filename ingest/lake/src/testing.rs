//! Rows and questions for the tests of the lake.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};

use crate::{Commit, Lake, QueryLimits, Table, date_of};

pub(crate) const DAY_US: i64 = 86_400_000_000;
pub(crate) const MINUTE_US: i64 = 60_000_000;
pub(crate) const MINUTES_PER_DAY: i64 = DAY_US / MINUTE_US;

/// One minute windows from minute `first` on, with a feature column of that name.
pub(crate) fn windows(first: i64, count: i64, feature: &str) -> RecordBatch {
    let rows = usize::try_from(count).expect("small");
    let starts: Vec<i64> = (first..first + count).map(|minute| minute * MINUTE_US).collect();
    let ends: Vec<i64> = starts.iter().map(|start| start + MINUTE_US).collect();
    let dates: Vec<i32> = starts.iter().map(|start| date_of(*start)).collect();
    let mut fields: Vec<Field> = Table::Windows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(feature, DataType::Float64, true));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Date32Array::from(dates)),
        Arc::new(StringArray::from(vec!["load"; rows])),
        Arc::new(Int32Array::from(vec![60; rows])),
        Arc::new(TimestampMicrosecondArray::from(starts).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(ends).with_timezone("UTC")),
        Arc::new(StringArray::from(vec!["shop"; rows])),
        Arc::new(Int32Array::from(vec![0; rows])),
        Arc::new(BooleanArray::from(vec![true; rows])),
        Arc::new(Float64Array::from((first..first + count).map(|n| n as f64).collect::<Vec<_>>())),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit the schema")
}

pub(crate) fn at<const N: usize>(positions: [(&str, i64); N]) -> Commit {
    Commit { positions: positions.into_iter().map(|(id, position)| (id.to_owned(), position)).collect() }
}

/// The answer's numbers, row by row.
pub(crate) async fn answer(lake: &Lake, sql: &str) -> Vec<i64> {
    let batches = lake.query(sql, &QueryLimits::default()).await.expect(sql).collect().await.expect(sql);
    let mut numbers = Vec::new();
    for batch in &batches {
        let cast = |column: &ArrayRef| arrow::compute::cast(column, &DataType::Int64).expect("numbers");
        let columns: Vec<ArrayRef> = batch.columns().iter().map(cast).collect();
        for row in 0..batch.num_rows() {
            for column in &columns {
                numbers.push(column.as_any().downcast_ref::<Int64Array>().expect("cast").value(row));
            }
        }
    }
    numbers
}

/// Every row of the windows, as text.
pub(crate) async fn all_windows(lake: &Lake) -> String {
    let sql = "SELECT * FROM windows ORDER BY window_start";
    let batches = lake.query(sql, &QueryLimits::default()).await.expect(sql).collect().await.expect(sql);
    arrow::util::pretty::pretty_format_batches(&batches).expect("formats").to_string()
}
