"""board.py PROGRAM DATA_FOLDER OUT_FOLDER [SET ...]: `headroom backtest` on each set, and one table of its scoreboards."""

import argparse
import json
import pathlib
import subprocess
import sys
import time
import zipfile

import pandas as pd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "forecast"))

import prepare  # noqa: E402

HALF_HOUR = pd.Timedelta("30min")
# Promised: this share of the reactive policy's violation minutes is spared, at no more than this share of the static
# peak's unit-hours.
SPARED, SHARE_OF_PEAK = 0.72, 0.5
# Of longer sets the last steps count: two years of hours.
MOST_STEPS = 17_600
# Not CVS and PFE, which nobody names in most steps: there is no usual load to choose a unit by.
COMPANIES = ["AAPL", "AMZN", "CRM", "FB", "GOOG", "IBM", "KO", "UPS"]
SHOWN = ["reactive", "headroom p50", "headroom p75", "headroom p90", "headroom p95", "headroom p99",
         "static peak (hindsight)", "oracle"]  # fmt: skip


def worldcup98(data):
    return prepare.worldcup98(data, pd.Timedelta("5min"))


def taxi(data):
    rows = prepare.clock(data / "passengers_30min.csv.gz", "ts_local", "passengers")
    return prepare.one("taxis", rows), prepare.signals(data / "events.csv")


def electricity(data):
    rows = prepare.clock(data / "demand_30min.csv.gz", "Time", "Demand")
    return prepare.one("demand", rows), prepare.signals(data / "events.csv", zone="Australia/Melbourne")


def nab(data, names):
    """Series of the Numenta Anomaly Benchmark, in steps of 5 minutes; a workload each, by the end of its name."""
    with zipfile.ZipFile(data / "nab_selected.zip") as files:
        clocks = {name: prepare.clock(files.open(f"data/{name}.csv"), "timestamp", "value") for name in names}
    rows = pd.concat([prepare.one(name.split("_")[-1], clock) for name, clock in clocks.items()], ignore_index=True)
    return rows.assign(ts=rows["ts"].dt.floor("5min")), pd.DataFrame(columns=prepare.SIGNAL_COLUMNS)


def tweets(data):
    """How often companies were named on Twitter."""
    return nab(data, [f"realTweets/Twitter_volume_{name}" for name in COMPANIES])


def balancer(data):
    """Requests to a load balancer."""
    return nab(data, ["realAWSCloudwatch/elb_request_count_8c0756"])


# Folder of the data, how it is read, its own step, how far a forecast reaches, and from when policies are scored: the last
# third unless said.
SETS = {
    "worldcup98": ("worldcup98", worldcup98, "5m", "24h", "1998-06-17T00:00:00Z"),
    "bike_sharing_dc": ("bike_sharing_dc", prepare.bike_sharing_dc, "1h", "24h", None),
    "wikipedia_peyton_manning": ("wikipedia_peyton_manning", prepare.wikipedia_peyton_manning, "1d", "14d", None),
    "nab_tweets": ("nab", tweets, "5m", "24h", None),
    "nab_balancer": ("nab", balancer, "5m", "24h", None),
    "nyc_taxi": ("nyc_taxi", taxi, "30m", "24h", None),
    "vic_electricity": ("vic_electricity", electricity, "30m", "24h", None),
    "metro_traffic_mn": ("metro_traffic_mn", prepare.metro_traffic_mn, "1h", "24h", None),
    "rossmann": ("rossmann", prepare.rossmann, "1d", "14d", None),
}


def backtest(program, data, out, name):
    """The rows of the scoreboard of one set; one that is there is kept."""
    kept = out / f"{name}.json"
    if not kept.exists():
        source, read, step, horizon, score_from = SETS[name]
        history, known = read(data / source)
        history = history.groupby("workload", sort=False).tail(MOST_STEPS)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        history.assign(ts=prepare.rfc3339(history["ts"])).to_csv(folder / "load.csv", index=False)
        for column in ("announced_at", "starts_at", "ends_at"):
            known = known.assign(**{column: prepare.rfc3339(known[column])})
        known.to_csv(folder / "signals.csv", index=False)
        command = [program, "backtest", "--data", folder / "load.csv", "--workload-column", "workload"]
        command += ["--signals", folder / "signals.csv", "--step", step, "--horizon", horizon, "--output", "json"]
        command += ["--score-from", score_from] if score_from else []
        started = time.monotonic()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        kept.write_text(done.stdout)
    rows = json.loads(kept.read_text())["policies"]
    suffix = " (cost-optimal)"
    return {row["policy"].removesuffix(suffix): row for row in rows}


def table(boards):
    """One line a policy and set, and whether both promises are kept."""
    lines = ["| Set | Policy | Violation min | of reactive | Unit-hours | of static peak | of oracle | Both kept |",
             "|---|---|--:|--:|--:|--:|--:|---|"]  # fmt: skip
    for name, board in boards.items():
        reactive, peak = board["reactive"], board["static peak (hindsight)"]
        for policy in SHOWN:
            row = board[policy]
            minutes = row["violation_minutes"] / reactive["violation_minutes"]
            hours = row["unit_hours"] / peak["unit_hours"]
            is_kept = minutes <= 1 - SPARED and hours <= SHARE_OF_PEAK
            verdict = ("yes" if is_kept else "no") if policy.startswith("headroom") else ""
            lines.append(f"| {name} | {policy} | {row['violation_minutes']:.0f} | {minutes:.2f} | {row['unit_hours']:.0f} "
                         f"| {hours:.2f} | {row['cost_vs_oracle']:.2f} | {verdict} |")  # fmt: skip
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="the headroom to run")
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}; all unless given")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    boards = {name: backtest(args.program, args.data, args.out, name) for name in args.sets or SETS}
    print(table(boards))


if __name__ == "__main__":
    main()
