// How sections are looked at, kept by the browser from one time to the next; the threshold is each survey's own.

const USUAL = { map: "grey", window: 1, level: 0, flip: false, smooth: true, outline: true, mask: 0.25, probability: 0, disagreement: 0 };
const NAME = "diapir-survey";

export function keptSettings() {
  try {
    const kept = JSON.parse(localStorage.getItem(NAME)) ?? {};
    const sound = Object.keys(USUAL).filter((key) => typeof kept[key] === typeof USUAL[key]);
    return { ...USUAL, ...Object.fromEntries(sound.map((key) => [key, kept[key]])) };
  } catch {
    return { ...USUAL };
  }
}

export function keepSettings(settings) {
  const kept = Object.fromEntries(Object.keys(USUAL).map((key) => [key, settings[key]]));
  try {
    localStorage.setItem(NAME, JSON.stringify(kept));
  } catch { /* a browser that keeps nothing starts with the usual settings */ }
}
