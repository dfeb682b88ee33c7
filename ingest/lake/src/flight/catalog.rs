//! What clients ask of the server itself: catalogs, tables, types, and what its SQL can do.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, Nullable, Searchable, SqlInfo,
    XdbcDataType,
};

use crate::{Lake, LakeError, Table, views};

const CATALOG: &str = "datafusion";
const SCHEMA: &str = "public";
const TABLE: &str = "TABLE";
const VIEW: &str = "VIEW";

/// What the server is and can.
pub(super) static INFO: LazyLock<SqlInfoData> = LazyLock::new(|| {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Headroom");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, 0_i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.build().expect("the builder takes these values")
});

/// The SQL types that columns have.
pub(super) static TYPES: LazyLock<XdbcTypeInfoData> = LazyLock::new(|| {
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, kind, size) in [
        ("VARCHAR", XdbcDataType::XdbcVarchar, None),
        ("BIGINT", XdbcDataType::XdbcBigint, Some(64)),
        ("INTEGER", XdbcDataType::XdbcInteger, Some(32)),
        ("DOUBLE", XdbcDataType::XdbcDouble, Some(53)),
        ("TIMESTAMP", XdbcDataType::XdbcTimestamp, Some(6)),
        ("DATE", XdbcDataType::XdbcDate, None),
    ] {
        types.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type: kind,
            column_size: size,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: name == "VARCHAR",
            searchable: Searchable::Full,
            sql_data_type: kind,
            ..XdbcTypeInfo::default()
        });
    }
    types.build().expect("the builder takes these types")
});

/// The columns of an answer about primary keys; the tables have none. From `FlightSql.proto`.
pub(super) static PRIMARY_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str, is_nullable| Field::new(name, DataType::Utf8, is_nullable);
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("key_name", true),
    ]))
});

/// The columns of an answer about foreign keys; the tables have none. From `FlightSql.proto`.
pub(super) static FOREIGN_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: String, is_nullable| Field::new(name, DataType::Utf8, is_nullable);
    let end = |side: &str| {
        [("catalog_name", true), ("db_schema_name", true), ("table_name", false), ("column_name", false)]
            .map(|(name, is_nullable)| text(format!("{side}_{name}"), is_nullable))
    };
    let mut fields = [end("pk"), end("fk")].concat();
    fields.push(Field::new("key_sequence", DataType::Int32, false));
    fields.extend(["fk_key_name", "pk_key_name"].map(|name| text(name.to_owned(), true)));
    fields.extend(["update_rule", "delete_rule"].map(|name| Field::new(name, DataType::UInt8, false)));
    Arc::new(Schema::new(fields))
});

pub(super) fn catalogs(query: CommandGetCatalogs) -> Result<RecordBatch, ArrowError> {
    let mut builder = query.into_builder();
    builder.append(CATALOG);
    built(builder.build())
}

pub(super) fn schemas(query: CommandGetDbSchemas) -> Result<RecordBatch, ArrowError> {
    let mut builder = query.into_builder();
    builder.append(CATALOG, SCHEMA);
    built(builder.build())
}

pub(super) fn table_types(query: CommandGetTableTypes) -> Result<RecordBatch, ArrowError> {
    let mut builder = query.into_builder();
    builder.append(TABLE);
    builder.append(VIEW);
    built(builder.build())
}

/// Tables and views, with their columns where the client wants them.
pub(super) async fn tables(lake: &Lake, query: CommandGetTables) -> Result<RecordBatch, LakeError> {
    let mut builder = query.into_builder();
    let failed = |error: arrow_flight::error::FlightError| LakeError::Sql(error.to_string());
    for table in Table::ALL {
        let schema = lake.schema(table).await?;
        builder.append(CATALOG, SCHEMA, table.name(), TABLE, &schema).map_err(failed)?;
    }
    for view in views::ALL {
        let planned = lake.plan(&format!("SELECT * FROM {}", view.name)).await?;
        builder.append(CATALOG, SCHEMA, view.name, VIEW, &planned.schema).map_err(failed)?;
    }
    builder.build().map_err(failed)
}

fn built(batch: Result<RecordBatch, arrow_flight::error::FlightError>) -> Result<RecordBatch, ArrowError> {
    batch.map_err(|error| ArrowError::ExternalError(Box::new(error)))
}
