// From the address to a view: #/ is everything, #/tiles/NAME, #/tiles/NAME/ID, #/survey/NAME/DIRECTION/NUMBER,
// #/review/NAME, #/review/NAME/KIND/ID.
import { showHome } from "./home.js";
import { address, alertWords, askJson, byId, clearAlert, listenToKeys, make, setKeys } from "./shell.js";
import { showSurvey } from "./survey.js";
import { showTiles } from "./tiles.js";

let sources = { runs: [], surveys: [], models: [] };
let shown = { leave() {}, follow: () => false };
let turn = 0;

async function showReviewOf(host, [name, kind, id]) {
  let review;
  try {
    review = await import("./review.js");
  } catch {
    throw new Error("The part that reviews labels could not be loaded.");
  }
  host.replaceChildren();
  const view = await review.showReview(host, name);
  if (id) view.open({ kind, name: id });
  return { leave: () => view?.leave?.(), follow: () => false };
}

const VIEWS = { tiles: showTiles, survey: showSurvey, review: showReviewOf };

async function route() {
  const [kind = "", ...parts] = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decoded);
  // A view that is shown follows its own address without being made anew.
  if (shown.follow(kind, parts)) return;
  const own = ++turn;
  shown.leave();
  shown = { leave() {}, follow: () => false };
  setKeys([]);
  clearAlert();
  markPlace(kind, parts[0]);
  const host = byId("view");
  host.className = "";
  host.replaceChildren(make("p", { class: "quiet", text: "Opening…" }));
  try {
    const known = { tiles: sources.runs, survey: sources.surveys, review: [...sources.runs, ...sources.surveys] }[kind];
    if (kind && !known) throw new Error(`This page knows no address ${location.hash}.`);
    if (known && !known.some((each) => each.name === parts[0])) throw new Error(`Nothing of the name ${parts[0] ?? ""} was opened.`);
    const view = kind ? await VIEWS[kind](host, parts) : showHome(host, sources);
    if (own === turn) shown = view;
    else view.leave();
  } catch (error) {
    if (own !== turn || error.name === "AbortError") return;
    alertWords(error.message);
    showHome(host, sources);
  }
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
