// A survey: sections each way and time slices, what was found in them, and how sure that is.
import { LEVELS, colourTables } from "./colours.js";
import { openCorrection } from "./correction.js";
import { focusOn } from "./focus.js";
import { readdress } from "./history-places.js";
import { address, alertWords, askJson, byId, clearAlert, make, say, setKeys, timed, told } from "./shell.js";
import { makeAxes } from "./survey-axes.js";
import { DIRECTIONS, drawColourBar, makeControls, threshold, zoomButtons } from "./survey-controls.js";
import { followDisagreement } from "./survey-disagreement.js";
import { surveyKeys } from "./survey-keys.js";
import { makePainter, readingAt } from "./survey-paint.js";
import { makeProfile } from "./survey-profile.js";
import { openSections, pictureOf } from "./survey-sections.js";
import { keepSettings, keptSettings } from "./survey-settings.js";
import { followPointer, wholeView, zoomed } from "./survey-view.js";

const AHEAD = 6;
const BEHIND = 2;
const REST_MS = 150;

export async function showSurvey(host, [name, direction, number], signal) {
  const url = `/api/surveys/${address(name)}`;
  const [survey, maps] = await Promise.all([askJson(url, { signal }), colourTables()]);
  signal.throwIfAborted();
  const axes = makeAxes(survey);
  const settings = { ...keptSettings(), threshold: Math.round(survey.threshold * LEVELS) };
  if (!maps.has(settings.map)) settings.map = "grey";
  const state = { direction: "inline", place: 0, section: null, shown: null, view: null, cursor: null, heading: 1, loading: null, asked: 0, missing: "" };
  const sections = openSections(name, signal);
  const controls = makeControls({ survey, settings, change, move, turn, jump, correct, axes });
  const profile = makeProfile({ onpick: (place, event) => goTo(place, event.timeStamp) });
  const disagreement = followDisagreement({ survey, url, signal, axes, profile, go: goTo, onready: () => state.section && describe() });
  const { canvas, overlay, stage, waiting, reading } = layOut();
  const painter = makePainter(canvas, overlay);
  const keys = surveyKeys({ settings, change, move, turn, jump, zoom, correct });
  const resized = new ResizeObserver(fit);
  let later = 0;
  let resting = 0;
  let correction = null;

  function layOut() {
    const canvas = make("canvas", { id: "section", tabindex: 0, role: "img", "aria-label": "Section" });
    const overlay = make("canvas", { id: "axes", "aria-hidden": "true" });
    const waiting = make("p", { id: "waiting", hidden: true });
    const reading = make("p", { id: "reading", class: "reading", hidden: true });
    const stage = make("div", { id: "stage", class: "stage" }, canvas, overlay, waiting, reading, zoomButtons(zoom));
    host.className = "wide";
    host.replaceChildren(make("div", { class: "survey" },
      make("h1", { class: "unseen", text: `Survey ${name}` }),
      make("div", { class: "stage-column" }, controls.bar, make("div", { class: "slide" }, controls.place, profile.canvas), stage),
      controls.panel));
    return { canvas, overlay, stage, waiting, reading };
  }

  // Nobody waits for disagreement where it is not shown.
  const volumesShown = () => survey.volumes.filter((volume) => volume !== "mask" && (volume !== "disagreement" || settings.disagreement > 0));
  const wantedAt = (place) => ({ direction: state.direction, number: axes.numberAt(state.direction, place), volumes: volumesShown() });

  function turn(along, event) {
    if (along === state.direction) return;
    const under = placeUnderPointer(along);
    state.direction = along;
    setUpDirection();
    goTo(under ?? axes.middle(along), event?.timeStamp);
  }

  // Of the section that is shown, which may not be the one that is waited for.
  function placeUnderPointer(along) {
    if (!state.cursor) return null;
    const { direction, place } = state.shown;
    const { rows, columns } = axes.sides(direction);
    return { [direction]: place, [rows]: state.cursor.row, [columns]: state.cursor.column }[along];
  }

  function setUpDirection() {
    const { first, step } = axes.of(state.direction);
    byId(`direction-${state.direction}`).checked = true;
    controls.place.max = axes.last(state.direction);
    Object.assign(controls.number, { min: first, max: axes.valueAt(state.direction, axes.last(state.direction)), step: state.direction === "sample" ? "any" : step });
    byId("number-unit").textContent = state.direction === "sample" ? survey.unit : "";
    allowCorrection();
    disagreement.show(state.direction);
  }

  // Not before there is something to draw on.
  function allowCorrection() {
    if (byId("correct")) byId("correct").disabled = state.direction === "sample" || !state.section;
  }

  function move(placeOf, event) {
    goTo(placeOf(state.place), event.timeStamp);
  }

  function goTo(place, start = performance.now()) {
    const next = Math.min(Math.max(Number.isNaN(place) ? state.place : place, 0), axes.last(state.direction));
    state.heading = next < state.place ? -1 : 1;
    state.place = next;
    show(start);
  }

  // The section that is wanted, at once where it is at hand.
  async function show(start) {
    const wanted = wantedAt(state.place);
    controls.place.value = state.place;
    controls.number.value = axes.valueAt(state.direction, state.place);
    controls.place.setAttribute("aria-valuetext", axes.title(state.direction, state.place));
    remember();
    const found = sections.get(wanted);
    if (found) {
      put(found, start);
      return;
    }
    stage.setAttribute("aria-busy", "true");
    state.asked = start;
    // Of a quick walk only the section that it has come to is fetched next.
    if (state.loading !== state.direction) await load(state.direction);
  }

  async function load(direction) {
    state.loading = direction;
    for (let isDone = false; !isDone && state.direction === direction;) {
      const wanted = wantedAt(state.place);
      const isWanted = () => isSame(wanted, wantedAt(state.place));
      try {
        const section = await sections.fetchSection(wanted, (words) => isWanted() && wait(`${words}…`));
        isDone = isWanted();
        if (isDone) put(section, state.asked);
      } catch (error) {
        isDone = isWanted() || signal.aborted;
        if (isDone) fail(error);
      }
    }
    if (state.loading === direction) state.loading = null;
  }

  function fail(error) {
    state.missing = "";
    wait("");
    stage.removeAttribute("aria-busy");
    told(error);
  }

  function put(section, start) {
    const before = state.section;
    if (before?.direction !== section.direction) {
      state.view = wholeView(section);
      state.cursor = null; // here it would be another voxel, until the pointer tells anew where it is
    }
    state.section = section;
    allowCorrection();
    state.shown = { direction: state.direction, place: state.place };
    paint();
    timed("section", start);
    wait("");
    stage.removeAttribute("aria-busy");
    if (canvas.isConnected) clearAlert();
    if (state.missing) alertWords(state.missing);
    state.missing = "";
    describe();
    profile.move(state.place);
    fetchAhead();
  }

  function paint() {
    if (!state.section) {
      painter.clear();
      return;
    }
    painter.draw(state.section, { settings, view: state.view, maps });
    drawAxes();
  }

  function drawAxes() {
    const { rows, columns } = axes.sides(state.section.direction);
    painter.drawAxes({ rows: axes.of(rows), columns: axes.of(columns) }, state.view, state.cursor);
  }

  function fetchAhead(first = []) {
    const places = [...first];
    for (let step = 1; step <= AHEAD; step++) {
      places.push(state.place + step * state.heading);
      if (step <= BEHIND) places.push(state.place - step * state.heading);
    }
    // A slice of another slab would have the whole volume read.
    const slab = (place) => (state.direction === "sample" ? Math.floor(place / survey.slices_together) : 0);
    const isNear = (place) => place >= 0 && place <= axes.last(state.direction) && slab(place) === slab(state.place);
    sections.fetchAhead(places.filter(isNear).map(wantedAt));
  }

  function change(part, event) {
    const start = event?.timeStamp ?? performance.now();
    Object.assign(settings, part);
    if ("threshold" in part) controls.cut.set(settings.threshold);
    if (["map", "window", "level", "flip"].some((each) => each in part)) drawColourBar(maps, settings);
    remember();
    if (!state.section) return;
    const lacks = volumesShown().some((volume) => !state.section.planes[volume]);
    if (lacks) show(start);
    else if ("disagreement" in part) fetchAhead();
    paint();
    if ("threshold" in part) {
      timed("threshold", start);
      describe();
    }
  }

  // Not behind an editor, which has words of its own.
  function describe() {
    if (!canvas.isConnected) return;
    const { salt } = state.section;
    const words = [axes.title(state.shown.direction, state.shown.place)];
    if (salt) words.push(salt.total ? `${((100 * salt.above[settings.threshold]) / salt.total).toFixed(1)} % salt above ${threshold(settings.threshold)}` : "no live trace");
    const mean = disagreement.meanAt(state.shown.direction, state.shown.place);
    if (mean !== null) words.push(`mean disagreement ${mean.toFixed(3)}`);
    canvas.setAttribute("aria-label", words.join(", "));
    say(words.join(" · "));
    readAt(state.cursor);
  }

  function readAt(cursor) {
    const { rows, columns } = axes.sides(state.shown.direction);
    reading.hidden = !cursor;
    if (!cursor) return;
    reading.textContent = [axes.words(columns, cursor.column), axes.words(rows, cursor.row), readingAt(state.section, cursor, survey)].join(" · ");
    readDisagreement(state.section);
  }

  // When the pointer rests on a section. Of a time slice the whole volume would be read for it.
  function readDisagreement(section) {
    clearTimeout(resting);
    if (section.direction === "sample" || section.planes.disagreement || !survey.volumes.includes("disagreement")) return;
    const isLookedAt = () => section === state.section && state.cursor;
    resting = setTimeout(async () => {
      if (isLookedAt() && await sections.fill(section, "disagreement") && isLookedAt()) readAt(state.cursor);
    }, REST_MS);
  }

  function point(cursor) {
    state.cursor = cursor;
    drawAxes();
    readAt(cursor);
  }

  function wait(words) {
    waiting.textContent = words;
    waiting.hidden = !words;
    if (words) say(words);
  }

  function jump(event) {
    const next = disagreement.jump(event);
    if (next !== null) sections.fetchAhead([wantedAt(next)]);
  }

  function zoom(factor) {
    if (!state.section) return;
    state.view = factor ? zoomed(state.view, state.section, { factor, at: state.cursor }) : wholeView(state.section);
    paint();
  }

  function correct() {
    const { section } = state;
    if (!section?.planes.amplitude || section.direction === "sample") return;
    stayAtShown();
    correction?.leave();
    correction = openCorrection({
      host, source: name, title: axes.title(section.direction, state.shown.place).toLowerCase(),
      target: { kind: section.direction, name: String(section.number) },
      picture: pictureOf(section, maps.get(settings.map)),
      onclose() {
        setKeys(keys);
        fit();
        describe();
        disagreement.show(state.direction); // it may have come meanwhile
        focusOn(byId("correct"));
      },
    });
  }

  // Another section that is on its way is not wanted any more.
  function stayAtShown() {
    const { direction, place } = state.shown;
    if (state.direction === direction && state.place === place) return;
    state.direction = direction;
    setUpDirection();
    goTo(place);
  }

  // The address and the settings follow, but not at every step of a quick walk.
  function remember() {
    clearTimeout(later);
    later = setTimeout(() => {
      const own = `#/survey/${address(name, state.direction, String(axes.numberAt(state.direction, state.place)))}`;
      if (location.hash !== own) readdress(own);
      keepSettings(settings);
    }, 200);
  }

  function fit() {
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    for (const each of [canvas, overlay]) {
      const width = Math.max(1, Math.round(each.clientWidth * scale));
      const height = Math.max(1, Math.round(each.clientHeight * scale));
      if (each.width !== width || each.height !== height) [each.width, each.height] = [width, height];
    }
    paint();
  }

  function startAt(along, wanted) {
    state.direction = DIRECTIONS.some(([known]) => known === along) ? along : "inline";
    const place = wanted === undefined ? axes.middle(state.direction) : axes.placeOf(state.direction, Number(wanted));
    const isThere = Number.isInteger(place) && place >= 0 && place <= axes.last(state.direction);
    setUpDirection();
    // Said when a section is shown, which takes away what was said before it.
    state.missing = isThere ? "" : `There is no ${state.direction} ${wanted} in ${name}; the middle one is shown.`;
    goTo(isThere ? place : axes.middle(state.direction));
  }

  followPointer(stage, canvas, { state, signal, repaint: paint, point });
  controls.place.addEventListener("input", (event) => goTo(Number(controls.place.value), event.timeStamp));
  resized.observe(stage);
  setKeys(keys);
  drawColourBar(maps, settings);
  startAt(direction, number);
  disagreement.wait();
  return {
    isDirty: () => correction?.isDirty() ?? false,
    leave() {
      correction?.leave();
      resized.disconnect();
      profile.leave();
      clearTimeout(later);
      clearTimeout(resting);
    },
    follow(kind, [otherName, along, wanted]) {
      if (kind !== "survey" || otherName !== name || !canvas.isConnected) return false;
      zoom(0);
      startAt(along, wanted);
      return true;
    },
  };
}

function isSame(one, other) {
  return one.direction === other.direction && one.number === other.number && one.volumes.join() === other.volumes.join();
}
