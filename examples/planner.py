"""A capacity planner's five questions, over Flight SQL.

    pip install adbc-driver-manager adbc-driver-flightsql pyarrow
    python examples/planner.py grpc://127.0.0.1:8688 [TOKEN]

The address is the one of `flight.listen`; a token is needed when `flight.token_file` names some. Every answer is an Arrow
table: `.to_pandas()`, or hand it to Polars or DuckDB.
"""

import sys

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi

QUESTIONS = {
    "How close did we come to the limit, by hour?": """
        SELECT workload, hour, peak_load, least_ready, mean_units, least_headroom, violation_minutes
        FROM headroom_by_hour ORDER BY least_headroom LIMIT 5""",
    "How good were the forecasts an hour ahead?": """
        SELECT workload, event, count(*) AS forecasts, avg(abs(error)) / avg(actual) AS wape,
            avg(CASE WHEN inside_80 THEN 1.0 ELSE 0.0 END) AS coverage_80
        FROM forecast_vs_actual WHERE lead_minutes = 60 GROUP BY 1, 2 ORDER BY 1, 2""",
    "How does load grow?": """
        SELECT workload, target, month, mean_load, peak_load, mean_growth FROM growth_by_month ORDER BY 1, 2, 3""",
    "What did each policy cost?": """
        SELECT workload, stage, policy_version, sum(unit_hours) AS unit_hours,
            sum(violation_minutes) AS violation_minutes, sum(capacity_cost + violation_cost) AS cost
        FROM policy_cost GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""",
    "What did the campaigns bring?": """
        SELECT signal_id, name, workload, mean_load, usual_load, lift, compared_windows
        FROM campaign_lift ORDER BY lift DESC NULLS LAST LIMIT 5""",
}


def main() -> None:
    address = sys.argv[1]
    options = {}
    if len(sys.argv) > 2:
        options[adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {sys.argv[2]}"
    with adbc_driver_flightsql.dbapi.connect(address, db_kwargs=options, autocommit=True) as connection:
        for question, sql in QUESTIONS.items():
            with connection.cursor() as cursor:
                cursor.execute(sql)
                table = cursor.fetch_arrow_table()
            print(f"\n{question}")
            print("  " + "  ".join(table.column_names))
            for row in table.to_pylist():
                print("  " + "  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
