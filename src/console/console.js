// The page: keeps what the server tells, follows the present, and redraws when something has changed.

import { Chart, summary } from "/chart.js";
import { followInsight } from "/insight.js";
import { SpeedMeter, showActions, showClock, showConnection, showStages, showTiles, showWorkloads } from "/panels.js";
import { followPeople } from "/people.js";
import { showScoreboard } from "/scoreboard.js";
import { DAY, HOUR, Store, duration } from "/series.js";

const store = new Store();
const chart = new Chart(document.getElementById("chart"));
const meter = new SpeedMeter();
const view = { days: 7, following: true, span: null, stages: [], board: null, source: null, loadedFrom: 0, isDrawing: false, isStale: false };

/** Where the chosen range begins, whatever is known of it. */
function rangeStart() {
  return view.days === "all" ? 0 : store.now - view.days * DAY;
}

/** The span that follows the present: the chosen past as far as there is any, and the forecast as far as leaves room. */
function followedSpan() {
  const now = store.now ?? 0;
  const past = Math.max(DAY, now - Math.max(rangeStart(), store.first ?? now));
  const horizon = store.ahead === null ? 0 : store.ahead.bands.length * store.ahead.step;
  const ahead = view.days === "all" ? horizon : Math.min(Math.max(horizon, 2 * HOUR), past * 0.5);
  return [now - past, now + ahead];
}

function span() {
  return view.following || view.span === null ? followedSpan() : view.span;
}

/** Draws once in a frame at most, and not while the page cannot be seen. */
function redraw() {
  view.isStale = true;
  if (view.isDrawing || document.hidden) return;
  view.isDrawing = true;
  requestAnimationFrame(async () => {
    view.isStale = false;
    try {
      await draw();
    } finally {
      view.isDrawing = false;
      if (view.isStale) redraw();
    }
  });
}

async function draw() {
  showClock(store, meter);
  showStages(view.stages, store.now);
  if (store.facts === null) return;
  showWorkloads(store);
  if (store.now === null) return;
  document.getElementById("chart-empty").hidden = store.times.length > 0;
  document.getElementById("issued-lead").textContent = `issued ${duration(store.facts.forecast_lead)} before`;
  showTiles(store);
  showActions(store);
  const shown = span();
  document.getElementById("chart-summary").textContent = summary(store, shown);
  const isFirst = !chart.isDrawn;
  await chart.draw(store, shown);
  if (isFirst) chart.onChosen(choose);
}

function choose(chosen) {
  view.following = chosen === null;
  view.span = chosen;
  showControls();
  redraw();
}

function showControls() {
  for (const button of document.querySelectorAll("#ranges button")) {
    button.setAttribute("aria-pressed", String(button.dataset.days === String(view.days)));
  }
  document.getElementById("follow").setAttribute("aria-pressed", String(view.following));
}

async function chooseRange(days) {
  view.days = days;
  choose(null);
  await loadWhatIsShown();
}

/** Reads more when the chosen range reaches further back than what has been read. */
async function loadWhatIsShown() {
  if (store.now === null) return;
  if (rangeStart() < view.loadedFrom) await load(rangeStart());
}

/** Reads a snapshot from a time on, or of the configured history, and follows from there. */
async function load(from) {
  const query = new URLSearchParams();
  if (store.workload !== null) query.set("workload", store.workload);
  if (from !== null) query.set("from", String(Math.round(from)));
  const response = await fetch(`/api/state?${query}`);
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  take(await response.json(), from);
  follow();
}

function take(told, from = null) {
  store.take(told);
  if (told.snapshot) view.loadedFrom = from ?? (store.now === null ? 0 : store.now - store.facts.history);
  redraw();
}

/** The clock goes on when nothing comes, so that rest shows as rest. */
function tick() {
  if (store.now === null) return;
  meter.mark(store.now, performance.now());
  showClock(store, meter);
}

/** Opens the stream; the browser reconnects by itself and says where it stood. */
function follow() {
  view.source?.close();
  const query = new URLSearchParams({ since: store.id ?? "" });
  if (store.workload !== null) query.set("workload", store.workload);
  const source = new EventSource(`/api/events?${query}`);
  view.source = source;
  source.addEventListener("open", () => showConnection("live", "Connected"));
  source.addEventListener("error", () => {
    showConnection("lost", "Reconnecting");
    // A refused stream is closed for good: start anew a little later.
    if (source.readyState === EventSource.CLOSED) setTimeout(begin, 3_000);
  });
  source.addEventListener("state", (event) => {
    take(JSON.parse(event.data));
    loadWhatIsShown();
  });
  source.addEventListener("stages", (event) => {
    view.stages = JSON.parse(event.data);
    redraw();
  });
  source.addEventListener("scoreboard", (event) => {
    view.board = JSON.parse(event.data);
    showScoreboard(view.board);
  });
}

async function begin() {
  try {
    await load(null);
  } catch (error) {
    showConnection("lost", "Not reachable");
    console.warn("the console's server does not answer", error);
    setTimeout(begin, 3_000);
  }
}

/** Moves or scales the span by shares of its width. */
function move(shift, scale) {
  const [from, to] = span();
  const width = to - from;
  const middle = (from + to) / 2 + shift * width;
  choose([middle - (width * scale) / 2, middle + (width * scale) / 2]);
}

const KEYS = {
  ArrowLeft: () => move(-0.15, 1), ArrowRight: () => move(0.15, 1), "+": () => move(0, 0.7), "=": () => move(0, 0.7),
  "-": () => move(0, 1.4), f: () => choose(null), F: () => choose(null),
};

document.getElementById("chart").addEventListener("keydown", (event) => {
  const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key];
  if (act === undefined || store.now === null) return;
  event.preventDefault();
  act();
});
document.getElementById("ranges").addEventListener("click", (event) => {
  const days = event.target.closest("button")?.dataset.days;
  if (days !== undefined) chooseRange(days === "all" ? "all" : Number(days));
});
document.getElementById("follow").addEventListener("click", () => choose(view.following ? span() : null));
document.getElementById("workload").addEventListener("change", (event) => {
  store.clear();
  store.workload = event.target.value;
  load(null);
});
document.addEventListener("visibilitychange", redraw);
for (const query of ["(prefers-color-scheme: dark)", "(max-width: 640px)"]) {
  matchMedia(query).addEventListener("change", () => {
    redraw();
    if (view.board !== null) showScoreboard(view.board);
  });
}

showControls();
setInterval(tick, 1_000);
begin();
followPeople();
followInsight(store);
