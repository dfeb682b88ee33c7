"""What is known of events at an origin, as regressors and features."""

from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

HOUR = 3600.0
# Hours since the start, and since the end, that make the phases of a short event.
AROUND_START = {"pre": (-3, -1), "lead": (-1, 0), "first": (0, 1), "second": (1, 2)}
AROUND_END = {"after": (0, 2), "later": (2, 5)}
# An event of that many hours or more has its own profile over the day instead.
LONG_HOURS = 20
SLICE_HOURS = 4
# Hours beyond which an event is neither near nor recent.
NEAR_HOURS = 72


def known(signals, origin, workload):
    """The latest announcement of each event of a workload that an origin may see."""
    seen = signals[signals["announced_at"] <= origin]
    seen = seen.sort_values("announced_at", kind="stable").drop_duplicates("event_id", keep="last")
    concerned = [
        not selectors or any(fnmatchcase(workload, selector) for selector in selectors.split("|"))
        for selectors in seen["workloads"]
    ]
    return seen[np.array(concerned, dtype=bool)].sort_values("starts_at")


def seconds(times):
    return pd.DatetimeIndex(times).tz_convert("UTC").tz_localize(None).to_numpy("datetime64[s]").astype(float)


def shares(begins, step_s, start, end):
    """Part of each step within [start, end)."""
    return np.clip(np.minimum(begins + step_s, end) - np.maximum(begins, start), 0, step_s) / step_s


def regressors(signals, times, step):
    """Weighted phases of the events by kind: one column each, one row a step."""
    begins, step_s = seconds(times), step.total_seconds()
    columns = {}

    def add(name, weight, start, end):
        if end > begins[0] and start < begins[-1] + step_s and end > start:
            columns[name] = columns.get(name, 0.0) + weight * shares(begins, step_s, start, end)

    starts, ends = seconds(signals["starts_at"]), seconds(signals["ends_at"])
    for kind, weight, start, end in zip(signals["kind"], signals["weight"], starts, ends):
        if step >= pd.Timedelta("1D"):
            add(f"{kind}_before", weight, start - step_s, start)
            add(f"{kind}_on", weight, start, end)
            add(f"{kind}_after", weight, end, end + step_s)
        elif end - start >= LONG_HOURS * HOUR:
            for number, begin in enumerate(np.arange(start, end, SLICE_HOURS * HOUR)):
                phase = f"{kind}_slice{number % (24 // SLICE_HOURS)}"
                add(phase, weight, begin, min(begin + SLICE_HOURS * HOUR, end))
            add(f"{kind}_dayafter", weight, end, end + 6 * HOUR)
        else:
            for phase, (low, high) in AROUND_START.items():
                add(f"{kind}_{phase}", weight, start + low * HOUR, min(start + high * HOUR, end))
            add(f"{kind}_middle", weight, start + 2 * HOUR, end)
            for phase, (low, high) in AROUND_END.items():
                add(f"{kind}_{phase}", weight, end + low * HOUR, end + high * HOUR)
    return pd.DataFrame(columns, index=times, dtype=float)


def names(signals, times, step):
    """One column for each name that recurs: the steps of its events."""
    begins, step_s = seconds(times), step.total_seconds()
    columns = {}
    for name, events in signals.groupby("name"):
        if len(events) > 1:
            bounds = zip(seconds(events["starts_at"]), seconds(events["ends_at"]))
            columns[f"name_{name}"] = sum(shares(begins, step_s, start, end) for start, end in bounds)
    return pd.DataFrame(columns, index=times, dtype=float)


def features(signals, times, step, lags):
    """For trees: by kind the active weight, also that of the lagged steps, and the hours to and since events."""
    begins, step_s = seconds(times), step.total_seconds()
    columns = {}
    for kind, events in signals.groupby("kind"):
        starts, ends = seconds(events["starts_at"]), seconds(events["ends_at"])
        weights = events["weight"].to_numpy()

        def active(at):
            return sum(w * shares(at, step_s, start, end) for w, start, end in zip(weights, starts, ends))

        columns[f"{kind}_active"] = active(begins)
        for lag in lags:
            columns[f"{kind}_active_lag{lag}"] = active(begins - lag * step_s)
        padded = np.concatenate([starts, [np.inf]])
        columns[f"{kind}_until"] = padded[np.searchsorted(starts, begins, side="right")] - begins
        for name, moments in (("since_start", np.sort(starts)), ("since_end", np.sort(ends))):
            before = np.searchsorted(moments, begins, side="right") - 1
            columns[f"{kind}_{name}"] = np.where(before >= 0, begins - moments[np.maximum(before, 0)], np.inf)
        for name in ("until", "since_start", "since_end"):
            columns[f"{kind}_{name}"] = np.minimum(columns[f"{kind}_{name}"] / HOUR, NEAR_HOURS)
    codes = np.full(len(begins), -1.0)
    for code, (_, events) in enumerate(signals.groupby("name")):
        if len(events) > 1:
            for start, end in zip(seconds(events["starts_at"]), seconds(events["ends_at"])):
                codes[shares(begins, step_s, start, end) > 0] = code
    columns["name"] = codes
    return pd.DataFrame(columns, index=times, dtype=float)
