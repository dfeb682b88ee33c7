"""Boosted quantiles of the crate and of LightGBM on the same rows: losses on the last part of each series, and times."""

import argparse
import json
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd

import series

LEVELS = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
TRAINED = 0.7
# Both learners see the same settings. A single fit is a draw among equals, so repeats differ in bins or in seed.
CASES = {
    "plain": [{"bins": bins} for bins in (255, 250, 245)],
    "least gain": [{"bins": bins} for bins in (255, 250, 245)],
    "drawn": [{"row_share": 0.8, "feature_share": 0.8, "seed": seed} for seed in (1, 2, 3)],
    "weighted": [{"row_share": 0.8, "feature_share": 0.8, "seed": seed} for seed in (1, 2, 3)],
}
COMMON = {"rounds": 300, "leaves": 31, "learning_rate": 0.05, "min_rows": 20, "l2": 0.0, "bins": 255}


def losses(forecasts: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Mean pinball loss of each level."""
    miss = actual[:, None] - forecasts
    return np.where(miss >= 0, np.array(LEVELS) * miss, (np.array(LEVELS) - 1) * miss).mean(axis=0)


def with_lightgbm(train: pd.DataFrame, test: pd.DataFrame, settings: dict, least: float) -> tuple[np.ndarray, dict]:
    parameters = {
        "objective": "quantile",
        "num_leaves": settings["leaves"],
        "learning_rate": settings["learning_rate"],
        "min_data_in_leaf": settings["min_rows"],
        "lambda_l2": settings["l2"],
        "max_bin": settings["bins"],
        "bagging_fraction": settings.get("row_share", 1.0),
        "bagging_freq": 1 if "row_share" in settings else 0,
        "feature_fraction": settings.get("feature_share", 1.0),
        "min_gain_to_split": least,
        "seed": settings.get("seed", 0),
        "num_threads": 1,
        "verbose": -1,
    }
    clock, cpu = time.perf_counter(), time.process_time()
    weights = None if (train["weight"] == 1).all() else train["weight"]
    data = lightgbm.Dataset(train.iloc[:, 2:], train["target"], weight=weights, params=parameters)
    data.construct()
    models = [lightgbm.train(parameters | {"alpha": level}, data, settings["rounds"]) for level in LEVELS]
    spent = {"wall_s": time.perf_counter() - clock, "cpu_s": time.process_time() - cpu}
    return np.column_stack([model.predict(test.iloc[:, 2:], num_threads=1) for model in models]), spent


def with_crate(program: Path, folder: Path, settings: dict) -> tuple[np.ndarray, dict]:
    files = [str(folder / name) for name in ("train.csv", "test.csv", "predictions.csv")]
    levels = ",".join(map(str, LEVELS))
    ran = subprocess.run([program, *files, levels, json.dumps(settings)], check=True, capture_output=True, text=True)
    return np.loadtxt(files[2], delimiter=",", ndmin=2), json.loads(ran.stdout)


def compare(program: Path, name: str, rows: pd.DataFrame, case: str, repeats: int) -> dict:
    """Mean losses over the repeats, and the time of all fits of one repeat, binning included."""
    rows = rows.astype(np.float32)
    trained = int(len(rows) * TRAINED)
    half_life = np.float32((rows["age_days"].iloc[0] - rows["age_days"].iloc[trained]) / 4)
    weight = 0.5 ** ((rows["age_days"] - rows["age_days"].iloc[trained]) / half_life) if case == "weighted" else 1.0
    rows = rows.drop(columns="age_days")
    rows.insert(1, "weight", np.float32(weight))
    train, test = rows.iloc[:trained], rows.iloc[trained:]
    theirs, ours, spent = [], [], []
    with tempfile.TemporaryDirectory() as work:
        train.to_csv(Path(work) / "train.csv", index=False)
        test.to_csv(Path(work) / "test.csv", index=False)
        for repeat in CASES[case][:repeats]:
            least = 1e-9 if case == "least gain" else 0.0
            forecasts, their_spent = with_lightgbm(train, test, COMMON | repeat, least)
            theirs.append(losses(forecasts, test["target"].to_numpy()))
            forecasts, our_spent = with_crate(program, Path(work), COMMON | repeat)
            ours.append(losses(forecasts, test["target"].to_numpy()))
            spent.append([their_spent["wall_s"], their_spent["cpu_s"], our_spent["wall_s"], our_spent["cpu_s"]])
    theirs, ours, spent = np.array(theirs), np.array(ours), np.mean(spent, axis=0)
    return {
        "series": name,
        "case": case,
        "rows": trained,
        "lightgbm": theirs.mean(),
        "ours": ours.mean(),
        "ratio": ours.mean() / theirs.mean(),
        # How far LightGBM's own repeats lie apart, relative to their mean.
        "spread": np.ptp(theirs.mean(axis=1)) / theirs.mean(),
        "lightgbm_wall_s": spent[0],
        "lightgbm_cpu_s": spent[1],
        "ours_wall_s": spent[2],
        "ours_cpu_s": spent[3],
        **{f"ratio_{level}": value for level, value in zip(LEVELS, ours.mean(axis=0) / theirs.mean(axis=0))},
    }


def synthetic(rows: int = 286_000, columns: int = 40) -> pd.DataFrame:
    """Noise of two widths around a smooth surface, for times."""
    random = np.random.default_rng(1)
    cells = random.standard_normal((rows, columns)).round(4)
    surface = cells[:, 0] + np.sin(3 * cells[:, 1]) + cells[:, 2] * cells[:, 3]
    noise = random.standard_normal(rows) * (0.5 + (cells[:, 4] > 0))
    table = pd.DataFrame(cells, columns=[f"x{k}" for k in range(columns)])
    table.insert(0, "age_days", np.linspace(1, 0, rows))
    table.insert(0, "target", (surface + noise).round(4))
    return table


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("program", type=Path, help="the built example `boost` of the crate")
    arguments.add_argument("data", type=Path, help="folder with worldcup98, nyc_taxi, bike_sharing_dc, vic_electricity")
    arguments.add_argument("--series", nargs="*", default=[*series.SERIES, "synthetic"])
    arguments.add_argument("--cases", nargs="*", default=list(CASES))
    arguments.add_argument("--repeats", type=int, default=3, help="1 to 3; once for the synthetic rows")
    given = arguments.parse_args()
    warnings.filterwarnings("ignore", module="lightgbm")
    print(f"lightgbm {lightgbm.__version__}, {COMMON}, levels {LEVELS}")
    results = []
    for name in given.series:
        rows = synthetic() if name == "synthetic" else series.rows(name, given.data)
        cases, repeats = (given.cases, given.repeats) if name != "synthetic" else (given.cases[:1], 1)
        for case in cases:
            results.append(compare(given.program, name, rows, case, repeats))
            print(pd.DataFrame(results[-1:]).round(5).to_string(index=False, header=len(results) == 1), flush=True)
    table = pd.DataFrame(results)
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
