// A mask as colours over a picture: salt in orange with a full rim, the unknown as blue stripes.
import { SALT, UNKNOWN } from "./editor-pixels.js";

const SALT_RGB = [230, 159, 0];
const UNKNOWN_RGB = [86, 180, 233];
const SHADE = 95;
const STRIPE = 170;

export function paintMask(context, mask, { width, height }, box = null) {
  const left = Math.max((box?.left ?? 0) - 1, 0);
  const top = Math.max((box?.top ?? 0) - 1, 0);
  const right = Math.min((box?.right ?? width - 1) + 1, width - 1);
  const bottom = Math.min((box?.bottom ?? height - 1) + 1, height - 1);
  if (right < left || bottom < top) return;
  const image = context.createImageData(right - left + 1, bottom - top + 1);
  let next = 0;
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++, next += 4) {
      const value = mask[y * width + x];
      if (value === SALT) {
        image.data.set(SALT_RGB, next);
        image.data[next + 3] = isRim(mask, x, y, width, height) ? 255 : SHADE;
      } else if (value === UNKNOWN) {
        image.data.set(UNKNOWN_RGB, next);
        image.data[next + 3] = (x + y) % 6 < 2 ? STRIPE : 40;
      }
    }
  }
  context.putImageData(image, left, top);
}

function isRim(mask, x, y, width, height) {
  const place = y * width + x;
  return (x > 0 && mask[place - 1] !== SALT) || (x < width - 1 && mask[place + 1] !== SALT)
    || (y > 0 && mask[place - width] !== SALT) || (y < height - 1 && mask[place + width] !== SALT);
}

// Where the brush or the cursor of the keys is, and the corners of a polygon that is being drawn.
export function paintHints(context, { width, height, cursor, radius, points }) {
  context.clearRect(0, 0, width, height);
  if (points.length) {
    context.strokeStyle = "#ffffff";
    context.lineWidth = 1;
    context.beginPath();
    points.forEach(({ x, y }, place) => context[place ? "lineTo" : "moveTo"](x + 0.5, y + 0.5));
    if (cursor) context.lineTo(cursor.x + 0.5, cursor.y + 0.5);
    context.stroke();
    context.fillStyle = "#cc79a7";
    for (const { x, y } of points) context.fillRect(x - 1, y - 1, 3, 3);
  }
  if (!cursor) return;
  context.strokeStyle = "#ffffff";
  context.lineWidth = 0.8;
  context.beginPath();
  context.arc(cursor.x + 0.5, cursor.y + 0.5, Math.max(radius + 0.5, 1.5), 0, 2 * Math.PI);
  context.stroke();
}

// Grey bytes as a picture.
export function paintGreys(context, greys, { width, height }) {
  const image = context.createImageData(width, height);
  for (let place = 0; place < width * height; place++) image.data.set([greys[place], greys[place], greys[place], 255], 4 * place);
  context.putImageData(image, 0, 0);
}
