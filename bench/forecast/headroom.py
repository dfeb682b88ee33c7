"""headroom.py PROGRAM OUT_FOLDER [--sets SET ...]: Headroom's own part, as a user would run it: `headroom backtest`."""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time


def forecast(program: str, folder: pathlib.Path) -> None:
    study = json.loads((folder / "study.json").read_text())
    origins = study["origins"]
    target = folder / "forecasts" / "headroom.parquet"
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        wanted = pathlib.Path(place) / "origins"
        wanted.write_text("\n".join(origins) + "\n")
        made = pathlib.Path(place) / "forecasts.parquet"
        command = [program, "backtest", "--data", folder / "history.csv", "--workload-column", "workload"]
        command += ["--signals", folder / "signals.csv", "--step", study["step"], "--horizon", study["horizon"]]
        command += ["--score-from", origins[0], "--origins", wanted, "--forecasts", made, "--output", "json"]
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{folder.name}: {time.monotonic() - started:.0f} s", flush=True)
        target.write_bytes(made.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="the headroom to run")
    parser.add_argument("out_folder", type=pathlib.Path)
    parser.add_argument("--sets", nargs="*")
    args = parser.parse_args()
    for study in sorted(args.out_folder.glob("*/study.json")):
        name = study.parent.name
        # One origin at the end of each series is no rolling backtest.
        if (args.sets is None and name != "m4_hourly") or name in (args.sets or []):
            forecast(args.program, study.parent)


if __name__ == "__main__":
    main()
