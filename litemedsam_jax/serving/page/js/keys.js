// Every key, in one table: what `?` shows is what works.

import { api } from "./api.js";
import { boxByKeys, moveByKeys, nextBox } from "./box_keys.js";
import { nudgeThreshold, tidy } from "./box_panel.js";
import { fold, step } from "./case_list.js";
import { openHelp } from "./help.js";
import { addLabel, chooseLabel, rename, stepLabel, toggle } from "./label_panel.js";
import { toggleDiameters } from "./measurements.js";
import { propagate, stopPropagating } from "./propagation.js";
import { change, redo, save, showVoxel, undo } from "./session.js";
import { currentTool, focusPane, mainPane, scroll, setSpace } from "./stage.js";
import { endError } from "./status.js";
import { canEdit, emit, layerOf, store } from "./store.js";
import { TOOLS, choose } from "./toolbar.js";
import { toSlice } from "./view.js";
import { setWindow } from "./window_panel.js";

const zoom = (factor) => {
  const pane = focusPane();
  pane.view.zoomAt(factor, pane.element.clientWidth / 2, pane.element.clientHeight / 2);
  pane.draw();
};
const byName = (name) => () => choose(name);

function fill() {
  const states = ["filled", "outlines", "hidden"];
  store.fill = states[(states.indexOf(store.fill) + 1) % 3];
  emit("fill");
}

function layout() {
  if (!store.case || store.case.flat) return;
  if (store.layout === "three") store.single = focusPane().plane.axis;
  store.layout = store.layout === "one" ? "three" : "one";
  emit("layout");
}

function remove() {
  const layer = layerOf(store.selected);
  if (!layer || !canEdit()) return;
  if (layer.slice === mainPane().index) change((id) => api.dropLayer(id, layer.number));
  else showVoxel([store.position[0], store.position[1], layer.slice]); // what is not seen is not removed
}

function cancel() {
  endError();
  if (currentTool()?.cancel?.()) return;
  if (stopPropagating()) return;
  store.selected = null;
  emit("selected");
}

function labelUnderMouse() {
  const pane = focusPane();
  const { u, v } = toSlice(pane.plane.axis, store.position);
  chooseLabel(pane.labels.at(u, v));
}

function resize(steps) {
  currentTool()?.resize?.(steps);
}

// Key, what the help says, what it does; "Ctrl+" stands for the command key too.
export const KEYS = [
  ["Tools", TOOLS.map(({ name, key, title }) => [key, title, byName(name)])],
  ["Boxes and masks", [
    ["G", "propagate the selected box through the volume", propagate],
    ["Tab", "next box of the slice", () => nextBox(1)],
    ["Enter", "box at the middle, by keys", boxByKeys],
    ["Arrows", "move the selected box (Ctrl: its far corner; Shift: by 10); without one ↑ ↓ scroll", () => {}],
    ["Delete", "remove the selected box (Shift: the label from this slice)", remove],
    ["Backspace", "", remove],
    ["Shift+Delete", "", () => tidy("clear", mainPane().index)],
    ["[", "smaller brush (also Shift+wheel)", () => resize(1)],
    ["]", "larger brush", () => resize(-1)],
    ["Q", "smaller mask of the selected box: a higher threshold", () => nudgeThreshold(2)],
    ["W", "larger mask: a lower threshold", () => nudgeThreshold(-2)],
    ["F", "fill holes of the label", () => tidy("fill")],
    ["K", "keep the largest part of the label", () => tidy("largest")],
    ["I", "interpolate between drawn slices", () => tidy("interpolate")],
    ["Escape", "give up the drag; stop propagating; deselect", cancel],
    ["Ctrl+Z", "undo", undo],
    ["Ctrl+Shift+Z", "redo (also Ctrl+Y)", redo],
    ["Ctrl+Y", "", redo],
    ["Ctrl+S", "save (Shift: also as a case of the challenge's format)", () => save()],
    ["Ctrl+Shift+S", "", () => save(true)],
  ]],
  ["Slices and view", [
    ["PageUp", "next slice (also wheel, .)", () => scroll(focusPane(), 1)],
    ["PageDown", "previous slice (also wheel, ,)", () => scroll(focusPane(), -1)],
    [".", "", () => scroll(focusPane(), 1)],
    [",", "", () => scroll(focusPane(), -1)],
    ["Home", "first slice", () => scroll(focusPane(), -1e6)],
    ["End", "last slice", () => scroll(focusPane(), 1e6)],
    ["+", "zoom in (also Ctrl+wheel, pinch)", () => zoom(1.25)],
    ["-", "zoom out", () => zoom(0.8)],
    ["0", "whole image", () => focusPane().fit()],
    ["V", "three planes, or the one under the mouse alone", layout],
    ["M", "masks filled, outlined, hidden", fill],
    ...[1, 2, 3, 4, 5, 6].map((k) => [`F${k}`, k === 1 ? "F1 … F6: windows (also right drag)" : "", () => setWindow(k - 1)]),
  ]],
  ["Cases and labels", [
    ["N", "next case", () => step(1)],
    ["P", "previous case", () => step(-1)],
    ["C", "fold the list of cases", fold],
    ...Array.from({ length: 9 }, (_, k) => [`${k + 1}`, k ? "" : "1 … 9: draw with this label", () => chooseLabel(store.labels[k]?.value)]),
    ["J", "next label", () => stepLabel(1)],
    ["U", "previous label", () => stepLabel(-1)],
    ["O", "the label under the mouse", labelUnderMouse],
    ["A", "add a label", addLabel],
    ["R", "rename the label", rename],
    ["L", "lock or unlock the label", () => toggle("locked")],
    ["T", "diameters of the labels", toggleDiameters],
    ["S", "show or hide the label", () => toggle("visible")],
    ["?", "this list", openHelp],
  ]],
];

const table = new Map(KEYS.flatMap(([, rows]) => rows.map(([key, , work]) => [key.toUpperCase(), work])));

function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  const shift = (control || key === "Delete") && event.shiftKey ? "Shift+" : "";
  return (control + shift + key).toUpperCase();
}

function isTyping(target) {
  return target.matches?.("input[type=text], textarea, dialog *");
}

document.addEventListener("keydown", (event) => {
  if (isTyping(event.target)) {
    if (event.key === "Enter" || event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === " " && !event.target.matches?.("button")) {
    setSpace(true);
    event.preventDefault();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  if (event.key.startsWith("Arrow") && store.case) {
    event.preventDefault();
    if (!moveByKeys(event)) scroll(focusPane(), { ArrowUp: 1, ArrowDown: -1 }[event.key] ?? 0);
    return;
  }
  const work = table.get(nameOf(event));
  if (!work || !store.case) return;
  event.preventDefault();
  work();
});
document.addEventListener("keyup", (event) => event.key === " " && setSpace(false));
window.addEventListener("blur", () => setSpace(false));
