// What would have been done beside what was, and what events do to the load: asked for now and then, for the workload shown.

import { authorized } from "/people.js";
import { count, longTime, number, shortName, shortTime } from "/series.js";

const EVERY_MS = 15_000;
const LISTED = 60;
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const WIDE = 600;
const HIGH = 90;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function row(cells, tones = []) {
  const made = element("tr");
  cells.forEach((text, i) => {
    const cell = element(i === 0 ? "th" : "td", "", text);
    if (i === 0) cell.scope = "row";
    if (tones[i]) cell.dataset.tone = tones[i];
    made.append(cell);
  });
  return made;
}

/** Shows a card's content, or why there is none. */
function available(name, told, isEmpty, emptyText) {
  const why = told.available ? (isEmpty ? emptyText : "") : told.problem;
  byId(name).hidden = why !== "";
  byId(`${name}-empty`).hidden = why === "";
  if (why !== "") byId(`${name}-why`).textContent = why;
  return why === "";
}

/** Units over time as steps. */
function steps(shown, which, from, to, most) {
  const x = (time) => (((time - from) / Math.max(to - from, 1)) * WIDE).toFixed(1);
  const y = (units) => (HIGH - 4 - (units / most) * (HIGH - 8)).toFixed(1);
  let path = "";
  let start = from;
  for (const [i, step] of shown.steps.entries()) {
    const end = shown.steps[i + 1] ? shown.steps[i + 1].end - shown.window : step.end;
    path += `${path === "" ? "M" : "L"}${x(start)} ${y(step[which][0])}L${x(end)} ${y(step[which][0])}`;
    start = end;
  }
  return path;
}

function drawSteps(shown) {
  const svg = byId("shadow-chart");
  const from = shown.steps[0].end - shown.window;
  const to = shown.steps.at(-1).end;
  const most = Math.max(1, ...shown.steps.flatMap((step) => [step.was[0], step.would[0]]));
  svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
  svg.replaceChildren(
    ...["was", "would"].map((which) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", `shadow-${which}`);
      path.setAttribute("d", steps(shown, which, from, to, most));
      return path;
    }),
  );
  svg.setAttribute("aria-label", `Units that served, as it was and as it would have been: at most ${most}, from ${longTime(from)} to ${longTime(to)} UTC`);
}

function unitsText([ready, paid, violated]) {
  return `${ready === paid ? count(ready) : `${ready} of ${paid}`}${violated ? " !" : ""}`;
}

function showShadow(told) {
  if (!available("shadow", told, told.steps?.length === 0, "No window has closed since the actuator began to act.")) return;
  byId("shadow-caption").textContent = `Stage ${told.stage}, from ${longTime(told.steps[0].end - told.window)} to ${longTime(told.steps.at(-1).end)} UTC. Would have: ${told.method}.`;
  const sums = (name, [was, would]) => row([name, number(was), number(would)], ["", "", would < was ? "good" : would > was ? "warn" : ""]);
  byId("shadow-sums").replaceChildren(sums("Violation (min)", told.violation_minutes), sums("Unit-hours", told.unit_hours));
  drawSteps(told);
  const newest = told.steps.slice(-LISTED).reverse();
  byId("shadow-rows").replaceChildren(
    ...newest.map((step) => row([shortTime(step.end), number(step.load), unitsText(step.was), unitsText(step.would)], ["", "", step.was[2] ? "bad" : "", step.would[2] ? "bad" : ""])),
  );
}

const times = (lift) => `× ${lift.toFixed(2)}`;
const range = ([lift, low, high]) => `${times(lift)} (${low.toFixed(2)} to ${high.toFixed(2)})`;

/** What is on and to come first, soonest first; then what is over, newest first. */
function inOrder(lifts, now) {
  const isOver = (lift) => lift.ends <= (now ?? 0);
  const coming = lifts.filter((lift) => !isOver(lift)).sort((a, b) => a.starts - b.starts);
  return coming.concat(lifts.filter(isOver).sort((a, b) => b.starts - a.starts));
}

function showLifts(told, now) {
  if (!available("lifts", told, told.lifts?.length === 0, "No event stands, or there is too little history to say what events do.")) return;
  const shown = inOrder(told.lifts, now).slice(0, LISTED);
  byId("lifts-count").textContent = shown.length < told.lifts.length ? `${shown.length} of ${count(told.lifts.length)}` : count(shown.length);
  byId("lifts-rows").replaceChildren(
    ...shown.map((lift) => {
      const made = row([shortName(lift), shortTime(lift.starts), range(lift.peak), lift.observed ? times(lift.observed[0]) : "–"]);
      const unlike = lift.unlike ? `; unlike those before: ${lift.unlike}` : "";
      made.firstElementChild.title = `${lift.kind} ${lift.id}, weight ${lift.weight}; it rests on ${count(lift.past)} past events; over its window ${range(lift.window)}${unlike}`;
      if (lift.unlike) made.firstElementChild.append(" ", element("small", "unlike", "unlike those before"));
      return made;
    }),
  );
}

async function ask(path, workload) {
  const response = await fetch(`/api/${path}?${new URLSearchParams({ workload })}`, { headers: authorized() });
  return response.ok ? response.json() : { available: false, problem: await response.text() };
}

/** Keeps both cards up to date while the page is seen. */
export function followInsight(store) {
  let asked = null;
  const refresh = async () => {
    if (document.hidden || store.workload === null) return;
    const workload = store.workload;
    asked = workload;
    try {
      const [shadow, lifts] = await Promise.all([ask("shadow", workload), ask("lifts", workload)]);
      if (store.workload !== workload) return;
      showShadow(shadow);
      showLifts(lifts, store.now);
    } catch {
      // The connection's state stands in the head of the page.
    }
  };
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, EVERY_MS);
  // Another workload is shown at once.
  setInterval(() => store.workload !== asked && refresh(), 500);
}
