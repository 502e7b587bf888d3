// The buttons and sliders of the editor; what they do is told to it by functions.
import { make } from "./shell.js";
import { NONE, SALT, UNKNOWN } from "./editor-pixels.js";

export const TOOLS = [
  ["brush", "Brush", "b"], ["eraser", "Eraser", "e"], ["polygon", "Polygon", "p"], ["fill", "Fill", "f"], ["move", "Move", "m"],
];
const PAINTS = [[SALT, "salt"], [NONE, "no salt"], [UNKNOWN, "unknown"]];

export function makeControls({ settings, hasProbability, choose, set, act }) {
  const tools = TOOLS.map(([name, words, key]) => make("button", {
    type: "button", id: `editor-${name}`, "aria-pressed": String(settings.tool === name), title: `${words} (${key})`,
    disabled: name === "fill" && !hasProbability, text: words, onclick: () => choose(name),
  }));
  const size = slider("editor-size", "Size", { min: 0, max: 40, value: settings.radius, oninput: (value) => set({ radius: value }) });
  const cut = slider("editor-cut", "Fill where the probability is above", {
    min: 1, max: 99, value: settings.cut, format: (value) => `${value} %`, oninput: (value) => set({ cut: value }),
  });
  const paints = make("select", { id: "editor-paints", onchange: () => set({ paints: Number(paints.value) }) },
    ...PAINTS.map(([value, words]) => make("option", { value, text: words })));
  const button = (id, words, title, name) =>
    make("button", { type: "button", id: `editor-${id}`, text: words, title, onclick: () => act(name ?? id) });
  const undo = button("undo", "Undo", "Undo (Ctrl+Z)");
  const redo = button("redo", "Redo", "Redo (Ctrl+Y)");
  const close = button("close", "Close polygon", "Close the polygon (Enter)");
  const save = make("button", { type: "button", id: "editor-save", class: "editor-main", text: "Save", title: "Save (s)", onclick: () => act("save") });
  const root = make("div", { class: "editor-controls" },
    make("div", { class: "editor-row", role: "group", "aria-label": "Tools" }, ...tools),
    make("div", { class: "editor-row" }, make("label", { for: "editor-paints", text: "Paints" }), paints, size.root, hasProbability ? cut.root : null),
    make("div", { class: "editor-row" }, undo, redo, close, button("hide", "Hide mask", "Hide or show the mask (h)"),
      button("out", "−", "Smaller (-)"), button("in", "+", "Larger (+)"), save));
  return {
    root,
    show({ tool, radius, steps, points, dirty, saving, hidden }) {
      tools.forEach((each, place) => each.setAttribute("aria-pressed", String(TOOLS[place][0] === tool)));
      size.set(radius);
      undo.disabled = !steps.done.length && !(tool === "polygon" && points.length);
      redo.disabled = !steps.undone.length;
      close.hidden = tool !== "polygon";
      close.disabled = points.length < 3;
      save.disabled = saving || !dirty;
      save.textContent = saving ? "Saving…" : "Save";
      root.querySelector("#editor-hide").setAttribute("aria-pressed", String(hidden));
    },
  };
}

function slider(id, words, { min, max, value, format = String, oninput }) {
  const output = make("output", { for: id, text: format(value) });
  const input = make("input", { type: "range", id, min, max, value });
  const tell = () => {
    output.textContent = format(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => {
    tell();
    oninput(Number(input.value));
  });
  tell();
  const root = make("span", { class: "editor-slider" }, make("label", { for: id, text: words }), input, output);
  return {
    root,
    set(number) {
      if (Number(input.value) === number) return;
      input.value = number;
      tell();
    },
  };
}
