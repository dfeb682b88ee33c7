"""The peers: each takes a task (what is known of one workload at one origin) and gives quantiles of every step."""

import logging
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from prophet import Prophet
from statsforecast.models import MSTL, AutoARIMA, AutoETS, SeasonalNaive

import events
from layout import LEVELS

logging.getLogger("cmdstanpy").disabled = True
logging.getLogger("prophet").disabled = True

# Central intervals of statsforecast, in per cent, by the level of their lower and upper end.
INTERVALS = {50: (0.25, 0.75), 80: (0.1, 0.9), 90: (0.05, 0.95), 95: (0.025, 0.975), 98: (None, 0.99)}
PROPHET_SAMPLES = 500
ARIMA = {"max_p": 3, "max_q": 2, "max_P": 1, "max_Q": 1, "max_d": 1, "approximation": True, "nmodels": 12}


@dataclass(frozen=True)
class Task:
    """What is known of one workload at an origin; `is_measured` is false where a gap was filled."""

    study: object
    workload: str
    origin: pd.Timestamp
    times: pd.DatetimeIndex
    loads: np.ndarray
    is_measured: np.ndarray
    signals: pd.DataFrame

    def last(self, steps):
        """Its last steps alone."""
        if steps is None or steps >= len(self.loads):
            return self
        return replace(
            self, times=self.times[-steps:], loads=self.loads[-steps:], is_measured=self.is_measured[-steps:]
        )

    def in_log(self):
        """Of the logarithm of the load."""
        return replace(self, loads=np.log1p(self.loads))

    @property
    def ahead(self):
        return self.study.ahead(self.origin)

    @property
    def is_daily(self):
        return self.study.is_daily


def statsforecast(model, task, past=None, future=None):
    """Quantiles by the intervals of a statsforecast model; the median is its point forecast."""
    began = time.perf_counter()
    model.fit(task.loads, past)
    fitted = time.perf_counter()
    answer = model.predict(task.study.horizon, future, level=list(INTERVALS))
    took = (fitted - began, time.perf_counter() - fitted)
    columns = {0.5: answer["mean"]}
    for interval, (low, high) in INTERVALS.items():
        columns[low], columns[high] = answer[f"lo-{interval}"], answer[f"hi-{interval}"]
    return np.column_stack([columns[level] for level in LEVELS]), took


def seasonal_naive(task):
    return statsforecast(SeasonalNaive(season_length=task.study.naive_season), task)


def auto_ets(task):
    return statsforecast(AutoETS(season_length=task.study.season_lengths[0]), task)


def mstl(task):
    seasons = [length for length in task.study.season_lengths if 2 * length < len(task.loads)]
    return statsforecast(MSTL(season_length=seasons), task)


def learnable(past, future):
    """The columns of both that have varied."""
    columns = [column for column in past if past[column].std() > 1e-6]
    future = future.reindex(columns=columns, fill_value=0.0)
    return past[columns].to_numpy(), future.to_numpy()


def fourier(times, periods):
    """Pairs of sine and cosine: that many of each period, in days."""
    days = events.seconds(times) / 86_400
    waves = {}
    for period, count in periods.items():
        for k in range(1, count + 1):
            waves[f"sin_{period}_{k}"] = np.sin(2 * np.pi * k * days / period)
            waves[f"cos_{period}_{k}"] = np.cos(2 * np.pi * k * days / period)
    return pd.DataFrame(waves, index=times)


def auto_arima(task):
    """Seasons shorter than a day's steps are searched by the model; longer ones are Fourier terms beside the events."""
    frames = [events.regressors(task.signals, times, task.study.step) for times in (task.times, task.ahead)]
    if not task.is_daily:
        waves = {1: 6, 7: 3} if len(task.loads) > 2 * task.study.season_lengths[-1] else {1: 6}
        frames = [frame.join(fourier(frame.index, waves)) for frame in frames]
    past, future = learnable(*frames)
    season = task.study.season_lengths[0] if task.is_daily else 1
    model = AutoARIMA(season_length=season, seasonal=season > 1, **ARIMA)
    return statsforecast(model, task, *((past, future) if past.shape[1] else (None, None)))


def prophet(task):
    """Phases of events by kind and recurring names as regressors; gaps are left out as Prophet can."""
    both = task.times.append(task.ahead)
    table = events.regressors(task.signals, both, task.study.step).join(events.names(task.signals, both, task.study.step))
    seen = table.iloc[: len(task.times)].loc[task.is_measured].std() > 1e-6
    table = table.loc[:, seen].set_axis([f"x{i}" for i in range(seen.sum())], axis=1)
    table.insert(0, "ds", both.tz_localize(None))
    past, future = table.iloc[: len(task.times)].assign(y=task.loads)[task.is_measured], table.iloc[len(task.times) :]
    model = Prophet(uncertainty_samples=PROPHET_SAMPLES)
    for column in table.columns[1:]:
        model.add_regressor(column, standardize=False)
    began = time.perf_counter()
    np.random.seed(7)
    model.fit(past, seed=7)
    fitted = time.perf_counter()
    samples = model.predictive_samples(future)["yhat"]
    quantiles = np.quantile(samples, LEVELS, axis=1).T
    return quantiles, (fitted - began, time.perf_counter() - fitted)


@dataclass(frozen=True)
class Peer:
    """A peer: its forecast, and how many days of history it is given at most, by the kind of step."""

    forecast: object
    hourly_days: int = 730
    short_days: int = 730
    daily_days: int = 4_000

    def bounded(self, task):
        if task.is_daily:
            days = self.daily_days
        else:
            days = self.hourly_days if task.study.step >= pd.Timedelta("1h") else self.short_days
        return task.last(int(pd.Timedelta(days=days) / task.study.step))


SERIES_PEERS = {
    "seasonal_naive": Peer(seasonal_naive),
    "mstl": Peer(mstl, hourly_days=182, short_days=10),
    "prophet": Peer(prophet),
    "auto_ets": Peer(auto_ets, hourly_days=56),
    "auto_arima": Peer(auto_arima, hourly_days=84),
}
