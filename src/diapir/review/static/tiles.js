// The held-out tiles of a run: what they have in common here, the gallery and the single tile in files of their own.
import { colourTables } from "./colours.js";
import { focusOn, headingOf } from "./focus.js";
import { address, askJson, askPlanes, byId, controllerWithin, make, say, told } from "./shell.js";
import { showGallery } from "./tiles-gallery.js";
import { showTile } from "./tiles-one.js";
import { decodeScores } from "./tiles-scores.js";
import { nearestLevel } from "./tiles-words.js";

const MOST_TILES = 600;

export async function showTiles(host, [name, id], signal) {
  const place = { tile: id ?? null };
  const [list, maps] = await Promise.all([openList(name, "", host, signal), colourTables()]);
  signal.throwIfAborted();
  const run = {
    name, maps, signal, list,
    scores: decodeScores(list.scores),
    level: nearestLevel(list.threshold),
    sort: list.scores ? "worst" : "uncertain",
    classes: new Set(),
    depth: [null, null],
    order: null, // tiles of the gallery, as they were last sorted and filtered
    tile: keepTiles(name, signal),
    async useStep(step) {
      stepping.abort();
      stepping = controllerWithin(signal);
      const own = stepping.signal;
      try {
        const found = await openList(name, step, host, own);
        own.throwIfAborted();
        Object.assign(run, { list: found, scores: decodeScores(found.scores), tile: keepTiles(name, signal, step), order: null });
      } catch (error) {
        // Another step was chosen meanwhile, or a tile.
        if (own.aborted) return;
        told(error);
      }
      show();
      focusOn(byId("step"), headingOf(host));
    },
  };
  let view = { leave() {} };
  let stepping = new AbortController();

  function show() {
    view.leave();
    const row = place.tile === null ? -1 : run.list.ids.indexOf(place.tile);
    if (place.tile !== null && row < 0) throw new Error(`There is no held-out tile ${place.tile} in ${name}.`);
    view = row < 0 ? showGallery(host, run) : showTile(host, run, row);
  }

  // The same button again, or the card of the tile that was looked at.
  function showInstead(before) {
    const focused = document.activeElement?.id;
    show();
    const card = place.tile === null && before !== null ? host.querySelector(`[data-id="${CSS.escape(before)}"]`) : null;
    card?.scrollIntoView({ block: "nearest" });
    focusOn(card, focused ? host.querySelector(`#${CSS.escape(focused)}`) : null, headingOf(host));
  }

  show();
  return {
    leave: () => view.leave(),
    isDirty: () => view.isDirty?.() ?? false,
    follow(kind, [otherName, otherId]) {
      if (kind !== "tiles" || otherName !== name || (otherId !== undefined && !run.list.ids.includes(otherId))) return false;
      stepping.abort();
      const before = place.tile;
      place.tile = otherId ?? null;
      showInstead(before);
      return true;
    },
  };
}

async function openList(name, step, host, signal) {
  const waiting = make("p", { class: "quiet", role: "status" });
  const onwait = (words) => {
    waiting.textContent = `${words}…`;
    if (!waiting.isConnected) host.replaceChildren(waiting);
    say(words);
  };
  const query = step ? `?step=${encodeURIComponent(step)}` : "";
  return askJson(`/api/tiles/${address(name)}${query}`, { signal, onwait });
}

// Tiles as they were fetched, the longest unused dropped first.
function keepTiles(name, signal, step = "") {
  const kept = new Map();
  const query = step ? `?step=${encodeURIComponent(step)}` : "";
  return (id) => {
    const found = kept.get(id) ?? askPlanes(`/api/tiles/${address(name, id)}${query}`, { signal });
    kept.delete(id);
    kept.set(id, found);
    found.catch(() => kept.delete(id));
    if (kept.size > MOST_TILES) kept.delete(kept.keys().next().value);
    return found;
  };
}
