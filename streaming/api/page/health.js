// The page about health: asks once every few seconds, and draws what it is told. Text goes in as text, never as markup.

import { ask, make, problem, signedIn } from "./client.js";

const EVERY_MS = 5000;
const SHOWN = 12;
const SVG = "http://www.w3.org/2000/svg";
const WORDS = {
  psi: "population stability index", js: "Jensen-Shannon distance", ks: "Kolmogorov-Smirnov distance", nulls: "rate of nulls",
  unseen: "rate of unseen categories", out_of_range: "rate out of range", rate: "rate of rejected events", area_under_roc: "area under ROC",
};

const at = (id) => document.getElementById(id);
const words = (name) => WORDS[name] ?? name.replaceAll("_", " ");
const percent = (value) => (value === null || value === undefined ? "" : `${(100 * value).toFixed(1)} %`);
const number = (value) => (value === null || value === undefined ? "" : Math.round(value).toLocaleString("en"));
// With seconds only where a time is no whole minute: windows may be short.
const clock = (iso) => new Date(iso).toLocaleString(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", ...(new Date(iso) % 60000 ? { second: "2-digit" } : {}) });
const moment = (iso) => make("time", { dateTime: iso }, clock(iso));

function lasted(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

function about(figure) {
  const kinds = { quality: "quality of ", prediction: "answers of ", concept: "meaning for ", rejected: "rejected events" };
  const where = figure.slice ? ` in slice ${figure.slice}` : "";
  return `${kinds[figure.kind] ?? ""}${figure.subject}${where}: ${words(figure.statistic)}`;
}

function lanes(job) {
  at("job-words").textContent = job.answers ? "" : job.words;
  at("lanes").hidden = !job.answers;
  const rows = (job.lanes ?? []).map((lane) => {
    const well = lane.state === "running";
    const why = lane.why && !well ? make("p", { className: "hint" }, lane.why) : "";
    const behind = lane.behind === undefined ? "unknown" : lane.behind > 0 ? `${number(lane.behind)} (${lasted(lane.behind_s ?? 0)})` : "0";
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, lane.lane),
      make("td", {}, make("span", { className: well ? "well" : "ill" }, lane.state), ` for ${lasted(lane.for_s)}`, why),
      make("td", { className: "much" }, behind),
      make("td", { className: "much" }, String(lane.restarts)),
    );
  });
  at("lanes").tBodies[0].replaceChildren(...rows);
}

function versions(models, learners) {
  const saved = models.map((model) => [model.name, model.version, "saved; see below"]);
  const learned = learners.map((learner) => [
    learner.learner,
    `${learner.version < 0 ? "the start" : learner.version}${learner.frozen ? " (frozen)" : ""}`,
    Object.entries(learner.metrics).map(([name, value]) => `${words(name)} ${value.toFixed(3)}`).join(" · "),
  ]);
  const rows = [...saved, ...learned].map(([name, ...rest]) => make("tr", {}, make("th", { scope: "row" }, name), ...rest.map((text) => make("td", {}, text))));
  at("versions").tBodies[0].replaceChildren(...rows);
}

function alerts(job, windows, told) {
  const said = new Map(told.map((alert) => [alert.on, alert]));
  // What is raised now the job knows best; while it does not answer, what it told last.
  const raised = job.answers ? (job.alerts ?? []).map((alert) => said.get(alert.on) ?? alert) : told;
  const items = raised.map((alert) => {
    const since = alert.since ? make("p", { className: "hint" }, `since ${clock(alert.since)}, model version ${alert.model_version || "unknown"}; look: `, make("code", {}, alert.next)) : "";
    return make("li", {}, make("span", { className: "ill" }, alert.severity ?? "warning"), ` ${alert.says ?? words(alert.on ?? "alert")}${alert.silenced ? " (silenced)" : ""}`, since);
  });
  const newest = windows.at(-1);
  const seen = (newest?.drifted ?? []).slice(0, SHOWN).map(about);
  const drifted = seen.length ? make("p", { className: "hint" }, `Drifted in the newest window: ${seen.join("; ")}.`) : "";
  const calm = newest && !seen.length ? "Nothing: the newest window looks as the model knows it." : "No alert is raised.";
  at("alerts").replaceChildren(items.length ? make("ul", { className: "alerts" }, ...items) : make("p", { className: seen.length ? "" : "well" }, calm), drifted);
}

function drift(windows) {
  const judged = windows.filter((each) => each.judged).at(-1);
  at("drift-hint").textContent = judged
    ? `Window of ${clock(judged.start)}. A bar at the mark is as large as its threshold; red is also beyond chance.`
    : "No window had rows enough to be judged yet.";
  const greatest = Math.max(1.5, ...(judged?.drift ?? []).map((each) => each.excess));
  const items = (judged?.drift ?? []).map((each) => {
    const fill = make("i", { className: each.drifted ? "over" : "" });
    fill.style.width = `${(100 * each.excess) / greatest}%`;
    const mark = make("b", {});
    mark.style.left = `${100 / greatest}%`;
    return make(
      "li",
      {},
      make("span", {}, each.kind === "prediction" ? `answers of ${each.subject}` : each.subject, make("small", {}, words(each.statistic))),
      make("span", { className: "track", "aria-hidden": "true" }, fill, mark),
      make("span", { className: "much" }, each.value.toFixed(3)),
    );
  });
  at("drift").replaceChildren(...items);
}

