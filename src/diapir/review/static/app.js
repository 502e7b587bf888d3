// From the address to a view: #/ is everything, #/tiles/NAME, #/tiles/NAME/ID, #/survey/NAME/DIRECTION/NUMBER,
// #/review/NAME, #/review/NAME/KIND/ID.
import { focusOn, headingOf, isFocusLost } from "./focus.js";
import { hasStayed, settle, stay } from "./history-places.js";
import { showHome } from "./home.js";
import { address, alertWords, askJson, byId, clearAlert, listenToKeys, make, mayLeave, setKeys } from "./shell.js";
import { showSurvey } from "./survey.js";
import { showTiles } from "./tiles.js";

let sources = { runs: [], surveys: [], models: [] };
let shown = { leave() {}, follow: () => false };

async function showReviewOf(host, [name, kind, id], signal) {
  let review;
  try {
    review = await import("./review.js");
  } catch {
    throw new Error("The part that reviews labels could not be loaded.");
  }
  signal.throwIfAborted();
  const view = await review.showReview(host, name, signal);
  if (id) view.open({ kind, name: id });
  return { ...view, follow: () => false };
}

const VIEWS = { tiles: showTiles, survey: showSurvey, review: showReviewOf };

// A view is given a signal that is aborted when it is left, even before it is there: from then on the host is another's.
async function route(event) {
  if (event && hasStayed(event)) return;
  if (!mayLeave(shown)) {
    stay(event);
    return;
  }
  settle();
  const [kind = "", ...parts] = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decoded);
  // A view that is shown follows its own address without being made anew.
  if (shown.follow(kind, parts)) return;
  const leaving = new AbortController();
  const focused = document.activeElement;
  shown.leave();
  shown = { leave: () => leaving.abort(), follow: () => false };
  setKeys([]);
  clearAlert();
  markPlace(kind, parts[0]);
  const host = byId("view");
  host.className = "";
  host.replaceChildren(make("p", { class: "quiet", text: "Opening…" }));
  try {
    const view = await viewAt(host, kind, parts, leaving.signal);
    shown = { ...view, leave: () => { leaving.abort(); view.leave(); } };
  } catch (error) {
    if (leaving.signal.aborted) return;
    alertWords(error.message);
    showHome(host, sources);
  }
  // Whoever has gone on to something else by now is left there.
  if (event && (isFocusLost() || document.activeElement === focused)) focusOn(headingOf(host));
}

async function viewAt(host, kind, parts, signal) {
  if (!kind) return showHome(host, sources);
  const known = { tiles: sources.runs, survey: sources.surveys, review: [...sources.runs, ...sources.surveys] }[kind];
  if (!known) throw new Error(`This page knows no address ${location.hash}.`);
  if (!known.some((each) => each.name === parts[0])) throw new Error(`Nothing of the name ${parts[0] ?? ""} was opened.`);
  return VIEWS[kind](host, parts, signal);
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function fillPlaces() {
  const links = [
    ...sources.runs.map((run) => [`#/tiles/${address(run.name)}`, run.name, "tiles"]),
    ...sources.surveys.map((survey) => [`#/survey/${address(survey.name)}`, survey.name, "survey"]),
  ];
  byId("places").replaceChildren(make("ul", {}, ...links.map(([href, name, kind]) =>
    make("li", {}, make("a", { href, "data-kind": kind, "data-name": name, text: name })))));
}

function markPlace(kind, name) {
  for (const link of byId("places").querySelectorAll("a")) {
    const isHere = link.dataset.name === name && (link.dataset.kind === kind || kind === "review");
    if (isHere) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  document.title = name ? `${name} – diapir` : "diapir";
}

async function start() {
  listenToKeys();
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("view").focus();
  });
  try {
    sources = await askJson("/api/sources");
  } catch (error) {
    alertWords(error.message);
    byId("view").replaceChildren();
    return;
  }
  fillPlaces();
  window.addEventListener("hashchange", route);
  await route();
}

start();
