"""Scores every forecast of a study against what came.

    score.py OUT_FOLDER [--sets ..]

Reads `<set>/forecasts/*.parquet`, prints one table a set and the averages, and writes `scores.csv` into OUT_FOLDER.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

import events
import layout
from layout import LEVELS

# Load goes on after an event ends.
AFTER_EVENT = pd.Timedelta("2h")
# Forecasts beyond that many times the largest load ever are cut there, for everybody alike.
ABSURD = 5.0
OURS = "headroom"
# Published for the M4 competition's hourly series.
M4_NAIVE2 = {"smape": 18.383, "mase": 2.395}
M4_SEASONAL_NAIVE = {"smape": 13.912, "mase": 1.193}
KEYS = ["workload", "origin", "ts"]
MEDIAN, PAIRS = LEVELS.index(0.5), {"cov80": (0.1, 0.9), "cov95": (0.025, 0.975)}


def truth(study):
    """One row for each step of each origin that has an actual: its load, MASE scale, and whether an event is on."""
    tables = []
    for workload, loads in study.loads.items():
        for origin in study.origins:
            steps = study.ahead(origin)
            past = loads.loc[: origin - study.step].to_numpy()
            table = pd.DataFrame({"workload": workload, "origin": origin, "ts": steps})
            table["actual"] = loads.reindex(steps).to_numpy()
            table["scale"] = np.nanmean(np.abs(past[study.mase_season :] - past[: -study.mase_season]))
            table["is_event"] = event_steps(study, origin, workload, steps)
            table["cap"] = ABSURD * np.nanmax(loads.to_numpy())
            tables.append(table)
    return pd.concat(tables).dropna(subset="actual").set_index(KEYS)


def event_steps(study, origin, workload, steps):
    """Steps between the start of a known event and its end plus two hours; on daily series the days it touches."""
    on = np.zeros(len(steps), bool)
    known = events.known(study.signals, origin, workload)
    for start, end in zip(known["starts_at"], known["ends_at"]):
        until = end if study.is_daily else end + AFTER_EVENT
        on |= (steps + study.step > start) & (steps < until)
    return on


def read_forecasts(file):
    """Quantiles by workload, origin and step: one column a level."""
    rows = pd.read_parquet(file, columns=[*KEYS, "level", "value"])
    for column in ("origin", "ts"):
        rows[column] = pd.to_datetime(rows[column], utc=True)
    rows["workload"] = rows["workload"].astype(str)
    rows["level"] = rows["level"].round(6)
    if rows.duplicated([*KEYS, "level"]).any():
        raise SystemExit(f"{file}: more than one value for a workload, origin, step and level")
    return rows.pivot(index=KEYS, columns="level", values="value").reindex(columns=LEVELS)


def metrics(rows):
    """The scores of some steps; nothing where there are none."""
    if not len(rows):
        return {}
    actual, quantiles = rows["actual"].to_numpy(), rows[LEVELS].to_numpy()
    error, total = np.abs(actual - quantiles[:, MEDIAN]), np.abs(actual).sum()
    scaled = pd.Series(error / rows["scale"].to_numpy(), index=rows.index)
    scores = {
        "wql": layout.pinball(actual, quantiles).sum() / total,
        "wape": error.sum() / total,
        "mase": scaled.groupby(level=["workload", "origin"]).mean().mean(),
    }
    for name, (low, high) in PAIRS.items():
        inside = (actual >= quantiles[:, LEVELS.index(low)]) & (actual <= quantiles[:, LEVELS.index(high)])
        scores[name] = inside.mean()
    return scores


def m4_metrics(rows, scores):
    """sMAPE as the competition defined it, and the overall weighted average."""
    actual, median = rows["actual"], rows[0.5]
    step = 200 * (actual - median).abs() / (actual.abs() + median.abs())
    smape = step.groupby(level="workload").mean().mean()
    return {"smape": smape, "owa": (smape / M4_NAIVE2["smape"] + scores["mase"] / M4_NAIVE2["mase"]) / 2}


def times_of(folder, contestant):
    file = folder / "times" / f"{contestant}.parquet"
    if not file.exists():
        return {}
    times = pd.read_parquet(file)
    return {name: times[name].mean() for name in ("fit_s", "predict_s", "cpu_s") if name in times}


def choice_of(folder, contestant):
    file = folder / "choices" / f"{contestant}.json"
    return {"choice": "/".join(json.loads(file.read_text())["chosen"].values())} if file.exists() else {}


def score_set(folder):
    """One row a contestant."""
    study = layout.load(folder)
    actual = truth(study)
    table = []
    for file in sorted((folder / "forecasts").glob("*.parquet")):
        forecasts = read_forecasts(file).reindex(actual.index)
        is_told = np.isfinite(forecasts.to_numpy()).all(axis=1)
        rows = actual.join(forecasts)[is_told]
        rows[LEVELS] = np.clip(np.sort(rows[LEVELS].to_numpy(), axis=1), 0, rows[["cap"]].to_numpy())
        scores = metrics(rows)
        if folder.name == "m4_hourly" and scores:
            scores |= m4_metrics(rows, scores)
        scores |= {f"event_{name}": value for name, value in metrics(rows[rows["is_event"]]).items()}
        scores |= times_of(folder, file.stem) | choice_of(folder, file.stem)
        table.append({"set": folder.name, "contestant": file.stem, "told": is_told.mean(), **scores})
    events_share = actual["is_event"].mean()
    print(f"\n## {folder.name}: {len(study.origins)} origins, {study.loads.shape[1]} workloads, {len(actual)} steps, "
          f"{events_share:.0%} in event windows")  # fmt: skip
    return pd.DataFrame(table)


def ratios(table, column):
    """Each contestant's score over that of the best peer that forecast everything."""
    eligible = table[(table["told"] == 1) & ~table["contestant"].str.startswith(OURS)]
    return table[column] / eligible[column].min()


