// Which entry of the browser's history is shown, so that a person who does not want to leave a view stays where it is.

let place = 0;
let kept = null;

// The entry that was gone to is the one that is shown.
export function settle() {
  place = history.state?.place ?? place + 1;
  history.replaceState({ place }, "");
}

// Back, or on, to the entry that is shown, whose address ends in `hash`: what was gone to stays in the history.
export function stay(hash) {
  kept = hash;
  history.go(place - (history.state?.place ?? place + 1) || -1); // 0 would load the page anew
}

// Whether the address has changed because `stay` went back.
export function hasStayed() {
  const isBack = kept === location.hash;
  kept = null;
  return isBack;
}

// Another address for the entry that is shown.
export const readdress = (address) => history.replaceState({ place }, "", address);
