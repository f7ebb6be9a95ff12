// The description of the API, drawn from /openapi.json, with a form to try each request.

import { ask, make, send, signedIn } from "/page/client.js";

const at = (id) => document.getElementById(id);
const pretty = (value) => JSON.stringify(value, null, 2);

function operation(path, method, description) {
  const id = description.operationId;
  const body = description.requestBody?.content?.["application/json"];
  const parameters = description.parameters ?? [];
  const box = make("div", {}, make("p", {}, description.description ?? ""));
  const form = make("form", {});
  for (const { name } of parameters) {
    form.append(make("label", { htmlFor: `${id}-${name}` }, name), make("input", { id: `${id}-${name}`, name, required: true, value: name === "name" ? at("operations").dataset.model : "" }));
  }
  if (body) {
    form.append(make("label", { htmlFor: `${id}-body` }, "Body"), make("textarea", { id: `${id}-body`, name: "body", spellcheck: false, value: pretty(body.example) }));
  }
  const answer = make("pre", { hidden: true, tabIndex: 0, "aria-live": "polite", "aria-label": "Answer" });
  form.append(make("p", { className: "hint" }, make("button", { className: "primary" }, "Send")), answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const where = path.replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(given.get(name)));
    try {
      const got = await send(where, { method: method.toUpperCase(), body: body ? given.get("body") : undefined });
      const text = await got.text();
      answer.textContent = `${got.status} ${got.statusText}\n\n${got.headers.get("content-type")?.includes("json") ? pretty(JSON.parse(text)) : text}`;
    } catch (error) {
      answer.textContent = error.message;
    }
    answer.hidden = false;
  });
  const statuses = Object.entries(description.responses).map(([status, each]) => make("tr", {}, make("th", { scope: "row" }, status), make("td", {}, each.description)));
  box.append(form, make("h3", {}, "Answers"), make("table", {}, make("tbody", {}, ...statuses)));
  if (body) box.append(make("details", {}, make("summary", {}, "Schema of the body"), make("pre", { tabIndex: 0 }, pretty(body.schema))));
  const schema = description.responses["200"]?.content?.["application/json"]?.schema;
  if (schema) box.append(make("details", {}, make("summary", {}, "Schema of the answer"), make("pre", { tabIndex: 0 }, pretty(schema))));
  const head = make("summary", {}, make("span", { className: "method" }, method.toUpperCase()), " ", make("code", {}, path), ` · ${description.summary ?? ""}`);
  return make("details", { className: "card operation" }, head, box);
}

async function start() {
  const [api, models] = [await ask("/openapi.json"), await ask("/v1/models")];
  at("operations").dataset.model = models.models[0]?.name ?? "";
  at("title").textContent = api.info.title;
  at("version").textContent = `version ${api.info.version}`;
  at("version").hidden = false;
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, description] of Object.entries(methods)) {
      const tag = description.tags?.[0] ?? "Other";
      groups.set(tag, [...(groups.get(tag) ?? []), operation(path, method, description)]);
    }
  }
  at("operations").replaceChildren(...[...groups].flatMap(([tag, items]) => [make("h2", { className: "tag" }, tag), ...items]));
}

signedIn(start);
