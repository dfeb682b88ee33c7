"""What LightGBM gives on the rows of the crate's own test: prints the reference file that the test compares with."""

import json

import lightgbm
import numpy as np

ROWS, MASK = 600, (1 << 64) - 1
LEVELS = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
# Where all residuals of a leaf have the same sign LightGBM splits it by the rounding of its gains, unless told of a
# least gain. The least that is not rounding is above 1 / ROWS^3.
SETTINGS = {"num_leaves": 8, "learning_rate": 0.1, "min_data_in_leaf": 20, "max_bin": 255, "min_gain_to_split": 1e-9}


def splitmix(state: int):
    """SplitMix64: Steele, Lea and Flood, 2014."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        yield mixed ^ (mixed >> 31)


def table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole numbers from 1 to 40 in four columns, a seventh of the second missing; the target; weights."""
    numbers, rows = splitmix(7), []
    for _ in range(ROWS):
        a, b, c, d, weight = ((next(numbers) >> 32) % 40 + 1 for _ in range(5))
        noise = (next(numbers) >> 32) % 40_000 / 1024  # so fine that no two residuals are the same
        missing = (a + 3 * b + 5 * c) % 7 == 0
        effect = 30 if missing else 2 * b
        target = 4 * a + effect + (c * d) // 8 + noise * (1 + d // 10)
        rows.append([a, np.nan if missing else b, c, d, target, weight])
    rows = np.array(rows, dtype=np.float32)
    return rows[:, :4], rows[:, 4], rows[:, 5] / 64


def pinball(level: float, forecast: np.ndarray, actual: np.ndarray, weights: np.ndarray | None) -> float:
    miss = actual - forecast
    return float(np.average(np.where(miss >= 0, level * miss, (level - 1) * miss), weights=weights))


def fit(rounds: int, level: float, features: np.ndarray, target: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    parameters = {"objective": "quantile", "alpha": level, "num_threads": 1, "verbose": -1} | SETTINGS
    data = lightgbm.Dataset(features, target, weight=weights)
    return lightgbm.train(parameters, data, rounds).predict(features)


features, target, weights = table()
reference = {"lightgbm": lightgbm.__version__, "levels": LEVELS, "predictions": {}, "losses": {}}
for rounds in (1, 50):
    by_level = [fit(rounds, level, features, target, None) for level in LEVELS]
    reference["predictions"][rounds] = [[float(np.float32(values[row])) for values in by_level] for row in range(0, ROWS, 40)]
for name, used in (("plain", None), ("weighted", weights)):
    reference["losses"][name] = [pinball(level, fit(50, level, features, target, used), target, used) for level in LEVELS]
print(json.dumps(reference))
