"""The same windows in DuckDB, once, over all rows in memory, on one thread."""

import json
import os
import resource
import time

import duckdb

connection = duckdb.connect()
connection.execute("SET threads = 1")
connection.execute("SET TimeZone = 'UTC'")
connection.execute("CREATE TABLE queries AS SELECT * FROM read_parquet(?)", [os.environ["HEADROOM_BENCH_PARQUET"]])
before, began = time.process_time(), time.monotonic()
connection.execute(
    """
    CREATE TABLE windows AS
    SELECT time_bucket(INTERVAL '10 seconds', event_time) AS window_start, workload, fingerprint,
        sum(count) AS queries, avg(duration_ms) AS mean_ms, max(duration_ms) AS slowest_ms, sum(rows) AS rows,
        approx_quantile(duration_ms, [0.5, 0.95, 0.99]) AS percentiles_ms
    FROM queries GROUP BY 1, 2, 3
    """
)
seconds, cpu_seconds = time.monotonic() - began, time.process_time() - before
windows, events = connection.execute("SELECT count(*), sum(queries) FROM windows").fetchone()
print(
    json.dumps(
        {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "windows": windows,
            "events": int(events),
        }
    )
)
