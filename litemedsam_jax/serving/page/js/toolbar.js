// Five tools, and what is done with one press.

import { redo, save, undo } from "./session.js";
import { canEdit, emit, on, store } from "./store.js";

export const TOOLS = [
  { name: "box", key: "B", title: "Box: drag around an object, the mask follows", icon: "M4 4h16v16H4z" },
  { name: "subtract", key: "X", title: "Subtracting box: takes away from the label", icon: "M4 4h16v16H4z M8 12h8" },
  { name: "brush", key: "D", title: "Brush", icon: "M20 4 9 15 M9 15c-4-1-5 2-5 5 3 0 6-1 5-5z" },
  { name: "erase", key: "E", title: "Eraser", icon: "M9 20 3 14 14 3l7 7L11 20z M8 9l7 7" },
  { name: "pan", key: "H", title: "Move the image (or hold Space)", icon: "M12 3v18 M3 12h18 M12 3l-3 3 M12 3l3 3 M12 21l-3-3 M12 21l3-3 M3 12l3-3 M3 12l3 3 M21 12l-3-3 M21 12l-3 3" },
];

const bar = document.getElementById("tools");
const actions = document.getElementById("actions");

export function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

export function button(text, title, work, name = "") {
  const element = document.createElement("button");
  element.textContent = text;
  element.title = title;
  element.className = name;
  element.addEventListener("click", () => { element.blur(); work(); });
  return element;
}

export function choose(tool) {
  store.tool = tool;
  emit("tool");
}

for (const { name, key, title, icon: path } of TOOLS) {
  const element = button("", `${title} (${key})`, () => choose(name));
  element.dataset.tool = name;
  element.setAttribute("aria-label", title);
  const hint = document.createElement("kbd");
  hint.textContent = key;
  element.append(icon(path), hint);
  bar.append(element);
}

const undoButton = button("Undo", "Undo (Ctrl+Z)", undo);
const redoButton = button("Redo", "Redo (Ctrl+Shift+Z)", redo);
const saveButton = button("Save", "Save masks, boxes and names (Ctrl+S)", () => save(), "wide primary");
actions.append(undoButton, redoButton, saveButton);

function show() {
  for (const element of bar.children) {
    element.setAttribute("aria-pressed", String(element.dataset.tool === store.tool));
    const edits = ["brush", "erase"].includes(element.dataset.tool);
    element.disabled = edits && !canEdit();
  }
  undoButton.disabled = !canEdit() || !store.canUndo;
  redoButton.disabled = !canEdit() || !store.canRedo;
  saveButton.disabled = !canEdit();
}

on("tool labels case workspace", show);
show();
