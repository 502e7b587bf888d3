// Which part of a section is seen: zoomed by wheel and buttons, moved by dragging.

const LEAST = 16; // rows or columns that are still seen

export const wholeView = (section) => ({ left: 0, top: 0, right: section.columns, bottom: section.rows });

// The view by `factor` as wide and as high, with the pixel `at` where it was; never beyond the section.
export function zoomed(view, section, { factor, at }) {
  const width = Math.min(Math.max((view.right - view.left) * factor, Math.min(LEAST, section.columns)), section.columns);
  const height = Math.min(Math.max((view.bottom - view.top) * factor, Math.min(LEAST, section.rows)), section.rows);
  const x = at ? at.column + 0.5 : (view.left + view.right) / 2;
  const y = at ? at.row + 0.5 : (view.top + view.bottom) / 2;
  const left = x - ((x - view.left) / (view.right - view.left)) * width;
  const top = y - ((y - view.top) / (view.bottom - view.top)) * height;
  return within({ left, top, right: left + width, bottom: top + height }, section);
}

function within(view, section) {
  const width = view.right - view.left;
  const height = view.bottom - view.top;
  const left = Math.min(Math.max(view.left, 0), section.columns - width);
  const top = Math.min(Math.max(view.top, 0), section.rows - height);
  return { left, top, right: left + width, bottom: top + height };
}

export function followPointer(stage, canvas, { state, signal, repaint, point }) {
  let drag = null;
  const isWhole = () => state.view.right - state.view.left >= state.section.columns && state.view.bottom - state.view.top >= state.section.rows;
  const pixelAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const { left, right, top, bottom } = state.view;
    const column = Math.floor(left + ((event.clientX - box.left) / box.width) * (right - left));
    const row = Math.floor(top + ((event.clientY - box.top) / box.height) * (bottom - top));
    const isInside = column >= 0 && row >= 0 && column < state.section.columns && row < state.section.rows;
    return isInside ? { column, row } : null;
  };
  canvas.addEventListener("pointermove", (event) => {
    if (!state.section) return;
    if (drag) {
      const across = ((drag.x - event.clientX) / canvas.clientWidth) * (drag.view.right - drag.view.left);
      const down = ((drag.y - event.clientY) / canvas.clientHeight) * (drag.view.bottom - drag.view.top);
      const { left, right, top, bottom } = drag.view;
      state.view = within({ left: left + across, right: right + across, top: top + down, bottom: bottom + down }, state.section);
      repaint();
    }
    point(pixelAt(event));
  }, { signal });
  canvas.addEventListener("pointerdown", (event) => {
    if (!state.section || event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    drag = { x: event.clientX, y: event.clientY, view: { ...state.view } };
  }, { signal });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { drag = null; }, { signal });
  canvas.addEventListener("pointerleave", () => state.section && point(null), { signal });
  canvas.addEventListener("dblclick", () => {
    if (!state.section) return;
    state.view = wholeView(state.section);
    repaint();
  }, { signal });
  stage.addEventListener("wheel", (event) => {
    if (!state.section || (isWhole() && event.deltaY > 0)) return; // the page scrolls on
    event.preventDefault();
    state.view = zoomed(state.view, state.section, { factor: Math.exp(event.deltaY * 0.0015), at: pixelAt(event) });
    canvas.style.touchAction = isWhole() ? "pan-y" : "none";
    repaint();
  }, { signal, passive: false });
}
