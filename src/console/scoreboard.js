// The scoreboard: every policy on the same trace, as a table with bars and as a frontier of cost against violation.

import { palette } from "/chart.js";
import { count } from "/series.js";

const LABEL_SIZE = 10.5;
const LABEL_PX = 6.2;
const TICKS = [0.5, 0.7, 1, 1.5, 2, 3, 5, 8, 12, 20];

const byId = (id) => document.getElementById(id);
const isOurs = (policy) => /headroom/i.test(policy);
/** In the frontier the mark says that a policy is ours. */
const labelOf = (policy) => policy.replace(/^headroom\s+/i, "");

function cell(value, share) {
  const made = document.createElement("td");
  const box = document.createElement("div");
  box.className = "bar-cell";
  const meter = document.createElement("span");
  meter.className = "meter";
  const bar = document.createElement("i");
  bar.style.width = `${Math.round(100 * Math.min(1, Math.max(0, share)))}%`;
  meter.append(bar);
  box.append(meter, value);
  made.append(box);
  return made;
}

/** Shows the board, or that it will come. */
export function showScoreboard(board) {
  const rows = board?.rows ?? [];
  byId("scoreboard").hidden = rows.length === 0;
  byId("scoreboard-empty").hidden = rows.length > 0;
  if (rows.length === 0) return;
  byId("scoreboard-caption").textContent = board.caption ?? "";
  const most = (key) => Math.max(1e-9, ...rows.map((row) => row[key]));
  const [minutes, hours] = [most("violation_minutes"), most("unit_hours")];
  byId("scoreboard-rows").replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    if (isOurs(row.policy)) line.className = "ours";
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = row.policy;
    const cost = document.createElement("td");
    cost.textContent = row.cost_vs_oracle.toFixed(2);
    line.append(name, cell(count(row.violation_minutes), row.violation_minutes / minutes), cell(count(row.unit_hours), row.unit_hours / hours), cost);
    return line;
  }));
  drawFrontier(rows);
}

/** Cost on a scale of ratios, since the static peak is many times dearer than the rest. */
function drawFrontier(rows) {
  const colours = palette();
  const target = byId("frontier");
  const narrow = target.clientWidth < 430;
  const costs = rows.map((row) => row.cost_vs_oracle);
  const [low, high] = [Math.log10(Math.min(...costs)) - 0.06, Math.log10(Math.max(...costs)) + 0.08];
  const most = Math.max(10, ...rows.map((row) => row.violation_minutes));
  const margin = { l: 52, r: 8, t: 8, b: 42 };
  const scale = {
    x: (row) => ((Math.log10(row.cost_vs_oracle) - low) / (high - low)) * (target.clientWidth - margin.l - margin.r),
    y: (row) => (1 - (row.violation_minutes / most + 0.08) / 1.24) * (target.clientHeight - margin.t - margin.b),
  };
  const sides = labelSides(rows, scale, target.clientWidth - margin.l - margin.r);
  const group = (ours) => {
    const chosen = rows.filter((row) => isOurs(row.policy) === ours);
    return {
      x: chosen.map((row) => row.cost_vs_oracle), y: chosen.map((row) => row.violation_minutes), customdata: chosen.map((row) => row.policy),
      type: "scatter", mode: ours ? "lines+markers+text" : "markers+text", line: { color: colours.ahead, width: 1, dash: "2px,3px" },
      text: chosen.map((row) => (sides.has(row) ? labelOf(row.policy) : "")), textposition: chosen.map((row) => sides.get(row) ?? "top center"),
      textfont: { size: LABEL_SIZE, color: ours ? colours.ahead : colours.soft }, cliponaxis: false,
      marker: { size: 8, color: ours ? colours.ahead : colours.faint, symbol: ours ? "diamond" : "circle" },
      hovertemplate: "%{customdata}<br>%{y:,.0f} min in violation<br>%{x:.2f} × the oracle's unit-hours<extra></extra>",
    };
  };
  const axis = {
    gridcolor: colours.grid, linecolor: colours.line, zeroline: false, fixedrange: true, tickfont: { size: 11, color: colours.soft },
  };
  const title = (text) => ({ text, standoff: 6, font: { size: 11.5, color: colours.soft } });
  const ticks = TICKS.filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high);
  const layout = {
    margin, showlegend: false, hovermode: "closest", dragmode: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: colours.ink },
    hoverlabel: { bgcolor: colours.card, bordercolor: colours.line, font: { size: 12, color: colours.ink }, align: "left" },
    xaxis: { ...axis, type: "log", range: [low, high], title: title("Cost (× the oracle's unit-hours)"), tickvals: ticks, ticktext: ticks.map(String), tickangle: 0 },
    yaxis: { ...axis, range: [-0.08 * most, 1.16 * most], nticks: 5, title: title(narrow ? "Violation (min)" : "Time in violation (min)") },
  };
  Plotly.react(target, [group(false), group(true)], layout, { displayModeBar: false, responsive: true });
}

/** Where each point's name has room, ours first; a point whose name fits nowhere tells it to the pointer only. */
function labelSides(rows, scale, width) {
  const taken = rows.map((row) => ({ left: scale.x(row) - 5, right: scale.x(row) + 5, top: scale.y(row) - 5, bottom: scale.y(row) + 5 }));
  const sides = new Map();
  const oursFirst = [...rows].sort((a, b) => Number(isOurs(b.policy)) - Number(isOurs(a.policy)));
  for (const row of oursFirst) {
    const [x, y, long] = [scale.x(row), scale.y(row), labelOf(row.policy).length * LABEL_PX];
    const boxes = {
      "middle right": { left: x + 6, right: x + 10 + long, top: y - 7, bottom: y + 7 },
      "top center": { left: x - long / 2, right: x + long / 2, top: y - 19, bottom: y - 6 },
      "middle left": { left: x - 10 - long, right: x - 6, top: y - 7, bottom: y + 7 },
      "bottom center": { left: x - long / 2, right: x + long / 2, top: y + 6, bottom: y + 19 },
    };
    const isFree = (box) => box.left >= 0 && box.right <= width &&
      !taken.some((other) => box.left < other.right && box.right > other.left && box.top < other.bottom && box.bottom > other.top);
    const side = Object.keys(boxes).find((name) => isFree(boxes[name]));
    if (side === undefined) continue;
    sides.set(row, side);
    taken.push(boxes[side]);
  }
  return sides;
}
