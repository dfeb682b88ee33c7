"""Three pools of one real PgBouncer under the same pgbench load, which follows a recorded day with its matches as the
campaign: Headroom (`headroom demo` replaying the same day at the same pace), a static pool, and reactive scaling."""

import argparse
import csv
import datetime
import gzip
import json
import math
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from servers import Servers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TRACE = ROOT / "src/demo/worldcup98/trace.csv.gz"
WINDOW_S = 300
# Seconds of the day that a second is here.
SPEED = 200
# Of the recorded requests this share is sent; a transaction holds its connection so long that a connection is worth as
# many requests as a unit of the demo (70 a second).
SHARE = 1 / 20
UNIT_CAPACITY = 70.0
HOLD_S = 1 / (UNIT_CAPACITY * SHARE)
TARGET, DWELL_S, LEAD_S = 0.7, 1800, 900
MOST_UNITS = 200
# A user who has not been served within this is lost.
LIMIT_MS = 2000
# Load is sent in layers of so many transactions a second, each a pgbench with so many clients.
LAYER_TPS, LAYER_CLIENTS = 4, 12
# So many hours before the day the history ends: Headroom starts there, and keeps the pace when the day begins.
SETTLING_H = 6
# It does when it has not been found further on for so long.
SETTLED_S = 8
ARMS = ("headroom", "static", "reactive")


def units_for(load):
    return min(max(math.ceil(load / (UNIT_CAPACITY * TARGET)), 1), MOST_UNITS)


def loads_of(day):
    """Requests a second of each window of a day."""
    sums, counts = [0.0] * 288, [0] * 288
    with gzip.open(TRACE, "rt") as file:
        for row in csv.DictReader(file):
            if row["ts_utc"].startswith(day) and row["requests"]:
                window = (int(row["ts_utc"][11:13]) * 60 + int(row["ts_utc"][14:16])) // 5
                sums[window] += float(row["requests"]) / 60
                counts[window] += 1
    return [total / count if count else 0.0 for total, count in zip(sums, counts)]


def layers_of(loads):
    """(first window, windows) of each layer of load; a layer that pauses for a single window goes on."""
    heights = [round(load * SHARE / LAYER_TPS) for load in loads]
    layers = []
    for height in range(1, max(heights) + 1):
        first = None
        for window in range(len(heights) + 1):
            is_on = [at < len(heights) and heights[at] >= height for at in (window, window + 1)]
            if is_on[0] and first is None:
                first = window
            elif first is not None and not any(is_on):
                layers.append((first, window - first))
                first = None
    return sorted(layers)


class Reactive:
    """Target tracking on the load of the last window: late by the lead time, released after the dwell time."""

    def __init__(self, units):
        self.commanded, self.changed, self.coming, self.ready = units, -DWELL_S, [], units

    def see(self, now_s, load):
        wanted = units_for(load)
        if wanted > self.commanded:
            self.coming.append((now_s + LEAD_S, wanted))
            self.commanded, self.changed = wanted, now_s
        elif wanted < self.commanded and now_s - self.changed >= DWELL_S:
            self.coming, self.ready = [], min(self.ready, wanted)
            self.commanded, self.changed = wanted, now_s

    def units(self, now_s):
        for due, units in self.coming:
            if due <= now_s:
                self.ready = units
        self.coming = [change for change in self.coming if change[0] > now_s]
        return self.ready


class Mirror:
    """What Headroom commands, as its target keeps it: ready one lead time after it was seen, released at once."""

    def __init__(self, file):
        self.file, self.known, self.ready, self.coming = file, None, None, []

    def units(self, now_s):
        changes = [change for kept in json.loads(self.file.read_text()).values() for change in kept]
        commanded = changes[-1]["units"] if changes else 1
        if self.known is None:
            self.known = self.ready = commanded
        if commanded > self.known:
            self.coming.append((now_s + LEAD_S, commanded))
        elif commanded < self.known:
            self.coming, self.ready = [], min(self.ready, commanded)
        self.known = commanded
        for due, units in self.coming:
            if due <= now_s:
                self.ready = units
        self.coming = [change for change in self.coming if change[0] > now_s]
        return self.ready


