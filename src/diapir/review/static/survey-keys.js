// What the keys do on a section.
import { LEVELS } from "./colours.js";
import { byId } from "./shell.js";

const MAPS = ["grey", "red-white-blue", "orange-purple", "blue-yellow"];
const USUAL_OPACITY = { mask: 0.25, probability: 0.5, disagreement: 0.5 };

export function surveyKeys({ settings, change, move, turn, jump, zoom, correct }) {
  const by = (count) => (event) => move((place) => place + (event.shiftKey ? 10 * count : count), event);
  const cut = (count) => (event) => change({ threshold: Math.min(Math.max(settings.threshold + count, 0), LEVELS - 1) }, event);
  const toggled = (layer) => (event) => {
    const value = settings[layer] > 0 ? 0 : USUAL_OPACITY[layer];
    byId(`opacity-${layer}`)?.closest(".slider").set(value);
    change({ [layer]: value }, event);
  };
  const nextMap = () => {
    const map = MAPS[(MAPS.indexOf(settings.map) + 1) % MAPS.length];
    if (byId("map")) byId("map").value = map;
    change({ map });
  };
  return [
    [["ArrowLeft"], "the section before; with Shift ten before", by(-1)],
    [["ArrowRight"], "the next section; with Shift ten on", by(1)],
    [["PageUp"], "ten sections back", by(-10)],
    [["PageDown"], "ten sections on", by(10)],
    [["Home"], "the first section", (event) => move(() => 0, event)],
    [["End"], "the last section", (event) => move(() => Infinity, event)],
    [["i"], "inlines", (event) => turn("inline", event)],
    [["x"], "crosslines, through the pointer", (event) => turn("crossline", event)],
    [["t"], "time or depth slices, through the pointer", (event) => turn("sample", event)],
    [["d"], "where members disagree most; again: the next of these", jump],
    [["ArrowUp", "]"], "threshold up", cut(2)],
    [["ArrowDown", "["], "threshold down", cut(-2)],
    [["m"], "mask on or off", toggled("mask")],
    [["p"], "probability on or off", toggled("probability")],
    [["u"], "disagreement on or off", toggled("disagreement")],
    [["c"], "the next colours of amplitudes", nextMap],
    [["+", "="], "zoom in", () => zoom(0.7)],
    [["-"], "zoom out", () => zoom(1 / 0.7)],
    [["0"], "the whole section", () => zoom(0)],
    [["g"], "to a section by its number", () => byId("number").select()],
    [["e"], "correct the labels of this section", correct],
  ];
}
