// The page of review: what to look at next, doubtful labels, what was done, and training on it.
import { needStyles } from "./editor-dom.js";
import { paintGreys } from "./editor-paint.js";
import { openEditor } from "./editor.js";
import { focusOn, headingOf } from "./focus.js";
import { correctedMask, greysOf, probabilityOf, saveCorrection } from "./review-api.js";
import { showHistory } from "./review-history.js";
import { showQueue } from "./review-queue.js";
import { showRetraining } from "./review-retraining.js";
import { showSuggestions } from "./review-suggestions.js";
import { whoField } from "./review-who.js";
import { controllerWithin, make, mayLeave } from "./shell.js";

// Until the signal is aborted.
export async function showReview(host, source, signal) {
  needStyles();
  const error = make("p", { id: "review-error", role: "alert", class: "editor-error", hidden: true });
  const words = make("p", { id: "review-words", role: "status" });
  const panels = Object.fromEntries([
    ["queue", "Look at next"], ["suggestions", "Doubtful labels"], ["history", "What was done"], ["retraining", "Train on my corrections"],
  ].map(([key, title]) => [key, panelOf(key, title)]));
  const lists = make("div", { class: "review-panels" }, ...Object.values(panels).map((panel) => panel.root));
  const drawing = make("div", { id: "review-drawing" });
  host.replaceChildren(make("div", { class: "review" },
    make("div", { class: "review-head" }, make("h1", { text: `Review ${source}` }), ...whoField()),
    error, words, drawing, lists));
  let editor = null;
  let opening = new AbortController(); // of what was asked for last: an earlier one that comes later is not shown
  let opener = null;

  const page = {
    source,
    signal,
    say(text) {
      error.hidden = true;
      words.textContent = text;
    },
    tell(problem) {
      if (problem.name === "AbortError") return;
      error.textContent = problem.message;
      error.hidden = false;
    },
    open: (target) => openTarget(target).catch(page.tell),
    refresh: () => Promise.all([fillHistory(), fillQueue()]),
    refreshSuggestions: () => fillSuggestions(),
  };
  const fillQueue = () => showQueue(panels.queue.body, page).catch(page.tell);
  const fillSuggestions = () => showSuggestions(panels.suggestions.body, page).catch(page.tell);
  const fillHistory = () => showHistory(panels.history.body, page).catch(page.tell);

  async function openTarget(target) {
    opening.abort();
    opening = controllerWithin(signal);
    const wanted = { source, target, signal: opening.signal };
    const [greys, mask, probability] = await Promise.all([greysOf(wanted), correctedMask(wanted), probabilityOf(wanted)]);
    wanted.signal.throwIfAborted();
    if (!mayLeave(editor)) return;
    editor?.leave();
    opener = document.activeElement;
    const shape = { width: greys.columns, height: greys.rows };
    const place = make("div", {});
    const title = `Correct ${target.kind} ${target.name}`;
    const back = make("button", { type: "button", id: "review-back", text: "‹ Back", onclick: closeTarget });
    drawing.replaceChildren(make("div", { class: "review-head" }, back, make("h2", { text: title })), place);
    lists.hidden = true;
    editor = openEditor(place, {
      ...shape, mask, probability,
      paint: (context) => paintGreys(context, greys.pixels, shape),
      save: async (after) => {
        const saved = await saveCorrection({ source, target, before: mask, after });
        page.say(saved.words);
        page.refresh();
        return saved;
      },
    });
    focusOn(back);
  }

  function closeTarget() {
    if (!mayLeave(editor)) return;
    editor?.leave();
    editor = null;
    drawing.replaceChildren();
    lists.hidden = false;
    focusOn(lists.contains(opener) ? opener : null, headingOf(host));
  }

  await fillHistory();
  signal.throwIfAborted();
  fillQueue();
  fillSuggestions();
  showRetraining(panels.retraining.body, page).catch(page.tell);
  return {
    open: page.open,
    editor: () => editor,
    isDirty: () => editor?.isDirty() ?? false,
    leave: () => editor?.leave(),
  };
}

function panelOf(key, title) {
  const body = make("div", { id: `review-${key}` });
  const root = make("section", { class: "review-panel", "aria-labelledby": `review-${key}-title` },
    make("h2", { id: `review-${key}-title`, text: title }), body);
  return { root, body };
}
