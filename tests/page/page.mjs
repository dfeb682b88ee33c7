// Opens the console in Chromium, wide and narrow, and checks what a person would see.
//
//   node page.mjs http://127.0.0.1:8686/ FOLDER-FOR-SCREENSHOTS
//
// Chromium is /usr/bin/chromium unless CHROMIUM names another. Exit code 1 when something is wrong.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";

const PATIENCE_MS = 240_000;
const SIZES = [{ name: "wide", width: 1440, height: 900 }, { name: "narrow", width: 390, height: 844 }];
const TRACES = ["Load", "Forecast", "Forecast ahead", "Ready capacity", "Violation above", "Action", "Event"];

const [url, folder] = process.argv.slice(2);
assert.ok(url && folder, "usage: node page.mjs URL FOLDER");
await mkdir(folder, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
try {
  for (const size of SIZES) await check(size);
} finally {
  await browser.close();
}

async function check({ name, width, height }) {
  const page = await browser.newPage({ viewport: { width, height } });
  page.setDefaultTimeout(PATIENCE_MS);
  const problems = [];
  const host = new URL(url).host;
  page.on("console", (message) => message.type() === "error" && problems.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => problems.push(`uncaught: ${error.stack}`));
  page.on("request", (request) => {
    const target = new URL(request.url());
    if (target.protocol !== "data:" && target.host !== host) problems.push(`request to ${target.host}`);
  });
  try {
    await page.goto(url);
    assert.equal(await page.title(), "Headroom");
    await chartHasData(page);
    await actionsHaveReasons(page);
    await stagesAreRunning(page);
    await shadowStandsBesideWhatWas(page);
    await liftsAreToldWithTheirIntervals(page);
    await rangeAndFollowing(page, width);
    await nothingOverflows(page, width);
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: join(folder, `${name}.png`) });
    await page.screenshot({ path: join(folder, `${name}-full.png`), fullPage: true });
    await inTheDark(page, join(folder, `${name}-dark.png`));
    assert.deepEqual(problems, [], "the browser complains about nothing");
    console.log(`${name}: ok`);
  } catch (error) {
    await page.screenshot({ path: join(folder, `${name}-failed.png`) });
    throw new Error(`${name}: ${error.message}\nalso: ${JSON.stringify(problems)}`, { cause: error });
  } finally {
    await page.close();
  }
}

/** Every trace is there, and those that history must have by now hold values. */
async function chartHasData(page) {
  await page.waitForFunction(() => {
    const values = (name) => document.getElementById("chart").data?.find((trace) => trace.name === name)?.y.filter(Number.isFinite).length ?? 0;
    return values("Load") > 50 && values("Forecast ahead") > 50 && values("Ready capacity") > 10;
  });
  const names = await page.evaluate(() => document.getElementById("chart").data.map((trace) => trace.name));
  for (const name of TRACES) assert.ok(names.includes(name), `no trace ${name} in ${names}`);
  assert.ok(await page.locator("#chart .scatterlayer path.js-line").count() > 3, "the lines are drawn");
  assert.ok(await page.locator("#chart-empty").isHidden(), "the empty chart's text is gone");
  const titles = await page.locator("#chart .xtitle, #chart .ytitle").allTextContents();
  assert.match(titles.join(" "), /\(UTC\)/);
  assert.match(titles.join(" "), /\(requests\/s\)/);
}

async function actionsHaveReasons(page) {
  await page.waitForFunction(() => document.querySelectorAll("#actions > li").length > 0);
  const reasons = await page.locator("#actions .why").allTextContents();
  for (const reason of reasons) assert.ok(reason.trim().length > 15 && reason !== "no reason given", `a reason in words: ${reason}`);
  // By its id: meanwhile the replay may bring newer ones.
  const id = await page.locator("#actions > li").first().getAttribute("data-id");
  const first = page.locator(`#actions > li[data-id="${id}"] details`);
  await first.locator("summary").focus();
  await page.keyboard.press("Enter");
  await first.locator(".more").waitFor();
  assert.match(await first.locator(".more").textContent(), /Model|Policy|By/);
  await first.locator("summary").press("Enter");
}

/** A stage whose input has ended is drained: by then the replay may be over. */
async function stagesAreRunning(page) {
  await page.waitForFunction(() => document.querySelectorAll("#stages > li").length >= 5);
  const states = await page.locator('#stages [data-part="state"]').allTextContents();
  for (const state of states) assert.ok(["running", "drained"].includes(state), `stages are ${states}`);
  assert.equal(await page.locator("#connection").textContent(), "Connected");
}

/** The sums and the units of both, and rows that the keyboard can scroll. */
async function shadowStandsBesideWhatWas(page) {
  await page.waitForFunction(() => document.querySelectorAll("#shadow-rows > tr").length > 3);
  const sums = await page.locator("#shadow-sums td").allTextContents();
  assert.equal(sums.length, 4, `violation minutes and unit-hours, twice: ${sums}`);
  for (const sum of sums) assert.match(sum, /^[\d,.]+$/);
  assert.match(await page.locator("#shadow-caption").textContent(), /^Stage expand, from \d\d May 1998 .*estimate/);
  for (const which of ["was", "would"]) assert.match(await page.locator(`#shadow-chart .shadow-${which}`).getAttribute("d"), /^M0\.0 .*L600\.0 /);
  await page.locator('[aria-label^="Windows in which"]').focus();
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("role")), "region");
}

async function liftsAreToldWithTheirIntervals(page) {
  await page.waitForFunction(() => document.querySelectorAll("#lifts-rows > tr").length > 3);
  const lifts = await page.locator("#lifts-rows > tr > td:nth-child(3)").allTextContents();
  for (const lift of lifts) {
    const [, peak, low, high] = lift.match(/^× ([\d.]+) \(([\d.]+) to ([\d.]+)\)$/) ?? assert.fail(`no lift: ${lift}`);
    assert.ok(Number(low) <= Number(peak) && Number(peak) <= Number(high), `the lift lies in its interval: ${lift}`);
  }
}

async function rangeAndFollowing(page, width) {
  const shown = () => page.evaluate(() => {
    const [from, to] = document.getElementById("chart").layout.xaxis.range;
    return (to - from) / 86_400_000;
  });
  await page.click('#ranges button[data-days="1"]');
  await page.waitForFunction(() => {
    const [from, to] = document.getElementById("chart").layout.xaxis.range;
    return to - from <= 1.5 * 86_400_000;
  });
  const before = await shown();
  await page.locator("#chart").press("-");
  await page.waitForFunction((days) => {
    const [from, to] = document.getElementById("chart").layout.xaxis.range;
    return (to - from) / 86_400_000 > days;
  }, before);
  assert.equal(await page.locator("#follow").getAttribute("aria-pressed"), "false");
  await page.click("#follow");
  assert.equal(await page.locator("#follow").getAttribute("aria-pressed"), "true");
  if (width > 640) await page.click('#ranges button[data-days="7"]');
}

async function nothingOverflows(page, width) {
  const widest = await page.evaluate(() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth));
  assert.ok(widest <= width, `the page is ${widest} px wide in a window of ${width} px`);
}

async function inTheDark(page, path) {
  await page.emulateMedia({ colorScheme: "dark" });
  await page.waitForFunction(() => {
    const ground = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
    return ground.every((part) => part < 60);
  });
  const line = await page.evaluate(() => getComputedStyle(document.documentElement).getPropertyValue("--load").trim());
  await page.waitForFunction((colour) => {
    const load = document.getElementById("chart").data.find((trace) => trace.name === "Load");
    return load.line.color === colour;
  }, line);
  await page.screenshot({ path });
}
