// A section on its canvas: amplitudes, probability, disagreement and the mask's outline, and the numbers along its sides.
import { LEVELS, NO_TRACE, ORANGE, SPREAD_STEP, amplitudeColours, pairColours, rgb, spreadTints } from "./colours.js";

const MARGIN = { left: 58, top: 28 };
const NOTHING = rgb(70, 74, 80);

export function makePainter(canvas, axes) {
  const context = canvas.getContext("2d", { alpha: false });
  const buffer = document.createElement("canvas");
  const bufferContext = buffer.getContext("2d");
  let picture = null;
  let pixels = null;
  let look = {};

  // Only what a change of settings touches is made anew.
  function prepare(settings, maps) {
    const missing = NOTHING;
    const amplitudeKey = [settings.map, settings.window, settings.level, settings.flip].join();
    if (look.amplitudeKey !== amplitudeKey) {
      look = { amplitudeKey, amplitude: amplitudeColours(maps.get(settings.map), { ...settings, missing }) };
    }
    const opacity = settings.probability;
    const pairKey = [opacity, settings.mask, settings.threshold].join();
    if (look.pairKey !== pairKey) {
      look.pairKey = pairKey;
      look.pairs = pairColours(look.amplitude, { map: maps.get("heat"), opacity, maskOpacity: settings.mask, threshold: settings.threshold });
    }
    if (look.spreadKey !== settings.disagreement) {
      look.spreadKey = settings.disagreement;
      look.spread = spreadTints(maps.get("green-blue"), settings.disagreement);
    }
  }

  function draw(section, { settings, view, maps }) {
    prepare(settings, maps);
    const part = partOf(section, view, canvas);
    if (!picture || picture.width !== part.width || picture.height !== part.height) {
      buffer.width = part.width;
      buffer.height = part.height;
      picture = bufferContext.createImageData(part.width, part.height);
      pixels = new Uint32Array(picture.data.buffer);
    }
    compose(pixels, section, part, { look, settings });
    bufferContext.putImageData(picture, 0, 0);
    context.imageSmoothingEnabled = settings.smooth;
    const { stepX, stepY } = part;
    context.drawImage(
      buffer,
      (view.left - part.left) / stepX, (view.top - part.top) / stepY,
      (view.right - view.left) / stepX, (view.bottom - view.top) / stepY,
      0, 0, canvas.width, canvas.height,
    );
  }

  function clear() {
    context.fillStyle = "#464a50";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }

  return { draw, clear, drawAxes: (labels, view, cursor) => drawAxes(axes, canvas, labels, view, cursor) };
}

// Rows and columns that are seen, as many as the canvas has pixels for: what it costs does not go with the survey's size.
function partOf(section, view, canvas) {
  const left = Math.max(Math.floor(view.left), 0);
  const top = Math.max(Math.floor(view.top), 0);
  const right = Math.min(Math.ceil(view.right), section.columns);
  const bottom = Math.min(Math.ceil(view.bottom), section.rows);
  const stepX = Math.max(1, Math.floor((right - left) / canvas.width));
  const stepY = Math.max(1, Math.floor((bottom - top) / canvas.height));
  return { left, top, stepX, stepY, width: Math.max(1, Math.ceil((right - left) / stepX)), height: Math.max(1, Math.ceil((bottom - top) / stepY)) };
}

