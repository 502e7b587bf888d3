// Sections as they come from the server: kept within a bound, and fetched before they are asked for.
import { LEVELS, NO_TRACE } from "./colours.js";
import { address, askPlanes } from "./shell.js";

const MOST_BYTES = 160 * 2 ** 20;
const AT_ONCE = 2;

export function openSections(name, signal) {
  const kept = new Map(); // in the order of use
  const coming = new Map();
  let queue = [];
  let running = 0;
  let bytes = 0;

  const keyOf = ({ direction, number, volumes }) => `${direction}/${number}/${volumes.join(",")}`;

  function get(wanted) {
    const key = keyOf(wanted);
    const found = kept.get(key);
    if (found) {
      kept.delete(key);
      kept.set(key, found);
    }
    return found ?? null;
  }

  function keep(section) {
    kept.set(section.key, section);
    count(section, section.bytes);
  }

  // Of what is kept the longest unused goes.
  function count(section, more) {
    bytes += more;
    for (const [oldest, other] of kept) {
      if (bytes <= MOST_BYTES) break;
      if (other === section) continue; // which need not be the newest
      kept.delete(oldest);
      bytes -= other.bytes;
    }
  }

  // The section, from wherever it is to be had soonest.
  function fetchSection(wanted, onwait) {
    const found = get(wanted);
    if (found) return Promise.resolve(found);
    const key = keyOf(wanted);
    if (!coming.has(key)) coming.set(key, load(wanted, key, onwait).finally(() => coming.delete(key)));
    return coming.get(key);
  }

  async function load({ direction, number, volumes }, key, onwait) {
    const found = await ask({ direction, number, volumes }, onwait);
    const section = { ...found, key, direction, number, salt: saltCounts(found), bytes: found.rows * found.columns * volumes.length };
    keep(section);
    return section;
  }

  const ask = ({ direction, number, volumes }, onwait) =>
    askPlanes(`/api/surveys/${address(name)}/${volumes.join(",")}/${direction}/${number}`, { signal, onwait });

  // One more volume of a section; whether it has come.
  async function fill(section, volume) {
    try {
      const { planes } = await ask({ ...section, volumes: [volume] });
      if (section.planes[volume]) return false; // twice asked for
      section.planes[volume] = planes[volume];
    } catch {
      return false; // told where it is to be drawn
    }
    if (kept.get(section.key) === section) {
      section.bytes += section.rows * section.columns;
      count(section, section.rows * section.columns);
    }
    return true;
  }

  // What is likely to be asked for next takes the place of what was likely before.
  function fetchAhead(list) {
    queue = list.filter((wanted) => !kept.has(keyOf(wanted)) && !coming.has(keyOf(wanted)));
    while (running < AT_ONCE && queue.length) next();
  }

  function next() {
    const wanted = queue.shift();
    if (!wanted) return;
    running += 1;
    fetchSection(wanted).catch(() => {}).finally(() => { // told to the one who looks at it
      running -= 1;
      next();
    });
  }

  return { get, fetchSection, fetchAhead, fill };
}

// How many samples lie above each threshold, and how many there are: the share of salt is then a look-up.
function saltCounts({ planes }) {
  if (!planes.probability) return null;
  const counts = new Uint32Array(256);
  for (const byte of planes.probability) counts[byte] += 1;
  const above = new Uint32Array(256);
  for (let level = 253; level >= 0; level--) above[level] = above[level + 1] + counts[level + 1];
  return { above, total: above[0] + counts[0] };
}

// A section as the editor of labels takes it.
export function pictureOf(section, greys) {
  const { rows, columns, planes } = section;
  const { amplitude, probability } = planes;
  return {
    width: columns,
    height: rows,
    probability: probability ? probability.map((byte) => (byte === NO_TRACE ? 0 : Math.round((byte * 255) / LEVELS))) : null,
    paint(context) {
      const picture = context.createImageData(columns, rows);
      const pixels = new Uint32Array(picture.data.buffer);
      amplitude.forEach((byte, place) => {
        pixels[place] = greys[byte];
      });
      context.putImageData(picture, 0, 0);
    },
  };
}
