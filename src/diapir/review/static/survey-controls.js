// What a person moves beside a section; every change calls `change` with what it is and the event that asked for it.
import { LEVELS, shadeOf } from "./colours.js";
import { byId, choice, make, slider, tick } from "./shell.js";

export const DIRECTIONS = [["inline", "Inline"], ["crossline", "Crossline"], ["sample", "Time slice"]];
const MAPS = [
  ["grey", "Grey"],
  ["red-white-blue", "Blue, white, red"],
  ["orange-purple", "Orange, white, purple (colour-blind)"],
  ["blue-yellow", "Blue to yellow (colour-blind)"],
];
const share = (value) => `${Math.round(100 * value)} %`;
export const threshold = (level) => (level / LEVELS).toFixed(3);

export function makeControls({ survey, settings, change, move, turn, jump, correct, axes }) {
  const has = (volume) => survey.volumes.includes(volume);
  const number = make("input", { type: "number", id: "number", onchange: (event) => move(() => axes.nearest(chosenDirection(), Number(number.value)), event) });
  const cut = slider({
    id: "threshold", label: "Threshold", min: 0, max: LEVELS - 1, step: 1, value: settings.threshold, format: threshold,
    oninput: (value, event) => change({ threshold: value }, event),
  });
  const panel = make("div", { class: "panels" },
    has("probability") ? group("Salt", "panel-salt", saltControls({ survey, settings, change, cut, has })) : lack("No salt was opened with this survey: name what diapir survey segment wrote beside it."),
    has("disagreement") ? group("Where members disagree", "panel-disagreement", [
      make("p", { id: "disagreement-words", class: "quiet", text: "Reading…" }),
      make("button", { type: "button", id: "jump", disabled: true, text: "To the most disagreement", onclick: jump }),
      make("ol", { id: "worst", class: "worst" }),
    ]) : null,
    has("amplitude") ? group("Amplitudes", "panel-amplitudes", amplitudeControls({ settings, change })) : lack("The survey itself was not opened: name its store beside the salt to see amplitudes."),
    has("amplitude") ? make("div", { class: "panel" }, make("button", { type: "button", id: "correct", disabled: true, text: "Correct", onclick: correct })) : null,
    make("p", { class: "quiet", text: [survey.source, survey.model && `salt found by ${survey.model.name}`].filter(Boolean).join("; ") }));
  return { bar: sectionControls({ survey, number, move, turn }), panel, cut, number, place: make("input", { type: "range", id: "place", min: 0, step: 1, "aria-label": "Section" }) };
}

const chosenDirection = () => document.querySelector("input[name=direction]:checked").value;
// After a click the arrows go to the next section, and not to the next direction.
const toSection = (event) => event.detail && byId("section").focus();
const lack = (words) => make("p", { class: "lacks", text: words });

function sectionControls({ survey, number, move, turn }) {
  const turns = DIRECTIONS.map(([name, label]) => make("span", {},
    make("input", { type: "radio", name: "direction", id: `direction-${name}`, value: name, onchange: (event) => turn(name, event), onclick: toSection }),
    make("label", { for: `direction-${name}`, text: name === "sample" && survey.unit !== "ms" ? "Depth slice" : label })));
  const step = (by, id, label, sign) => make("button", { type: "button", id, "aria-label": label, text: sign, onclick: (event) => move((place) => place + by, event) });
  return make("div", { class: "toolbar", role: "group", "aria-label": "Which section" },
    make("div", { class: "segments", role: "radiogroup", "aria-label": "Direction" }, ...turns),
    make("div", { class: "stepper" }, step(-1, "previous", "Previous section", "‹"),
      make("label", { for: "number", class: "unseen", text: "Number of the section" }), number, make("span", { id: "number-unit", class: "quiet" }),
      step(1, "next", "Next section", "›")));
}

function saltControls({ survey, settings, change, cut, has }) {
  const opacity = (name, label) => slider({
    id: `opacity-${name}`, label, min: 0, max: 1, step: 0.05, value: settings[name], format: share,
    oninput: (value, event) => change({ [name]: value }, event),
  });
  return [
    cut,
    make("p", { class: "quiet", id: "model-threshold", text: `The model cuts at ${survey.threshold}.` }),
    opacity("mask", "Mask"),
    opacity("probability", "Probability"),
    has("disagreement") ? opacity("disagreement", "Disagreement") : null,
    tick({ id: "outline", label: "Outline of the mask", checked: settings.outline, onchange: (value) => change({ outline: value }) }),
  ];
}

function amplitudeControls({ settings, change }) {
  return [
    choice({ id: "map", label: "Colours", options: MAPS, value: settings.map, onchange: (value) => change({ map: value }) }),
    make("canvas", { id: "colour-bar", width: 256, height: 1, role: "img", "aria-label": "Colours from the least to the greatest amplitude" }),
    slider({ id: "window", label: "Window", min: 0.05, max: 1, step: 0.05, value: settings.window, format: share, oninput: (value, event) => change({ window: value }, event) }),
    slider({ id: "level", label: "Level", min: -1, max: 1, step: 0.05, value: settings.level, format: share, oninput: (value, event) => change({ level: value }, event) }),
    tick({ id: "flip", label: "Flip polarity", checked: settings.flip, onchange: (value) => change({ flip: value }) }),
    tick({ id: "smooth", label: "Smooth between samples", checked: settings.smooth, onchange: (value) => change({ smooth: value }) }),
  ];
}

export function zoomButtons(zoom) {
  const button = (id, sign, label, factor) => make("button", { type: "button", id, "aria-label": label, title: label, text: sign, onclick: () => zoom(factor) });
  return make("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
    button("zoom-in", "+", "Zoom in", 0.7), button("zoom-out", "−", "Zoom out", 1 / 0.7), button("zoom-all", "⤢", "The whole section", 0));
}

export function drawColourBar(maps, settings) {
  const bar = byId("colour-bar");
  if (!bar) return;
  const context = bar.getContext("2d");
  const picture = context.createImageData(256, 1);
  const map = maps.get(settings.map);
  new Uint32Array(picture.data.buffer).set(Uint32Array.from({ length: 256 }, (_, byte) => map[shadeOf(byte, settings)]));
  context.putImageData(picture, 0, 0);
}

function group(title, id, children) {
  const isSmall = matchMedia("(max-width: 50rem)").matches;
  return make("details", { class: "panel", id, open: !isSmall || id === "panel-salt" }, make("summary", { text: title }), ...children);
}
