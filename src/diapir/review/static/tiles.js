// The held-out tiles of a run: what they have in common here, the gallery and the single tile in files of their own.
import { colourTables } from "./colours.js";
import { address, askJson, askPlanes, make, say } from "./shell.js";
import { showGallery } from "./tiles-gallery.js";
import { showTile } from "./tiles-one.js";
import { decodeScores } from "./tiles-scores.js";
import { nearestLevel } from "./tiles-words.js";

const MOST_TILES = 600;

export async function showTiles(host, [name, id]) {
  const leaving = new AbortController();
  const { signal } = leaving;
  const place = { tile: id ?? null };
  const [list, maps] = await Promise.all([openList(name, "", host, signal), colourTables()]);
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
      run.list = await openList(name, step, host, signal);
      run.scores = decodeScores(run.list.scores);
      run.tile = keepTiles(name, signal, step);
      run.order = null;
      show();
    },
  };
  let view = { leave() {} };

  function show() {
    view.leave();
    const row = place.tile === null ? -1 : run.list.ids.indexOf(place.tile);
    if (place.tile !== null && row < 0) throw new Error(`There is no held-out tile ${place.tile} in ${name}.`);
    view = row < 0 ? showGallery(host, run) : showTile(host, run, row);
  }

  show();
  return {
    leave() {
      view.leave();
      leaving.abort();
    },
    follow(kind, [otherName, otherId]) {
      if (kind !== "tiles" || otherName !== name || (otherId !== undefined && !run.list.ids.includes(otherId))) return false;
      place.tile = otherId ?? null;
      show();
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
