// The page: look a key up, change fields, watch the prediction and what drives it.

import { ask, make, problem, signedIn } from "/page/client.js";

const SHOWN = 8; // drivers before "Show all"
const MOST_OPTIONS = 30; // more categories than this are typed, with suggestions
const PAUSE_MS = 60; // after the last keystroke, before the service is asked

const at = (id) => document.getElementById(id);
const words = (name) => name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());
const percent = (share) => `${(100 * share).toFixed(share > 0.0995 && share < 0.9005 ? 0 : 1)} %`;
const plain = (value) => Number(value.toPrecision(5)).toLocaleString();

let model; // as GET /v1/models gives it
let first; // the output with the starting values
let all = false; // whether all drivers are shown
let asked; // the question that is under way
let timer;

function startValue(input, values) {
  if (input.name in values) return values[input.name];
  return input.kind === "number" ? 0 : (input.categories[0] ?? null);
}

function field(input, values = model.example) {
  const id = `field-${input.name}`;
  const start = startValue(input, values);
  let control;
  if (input.kind === "text" && input.categories.length && input.categories.length <= MOST_OPTIONS) {
    const known = input.categories.includes(start) || start === null ? input.categories : [start, ...input.categories];
    control = make("select", { id }, ...known.map((each) => make("option", { value: JSON.stringify(each) }, each || "(empty text)")));
    control.append(make("option", { value: "null" }, "unknown"));
    control.value = JSON.stringify(start);
  } else {
    control = make("input", { id, type: input.kind === "number" ? "number" : "text", autocomplete: "off", value: shown(start) });
    if (input.kind === "number") control.step = "any";
    if (input.categories.length) control.setAttribute("list", `${id}-known`);
  }
  control.dataset.kind = input.kind;
  control.name = input.name;
  const box = make("div", {}, make("label", { htmlFor: id }, words(input.name)), control);
  if (control.hasAttribute("list")) {
    box.append(make("datalist", { id: `${id}-known` }, ...input.categories.map((value) => make("option", { value }))));
  }
  return box;
}

const shown = (value) => (value === null ? "" : Array.isArray(value) ? value.join(", ") : String(value));

function valueOf(control) {
  if (control.tagName === "SELECT") return JSON.parse(control.value);
  const text = control.value.trim();
  if (text === "") return null;
  if (control.dataset.kind === "number") return Number(text);
  return control.dataset.kind === "vector" ? text.split(/[\s,;]+/).filter(Boolean).map(Number) : control.value;
}

const instance = () => Object.fromEntries([...at("fields").elements].map((control) => [control.name, valueOf(control)]));

async function follow() {
  asked?.abort();
  asked = new AbortController();
  const row = instance();
  try {
    const answer = await ask(`/v1/models/${encodeURIComponent(model.name)}:explain`, { method: "POST", body: { instance: row }, signal: asked.signal });
    const [found] = answer.explanations;
    at("version").textContent = `${found.model} · version ${found.model_version}`;
    if (found.error) fail(found.error);
    else show(found, row);
  } catch (error) {
    if (error.name !== "AbortError") fail(error.message);
  }
}

function fail(text) {
  at("number").textContent = "–";
  at("answer-error").textContent = `No prediction: ${text}`;
  at("fill").style.width = "0";
  at("compared").textContent = "";
  at("drivers-hint").textContent = "";
  at("drivers").replaceChildren();
  at("more").hidden = true;
}

function show(found, row) {
  const share = found.class !== null;
  const binary = share && found.probability.length === 2;
  first ??= found.output;
  at("answer-error").textContent = "";
  at("number").textContent = share ? percent(found.output) : plain(found.prediction);
  at("outcome").textContent = binary ? `probability of ${model.outcome}` : share ? `probability of class ${found.class}` : model.outcome;
  at("scale").hidden = !share;
  at("fill").style.width = share ? `${100 * found.output}%` : "0";
  at("start").style.left = `${100 * first}%`;
  at("compared").textContent = compared(found.output, share && binary);
  at("drivers-hint").textContent = share
    ? "How many percentage points each field adds (+) or takes away (−), compared with leaving it out."
    : "How much each field adds (+) or takes away (−), compared with leaving it out.";
  drivers(found.contributions, row, share);
}

