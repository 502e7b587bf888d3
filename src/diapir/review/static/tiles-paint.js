// Pictures of one tile: image, truth, probability, and where a mask and the truth differ.
import { BLUE, GREEN, LEVELS, NO_TRACE, ORANGE, SKY, SPREAD_STEP, VERMILION, mix, rgb } from "./colours.js";

const UNKNOWN = 255; // of truth: nobody has said
const GREYS = Uint32Array.from({ length: 256 }, (_, shade) => rgb(shade, shade, shade));
const BLANK = rgb(96, 102, 110);

export const PICTURES = {
  image: "Image",
  truth: "Truth",
  probability: "Probability",
  mask: "Mask",
  difference: "Difference",
  disagreement: "Disagreement",
  edited: "Mask after editing",
};

// Which of PICTURES there is something to draw with.
export function picturesOf(planes) {
  const has = (name) => planes[name] !== undefined;
  return Object.keys(PICTURES).filter((name) =>
    ({ image: has("image"), truth: has("truth"), probability: true, mask: true, difference: has("truth"), disagreement: has("disagreement"), edited: has("edited") })[name]);
}

// `name` is one of PICTURES, or `both`: truth and mask as outlines on the image.
export function drawTile(canvas, tile, { name, threshold, maps }) {
  const { rows, columns, planes } = tile;
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  const picture = context.createImageData(columns, rows);
  const pixels = new Uint32Array(picture.data.buffer);
  const image = planes.image;
  const grey = (place) => (image ? GREYS[image[place]] : BLANK);
  const isSalt = (place) => planes.probability[place] > threshold;
  const isTrue = (place) => planes.truth[place] === 1;
  const isEdited = (place) => planes.edited[place] === 1;
  const edge = (inside) => edgeOf(inside, rows, columns);
  const heat = maps.get("heat");
  const green = maps.get("green-blue");
  const colourOf = {
    image: grey,
    truth: filled(grey, (place) => (planes.truth[place] === UNKNOWN ? "unknown" : isTrue(place)), edge(isTrue), SKY),
    probability: (place) => heat[Math.round((255 * planes.probability[place]) / LEVELS)],
    mask: filled(grey, isSalt, edge(isSalt), ORANGE),
    edited: filled(grey, isEdited, edge(isEdited), ORANGE),
    disagreement: (place) => green[Math.min(255, Math.round((255 * planes.disagreement[place] * SPREAD_STEP) / 0.5))],
    difference: (place) => differing(grey(place), isSalt(place), planes.truth[place]),
    both: outlined(grey, planes.truth ? edge(isTrue) : () => false, edge(isSalt)),
  }[name];
  for (let place = 0; place < pixels.length; place++) pixels[place] = colourOf(place);
  context.putImageData(picture, 0, 0);
}

function edgeOf(inside, rows, columns) {
  return (place) => {
    if (!inside(place)) return false;
    const column = place % columns;
    return (column > 0 && !inside(place - 1)) || (column + 1 < columns && !inside(place + 1)) ||
      (place >= columns && !inside(place - columns)) || (place + columns < rows * columns && !inside(place + columns));
  };
}

function filled(grey, inside, isEdge, colour) {
  return (place) => {
    const found = inside(place);
    if (found === "unknown") return mix(grey(place), BLANK, 0.7);
    if (!found) return grey(place);
    return isEdge(place) ? colour : mix(grey(place), colour, 0.35);
  };
}

function outlined(grey, isTrueEdge, isSaltEdge) {
  return (place) => (isSaltEdge(place) ? ORANGE : isTrueEdge(place) ? SKY : grey(place));
}

function differing(grey, isSalt, truth) {
  if (truth === UNKNOWN) return mix(grey, BLANK, 0.7);
  if (isSalt && truth === 1) return mix(grey, GREEN, 0.4);
  if (isSalt) return mix(grey, VERMILION, 0.65);
  return truth === 1 ? mix(grey, BLUE, 0.65) : grey;
}

// Intersection over union of the mask at a threshold; null where there is neither salt nor truth.
export function overlapOf({ planes }, threshold) {
  if (!planes.truth) return null;
  let both = 0;
  let either = 0;
  planes.truth.forEach((truth, place) => {
    const isSalt = planes.probability[place] > threshold && truth !== UNKNOWN;
    both += isSalt && truth === 1 ? 1 : 0;
    either += isSalt || truth === 1 ? 1 : 0;
  });
  return either ? both / either : null;
}

export const editorProbability = (bytes) => bytes.map((byte) => (byte === NO_TRACE ? 0 : Math.round((byte * 255) / LEVELS)));
