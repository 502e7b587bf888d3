// Drawing on masks: functions on Uint8Array of width x height bytes, without a page. 1 is salt, 0 none, 255 unknown.

export const SALT = 1;
export const NONE = 0;
export const UNKNOWN = 255;

// A round brush drawn from one point to another, sides and ends included; a radius of 0 is one pixel.
export function drawStroke(mask, { width, height, from, to, radius, value }) {
  const reach = radius + 0.5;
  const left = Math.max(Math.floor(Math.min(from.x, to.x) - reach), 0);
  const right = Math.min(Math.ceil(Math.max(from.x, to.x) + reach), width - 1);
  const top = Math.max(Math.floor(Math.min(from.y, to.y) - reach), 0);
  const bottom = Math.min(Math.ceil(Math.max(from.y, to.y) + reach), height - 1);
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      if (distance({ x, y }, from, to) <= reach) mask[y * width + x] = value;
    }
  }
  return { left, top, right, bottom };
}

// From a point to the nearest point of a line from one end to the other.
export function distance(point, from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = dx * dx + dy * dy;
  const along = length ? Math.min(Math.max(((point.x - from.x) * dx + (point.y - from.y) * dy) / length, 0), 1) : 0;
  return Math.hypot(point.x - from.x - along * dx, point.y - from.y - along * dy);
}

// Every pixel whose middle lies in the polygon, by the even-odd rule; points are middles of pixels.
export function fillPolygon(mask, { width, height, points, value }) {
  if (points.length < 3) return;
  for (let y = 0; y < height; y++) {
    const crossings = [];
    points.forEach((start, place) => {
      const end = points[(place + 1) % points.length];
      if (start.y <= y !== end.y <= y) crossings.push(start.x + ((y - start.y) / (end.y - start.y)) * (end.x - start.x));
    });
    crossings.sort((one, other) => one - other);
    for (let pair = 0; pair + 1 < crossings.length; pair += 2) {
      const first = Math.max(Math.ceil(crossings[pair]), 0);
      const last = Math.min(Math.floor(crossings[pair + 1]), width - 1);
      for (let x = first; x <= last; x++) mask[y * width + x] = value;
    }
  }
  // Pixels of the corners and sides themselves, which the rule gives to one side alone.
  points.forEach((start, place) => {
    drawStroke(mask, { width, height, from: start, to: points[(place + 1) % points.length], radius: 0, value });
  });
}

// What hangs together with a pixel, side by side, where the probability is above the cut: 1 there, 0 elsewhere. Where
// the pixel itself is not above it, nothing does.
export function floodAbove(probability, { width, height, x, y, cut }) {
  const region = new Uint8Array(width * height);
  const start = y * width + x;
  if (!(probability[start] > cut)) return region;
  const waiting = [start];
  region[start] = 1;
  const visit = (place) => {
    if (!region[place] && probability[place] > cut) {
      region[place] = 1;
      waiting.push(place);
    }
  };
  while (waiting.length) {
    const place = waiting.pop();
    const column = place % width;
    if (column > 0) visit(place - 1);
    if (column < width - 1) visit(place + 1);
    if (place >= width) visit(place - width);
    if (place < width * (height - 1)) visit(place + width);
  }
  return region;
}

export function fillRegion(mask, region, value) {
  for (let place = 0; place < mask.length; place++) if (region[place]) mask[place] = value;
}

export function countDiffering(one, other) {
  let count = 0;
  for (let place = 0; place < one.length; place++) if (one[place] !== other[place]) count++;
  return count;
}

// A change that can be taken back: which pixels, what they were, and what they became; null where nothing changed.
export function changeBetween(before, after) {
  const count = countDiffering(before, after);
  if (!count) return null;
  const change = { places: new Uint32Array(count), before: new Uint8Array(count), after: new Uint8Array(count) };
  for (let place = 0, next = 0; place < before.length; place++) {
    if (before[place] === after[place]) continue;
    change.places[next] = place;
    change.before[next] = before[place];
    change.after[next++] = after[place];
  }
  return change;
}

// Changes that were made, and those that were taken back and may be made again. `limit` of them are kept.
export function newSteps(limit = 200) {
  return { done: [], undone: [], limit };
}

export function addStep(steps, change) {
  if (!change) return;
  steps.done.push(change);
  if (steps.done.length > steps.limit) steps.done.shift();
  steps.undone.length = 0;
}

export function undoStep(steps, mask) {
  const change = steps.done.pop();
  if (!change) return false;
  change.places.forEach((place, row) => { mask[place] = change.before[row]; });
  steps.undone.push(change);
  return true;
}

export function redoStep(steps, mask) {
  const change = steps.undone.pop();
  if (!change) return false;
  change.places.forEach((place, row) => { mask[place] = change.after[row]; });
  steps.done.push(change);
  return true;
}
