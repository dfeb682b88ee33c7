-- Capacity and load by workload and hour, from the first plan on. Headroom is the share of the ready capacity that was
-- free at the peak; below zero there was less capacity than load.
SELECT workload, target, date_trunc('hour', at) AS hour, max(load) AS peak_load, avg(load) AS mean_load,
    min(ready) AS least_ready, avg(units) AS mean_units, 1.0 - max(utilisation) AS least_headroom,
    sum(CASE WHEN violated THEN minutes ELSE 0.0 END) AS violation_minutes, sum(minutes) AS measured_minutes,
    bool_and(complete) AS complete
FROM capacity
GROUP BY 1, 2, 3