function compared(output, known) {
  const moved = output - first;
  if (Math.abs(moved) < 5e-4) return "The starting values.";
  if (!known) return `It was ${plain(first)} with the starting values.`;
  return `${moved > 0 ? "▲" : "▼"} ${Math.abs(100 * moved).toFixed(1)} points ${moved > 0 ? "more" : "less"} than with the starting values (${percent(first)}).`;
}

function drivers(contributions, row, share) {
  const known = contributions.filter((each) => each.effect !== null);
  const greatest = Math.max(1e-9, ...known.map((each) => Math.abs(each.effect)));
  const items = (all ? known : known.slice(0, SHOWN)).map(({ field: name, effect }) => {
    const size = share ? 100 * effect : effect;
    const text = share ? `${sign(size)}${Math.abs(size).toFixed(1)} pts` : `${sign(size)}${plain(Math.abs(size))}`;
    const fill = make("i", { className: effect >= 0 ? "up" : "down" });
    fill.style.width = `${(50 * Math.abs(effect)) / greatest}%`;
    const what = make("span", { className: "what" }, words(name), make("small", {}, shown(row[name]) || "unknown"));
    return make("li", { className: "driver" }, what, make("span", { className: "bar", "aria-hidden": "true" }, fill), make("span", { className: "much" }, text));
  });
  at("drivers").replaceChildren(...items);
  at("more").hidden = known.length <= SHOWN;
  at("more").textContent = all ? "Show fewer" : `Show all ${known.length}`;
  at("more").setAttribute("aria-expanded", String(all));
}

const sign = (value) => (Math.abs(value) < 0.05 ? "" : value > 0 ? "+" : "−");

async function lookUp(event) {
  event.preventDefault();
  const key = at("key").value.trim();
  try {
    const answer = await ask(`/v1/predictions/${encodeURIComponent(key)}?fields_of=${encodeURIComponent(model.name)}`);
    at("stored").replaceChildren(...answer.predictions.map((row) => stored(answer.key, row)), make("p", { className: "hint" }, filled(answer.event)));
  } catch (error) {
    const text = error.status === 404 ? `No prediction is stored for ${model.entity} ${key}.` : words(error.message);
    at("stored").replaceChildren(make("p", { className: "hint" }, text));
  }
}

/** Put the values of the stored event into the form, and say so. */
function filled(event) {
  if (!event?.fields) return `The fields below are not this ${model.entity}'s: ${event?.words ?? "the event is not known"}.`;
  at("fields").replaceChildren(...model.inputs.map((input) => field(input, event.fields)));
  first = undefined;
  follow();
  return `The fields are this ${model.entity}'s own, as the event of the prediction had them.`;
}

function stored(key, row) {
  const two = row.probability?.length === 2 && row.model === model.name;
  const value = two ? percent(row.probability[1]) : row.prediction === null ? "not a number" : plain(row.prediction);
  const when = (time) => new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  return make(
    "div",
    { className: "stored" },
    make("p", {}, make("b", {}, value), two ? ` probability of ${model.outcome} · ${words(model.entity)} ${key}` : ` prediction · ${words(model.entity)} ${key}`),
    make("p", { className: "hint" }, `Event of `, make("time", { dateTime: row.event_time }, when(row.event_time)), `, scored `, make("time", { dateTime: row.scored_at }, when(row.scored_at)), `, by ${row.model} version ${row.model_version}`),
  );
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(follow, PAUSE_MS);
}

async function start() {
  [model] = (await ask("/v1/models")).models;
  document.title = `${words(model.outcome)} · predictions`;
  at("title").textContent = words(model.outcome);
  at("version").hidden = false;
  at("lookup-title").textContent = `Look up a ${model.entity}`;
  at("key-label").textContent = `${words(model.entity)} key`;
  at("fields").replaceChildren(...model.inputs.map((input) => field(input)));
  at("content").hidden = false;
  await follow();
}

at("fields").addEventListener("input", soon);
at("fields").addEventListener("submit", (event) => event.preventDefault());
at("reset").addEventListener("click", () => {
  at("fields").replaceChildren(...model.inputs.map((input) => field(input)));
  first = undefined;
  follow();
});
at("more").addEventListener("click", () => {
  all = !all;
  follow();
});
at("lookup-form").addEventListener("submit", (event) => lookUp(event).catch(problem));
signedIn(start);
