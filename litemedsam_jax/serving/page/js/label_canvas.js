// The label map of one slice as colours: what is kept, and over it what is tried.

import { Contours } from "./contours.js";
import { boundsOf, join, paste } from "./runs.js";

const ALPHA = 84; // of 255, of what is filled

export class LabelCanvas {
  constructor(rows, columns) {
    this.rows = rows;
    this.columns = columns;
    this.kept = new Uint16Array(rows * columns);
    this.shown = new Uint16Array(rows * columns);
    this.canvas = new OffscreenCanvas(columns, rows);
    this.context = this.canvas.getContext("2d");
    this.contours = new Contours(rows, columns);
    this.colours = new Map();
    this.filled = true;
    this.covered = null; // bounds of what is kept
    this.tried = null; // bounds of what is tried
  }

  setStyle(labels, filled) {
    this.colours = new Map();
    for (const label of labels) {
      if (!label.visible) continue;
      const rgb = [1, 3, 5].map((k) => parseInt(label.colour.slice(k, k + 2), 16));
      this.colours.set(label.value, rgb);
    }
    this.filled = filled;
    this.paint(join(this.covered, this.tried));
  }

  at(x, y) { return this.shown[y * this.columns + x]; }

  // What the server keeps; ends what was tried.
  keep(patch) {
    const before = join(this.covered, this.tried);
    this.kept.fill(0);
    paste(patch, this.kept, this.columns);
    this.shown.set(this.kept);
    this.covered = patch.width ? boundsOf(patch) : null;
    this.tried = null;
    this.paint(join(before, this.covered));
  }

  // Shows a patch over what is kept; null shows what is kept alone.
  try(patch) {
    const before = this.tried;
    this.restore(before);
    this.tried = patch && patch.width ? boundsOf(patch) : null;
    if (this.tried) paste(patch, this.shown, this.columns);
    this.paint(join(before, this.tried));
  }

  // Shows a stroke over what is kept, within bounds; locked labels are not painted over.
  tryStroke(mask, bounds, { label, adds, locked }) {
    const { kept, shown, columns } = this;
    const [x0, y0, x1, y1] = bounds;
    for (let y = y0; y < y1; y++) {
      for (let x = x0, at = y * columns + x0; x < x1; x++, at++) {
        if (!mask[at]) continue;
        const value = kept[at];
        if (adds) shown[at] = value !== label && locked.has(value) ? value : label;
        else shown[at] = value === label ? 0 : value;
      }
    }
    this.tried = join(this.tried, bounds);
    this.paint(bounds);
  }

  restore(bounds) {
    if (!bounds) return;
    const [x0, y0, x1, y1] = bounds;
    for (let y = y0; y < y1; y++) {
      const start = y * this.columns + x0;
      this.shown.set(this.kept.subarray(start, start + x1 - x0), start);
    }
  }

  paint(bounds) {
    if (!bounds) return;
    const [x0, y0, x1, y1] = bounds;
    this.contours.update(this.shown, y0, y1);
    const pixels = this.context.createImageData(x1 - x0, y1 - y0);
    const out = new Uint32Array(pixels.data.buffer);
    const { shown, columns } = this;
    const fills = new Uint32Array(65536);
    for (const [value, [r, g, b]] of this.filled ? this.colours : []) {
      fills[value] = ALPHA << 24 | b << 16 | g << 8 | r;
    }
    for (let y = y0, k = 0; y < y1; y++) {
      for (let x = x0, at = y * columns + x0; x < x1; x++, at++, k++) out[k] = fills[shown[at]];
    }
    this.context.putImageData(pixels, x0, y0);
  }
}
