// From a view to the editor of labels and back; the editor itself is loaded when it is first asked for.
import { alertWords, make, say, setKeys } from "./shell.js";

// Of the picture, `paint(context)` draws it, width x height, and `probability` is 0 to 255, or null.
export async function openCorrection({ host, title, source, target, picture, onclose }) {
  let editor, review;
  try {
    [editor, review] = await Promise.all([import("./editor.js"), import("./review.js")]);
  } catch {
    alertWords("The editor of labels could not be loaded.");
    return;
  }
  let mask;
  try {
    // As everybody's corrections have left it.
    mask = await review.correctedMask({ source, target });
  } catch (error) {
    alertWords(error.message);
    return;
  }
  const before = [...host.childNodes];
  const place = make("div", { id: "editor" });
  const back = make("button", { type: "button", id: "editor-back", text: "‹ Back", onclick: close });
  let opened = null;
  setKeys([]);
  host.replaceChildren(make("section", { class: "correction", "aria-label": `Correct ${title}` }, make("div", { class: "toolbar" }, back, make("h1", { text: `Correct ${title}` })), place));
  back.focus();
  function close() {
    if (opened?.isDirty() && !confirm("What you drew here is not saved. Leave it?")) return;
    opened?.leave();
    host.replaceChildren(...before);
    onclose();
  }
  try {
    opened = await editor.openEditor(place, {
      ...picture,
      mask,
      save: async (after) => {
        const saved = await review.saveCorrection({ source, target, before: mask, after });
        say(saved.words);
        return saved;
      },
    });
  } catch (error) {
    close();
    alertWords(error.message);
  }
}
