"""Turns public event-bearing series into one layout: history, signals and the study's origins of each set.

    prepare.py DATA_FOLDER OUT_FOLDER [--sets ..] [--origins 60]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from layout import LEVELS

HOUR, DAY = pd.Timedelta("1h"), pd.Timedelta("1d")
SIGNAL_COLUMNS = [
    "event_id", "kind", "announced_at", "starts_at", "ends_at", "expected_reach", "weight", "audience", "name",
    "workloads",
]  # fmt: skip
# The words of the sources that are not among Headroom's kinds.
KINDS = {"promotion": "sale", "calendar": "other", "weather": "other", "clock": "other"}
ROSSMANN_STORES = 20
# Part of the history that is kept for learning alone, before the first origin.
LEARNING = 2 / 3
# Part of a horizon that must have actual values.
FILLED = 0.9


def one(workload, values):
    """A history of one workload."""
    return values.dropna().rename("value").rename_axis("ts").reset_index().assign(workload=workload)


def clock(path, time, value):
    """A column of a CSV file by time; a local clock is read as if it were UTC."""
    rows = pd.read_csv(path)
    return rows.assign(**{time: pd.to_datetime(rows[time], utc=True)}).drop_duplicates(time).set_index(time)[value]


def signals(*paths, zone="UTC"):
    """The signals of event files; times without an offset are of that zone. An event of weight 0 moves nothing."""
    rows = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    for column in ("announced_at", "starts_at", "ends_at"):
        times = [pd.Timestamp(text) for text in rows[column]]
        rows[column] = [(t.tz_localize(zone) if t.tzinfo is None else t).tz_convert("UTC") for t in times]
    rows["kind"] = rows["kind"].replace(KINDS)
    rows["workloads"] = ""
    return rows.loc[rows["weight"] > 0, SIGNAL_COLUMNS]


def worldcup98(data, step):
    rows = pd.read_csv(data / "requests_per_minute.csv.gz")
    minutes = rows.assign(ts=pd.to_datetime(rows["ts_utc"], utc=True)).set_index("ts")
    requests = minutes["requests"].where(minutes["gap"] == 0).resample(step)
    # A step that lacks some minutes counts as many requests as its other minutes tell; the first hour is not whole.
    values = (requests.mean() * (step / pd.Timedelta("1min")))[minutes.index[0].ceil("1h") :]
    return one("worldcup98", values), signals(data / "events.csv", data / "knockout_slots_masked.csv")


def bike_sharing_dc(data):
    return one("bikes", clock(data / "hourly_2011_2012.csv.gz", "ts_local", "users")), signals(data / "events.csv")


def nyc_taxi(data):
    halves = clock(data / "passengers_30min.csv.gz", "ts_local", "passengers")
    return one("taxis", halves.resample(HOUR).sum(min_count=2)), signals(data / "events.csv")


def metro_traffic_mn(data):
    # Several weather rows an hour repeat the same volume; missing hours stay missing.
    return one("traffic", clock(data / "hourly_raw.csv.gz", "ts_local", "traffic_volume")), signals(data / "events.csv")


def vic_electricity(data):
    halves = clock(data / "demand_30min.csv.gz", "Time", "Demand")
    known = signals(data / "events.csv", zone="Australia/Melbourne")
    return one("demand", halves.resample(HOUR).mean()), known


def wikipedia_peyton_manning(data):
    return one("views", clock(data / "daily_views.csv.gz", "date", "views")), signals(data / "events.csv")


def rossmann(data):
    rows = pd.read_parquet(data / "daily_top100_stores.parquet")
    rows["ts"] = pd.to_datetime(rows["date"], utc=True)
    days = rows.groupby("store")["ts"].nunique()
    whole = np.sort(days[days == days.max()].index)
    rows = rows[rows["store"].isin(whole[np.linspace(0, len(whole) - 1, ROSSMANN_STORES).astype(int)])]
    rows["workload"] = "store-" + rows["store"].astype(str)
    known = signals(data / "events.csv")
    # The calendar says which stores a public holiday concerns: it is no shared event where it is not kept everywhere.
    closed = rows[rows["stateholiday"].astype(str) != "0"].groupby("ts")["workload"].agg(lambda names: sorted(set(names)))
    stores = rows["workload"].nunique()

    def concerned(signal):
        if signal["kind"] != "holiday":
            return ""
        names = closed.get(signal["starts_at"], [])
        return "nobody" if len(names) == 0 else "" if len(names) == stores else "|".join(names)

    known["workloads"] = known.apply(concerned, axis=1)
    known = known[known["workloads"] != "nobody"]
    known.loc[known["kind"] == "holiday", "weight"] = 1.0
    return rows.rename(columns={"sales": "value"})[["ts", "workload", "value"]], known


def m4_hourly(data):
    # Without timestamps: every training part is made to end at the same time.
    origin = pd.Timestamp("2020-03-01T00:00:00Z")
    train, test = (pd.read_csv(data / f"hourly_{part}.csv.gz", index_col=0) for part in ("train", "test"))
    parts = []
    for name in train.index:
        known = train.loc[name].dropna().to_numpy(float)
        values = np.concatenate([known, test.loc[name].dropna().to_numpy(float)])
        parts.append(one(name, pd.Series(values, pd.date_range(origin - len(known) * HOUR, periods=len(values), freq=HOUR))))
    return pd.concat(parts), pd.DataFrame(columns=SIGNAL_COLUMNS)


HOURLY = {"step": "1h", "horizon": "48h", "every": "24h", "season_lengths": [24, 168], "naive_season": 168, "mase_season": 168}
DAILY = {"step": "1d", "horizon": "14d", "every": "7d", "season_lengths": [7], "naive_season": 7, "mase_season": 7}
FIVE_MINUTES = HOURLY | {"step": "5m", "season_lengths": [288, 2016], "naive_season": 2016, "mase_season": 2016}
# 576 steps a horizon: more origins take hours.
MOST_ORIGINS = {"worldcup98_5m": 10}
SETS = {
    "worldcup98_1h": ("worldcup98", lambda data: worldcup98(data, HOUR), HOURLY),
    "worldcup98_5m": ("worldcup98", lambda data: worldcup98(data, pd.Timedelta("5min")), FIVE_MINUTES),
    "bike_sharing_dc": ("bike_sharing_dc", bike_sharing_dc, HOURLY),
    "nyc_taxi": ("nyc_taxi", nyc_taxi, HOURLY),
    "metro_traffic_mn": ("metro_traffic_mn", metro_traffic_mn, HOURLY),
    "vic_electricity": ("vic_electricity", vic_electricity, HOURLY),
    "wikipedia_peyton_manning": ("wikipedia_peyton_manning", wikipedia_peyton_manning, DAILY),
    # Promotions come mostly every second week.
    "rossmann": ("rossmann", rossmann, DAILY | {"season_lengths": [7, 14], "naive_season": 14}),
    "m4_hourly": ("m4_hourly", m4_hourly, HOURLY | {"naive_season": 24, "mase_season": 24}),
}  # fmt: skip


def spread(choices, count):
    """That many of the choices, evenly spread."""
    if count >= len(choices):
        return list(choices)
    return [choices[i] for i in np.unique(np.linspace(0, len(choices) - 1, count).round().astype(int))]


def choose_origins(history, known, spec, limit):
    """Rolling origins over the last third; where there are too many, half of those kept see an announced event."""
    if not len(known):
        return [pd.Timestamp("2020-03-01T00:00:00Z")]
    step, horizon, every = (pd.Timedelta(spec[name]) for name in ("step", "horizon", "every"))
    first, end = history["ts"].min(), history["ts"].max() + step
    start = (first + (end - first) * LEARNING).ceil("1D")
    times = np.sort(history["ts"].unique())

    def is_filled(origin):
        inside = np.searchsorted(times, [origin, origin + horizon])
        return inside[1] - inside[0] >= FILLED * (horizon / step)

    candidates = [origin for origin in pd.date_range(start, end - horizon, freq=every) if is_filled(origin)]

    def sees_event(origin):
        ahead = (known["starts_at"] < origin + horizon) & (known["ends_at"] > origin)
        return bool((ahead & (known["announced_at"] <= origin)).any())

    eventful = [origin for origin in candidates if sees_event(origin)]
    quiet = [origin for origin in candidates if not sees_event(origin)]
    kept_quiet = max(limit // 2, limit - len(eventful))
    chosen_quiet = spread(quiet, kept_quiet)
    return sorted(spread(eventful, limit - len(chosen_quiet)) + chosen_quiet)


def rfc3339(times):
    return pd.DatetimeIndex(times).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(folder, history, known, spec, limit):
    folder.mkdir(parents=True, exist_ok=True)
    origins = choose_origins(history, known, spec, limit)
    history = history.sort_values(["workload", "ts"])
    history.assign(ts=rfc3339(history["ts"]))[["ts", "workload", "value"]].to_csv(folder / "history.csv", index=False)
    for column in ("announced_at", "starts_at", "ends_at"):
        known = known.assign(**{column: rfc3339(known[column])})
    known.to_csv(folder / "signals.csv", index=False)
    study = {name: value for name, value in spec.items() if name != "every"}
    study |= {"levels": LEVELS, "origins": list(rfc3339(origins))}
    (folder / "study.json").write_text(json.dumps(study, indent=1) + "\n")
    print(f"{folder.name}: {history['workload'].nunique()} workloads, {len(history)} steps, {len(known)} signals, "
          f"{len(origins)} origins from {origins[0]} to {origins[-1]}")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--origins", type=int, default=60, help="at most that many origins a set")
    args = parser.parse_args()
    for name in args.sets:
        source, read, spec = SETS[name]
        history, known = read(args.data / source)
        write(args.out / name, history, known, spec, min(args.origins, MOST_ORIGINS.get(name, args.origins)))


if __name__ == "__main__":
    main()
