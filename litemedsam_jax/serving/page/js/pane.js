// One slice on screen: image, labels and overlay, each on a canvas of its own.

import { api } from "./api.js";
import { LabelCanvas } from "./label_canvas.js";
import { diametersOn } from "./measurements.js";
import { boxesOn, drawBox, drawDiameters, drawSides, drawTitle, stroke } from "./overlay.js";
import { drawRange } from "./range_drag.js";
import { fail } from "./status.js";
import { emit, labelOf, store } from "./store.js";
import { View, toVoxel } from "./view.js";
import { paintValues } from "./windowing.js";

const CONTOUR = 1.4; // screen pixels
const SMOOTH_BELOW = 16; // screen pixels a pixel at its smaller side; larger ones are shown as they are

export class Pane {
  constructor(root, plane) {
    this.plane = plane;
    this.caseId = store.case.id;
    this.cache = store.cache;
    const [depth, height, width] = store.case.shape;
    this.count = [depth, height, width][plane.axis];
    [this.rows, this.columns] = [[height, width], [depth, width], [depth, height]][plane.axis];
    this.index = -1;
    this.revision = -1; // of the labels that are shown
    this.wanted = 0;
    this.slice = null;
    this.tool = null; // draws over it
    this.view = new View(plane, this.rows, this.columns);
    this.labels = new LabelCanvas(this.rows, this.columns);
    this.image = new OffscreenCanvas(this.columns, this.rows);
    this.pixels = null;
    this.element = document.createElement("div");
    this.element.className = "pane";
    this.element.dataset.axis = plane.axis;
    this.layers = ["image", "labels", "overlay"].map((name) => {
      const canvas = document.createElement("canvas");
      canvas.className = name;
      this.element.append(canvas);
      return canvas;
    });
    root.append(this.element);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.element);
    this.restyle();
  }

  remove() {
    this.observer.disconnect();
    this.element.remove();
  }

  // Shows a slice; image and labels change together, once both are here.
  async show(index) {
    index = Math.min(Math.max(index, 0), this.count - 1);
    if (index === this.wanted && this.slice) return;
    this.wanted = index;
    try {
      const [slice, labels] = await Promise.all([
        this.cache.get(this.plane.axis, index),
        api.sliceLabels(this.caseId, this.plane.axis, index),
      ]);
      if (index !== this.wanted) return;
      this.index = index;
      this.slice = slice;
      this.labels.keep(labels.patch);
      this.revision = labels.revision;
      this.repaint();
      this.cache.ahead(this.plane.axis, index, this.count);
      emit("shown", this);
    } catch (error) {
      fail(error);
    }
  }

  async refreshLabels() {
    const index = this.index;
    if (index < 0) return;
    try {
      const { patch, revision } = await api.sliceLabels(this.caseId, this.plane.axis, index);
      if (index !== this.index || revision < this.revision) return;
      this.revision = revision;
      this.labels.keep(patch);
      this.drawLabels();
    } catch (error) {
      fail(error);
    }
  }

  try(patch) {
    this.labels.try(patch);
    this.drawLabels();
  }

  restyle() {
    this.labels.setStyle(store.fill === "hidden" ? [] : store.labels, store.fill === "filled");
    this.drawLabels();
    this.drawOverlay();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    this.ratio = window.devicePixelRatio || 1;
    for (const canvas of this.layers) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
    }
    if (this.view.fitted) this.view.fit(width, height);
    this.draw();
  }

  fit() {
    this.view.fit(this.element.clientWidth, this.element.clientHeight);
    this.draw();
  }

  // Values to grey levels, then everything.
  repaint() {
    if (!this.slice) return;
    const context = this.image.getContext("2d");
    this.pixels ??= context.createImageData(this.columns, this.rows);
    paintValues(this.slice, store.window, this.pixels);
    context.putImageData(this.pixels, 0, 0);
    this.draw();
  }

  draw() {
    this.place(this.layers[0], this.image, this.view.zoom < SMOOTH_BELOW);
    this.drawLabels();
    this.drawOverlay();
  }

  drawLabels() {
    this.place(this.layers[1], this.labels.canvas, false);
    const context = this.layers[1].getContext("2d");
    const { contours, colours } = this.labels;
    if (this.slice) contours.draw(context, context.getTransform(), colours, CONTOUR * this.ratio);
  }

  place(canvas, source, smooth) {
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.slice) return;
    context.imageSmoothingEnabled = smooth;
    context.imageSmoothingQuality = "high";
    this.view.apply(context, this.ratio);
    context.drawImage(source, 0, 0);
  }

  drawOverlay() {
    const canvas = this.layers[2];
    const context = canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.slice) return;
    const { clientWidth: width, clientHeight: height } = this.element;
    const name = this.plane.name || ["", "x\u2013z", "y\u2013z"][this.plane.axis];
    drawTitle(context, store.case.flat ? "" : `${name}  ${this.index + 1} / ${this.count}`.trim());
    drawSides(context, this.plane, width, height);
    if (this.plane.axis !== 0 && !store.case.flat) this.drawNative(context);
    for (const measured of diametersOn(this)) drawDiameters(context, this.view, measured, labelOf(measured.label));
    for (const layer of boxesOn(this)) {
      if (this.tool?.replaces === layer.number) continue;
      const colour = labelOf(layer.label)?.colour ?? "#fff";
      drawBox(context, this.view, layer.box, colour, { adds: layer.adds, selected: layer.number === store.selected });
    }
    this.tool?.draw(context, this);
  }

  // In the other planes: where the native slice lies, and the ranges that were drawn.
  drawNative(context) {
    const z = store.position[2] + 0.5;
    const [from, to] = [this.view.toScreen(0, z), this.view.toScreen(this.columns, z)];
    stroke(context, from, to, 1, "#ffffff59");
    for (const [value, ends] of Object.entries(store.ranges)) {
      const label = labelOf(Number(value));
      if (label?.visible) drawRange(context, this, ends, label.colour);
    }
  }

  // Of an event: its place on the screen and in the slice.
  where(event) {
    const bounds = this.element.getBoundingClientRect();
    const x = event.clientX - bounds.left, y = event.clientY - bounds.top;
    const [u, v] = this.view.toPixel(x, y);
    return { x, y, u, v };
  }

  inside({ u, v }) {
    return u >= 0 && v >= 0 && u < this.columns && v < this.rows;
  }

  voxel({ u, v }) {
    const within = (value, count) => Math.min(Math.max(Math.floor(value), 0), count - 1);
    return toVoxel(this.plane.axis, this.index, within(u, this.columns), within(v, this.rows));
  }
}
