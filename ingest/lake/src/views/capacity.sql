-- Load beside the capacity for it: one row for each closed window that begins after the workload's first plan.
-- `units` are those that were commanded and are paid for, `ready` those that served: units that were added are ready when
-- the plan's lead time has passed, a release counts at once. In stage `observe` both stay what the plan found.
WITH found AS (
    SELECT workload, decided_at, unit_capacity, violation_utilisation, cost_per_unit_hour, cost_per_violation_minute,
        CASE WHEN row_number() OVER (PARTITION BY workload ORDER BY decided_at, plan_id) = 1 THEN units_before END
            AS units_found
    FROM plans
),
-- A move of an actuator whose term was over does not count: one of a later term stands in its place, or before it.
moves AS (
    SELECT * FROM (SELECT *, max(term) OVER (PARTITION BY workload ORDER BY sequence) AS newest_term FROM actions) AS read
    WHERE term IS NULL OR term >= newest_term
),
commands AS (
    SELECT a.workload, a.at, to_timestamp_micros(CAST(a.at AS BIGINT) + CAST(p.lead_time_s * 1000000 AS BIGINT)) AS ready_at,
        CASE WHEN a.state = 'applied' THEN a.units_after ELSE a.undo_units END AS units_to,
        CASE WHEN a.state = 'applied' THEN a.units_before ELSE a.units_after END AS units_from
    FROM moves AS a
    JOIN plans AS p ON p.plan_id = a.plan_id
    WHERE a.state IN ('applied', 'rolled_back')
),
-- Units that were released again before they were ready never served.
arrived AS (
    SELECT c.* FROM commands AS c
    LEFT ANTI JOIN commands AS later ON later.workload = c.workload
        AND later.at > c.at AND later.at < c.ready_at AND later.units_to < c.units_to
    WHERE c.units_to > c.units_from
),
-- At the same instant the smaller place comes first.
points AS (
    SELECT workload, decided_at AS at, 1 AS place, units_found AS units, units_found AS ready, unit_capacity, violation_utilisation,
        cost_per_unit_hour, cost_per_violation_minute, CAST(NULL AS VARCHAR) AS stage,
        CAST(NULL AS VARCHAR) AS policy_version, CAST(NULL AS VARCHAR) AS target,
        CAST(NULL AS DOUBLE) AS minutes, CAST(NULL AS BOOLEAN) AS complete, CAST(NULL AS DOUBLE) AS load
    FROM found
    UNION ALL
    SELECT workload, at, 2, NULL, NULL, NULL, NULL, NULL, NULL, stage, policy_version, NULL, NULL, NULL, NULL
    FROM moves WHERE stage IS NOT NULL
    UNION ALL
    SELECT workload, ready_at, 3, NULL, units_to, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM arrived
    UNION ALL
    SELECT workload, at, 4, units_to, CASE WHEN units_to < units_from THEN units_to END, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL
    FROM commands
    UNION ALL
    SELECT workload, at, 5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, target,
        (CAST(window_end AS BIGINT) - CAST(at AS BIGINT)) / 60000000.0, complete, load
    FROM actual_load
),
-- The newest of each quantity before a row: a count that grows with it names it. Not last_value with IGNORE NULLS, which
-- Ballista 55 forgets on its way to the executors.
counted AS (
    SELECT *, count(units) OVER so_far AS units_no, count(ready) OVER so_far AS ready_no,
        count(unit_capacity) OVER so_far AS plan_no, count(stage) OVER so_far AS stage_no
    FROM points
    WINDOW so_far AS (PARTITION BY workload ORDER BY at, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
),
known AS (
    SELECT workload, at, place, target, minutes, complete, load,
        max(units) OVER (PARTITION BY workload, units_no) AS units,
        max(ready) OVER (PARTITION BY workload, ready_no) AS ready,
        max(unit_capacity) OVER of_plan AS unit_capacity,
        max(violation_utilisation) OVER of_plan AS violation_utilisation,
        max(cost_per_unit_hour) OVER of_plan AS cost_per_unit_hour,
        max(cost_per_violation_minute) OVER of_plan AS cost_per_violation_minute,
        max(stage) OVER of_stage AS stage,
        max(policy_version) OVER of_stage AS policy_version
    FROM counted
    WINDOW of_plan AS (PARTITION BY workload, plan_no), of_stage AS (PARTITION BY workload, stage_no)
)
SELECT workload, target, at, minutes, complete, load, units, ready, unit_capacity,
    load / (unit_capacity * CAST(ready AS DOUBLE)) AS utilisation,
    load / (unit_capacity * CAST(ready AS DOUBLE)) > violation_utilisation AS violated,
    cost_per_unit_hour, cost_per_violation_minute, stage, policy_version
FROM known
WHERE place = 5 AND units IS NOT NULL
