"""LightGBM through mlforecast: one model a level, over all workloads of a set together."""

import time
from dataclasses import dataclass

import lightgbm
import numpy as np
import pandas as pd
from mlforecast import MLForecast
from mlforecast.lag_transforms import RollingMean

import events
from layout import LEVELS

TREES = {"n_estimators": 200, "learning_rate": 0.05, "num_leaves": 31, "min_child_samples": 20}
# Rows beyond which a model learns from the latest alone.
MAX_ROWS = 150_000


@dataclass(frozen=True)
class Lags:
    """Lagged steps and the windows of their rolling means."""

    lags: list
    means: dict

    @classmethod
    def direct(cls, study):
        """None is shorter than the horizon: every level rests on measured load alone."""
        day = max(1, round(pd.Timedelta("1D") / study.step))
        first = -(-study.horizon // day) * day
        week = 7 * day
        lags = sorted({study.horizon, first, first + day, -(-study.horizon // week) * week, 2 * week, 3 * week})
        return cls(lags, {study.horizon: [day, week] if day > 1 else [7, 28]})

    @classmethod
    def recursive(cls, study):
        """Short ones too: a level's later steps rest on its own earlier ones."""
        day = max(1, round(pd.Timedelta("1D") / study.step))
        week = 7 * day
        return cls(sorted({1, 2, day, 2 * day, week, 2 * week}), {1: [day] if day > 1 else [7, 28], day: [week]})


VARIANTS = {"direct": Lags.direct, "recursive": Lags.recursive}


def long_table(task, times, with_loads, lags):
    seasons = [length for length in lags if length >= task.study.season_lengths[0]]
    table = events.features(task.signals, times, task.study.step, seasons)
    table.insert(0, "ds", times.tz_localize(None))
    table.insert(0, "unique_id", task.workload)
    if with_loads:
        table["y"] = task.loads
    return table


def date_features(study):
    if study.is_daily:
        return ["dayofweek", "day", "dayofyear"]

    def minute_of_day(times):
        return times.hour * 60 + times.minute

    return [minute_of_day, "dayofweek", "dayofyear"]


def lightgbm_quantiles(tasks, variant):
    """Quantiles of each task; all are of one study and origin."""
    study = tasks[0].study
    lags = VARIANTS[variant](study)
    models = {
        f"q{level}": lightgbm.LGBMRegressor(
            objective="quantile", alpha=level, n_jobs=1, verbose=-1, random_state=7, **TREES
        )
        for level in LEVELS
    }  # fmt: skip
    kept = max(MAX_ROWS // len(tasks), 1)
    past = pd.concat([long_table(task.last(kept), task.last(kept).times, True, lags.lags) for task in tasks])
    future = pd.concat([long_table(task, task.ahead, False, lags.lags) for task in tasks])
    for column in set(past) ^ set(future) - {"y"}:
        for table in (past, future):
            if column not in table and column != "y":
                table[column] = 0.0
    began = time.perf_counter()
    forecaster = MLForecast(
        models=models,
        freq=pd.tseries.frequencies.to_offset(study.step),
        lags=lags.lags,
        lag_transforms={lag: [RollingMean(window) for window in windows] for lag, windows in lags.means.items()},
        date_features=date_features(study),
        num_threads=1,
    )
    forecaster.fit(past, static_features=[])
    fitted = time.perf_counter()
    answer = forecaster.predict(study.horizon, X_df=future)
    predicted = time.perf_counter()
    took = ((fitted - began) / len(tasks), (predicted - fitted) / len(tasks))
    by_workload = answer.set_index("unique_id")[list(models)]
    return [np.asarray(by_workload.loc[task.workload]) for task in tasks], took
