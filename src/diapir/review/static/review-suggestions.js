// Labels that may be wrong: the label, what is proposed, and both answers.
import { focusOn, headingOfPanel, isFocusLost } from "./focus.js";
import { make } from "./shell.js";
import { paintGreys, paintMask } from "./editor-paint.js";
import { answerSuggestion, correctedMask, greysOf, suggestedMask, suggestionsOf } from "./review-api.js";

const TITLES = { vertical: "Straight wall", seam: "Contradiction at a seam", confident: "Models are sure of another" };

export async function showSuggestions(host, page) {
  if (!host.childElementCount) host.replaceChildren(make("p", { class: "review-quiet", text: "Being looked for…" }));
  const wait = (words) => host.replaceChildren(make("p", { class: "review-quiet", text: `${words}…` }));
  const found = await suggestionsOf(page.source, wait, page.signal);
  if (!found.total) {
    host.replaceChildren(make("p", { text: "No label stands out, or all have been answered." }));
    return;
  }
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      seen.unobserve(entry.target);
      drawPair(entry.target, page, entry.target.suggestion).catch(page.tell);
    }
  });
  const rows = found.suggestions.map((suggestion) => rowOf(host, page, suggestion, seen));
  host.replaceChildren(
    make("p", { class: "review-quiet", text: `${found.total} to be answered` }), make("ul", { class: "review-list" }, ...rows));
}

function rowOf(host, page, suggestion, seen) {
  const { key, target, sort, words } = suggestion;
  const pair = make("div", { class: "review-pair" });
  pair.suggestion = suggestion;
  const name = `${target.kind} ${target.name}`;
  const answer = async (which) => {
    buttons.forEach((button) => { button.disabled = true; });
    try {
      const told = await answerSuggestion(page.source, key, which);
      page.say(`${name}: ${told.words}`);
      await showSuggestions(host, page);
      if (isFocusLost()) focusOn(host.querySelector("li"), headingOfPanel(host));
      page.refresh();
    } catch (problem) {
      page.tell(problem);
      buttons.forEach((button) => { button.disabled = false; });
    }
  };
  const buttons = [["accept", "Accept"], ["refuse", "Keep the label"]].map(([which, text]) => make("button", {
    type: "button", class: `review-${which}`, "data-key": key, "aria-label": `${text}: ${name}`, text, onclick: () => answer(which),
  }));
  const look = make("button", { type: "button", text: "Correct by hand", "aria-label": `Correct ${name} by hand`, onclick: () => page.open(target) });
  const row = make("li", { "data-key": key },
    make("h3", { text: `${TITLES[sort]}: ${name}` }), make("p", { text: `${words[0].toUpperCase()}${words.slice(1)}.` }), pair,
    make("div", { class: "editor-row" }, ...buttons, look));
  seen.observe(pair);
  return row;
}

// The label as it is, and as it would be.
async function drawPair(host, page, { key, target }) {
  const [greys, mask, proposed] = await Promise.all([
    greysOf({ source: page.source, target, signal: page.signal }),
    correctedMask({ source: page.source, target, signal: page.signal }),
    suggestedMask(page.source, key, page.signal),
  ]);
  const shape = { width: greys.columns, height: greys.rows };
  const pictures = [["Now", mask], ["Proposed", proposed.pixels]].map(([words, pixels]) => {
    const lower = make("canvas", shape);
    const upper = make("canvas", { ...shape, role: "img", "aria-label": `${words}: ${target.kind} ${target.name}` });
    paintGreys(lower.getContext("2d"), greys.pixels, shape);
    paintMask(upper.getContext("2d"), pixels, shape);
    lower.getContext("2d").drawImage(upper, 0, 0);
    upper.getContext("2d").drawImage(lower, 0, 0);
    return make("figure", {}, upper, make("figcaption", { text: words }));
  });
  host.replaceChildren(...pictures);
}
