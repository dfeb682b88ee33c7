-- The load during each event signal beside the load at the same time of the week in the four weeks before, outside of
-- every other signal. Lift is the ratio of the means; it is what was measured, not what the event alone caused.
WITH newest AS (
    SELECT * FROM (
        SELECT *, row_number() OVER (PARTITION BY signal_id ORDER BY revision DESC) AS newest_first FROM signals
    ) WHERE newest_first = 1 AND status <> 'cancelled'
),
quiet AS (
    SELECT a.* FROM actual_load AS a
    LEFT ANTI JOIN newest AS s ON a.at >= s.starts_at AND a.at < s.ends_at
        AND (s.workloads IS NULL OR cardinality(s.workloads) = 0 OR regexp_like(a.workload,
        concat('^(', replace(replace(array_to_string(s.workloads, '|'), '.', '\.'), '*', '.*'), ')$')))
),
during AS (
    SELECT s.signal_id, s.name, s.kind, s.starts_at, s.ends_at, s.audience_size, a.workload, a.target, a.at, a.load
    FROM newest AS s
    JOIN actual_load AS a ON a.at >= s.starts_at AND a.at < s.ends_at
    WHERE (s.workloads IS NULL OR cardinality(s.workloads) = 0 OR regexp_like(a.workload,
        concat('^(', replace(replace(array_to_string(s.workloads, '|'), '.', '\.'), '*', '.*'), ')$')))
),
-- Not a join with the weeks: DataFusion 55 loses a condition that spans three joined tables.
weeks AS (
    SELECT signal_id, workload, target, at, unnest([1, 2, 3, 4]) AS back FROM during
),
usual AS (
    SELECT d.signal_id, d.workload, d.target, d.at, avg(q.load) AS load
    FROM (
        SELECT signal_id, workload, target, at, CAST(at AS BIGINT) - back * 604800000000 AS then_us FROM weeks
    ) AS d
    JOIN quiet AS q ON q.workload = d.workload AND q.target = d.target AND CAST(q.at AS BIGINT) = d.then_us
    GROUP BY 1, 2, 3, 4
)
SELECT d.signal_id, d.name, d.kind, d.workload, d.target, d.starts_at, d.ends_at, d.audience_size,
    avg(d.load) AS mean_load, max(d.load) AS peak_load, avg(u.load) AS usual_load,
    avg(CASE WHEN u.load IS NOT NULL THEN d.load END) / avg(u.load) AS lift, count(u.load) AS compared_windows
FROM during AS d
LEFT JOIN usual AS u
    ON u.signal_id = d.signal_id AND u.workload = d.workload AND u.target = d.target AND u.at = d.at
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
