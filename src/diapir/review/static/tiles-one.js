// One tile, large: image, truth, probability, mask and what they differ in.
import { LEVELS } from "./colours.js";
import { openCorrection } from "./correction.js";
import { focusOn } from "./focus.js";
import { address, alertWords, byId, make, say, setKeys, slider, timed, told } from "./shell.js";
import { PICTURES, drawTile, editorProbability, overlapOf, picturesOf } from "./tiles-paint.js";
import { scoreOf } from "./tiles-scores.js";
import { nearestLevel, runWords, shownNumber } from "./tiles-words.js";

export function showTile(host, run, row) {
  const { list } = run;
  const count = list.ids.length;
  const id = list.ids[row];
  const order = run.order ?? Array.from({ length: count }, (_, tile) => tile);
  const place = order.indexOf(row);
  let tile = null;
  let canvases = [];
  let correction = null;

  const gallery = `#/tiles/${address(run.name)}`;
  const beside = (by) => order[place + by];
  const canCorrect = () => Boolean(run.scores && (tile || list.is_of_survey));
  const linkTo = (by, words, key) => {
    const other = beside(by);
    return make("a", { class: "button plain", id: key, href: other === undefined ? null : `#/tiles/${address(run.name, list.ids[other])}`, "aria-disabled": other === undefined, text: words });
  };
  const cut = slider({ id: "threshold", label: "Threshold", min: 0, max: LEVELS - 1, step: 1, value: run.level, format: (level) => (level / LEVELS).toFixed(3), oninput: (level, event) => moveTo(level, event.timeStamp) });
  const score = make("p", { id: "score", class: "score" });
  const pictures = make("div", { class: "pictures", id: "pictures" });
  const facts = [["salt", classWords(list.columns.coverage_class[row])], ["depth", list.columns.depth_m[row] === null ? "unknown" : `${Math.round(list.columns.depth_m[row])} m`],
    ["boundary", list.columns.boundary_px[row] === null ? "unknown" : `${list.columns.boundary_px[row]} px`], ["score in the run", shownNumber(list.columns.score[row], 1)],
    ["uncertainty", shownNumber(list.columns.uncertainty[row], 4)], ["disagreement", list.columns.disagreement ? shownNumber(list.columns.disagreement[row], 4) : "of one model: none"]];
  host.className = "wide";
  host.replaceChildren(make("div", { class: "tiles one" },
    make("div", { class: "stage-column" },
      make("div", { class: "toolbar" }, make("a", { class: "button plain", id: "back", href: gallery, text: "‹ Gallery" }), make("h1", { text: id }), linkTo(-1, "‹ Before", "before"), linkTo(1, "Next ›", "after"),
        make("span", { class: "quiet", text: place < 0 ? "" : `${place + 1} of ${order.length}` })),
      make("div", { class: "panel scoring" }, score, cut,
        make("p", { class: "legend" }, make("span", { class: "swatch both" }), " found ", make("span", { class: "swatch missed" }), " missed ", make("span", { class: "swatch wrong" }), " too much")),
      pictures),
    make("div", { class: "panels" },
      make("div", { class: "panel" }, make("dl", { class: "facts" }, ...facts.flatMap(([key, value]) => [make("dt", { text: key }), make("dd", { text: value })]))),
      make("div", { class: "panel" }, make("button", { type: "button", id: "correct", disabled: !canCorrect(), text: list.is_of_survey ? "Correct its section" : "Correct", onclick: correct })),
      runWords(run))));

  async function open() {
    try {
      tile = await run.tile(id);
    } catch (error) {
      told(error);
      return;
    }
    if (!pictures.isConnected) return;
    canvases = picturesOf(tile.planes).map((name) => [name, make("canvas", { id: `picture-${name}`, role: "img", "aria-label": `${PICTURES[name]} of ${id}` })]);
    pictures.replaceChildren(...canvases.map(([name, canvas]) => make("figure", {}, canvas, make("figcaption", { text: PICTURES[name] }))));
    draw(canvases);
    tell();
    byId("correct").disabled = !canCorrect();
    // The neighbours are likely to be next.
    for (const other of [beside(1), beside(-1)]) if (other !== undefined) run.tile(list.ids[other]).catch(() => {});
  }

  function draw(some) {
    for (const [name, canvas] of some) drawTile(canvas, tile, { name, threshold: run.level, maps: run.maps });
  }

  function tell() {
    const overlap = overlapOf(tile, run.level);
    const own = run.scores ? scoreOf(run.scores, count, row, run.level).toFixed(1) : null;
    const words = overlap === null ? (run.scores ? "neither salt nor mask" : "no truth to score with") : `intersection over union ${overlap.toFixed(3)}`;
    score.replaceChildren(own === null ? "" : make("strong", { id: "tile-score", text: own }), ` ${words}`);
    say(`Tile ${id}. ${own === null ? "" : `Score ${own} at threshold ${(run.level / LEVELS).toFixed(3)}, `}${words}.`);
  }

  function moveTo(level, start) {
    run.level = level;
    if (!tile) return;
    draw(canvases.filter(([name]) => name === "mask" || name === "difference"));
    tell();
    timed("threshold", start);
  }

  function step(by) {
    return (event) => {
      const level = Math.min(Math.max(run.level + by, 0), LEVELS - 1);
      cut.set(level);
      moveTo(level, event.timeStamp);
    };
  }

  function go(by) {
    return () => {
      if (beside(by) !== undefined) location.hash = `#/tiles/${address(run.name, list.ids[beside(by)])}`;
    };
  }

  function correct() {
    if (!canCorrect()) return;
    if (list.is_of_survey) {
      const [kind, line] = id.match(/^(inline|crossline)-(-?\d+)-/)?.slice(1) ?? [];
      location.hash = `#/review/${kind ? address(run.name, kind, line) : address(run.name)}`;
      return;
    }
    if (!tile.planes.image) {
      alertWords("This tile's image is not at hand, so there is nothing to correct it on.");
      return;
    }
    const { planes, rows, columns } = tile;
    correction?.leave();
    correction = openCorrection({
      host, source: run.name, title: `tile ${id}`, target: { kind: "tile", name: id },
      picture: {
        width: columns, height: rows, probability: editorProbability(planes.probability),
        paint: (context) => drawTile(context.canvas, tile, { name: "image", threshold: run.level, maps: run.maps }),
      },
      onclose() {
        setKeys(keys);
        focusOn(byId("correct"));
      },
    });
  }

  const keys = [
    [["ArrowRight"], "the next tile of the gallery", go(1)], [["ArrowLeft"], "the tile before", go(-1)],
    [["ArrowUp", "]", "+"], "threshold up", step(2)], [["ArrowDown", "[", "-"], "threshold down", step(-2)],
    [["r"], "the run's own threshold", (event) => step(nearestLevel(list.threshold) - run.level)(event)],
    [["e"], list.is_of_survey ? "correct the labels of its section" : "correct the labels of this tile", correct],
    [["Escape"], "to the gallery", () => { location.hash = gallery; }],
  ];
  setKeys(keys);
  open();
  return { leave: () => correction?.leave(), isDirty: () => correction?.isDirty() ?? false };
}

function classWords(number) {
  if (number === null) return "unknown";
  return number ? `${10 * (number - 1)} to ${10 * number} % of the tile` : "none";
}