function table(windows, told) {
  at("windows-words").textContent = told;
  at("windows").hidden = windows.length === 0;
  const rows = [...windows].reverse().slice(0, SHOWN).map((each) => {
    const what = each.judged ? (each.drifted.length ? each.drifted.slice(0, 3).map(about).join("; ") : "nothing") : "too few rows to say";
    const carried = each.drifted.length && each.carriers.length ? ` (${each.carriers.slice(0, 2).map((c) => `${c.subject} carries ${percent(c.share)} of the shift`).join(", ")})` : "";
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, moment(each.start)),
      make("td", { className: "much" }, number(each.rows)),
      make("td", { className: "much" }, number(each.labels)),
      make("td", { className: "much" }, percent(each.rejected)),
      make("td", { className: each.drifted.length ? "ill" : "" }, what + carried),
    );
  });
  at("windows").tBodies[0].replaceChildren(...rows);
}

function quality(windows) {
  const series = new Map();
  windows.forEach((each, i) => {
    for (const figure of each.quality) {
      const chart = series.get(`${figure.model} · ${words(figure.metric)}`) ?? { truth: [], estimate: [] };
      chart[figure.source].push({ x: i, ...figure });
      series.set(`${figure.model} · ${words(figure.metric)}`, chart);
    }
  });
  const charts = [...series].filter(([name]) => /accuracy|area under ROC|rmse/.test(name)).slice(0, 6);
  const drawn = charts.map(([name, chart]) => make("figure", {}, make("figcaption", {}, name, make("b", {}, ` ${newest(chart)}`)), draw(chart, windows)));
  at("quality").replaceChildren(...(drawn.length ? drawn : [make("p", { className: "hint" }, "No labels and no estimates yet.")]));
}

function newest(chart) {
  const last = chart.truth.at(-1) ?? chart.estimate.at(-1);
  return `${last.value.toFixed(3)}${chart.truth.length ? "" : " expected"}`;
}

function draw(chart, windows) {
  const [width, height, left, edge, foot] = [480, 130, 44, 8, 18];
  const ends = [...chart.truth, ...chart.estimate].flatMap((p) => [p.value, p.low, p.high]).filter((y) => y !== null && y !== undefined);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const room = Math.max(high - low, 0.02);
  const x = (p) => left + (p.x * (width - left - edge)) / Math.max(windows.length - 1, 1);
  const y = (value) => height - foot - edge - ((value - low) * (height - foot - 2 * edge)) / room;
  const path = (points) => points.map((p, i) => `${i ? "L" : "M"}${x(p).toFixed(1)} ${y(p.value).toFixed(1)}`).join("");
  const sure = chart.truth.filter((p) => p.low !== null && p.low !== undefined);
  const band = sure.length > 1 ? `M${[...sure.map((p) => `${x(p)} ${y(p.high)}`), ...[...sure].reverse().map((p) => `${x(p)} ${y(p.low)}`)].join("L")}Z` : "";
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `between ${low.toFixed(3)} and ${high.toFixed(3)}` });
  for (const value of [low, high]) {
    svg.append(shape("line", { x1: left, x2: width - edge, y1: y(value), y2: y(value), class: "rule" }), label(value.toFixed(3), left - 6, y(value) + 4, "end"));
  }
  svg.append(shape("path", { d: band, class: "band" }), shape("path", { d: path(chart.estimate), class: "dashed" }), shape("path", { d: path(chart.truth), class: "line" }));
  for (const p of chart.truth) svg.append(shape("circle", { cx: x(p), cy: y(p.value), r: 2.5, class: "dot" }));
  svg.append(label(clock(windows[0].start), left, height - 3, "start"));
  if (windows.length > 1) svg.append(label(clock(windows.at(-1).start), width - edge, height - 3, "end"));
  return svg;
}

function label(words, x, y, anchor) {
  const text = shape("text", { x, y, class: "tick", "text-anchor": anchor });
  text.textContent = words;
  return text;
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function status(job) {
  const text = job.answers ? job.status : "the job does not answer";
  at("status").hidden = false;
  at("status").textContent = text;
  at("status").classList.toggle("ill", text !== "ready");
}

async function look() {
  const [{ models }, health] = await Promise.all([ask("/v1/models"), ask("/v1/health")]);
  const windows = health.windows.list;
  status(health.job);
  alerts(health.job, windows, health.windows.alerts ?? []);
  lanes(health.job);
  versions(models, health.job.learners ?? []);
  quality(windows);
  drift(windows);
  table(windows, health.windows.words);
  at("content").hidden = false;
  at("problem").hidden = true;
}

async function start() {
  await look();
  setInterval(() => look().catch(problem), EVERY_MS);
}

signedIn(start);