class Demo:
    """`headroom demo` on the data folder."""

    def __init__(self, program, folder, until, speed, log):
        command = [program, "demo", "--data-dir", str(folder), "--until", until, "--listen", "127.0.0.1:0"]
        command += ["--speed", str(speed)] if speed else ["--exit"]
        # Records of a minute: at this pace those of an hour would come every twelve seconds.
        environment = os.environ | ({"HEADROOM__COLLECT__REPLAY__BATCH_SPAN": "1m"} if speed else {})
        self.log = log
        self.process = subprocess.Popen(command, stdout=log.open("w"), stderr=subprocess.STDOUT, env=environment)

    def address(self):
        while True:
            text = self.log.read_text()
            if "console: " in text:
                return text.split("console: ", 1)[1].split()[0]
            if self.process.poll() is not None:
                raise SystemExit(f"headroom has ended:\n{text}")
            time.sleep(0.1)

    def now(self, address):
        """How far it has come, in seconds since the epoch."""
        try:
            with urllib.request.urlopen(f"{address}api/state", timeout=30) as answer:
                return (json.load(answer).get("now") or 0) / 1000
        except OSError as error:
            raise SystemExit(f"headroom does not answer:\n{self.log.read_text()}") from error


def start_layer(folder, arm, number, seconds, port):
    (folder / arm).mkdir(exist_ok=True)
    command = ["pgbench", "-n", "-f", str(folder / "hold.sql"), "-R", str(LAYER_TPS), "-T", str(seconds)]
    command += ["-c", str(LAYER_CLIENTS), "-j", "1", "-L", str(LIMIT_MS), "-l", "--log-prefix", str(folder / arm / f"{number}")]
    # The same arrivals in every arm.
    command += [f"--random-seed={number + 1}", "-h", "127.0.0.1", "-p", str(port), "-U", "lab", arm]
    output = (folder / arm / f"{number}.out").open("w")
    return subprocess.Popen(command, stdout=output, stderr=output)


def settled(demo, address, day_start):
    """The wall time at which the day begins. Headroom first catches up with the pace, and must have done so by then."""
    offset = since = -math.inf
    while True:
        now, reached = time.monotonic(), demo.now(address) - time.monotonic() * SPEED
        if reached > offset + 2 * WINDOW_S:
            since = now
        offset = max(offset, reached)
        if now * SPEED + offset >= day_start:
            if now - since < SETTLED_S:
                raise SystemExit("Headroom did not keep the pace when the day began")
            return (day_start - offset) / SPEED
        if now - since > SETTLING_H * 3600 / SPEED + 60:
            raise SystemExit("Headroom stands still before the day")
        time.sleep(0.1)


