-- What was done, and what it cost, by workload, day, stage of autonomy and version of the policy: unit hours and
-- violation minutes as measured after each action, in the prices of the action's plan. It tells of what was done, not of
-- what another policy would have cost: `headroom backtest` compares policies.
SELECT o.workload, o.date, a.stage, a.policy_version, count(*) AS actions,
    sum(CAST(o.units AS DOUBLE) * hours) AS unit_hours, sum(o.violation_minutes) AS violation_minutes,
    sum(CAST(o.units AS DOUBLE) * hours * p.cost_per_unit_hour) AS capacity_cost,
    sum(CAST(o.violation_minutes AS DOUBLE) * p.cost_per_violation_minute) AS violation_cost
FROM (
    SELECT *, (CAST(measured_to AS BIGINT) - CAST(measured_from AS BIGINT)) / 3600000000.0 AS hours FROM outcomes
) AS o
JOIN (SELECT * FROM actions WHERE state = 'applied') AS a ON a.action_id = o.action_id
JOIN plans AS p ON p.plan_id = a.plan_id
GROUP BY 1, 2, 3, 4
