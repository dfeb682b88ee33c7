"""The layout of a study on disk, and its loss."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

LEVELS = [0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99]


@dataclass(frozen=True)
class Study:
    """One set: its load on a regular grid (NaN where nothing was measured), its signals and its origins."""

    folder: Path
    step: pd.Timedelta
    horizon: int
    origins: list
    season_lengths: list
    naive_season: int
    mase_season: int
    loads: pd.DataFrame
    signals: pd.DataFrame

    @property
    def name(self):
        return self.folder.name

    @property
    def is_daily(self):
        return self.step >= pd.Timedelta("1D")

    def ahead(self, origin):
        """Starts of the steps that are forecast at an origin."""
        return pd.date_range(origin, periods=self.horizon, freq=self.step)


def load(folder):
    """Reads what `prepare.py` wrote."""
    study = json.loads((folder / "study.json").read_text())
    step = pd.Timedelta(study["step"])
    rows = pd.read_csv(folder / "history.csv", dtype={"workload": str})
    rows["ts"] = pd.to_datetime(rows["ts"], utc=True)
    loads = rows.pivot(index="ts", columns="workload", values="value").astype(float)
    loads = loads.reindex(pd.date_range(loads.index[0], loads.index[-1], freq=step))
    signals = pd.read_csv(folder / "signals.csv", dtype={"workloads": str, "event_id": str}, keep_default_na=False)
    for column in ("announced_at", "starts_at", "ends_at"):
        signals[column] = pd.to_datetime(signals[column], utc=True)
    signals["weight"] = signals["weight"].astype(float)
    return Study(
        folder=folder,
        step=step,
        horizon=round(pd.Timedelta(study["horizon"]) / step),
        origins=[pd.Timestamp(origin) for origin in study["origins"]],
        season_lengths=study["season_lengths"],
        naive_season=study["naive_season"],
        mase_season=study["mase_season"],
        loads=loads,
        signals=signals,
    )


def pinball(actual, quantiles):
    """Twice the pinball loss, averaged over the levels (columns of `quantiles`), of each step."""
    levels = np.array(LEVELS)
    miss = np.asarray(actual)[:, None] - quantiles
    return 2 * np.maximum(levels * miss, (levels - 1) * miss).mean(axis=1)
