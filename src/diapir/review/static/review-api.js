// What review asks the server, and what it is told; refusals come as Errors whose messages are words for a person. Of an
// Error without `isRefusal` it is not known whether what was asked for was done.

import { countDiffering } from "./editor-pixels.js";

const SILENT = "the server does not answer; is diapir serve still running?";
const WHO = "diapir-who";

export const address = (...parts) => parts.map((part) => encodeURIComponent(String(part))).join("/");

let named = null; // in this page, whatever the browser keeps

export function who() {
  if (named !== null) return named;
  try {
    return localStorage.getItem(WHO) ?? "";
  } catch {
    return "";
  }
}

export function setWho(name) {
  named = name;
  try {
    localStorage.setItem(WHO, name);
  } catch { /* a browser that keeps nothing asks again the next time */ }
}

// An answer that is there; where the server is still working it out, it is asked again, and `onwait` is told why.
export async function ask(url, { method = "GET", body, signal, onwait } = {}) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(url, {
        method, body, signal, headers: body ? { "Content-Type": "application/octet-stream" } : {},
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error(SILENT);
    }
    if (answer.ok) return answer;
    const words = await wordsOf(answer);
    signal?.throwIfAborted();
    if (answer.status !== 503 || !answer.headers.has("Retry-After") || method !== "GET") {
      throw Object.assign(new Error(words), { isRefusal: true });
    }
    onwait?.(words);
    await new Promise((done) => setTimeout(done, 1000));
    if (signal?.aborted) throw new DOMException("left", "AbortError");
  }
}

async function wordsOf(answer) {
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : detail.map((each) => each.msg).join("; ");
  } catch {
    return `the server refused this (${answer.status})`;
  }
}

export async function askJson(url, options) {
  return (await ask(url, options)).json();
}

export async function askPixels(url, options) {
  return pixelsOf(await ask(url, options));
}

async function pixelsOf(answer) {
  const [rows, columns] = ["X-Rows", "X-Columns"].map((name) => Number(answer.headers.get(name)));
  const pixels = new Uint8Array(await answer.arrayBuffer());
  if (pixels.length !== rows * columns) throw new Error("the server sent half a picture; try again");
  return { rows, columns, pixels, words: decodeURIComponent(answer.headers.get("X-Words") ?? "") };
}

const byWho = () => `who=${encodeURIComponent(who())}`;
const lookAt = (source, target, what) => `/api/corrections/${address(source)}/look/${address(target.kind, target.name, what)}`;

// The mask of a tile or section as everybody's corrections have left it.
export async function correctedMask({ source, target, signal }) {
  return (await askPixels(lookAt(source, target, "mask"), { signal })).pixels;
}

export async function greysOf({ source, target, signal }) {
  return askPixels(lookAt(source, target, "greys"), { signal });
}

// 0 to 255, or null where no model was asked.
export async function probabilityOf({ source, target, signal }) {
  try {
    return (await askPixels(lookAt(source, target, "probability"), { signal })).pixels;
  } catch (error) {
    if (error.message.startsWith("no model")) return null;
    throw error;
  }
}

// Of a mask that an editor was opened with: how the server had it last (`theirs`), the same as the editor has it (`mine`),
// and what was sent since without an answer (`lost`). A further save goes on from there.
const lastKnown = new WeakMap();

// Save what a person drew; gives the mask that it came to with what others saved meanwhile, and words on it.
export async function saveCorrection({ source, target, before, after }) {
  let known = lastKnown.get(before) ?? { theirs: before, mine: before, lost: null };
  const found = known.lost && foundAgain(known, await correctedMask({ source, target }));
  known = found ?? { ...known, lost: null };
  const wanted = after.map((value, place) => (value === known.mine[place] ? known.theirs[place] : value));
  let answer = { pixels: known.theirs, words: "saved before; only the answer was lost" };
  if (!found || countDiffering(wanted, known.theirs)) {
    const body = new Uint8Array(known.theirs.length + wanted.length);
    body.set(known.theirs);
    body.set(wanted, known.theirs.length);
    try {
      answer = await pixelsOf(await ask(`${lookAt(source, target, "mask")}?${byWho()}`, { method: "POST", body }));
    } catch (error) {
      lastKnown.set(before, error.isRefusal ? known : { ...known, lost: after });
      throw error;
    }
  }
  lastKnown.set(before, { theirs: answer.pixels, mine: answer.pixels, lost: null });
  return { mask: answer.pixels, words: answer.words };
}

// Where what was sent without an answer has come to the server after all, what is then known; else null.
function foundAgain({ mine, lost }, theirs) {
  const isThere = (value, place) => value === theirs[place];
  if (!lost.some((value, place) => value !== mine[place] && isThere(value, place))) return null;
  return { theirs, mine: mine.map((value, place) => (isThere(lost[place], place) ? lost[place] : value)), lost: null };
}

export const queueOf = (source, onwait, signal) => askJson(`/api/queue/${address(source)}`, { onwait, signal });
export const suggestionsOf = (source, onwait, signal) => askJson(`/api/suggestions/${address(source)}`, { onwait, signal });
export const suggestedMask = (source, key, signal) => askPixels(`/api/suggestions/${address(source, key)}/mask`, { signal });
export const answerSuggestion = (source, key, answer) =>
  askJson(`/api/suggestions/${address(source, key, answer)}?${byWho()}`, { method: "POST" });
// The latest `count` records, or the latest of those before the number `below`.
export const historyOf = (source, { count, below, signal }) =>
  askJson(`/api/corrections/${address(source)}?count=${count}${below ? `&below=${below}` : ""}`, { signal });
export const undoRecord = (source, number) =>
  askJson(`/api/corrections/${address(source)}/records/${number}/undo?${byWho()}`, { method: "POST" });

const retraining = (source) => `/api/corrections/${address(source)}/retraining`;
export const retrainingState = (source, signal) => askJson(retraining(source), { signal });
export const beginRetraining = (source, epochs) =>
  askJson(`${retraining(source)}${epochs ? `?epochs=${epochs}` : ""}`, { method: "POST" });
export const stopRetraining = (source) => askJson(`${retraining(source)}/stop`, { method: "POST" });
export const retrainingPicture = (source, number, name) => `${retraining(source)}/${address(number, "pictures", name)}`;
