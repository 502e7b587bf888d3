// Elements, in as few words as they need.

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (key === "text") element.textContent = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Styles of the editor and of review, once for a page that did not bring them.
export function needStyles() {
  const address = new URL("review.css", import.meta.url).href;
  if ([...document.styleSheets].some((sheet) => sheet.href === address)) return;
  if (document.querySelector("link[data-review]")) return;
  document.head.append(make("link", { rel: "stylesheet", href: address, "data-review": true }));
}
