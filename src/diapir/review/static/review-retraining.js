// Training on corrections: begin, watch, stop, and what it came to on the same pixels.
import { make } from "./shell.js";
import { beginRetraining, retrainingPicture, retrainingState, stopRetraining } from "./review-api.js";

const EVERY_MS = 2000;
const GROUPS = { corrected: "Corrected", control: "Kept back: neither model has seen these" };

export async function showRetraining(host, page) {
  const words = make("p", { id: "retrain-words", role: "status" });
  const bar = make("progress", { id: "retrain-bar", "aria-label": "How far the training is", max: 1, value: 0, hidden: true });
  const epochs = make("input", { id: "retrain-epochs", type: "number", min: 1, max: 1000, placeholder: "as before" });
  const start = make("button", { type: "button", id: "retrain-start", class: "editor-main", text: "Train on my corrections", onclick: () => act(begin) });
  const stop = make("button", { type: "button", id: "retrain-stop", text: "Stop", onclick: () => act(() => stopRetraining(page.source)) });
  const result = make("div", { id: "retrain-result" });
  host.replaceChildren(
    make("p", { class: "review-quiet", text: "The model goes on learning with everything that was corrected, in a process of its own: this page can be used, or closed, meanwhile. The model that you have stays as it is." }),
    make("div", { class: "editor-row" }, make("label", { for: "retrain-epochs", text: "Epochs" }), epochs, start, stop), bar, words, result);
  let timer = 0;
  page.signal.addEventListener("abort", () => clearTimeout(timer));

  const begin = () => beginRetraining(page.source, Number(epochs.value) || null);

  async function act(deed) {
    try {
      show(await deed());
    } catch (problem) {
      page.tell(problem);
    }
  }

  // A training goes on while nothing is heard of it, so it is asked for again.
  async function watch() {
    try {
      show(await retrainingState(page.source, page.signal));
    } catch (problem) {
      if (page.signal.aborted) return;
      words.textContent = `How far it is cannot be told: ${problem.message} (asked again in ${EVERY_MS / 1000} s)`;
      timer = setTimeout(watch, EVERY_MS);
    }
  }

  function show(state) {
    clearTimeout(timer);
    start.disabled = state.running;
    stop.disabled = !state.running;
    bar.hidden = !state.running;
    const share = state.epochs ? Math.min(state.epochs_done / state.epochs, 1) : 0;
    bar.value = share;
    const counted = state.phase === "training" && state.epochs ? ` Epoch ${state.epochs_done} of ${state.epochs}.` : "";
    const told = `${state.words[0].toUpperCase()}${state.words.slice(1)}.${counted}`;
    if (words.textContent !== told) words.textContent = told;
    host.dataset.phase = state.phase;
    result.replaceChildren(...(state.result ? resultOf(state, page.source) : []));
    if (state.running && !page.signal.aborted) timer = setTimeout(watch, EVERY_MS);
  }

  show(await retrainingState(page.source, page.signal));
}

function resultOf(state, source) {
  const { result } = state;
  const rows = Object.entries(GROUPS).flatMap(([group, title]) => {
    const own = result.targets.filter((each) => each.group === group);
    if (!own.length) return [];
    const total = result.groups[group];
    return [
      rowOf("th", `${title}, together`, total, ""),
      ...own.slice(0, 50).map((each) => rowOf("td", `${each.target.kind} ${each.target.name}`, each,
        group === "control" ? "" : each.learned ? "learned from" : "held out")),
    ];
  });
  const head = make("tr", {}, ...["", "overlap before", "after", "pixels right before", "after", ""].map((text) => make("th", { scope: "col", text })));
  const pictures = result.pictures.map((name, place) => make("img", {
    src: retrainingPicture(source, state.number, name), loading: "lazy",
    alt: `${result.targets[place].target.kind} ${result.targets[place].target.name}: corrected mask, model before, model after`,
  }));
  return [
    make("div", { class: "review-table" }, make("table", { id: "retrain-table" },
      make("caption", { text: "Overlap of what was found with salt (1 is perfect), before and after, on the same pixels" }),
      make("thead", {}, head), make("tbody", {}, ...rows))),
    ...result.notes.map((note) => make("p", { class: "review-quiet", text: note })),
    make("p", { text: "To use the new model, give in a terminal, in the folder where these files lie:" }),
    make("code", { id: "retrain-next", text: state.next }),
    make("div", { class: "review-pictures" }, ...pictures),
  ];
}

function rowOf(kind, name, figures, note) {
  const cell = (value) => make(kind, { text: value.toFixed(3) });
  return make("tr", {}, make("th", { scope: "row", text: name }), cell(figures.iou_before), cell(figures.iou_after),
    cell(figures.right_before), cell(figures.right_after), make("td", { text: note }));
}
