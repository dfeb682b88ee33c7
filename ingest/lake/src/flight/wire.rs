//! Answers as they travel: schemas, batches, tickets, and errors as gRPC states.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::ProstMessageExt;
use arrow_flight::{CancelStatus, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use prost::Message;
use tonic::{Response, Status};

use super::FlightSql;
use crate::LakeError;

pub(super) type Answer = Response<<FlightSql as FlightService>::DoGetStream>;

pub(super) fn status(error: LakeError) -> Status {
    let message = error.to_string();
    if matches!(error, LakeError::Limit { .. }) {
        return Status::resource_exhausted(message);
    }
    if matches!(error, LakeError::UnknownTable { .. }) {
        return Status::not_found(message);
    }
    if error.is_users_fault() { Status::invalid_argument(message) } else { Status::internal(message) }
}

pub(super) fn encoded(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
) -> Answer {
    let batches = batches.map_err(|status| FlightError::Tonic(Box::new(status)));
    let stream = FlightDataEncoderBuilder::new().with_schema(schema).build(batches).map_err(Status::from);
    Response::new(Box::pin(stream))
}

pub(super) fn one_batch(batch: RecordBatch) -> Answer {
    encoded(batch.schema(), futures::stream::iter([Ok(batch)]))
}

/// Views are newer than some clients: texts travel as plain texts.
pub(super) fn plain_schema(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| field.as_ref().clone().with_data_type(plain_type(field.data_type()));
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

pub(super) fn plain_type(data_type: &DataType) -> DataType {
    if let DataType::List(element) = data_type {
        let element = element.as_ref().clone().with_data_type(plain_type(element.data_type()));
        return DataType::List(Arc::new(element));
    }
    if data_type == &DataType::Utf8View {
        return DataType::Utf8;
    }
    if data_type == &DataType::BinaryView { DataType::Binary } else { data_type.clone() }
}

pub(super) fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

pub(super) fn info(
    schema: &Schema,
    ticket: &impl ProstMessageExt,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()));
    let info = FlightInfo::new().try_with_schema(schema).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(descriptor)))
}

pub(super) fn split_ticket(ticket: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(ticket).ok()?.split_once('\n')
}

pub(super) fn cancel_status(is_cancelled: bool) -> CancelStatus {
    if is_cancelled { CancelStatus::Cancelled } else { CancelStatus::NotCancellable }
}

pub(super) fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(|e: arrow::error::ArrowError| internal(e))?;
    Ok(bytes)
}
