// Where the keys, and who hears the page read, go on when what had the focus is replaced.

// To the first of these that is there and can be used; a heading can then be focused as well.
export function focusOn(...elements) {
  for (const element of elements.filter((each) => each?.isConnected)) {
    if (element.tabIndex < 0) element.setAttribute("tabindex", "-1");
    element.focus({ preventScroll: true });
    if (document.activeElement === element) return;
  }
}

export const headingOf = (host) => host.querySelector("h1");
export const headingOfPanel = (body) => body.parentElement.querySelector("h2");

// What was replaced, or disabled while it had the focus, leaves it to nobody.
export const isFocusLost = () => document.activeElement === null || document.activeElement === document.body;