def play(args, folder, data, loads, day_start):
    """The day, and what was seen in it: (second of the day, arm, units, waiting clients, open connections)."""
    start = {"headroom": 1, "static": args.static, "reactive": units_for(loads[0])}
    servers = Servers(folder / "servers", start)
    layers, running, seen = layers_of(loads), [], []
    (folder / "hold.sql").write_text(f"SELECT pg_sleep({HOLD_S:.4f});\n")
    demo = None
    try:
        demo = Demo(args.headroom, data, args.until, SPEED, folder / "headroom.log")
        address = demo.address()
        began = settled(demo, address, day_start)
        window = -1
        mirror, reactive = Mirror(data / "target" / "simulated.json"), Reactive(start["reactive"])
        behind = []
        while (now_s := (time.monotonic() - began) * SPEED) < len(loads) * WINDOW_S:
            if int(now_s // WINDOW_S) > window:
                window = int(now_s // WINDOW_S)
                while layers and layers[0][0] <= window:
                    first, length = layers.pop(0)
                    seconds = round(((first + length) * WINDOW_S - now_s) / SPEED)
                    if seconds < 1:
                        continue
                    number = len(running)
                    running += [start_layer(folder, arm, number, seconds, servers.port) for arm in ARMS]
                if window:
                    reactive.see(window * WINDOW_S, loads[window - 1])
                # The end of the last window that Headroom has decided.
                behind.append(day_start + now_s - demo.now(address))
            units = {"headroom": mirror.units(now_s), "static": args.static, "reactive": reactive.units(now_s)}
            for arm in ARMS:
                servers.set_pool(arm, units[arm])
            shown = servers.shown()
            seen += [(now_s, arm, units[arm], *shown[arm]) for arm in ARMS]
            time.sleep(0.2)
        for process in running:
            process.wait(timeout=60)
        return seen, behind
    finally:
        for process in [*running, *([demo.process] if demo else [])]:
            if process.poll() is None:
                process.terminate()
                process.wait()
        servers.stop()


def transactions(folder):
    """Latencies in ms of what was served, and how many were given up."""
    served, lost = [], 0
    for file in folder.iterdir():
        if file.suffix == ".out":
            continue
        for line in file.read_text().splitlines():
            time_us = line.split()[2]
            if time_us.isdigit():
                served.append(int(time_us) / 1000)
            else:
                lost += 1
    return sorted(served), lost


def quantile(values, share):
    return values[min(int(len(values) * share), len(values) - 1)] if values else float("nan")


def table(folder, seen):
    lines = ["| Pool | p50 ms | p99 ms | Served | Late or lost | of all | Waiting clients, mean / most | Pool-hours | Connection-hours |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    found = {}
    for arm in ARMS:
        served, lost = transactions(folder / arm)
        late = sum(1 for latency in served if latency > LIMIT_MS)
        bad, all_of_them = late + lost, len(served) + lost
        rows = [row for row in seen if row[1] == arm]
        hours = lambda column: sum(  # noqa: E731
            row[column] * (after[0] - row[0]) for row, after in zip(rows, rows[1:])) / 3600  # fmt: skip
        waiting = [row[3] for row in rows]
        found[arm] = {"p50_ms": quantile(served, 0.5), "p99_ms": quantile(served, 0.99), "served": len(served),
                      "late_or_lost": bad, "share": bad / max(all_of_them, 1), "waiting_mean": statistics.mean(waiting),
                      "waiting_most": max(waiting), "pool_hours": hours(2), "connection_hours": hours(4)}  # fmt: skip
        one = found[arm]
        lines.append(
            f"| {arm} | {one['p50_ms']:.0f} | {one['p99_ms']:.0f} | {one['served']} | {bad} | {one['share']:.2%} "
            f"| {one['waiting_mean']:.1f} / {one['waiting_most']} | {one['pool_hours']:.0f} | {one['connection_hours']:.0f} |"
        )
    return "\n".join(lines), found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=pathlib.Path, help="where logs and samples are kept; a temporary folder unless given")
    parser.add_argument("--headroom", required=True, help="the program")
    parser.add_argument("--day", default="1998-06-23", help="the day that is played; what is before it is history")
    parser.add_argument("--history", type=pathlib.Path, help="a data folder in which the history was replayed before")
    parser.add_argument("--static", type=int, help="units of the static pool; those of the day before's mean unless given")
    args = parser.parse_args()
    begun = time.monotonic()
    # Ends what it has started also when it is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    day = datetime.date.fromisoformat(args.day)
    day_start = datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp()
    history_end = f"{datetime.datetime.fromtimestamp(day_start - SETTLING_H * 3600, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    args.until = f"{day + datetime.timedelta(days=1)}T00:00:00Z"
    yesterday = loads_of(str(day - datetime.timedelta(days=1)))
    args.static = args.static or units_for(statistics.mean(yesterday))
    loads = loads_of(args.day)
    kept = args.out or pathlib.Path(tempfile.mkdtemp(prefix="headroom-lab-"))
    kept.mkdir(parents=True, exist_ok=True)
    os.chmod(kept, 0o755)
    folder = kept / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    data = folder / "data"
    if args.history:
        shutil.copytree(args.history, data)
    else:
        print(f"replaying the history up to {history_end}", file=sys.stderr, flush=True)
        demo = Demo(args.headroom, data, history_end, None, folder / "history.log")
        if demo.process.wait() != 0:
            raise SystemExit((folder / "history.log").read_text())
    print(f"playing {args.day}: peak {max(loads) * SHARE:.0f} transactions/s, mean {statistics.mean(loads) * SHARE:.0f}, "
          f"each holds its connection {HOLD_S * 1000:.0f} ms; static pool of {args.static}", file=sys.stderr, flush=True)  # fmt: skip
    seen, behind = play(args, folder, data, loads, day_start)
    with (kept / "samples.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("second", "pool", "units", "waiting", "connections"), *seen])
    text, found = table(folder, seen)
    (kept / "found.json").write_text(json.dumps(found, indent=1) + "\n")
    print(text)
    print(f"\nHeadroom's decisions were {statistics.median(behind) / 60:.0f} minutes of the day behind the load in the median, "
          f"from {min(behind) / 60:.0f} to {max(behind) / 60:.0f}. It took {(time.monotonic() - begun) / 60:.1f} minutes.")  # fmt: skip


if __name__ == "__main__":
    main()