def show(table):
    if not len(table):
        print("no forecasts")
        return
    table = table.dropna(axis="columns", how="all").drop(columns="set")
    if (table["told"] == 1).all():
        table = table.drop(columns="told")
    shown = table.sort_values("wql").round(3)
    print(shown.astype(object).where(shown.notna(), "-").to_markdown(index=False, disable_numparse=True))


def check_m4(table):
    """The loader and the scores are right if seasonal naive scores as was published."""
    naive = table[table["contestant"] == "seasonal_naive"]
    for name, expected in M4_SEASONAL_NAIVE.items():
        if len(naive) and abs(naive[name].iloc[0] - expected) > 0.0006:
            raise SystemExit(f"m4_hourly: seasonal naive has {name} {naive[name].iloc[0]:.4f}, published is {expected}")


def averages(scores):
    """Of all contestants over the sets that all forecast, and of those that forecast the most sets over these."""
    whole = scores[scores["told"] == 1]
    counts = whole["contestant"].value_counts()
    groups = [set(scores["contestant"]), set(counts.index[counts == counts.max()])]
    for group in groups if groups[0] != groups[1] else groups[:1]:
        show_average(whole[whole["contestant"].isin(group)], len(group))


def show_average(whole, contestants):
    common = [name for name, table in whole.groupby("set") if len(table) == contestants]
    print(f"\n## Average of {contestants} over {len(common)} sets that all of them forecast: {', '.join(common) or 'none'}")
    if not common:
        return
    whole = whole[whole["set"].isin(common)]
    columns = [f"{prefix}{name}" for name in ("wql", "wape", "mase", "cov80", "cov95") for prefix in ("", "event_")]
    means = whole.groupby("contestant")[[name for name in columns if name in whole]].mean()
    for ratio in ("ratio", "event_ratio"):
        if whole[ratio].isna().all():
            continue
        to_best_of_set = np.exp(np.log(whole.set_index("contestant")[ratio]).groupby("contestant").mean())
        peers = to_best_of_set[~to_best_of_set.index.str.startswith(OURS)]
        print(f"best peer by {ratio}: {peers.idxmin()}")
        means[f"{ratio}_to_best_of_set"], means[f"{ratio}_to_best_peer"] = to_best_of_set, to_best_of_set / peers.min()
    by = "ratio_to_best_peer" if "ratio_to_best_peer" in means else "wql"
    print(means.sort_values(by).round(3).reset_index().to_markdown(index=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+")
    args = parser.parse_args()
    tables = []
    for name in args.sets or sorted(study.parent.name for study in args.out.glob("*/study.json")):
        table = score_set(args.out / name)
        if len(table):
            table["ratio"] = ratios(table, "wql")
            table["event_ratio"] = ratios(table, "event_wql") if "event_wql" in table else np.nan
            tables.append(table)
        show(table)
        if name == "m4_hourly":
            check_m4(table)
    if tables:
        scores = pd.concat(tables)
        averages(scores)
        scores.to_csv(args.out / "scores.csv", index=False)


if __name__ == "__main__":
    main()
