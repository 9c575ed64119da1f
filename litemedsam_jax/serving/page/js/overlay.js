// Drawn over the image: boxes with their handles, the sides of the patient, the cursor.

import { labelOf, store } from "./store.js";

const HANDLE = 7; // pixels of the screen
const GRAB = 7;

// Corners and middles of a box [x_min, y_min, x_max, y_max] (inclusive), by what they move.
function handlesOf([x0, y0, x1, y1]) {
  const xs = [["x0", x0], ["", (x0 + x1 + 1) / 2], ["x1", x1 + 1]];
  const ys = [["y0", y0], ["", (y0 + y1 + 1) / 2], ["y1", y1 + 1]];
  return ys.flatMap(([down, y]) => xs.map(([across, x]) => ({ moves: across + down, u: x, v: y })))
    .filter((handle) => handle.moves);
}

export function boxesOn(pane) {
  if (pane.plane.axis !== 0) return [];
  return store.layers.filter((l) => l.box && l.slice === pane.index && labelOf(l.label)?.visible !== false);
}

// The handle of a box under a point of the screen.
export function handleAt(view, box, x, y) {
  return handlesOf(box).find(({ u, v }) => {
    const [hx, hy] = view.toScreen(u, v);
    return Math.abs(hx - x) <= GRAB && Math.abs(hy - y) <= GRAB;
  }) ?? null;
}

export function drawBox(context, view, box, colour, { adds = true, selected = false } = {}) {
  const [x0, y0] = view.toScreen(box[0], box[1]);
  const [x1, y1] = view.toScreen(box[2] + 1, box[3] + 1);
  const rect = [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)];
  context.setLineDash(adds ? [] : [6, 4]);
  context.lineWidth = 3;
  context.strokeStyle = "#000a";
  context.strokeRect(...rect);
  context.lineWidth = selected ? 1.8 : 1.2;
  context.strokeStyle = colour;
  context.strokeRect(...rect);
  context.setLineDash([]);
  if (!selected) return;
  for (const { u, v } of handlesOf(box)) {
    const [x, y] = view.toScreen(u, v);
    context.fillStyle = "#fff";
    context.strokeStyle = "#000";
    context.lineWidth = 1;
    context.fillRect(x - HANDLE / 2, y - HANDLE / 2, HANDLE, HANDLE);
    context.strokeRect(x - HANDLE / 2, y - HANDLE / 2, HANDLE, HANDLE);
  }
}

// The longest axial diameter and its perpendicular, with its length in mm.
export function drawDiameters(context, view, { lines, text }, label) {
  if (!label?.visible) return;
  const ends = lines.map(([x0, y0, x1, y1]) => [view.toScreen(x0 + 0.5, y0 + 0.5), view.toScreen(x1 + 0.5, y1 + 0.5)]);
  for (const [width, colour] of [[4, "#000a"], [1.6, "#fff"]]) {
    for (const [from, to] of ends) stroke(context, from, to, width, colour);
  }
  const [x, y] = ends[0].reduce((a, b) => (a[0] > b[0] ? a : b));
  write(context, text, x + 6, y, "left");
}

export function stroke(context, [x0, y0], [x1, y1], width, colour) {
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

export function drawSides(context, plane, width, height) {
  const [left, top, right, bottom] = plane.sides;
  write(context, left, 12, height / 2);
  write(context, right, width - 12, height / 2);
  write(context, top, width / 2, 12);
  write(context, bottom, width / 2, height - 12);
}

export function drawTitle(context, text) {
  context.textAlign = "left";
  write(context, text, 8, 14, "left");
}

function write(context, text, x, y, align = "center") {
  if (!text) return;
  context.font = "600 13px system-ui, 'DejaVu Sans', sans-serif";
  context.textAlign = align;
  context.textBaseline = "middle";
  context.lineWidth = 3;
  context.strokeStyle = "#000c";
  context.strokeText(text, x, y);
  context.fillStyle = "#dfe3ea";
  context.fillText(text, x, y);
}
