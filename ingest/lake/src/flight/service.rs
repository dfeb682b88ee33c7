//! The protocol: statements, prepared statements, catalog, cancelling. Whatever would change something is refused.

use std::pin::Pin;
use std::sync::PoisonError;

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandGetCatalogs,
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, Ticket,
};
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use futures::{Stream, TryStreamExt};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::auth::token_of;
use super::wire::{
    Answer, cancel_status, encoded, info, internal, one_batch, plain, plain_schema, schema_bytes, split_ticket, status,
};
use super::{FlightSql, Prepared, catalog};
use crate::{LakeError, Rows};

const READ_ONLY: &str = "the lake is read-only: SELECT, SHOW, DESCRIBE and EXPLAIN are answered";
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
const NO_STATEMENT: &str = "there is no such prepared statement: it was closed, or dropped for newer ones";

type Handshake = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

impl FlightSql {
    fn refused(&self, error: LakeError) -> Status {
        self.counts.refused.inc();
        status(error)
    }

    fn read_only(&self) -> Status {
        self.counts.refused.inc();
        Status::invalid_argument(READ_ONLY)
    }

    /// Runs a statement and hands out its rows as they come.
    async fn answer(&self, handle: String, sql: &str, parameters: Vec<ScalarValue>) -> Result<Answer, Status> {
        let (cancelled, number) = (CancellationToken::new(), self.used());
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(handle.clone())
            .or_default()
            .push((number, cancelled.clone()));
        let entry = Entry { running: std::sync::Arc::clone(&self.running), handle, number };
        let begun = async {
            let permit = tokio::time::timeout(self.limits.time, std::sync::Arc::clone(&self.permits).acquire_owned())
                .await
                .map_err(|_| Status::resource_exhausted("too many queries run at once: try again later"))?
                .map_err(internal)?;
            self.counts.queries.inc();
            let rows =
                self.lake.query_with(sql, parameters, &self.limits).await.map_err(|error| self.refused(error))?;
            Ok::<_, Status>((permit, rows))
        };
        let (permit, rows) = tokio::select! {
            biased;
            () = cancelled.cancelled() => {
                self.counts.cancelled.inc();
                return Err(Status::cancelled("the query was cancelled"));
            }
            begun = begun => begun?,
        };
        let schema = plain_schema(&rows.schema());
        let counts = self.counts.clone();
        let state = (rows, cancelled, Some((permit, entry)), std::sync::Arc::clone(&schema), counts);
        let batches = futures::stream::unfold(state, |(mut rows, cancelled, mut held, schema, counts)| async move {
            held.as_ref()?;
            let next = tokio::select! {
                biased;
                () = cancelled.cancelled() => {
                    counts.cancelled.inc();
                    Some(Err(Status::cancelled("the query was cancelled")))
                }
                next = next_of(&mut rows) => next,
            };
            if let Some(Ok(batch)) = &next {
                counts.rows.inc_by(u64::try_from(batch.num_rows()).unwrap_or(0));
            } else {
                held = None;
            }
            let item = next?.and_then(|batch| plain(&batch, &schema).map_err(|e| Status::internal(e.to_string())));
            Some((item, (rows, cancelled, held, schema, counts)))
        });
        Ok(encoded(schema, batches))
    }

    fn prepared(&self, handle: &Bytes) -> Result<(String, Prepared), Status> {
        let handle = std::str::from_utf8(handle).unwrap_or_default().to_owned();
        let found = self.find(&handle).ok_or_else(|| Status::not_found(NO_STATEMENT))?;
        Ok((handle, found))
    }

