// What stands beside a run's tiles: where its probabilities come from, and what it lacks.
import { LEVELS } from "./colours.js";
import { make } from "./shell.js";

export const nearestLevel = (threshold) => Math.min(Math.max(Math.round(threshold * LEVELS), 0), LEVELS - 1);

// What the run lacks, and what its probabilities come from, in words.
export function runWords(run) {
  const { list } = run;
  const notes = [...list.lacks];
  if (list.edited) notes.push(`After the threshold, ${list.edited} edited the masks; the slider scores them as they were before, so the run's own score differs.`);
  return make("div", { class: "notes" }, ...notes.map((words) => make("p", { class: "lacks", text: words })));
}

export function stepChoice(run) {
  const { steps, step } = run.list;
  if (steps.length < 2) return null;
  const select = make("select", { id: "step", onchange: () => run.useStep(select.value) }, ...steps.map((each, place) =>
    make("option", { value: each, selected: each === step, text: place ? each : `${each} (the run's last)` })));
  return make("div", { class: "choice" }, make("label", { for: "step", text: "Probabilities of" }), select);
}

export const shownNumber = (value, digits = 3) => (typeof value === "number" ? value.toFixed(digits) : "unknown");
