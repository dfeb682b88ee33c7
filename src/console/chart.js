// The chart: load, forecasts, capacity, events and actions on one time axis. Plotly draws; this says what.
// Texts carry no tags but <br>: Plotly turns others into inline styles, which the page's policy refuses.

import { DAY, HOUR, clockTime, duration, number, shortName, shortTime, unitOf } from "/series.js";

const MOST_ROWS = 1_600;
const LABEL_PX = 6.4;
const ROUND_TOPS = [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10];
/** Where the lane of events begins, as a share of the chart's height. */
const LANE = 0.945;

export class Chart {
  #element;
  #top = 0;
  #span = null;
  #drawn = false;

  constructor(element) {
    this.#element = element;
  }

  /** Calls back with [from, to] when a person has chosen a span, and with null when they ask for the present. */
  onChosen(callback) {
    this.#element.on("plotly_relayout", (change) => {
      const [from, to] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      if (from !== undefined && to !== undefined) callback([asMillis(from), asMillis(to)]);
    });
    this.#element.on("plotly_doubleclick", () => callback(null));
  }

  /** Draws the span; resolves when it is drawn. */
  async draw(store, span) {
    const narrow = this.#element.clientWidth < 560;
    const colours = palette();
    const [from, to] = span;
    const rows = store.visible(from, to, MOST_ROWS);
    const ahead = aheadRows(store, from, to);
    const capacity = capacityRows(store, rows, from, to);
    const top = this.#topOf(store, rows, ahead, capacity, span);
    const unit = unitOf(store.facts.target);
    const traces = [
      ...bandTraces(rows, colours.issued, 0.13, 0.2),
      ...bandTraces(ahead, colours.ahead, 0.14, 0.24),
      medianTrace(rows, "Forecast", colours.issued, "solid", unit, store.facts.forecast_lead),
      medianTrace(ahead, "Forecast ahead", colours.ahead, "6px,4px", unit, null),
      ...capacityTraces(capacity, store, colours, unit),
      loadTrace(rows, colours, unit),
      violationTrace(rows, store, colours),
      actionTrace(store, from, to, colours),
      eventTrace(store, rows, ahead),
    ];
    const layout = this.#layout(store, span, top, colours, narrow, unit);
    const config = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false, scrollZoom: false };
    await (this.#drawn ? Plotly.react : Plotly.newPlot)(this.#element, traces, layout, config);
    this.#drawn = true;
  }

  get isDrawn() {
    return this.#drawn;
  }

  /** Rises at once and falls only when much of it is unused, so that the scale stays calm. */
  #topOf(store, rows, ahead, capacity, span) {
    let most = 0;
    let tails = 0;
    for (const row of rows) {
      most = Math.max(most, row.load ?? 0, row.band?.[3] ?? 0);
      tails = Math.max(tails, row.band?.[4] ?? 0);
    }
    for (const row of ahead) {
      most = Math.max(most, row.band[3]);
      tails = Math.max(tails, row.band[4]);
    }
    for (const [, units] of capacity) most = Math.max(most, units * store.facts.unit_capacity);
    const wanted = roundUp(Math.max(most, Math.min(tails, most * 1.35)) * 1.04 || 1);
    const width = span[1] - span[0];
    if (wanted > this.#top || wanted < this.#top * 0.6 || width !== this.#span) this.#top = wanted;
    this.#span = width;
    return this.#top;
  }

  #layout(store, span, top, colours, narrow, unit) {
    const [from, to] = span;
    const margin = narrow ? { l: 56, r: 8, t: 6, b: 58 } : { l: 64, r: 16, t: 6, b: 60 };
    const perPx = (to - from) / Math.max(100, this.#element.clientWidth - margin.l - margin.r);
    const events = eventClusters(store, from, to, perPx);
    const axis = {
      gridcolor: colours.grid, linecolor: colours.line, tickcolor: colours.line, zeroline: false,
      tickfont: { size: narrow ? 10.5 : 11.5, color: colours.soft }, automargin: false,
    };
    const title = (text, standoff) => ({ text, standoff, font: { size: narrow ? 11 : 12, color: colours.soft } });
    return {
      margin, autosize: true, showlegend: false, hovermode: "x unified", hoverdistance: 6, dragmode: narrow ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: colours.ink },
      hoverlabel: { bgcolor: colours.card, bordercolor: colours.line, font: { size: 12, color: colours.ink }, align: "left" },
      xaxis: {
        ...axis, type: "date", range: [from, to], showgrid: false, ticks: "outside", ticklen: 4,
        showspikes: true, spikemode: "across", spikethickness: 1, spikecolor: colours.faint, spikedash: "solid",
        hoverformat: "%a %d %b %Y, %H:%M UTC", title: title("Event time (UTC)", 8), nticks: narrow ? 5 : 12,
        tickformatstops: [
          { dtickrange: [null, 2 * HOUR], value: "%H:%M\n%a %d %b" }, { dtickrange: [2 * HOUR, DAY - 1], value: "%H:%M\n%a %d %b" },
          { dtickrange: [DAY - 1, null], value: "%d %b\n%Y" },
        ],
      },
      yaxis: {
        ...axis, range: [0, top / LANE], fixedrange: true, title: title(narrow ? `Load (${unit})` : `Load and capacity (${unit})`, narrow ? 6 : 10),
        nticks: 7, tickvals: ticks(top), ticktext: ticks(top).map(number),
      },
      shapes: [...events.flatMap((event) => eventShapes(event, colours)), ...nowShape(store, colours)],
      annotations: [...events.flatMap((event) => eventLabel(event, colours)), ...nowLabel(store, span, perPx, colours)],
    };
  }
}

