//! The endpoint as its clients see it, over a real connection. Other languages' clients are in the program's own tests.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, SqlInfo};
use arrow_flight::{FlightClient, FlightInfo};
use futures::TryStreamExt;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};

use super::*;

const TOKEN: &str = "planner-token-0123456789";
const NUMBERS: &str = "SELECT value FROM generate_series(1, 10000000000)";

struct Served {
    address: String,
    registry: Registry,
    _folder: tempfile::TempDir,
}

async fn served(config: FlightConfig) -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = Arc::new(Lake::open(folder.path()).await.expect("opens"));
    let mut registry = Registry::default();
    let endpoint = endpoint(lake, &config, &mut registry).expect("an endpoint");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(Server::builder().add_service(endpoint).serve_with_incoming(TcpIncoming::from(listener)));
    Served { address, registry, _folder: folder }
}

impl Served {
    async fn channel(&self) -> Channel {
        Channel::from_shared(self.address.clone()).expect("an address").connect().await.expect("connects")
    }

    async fn client(&self) -> FlightSqlServiceClient<Channel> {
        FlightSqlServiceClient::new(self.channel().await)
    }

    fn count(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("encodes");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}_total "))).expect("a counter");
        line.parse().expect("a number")
    }
}

async fn rows(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Result<Vec<RecordBatch>, String> {
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let stream = client.do_get(ticket).await.map_err(|error| error.to_string())?;
    stream.try_collect().await.map_err(|error| error.to_string())
}

async fn ask(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> Result<Vec<RecordBatch>, String> {
    let info = client.execute(sql.to_owned(), None).await.map_err(|error| error.to_string())?;
    rows(client, info).await
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_and_changes_refused() {
    let served = served(FlightConfig::default()).await;
    let mut client = served.client().await;
    let answer = ask(&mut client, "SELECT count(*) FROM windows").await.expect("answers");
    assert_eq!(answer[0].column(0).as_primitive::<Int64Type>().value(0), 0);
    let texts = ask(&mut client, "SELECT table_name FROM information_schema.tables ORDER BY 1").await.expect("answers");
    let names: Vec<_> = texts.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten()).collect();
    assert!(names.contains(&"windows") && names.contains(&"campaign_lift"), "{names:?}");
    for (sql, part) in [
        ("DROP TABLE windows", "read-only"),
        ("DELETE FROM windows", "read-only"),
        ("CREATE TABLE t AS SELECT 1", "read-only"),
        ("COPY windows TO 'x'", "read-only"),
        ("SELECT 1; SELECT 2", "SQL"),
        ("SELECT * FROM widnows", "windows"),
    ] {
        let refused = ask(&mut client, sql).await.expect_err(sql);
        assert!(refused.contains(part), "{sql}: {refused}");
    }
    let refused = client.execute_update("INSERT INTO windows VALUES (1)".to_owned(), None).await.expect_err("refused");
    assert!(refused.to_string().contains("read-only"), "{refused}");
    assert_eq!(served.count("headroom_flight_refused"), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_known_tokens_pass() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("# planners\n\nplanner: {TOKEN}\n")).expect("writes");
    let served = served(FlightConfig { token_file: Some(file.path().to_owned()), ..FlightConfig::default() }).await;
    let mut client = served.client().await;
    for token in [None, Some("another-token-0123456789"), Some("")] {
        if let Some(token) = token {
            client.set_token(token.to_owned());
        }
        let refused = ask(&mut client, "SELECT 1").await.expect_err("refused");
        assert!(refused.contains("token") || refused.contains("Bearer"), "{refused}");
    }
    client.set_token(TOKEN.to_owned());
    ask(&mut client, "SELECT 1").await.expect("answers");

    let mut client = served.client().await;
    client.handshake("anyone", "wrong-token-0123456789").await.expect_err("refused");
    client.handshake("planner", TOKEN).await.expect("logs in");
    assert_eq!(client.token().map(String::as_str), Some(TOKEN));
    ask(&mut client, "SELECT 1").await.expect("answers");
}

#[test]
fn a_token_file_that_cannot_be_used_says_why_and_tells_no_token() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    for (text, part) in [
        ("", "no token"),
        ("planner", "line 1"),
        ("# x\nplanner:short-secret", "line 2"),
        (":secretsecretsecret", "line 1"),
    ] {
        std::fs::write(file.path(), text).expect("writes");
        let error = Auth::from_file(file.path()).expect_err(text).to_string();
        assert!(error.contains(part) && !error.contains("secret"), "{error}");
    }
    assert!(!format!("{:?}", Auth::open()).contains("token"));
}

#[test]
fn settings_that_would_answer_nothing_or_anyone_are_refused() {
    let usable = FlightConfig::default();
    assert_eq!(usable.problems(), Vec::<String>::new());
    for (config, part) in [
        (FlightConfig { listen: "0.0.0.0:8688".to_owned(), ..usable.clone() }, "token_file"),
        (FlightConfig { listen: "here".to_owned(), ..usable.clone() }, "HOST:PORT"),
        (FlightConfig { token_file: Some("missing".into()), ..usable.clone() }, "missing"),
        (FlightConfig { max_rows: 0, ..usable.clone() }, "max_rows"),
        (FlightConfig { max_time: Span::from_mins(0), ..usable.clone() }, "max_time"),
        (FlightConfig { max_queries: 0, ..usable.clone() }, "max_queries"),
    ] {
        let problems = config.problems();
        assert!(problems.len() == 1 && problems[0].contains(part), "{problems:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_errors_and_not_short_answers() {
    let config = FlightConfig {
        max_rows: 1_000,
        max_memory_bytes: 4 << 20,
        max_spill_bytes: 1 << 20,
        ..FlightConfig::default()
    };
    let served = served(config).await;
    let mut client = served.client().await;
    let all = ask(&mut client, "SELECT value FROM generate_series(1, 1000)").await.expect("answers");
    assert_eq!(all.iter().map(RecordBatch::num_rows).sum::<usize>(), 1_000);
    let refused = ask(&mut client, "SELECT value FROM generate_series(1, 1001)").await.expect_err("too many");
    assert!(refused.contains("flight.max_rows"), "{refused}");
    let refused = ask(&mut client, &format!("SELECT value, count(*) FROM ({NUMBERS}) GROUP BY 1 ORDER BY 2")).await;
    let refused = refused.expect_err("too large");
    assert!(refused.contains("limit"), "{refused}");

    let served = self::served(FlightConfig { max_time: Span::from_secs(1), ..FlightConfig::default() }).await;
    let mut client = served.client().await;
    let refused = ask(&mut client, &format!("SELECT sum(sin(value)) FROM ({NUMBERS})")).await;
    assert!(refused.as_ref().is_err_and(|refused| refused.contains("time limit")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_cancelled_while_it_runs() {
    let served = served(FlightConfig { max_rows: usize::MAX, max_queries: 1, ..FlightConfig::default() }).await;
    let mut client = served.client().await;
    let info = client.execute(NUMBERS.to_owned(), None).await.expect("plans");
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let mut running = client.do_get(ticket).await.expect("begins");
    running.try_next().await.expect("rows").expect("rows");
    let mut other = FlightClient::new_from_inner(FlightServiceClient::new(served.channel().await));
    let request = arrow_flight::CancelFlightInfoRequest::new(info.clone());
    let result = other.cancel_flight_info(request).await.expect("cancels");
    assert_eq!(result.status(), arrow_flight::CancelStatus::Cancelled);
    let error = running.try_for_each(|_| async { Ok(()) }).await.expect_err("ends with an error");
    assert!(error.to_string().contains("cancelled"), "{error}");
    // Its place is free again, and nothing is left to cancel.
    ask(&mut client, "SELECT 1").await.expect("answers");
    let again = other.cancel_flight_info(arrow_flight::CancelFlightInfoRequest::new(info)).await.expect("answers");
    assert_eq!(again.status(), arrow_flight::CancelStatus::NotCancellable);
    assert_eq!(served.count("headroom_flight_cancelled"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_ticket_can_be_read_twice_and_long_statements_are_refused() {
    let served = served(FlightConfig::default()).await;
    let mut client = served.client().await;
    let info = client.execute("SELECT value FROM generate_series(1, 500000)".to_owned(), None).await.expect("plans");
    let mut other = served.client().await;
    let (one, two) = tokio::join!(rows(&mut client, info.clone()), rows(&mut other, info));
    for batches in [one.expect("answers"), two.expect("answers")] {
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 500_000);
    }
    let sum = |terms: usize| format!("SELECT {}", vec!["1"; terms].join("+"));
    ask(&mut client, &sum(3_000)).await.expect("a deep expression is answered");
    let refused = ask(&mut client, &sum(30_000)).await.expect_err("too long");
    assert!(refused.contains("bytes"), "{refused}");
    let refused = ask(&mut client, "SELECT nope FROM headroom_by_hour").await.expect_err("no such column");
    assert!(refused.contains("nope"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_take_parameters_and_are_bounded() {
    let served = served(FlightConfig { max_prepared: 2, ..FlightConfig::default() }).await;
    let mut client = served.client().await;
    let sql = "SELECT value FROM generate_series(1, 10) WHERE value > $1";
    let mut statement = client.prepare(sql.to_owned(), None).await.expect("prepares");
    assert_eq!(statement.parameter_schema().expect("a schema").fields().len(), 1);
    for (least, count) in [(7, 3), (9, 1)] {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![least]));
        statement.set_parameters(RecordBatch::try_from_iter([("$1", values)]).expect("a row")).expect("takes them");
        let info = statement.execute().await.expect("plans");
        let found = rows(&mut client, info).await.expect("answers");
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), count);
    }
    let kept = client.prepare("SELECT 2".to_owned(), None).await.expect("prepares");
    let _third = client.prepare("SELECT 3".to_owned(), None).await.expect("prepares");
    let error = statement.execute().await.expect_err("the oldest was dropped");
    assert!(error.to_string().contains("no such prepared statement"), "{error}");
    kept.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_tells_tables_and_columns() {
    let served = served(FlightConfig::default()).await;
    let mut client = served.client().await;
    let info = client.get_catalogs().await.expect("a flight");
    assert_eq!(rows(&mut client, info).await.expect("answers")[0].num_rows(), 1);
    let all = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: None };
    let info = client.get_db_schemas(all).await.expect("a flight");
    assert_eq!(rows(&mut client, info).await.expect("answers")[0].num_rows(), 1);
    let info = client.get_table_types().await.expect("a flight");
    assert_eq!(rows(&mut client, info).await.expect("answers")[0].num_rows(), 2);
    let some = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: None,
        table_name_filter_pattern: Some("forecast%".to_owned()),
        table_types: Vec::new(),
        include_schema: true,
    };
    let info = client.get_tables(some).await.expect("a flight");
    let found = rows(&mut client, info).await.expect("answers");
    let names: Vec<_> = found.iter().flat_map(|batch| batch.column(2).as_string::<i32>().iter().flatten()).collect();
    assert_eq!(names, ["forecast_vs_actual", "forecasts"]);
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::FlightSqlServerReadOnly]).await;
    assert_eq!(rows(&mut client, info.expect("a flight")).await.expect("answers")[0].num_rows(), 2);
    let info = client.get_xdbc_type_info(Default::default()).await.expect("a flight");
    assert!(rows(&mut client, info).await.expect("answers")[0].num_rows() > 3);
    // Views answer even before there is anything to look at.
    for view in crate::views::ALL {
        let found = ask(&mut client, &format!("SELECT * FROM {}", view.name)).await.expect(view.name);
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 0, "{}", view.name);
    }
    let keys = CommandGetPrimaryKeys { catalog: None, db_schema: None, table: "windows".to_owned() };
    let info = client.get_primary_keys(keys).await.expect("a flight");
    let none = rows(&mut client, info).await.expect("answers");
    assert_eq!(none.iter().map(RecordBatch::num_rows).sum::<usize>(), 0, "tables have no keys, which is an answer");
}
