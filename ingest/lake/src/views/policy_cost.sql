-- What capacity and violations cost, by workload, day, stage of autonomy and version of the policy, in the prices of the
-- plans. It tells of what was done, not of what another policy would have cost: `headroom backtest` compares policies.
SELECT workload, target, date_trunc('day', at) AS day, stage, policy_version,
    sum(CAST(units AS DOUBLE) * minutes / 60.0) AS unit_hours,
    sum(CASE WHEN violated THEN minutes ELSE 0.0 END) AS violation_minutes,
    sum(CAST(units AS DOUBLE) * minutes / 60.0 * cost_per_unit_hour) AS capacity_cost,
    sum(CASE WHEN violated THEN minutes * cost_per_violation_minute ELSE 0.0 END) AS violation_cost
FROM capacity
GROUP BY 1, 2, 3, 4, 5
