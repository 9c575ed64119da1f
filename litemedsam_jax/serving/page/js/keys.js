// Every key, in one table: what `?` shows is what works.

import { fold, step } from "./case_list.js";
import { openHelp } from "./help.js";
import { chooseLabel } from "./label_panel.js";
import { redo, save, undo, change } from "./session.js";
import { api } from "./api.js";
import { currentTool, focusPane, scroll, setSpace } from "./stage.js";
import { canEdit, emit, store } from "./store.js";
import { TOOLS, choose } from "./toolbar.js";
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
  store.layout = store.layout === "one" ? "three" : "one";
  emit("layout");
}

function remove() {
  const number = store.selected;
  if (number !== null && canEdit()) change((id) => api.dropLayer(id, number));
}

function cancel() {
  if (currentTool()?.cancel?.()) return;
  store.selected = null;
  emit("selected");
}

// Key, what the help says, what it does; "Ctrl+" stands for the command key too.
export const KEYS = [
  ["Tools", TOOLS.map(({ name, key, title }) => [key, title, byName(name)])],
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
    ["V", "one plane or three", layout],
    ["M", "masks filled, outlined, hidden", fill],
    ...[1, 2, 3, 4, 5, 6].map((k) => [`F${k}`, k === 1 ? "F1 … F6: windows (also right drag)" : "", () => setWindow(k - 1)]),
  ]],
  ["Boxes and masks", [
    ["Delete", "remove the selected box", remove],
    ["Backspace", "", remove],
    ["Escape", "give up the drag; deselect", cancel],
    ["Ctrl+Z", "undo", undo],
    ["Ctrl+Shift+Z", "redo (also Ctrl+Y)", redo],
    ["Ctrl+Y", "", redo],
    ["Ctrl+S", "save", () => canEdit() && save()],
  ]],
  ["Cases and labels", [
    ["N", "next case", () => step(1)],
    ["P", "previous case", () => step(-1)],
    ["C", "fold the list of cases", fold],
    ...Array.from({ length: 9 }, (_, k) => [`${k + 1}`, k ? "" : "1 … 9: draw with this label", () => chooseLabel(store.labels[k]?.value)]),
    ["?", "this list", openHelp],
  ]],
];

const table = new Map(KEYS.flatMap(([, rows]) => rows.map(([key, , work]) => [key.toUpperCase(), work])));

function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  const shift = control && event.shiftKey ? "Shift+" : "";
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
  const work = table.get(nameOf(event));
  if (!work || !store.case) return;
  event.preventDefault();
  work();
});
document.addEventListener("keyup", (event) => event.key === " " && setSpace(false));
window.addEventListener("blur", () => setSpace(false));
