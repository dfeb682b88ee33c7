"""Real series as rows for a learner: the target, lags, the calendar and the events known at the time.

Load is on the log scale, relative to the mean of a week that ended a day before, since trees do not extrapolate. Every
cell of a row is known a day ahead, but for the weather, which stands for its forecast; what is not known is missing.
"""

from pathlib import Path

import numpy as np
import pandas as pd

DAY = pd.Timedelta(days=1)
WEEK_HOURS = 168.0


def worldcup98(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    minutes = pd.read_csv(folder / "worldcup98/requests_per_minute.csv.gz", parse_dates=["ts_utc"], index_col="ts_utc")
    minutes.loc[minutes["gap"] == 1, "requests"] = np.nan
    load = minutes["requests"].resample("1h").mean().to_frame("load")
    return load, events(folder / "worldcup98/events.csv", "UTC")


def nyc_taxi(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    load = pd.read_csv(folder / "nyc_taxi/passengers_30min.csv.gz", parse_dates=["ts_local"], index_col="ts_local")
    return load.set_axis(["load"], axis=1), events(folder / "nyc_taxi/events.csv", "America/New_York")


def bike_sharing(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    load = pd.read_csv(folder / "bike_sharing_dc/hourly_2010_2019.csv.gz", parse_dates=["ts_local"], index_col="ts_local")
    load = load.rename(columns={"rides": "load"}).groupby(level=0).first().asfreq("1h")
    return load, events(folder / "bike_sharing_dc/events.csv", "America/New_York")


def vic_electricity(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    load = pd.read_csv(folder / "vic_electricity/demand_30min.csv.gz", parse_dates=["Time"], index_col="Time")
    load.index = local(load.index, "Australia/Melbourne")
    load = load.rename(columns={"Demand": "load", "Temperature": "temperature"})[["load", "temperature"]]
    load = load.groupby(level=0).first().asfreq("30min")
    return load, events(folder / "vic_electricity/events.csv", "Australia/Melbourne")


SERIES = {
    "worldcup98": worldcup98,
    "nyc_taxi": nyc_taxi,
    "bike_sharing": bike_sharing,
    "vic_electricity": vic_electricity,
}


def local(times: pd.DatetimeIndex, zone: str) -> pd.DatetimeIndex:
    return times.tz_convert(zone).tz_localize(None) if times.tz is not None else times


def events(path: Path, zone: str) -> pd.DataFrame:
    table = pd.read_csv(path)
    for column in ("announced_at", "starts_at", "ends_at"):
        table[column] = pd.DatetimeIndex([local(pd.DatetimeIndex([text]), zone)[0] for text in table[column]])
    return table.sort_values("starts_at")


def rows(name: str, folder: Path) -> pd.DataFrame:
    """Columns `target` and `age_days` first, then the features; rows in order of time, none without a target."""
    load, known = SERIES[name](folder)
    step = load.index[1] - load.index[0]
    day = int(DAY / step)
    value = np.log1p(load["load"])
    level = value.shift(day).rolling(7 * day, min_periods=1).mean()
    age_days = (load.index[-1] - load.index) / DAY
    table = pd.DataFrame({"target": value - level, "age_days": age_days, "level": level}, index=load.index)
    for lag in (day, day + 1, day + 2, day + 3, day + day // 2, 2 * day, 3 * day, 7 * day, 14 * day, 21 * day):
        table[f"lag_{lag}"] = value.shift(lag) - level
    for width in (3, day // 4, day):
        past = value.shift(day).rolling(width, min_periods=1)
        table[f"mean_{width}"] = past.mean() - level
        table[f"low_{width}"] = past.min() - level
        table[f"high_{width}"] = past.max() - level
    table["spread_week"] = value.shift(day).rolling(7 * day, min_periods=day).std()
    table["trend_week"] = value.shift(day) - value.shift(8 * day)
    table["hour"] = load.index.hour + load.index.minute / 60
    table["weekday"] = load.index.weekday
    table["hour_of_week"] = table["weekday"] * 24 + table["hour"]
    table["day_of_year"] = load.index.dayofyear
    table["month"] = load.index.month
    table["week_sin"] = np.sin(2 * np.pi * table["hour_of_week"] / WEEK_HOURS)
    table["week_cos"] = np.cos(2 * np.pi * table["hour_of_week"] / WEEK_HOURS)
    for column in load.columns.drop("load"):
        table[column] = load[column]
    table = table.join(event_columns(table.index, known))
    return table.iloc[7 * day :].dropna(subset="target")


def event_columns(times: pd.DatetimeIndex, known: pd.DataFrame) -> pd.DataFrame:
    """What is known of events a day ahead; the distance to none within a week is missing."""
    cells = {name: np.full(len(times), np.nan) for name in ("hours_to", "hours_since", "hours_left", "event_weight")}
    counts = {name: np.zeros(len(times)) for name in ("acting", "starting_within_a_day", "started_within_a_day")}
    starts, ends, announced = (known[name].to_numpy() for name in ("starts_at", "ends_at", "announced_at"))
    for k, time in enumerate(times):
        told = announced <= (time - DAY).to_datetime64()
        to = (starts - time.to_datetime64()) / np.timedelta64(1, "h")
        left = (ends - time.to_datetime64()) / np.timedelta64(1, "h")
        ahead, behind, acting = told & (to > 0), told & (left <= 0), told & (to <= 0) & (left > 0)
        if (ahead & (to <= WEEK_HOURS)).any():
            cells["hours_to"][k] = to[ahead].min()
        if (behind & (left >= -WEEK_HOURS)).any():
            cells["hours_since"][k] = -left[behind].max()
        if acting.any():
            cells["hours_left"][k] = left[acting].max()
            cells["event_weight"][k] = known["weight"].to_numpy()[acting].max()
        counts["acting"][k] = acting.sum()
        counts["starting_within_a_day"][k] = (ahead & (to <= 24)).sum()
        counts["started_within_a_day"][k] = (told & (to <= 0) & (to > -24)).sum()
    return pd.DataFrame(cells | counts, index=times)
