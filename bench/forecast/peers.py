"""Forecasts of the peers over the origins of each study.

    peers.py OUT_FOLDER [--sets ..] [--peers ..] [--jobs 2]

What is on disk is skipped. Each peer first chooses between the load and its logarithm (and LightGBM between two sets of
lags) on three origins before the first one that is scored.
"""

import os

# One thread a job: peers are compared by the processor time of one core.
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import argparse
import json
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import contenders
import events
import layout
import trees

warnings.filterwarnings("ignore")

PEERS = ["seasonal_naive", "mstl", "lightgbm", "prophet", "auto_ets", "auto_arima"]
# Their seasons or searches are out of reach at 5 minutes.
NOT_SHORT = {"auto_ets", "auto_arima"}
SCALES = ["linear", "log"]
TUNING_ORIGINS = 3
TUNING_WORKLOADS = 5
BATCH_WORKLOADS = 25
# A hole that long ends what can be learnt from: filling it would be invention.
MAX_HOLE = pd.Timedelta("14D")
TIME_COLUMNS = ["workload", "origin", "steps", "fit_s", "predict_s", "cpu_s"]


@lru_cache(maxsize=1)
def study_of(folder):
    return layout.load(folder)


def task_of(study, origin, workload):
    """What a peer may see: the load of closed steps since the last long hole, gaps filled, and announced events."""
    known = study.loads[workload].loc[: origin - study.step]
    known = known.loc[known.first_valid_index() :]
    measured = known.dropna().index
    # A gap before the origin is a gap as well: the horizon begins at the origin.
    holes = np.flatnonzero(np.diff(measured) > MAX_HOLE)
    if len(holes):
        known = known.loc[measured[holes[-1] + 1] :]
    is_measured = known.notna().to_numpy()
    loads = known.to_numpy().copy()
    season = study.season_lengths[-1]
    for i in np.flatnonzero(~is_measured):
        if i >= season:
            loads[i] = loads[i - season]
    filled = pd.Series(loads).interpolate(limit_direction="both").to_numpy()
    signals = events.known(study.signals, origin, workload)
    return contenders.Task(study, workload, origin, known.index, filled, is_measured, signals)


def cpu_seconds():
    """Of this process and of those that it has waited for: Prophet fits in one."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def forecast_each(contender, tasks):
    """Quantiles of each task, and its seconds of fitting, predicting, and of processor time."""
    answers, times = [], []
    for task in tasks:
        before = cpu_seconds()
        quantiles, took = contender.forecast(task)
        answers.append(quantiles)
        times.append((len(task.loads), *took, cpu_seconds() - before))
    return answers, times


def run_tasks(peer, tasks, choice):
    """Quantiles in the load's own unit, and what each took."""
    scaled = [task.in_log() if choice["scale"] == "log" else task for task in tasks]
    if peer == "lightgbm":
        scaled = [contenders.Peer(None).bounded(task) for task in scaled]
        before = cpu_seconds()
        answers, took = trees.lightgbm_quantiles(scaled, choice["lags"])
        cpu = (cpu_seconds() - before) / len(tasks)
        times = [(len(task.loads), *took, cpu) for task in scaled]
    else:
        contender = contenders.SERIES_PEERS[peer]
        answers, times = forecast_each(contender, [contender.bounded(task) for task in scaled])
    # Nothing of e^30 or more is a load; crossed quantiles are put in order.
    unscaled = [np.expm1(np.clip(a, -1, 30)) if choice["scale"] == "log" else a for a in answers]
    return [np.maximum(np.sort(quantiles, axis=1), 0) for quantiles in unscaled], times


def choices_of(peer, study):
    if peer != "lightgbm":
        return [{"scale": scale} for scale in SCALES]
    # A level that feeds on itself over hundreds of steps is neither quick nor sensible.
    variants = list(trees.VARIANTS) if study.step >= pd.Timedelta("1h") else ["direct"]
    return [{"scale": scale, "lags": variant} for variant in variants for scale in SCALES]


