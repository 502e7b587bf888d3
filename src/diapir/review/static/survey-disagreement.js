// Where members disagree most: waited for, listed, and gone to one after the other.
import { alertWords, askJson, byId, make, pause, told } from "./shell.js";
import { worstPlaces } from "./survey-profile.js";

export function followDisagreement({ survey, url, signal, axes, profile, go, onready }) {
  let along = "inline";
  let worst = [];
  let jumps = 0;

  async function wait() {
    try {
      while (survey.disagreement.state === "reading") {
        if (byId("disagreement-words")) byId("disagreement-words").textContent = `${survey.disagreement.words}…`;
        await pause(1000, signal);
        survey.disagreement = (await askJson(url, { signal })).disagreement;
      }
      show(along);
      onready();
    } catch (error) {
      told(error);
    }
  }

  // The list and the curve of a direction.
  function show(direction) {
    along = direction;
    jumps = 0;
    const words = byId("disagreement-words");
    const found = survey.disagreement;
    if (!words || found.state === "reading") return;
    if (found.state !== "ready") {
      words.textContent = found.words;
      if (found.state === "failed") alertWords(found.words);
      return;
    }
    const means = found[along];
    worst = worstPlaces(means);
    profile.show(means);
    words.textContent = `Between models, directions and overlapping tiles: mean of each ${along === "sample" ? "slice" : along}.`;
    byId("jump").disabled = !worst.length;
    byId("worst").replaceChildren(...worst.map((place) => make("li", {}, make("button", {
      type: "button", class: "plain", text: axes.title(along, place), onclick: (event) => go(place, event.timeStamp),
    }), ` ${means[place].toFixed(4)}`)));
  }

  return {
    wait,
    show,
    meanAt: (direction, place) => survey.disagreement[direction]?.[place] ?? null,
    // The next of the worst, and the one after it, to be fetched already.
    jump(event) {
      if (!worst.length) return null;
      go(worst[jumps % worst.length], event.timeStamp);
      jumps += 1;
      return worst[jumps % worst.length];
    },
  };
}
