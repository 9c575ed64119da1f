// What can be done to the selected box, and to the label's masks as a whole.

import { api } from "./api.js";
import { Follower } from "./follower.js";
import { propagate, stopPropagating } from "./propagation.js";
import { change } from "./session.js";
import { mainPane } from "./stage.js";
import { fail } from "./status.js";
import { canEdit, layerOf, on, store } from "./store.js";
import { button } from "./toolbar.js";

const root = document.getElementById("box-controls");
const hint = document.createElement("div");
hint.className = "wide";
const name = document.createElement("label");
name.textContent = "threshold";
const slider = document.createElement("input");
Object.assign(slider, { type: "range", min: -4, max: 4, step: 0.1, title: "Smaller or larger mask: the logit above which a pixel belongs to it (Q, W)" });
slider.setAttribute("aria-label", "threshold");
const number = document.createElement("output");
const go = button("Propagate", "Carry the mask to the slices above and below (G)", () => {
  if (!stopPropagating()) propagate();
}, "wide primary");
const progress = document.createElement("progress");
progress.className = "wide";
const tidying = document.createElement("div");
tidying.className = "wide tidy";
tidying.append(
  button("Fill holes", "Fill holes of the label, slice by slice (F)", () => tidy("fill")),
  button("Largest part", "Keep the largest connected part of the label (K)", () => tidy("largest")),
  button("Interpolate", "Fill the slices between those that were drawn (I)", () => tidy("interpolate")),
  button("Clear slice", "Take the label away from this slice (Shift+Delete)", () => tidy("clear", mainPane().index)),
);
root.append(hint, name, slider, number, go, progress, tidying);

export const tidy = (what, slice = null) => canEdit() && change((id) => api.tidy(id, what, store.label, slice));

const request = (layer) => ({
  slice: layer.slice, box: layer.box, label: layer.label, adds: layer.adds,
  layer: layer.number, threshold: Number(slider.value),
});
const follower = new Follower(
  (wanted) => api.predict(store.case.id, wanted).catch((error) => (fail(error), null)),
  ({ slice, patch }) => { const pane = mainPane(); if (pane.index === slice) pane.try(patch); },
);

slider.addEventListener("input", () => {
  const layer = layerOf(store.selected);
  number.textContent = Number(slider.value).toFixed(1);
  if (layer) follower.ask(request(layer));
});
slider.addEventListener("change", () => {
  slider.blur();
  const layer = layerOf(store.selected);
  if (layer) commit(request(layer));
});

function commit(wanted) {
  follower.stop();
  if (canEdit()) change((id) => api.putBox(id, wanted));
}

// By keys: steps that follow each other closely are one step of the history.
let nudging = null;

export function nudgeThreshold(step) {
  const layer = layerOf(store.selected);
  if (slider.disabled || !layer) return;
  slider.stepUp(step);
  slider.dispatchEvent(new Event("input"));
  const wanted = request(layer);
  clearTimeout(nudging);
  nudging = setTimeout(() => { nudging = null; commit(wanted); }, 300);
}

function hintFor(layer) {
  if (!layer) return "Drag around an object: the mask follows.";
  if (layer.slice !== mainPane()?.index) return `The selected box is on slice ${layer.slice + 1}.`;
  return layer.adds ? "Box selected: drag its handles." : "Subtracting box selected.";
}

function show() {
  const layer = layerOf(store.selected);
  const volume = store.case && store.case.shape[0] > 1;
  const running = store.propagating;
  const here = running?.case === store.case?.id;
  hint.textContent = hintFor(layer);
  if (layer && document.activeElement !== slider && nudging === null) slider.value = layer.threshold;
  if (!layer) slider.value = 0;
  number.textContent = Number(slider.value).toFixed(1);
  const ready = canEdit() && store.workspace.model.state === "ready";
  slider.disabled = !ready || !layer || (here && running?.layer === layer.number);
  go.hidden = progress.hidden = !volume;
  go.disabled = !running && (!ready || !layer?.adds);
  go.textContent = running ? `Stop (${running.done} ${here ? "slices" : "slices, other case"})` : "Propagate";
  progress.classList.toggle("idle", !running);
  for (const element of tidying.children) element.disabled = !canEdit() || (here && running?.label === store.label);
  tidying.children[2].hidden = !volume;
  tidying.children[3].hidden = !volume;
}

on("selected labels case workspace propagating masks shown", show);