function compose(pixels, section, part, { look, settings }) {
  const { rows, columns, planes } = section;
  const { amplitude, probability, disagreement } = planes;
  const { pairs, spread } = look;
  const threshold = settings.threshold;
  const outline = settings.outline && probability;
  const spreads = settings.disagreement > 0 && disagreement ? disagreement : null; // not there, or not yet
  const down = columns * part.stepY;
  const last = rows * columns;
  let target = 0;
  for (let row = 0; row < part.height; row++) {
    let place = (part.top + row * part.stepY) * columns + part.left;
    for (let column = 0; column < part.width; column++, place += part.stepX) {
      const salt = probability ? probability[place] : 0;
      const grey = amplitude ? amplitude[place] : salt === NO_TRACE ? 0 : 128;
      let colour = pairs[(salt << 8) | grey];
      if (spreads !== null && spreads[place] !== NO_TRACE) {
        const other = spread.shares[spreads[place]];
        const tint = spread.colours[spreads[place]];
        const redBlue = (((colour & 0xff00ff) * (256 - other) + (tint & 0xff00ff) * other) / 256) & 0xff00ff;
        const green = (((colour & 0xff00) * (256 - other) + (tint & 0xff00) * other) / 256) & 0xff00;
        colour = 0xff000000 | redBlue | green;
      }
      if (outline && salt > threshold && salt <= LEVELS) {
        const isEdge =
          (column > 0 && probability[place - part.stepX] <= threshold) ||
          (column + 1 < part.width && probability[place + part.stepX] <= threshold) ||
          (place >= down && probability[place - down] <= threshold) ||
          (place + down < last && probability[place + down] <= threshold);
        if (isEdge) colour = ORANGE;
      }
      pixels[target++] = colour;
    }
  }
}

function drawAxes(axes, canvas, labels, view, cursor) {
  const scale = window.devicePixelRatio || 1;
  const context = axes.getContext("2d");
  const style = getComputedStyle(axes);
  const width = axes.width / scale;
  const height = axes.height / scale;
  const across = canvas.clientWidth;
  const down = canvas.clientHeight;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = `11px ${style.fontFamily}`;
  context.fillStyle = context.strokeStyle = style.color;
  context.textBaseline = "middle";
  const xOf = (column) => MARGIN.left + ((column + 0.5 - view.left) / (view.right - view.left)) * across;
  const yOf = (row) => MARGIN.top + ((row + 0.5 - view.top) / (view.bottom - view.top)) * down;
  context.textAlign = "center";
  for (const [column, words] of ticks(labels.columns, view.left, view.right, across / 70)) {
    const x = xOf(column);
    if (x < MARGIN.left || x > MARGIN.left + across) continue;
    context.fillRect(x, MARGIN.top - 4, 1, 4);
    context.fillText(words, x, MARGIN.top - 11);
  }
  context.textAlign = "right";
  for (const [row, words] of ticks(labels.rows, view.top, view.bottom, down / 45)) {
    const y = yOf(row);
    if (y < MARGIN.top || y > MARGIN.top + down) continue;
    context.fillRect(MARGIN.left - 4, y, 4, 1);
    context.fillText(words, MARGIN.left - 7, y);
  }
  context.textAlign = "left";
  context.globalAlpha = 0.7;
  context.fillText(labels.rows.unit, 4, MARGIN.top - 11);
  context.globalAlpha = 1;
  if (cursor) {
    context.globalAlpha = 0.35;
    context.fillRect(xOf(cursor.column), MARGIN.top, 1, down);
    context.fillRect(MARGIN.left, yOf(cursor.row), across, 1);
    context.globalAlpha = 1;
  }
}

// Round numbers along an axis of first + step * place, about as many as there is room for.
function ticks({ first, step }, from, to, room) {
  const low = first + step * Math.max(from, 0);
  const high = first + step * to;
  const rough = Math.max((high - low) / Math.max(room, 1), step); // there is nothing between two lines
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((times) => times * power).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(low / size) * size; value < high; value += size) {
    const place = (value - first) / step;
    const digits = Math.max(0, -Math.floor(Math.log10(size)));
    found.push([place, value.toFixed(Math.min(digits, 3))]);
  }
  return found;
}

export function readingAt(section, { row, column }, survey) {
  const place = row * section.columns + column;
  const { amplitude, probability, disagreement } = section.planes;
  const words = [];
  if (amplitude) words.push(amplitude[place] ? `amplitude ${Math.round(((amplitude[place] - 128) / 127) * survey.limit)}` : "no trace");
  if (probability && probability[place] !== NO_TRACE) words.push(`probability ${(probability[place] / LEVELS).toFixed(2)}`);
  if (disagreement && disagreement[place] !== NO_TRACE) words.push(`disagreement ${(disagreement[place] * SPREAD_STEP).toFixed(3)}`);
  return words.join(" · ");
}
