// Colours as numbers that go into a picture as they are: 0xAABBGGRR, as canvases on little-endian machines hold them.
import { askJson } from "./shell.js";

export const LEVELS = 200; // as the server's: a byte above k says that the probability is above k / 200
export const NO_TRACE = 255; // of probability and disagreement; of amplitudes it is 0
export const SPREAD_STEP = 0.002;

// Okabe and Ito's: told apart by all who see colours, and by most who see few of them.
export const ORANGE = rgb(230, 159, 0);
export const SKY = rgb(86, 180, 233);
export const VERMILION = rgb(213, 94, 0);
export const BLUE = rgb(0, 114, 178);
export const GREEN = rgb(0, 158, 115);

export function rgb(red, green, blue) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

let tables = null;
// Colour maps by name: Uint32Array (256).
export async function colourTables() {
  tables ??= askJson("/api/colours").then((found) => new Map(Object.entries(found).map(([name, text]) => [name, table(text)])));
  try {
    return await tables;
  } catch (error) {
    tables = null;
    throw error;
  }
}

function table(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return Uint32Array.from({ length: 256 }, (_, shade) => rgb(bytes[3 * shade], bytes[3 * shade + 1], bytes[3 * shade + 2]));
}

// `share` of 0 gives the first colour, of 1 the second.
export function mix(first, second, share) {
  const other = Math.round(256 * Math.min(Math.max(share, 0), 1));
  const own = 256 - other;
  const redBlue = (((first & 0xff00ff) * own + (second & 0xff00ff) * other) / 256) & 0xff00ff;
  const green = (((first & 0xff00) * own + (second & 0xff00) * other) / 256) & 0xff00;
  return (0xff000000 | redBlue | green) >>> 0;
}

// The colour of every amplitude byte: `level` becomes the middle of the map, and `window` to each side of it its ends.
export function amplitudeColours(map, { window, level, flip, missing }) {
  const colours = new Uint32Array(256);
  for (let byte = 1; byte < 256; byte++) colours[byte] = map[shadeOf(byte, { window, level, flip })];
  colours[0] = missing;
  return colours;
}

// The colour of every pair of amplitude and probability bytes, at [probability * 256 + amplitude].
export function pairColours(base, { map, opacity, maskOpacity, threshold }) {
  const colours = new Uint32Array(256 * 256);
  for (let level = 0; level < 256; level++) {
    const isKnown = level <= LEVELS;
    const probability = level / LEVELS;
    const tint = map[Math.min(Math.round(255 * probability), 255)];
    const share = isKnown ? opacity * Math.min(1, 1.5 * probability) : 0;
    const isSalt = isKnown && level > threshold;
    for (let amplitude = 0; amplitude < 256; amplitude++) {
      let colour = base[amplitude];
      if (share > 0) colour = mix(colour, tint, share);
      if (isSalt && maskOpacity > 0) colour = mix(colour, ORANGE, maskOpacity);
      colours[(level << 8) | amplitude] = colour;
    }
  }
  return colours;
}

// The place in a colour map of an amplitude byte.
export function shadeOf(byte, { window, level, flip }) {
  const value = (flip ? -1 : 1) * ((byte - 128) / 127);
  return Math.min(Math.max(Math.round(127.5 + (127.5 * (value - level)) / window), 0), 255);
}

// What disagreement adds: a colour and a share of 0..256 for each of its bytes.
export function spreadTints(map, opacity) {
  const colours = new Uint32Array(256);
  const shares = new Uint16Array(256);
  for (let byte = 0; byte < NO_TRACE; byte++) {
    const strength = Math.min(1, (byte * SPREAD_STEP) / 0.3);
    colours[byte] = map[Math.round(255 * strength)];
    shares[byte] = Math.round(256 * opacity * Math.min(1, 2 * strength));
  }
  return { colours, shares };
}
