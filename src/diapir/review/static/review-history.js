// What was done: every record, the latest first, and how to take it back.
import { make } from "./shell.js";
import { historyOf, undoRecord } from "./review-api.js";

const DEEDS = { drawn: "drew", accepted: "accepted a suggestion", refused: "kept the label", undone: "took back" };

export async function showHistory(host, page) {
  const found = await historyOf(page.source);
  if (!found.total) {
    host.replaceChildren(make("p", { text: "Nothing was corrected yet. Open a section or tile, draw, and save." }));
    return;
  }
  const undone = takenBack(found.corrections);
  const rows = found.corrections.map((record) => rowOf(record, undone.has(record.number), page));
  host.replaceChildren(make("ul", { class: "review-list" }, ...rows));
}

// Records that are taken back by one that is not taken back itself; the latest come first.
export function takenBack(records) {
  const undone = new Set();
  for (const record of records) if (record.undoes !== null && !undone.has(record.number)) undone.add(record.undoes);
  return undone;
}

function rowOf(record, isUndone, page) {
  const { number, deed, target, who, when, changed, contested, undoes } = record;
  const what = deed === "undone" ? `${DEEDS[deed]} ${undoes}` : DEEDS[deed];
  const parts = [`${number}. ${who} ${what}: ${target.kind} ${target.name}`, changed ? `${changed} pixels` : null,
    contested ? `${contested} of them over somebody else's` : null, isUndone ? "taken back" : null].filter(Boolean);
  const undo = async () => {
    try {
      const told = await undoRecord(page.source, number);
      page.say(told.words);
      await page.refresh();
      if (record.suggestion || deed === "undone") page.refreshSuggestions();
    } catch (problem) {
      page.tell(problem);
    }
  };
  return make("li", { class: isUndone ? "review-undone" : null, "data-number": number },
    make("p", { text: parts.join(", ") }),
    make("div", { class: "editor-row" },
      make("time", { class: "review-quiet", datetime: when, text: new Date(when).toLocaleString() }),
      make("button", { type: "button", class: "review-undo", disabled: isUndone, "aria-label": `Take back ${number}`, text: "Take back", onclick: undo }),
      make("button", { type: "button", "aria-label": `Open ${target.kind} ${target.name}`, text: "Open", onclick: () => page.open(target) })));
}