    fn cancel_info(&self, info: Option<&FlightInfo>) -> bool {
        let tickets = info.into_iter().flat_map(|info| &info.endpoint).filter_map(|endpoint| endpoint.ticket.as_ref());
        let mut any = false;
        for ticket in tickets {
            let message = arrow_flight::sql::Any::decode(ticket.ticket.as_ref()).ok();
            let statement = message.as_ref().and_then(|any| any.unpack::<TicketStatementQuery>().ok()).flatten();
            let prepared =
                message.as_ref().and_then(|any| any.unpack::<CommandPreparedStatementQuery>().ok()).flatten();
            let handle = statement
                .map(|statement| split_ticket(&statement.statement_handle).map(|(handle, _)| handle.to_owned()))
                .unwrap_or_else(|| {
                    prepared.and_then(|one| String::from_utf8(one.prepared_statement_handle.to_vec()).ok())
                });
            any |= handle.is_some_and(|handle| self.cancel(&handle));
        }
        any
    }
}

/// Forgets that a query runs, however it ends.
struct Entry {
    running: super::Running,
    handle: String,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(executions) = running.get_mut(&self.handle) {
            executions.retain(|(number, _)| *number != self.number);
            if executions.is_empty() {
                running.remove(&self.handle);
            }
        }
    }
}

