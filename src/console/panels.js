// The parts of the page around the chart. Elements are kept and changed, never rebuilt, so that nothing jumps.

import { MINUTE, clockTime, count, duration, longTime, number, shortName, shortTime, unitOf } from "/series.js";

const LISTED_ACTIONS = 200;
const GOOD_STATES = new Set(["verified", "holding", "applied"]);
const BAD_STATES = new Set(["failed", "rolled back", "rejected"]);
const VERDICT_TONES = { fresh: "good", suspect: "warn", stale: "bad", abstain: "warn" };

const byId = (id) => document.getElementById(id);

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A value with its unit set smaller. */
function setValue(id, value, unit, tone) {
  const target = byId(id);
  const unitPart = target.querySelector("span") ?? element("span");
  target.replaceChildren(unit ? `${value} ` : value, unitPart);
  unitPart.textContent = unit ?? "";
  target.dataset.tone = tone ?? "";
}

/** Event time per wall time over the last ten seconds. */
export class SpeedMeter {
  #marks = [];

  mark(now, wall) {
    if (this.#marks.length > 0 && now < this.#marks.at(-1)[0]) this.#marks = [];
    this.#marks.push([now, wall]);
    while (this.#marks.length > 2 && wall - this.#marks[1][1] > 10_000) this.#marks.shift();
  }

  /** In words; event time that keeps up with the wall clock is live, whatever its steps. */
  get text() {
    if (this.#marks.length === 0) return "–";
    const [[now0, wall0], [now1, wall1]] = [this.#marks[0], this.#marks.at(-1)];
    if (Math.abs(Date.now() - now1) < 20 * MINUTE) return "live";
    if (wall1 - wall0 < 2_500) return "–";
    const speed = (now1 - now0) / (wall1 - wall0);
    return speed === 0 ? "at rest" : `${count(Number(speed.toPrecision(2)))} ×`;
  }
}

export function showClock(store, meter) {
  setText(byId("event-time"), store.now === null ? "–" : longTime(store.now));
  setText(byId("speed"), meter.text);
}

export function showConnection(state, text) {
  const connection = byId("connection");
  connection.dataset.state = state;
  setText(connection, text);
}

export function showTiles(store) {
  const unit = unitOf(store.facts.target);
  const newest = store.newestLoad();
  const units = newest === null ? null : store.unitsAt(store.now ?? newest[0]);
  const ready = units === null ? null : units * store.facts.unit_capacity;
  if (newest !== null) {
    const used = ready ? newest[1] / ready : null;
    const isOver = used !== null && used > store.facts.violation_utilisation;
    setValue("tile-load", number(newest[1]), unit, isOver ? "bad" : "");
    setText(byId("tile-load-more"), used === null ? "no capacity known yet" : `${Math.round(used * 100)} % of ready capacity`);
  }
  if (ready !== null) {
    setValue("tile-capacity", count(units), units === 1 ? "unit" : "units");
    const wanted = store.plan?.units_now;
    const more = wanted !== undefined && wanted !== units ? `, ${wanted} commanded` : "";
    setText(byId("tile-capacity-more"), `${number(ready)} ${unit}${more}`);
    const plan = store.plan;
    byId("tile-capacity").parentElement.title = plan ? `Newest plan: ${plan.reason} (${plan.binding}, quantile ${number(plan.quantile)})` : "";
  }
  showForecastTiles(store, unit);
  showNextEvent(store);
}

function showForecastTiles(store, unit) {
  const ahead = store.ahead;
  if (ahead === null) {
    setValue("tile-forecast", "learning");
    setValue("tile-peak", "–");
    setText(byId("tile-forecast-more"), "not enough history yet");
    setText(byId("tile-peak-more"), "no forecast yet");
    return;
  }
  setValue("tile-forecast", ahead.verdict, "", VERDICT_TONES[ahead.verdict]);
  const events = ahead.signals === 0 ? "" : `, ${ahead.signals} ${ahead.signals === 1 ? "event" : "events"}`;
  setText(byId("tile-forecast-more"), ahead.reason || `${ahead.model}${events}`);
  byId("tile-forecast-more").title = ahead.reason || ahead.model;
  if (ahead.bands.length === 0) {
    setValue("tile-peak", "–");
    setText(byId("tile-peak-more"), "no forecast now");
    return;
  }
  const peak = ahead.bands.reduce((best, band, i) => (band[2] > ahead.bands[best][2] ? i : best), 0);
  const band = ahead.bands[peak];
  setValue("tile-peak", number(band[2]), unit);
  setText(byId("tile-peak-more"), `${number(band[0])} to ${number(band[4])} at ${clockTime(ahead.origin + peak * ahead.step)}`);
}

function showNextEvent(store) {
  const events = store.knownSignals().filter((signal) => signal.ends > store.now);
  const next = events[0];
  if (!next) {
    setValue("tile-event", "–");
    setText(byId("tile-event-more"), "none announced");
    return;
  }
  const wait = next.starts - store.now;
  const same = events.filter((signal) => signal.starts === next.starts).length - 1;
  setValue("tile-event", wait > 0 ? `in ${duration(wait)}` : "now", "");
  setText(byId("tile-event-more"), shortName(next) + (same > 0 ? ` and ${same} more` : ""));
  byId("tile-event").parentElement.title = `${next.name || next.id}, ${longTime(next.starts)} UTC`;
}

export function showWorkloads(store) {
  const select = byId("workload");
  const names = [...select.options].map((option) => option.value);
  if (names.join("\n") !== store.workloads.join("\n")) {
    select.replaceChildren(...store.workloads.map((name) => new Option(name, name)));
  }
  select.value = store.workload ?? "";
  byId("workload-field").hidden = store.workloads.length === 0;
}

function toneOf(state) {
  return GOOD_STATES.has(state) ? "good" : BAD_STATES.has(state) ? "bad" : "";
}

/** The newest actions; one that has changed is written anew in its place, open and focused as it was. */
export function showActions(store) {
  const list = byId("actions");
  const actions = store.newestActions();
  const isEmpty = actions.length === 0;
  byId("actions-empty").hidden = !isEmpty;
  list.hidden = isEmpty;
  list.parentElement.querySelector(".list-head").hidden = isEmpty;
  const listed = actions.slice(0, LISTED_ACTIONS);
  setText(byId("actions-count"), isEmpty ? "" : listed.length < actions.length ? `newest ${listed.length} of ${count(actions.length)}` : count(actions.length));
  const known = new Map([...list.children].map((item) => [item.dataset.id, item]));
  let place = list.firstElementChild;
  for (const action of listed) {
    let item = known.get(action.id);
    const hasFocus = item?.contains(document.activeElement) ?? false;
    known.delete(action.id);
    if (item?.shown !== action) {
      const fresh = actionItem(action, store);
      fresh.querySelector("details").open = item?.querySelector("details").open ?? false;
      if (item === place) place = place?.nextElementSibling ?? null;
      item?.remove();
      item = fresh;
    }
    if (item === place) place = place.nextElementSibling;
    else list.insertBefore(item, place);
    if (hasFocus) item.querySelector("summary").focus({ preventScroll: true });
  }
  for (const item of known.values()) item.remove();
}

function actionItem(action, store) {
  const item = element("li");
  item.dataset.id = action.id;
  item.shown = action;
  const details = element("details", "action");
  const summary = element("summary");
  const time = element("time", "", shortTime(action.at));
  time.dateTime = new Date(action.at).toISOString();
  const units = element("span", "units", `${action.before} `);
  units.dataset.way = action.after >= action.before ? "up" : "down";
  units.append(element("i", "", "→"), ` ${action.after}`);
  units.setAttribute("aria-label", `from ${action.before} to ${action.after} units`);
  const state = element("span", "state", action.state);
  state.dataset.tone = toneOf(action.state);
  summary.append(time, units, state, element("span", "why", action.reason || "no reason given"));
  details.append(summary);
  // What is rarely read is made when it is asked for.
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(actionMore(action, store));
  });
  item.append(details);
  return item;
}

function actionMore(action, store) {
  const unit = unitOf(store.facts.target);
  const outcome = action.outcome;
  const names = action.signals.map((id) => (store.signals.has(id) ? shortName(store.signals.get(id)) : id));
  const facts = [
    ["Expected peak", action.expected_peak > 0 ? `${number(action.expected_peak)} ${unit}` : ""],
    ["Measured", outcome ? `${outcome.judgement}: peak ${number(outcome.observed_peak)} ${unit}, ${Math.round(outcome.peak_utilisation * 100)} % of capacity, ${outcome.violation_minutes} min in violation` : ""],
    ["Because of", names.join(", ")],
    ["Model", action.verdict ? `${action.model} (${action.verdict})` : action.model],
    ["Policy", [action.policy, action.stage && `stage ${action.stage}`].filter(Boolean).join(", ")],
    ["By", [...new Set(action.moves.map((move) => move.actor).filter(Boolean))].join(", ")],
    ["Target", action.target],
    ["Action", action.id],
    ["Whole story", `headroom plan show ${action.id}`],
    ["Undo", `headroom rollback ${action.id}`],
  ];
  const more = element("div", "more");
  const list = element("dl");
  for (const [term, value] of facts.filter(([, text]) => text)) list.append(element("dt", "", term), element("dd", "", value));
  const moves = element("ol");
  for (const move of action.moves) {
    const line = element("li");
    line.append(element("span", "", shortTime(move.at)), element("span", "", move.state), element("span", "", move.reason));
    moves.append(line);
  }
  more.append(list, moves);
  return more;
}

const STAGE_TONES = { running: "good", drained: "", starting: "warn", failed: "bad" };

/** One tile for each stage, in the order of the loop. */
export function showStages(stages, now) {
  const list = byId("stages");
  byId("stages-empty").hidden = stages.length > 0;
  list.hidden = stages.length === 0;
  stages.forEach((stage, i) => {
    let tile = list.children[i];
    if (tile?.dataset.stage !== stage.stage) {
      const fresh = stageTile(stage.stage);
      if (tile) tile.replaceWith(fresh);
      else list.append(fresh);
      tile = fresh;
    }
    const part = (name) => tile.querySelector(`[data-part="${name}"]`);
    setText(part("state"), stage.state);
    part("state").dataset.tone = STAGE_TONES[stage.state] ?? "";
    setText(part("in"), count(stage.records_in));
    setText(part("out"), count(stage.records_out));
    setText(part("aside"), count(stage.set_aside));
    part("aside").dataset.tone = stage.set_aside > 0 ? "warn" : "";
    const time = stage.event_time === null ? null : stage.event_time / 1_000;
    setText(part("time"), time === null || time < 0 ? "–" : shortTime(time));
    const behind = time !== null && now !== null && now - time > 60 * MINUTE ? `${duration(now - time)} behind the load` : "";
    part("time").title = behind;
    setText(part("note"), stage.note);
    part("note").title = stage.note;
  });
  while (list.children.length > stages.length) list.lastElementChild.remove();
}

function stageTile(name) {
  const tile = element("li", "stage");
  tile.dataset.stage = name;
  const head = element("div", "stage-head");
  const state = element("span", "state");
  state.dataset.part = "state";
  head.append(element("span", "", name), state);
  const facts = element("dl");
  for (const [part, term] of [["in", "Records in"], ["out", "Records out"], ["aside", "Set aside"], ["time", "Event time"]]) {
    const value = element("dd");
    value.dataset.part = part;
    facts.append(element("dt", "", term), value);
  }
  const note = element("p", "note");
  note.dataset.part = "note";
  tile.append(head, facts, note);
  return tile;
}
