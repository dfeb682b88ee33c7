// What people do from the page: approve or reject what waits, stop automation and let it go on. Each request says who
// asks; the name is kept in this browser.

import { longTime, shortTime } from "/series.js";

const EVERY_MS = 5_000;
const NAME_KEY = "headroom-name";
const TOKEN_KEY = "headroom-token";
const byId = (id) => document.getElementById(id);
const token = () => sessionStorage.getItem(TOKEN_KEY) ?? "";

/** The header that says who asks, where a token was given; it is kept until the window is closed. */
export function authorized() {
  return token() === "" ? {} : { authorization: `Bearer ${token()}` };
}

let known = "";

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(text, act) {
  const made = element("button", "", text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

function tell(text, tone) {
  const said = byId("people-said");
  said.textContent = text;
  said.dataset.tone = tone ?? "";
}

/** Asks, and tells the answer; without a name nothing is asked. */
async function ask(path, body, done) {
  // Where a token is asked for, it says who asks.
  const actor = token() === "" ? byId("people-name").value.trim() : "";
  if (actor === "" && token() === "") {
    tell("Say who you are first: it stands in the record.", "warn");
    byId("people-name").focus();
    return;
  }
  if (actor !== "") localStorage.setItem(NAME_KEY, actor);
  try {
    const response = await fetch(`/api/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...authorized() },
      body: JSON.stringify({ ...body, actor }),
    });
    const text = await response.text();
    if (response.ok) tell(done(JSON.parse(text)), "good");
    else tell(text, "bad");
  } catch (problem) {
    tell(`Nobody answers: ${problem.message}`, "bad");
  }
  await refresh();
}

function waitingItem(plan) {
  const item = element("li");
  const comment = element("input");
  comment.placeholder = "Comment";
  comment.setAttribute("aria-label", `Comment on ${plan.plan_id}`);
  const text = element("div", "waiting-text");
  text.append(
    element("strong", "", `${plan.workload}: ${plan.before} → ${plan.after} units`),
    element("span", "", plan.reason),
  );
  const until = plan.expires > 0 ? `waits until ${longTime(plan.expires)} UTC` : "waits";
  const approved = plan.approvals.length > 0 ? `; approved by ${plan.approvals.join(", ")}, another person is needed` : "";
  text.append(element("small", "", `${shortTime(plan.at)}; ${until}${approved}; hash ${plan.plan_hash.slice(0, 12)}`));
  // The hash is that of the plan that is shown here: a plan that has changed since is refused.
  const said = () => ({ plan_id: plan.plan_id, comment: comment.value.trim() });
  const approve = () => ask("approve", { ...said(), plan_hash: plan.plan_hash }, (action) => `${plan.plan_id}: ${action.reason}`);
  const reject = () => ask("reject", said(), () => `${plan.plan_id}: rejected`);
  const buttons = element("div", "waiting-buttons");
  buttons.append(comment, button("Approve", approve), button("Reject", reject));
  item.append(text, buttons);
  return item;
}

function stoppedItem(stopped) {
  const item = element("li");
  const text = element("div", "waiting-text");
  const what = stopped.workload === "" ? "All automation is paused" : `${stopped.workload}: automation is paused`;
  text.append(element("strong", "", `${what} by ${stopped.by}`), element("span", "", stopped.reason));
  if (stopped.warning) text.append(element("small", "", stopped.warning));
  const buttons = element("div", "waiting-buttons");
  buttons.append(button("Resume", () => ask("resume", { workload: stopped.workload }, switched)));
  item.append(text, buttons);
  return item;
}

/** What a switch has come to. */
function switched(state) {
  const what = `${state.workload === "" ? "every workload" : state.workload}: automation is ${state.paused ? "stopped" : "on"}`;
  return state.warning ? `${what}; ${state.warning}` : what;
}

function stageText(stage) {
  const rate = stage.total > 0 ? `, ${stage.good} of ${stage.total} good, above ${Math.floor(stage.lower_bound * 100)} %` : "";
  return `${stage.workload} ${stage.kind}: ${stage.stage}${rate}`;
}

function show(told) {
  const asksToken = told.needs_token === true || token() !== "";
  byId("people").hidden = !told.available && !asksToken;
  byId("people-token-field").hidden = !asksToken;
  byId("people-name-field").hidden = asksToken;
  if (!told.available) {
    known = "";
    byId("people-list").replaceChildren();
    if (asksToken) tell(told.problem, "warn");
    return;
  }
  const text = JSON.stringify(told);
  // What has not changed stays: a comment may be half written.
  if (text === known) return;
  known = text;
  byId("people-list").replaceChildren(...told.stopped.map(stoppedItem), ...told.waiting.map(waitingItem));
  byId("people-count").textContent = told.waiting.length > 0 ? `${told.waiting.length} waiting` : "nothing waits";
  byId("people-stages").textContent = told.stages.map(stageText).join(" · ");
}

async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch("/api/governance", { headers: authorized() });
    if (response.ok) show(await response.json());
  } catch {
    // The connection's state stands in the head of the page.
  }
}

export function followPeople() {
  byId("people-name").value = localStorage.getItem(NAME_KEY) ?? "";
  byId("people-token").addEventListener("change", (event) => {
    sessionStorage.setItem(TOKEN_KEY, event.target.value.trim());
    event.target.value = "";
    tell("", "");
    refresh();
  });
  byId("people-stop").addEventListener("click", () => ask("pause", { workload: "" }, switched));
  byId("people-resume").addEventListener("click", () => ask("resume", { workload: "" }, switched));
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, EVERY_MS);
  refresh();
}