/// The next rows; an answer that is cut short by the limit of rows is an error.
async fn next_of(rows: &mut Rows) -> Option<Result<RecordBatch, Status>> {
    match rows.next().await {
        Ok(Some(batch)) => Some(Ok(batch)),
        Ok(None) if rows.is_truncated() => {
            let message = "the answer has more rows than flight.max_rows: narrow it with WHERE, or write LIMIT";
            Some(Err(Status::resource_exhausted(message)))
        }
        Ok(None) => None,
        Err(error) => Some(Err(status(error))),
    }
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = FlightSql;

    async fn do_handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Result<Response<Handshake>, Status> {
        // The interceptor has let it pass.
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(token_of).unwrap_or_default();
        let answer = HandshakeResponse { protocol_version: 0, payload: token.clone().into() };
        let mut response: Response<Handshake> = Response::new(Box::pin(futures::stream::iter([Ok(answer)])));
        let bearer = format!("Bearer {token}").parse().map_err(|_| Status::invalid_argument("a malformed token"))?;
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let planned = self.lake.plan(&query.query).await.map_err(|error| self.refused(error))?;
        let handle = format!("{}\n{}", self.new_handle(), query.query);
        let ticket = TicketStatementQuery { statement_handle: handle.into() };
        info(&plain_schema(&planned.schema), &ticket, request.into_inner())
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, _: Request<Ticket>) -> Result<Answer, Status> {
        let Some((handle, sql)) = split_ticket(&ticket.statement_handle) else {
            return Err(Status::invalid_argument("a ticket that this service did not give"));
        };
        self.answer(handle.to_owned(), sql, Vec::new()).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let planned = self.lake.plan(&query.query).await.map_err(|error| self.refused(error))?;
        let (handle, schema) = (self.new_handle(), plain_schema(&planned.schema));
        let result = ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.clone().into(),
            dataset_schema: schema_bytes(&schema)?,
            parameter_schema: schema_bytes(&plain_schema(&std::sync::Arc::new(planned.parameters)))?,
        };
        let used = self.used();
        self.keep(handle, Prepared { sql: query.query, schema, parameters: Vec::new(), used });
        Ok(result)
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        self.forget(std::str::from_utf8(&query.prepared_statement_handle).unwrap_or_default());
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let (handle, _) = self.prepared(&query.prepared_statement_handle)?;
        let data = request.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
        let mut values = Vec::new();
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await.map_err(Status::from)? {
            rows += batch.num_rows();
            if rows > 1 {
                return Err(Status::invalid_argument("more than one row of parameters: send one"));
            }
            if batch.num_rows() == 1 {
                let row = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
                values = row.collect::<Result<_, _>>().map_err(|error| Status::invalid_argument(error.to_string()))?;
            }
        }
        self.bind(&handle, values);
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(query.prepared_statement_handle) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let (_, found) = self.prepared(&query.prepared_statement_handle)?;
        info(&found.schema, &query, request.into_inner())
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Answer, Status> {
        let (handle, found) = self.prepared(&query.prepared_statement_handle)?;
        self.answer(handle, &found.sql, found.parameters).await
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        _: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let of = FlightInfo::decode(query.info).map_err(|error| Status::invalid_argument(error.to_string()))?;
        // The old action's results have the numbers of the new one's.
        Ok(ActionCancelQueryResult { result: cancel_status(self.cancel_info(Some(&of))).into() })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let action = request.into_inner();
        if action.r#type != CANCEL_FLIGHT_INFO {
            return Err(Status::unimplemented(format!("action {} is not known", action.r#type)));
        }
        let asked = CancelFlightInfoRequest::decode(action.body)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let status = cancel_status(self.cancel_info(asked.info.as_ref()));
        let body = CancelFlightInfoResult { status: status.into() }.encode_to_vec();
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(arrow_flight::Result { body: body.into() })]))))
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        let description = "Ends the query of a FlightInfo.".to_owned();
        Some(vec![Ok(ActionType { r#type: CANCEL_FLIGHT_INFO.to_owned(), description })])
    }

    async fn do_put_statement_update(
        &self,
        _: CommandStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(self.read_only())
    }

    async fn do_put_statement_ingest(
        &self,
        _: CommandStatementIngest,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(self.read_only())
    }

    async fn do_put_prepared_statement_update(
        &self,
        _: CommandPreparedStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(self.read_only())
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.into_builder().schema(), &query, request.into_inner())
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, _: Request<Ticket>) -> Result<Answer, Status> {
        catalog::catalogs(query).map(one_batch).map_err(internal)
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.clone().into_builder().schema(), &query, request.into_inner())
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, _: Request<Ticket>) -> Result<Answer, Status> {
        catalog::schemas(query).map(one_batch).map_err(internal)
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.clone().into_builder().schema(), &query, request.into_inner())
    }

    async fn do_get_tables(&self, query: CommandGetTables, _: Request<Ticket>) -> Result<Answer, Status> {
        catalog::tables(&self.lake, query).await.map(one_batch).map_err(status)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.into_builder().schema(), &query, request.into_inner())
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _: Request<Ticket>) -> Result<Answer, Status> {
        catalog::table_types(query).map(one_batch).map_err(internal)
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.clone().into_builder(&catalog::INFO).schema(), &query, request.into_inner())
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Result<Answer, Status> {
        query.into_builder(&catalog::INFO).build().map(one_batch).map_err(internal)
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.into_builder(&catalog::TYPES).schema(), &query, request.into_inner())
    }

    async fn do_get_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, _: Request<Ticket>) -> Result<Answer, Status> {
        query.into_builder(&catalog::TYPES).build().map(one_batch).map_err(internal)
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&catalog::PRIMARY_KEYS, &query, request.into_inner())
    }

    async fn do_get_primary_keys(&self, _: CommandGetPrimaryKeys, _: Request<Ticket>) -> Result<Answer, Status> {
        Ok(one_batch(RecordBatch::new_empty(std::sync::Arc::clone(&catalog::PRIMARY_KEYS))))
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&catalog::FOREIGN_KEYS, &query, request.into_inner())
    }

    async fn do_get_exported_keys(&self, _: CommandGetExportedKeys, _: Request<Ticket>) -> Result<Answer, Status> {
        Ok(one_batch(RecordBatch::new_empty(std::sync::Arc::clone(&catalog::FOREIGN_KEYS))))
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&catalog::FOREIGN_KEYS, &query, request.into_inner())
    }

    async fn do_get_imported_keys(&self, _: CommandGetImportedKeys, _: Request<Ticket>) -> Result<Answer, Status> {
        Ok(one_batch(RecordBatch::new_empty(std::sync::Arc::clone(&catalog::FOREIGN_KEYS))))
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&catalog::FOREIGN_KEYS, &query, request.into_inner())
    }

    async fn do_get_cross_reference(&self, _: CommandGetCrossReference, _: Request<Ticket>) -> Result<Answer, Status> {
        Ok(one_batch(RecordBatch::new_empty(std::sync::Arc::clone(&catalog::FOREIGN_KEYS))))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
