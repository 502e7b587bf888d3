import { make } from "./shell.js";

// Styles of the editor and of review, once for a page that did not bring them.
export function needStyles() {
  const address = new URL("review.css", import.meta.url).href;
  if ([...document.styleSheets].some((sheet) => sheet.href === address)) return;
  if (document.querySelector("link[data-review]")) return;
  document.head.append(make("link", { rel: "stylesheet", href: address, "data-review": true }));
}
