// Scores of tiles at every threshold: the mean under a filter is made once, and a threshold is then a look-up.
import { LEVELS } from "./colours.js";

const TENTHS = 10;
const Z_95 = 1.96;

// The server's base64: tenths, threshold after threshold, a byte a tile.
export function decodeScores(text) {
  return text === null ? null : Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// By threshold: mean score of some tiles, and half of its 95 % interval (normal, from the tiles' own spread).
export function meanScores(scores, chosen, count) {
  const means = new Float64Array(LEVELS);
  const halves = new Float64Array(LEVELS);
  for (let level = 0; level < LEVELS; level++) {
    let sum = 0;
    let squares = 0;
    const start = level * count;
    for (const tile of chosen) {
      const score = scores[start + tile];
      sum += score;
      squares += score * score;
    }
    const mean = sum / chosen.length;
    const variance = chosen.length > 1 ? Math.max(squares - chosen.length * mean * mean, 0) / (chosen.length - 1) : 0;
    means[level] = mean / TENTHS;
    halves[level] = (Z_95 * Math.sqrt(variance / chosen.length)) / TENTHS;
  }
  return { means, halves };
}

export const scoreOf = (scores, count, tile, level) => scores[level * count + tile] / TENTHS;

export function bestLevel(means) {
  let best = 0;
  means.forEach((mean, level) => {
    if (mean > means[best]) best = level;
  });
  return best;
}

// Score against threshold, with where the slider stands.
export function drawCurve(canvas, found, level) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  context.clearRect(0, 0, width, height);
  if (!found) return;
  const edge = 4 * scale;
  const xOf = (at) => edge + (at / (LEVELS - 1)) * (width - 2 * edge);
  const yOf = (score) => height - edge - score * (height - 2 * edge);
  context.fillStyle = context.strokeStyle = style.color;
  context.globalAlpha = 0.2;
  for (const score of [0, 0.5, 1]) context.fillRect(edge, yOf(score), width - 2 * edge, 1);
  context.beginPath();
  found.means.forEach((mean, at) => context.lineTo(xOf(at), yOf(Math.min(mean + found.halves[at], 1))));
  for (let at = LEVELS - 1; at >= 0; at--) context.lineTo(xOf(at), yOf(Math.max(found.means[at] - found.halves[at], 0)));
  context.fill();
  context.globalAlpha = 1;
  context.lineWidth = 1.5 * scale;
  context.beginPath();
  found.means.forEach((mean, at) => context.lineTo(xOf(at), yOf(mean)));
  context.stroke();
  context.fillStyle = style.getPropertyValue("--accent");
  context.fillRect(xOf(level) - scale, 0, 2 * scale, height);
  context.beginPath();
  context.arc(xOf(level), yOf(found.means[level]), 3.5 * scale, 0, 7);
  context.fill();
}
