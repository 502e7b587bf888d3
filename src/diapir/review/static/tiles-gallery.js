// The gallery: tiles sorted and filtered, and one threshold that scores them all.
import { LEVELS } from "./colours.js";
import { focusOn, headingOf } from "./focus.js";
import { address, byId, choice, make, say, setKeys, slider, timed, told } from "./shell.js";
import { drawTile } from "./tiles-paint.js";
import { bestLevel, drawCurve, meanScores, scoreOf } from "./tiles-scores.js";
import { nearestLevel, runWords, stepChoice } from "./tiles-words.js";

const AT_ONCE = 96; // cards that are added when the end comes in sight
const REST_MS = 300; // of keys, before the gallery is sorted by the scores that they have come to

export function showGallery(host, run) {
  const { list } = run;
  const count = list.ids.length;
  const columns = list.columns;
  let found = null; // mean scores under the filter
  let placed = 0;
  const seen = new Map(); // cards in sight: canvas -> tile, null while it is fetched
  let later = 0;
  host.className = "wide";

  const sorts = [
    ["worst", "Worst score first", !run.scores], ["best", "Best score first", !run.scores], ["uncertain", "Most uncertain first", false],
    ["disputed", "Most disagreement first", !columns.disagreement], ["deep", "Deepest first", columns.depth_m.every((depth) => depth === null)], ["given", "As the run has them", false],
  ];
  const cut = slider({
    id: "threshold", label: "Threshold", min: 0, max: LEVELS - 1, step: 1, value: run.level, format: (level) => (level / LEVELS).toFixed(3),
    oninput: (level, event) => moveTo(level, event.timeStamp),
    onchange: () => rearrange(),
  });
  const score = make("p", { id: "score", class: "score" });
  const curve = make("canvas", { id: "curve", role: "img", "aria-label": "Mean score against threshold, with its 95 % interval" });
  const counted = make("p", { id: "count", class: "quiet" });
  const sorting = choice({ id: "sort", label: "Sort by", options: sorts, value: run.sort, onchange: (value) => { run.sort = value; arrange(); } });
  const grid = make("ul", { id: "gallery", class: "gallery", "aria-label": "Held-out tiles" });
  const end = make("div", { class: "end" });
  const empty = make("p", { id: "none", hidden: true, text: "No tile is left by this filter." });
  const panel = make("div", { class: "panels" },
    make("div", { class: "panel" }, run.scores ? score : null, run.scores ? curve : null, cut,
      make("div", { class: "actions" },
        make("button", { type: "button", id: "threshold-run", text: `The run's ${list.threshold}`, onclick: (event) => jumpTo(nearestLevel(list.threshold), event) }),
        run.scores ? make("button", { type: "button", id: "threshold-best", text: "Best of these", onclick: (event) => found && jumpTo(bestLevel(found.means), event) }) : null),
      make("p", { class: "quiet", text: "Chosen on the tiles that are scored, the best flatters." })),
    make("div", { class: "panel" },
      sorting, stepChoice(run), classFilter(), depthFilter(),
      make("button", { type: "button", id: "clear-filter", text: "All tiles", onclick: clearFilter })),
    runWords(run));
  host.replaceChildren(make("div", { class: "tiles" },
    make("div", { class: "stage-column" },
      make("div", { class: "toolbar" }, make("h1", { text: run.name }), counted),
      make("p", { class: "legend" }, make("span", { class: "swatch truth" }), " truth ", make("span", { class: "swatch mask" }), " mask"),
      empty, grid, end),
    panel));

  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (target === end) {
        if (isIntersecting) addCards();
      } else if (isIntersecting) open(target);
      else seen.delete(target);
    }
  }, { rootMargin: "200px" });
  sight.observe(end);

  function isChosen(tile) {
    const depth = columns.depth_m[tile];
    const [low, high] = run.depth;
    if (run.classes.size && !run.classes.has(columns.coverage_class[tile])) return false;
    return (low === null || (depth !== null && depth >= low)) && (high === null || (depth !== null && depth <= high));
  }

  function arrange() {
    const tiles = Array.from({ length: count }, (_, tile) => tile).filter(isChosen);
    const by = {
      worst: (tile) => scoreAt(tile), best: (tile) => -scoreAt(tile), uncertain: (tile) => -columns.uncertainty[tile],
      disputed: (tile) => -columns.disagreement[tile], deep: (tile) => -(columns.depth_m[tile] ?? -1), given: () => 0,
    }[run.sort];
    const keys = new Map(tiles.map((tile) => [tile, by(tile)]));
    const focused = grid.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    // Among equals those with the longest boundary, for these are hard to get right.
    run.order = tiles.sort((one, other) => keys.get(one) - keys.get(other) || (columns.boundary_px[other] ?? 0) - (columns.boundary_px[one] ?? 0));
    found = run.scores && tiles.length ? meanScores(run.scores, tiles, count) : null;
    for (const card of grid.querySelectorAll("canvas")) sight.unobserve(card);
    seen.clear();
    grid.replaceChildren();
    placed = 0;
    empty.hidden = run.order.length > 0;
    counted.textContent = `${run.order.length} of ${count} held-out tiles`;
    addCards();
    tell();
    if (focused !== null) focusOn(grid.querySelector(`[data-id="${CSS.escape(focused)}"]`), grid.querySelector("a"), headingOf(host));
  }

  // Where the threshold has come to rest, what goes by scores follows.
  function rearrange() {
    clearTimeout(later);
    if (run.sort === "worst" || run.sort === "best") arrange();
    else for (const canvas of grid.querySelectorAll("canvas")) caption(canvas);
  }

  const scoreAt = (tile) => (run.scores ? scoreOf(run.scores, count, tile, run.level) : columns.score[tile] ?? -1);

  function addCards() {
    const some = run.order.slice(placed, placed + AT_ONCE);
    placed += some.length;
    grid.append(...some.map((tile) => {
      const id = list.ids[tile];
      const canvas = make("canvas", { width: 101, height: 101, "data-tile": tile, "aria-hidden": "true" });
      sight.observe(canvas);
      return make("li", {}, make("a", { href: `#/tiles/${address(run.name, id)}`, "data-id": id, title: id }, canvas, make("span", { class: "caption", text: captionOf(tile) })));
    }));
  }

  function captionOf(tile) {
    const own = run.scores ? scoreAt(tile).toFixed(1) : columns.score[tile]?.toFixed(1) ?? "–";
    const depth = columns.depth_m[tile];
    const more = { uncertain: columns.uncertainty[tile]?.toFixed(3), disputed: columns.disagreement?.[tile]?.toFixed(3) }[run.sort];
    return [own, more, depth === null ? null : `${Math.round(depth)} m`].filter(Boolean).join(" · ");
  }

  function caption(canvas) {
    canvas.nextSibling.textContent = captionOf(Number(canvas.dataset.tile));
  }

  async function open(canvas) {
    if (!canvas.isConnected) return;
    seen.set(canvas, null);
    caption(canvas);
    try {
      const planes = await run.tile(list.ids[Number(canvas.dataset.tile)]);
      if (!seen.has(canvas)) return;
      seen.set(canvas, planes);
      drawCard(canvas, planes);
    } catch (error) {
      told(error);
    }
  }

  function drawCard(canvas, planes) {
    drawTile(canvas, planes, { name: planes.planes.image ? "both" : "probability", threshold: run.level, maps: run.maps });
  }

  function moveTo(level, start) {
    run.level = level;
    tell();
    timed("threshold", start);
    // What is in sight follows in the same frame, or in the next where that is late.
    cancelAnimationFrame(moveTo.later);
    moveTo.later = requestAnimationFrame(() => {
      for (const [canvas, planes] of seen) {
        if (planes) drawCard(canvas, planes);
        caption(canvas);
      }
    });
  }

  function jumpTo(level, event) {
    cut.set(level);
    moveTo(level, event.timeStamp);
    clearTimeout(later);
    later = setTimeout(rearrange, REST_MS);
  }

  function tell() {
    if (!found) {
      score.textContent = "";
      return;
    }
    const [mean, half] = [found.means[run.level], found.halves[run.level]];
    score.replaceChildren(make("strong", { id: "mean-score", text: mean.toFixed(4) }), ` ± ${half.toFixed(4)} at ${(run.level / LEVELS).toFixed(3)}`);
    drawCurve(curve, found, run.level);
    say(`Score ${mean.toFixed(4)} on ${run.order.length} tiles at threshold ${(run.level / LEVELS).toFixed(3)}`);
  }

  function classFilter() {
    const known = [...new Set(columns.coverage_class)].filter((each) => each !== null).sort((one, other) => one - other);
    const boxes = known.map((each) => {
      const input = make("input", { type: "checkbox", id: `class-${each}`, checked: run.classes.has(each), onchange: () => {
        if (input.checked) run.classes.add(each);
        else run.classes.delete(each);
        arrange();
      } });
      return make("span", {}, input, make("label", { for: `class-${each}`, text: each ? `${10 * (each - 1)}–${10 * each} %` : "none" }));
    });
    return make("fieldset", { id: "classes", class: "chips" }, make("legend", { text: "Salt in the tile" }), ...boxes);
  }

  function depthFilter() {
    const depths = columns.depth_m.filter((depth) => depth !== null);
    if (!depths.length) return null;
    const field = (id, label, side) => make("span", {}, make("label", { for: id, text: label }), make("input", {
      type: "number", id, value: run.depth[side], placeholder: Math[side ? "max" : "min"](...depths), onchange: (event) => {
        run.depth[side] = event.target.value === "" ? null : Number(event.target.value);
        arrange();
      },
    }));
    return make("fieldset", { class: "between" }, make("legend", { text: "Depth in m" }), make("div", {}, field("depth-from", "from", 0), field("depth-to", "to", 1)));
  }

  function clearFilter() {
    run.classes.clear();
    run.depth = [null, null];
    for (const box of host.querySelectorAll("#classes input")) box.checked = false;
    for (const id of ["depth-from", "depth-to"]) if (byId(id)) byId(id).value = "";
    arrange();
  }

  const step = (by) => (event) => jumpTo(Math.min(Math.max(run.level + by, 0), LEVELS - 1), event);
  const sortBy = (name) => () => {
    if (sorts.find(([each]) => each === name)[2]) return;
    run.sort = sorting.select.value = name;
    arrange();
  };
  setKeys([
    [["]", "+"], "threshold up", step(2)], [["[", "-"], "threshold down", step(-2)],
    [["r"], "the run's own threshold", (event) => jumpTo(nearestLevel(list.threshold), event)],
    [["w"], "worst first", sortBy("worst")], [["b"], "best first", sortBy("best")], [["u"], "most uncertain first", sortBy("uncertain")], [["d"], "most disagreement first", sortBy("disputed")],
    [["a"], "all tiles", clearFilter],
    [["Enter"], "the first tile, large", () => run.order.length && (location.hash = `#/tiles/${address(run.name, list.ids[run.order[0]])}`)],
  ]);
  arrange();
  return {
    leave() {
      clearTimeout(later);
      sight.disconnect();
    },
  };
}
