"""Clients of other makers against a running Headroom: what they read must be what Headroom itself says."""

import sys
from pathlib import Path

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi
import duckdb
import polars
import pyarrow
import pyarrow.compute
import pyarrow.flight
from deltalake import DeltaTable

address, token, lake, expected = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
COUNT = "SELECT count(*) AS n FROM windows WHERE window_size_s = 300"


def refused(action, *parts: str) -> None:
    try:
        action()
    except Exception as error:  # noqa: BLE001: every client has errors of its own
        assert any(part in str(error) for part in parts), f"{error}"
        return
    raise AssertionError("was not refused")


def adbc() -> None:
    header = adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value
    with adbc_driver_flightsql.dbapi.connect(address, db_kwargs={header: f"Bearer {token}"}, autocommit=True) as connection:
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "Headroom", info
        tables = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        names = {
            table["table_name"]
            for catalog in tables
            for schema in catalog["catalog_db_schemas"]
            for table in schema["db_schema_tables"]
        }
        assert {"windows", "ledger", "campaign_lift"} <= names, names
        assert "requests_per_s" in connection.adbc_get_table_schema("windows").names
        with connection.cursor() as cursor:
            cursor.execute(COUNT)
            assert cursor.fetchone() == (expected,)
            # Parameters, one statement prepared for two questions.
            for size in (60, 300):
                cursor.execute("SELECT count(*) FROM windows WHERE window_size_s = $1", (size,))
                assert cursor.fetchone()[0] > 0
            cursor.execute("SELECT * FROM windows WHERE window_size_s = 300 ORDER BY window_start")
            table = cursor.fetch_arrow_table()
            assert table.num_rows == expected and table.schema.field("workload").type == pyarrow.string()
        for statement in ("DROP TABLE windows", "DELETE FROM windows", "CREATE TABLE x (a INT)"):
            with connection.cursor() as cursor:
                refused(lambda: cursor.execute(statement), "read-only")
    with adbc_driver_flightsql.dbapi.connect(
        address, db_kwargs={"username": "planner", "password": token}, autocommit=True
    ) as connection, connection.cursor() as cursor:
        cursor.execute(COUNT)
        assert cursor.fetchone() == (expected,)

    def stranger() -> None:
        with adbc_driver_flightsql.dbapi.connect(address, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(COUNT)

    refused(stranger, "Bearer", "nauthenticated", "UNAUTHENTICATED")


def flight() -> None:
    """Flight alone: a login, and the Flight SQL command written by hand."""
    client = pyarrow.flight.connect(address)
    refused(lambda: client.authenticate_basic_token("planner", "not-the-token-0123456789"), "token")
    header = client.authenticate_basic_token("planner", token)
    options = pyarrow.flight.FlightCallOptions(headers=[header])

    def field(number: int, value: bytes) -> bytes:
        length, size = len(value), b""
        while length > 127:
            size += bytes([length & 127 | 128])
            length >>= 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + value

    kind = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    command = field(1, kind) + field(2, field(1, COUNT.encode()))
    info = client.get_flight_info(pyarrow.flight.FlightDescriptor.for_command(command), options)
    table = client.do_get(info.endpoints[0].ticket, options).read_all()
    assert table.to_pydict() == {"n": [expected]}, table


def files() -> None:
    """The tables as they lie in the lake, without Headroom."""
    table = DeltaTable(lake / "windows")
    rows = table.to_pyarrow_table(filters=[("window_size_s", "=", 300)])
    assert rows.num_rows == expected, rows.num_rows
    total = pyarrow.compute.sum(rows["requests_per_s"]).as_py()
    frame = polars.scan_delta(str(lake / "windows")).filter(polars.col("window_size_s") == 300)
    found = frame.select(polars.len(), polars.col("requests_per_s").sum()).collect().row(0)
    assert found[0] == expected and abs(found[1] - total) < 1e-6 * abs(total), found
    # DuckDB reads the files that the table's log names: its own Delta reader is an extension that must be downloaded.
    paths = table.file_uris()
    found = duckdb.execute(
        "SELECT count(*), sum(requests_per_s) FROM read_parquet(?, hive_partitioning = true) WHERE window_size_s = 300",
        [paths],
    ).fetchall()
    assert found[0][0] == expected and abs(found[0][1] - total) < 1e-6 * abs(total), found
    dataset = table.to_pyarrow_dataset()  # noqa: F841: DuckDB finds it by its name
    assert duckdb.sql("SELECT count(*) FROM dataset WHERE window_size_s = 300").fetchall() == [(expected,)]



adbc()
flight()
files()
print("ok")
