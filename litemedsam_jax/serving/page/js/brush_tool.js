// Brush and eraser: a disc in the plane that is shown, in any of the three planes.

import { api } from "./api.js";
import { encode, join } from "./runs.js";
import { change } from "./session.js";
import { say } from "./status.js";
import { canEdit, emit, labelOf, store } from "./store.js";

export class BrushTool {
  constructor(adds) {
    this.adds = adds;
    this.stroke = null;
    this.at = null; // where the cursor is, for its circle
  }

  get cursor() { return "none"; }

  resize(steps) {
    store.brush = Math.min(Math.max(Math.round(store.brush * 1.15 ** -steps - Math.sign(steps)), 1), 400);
    emit("brush");
  }

  down(pane, place) {
    if (!canEdit()) return false;
    const label = labelOf(store.label);
    if (!label) return false;
    if (label.locked) {
      say(`${label.name} is locked; unlock it to change it (L).`, true);
      return false;
    }
    const mask = new Uint8Array(pane.rows * pane.columns);
    const locked = new Set(store.labels.filter((l) => l.locked).map((l) => l.value));
    this.stroke = { pane, mask, bounds: null, label: label.value, locked, last: place };
    this.stamp(place);
    return true;
  }

  move(pane, place) {
    this.at = { pane, place };
    if (this.stroke?.pane === pane) this.line(place);
    pane.drawOverlay();
  }

  // Discs from where the last one was, half a radius apart.
  line(place) {
    const { last } = this.stroke;
    const far = Math.hypot(place.u - last.u, place.v - last.v);
    const steps = Math.max(1, Math.ceil(far / Math.max(store.brush / 4, 0.5)));
    for (let k = 1; k <= steps; k++) {
      this.stamp({ u: last.u + (place.u - last.u) * k / steps, v: last.v + (place.v - last.v) * k / steps });
    }
    this.stroke.last = place;
  }

  stamp({ u, v }) {
    const { pane, mask } = this.stroke;
    const [su, sv] = pane.view.size;
    const radius = store.brush / 2;
    const x0 = Math.max(Math.floor(u - radius / su), 0), x1 = Math.min(Math.ceil(u + radius / su) + 1, pane.columns);
    const y0 = Math.max(Math.floor(v - radius / sv), 0), y1 = Math.min(Math.ceil(v + radius / sv) + 1, pane.rows);
    if (x0 >= x1 || y0 >= y1) return;
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) {
        const far = Math.hypot((x + 0.5 - u) * su, (y + 0.5 - v) * sv);
        if (far <= radius || (Math.floor(u) === x && Math.floor(v) === y)) mask[y * pane.columns + x] = 1;
      }
    }
    const bounds = [x0, y0, x1, y1];
    this.stroke.bounds = join(this.stroke.bounds, bounds);
    pane.labels.tryStroke(mask, bounds, { ...this.stroke, adds: this.adds });
    pane.drawLabels();
  }

  async up(pane) {
    const stroke = this.stroke;
    this.stroke = null;
    if (!stroke?.bounds) return;
    const mask = encode(stroke.mask, pane.columns, stroke.bounds);
    const request = { axis: pane.plane.axis, index: pane.index, label: stroke.label, adds: this.adds, mask };
    if (!(await change((id) => api.paint(id, request)))) pane.try(null);
  }

  cancel() {
    const pane = this.stroke?.pane;
    this.stroke = null;
    pane?.try(null);
    return Boolean(pane);
  }

  leave() { this.at = null; }

  draw(context, pane) {
    if (this.at?.pane !== pane) return;
    const [x, y] = pane.view.toScreen(this.at.place.u, this.at.place.v);
    const radius = Math.max(store.brush / 2 * pane.view.zoom, 1.5);
    for (const [width, colour] of [[3, "#000a"], [1.2, this.adds ? labelOf(store.label)?.colour ?? "#fff" : "#fff"]]) {
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    }
  }
}
