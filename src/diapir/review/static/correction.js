// From a view to the editor of labels and back; the editor itself is loaded when it is first asked for.
import { focusOn } from "./focus.js";
import { make, mayLeave, say, setKeys, told } from "./shell.js";

// Of the picture, `paint(context)` draws it, width x height, and `probability` is 0 to 255, or null. What it gives is to be
// left with the view, be the editor there already or still on its way.
export function openCorrection({ host, title, source, target, picture, onclose }) {
  const leaving = new AbortController();
  const { signal } = leaving;
  let opened = null;

  async function open() {
    const [editor, review, { whoField }] = await load();
    // As everybody's corrections have left it.
    const mask = await review.correctedMask({ source, target, signal });
    signal.throwIfAborted();
    const before = [...host.childNodes];
    const place = make("div", { id: "editor" });
    const close = () => {
      if (!mayLeave(opened)) return;
      leave();
      host.replaceChildren(...before);
      onclose();
    };
    const back = make("button", { type: "button", id: "editor-back", text: "‹ Back", onclick: close });
    setKeys([]);
    host.replaceChildren(make("section", { class: "correction", "aria-label": `Correct ${title}` },
      make("div", { class: "toolbar" }, back, make("h1", { text: `Correct ${title}` }), ...whoField()), place));
    focusOn(back);
    try {
      opened = editor.openEditor(place, {
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
      told(error);
    }
  }

  function leave() {
    leaving.abort();
    opened?.leave();
    opened = null;
  }

  open().catch((error) => signal.aborted || told(error));
  return { leave, isDirty: () => opened?.isDirty() ?? false };
}

async function load() {
  try {
    return await Promise.all([import("./editor.js"), import("./review-api.js"), import("./review-who.js")]);
  } catch {
    throw new Error("The editor of labels could not be loaded.");
  }
}
