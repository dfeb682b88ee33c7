-- Each forecast beside what came: the median, the 80 % interval, and the error in the target's own unit. `complete` says
-- whether the window had all its telemetry.
SELECT f.workload, f.target, f.origin, f.at,
    (CAST(f.at AS BIGINT) - CAST(f.origin AS BIGINT)) / 60000000.0 AS lead_minutes,
    {q10} AS q10, {q50} AS q50, {q90} AS q90, a.load AS actual, a.load - {q50} AS error,
    a.load BETWEEN {q10} AND {q90} AS inside_80, a.complete, f.event, f.verdict, f.model_version
FROM forecasts AS f
JOIN actual_load AS a ON a.workload = f.workload AND a.target = f.target AND a.at = f.at
WHERE {q50} IS NOT NULL
