// A page to try review on: #NAME shows the review of a source, and the functions on pixels are at hand for tests.
import * as pixels from "/static/editor-pixels.js";
import { showReview } from "/static/review.js";

window.pixels = pixels;
const source = decodeURIComponent(location.hash.slice(1));
const shown = await showReview(document.getElementById("view"), source, new AbortController().signal);
window.openTarget = (target) => shown.open(target);
window.editor = () => shown.editor();
document.documentElement.dataset.ready = "true";