function asMillis(value) {
  // Plotly writes moments as text without a zone, and they are in UTC.
  return typeof value === "number" ? value : Date.parse(`${value.replace(" ", "T")}Z`);
}

function roundUp(value) {
  const size = 10 ** Math.floor(Math.log10(value));
  return (ROUND_TOPS.find((step) => step * size >= value) ?? 10) * size;
}

function ticks(top) {
  const size = 10 ** Math.floor(Math.log10(top / 5));
  const step = [1, 2, 2.5, 5, 10].find((s) => top / (s * size) <= 6) * size;
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => i * step);
}

/** The colours of the sheet, which follow the light. */
export function palette() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "soft", "faint", "line", "grid", "card", "load", "issued", "ahead", "capacity", "threshold", "violation", "signal"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function faded(hex, opacity) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},${opacity})`;
}

function aheadRows(store, from, to) {
  if (store.ahead === null) return [];
  const { origin, step, bands } = store.ahead;
  const rows = bands.map((band, i) => ({ time: origin + i * step, band }));
  return rows.filter((row) => row.time >= from - step && row.time <= to);
}

/** Units at each window and at each step, so that the pointer finds a value everywhere. */
function capacityRows(store, rows, from, to) {
  if (store.capacity.length === 0) return [];
  const end = Math.min(to, store.now ?? to);
  const times = new Set(rows.map((row) => row.time).filter((time) => time <= end));
  for (const [at] of store.capacity) if (at >= from && at <= end) times.add(at);
  times.add(Math.max(from, store.capacity[0][0])).add(end);
  return [...times].sort((a, b) => a - b).map((time) => [time, store.unitsAt(time)]).filter(([, units]) => units !== null);
}

/** The outlines of an interval as closed shapes, one for each run without a gap. */
function outline(rows, low, high) {
  const [x, y] = [[], []];
  let run = [];
  const close = () => {
    if (run.length > 1) {
      const back = [...run].reverse();
      x.push(...run.map((r) => r.time), ...back.map((r) => r.time), null);
      y.push(...run.map((r) => r.band[low]), ...back.map((r) => r.band[high]), null);
    }
    run = [];
  };
  for (const row of rows) {
    if (row.band) run.push(row);
    else close();
  }
  close();
  return { x, y };
}

function bandTraces(rows, colour, outer, inner) {
  return [[0, 4, outer], [1, 3, inner]].map(([low, high, opacity]) => ({
    ...outline(rows, low, high), type: "scatter", mode: "lines", line: { width: 0 }, fill: "toself",
    fillcolor: faded(colour, opacity), hoverinfo: "skip",
  }));
}

function medianTrace(rows, name, colour, dash, unit, lead) {
  const issued = lead === null ? "" : `, issued ${duration(lead)} before`;
  return {
    x: rows.map((r) => r.time), y: rows.map((r) => r.band?.[2] ?? null), type: "scatter", mode: "lines", name,
    line: { color: colour, width: 1.4, dash }, connectgaps: false,
    customdata: rows.map((r) => (r.band ? `${number(r.band[0])} to ${number(r.band[4])}` : "")),
    hovertemplate: `${name}${issued}: %{y:,.3~r} (90 %: %{customdata}) ${unit}<extra></extra>`,
  };
}

function capacityTraces(capacity, store, colours, unit) {
  const { unit_capacity: each, violation_utilisation: share } = store.facts;
  const x = capacity.map(([time]) => time);
  const step = { x, type: "scatter", mode: "lines" };
  const percent = Math.round(share * 100);
  return [
    {
      ...step, y: capacity.map(([, units]) => units * each * share), line: { shape: "hv", color: colours.threshold, width: 1.1, dash: "2px,3px" },
      name: "Violation above", hovertemplate: `Violation above %{y:,.3~r} ${unit} (${percent} % of ready)<extra></extra>`,
    },
    {
      ...step, y: capacity.map(([, units]) => units * each), line: { shape: "hv", color: colours.capacity, width: 2 },
      name: "Ready capacity", customdata: capacity.map(([, units]) => units),
      hovertemplate: `Ready %{y:,.3~r} ${unit} (%{customdata} units)<extra></extra>`,
    },
    plannedTrace(store, colours, each),
  ];
}

/** What the newest plan wants ahead, faint, since only its first step is commanded. */
function plannedTrace(store, colours, each) {
  const { plan, now } = store;
  const rows = plan === null ? [] : plan.units.map((units, i) => [plan.decided + i * plan.step, units]).filter(([at]) => at >= now);
  return {
    x: rows.map(([at]) => at), y: rows.map(([, units]) => units * each), type: "scatter", mode: "lines", name: "Planned",
    line: { shape: "hv", color: faded(colours.capacity, 0.65), width: 1.2, dash: "1px,3px" }, customdata: rows.map(([, units]) => units),
    hovertemplate: "Planned: %{customdata} units<extra></extra>",
  };
}

function loadTrace(rows, colours, unit) {
  return {
    x: rows.map((r) => r.time), y: rows.map((r) => r.load), type: "scatter", mode: "lines", name: "Load", connectgaps: false,
    line: { color: colours.load, width: 1.5 }, hovertemplate: `Load %{y:,.3~r} ${unit}<extra></extra>`,
  };
}

function violationTrace(rows, store, colours) {
  const { unit_capacity: each, violation_utilisation: share } = store.facts;
  const over = rows.filter((row) => {
    const units = row.load === null ? null : store.unitsAt(row.time);
    return units !== null && row.load > units * each * share;
  });
  return {
    x: over.map((r) => r.time), y: over.map((r) => r.load), type: "scatter", mode: "markers", name: "In violation",
    marker: { color: colours.violation, size: 5 }, hovertemplate: "In violation<extra></extra>",
  };
}

function actionTrace(store, from, to, colours) {
  const each = store.facts.unit_capacity;
  const actions = store.newestActions().filter((action) => action.at >= from && action.at <= to);
  const days = (to - from) / DAY;
  const size = days > 14 ? 3.5 : Math.min(9, Math.max(5.5, 10.5 - days));
  return {
    x: actions.map((a) => a.at), y: actions.map((a) => a.after * each), type: "scatter", mode: "markers", name: "Action",
    marker: {
      symbol: actions.map((a) => (a.after >= a.before ? "triangle-up" : "triangle-down")), size,
      color: actions.map((a) => (a.after >= a.before ? colours.capacity : colours.faint)), line: { width: 0.5, color: colours.card },
    },
    text: actions.map((a) => `${a.before} → ${a.after} units, ${safe(a.state)}<br>${wrapped(safe(a.reason))}`),
    hovertemplate: "%{text}<extra></extra>",
  };
}

/** Plotly reads a few tags in its texts. */
function safe(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function wrapped(text) {
  return text.replace(/(.{1,58})(\s+|$)/g, "$1<br>").replace(/<br>$/, "");
}

/** Names the events under the pointer. */
function eventTrace(store, rows, ahead) {
  const signals = store.knownSignals();
  const [x, y, text] = [[], [], []];
  for (const row of [...rows, ...ahead]) {
    const on = signals.filter((signal) => signal.starts <= row.time && row.time < signal.ends);
    if (on.length === 0) continue;
    x.push(row.time);
    y.push(row.load ?? row.band?.[2] ?? 0);
    text.push(on.map(eventText).join("<br>"));
  }
  return { x, y, text, type: "scatter", mode: "markers", marker: { opacity: 0 }, name: "Event", hovertemplate: "%{text}<extra></extra>" };
}

function eventText({ id, name, starts, ends, audience }) {
  const reach = audience === null ? "" : `, ${number(audience)} people`;
  return `${safe(name || id)}, ${clockTime(starts)} to ${clockTime(ends)}${reach}`;
}

/** Events that overlap become one span; each knows the room that its label has. */
function eventClusters(store, from, to, perPx) {
  const clusters = [];
  for (const signal of store.knownSignals().filter((s) => s.ends > from && s.starts < to)) {
    const last = clusters.at(-1);
    if (last && signal.starts < last.ends) {
      last.ends = Math.max(last.ends, signal.ends);
      last.signals.push(signal);
    } else {
      clusters.push({ starts: signal.starts, ends: signal.ends, signals: [signal] });
    }
  }
  clusters.forEach((cluster, i) => {
    const next = clusters[i + 1]?.starts ?? to;
    cluster.labelAt = Math.max(cluster.starts, from);
    cluster.room = (Math.min(next, to) - cluster.labelAt) / perPx - 6;
  });
  return clusters;
}

function eventShapes({ starts, ends }, colours) {
  const span = { type: "rect", xref: "x", yref: "paper", x0: starts, x1: ends, line: { width: 0 }, layer: "below" };
  return [
    { ...span, y0: 0, y1: LANE, fillcolor: faded(colours.signal, 0.1) },
    { ...span, y0: LANE + 0.004, y1: 1, fillcolor: faded(colours.signal, 0.34) },
  ];
}

/** The longest label that fits, or none. */
function eventLabel({ signals, labelAt, room }, colours) {
  const names = signals.map(shortName);
  const several = `${signals.length} ${signals[0].kind === "match" ? "matches" : "events"}`;
  const candidates = signals.length === 1 ? [names[0], names[0].replace(/ vs /, "–")] : [names.join(", "), several];
  const text = candidates.find((candidate) => candidate.length * LABEL_PX <= room);
  if (text === undefined) return [];
  return [{
    x: labelAt, y: (LANE + 1) / 2, xref: "x", yref: "paper", xanchor: "left", yanchor: "middle", xshift: 2, text: safe(text),
    showarrow: false, font: { size: 11, color: colours.ink }, captureevents: false,
  }];
}

function nowShape(store, colours) {
  if (store.now === null) return [];
  const line = { color: colours.faint, width: 1, dash: "3px,3px" };
  return [{ type: "line", xref: "x", yref: "paper", x0: store.now, x1: store.now, y0: 0, y1: LANE, line }];
}

function nowLabel(store, [from, to], perPx, colours) {
  if (store.now === null || store.now < from || store.now > to - 40 * perPx) return [];
  return [{
    x: store.now, y: LANE, xref: "x", yref: "paper", xanchor: "left", yanchor: "top", xshift: 4, text: "now", showarrow: false,
    font: { size: 11, color: colours.soft },
  }];
}

/** What the chart shows, in words. */
export function summary(store, [from, to]) {
  const newest = store.newestLoad();
  if (newest === null) return "No load yet.";
  const unit = unitOf(store.facts.target);
  const units = store.unitsAt(newest[0]);
  const parts = [`From ${shortTime(from)} to ${shortTime(to)}.`, `Load ${number(newest[1])} ${unit} at ${shortTime(newest[0])}.`];
  if (units !== null) parts.push(`Ready capacity ${number(units * store.facts.unit_capacity)} ${unit}, ${units} units.`);
  const events = store.knownSignals().filter((signal) => signal.starts >= newest[0]).slice(0, 3);
  if (events.length > 0) parts.push(`Next events: ${events.map((e) => `${shortName(e)} at ${shortTime(e.starts)}`).join("; ")}.`);
  return parts.join(" ");
}
