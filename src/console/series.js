// What the page knows, and the numbers and words it shows. No drawing here.

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
const KEPT_POINTS = 30_000;

/** The state of one workload, kept up to date from snapshots and changes. */
export class Store {
  constructor() {
    this.clear();
  }

  clear() {
    this.id = null;
    this.facts = null;
    this.workload = null;
    this.workloads = [];
    this.now = null;
    this.rows = new Map();
    this.times = [];
    this.ahead = null;
    this.plan = null;
    this.capacity = [];
    this.signals = new Map();
    this.actions = new Map();
  }

  /** Takes in what the server told: all there is, or what has changed. */
  take(told) {
    if (told.snapshot) this.clear();
    this.id = told.id;
    this.facts = told.facts ?? this.facts;
    this.workload = told.workload ?? this.workload;
    this.workloads = told.workloads;
    this.now = told.now ?? this.now;
    this.ahead = told.ahead ?? this.ahead;
    this.plan = told.plan ?? this.plan;
    this.#takePoints(told.points);
    if (told.capacity.length > 0) {
      const from = told.capacity[0][0];
      this.capacity = this.capacity.filter(([at]) => at < from).concat(told.capacity);
    }
    for (const signal of told.signals) this.signals.set(signal.id, signal);
    for (const action of told.actions) this.actions.set(action.id, action);
  }

  #takePoints(points) {
    let isSorted = true;
    for (const [time, load, band] of points) {
      if (!this.rows.has(time)) {
        isSorted &&= this.times.length === 0 || time > this.times.at(-1);
        this.times.push(time);
      }
      this.rows.set(time, { load, band });
    }
    if (!isSorted) this.times.sort((a, b) => a - b);
    for (const time of this.times.splice(0, this.times.length - KEPT_POINTS)) this.rows.delete(time);
  }

  get first() {
    return this.times[0] ?? null;
  }

  /** Units ready at a time, or null before the first plan. */
  unitsAt(time) {
    let low = 0;
    let high = this.capacity.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.capacity[middle][0] <= time) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? null : this.capacity[low - 1][1];
  }

  /** The newest window with a load, as [time, load]. */
  newestLoad() {
    for (let i = this.times.length - 1; i >= 0; i--) {
      const load = this.rows.get(this.times[i]).load;
      if (load !== null) return [this.times[i], load];
    }
    return null;
  }

  /** Signals that are in force and were announced by now, by start. */
  knownSignals() {
    const now = this.now ?? -Infinity;
    return [...this.signals.values()].filter((s) => !s.cancelled && s.announced <= now).sort((a, b) => a.starts - b.starts);
  }

  /** Actions, newest first. */
  newestActions() {
    return [...this.actions.values()].sort((a, b) => b.at - a.at || (a.id < b.id ? 1 : -1));
  }

  /** Windows in [from, to), thinned to about `most`; a gap is a row without values. */
  visible(from, to, most) {
    const step = this.facts.window;
    const begin = lowerBound(this.times, from - step);
    const end = lowerBound(this.times, to);
    const bucket = Math.max(1, Math.ceil((end - begin) / most));
    const rows = [];
    let previous = null;
    for (let i = begin; i < end; i += bucket) {
      const times = this.times.slice(i, Math.min(i + bucket, end));
      if (previous !== null && times[0] - previous > step * 1.5) rows.push({ time: previous + step, load: null, band: null });
      if (bucket === 1) rows.push({ time: times[0], ...this.rows.get(times[0]) });
      else rows.push(...thinned(times.map((time) => ({ time, ...this.rows.get(time) }))));
      previous = times.at(-1);
    }
    return rows;
  }
}

/** The lowest and the highest load of a run of windows, in their order; the band spans theirs. */
function thinned(rows) {
  const bands = rows.map((row) => row.band).filter(Boolean);
  const band = bands.length === 0 ? null : [
    Math.min(...bands.map((b) => b[0])), mean(bands, 1), mean(bands, 2), mean(bands, 3), Math.max(...bands.map((b) => b[4])),
  ];
  const loads = rows.filter((row) => row.load !== null);
  if (loads.length === 0) return [{ time: rows[0].time, load: null, band }];
  const low = loads.reduce((a, b) => (b.load < a.load ? b : a));
  const high = loads.reduce((a, b) => (b.load > a.load ? b : a));
  const kept = low === high ? [low] : [low, high].sort((a, b) => a.time - b.time);
  return kept.map((row) => ({ ...row, band }));
}

function mean(bands, index) {
  return bands.reduce((sum, band) => sum + band[index], 0) / bands.length;
}

function lowerBound(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** `requests_per_s` as `requests/s`. */
export function unitOf(target) {
  return target.replace(/_per_(\w+)$/, "/$1").replaceAll("_", " ");
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const twoDigits = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

/** A number with about three digits that count. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  return (size >= 100 ? whole : size >= 10 ? oneDigit : twoDigits).format(value);
}

/** A count in full. */
export function count(value) {
  return whole.format(value);
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (value) => String(value).padStart(2, "0");

/** `12 Jun 14:35`, UTC. */
export function shortTime(millis) {
  const time = new Date(millis);
  return `${two(time.getUTCDate())} ${MONTHS[time.getUTCMonth()]} ${clockTime(millis)}`;
}

/** `14:35`, UTC. */
export function clockTime(millis) {
  const time = new Date(millis);
  return `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}`;
}

/** `12 Jun 1998 14:35`, UTC. */
export function longTime(millis) {
  const time = new Date(millis);
  return `${two(time.getUTCDate())} ${MONTHS[time.getUTCMonth()]} ${time.getUTCFullYear()} ${clockTime(millis)}`;
}

/** `3 h 20 min`, `2 d 4 h`. */
export function duration(millis) {
  const minutes = Math.max(0, Math.round(millis / MINUTE));
  const [days, hours, rest] = [Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60), minutes % 60];
  if (days > 0) return hours > 0 ? `${days} d ${hours} h` : `${days} d`;
  if (hours > 0) return rest > 0 ? `${hours} h ${rest} min` : `${hours} h`;
  return `${rest} min`;
}

/** `Brazil vs Scotland (group stage)` without what stands in brackets. */
export function shortName(signal) {
  return (signal.name || signal.id).replace(/\s*\([^)]*\)\s*$/, "");
}