def choose(peer, folder):
    """The choice with the least loss on origins before the scored ones."""
    file = folder / "choices" / f"{peer}.json"
    if file.exists():
        return json.loads(file.read_text())["chosen"]
    study = study_of(folder)
    workloads = list(study.loads.columns)
    workloads = [workloads[i] for i in np.linspace(0, len(workloads) - 1, min(TUNING_WORKLOADS, len(workloads))).astype(int)]
    losses = []
    for choice in choices_of(peer, study):
        loss = load = 0.0
        for back in range(1, TUNING_ORIGINS + 1):
            origin = study.origins[0] - back * study.horizon * study.step
            tasks = [task_of(study, origin, workload) for workload in workloads]
            try:
                answers, _ = run_tasks(peer, tasks, choice)
            except Exception as error:  # noqa: BLE001: a choice that fails is not taken
                print(f"{folder.name} {peer} {choice}: {error}")
                loss = np.inf
                break
            for task, quantiles in zip(tasks, answers):
                actual = study.loads[task.workload].reindex(task.ahead).to_numpy()
                loss += np.nansum(layout.pinball(actual, quantiles))
                load += np.nansum(np.abs(actual))
        losses.append(loss / load if load and np.isfinite(loss) else None)
    best = min((loss, i) for i, loss in enumerate(losses) if loss is not None)[1]
    chosen = choices_of(peer, study)[best]
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"chosen": chosen, "losses": losses, "of": choices_of(peer, study)}) + "\n")
    return chosen


def run_unit(folder, peer, origin, workloads, part, choice):
    """Forecasts of some workloads at one origin, written as one part."""
    warnings.filterwarnings("ignore")
    study = study_of(folder)
    tasks = [task_of(study, origin, workload) for workload in workloads]
    answers, times = run_tasks(peer, tasks, choice)
    steps = study.ahead(origin)
    count = len(steps) * len(layout.LEVELS)
    rows = pd.DataFrame(
        {
            "workload": np.repeat([task.workload for task in tasks], count),
            "origin": origin,
            "ts": np.tile(np.repeat(steps, len(layout.LEVELS)), len(tasks)),
            "level": np.tile(layout.LEVELS, len(steps) * len(tasks)),
            "value": np.concatenate([answer.ravel() for answer in answers]),
        }
    )
    took = [(task.workload, origin, *measured) for task, measured in zip(tasks, times)]
    pd.DataFrame(took, columns=TIME_COLUMNS).to_parquet(part.with_suffix(".times"), index=False)
    unfinished = part.with_suffix(".unfinished")
    rows.to_parquet(unfinished, index=False)
    unfinished.rename(part)


def units_of(folder, peer):
    """The parts of a peer's forecasts: origin, workloads and file of each."""
    study = study_of(folder)
    workloads = list(study.loads.columns)
    # LightGBM learns from all workloads together.
    batch = len(workloads) if peer == "lightgbm" else BATCH_WORKLOADS
    parts = folder / "parts" / peer
    parts.mkdir(parents=True, exist_ok=True)
    for origin in study.origins:
        for begin in range(0, len(workloads), batch):
            name = f"{origin:%Y%m%dT%H%M}-{begin:05}.parquet"
            yield origin, workloads[begin : begin + batch], parts / name


def join(folder, peer, parts):
    """All parts as one file each of forecasts and times."""
    for target, suffix in (("forecasts", ".parquet"), ("times", ".times")):
        (folder / target).mkdir(exist_ok=True)
        table = pd.concat([pd.read_parquet(part.with_suffix(suffix)) for part in parts], ignore_index=True)
        unfinished = folder / target / f"{peer}.unfinished"
        table.to_parquet(unfinished, index=False)
        unfinished.rename(folder / target / f"{peer}.parquet")


def run(folder, peer, jobs):
    if (folder / "forecasts" / f"{peer}.parquet").exists():
        return
    units = list(units_of(folder, peer))
    choice = choose(peer, folder)
    missing = [unit for unit in units if not unit[2].exists()]
    failures = []
    with ProcessPoolExecutor(jobs) as pool:
        waiting = {pool.submit(run_unit, folder, peer, *unit, choice): unit for unit in missing}
        label = f"{folder.name} {peer} {'/'.join(choice.values())}"
        for done in tqdm(as_completed(waiting), label, total=len(waiting), mininterval=1):
            if done.exception():
                failures.append(f"{folder.name} {peer} at {waiting[done][0]}: {done.exception()!r}")
    for failure in failures:
        print(failure)
    if not failures:
        join(folder, peer, [unit[2] for unit in units])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", help="names of folders in OUT_FOLDER; all of them unless given")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    sets = args.sets or sorted(study.parent.name for study in args.out.glob("*/study.json"))
    for peer in args.peers:
        for name in sets:
            folder = args.out / name
            if peer in NOT_SHORT and study_of(folder).step < pd.Timedelta("1h"):
                continue
            run(folder, peer, args.jobs)


if __name__ == "__main__":
    main()
