// What to look at next, and why.
import { make } from "./shell.js";
import { queueOf } from "./review-api.js";

export async function showQueue(host, page) {
  if (!host.childElementCount) host.replaceChildren(make("p", { class: "review-quiet", text: "Being worked out…" }));
  const wait = (words) => host.replaceChildren(make("p", { class: "review-quiet", text: `${words}…` }));
  const found = await queueOf(page.source, wait, page.signal);
  const rows = found.places.map(({ target, reasons }) => make("li", {},
    make("button", {
      type: "button", class: "review-open", "data-target": `${target.kind}-${target.name}`,
      "aria-label": `Correct ${target.kind} ${target.name}`, text: `${target.kind} ${target.name}`, onclick: () => page.open(target),
    }),
    make("ul", { class: "review-reasons" }, ...reasons.map((reason) => make("li", { text: reason })))));
  const notes = [...found.notes, `${found.corrected} corrected of ${found.total}; neighbours of these are left out.`];
  host.replaceChildren(
    rows.length ? make("ol", { class: "review-list" }, ...rows) : make("p", { text: "There is nothing left that stands out." }),
    ...notes.map((note) => make("p", { class: "review-quiet", text: note })));
}
