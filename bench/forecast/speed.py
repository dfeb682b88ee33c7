"""speed.py SERIES.csv STEPS: fits peers on the first STEPS of each series and forecasts the rest, one thread, one JSON line a peer.

Run by `headroom bench forecast --python PROGRAM`; the campaigns are given to Prophet as a regressor.
"""

import json
import logging
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import pandas as pd
from prophet import Prophet
from statsforecast.models import MSTL, AutoETS

logging.getLogger("cmdstanpy").disabled = True
logging.getLogger("prophet").disabled = True
DECILES = np.arange(1, 10) / 10
INTERVALS = {80: (0.1, 0.9), 60: (0.2, 0.8), 40: (0.3, 0.7), 20: (0.4, 0.6)}
DAY = 288


def statsforecast(model, known, _steps, ahead):
    began = time.process_time()
    model.fit(known)
    fitted = time.process_time()
    answer = model.predict(ahead, level=list(INTERVALS))
    took = fitted - began, time.process_time() - fitted
    columns = {0.5: answer["mean"]}
    for interval, (low, high) in INTERVALS.items():
        columns[low], columns[high] = answer[f"lo-{interval}"], answer[f"hi-{interval}"]
    return np.column_stack([columns[level] for level in sorted(columns)]), took


def mstl(known, steps, ahead):
    return statsforecast(MSTL(season_length=[DAY, 7 * DAY]), known, steps, ahead)


def auto_ets(known, steps, ahead):
    # A season of 288 is beyond it: it is given none, which is its quickest.
    return statsforecast(AutoETS(season_length=1), known, steps, ahead)


def prophet(known, steps, ahead):
    at = np.arange(steps + ahead)
    within = at % (4 * DAY) - 3 * DAY
    table = pd.DataFrame({"ds": pd.Timestamp("2023-01-02") + pd.to_timedelta(at * 5, unit="min")})
    table["campaign"] = ((within >= 216) & (within < 240)).astype(float)
    model = Prophet(uncertainty_samples=200)
    model.add_regressor("campaign", standardize=False)
    began = time.process_time()
    model.fit(table.iloc[:steps].assign(y=known), seed=7)
    fitted = time.process_time()
    samples = model.predictive_samples(table.iloc[steps:])["yhat"]
    return np.quantile(samples, DECILES, axis=1).T, (fitted - began, time.process_time() - fitted)


def main():
    rows = pd.read_csv(sys.argv[1])
    steps = int(sys.argv[2])
    for name, peer in {
        "statsforecast MSTL": mstl,
        "statsforecast AutoETS, no season": auto_ets,
        "Prophet with the campaigns": prophet,
    }.items():
        fits, predicts, losses = [], [], []
        for _, series in rows.groupby("workload"):
            values = series.sort_values("step")["value"].to_numpy()
            known, came = values[:steps], values[steps:]
            quantiles, (fit, predict) = peer(known, steps, len(came))
            median = quantiles[:, len(DECILES) // 2]
            losses.append(np.abs(came - median).sum() / came.sum())
            fits.append(fit)
            predicts.append(predict)
        took = {"fit_s": np.mean(fits), "predict_s": np.mean(predicts), "wape": np.mean(losses)}
        print(json.dumps({"peer": name} | took), flush=True)


if __name__ == "__main__":
    main()
