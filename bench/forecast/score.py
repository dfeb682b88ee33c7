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


def averages(tables):
    """Over the sets that every contestant forecast completely."""
    scores = pd.concat(tables)
    whole = scores[scores["told"] == 1]
    contestants = scores["contestant"].nunique()
    common = [name for name, table in whole.groupby("set") if len(table) == contestants]
    print(f"\n## Average over {len(common)} sets that all forecast: {', '.join(common) or 'none'}")
    if not common:
        return
    whole = whole[whole["set"].isin(common)]
    columns = ["wql", "event_wql", "wape", "event_wape", "mase", "event_mase", "cov80", "cov95", "event_cov80", "event_cov95"]
    means = whole.groupby("contestant")[columns].mean()
    logs = np.log(whole.set_index("contestant")[["ratio", "event_ratio"]])
    means["ratio_to_best_of_set"] = np.exp(logs["ratio"].groupby("contestant").mean())
    means["event_ratio_to_best_of_set"] = np.exp(logs["event_ratio"].groupby("contestant").mean())
    peers = means[~means.index.str.startswith(OURS)]
    best = peers["ratio_to_best_of_set"].idxmin()
    means["ratio_to_best_peer"] = means["ratio_to_best_of_set"] / peers.loc[best, "ratio_to_best_of_set"]
    event_best = peers["event_ratio_to_best_of_set"].idxmin()
    means["event_ratio_to_best_peer"] = (
        means["event_ratio_to_best_of_set"] / peers.loc[event_best, "event_ratio_to_best_of_set"]
    )  # fmt: skip
    print(f"best peer: {best}; in event windows: {event_best} (geometric means of the ratio to each set's best peer)")
    print(means.sort_values("ratio_to_best_peer").round(3).reset_index().to_markdown(index=False))


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
            if "event_wql" in table:
                table["event_ratio"] = ratios(table, "event_wql")
            tables.append(table)
        show(table)
        if name == "m4_hourly":
            check_m4(table)
    if tables:
        averages(tables)
        pd.concat(tables).to_csv(args.out / "scores.csv", index=False)


if __name__ == "__main__":
    main()
