// The scoreboard: every policy on the same trace, as a table with bars and as a frontier of cost against violation.

import { palette } from "/chart.js";
import { count } from "/series.js";

const byId = (id) => document.getElementById(id);
const isOurs = (policy) => /headroom/i.test(policy);

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
  const element = byId("frontier");
  const narrow = element.clientWidth < 430;
  const group = (ours) => {
    const chosen = rows.filter((row) => isOurs(row.policy) === ours);
    return {
      x: chosen.map((row) => row.cost_vs_oracle), y: chosen.map((row) => row.violation_minutes), text: chosen.map((row) => row.policy),
      type: "scatter", mode: ours ? "lines+markers" : "markers", line: { color: colours.ahead, width: 1, dash: "2px,3px" },
      marker: { size: ours ? 9 : 8, color: ours ? colours.ahead : colours.faint, symbol: ours ? "diamond" : "circle" },
      hovertemplate: "<b>%{text}</b><br>%{y:,.0f} min in violation<br>%{x:.2f} × the oracle's unit-hours<extra></extra>",
    };
  };
  const axis = {
    gridcolor: colours.grid, linecolor: colours.line, zeroline: false, fixedrange: true, automargin: true,
    tickfont: { size: 11, color: colours.soft },
  };
  const title = (text) => ({ text, standoff: 6, font: { size: 11.5, color: colours.soft } });
  const costs = rows.map((row) => row.cost_vs_oracle);
  const ticks = [0.5, 1, 1.5, 2, 3, 5, 8, 12, 20].filter((tick) => tick >= Math.min(...costs) * 0.8 && tick <= Math.max(...costs) * 1.2);
  const layout = {
    margin: { l: 46, r: 10, t: 8, b: 36 }, showlegend: false, hovermode: "closest", dragmode: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: colours.ink },
    hoverlabel: { bgcolor: colours.card, bordercolor: colours.line, font: { size: 12, color: colours.ink }, align: "left" },
    xaxis: { ...axis, type: "log", title: title("Cost (× the oracle's unit-hours)"), tickvals: ticks, ticktext: ticks.map(String) },
    yaxis: { ...axis, title: title(narrow ? "Violation (min)" : "Time in violation (min)"), rangemode: "tozero" },
  };
  Plotly.react(element, [group(false), group(true)], layout, { displayModeBar: false, responsive: true });
}
