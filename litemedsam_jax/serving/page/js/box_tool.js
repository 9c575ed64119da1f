// Boxes: drawn, moved and resized, while the mask follows.

import { api } from "./api.js";
import { Follower } from "./follower.js";
import { boxesOn, drawBox, handleAt } from "./overlay.js";
import { RangeDrag } from "./range_drag.js";
import { change, goTo } from "./session.js";
import { fail, say } from "./status.js";
import { canEdit, emit, labelOf, store } from "./store.js";

const CLICK = 3; // pixels of the screen; less is no drag

export class BoxTool {
  constructor(adds) {
    this.adds = adds;
    this.drag = null;
    this.range = null; // drawn in another plane
    this.replaces = null; // the number of the box that is dragged
    this.follower = new Follower(
      (request) => api.predict(store.case.id, request).catch((error) => (fail(error), null)),
      ({ patch }) => this.drag?.pane.try(patch),
    );
  }

  get cursor() { return "crosshair"; }

  down(pane, place, event) {
    if (pane.plane.axis !== 0) {
      this.range = new RangeDrag(pane, place);
      return true;
    }
    const selected = boxesOn(pane).find((layer) => layer.number === store.selected);
    const handle = selected && handleAt(pane.view, selected.box, place.x, place.y);
    const within = selected && contains(selected.box, place);
    if (selected && (handle || (within && !event.shiftKey))) {
      this.begin(pane, place, selected.box, { moves: handle?.moves ?? "all", layer: selected });
    } else {
      const [u, v] = [place.u, place.v].map(Math.floor);
      this.begin(pane, place, [u, v, u, v], { moves: "x1y1", layer: null });
    }
    return true;
  }

  begin(pane, place, box, { moves, layer }) {
    this.drag = { pane, from: place, start: box, box, moves, layer, moved: false };
    this.replaces = layer?.number ?? null;
  }

  move(pane, place) {
    if (this.range) {
      this.range.move(place);
      return;
    }
    const drag = this.drag;
    if (!drag) return;
    const far = Math.hypot(place.x - drag.from.x, place.y - drag.from.y);
    if (!drag.moved && far < CLICK) return;
    drag.moved = true;
    drag.box = moved(drag, place, pane);
    pane.drawOverlay();
    this.follow();
  }

  follow() {
    if (store.workspace.model.state === "missing") {
      say("There is no model, so no mask; brush and eraser work. See the lower right.", true);
      return;
    }
    this.follower.ask(this.request());
  }

  request() {
    const { box, layer, pane } = this.drag;
    return {
      slice: pane.index,
      box: inOrder(box),
      label: layer?.label ?? store.label,
      adds: layer?.adds ?? this.adds,
      layer: layer?.number ?? null,
      threshold: layer?.threshold ?? 0,
    };
  }

  async up(pane, place) {
    if (this.range) {
      const { range } = this;
      this.range = null;
      if (Math.hypot(place.x - range.from.x, place.y - range.from.y) >= CLICK) await range.keep();
      else goTo(pane, place);
      pane.drawOverlay();
      return;
    }
    const drag = this.drag;
    if (!drag) return;
    if (!drag.moved) {
      this.finish();
      this.click(pane, drag.from);
      return;
    }
    if (!canEdit()) { // tried, not kept
      this.cancel();
      return;
    }
    const request = this.request();
    this.follower.stop();
    this.drag = { ...drag, box: request.box };
    const state = await change((id) => api.putBox(id, request));
    if (state) {
      store.selected = state.layer;
      const [x0, y0, x1, y1] = request.box;
      store.position = [(x0 + x1) >> 1, (y0 + y1) >> 1, request.slice];
      emit("selected");
      emit("goto"); // the other planes show it too
    } else {
      pane.try(null);
    }
    if (this.drag?.from === drag.from) this.finish();
    pane.drawOverlay();
  }

  click(pane, place) {
    const hit = boxesOn(pane).filter((layer) => contains(layer.box, place, 4 / pane.view.zoom))
      .sort((a, b) => area(a.box) - area(b.box))[0];
    store.selected = hit && hit.number !== store.selected ? hit.number : null;
    if (hit && store.selected) store.label = hit.label;
    emit("labels");
    emit("selected");
  }

  finish() {
    this.drag = null;
    this.replaces = null;
  }

  cancel() {
    const pane = this.drag?.pane ?? this.range?.pane;
    this.range = null;
    this.follower.stop();
    this.finish();
    pane?.try(null);
    pane?.drawOverlay();
    return Boolean(pane);
  }

  draw(context, pane) {
    if (this.range?.pane === pane) this.range.draw(context);
    if (this.drag?.pane !== pane || (!this.drag.moved && !this.drag.layer)) return;
    const { layer, box } = this.drag;
    const colour = labelOf(layer?.label ?? store.label)?.colour ?? "#fff";
    drawBox(context, pane.view, inOrder(box), colour, { adds: layer?.adds ?? this.adds, selected: true });
  }
}

function moved({ start, from, moves }, place, pane) {
  let [x0, y0, x1, y1] = start;
  let du = Math.round(place.u - from.u), dv = Math.round(place.v - from.v);
  if (moves === "all") {
    du = Math.min(Math.max(du, -x0), pane.columns - 1 - x1);
    dv = Math.min(Math.max(dv, -y0), pane.rows - 1 - y1);
    return [x0 + du, y0 + dv, x1 + du, y1 + dv];
  }
  const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
  if (start[0] === start[2] && start[1] === start[3]) { // a new box: to the pixel under the mouse
    return [within(x0, pane.columns), within(y0, pane.rows),
      within(Math.floor(place.u), pane.columns), within(Math.floor(place.v), pane.rows)];
  }
  if (moves.includes("x0")) x0 = within(x0 + du, pane.columns);
  if (moves.includes("x1")) x1 = within(x1 + du, pane.columns);
  if (moves.includes("y0")) y0 = within(y0 + dv, pane.rows);
  if (moves.includes("y1")) y1 = within(y1 + dv, pane.rows);
  return [x0, y0, x1, y1];
}

const inOrder = ([a, b, c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
const area = ([x0, y0, x1, y1]) => (x1 - x0 + 1) * (y1 - y0 + 1);
const contains = ([x0, y0, x1, y1], { u, v }, slack = 0) =>
  u >= x0 - slack && v >= y0 - slack && u <= x1 + 1 + slack && v <= y1 + 1 + slack;
