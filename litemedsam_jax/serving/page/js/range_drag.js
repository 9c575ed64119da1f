// A box drawn in another plane says between which slices a label's object lies.

import { api } from "./api.js";
import { stroke } from "./overlay.js";
import { change } from "./session.js";
import { say } from "./status.js";
import { canEdit, labelOf, store } from "./store.js";

export class RangeDrag {
  constructor(pane, place) {
    this.pane = pane;
    this.from = place;
    this.to = place;
  }

  move(place) {
    this.to = place;
    this.pane.drawOverlay();
  }

  get ends() {
    const last = this.pane.rows - 1;
    const rows = [this.from.v, this.to.v].map((v) => Math.min(Math.max(Math.floor(v), 0), last));
    return [Math.min(...rows), Math.max(...rows)];
  }

  async keep() {
    const [first, last] = this.ends;
    const label = labelOf(store.label);
    if (!canEdit() || !label) return;
    const done = await change((id) => api.putRange(id, { label: label.value, first, last }));
    if (done) say(`${label.name} lies between slices ${first + 1} and ${last + 1}; G propagates within them.`);
  }

  draw(context) {
    drawRange(context, this.pane, this.ends, labelOf(store.label)?.colour ?? "#fff");
  }
}

// The rows of other planes are native slices: a range is a band across them.
export function drawRange(context, pane, [first, last], colour) {
  context.setLineDash([7, 5]);
  for (const row of [first, last + 1]) {
    const [from, to] = [pane.view.toScreen(0, row), pane.view.toScreen(pane.columns, row)];
    stroke(context, from, to, 3, "#000a");
    stroke(context, from, to, 1.3, colour);
  }
  context.setLineDash([]);
}
