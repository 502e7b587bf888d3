// What was done: every record, the latest first, and how to take it back.
import { focusOn, headingOfPanel, isFocusLost } from "./focus.js";
import { make } from "./shell.js";
import { historyOf, undoRecord } from "./review-api.js";

const AT_ONCE = 100;
const MOST_AT_ONCE = 1000; // that the server gives
const DEEDS = { drawn: "drew", accepted: "accepted a suggestion", refused: "kept the label", undone: "took back" };

export async function showHistory(host, page) {
  const shown = host.querySelectorAll("li").length;
  const count = Math.min(Math.max(shown, AT_ONCE), MOST_AT_ONCE);
  const found = await historyOf(page.source, { count, signal: page.signal });
  if (!found.total) {
    host.replaceChildren(make("p", { text: "Nothing was corrected yet. Open a section or tile, draw, and save." }));
    return;
  }
  const records = [];
  const list = make("ul", { class: "review-list" });
  const older = make("button", { type: "button", id: "review-older", text: "Older", onclick: addOlder });

  // What takes a record back came after it, so that of the older ones all is known.
  function add(some) {
    records.push(...some);
    const undone = takenBack(records);
    list.append(...some.map((record) => rowOf(record, undone.has(record.number), { host, page })));
    older.hidden = !some.length || records.length >= found.total;
  }

  async function addOlder() {
    older.disabled = true;
    const first = records.length;
    try {
      const { corrections } = await historyOf(page.source, { count: AT_ONCE, below: records.at(-1).number, signal: page.signal });
      add(corrections);
    } catch (problem) {
      page.tell(problem);
    }
    older.disabled = false;
    if (isFocusLost() || document.activeElement === older) focusOn(list.children[first], older);
  }

  add(found.corrections);
  host.replaceChildren(list, older);
}

// Records that are taken back by one that is not taken back itself; the latest come first.
export function takenBack(records) {
  const undone = new Set();
  for (const record of records) if (record.undoes !== null && !undone.has(record.number)) undone.add(record.undoes);
  return undone;
}

function rowOf(record, isUndone, { host, page }) {
  const { number, deed, target, who, when, changed, contested, undoes } = record;
  const what = deed === "undone" ? `${DEEDS[deed]} ${undoes}` : DEEDS[deed];
  const parts = [`${number}. ${who} ${what}: ${target.kind} ${target.name}`, changed ? `${changed} pixels` : null,
    contested ? `${contested} of them over somebody else's` : null, isUndone ? "taken back" : null].filter(Boolean);
  const undo = async () => {
    try {
      const told = await undoRecord(page.source, number);
      page.say(told.words);
      await page.refresh();
      if (isFocusLost()) focusOn(host.querySelector(`li[data-number="${number}"]`), headingOfPanel(host));
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
