// An editor of masks on a canvas: brush, eraser, polygon, fill above a probability, undo and redo; by mouse, touch or keys.
import { makeControls } from "./editor-controls.js";
import { needStyles } from "./editor-dom.js";
import { focusOn, isFocusLost } from "./focus.js";
import { make } from "./shell.js";
import { paintHints, paintMask } from "./editor-paint.js";
import {
  NONE, SALT, addStep, changeBetween, countDiffering, drawStroke, fillPolygon, fillRegion, floodAbove, newSteps, redoStep, undoStep,
} from "./editor-pixels.js";

const ZOOMS = [0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8];
const HELP = "Keys: b brush, e eraser, p polygon, f fill, m move, [ and ] size, arrows and space draw, Enter closes a polygon, "
  + "Escape drops its corners, Ctrl+Z undo, Ctrl+Y redo, h hides the mask, + and − zoom, s saves.";

// `paint(context)` draws the picture, width x height; `save(mask)` gives {mask, words} or throws an Error with words,
// whose `isRefusal` says that nothing was saved for certain.
export function openEditor(host, { width, height, paint, mask, probability = null, save }) {
  needStyles();
  const state = {
    mask: Uint8Array.from(mask), saved: Uint8Array.from(mask), steps: newSteps(), tool: "brush", radius: 4, cut: 50, paints: SALT,
    points: [], cursor: null, stroke: null, saving: false, unsure: false, hidden: false, zoom: firstZoom(host, width, height),
  };
  const layers = ["picture", "mask", "hints"].map((name) => make("canvas", { id: `editor-canvas-${name}`, width, height }));
  const [picture, shown, hints] = layers;
  hints.setAttribute("tabindex", "0");
  hints.setAttribute("role", "application");
  hints.setAttribute("aria-label", `Picture of ${width} by ${height} pixels, to draw salt on. ${HELP}`);
  const contexts = layers.map((layer) => layer.getContext("2d"));
  const stage = make("div", { class: "editor-stage" }, ...layers);
  const words = make("p", { id: "editor-words", role: "status", text: "" });
  const error = make("p", { id: "editor-error", role: "alert", class: "editor-error", hidden: true });
  const controls = makeControls({ settings: state, hasProbability: Boolean(probability), choose, set, act });
  const root = make("div", { class: "editor", "data-own-keys": true },
    controls.root, error, make("div", { class: "editor-frame" }, stage), words,
    make("details", { class: "editor-help" }, make("summary", { text: "Keys" }), make("p", { text: HELP })));
  host.replaceChildren(root);
  paint(contexts[0]);
  listen();
  resize();
  redraw();

  function redraw(box = null) {
    if (state.hidden) contexts[1].clearRect(0, 0, width, height);
    else paintMask(contexts[1], state.mask, { width, height }, box);
    hint();
    controls.show({ ...state, dirty: isDirty() });
  }

  // Also where what is saved may be another mask than the page was told of.
  function isDirty() {
    return state.unsure || countDiffering(state.mask, state.saved) > 0;
  }

  // What would be lost with the editor: also corners that are no polygon yet.
  function isUnfinished() {
    return isDirty() || state.points.length > 0;
  }

  function hint() {
    const radius = state.tool === "brush" || state.tool === "eraser" ? state.radius : 0;
    paintHints(contexts[2], { width, height, cursor: state.cursor, radius, points: state.points });
  }

  function resize() {
    stage.style.width = `${Math.round(width * state.zoom)}px`;
    stage.style.height = `${Math.round(height * state.zoom)}px`;
    hints.classList.toggle("editor-moves", state.tool === "move");
  }

  // Corners stay where they are while another tool is used.
  function choose(tool) {
    state.tool = tool;
    resize();
    redraw();
  }

  function set(change) {
    Object.assign(state, change);
    redraw();
  }

  const ACTIONS = {
    undo() {
      if (state.tool === "polygon" && state.points.length) set({ points: state.points.slice(0, -1) });
      else step(undoStep, "undone");
    },
    redo: () => step(redoStep, "done again"),
    close: closePolygon,
    hide() {
      set({ hidden: !state.hidden });
    },
    in: () => zoomBy(1),
    out: () => zoomBy(-1),
    save: keep,
  };
  function act(name) {
    ACTIONS[name]();
  }

  function zoomBy(steps) {
    const place = ZOOMS.findIndex((zoom) => zoom >= state.zoom);
    state.zoom = ZOOMS[Math.min(Math.max((place < 0 ? ZOOMS.length - 1 : place) + steps, 0), ZOOMS.length - 1)];
    resize();
  }

  function step(change, told) {
    if (change(state.steps, state.mask)) words.textContent = `One change ${told}.`;
    redraw();
  }

  // Whatever `draw` changes becomes one step.
  function changed(draw) {
    const before = state.mask.slice();
    draw();
    addStep(state.steps, changeBetween(before, state.mask));
    redraw();
  }

  function valueOf() {
    return state.tool === "eraser" ? NONE : state.paints;
  }

  function strokeTo(from, to) {
    return drawStroke(state.mask, { width, height, from, to, radius: state.radius, value: valueOf() });
  }

  function closePolygon() {
    if (state.tool !== "polygon" || state.points.length < 3) return;
    const points = state.points;
    state.points = [];
    changed(() => fillPolygon(state.mask, { width, height, points, value: state.paints }));
  }

  function fillAt({ x, y }) {
    const region = floodAbove(probability, { width, height, x, y, cut: (state.cut / 100) * 255 });
    if (!region[y * width + x]) words.textContent = `The probability there is not above ${state.cut} %, so nothing was filled.`;
    changed(() => fillRegion(state.mask, region, state.paints));
  }

  // What the tool does at a point, all at once: for keys, and for tools that do not draw strokes.
  function useAt(point) {
    if (state.tool === "polygon") {
      state.points.push(point);
      redraw();
    } else if (state.tool === "fill") fillAt(point);
    else if (state.tool !== "move") changed(() => strokeTo(point, point));
  }

  function pointOf(event) {
    const box = hints.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * height);
    return { x: Math.min(Math.max(x, 0), width - 1), y: Math.min(Math.max(y, 0), height - 1) };
  }

  function listen() {
    hints.addEventListener("pointerdown", (event) => {
      if (event.button || state.tool === "move") return;
      event.preventDefault();
      hints.focus({ preventScroll: true });
      const point = pointOf(event);
      if (state.tool === "polygon" || state.tool === "fill") {
        useAt(point);
        return;
      }
      hints.setPointerCapture(event.pointerId);
      state.stroke = { before: state.mask.slice(), last: point };
      redraw(strokeTo(point, point));
    });
    hints.addEventListener("pointermove", (event) => {
      state.cursor = pointOf(event);
      if (!state.stroke) {
        hint();
        return;
      }
      const box = strokeTo(state.stroke.last, state.cursor);
      state.stroke.last = state.cursor;
      if (!state.hidden) paintMask(contexts[1], state.mask, { width, height }, box);
      hint();
    });
    const end = () => {
      if (!state.stroke) return;
      addStep(state.steps, changeBetween(state.stroke.before, state.mask));
      state.stroke = null;
      redraw();
    };
    hints.addEventListener("pointerup", end);
    hints.addEventListener("pointercancel", end);
    hints.addEventListener("pointerleave", () => {
      if (!state.stroke) state.cursor = null;
      hint();
    });
    hints.addEventListener("dblclick", closePolygon);
    root.addEventListener("keydown", onKey);
    window.addEventListener("beforeunload", warn);
  }

  function onKey(event) {
    const isTyping = event.target.matches("input, select, textarea");
    const isControl = event.ctrlKey || event.metaKey;
    if (isControl && event.key.toLowerCase() === "z") done(event, () => act(event.shiftKey ? "redo" : "undo"));
    else if (isControl && event.key.toLowerCase() === "y") done(event, () => act("redo"));
    else if (isControl || event.altKey || isTyping) return;
    else if (PLAIN_KEYS[event.key]) done(event, PLAIN_KEYS[event.key]);
    else if (event.target === hints && STEPS[event.key]) done(event, () => walk(STEPS[event.key], event.shiftKey ? 10 : 1));
    else if (event.target === hints && event.key === " ") done(event, () => useAt(state.cursor ?? centre()));
    else if (event.target === hints && event.key === "Enter") done(event, closePolygon);
  }

  const PLAIN_KEYS = {
    b: () => choose("brush"), e: () => choose("eraser"), p: () => choose("polygon"), m: () => choose("move"),
    f: () => probability && choose("fill"), h: () => act("hide"), s: keep, "+": () => zoomBy(1), "-": () => zoomBy(-1),
    "[": () => set({ radius: Math.max(state.radius - 1, 0) }), "]": () => set({ radius: Math.min(state.radius + 1, 40) }),
    Escape: () => set({ points: [] }),
  };
  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function done(event, doIt) {
    event.preventDefault();
    event.stopPropagation();
    doIt();
  }

  function centre() {
    return { x: width >> 1, y: height >> 1 };
  }

  function walk([dx, dy], by) {
    const { x, y } = state.cursor ?? centre();
    state.cursor = { x: Math.min(Math.max(x + dx * by, 0), width - 1), y: Math.min(Math.max(y + dy * by, 0), height - 1) };
    words.textContent = `Column ${state.cursor.x + 1}, row ${state.cursor.y + 1}.`;
    hint();
  }

  async function keep() {
    if (state.saving || !isDirty()) return;
    set({ saving: true });
    error.hidden = true;
    const sent = state.mask.slice();
    try {
      const answer = await save(sent);
      // What was drawn while it was being saved stays drawn, on what came back.
      for (let place = 0; place < sent.length; place++) {
        if (state.mask[place] === sent[place]) state.mask[place] = answer.mask[place];
      }
      if (countDiffering(sent, answer.mask)) state.steps = newSteps();
      state.saved = Uint8Array.from(answer.mask);
      state.unsure = false;
      words.textContent = answer.words;
    } catch (problem) {
      state.unsure ||= !problem.isRefusal;
      error.textContent = `${problem.isRefusal ? "Not saved" : "It is not known whether this was saved"}: ${problem.message}`;
      error.hidden = false;
    }
    set({ saving: false });
    if (isFocusLost()) focusOn(hints); // what pressed Save cannot have it any more
  }

  function warn(event) {
    if (isUnfinished()) event.preventDefault();
  }

  return {
    mask: () => state.mask.slice(),
    isDirty: isUnfinished,
    leave() {
      window.removeEventListener("beforeunload", warn);
    },
  };
}

// As large as there is room, in steps.
function firstZoom(host, width, height) {
  const room = Math.max(host.clientWidth - 12, 200);
  const fits = (zoom) => zoom * width <= room && zoom * height <= 0.7 * window.innerHeight;
  return ZOOMS.filter(fits).pop() ?? ZOOMS[0];
}
