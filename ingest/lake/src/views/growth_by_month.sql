-- Mean and peak load by workload and month, and how they grew since the month before. A month that has only begun is
-- compared as it is: `windows` says how much of it there is.
SELECT workload, target, month, mean_load, peak_load, windows,
    mean_load / lag(mean_load) OVER (PARTITION BY workload, target ORDER BY month) - 1.0 AS mean_growth,
    peak_load / lag(peak_load) OVER (PARTITION BY workload, target ORDER BY month) - 1.0 AS peak_growth
FROM (
    SELECT workload, target, date_trunc('month', at) AS month, avg(load) AS mean_load, max(load) AS peak_load,
        count(*) AS windows
    FROM actual_load
    GROUP BY 1, 2, 3
)
