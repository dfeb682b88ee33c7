-- What was forecast, as it came: one row for each workload, target and closed window of the forecast's step, in its
-- newest revision. The load is in the target's own unit.
SELECT t.workload, t.target, w.window_start AS at, w.window_end, w.complete, {actual} AS load
FROM (SELECT DISTINCT workload, target, step_s FROM forecasts) AS t
JOIN (
    SELECT *, row_number() OVER (
        PARTITION BY query, window_size_s, window_start, workload ORDER BY revision DESC) AS newest_first
    FROM windows
) AS w ON w.workload = t.workload AND CAST(w.window_size_s AS DOUBLE) = t.step_s
WHERE w.newest_first = 1 AND {actual} IS NOT NULL
