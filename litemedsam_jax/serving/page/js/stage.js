// The panes: which are shown, what pointer and wheel do in them.

import { api } from "./api.js";
import { Pane } from "./pane.js";
import { fail, showReady } from "./status.js";
import { emit, on, store } from "./store.js";
import { toSlice } from "./view.js";

const root = document.getElementById("panes");
const ENCODE_AFTER = 60; // ms that the mouse rests on a slice before it is encoded
let panes = [];
let focus = null;
let tools = {};
let gesture = null; // "tool", "pan", "window"
let last = null;
let encodeTimer = 0;
let encoded = null; // the slice that was asked for last
let isReady = false;
let spaceDown = false;

export const currentTool = () => tools[store.tool];
export const focusPane = () => focus ?? panes[0];
export const allPanes = () => panes;
export const allTools = () => tools;
export const mainPane = () => panes.find((pane) => pane.plane.axis === 0) ?? panes[0];

export function setTools(known) { tools = known; }
export function setSpace(down) { spaceDown = down; showCursor(); }

export function build() {
  for (const pane of panes) pane.remove();
  const planes = store.case.planes;
  const three = store.layout === "three" && store.case.shape[0] > 1;
  const first = planes[three ? store.main : store.single];
  const shown = three ? [first, ...planes.filter((p) => p !== first)] : [first];
  root.className = three ? "three" : "one";
  panes = shown.map((plane) => new Pane(root, plane));
  for (const pane of panes) listen(pane);
  setFocus(panes[0]);
  followPosition();
}

function followPosition() {
  for (const pane of panes) pane.show(toSlice(pane.plane.axis, store.position).index);
}

// Scrolls a pane; the other panes stay where the cursor was.
export function scroll(pane, steps) {
  const place = toSlice(pane.plane.axis, store.position);
  const index = Math.min(Math.max(pane.wanted + steps, 0), pane.count - 1);
  if (index === pane.wanted && pane.slice) return;
  const order = { 0: [place.u, place.v, index], 1: [place.u, index, place.v], 2: [index, place.u, place.v] };
  store.position = order[pane.plane.axis];
  pane.show(index);
  emit("position");
}

function redraw() { for (const pane of panes) pane.drawOverlay(); }

function setFocus(pane) {
  focus = pane;
  for (const other of panes) other.element.classList.toggle("focus", other === pane && panes.length > 1);
}

function showCursor() {
  const cursor = gesture === "pan" ? "grabbing" : spaceDown ? "grab" : currentTool()?.cursor ?? "default";
  for (const pane of panes) pane.element.style.cursor = cursor;
}

function listen(pane) {
  const element = pane.element;
  element.addEventListener("pointerdown", (event) => down(pane, event));
  element.addEventListener("pointermove", (event) => move(pane, event));
  element.addEventListener("pointerup", (event) => up(pane, event));
  element.addEventListener("pointercancel", () => { currentTool()?.cancel(); gesture = null; });
  element.addEventListener("pointerleave", () => { pane.tool?.leave?.(pane); pane.drawOverlay(); });
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("wheel", (event) => wheel(pane, event), { passive: false });
}

function down(pane, event) {
  if (gesture || !pane.slice) return;
  document.activeElement?.blur();
  setFocus(pane);
  pane.element.setPointerCapture(event.pointerId);
  last = { x: event.clientX, y: event.clientY };
  const place = pane.where(event);
  if (event.button === 2) gesture = "window";
  else if (event.button === 1 || spaceDown || store.tool === "pan") gesture = "pan";
  else if (currentTool()?.down(pane, place, event)) gesture = "tool";
  showCursor();
}

function move(pane, event) {
  const place = pane.where(event);
  const dx = event.clientX - (last?.x ?? event.clientX), dy = event.clientY - (last?.y ?? event.clientY);
  if (gesture) last = { x: event.clientX, y: event.clientY };
  else if (focus !== pane) setFocus(pane); // keys go where the mouse is
  if (pane.inside(place) && pane.index >= 0 && gesture !== "window") {
    store.position = pane.voxel(place);
    emit("position");
  }
  if (gesture === "pan") {
    pane.view.move(dx, dy);
    pane.draw();
  } else if (gesture === "window") {
    const unit = Math.max(store.window.width, 1e-6) / 300;
    const width = Math.max(store.window.width + dx * unit, store.case.values.max > 2 ? 1 : 1e-6);
    store.window = { name: "", level: store.window.level + dy * unit, width };
    emit("window");
  } else {
    pane.tool = currentTool() ?? null;
    pane.tool?.move(pane, place, event);
  }
}

function up(pane, event) {
  const was = gesture;
  gesture = null;
  last = null;
  if (was === "tool") currentTool()?.up(pane, pane.where(event), event);
  showCursor();
}

function wheel(pane, event) {
  event.preventDefault();
  setFocus(pane);
  const { x, y } = pane.where(event);
  if (event.ctrlKey || store.case.flat) {
    pane.view.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), x, y);
    pane.draw();
  } else if (event.shiftKey && currentTool()?.resize) {
    currentTool().resize(Math.sign(event.deltaY || event.deltaX));
    pane.drawOverlay();
  } else if (gesture !== "tool") {
    scroll(pane, Math.sign(event.deltaY));
  }
}

// The slice that is encoded at is encoded while the user looks.
function encodeShown() {
  const pane = mainPane();
  const id = store.case?.id;
  if (!pane || pane.plane.axis !== 0 || pane.index < 0 || store.workspace.model.state !== "ready") {
    showReady("");
    return;
  }
  const key = `${id}/${pane.index}`;
  if (encoded === key) {
    showReady(isReady ? "yes" : "busy");
    return;
  }
  encoded = key;
  isReady = false;
  clearTimeout(encodeTimer);
  showReady("busy");
  encodeTimer = setTimeout(async () => {
    try {
      const answer = await api.encode(id, pane.index);
      if (!answer || encoded !== key) return;
      isReady = true;
      showReady("yes");
    } catch (error) {
      encoded = null;
      showReady("");
      fail(error);
    }
  }, ENCODE_AFTER);
}

on("case layout", build);
on("goto", followPosition);
on("brush", redraw);
on("case", () => { encoded = null; });
on("window", () => { for (const pane of panes) pane.repaint(); });
on("labels fill", () => { for (const pane of panes) pane.restyle(); });
on("selected measured", redraw);
on("tool", () => {
  for (const pane of panes) { pane.tool = currentTool() ?? null; pane.drawOverlay(); }
  showCursor();
});
on("masks", (slices) => {
  for (const pane of panes) {
    if (!slices || pane.plane.axis !== 0 || slices.includes(pane.index)) pane.refreshLabels();
    else pane.drawOverlay();
  }
});
on("shown workspace", encodeShown);
