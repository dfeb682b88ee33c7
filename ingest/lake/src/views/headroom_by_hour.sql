-- Capacity and load by workload and hour, over the stretches that outcomes measured; a stretch counts for the hour in
-- which it began. Headroom is the share of the ready capacity that was free at the peak.
SELECT workload, date_trunc('hour', measured_from) AS hour, max(observed_peak) AS peak_load,
    avg(observed_mean) AS mean_load, min(units) AS least_units, avg(units) AS mean_units,
    1.0 - max(peak_utilisation) AS least_headroom, sum(violation_minutes) AS violation_minutes,
    min(completeness) AS least_completeness
FROM outcomes
WHERE completeness > 0
GROUP BY 1, 2
