// Which entry of the browser's history is shown, so that a person who does not want to leave a view stays where it is.

let place = history.state?.place ?? 0;
let kept = null;
// Entries are told apart from the first on, even where the next is gone to before there is a view.
history.replaceState({ place }, "");

// The entry that was gone to is the one that is shown.
export function settle() {
  place = history.state?.place ?? place + 1;
  history.replaceState({ place }, "");
}

// Back, or on, to the entry that is shown; what was gone to stays in the history.
export function stay({ oldURL }) {
  kept = oldURL;
  history.go(place - (history.state?.place ?? place + 1) || -1); // 0 would load the page anew
}

// Whether the address has changed because `stay` went back.
export function hasStayed({ newURL }) {
  const isBack = kept === newURL;
  kept = null;
  return isBack;
}

// Another address for the entry that is shown.
export const readdress = (address) => history.replaceState({ place }, "", address);
