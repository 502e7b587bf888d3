// What every view uses: elements, words for people and screen readers, keys, and requests to the server.

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (key === "text") element.textContent = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

// Errors are words in a region that screen readers read at once.
export function alertWords(words) {
  const close = make("button", { type: "button", class: "plain", "aria-label": "Close this message", text: "×", onclick: clearAlert });
  byId("alert").replaceChildren(make("p", { text: words }), close);
}

export function clearAlert() {
  byId("alert").replaceChildren();
}

// One line that says what is shown; read aloud when it has rested for a moment.
let rest = 0;
export function say(words) {
  clearTimeout(rest);
  rest = setTimeout(() => {
    if (byId("status").textContent !== words) byId("status").textContent = words;
  }, 250);
}

export function told(error) {
  if (error.name !== "AbortError") alertWords(error.message);
}

// Whether what is shown, or an editor, may go: asked where something was drawn in it and not saved.
export const mayLeave = (shown) => !shown?.isDirty?.() || confirm("What you drew here is not saved. Leave it?");

// A controller whose signal is aborted with another, or by itself before that.
export function controllerWithin(signal) {
  const own = new AbortController();
  if (signal.aborted) own.abort();
  signal.addEventListener("abort", () => own.abort(), { once: true, signal: own.signal });
  return own;
}

// A label, a slider and its value; gives the row, with `set` to move the slider from elsewhere.
export function slider({ id, label, min, max, step, value, format = String, oninput, onchange }) {
  const output = make("output", { for: id, text: format(value) });
  const input = make("input", { type: "range", id, min, max, step, value });
  input.setAttribute("aria-valuetext", format(value));
  const tell = () => {
    output.textContent = format(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", (event) => {
    tell();
    oninput?.(Number(input.value), event);
  });
  input.addEventListener("change", (event) => onchange?.(Number(input.value), event));
  const row = make("div", { class: "slider" }, make("label", { for: id, text: label }), output, input);
  row.set = (number) => {
    input.value = number;
    tell();
  };
  row.input = input;
  return row;
}

export function choice({ id, label, options, value, onchange }) {
  const entries = options.map(([name, words, disabled]) =>
    make("option", { value: name, selected: name === value, disabled, text: words }));
  const select = make("select", { id, onchange: () => onchange(select.value) }, ...entries);
  const row = make("div", { class: "choice" }, make("label", { for: id, text: label }), select);
  row.select = select;
  return row;
}

export function tick({ id, label, checked, onchange }) {
  const input = make("input", { type: "checkbox", id, checked, onchange: () => onchange(input.checked) });
  const row = make("div", { class: "tick" }, input, make("label", { for: id, text: label }));
  row.input = input;
  return row;
}

// Keys of the view that is shown: [names, words, act]; `names` are those of KeyboardEvent.key.
let shownKeys = [];
export function setKeys(keys) {
  shownKeys = keys;
}

const EVERYWHERE = [[["?"], "this list", () => openHelp()]];
const SLIDES = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"]);
const PLAIN = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", PageUp: "Page up", PageDown: "Page down", Escape: "Esc" };

export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const target = event.target;
    const isTyping = target.matches?.("input:not([type=range]):not([type=checkbox]):not([type=radio]), select, textarea");
    const isSliding = target.matches?.("input[type=range], input[type=radio]") && SLIDES.has(event.key);
    const isPressing = (event.key === "Enter" || event.key === " ") && target.closest?.("a, button, summary, input");
    if (isTyping || isSliding || isPressing || target.closest?.("[data-own-keys]")) return;
    const entry = [...shownKeys, ...EVERYWHERE].find(([names]) => names.includes(event.key));
    if (!entry) return;
    event.preventDefault();
    entry[2](event);
  });
  byId("help-button").addEventListener("click", openHelp);
}

function openHelp() {
  const rows = [...shownKeys, ...EVERYWHERE].flatMap(([names, words]) => [
    make("dt", {}, ...names.map((name) => make("kbd", { text: PLAIN[name] ?? name }))),
    make("dd", { text: words }),
  ]);
  byId("help-keys").replaceChildren(...rows);
  byId("help").showModal();
}

const SILENT = "The server does not answer. Is diapir serve still running?";

// An answer that is there; waits, and tells how far it is, where the server asks for that.
async function ask(url, { signal, onwait } = {}) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(url, { signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error(SILENT);
    }
    if (answer.ok) return answer;
    const words = await wordsOf(answer);
    signal?.throwIfAborted();
    if (answer.status !== 503 || !answer.headers.has("Retry-After")) throw new Error(words);
    onwait?.(words);
    await pause(Math.min(Number(answer.headers.get("Retry-After")) || 1, 5) * 500, signal);
  }
}

async function wordsOf(answer) {
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : detail.map((each) => each.msg).join("; ");
  } catch {
    return `The server refused this (${answer.status}).`;
  }
}

export function pause(milliseconds, signal) {
  return new Promise((done, failed) => {
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      failed(new DOMException("left", "AbortError"));
    }, { once: true });
  });
}

export async function askJson(url, options) {
  return (await ask(url, options)).json();
}

// Pictures of one shape by name: {rows, columns, planes: {name: Uint8Array}, missing: {name: byte}}.
export async function askPlanes(url, options) {
  const answer = await ask(url, options);
  const rows = Number(answer.headers.get("X-Rows"));
  const columns = Number(answer.headers.get("X-Columns"));
  const names = answer.headers.get("X-Planes").split(",");
  const bytes = await answer.arrayBuffer();
  if (bytes.byteLength !== rows * columns * names.length) throw new Error("The server sent half a picture; try again.");
  const planes = {};
  names.forEach((name, place) => {
    planes[name] = new Uint8Array(bytes, place * rows * columns, rows * columns);
  });
  return { rows, columns, planes };
}

export const address = (...parts) => parts.map(encodeURIComponent).join("/");

// From an event to the canvas being drawn, and to the end of the frame that shows it: in the page's performance timeline.
const frames = new MessageChannel();
let waiting = [];
frames.port1.onmessage = () => {
  const shown = waiting;
  waiting = [];
  for (const [name, start] of shown) performance.measure(`${name}-shown`, { start, end: performance.now() });
};
export function timed(name, start) {
  performance.measure(`${name}-drawn`, { start, end: performance.now() });
  if (!waiting.length) requestAnimationFrame(() => frames.port2.postMessage(0));
  waiting.push([name, start]);
}
