// How both pages ask the service: with the token of this tab, and with words when something is wrong.

const TOKEN = "streaming.token";

export class Failed extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

/** The JSON answer. Throws Failed with the service's own words; `signal` can call the question off. */
export async function ask(path, { method = "GET", body, signal } = {}) {
  const answer = await send(path, { method, body: body === undefined ? undefined : JSON.stringify(body), signal });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Failed(answer.status, content.error ?? `the service answers ${answer.status}`);
  return content;
}

/** The answer as it comes, whatever its status. */
export async function send(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failed(0, "the service does not answer; is it running?");
  }
}

/** Run `start`; when the service asks for a token show the form, and run `start` again once there is one. */
export async function signedIn(start) {
  const form = document.getElementById("token-form");
  const words = document.getElementById("token-error");
  const input = document.getElementById("token");
  const attempt = async () => {
    try {
      await start();
      form.hidden = true;
    } catch (error) {
      if (error.status !== 401) throw error;
      words.textContent = form.hidden ? "" : "This token is not the service's.";
      sessionStorage.removeItem(TOKEN);
      form.hidden = false;
      input.focus();
      input.select();
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, input.value.trim());
    attempt().catch(problem);
  });
  await attempt().catch(problem);
}

/** Say what went wrong where everybody sees it. */
export function problem(error) {
  const place = document.getElementById("problem");
  place.textContent = `Something went wrong: ${error.message}`;
  place.hidden = false;
}

/** A new element with attributes or properties, and children (text or elements). */
export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
