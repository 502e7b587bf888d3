// How far members disagree, section by section: a curve to click on, and the sections where they do most.
import { make } from "./shell.js";

const LISTED = 5;
const APART = 1 / 12; // of all sections: neighbours would be listed together

// Places of the sections with the most disagreement, apart from each other, the first the worst.
export function worstPlaces(means, count = LISTED) {
  const ranked = means.map((mean, place) => [mean, place]).filter(([mean]) => mean !== null).sort((one, other) => other[0] - one[0]);
  const chosen = [];
  const apart = Math.max(1, Math.round(APART * means.length));
  for (const [, place] of ranked) {
    if (chosen.length === count) break;
    if (chosen.every((other) => Math.abs(other - place) >= apart)) chosen.push(place);
  }
  return chosen;
}

export function makeProfile({ onpick }) {
  const canvas = make("canvas", { id: "profile", role: "img", "aria-label": "Mean disagreement by section; the buttons below name where it is greatest" });
  let means = null;
  let place = 0;

  canvas.addEventListener("click", (event) => {
    if (!means) return;
    const box = canvas.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    onpick(Math.min(means.length - 1, Math.max(0, Math.floor(share * means.length))), event);
  });
  const resized = new ResizeObserver(() => draw());
  resized.observe(canvas);

  function draw() {
    const scale = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(canvas.clientWidth * scale));
    const height = Math.max(1, Math.round(canvas.clientHeight * scale));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    context.clearRect(0, 0, width, height);
    if (!means) return;
    const most = Math.max(...means.filter((mean) => mean !== null), 1e-9);
    context.fillStyle = style.color;
    context.globalAlpha = 0.45;
    const bar = width / means.length;
    means.forEach((mean, each) => {
      if (mean === null) return;
      const tall = (mean / most) * (height - 2);
      context.fillRect(each * bar, height - tall, Math.max(bar, 1), tall);
    });
    context.globalAlpha = 1;
    context.fillStyle = style.getPropertyValue("--accent");
    context.fillRect(Math.min((place + 0.5) * bar, width - 2), 0, Math.max(2, scale), height);
  }

  return {
    canvas,
    show(found) {
      means = found;
      draw();
    },
    move(to) {
      place = to;
      draw();
    },
    leave: () => resized.disconnect(),
  };
}
