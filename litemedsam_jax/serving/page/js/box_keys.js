// Boxes without a mouse: one at the middle of the view, moved and resized by the arrows.

import { api } from "./api.js";
import { boxesOn } from "./overlay.js";
import { change } from "./session.js";
import { mainPane } from "./stage.js";
import { canEdit, emit, labelOf, layerOf, store } from "./store.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
let pending = null; // what the arrows add up to while a request is under way

export async function boxByKeys() {
  const pane = mainPane();
  if (!canEdit() || pane.plane.axis !== 0 || !labelOf(store.label)) return;
  const { clientWidth: width, clientHeight: height } = pane.element;
  const [u, v] = pane.view.toPixel(width / 2, height / 2).map(Math.floor);
  const half = Math.max(4, Math.round(Math.min(pane.rows, pane.columns) / 10));
  const box = fit([u - half, v - half, u + half, v + half], pane);
  const adds = store.tool !== "subtract";
  await put({ slice: pane.index, box, label: store.label, adds, layer: null, threshold: 0 });
}

export function nextBox(step) {
  const boxes = boxesOn(mainPane());
  if (!boxes.length) return;
  const at = boxes.findIndex((layer) => layer.number === store.selected);
  const next = boxes[(at + step + boxes.length) % boxes.length];
  store.selected = next.number;
  store.label = next.label;
  emit("labels");
  emit("selected");
}

// Gives false where there is no box to move.
export function moveByKeys(event) {
  const layer = layerOf(store.selected);
  const pane = mainPane();
  if (!layer?.box || layer.slice !== pane.index || !canEdit()) return false;
  const [du, dv] = pane.view.stepOf(...STEPS[event.key]).map((step) => step * (event.shiftKey ? 10 : 1));
  const [x0, y0, x1, y1] = pending?.layer === layer.number ? pending.box : layer.box;
  const box = event.ctrlKey || event.metaKey
    ? [x0, y0, Math.max(x1 + du, x0), Math.max(y1 + dv, y0)]
    : [x0 + du, y0 + dv, x1 + du, y1 + dv];
  put({
    slice: layer.slice, box: fit(box, pane), label: layer.label, adds: layer.adds,
    layer: layer.number, threshold: layer.threshold,
  });
  return true;
}

async function put(request) {
  if (pending) { // one at a time: the arrows' last word is sent after it
    pending.box = request.box;
    pending.next = request;
    return;
  }
  pending = { layer: request.layer, box: request.box, next: null };
  const state = await change((id) => api.putBox(id, request));
  const { next } = pending;
  pending = null;
  if (state) {
    store.selected = state.layer;
    emit("selected");
  }
  if (next) await put({ ...next, layer: state?.layer ?? next.layer });
}

function fit([x0, y0, x1, y1], pane) {
  const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
  return [within(x0, pane.columns), within(y0, pane.rows), within(x1, pane.columns), within(y1, pane.rows)];
}
