// Labels: name, colour, visible, locked, size, and which one is drawn with.

import { api } from "./api.js";
import { diametersOf, goToDiameters, textOf } from "./measurements.js";
import { change } from "./session.js";
import { canEdit, emit, labelOf, on, store } from "./store.js";
import { icon } from "./toolbar.js";

const list = document.getElementById("labels");
const addButton = document.getElementById("add-label");
const EYE = "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12z M9 12a3 3 0 1 0 6 0 3 3 0 1 0-6 0";
const CLOSED_EYE = "M3 10c3 4 15 4 18 0 M5 13l-2 3 M12 14v4 M19 13l2 3";
const LOCK = "M6 11h12v9H6z M8.5 11V8a3.5 3.5 0 0 1 7 0v3";
const OPEN_LOCK = "M6 11h12v9H6z M8.5 11V7a3.5 3.5 0 0 1 6.5-1.8";
const CROSS = "M6 6l12 12 M18 6 6 18";

export function chooseLabel(value) {
  if (!labelOf(value)) return;
  store.label = value;
  emit("labels");
}

export function stepLabel(by) {
  const at = store.labels.findIndex((label) => label.value === store.label);
  chooseLabel(store.labels[at + by]?.value);
}

export async function addLabel() {
  if (!canEdit()) return;
  const state = await change((id) => api.putLabel(id, {}));
  if (!state) return;
  chooseLabel(state.label);
  rename();
}

export function rename() {
  const name = list.querySelector("li.active input[type=text]");
  name?.focus();
  name?.select();
}

export const set = (value, fields) => canEdit() && change((id) => api.putLabel(id, { value, ...fields }));

export function toggle(field) {
  const label = labelOf(store.label);
  if (label) set(label.value, { [field]: !label[field] });
}

function small(path, title, pressed, work) {
  const element = document.createElement("button");
  element.className = "icon";
  element.title = title;
  element.setAttribute("aria-label", title);
  element.setAttribute("aria-pressed", String(pressed));
  element.disabled = !canEdit();
  element.append(icon(path));
  element.addEventListener("click", (event) => { event.stopPropagation(); element.blur(); work(); });
  return element;
}

function row(label, index) {
  const item = document.createElement("li");
  item.dataset.value = label.value;
  item.className = label.value === store.label ? "active" : "";
  const colour = document.createElement("input");
  colour.type = "color";
  colour.value = label.colour;
  colour.title = "Colour";
  colour.disabled = !canEdit();
  colour.addEventListener("change", () => set(label.value, { colour: colour.value }));
  const name = document.createElement("input");
  name.type = "text";
  name.value = label.name; // text, never markup
  name.title = index < 9 ? `Draw with it: ${index + 1}` : "";
  name.maxLength = 100;
  name.setAttribute("aria-label", "Name of the label");
  name.disabled = !canEdit();
  name.addEventListener("change", () => set(label.value, { name: name.value }));
  const size = document.createElement("span");
  size.className = "size";
  showSize(size, label.value);
  size.addEventListener("click", () => goToDiameters(label.value));
  item.append(
    colour, name,
    small(label.visible ? EYE : CLOSED_EYE, label.visible ? "Hide" : "Show", label.visible,
      () => set(label.value, { visible: !label.visible })),
    small(label.locked ? LOCK : OPEN_LOCK, label.locked ? "Unlock (L)" : "Lock against changes (L)", label.locked,
      () => set(label.value, { locked: !label.locked })),
    small(CROSS, "Remove the label and its masks (undo brings them back)", false,
      () => change((id) => api.dropLabel(id, label.value))),
    size,
  );
  item.addEventListener("pointerdown", (event) => {
    if (store.label === label.value || event.target.closest("button, input[type=color]")) return;
    event.preventDefault();
    chooseLabel(label.value);
  });
  return item;
}

function show() {
  const typing = list.contains(document.activeElement) && document.activeElement.type === "text";
  addButton.disabled = !canEdit();
  if (typing) return;
  list.replaceChildren(...store.labels.map(row));
  list.querySelector(".active")?.scrollIntoView({ block: "nearest" });
}

function showMeasurements() {
  for (const item of list.children) showSize(item.querySelector(".size"), Number(item.dataset.value));
}

function showSize(element, value) {
  element.textContent = textOf(value);
  element.title = diametersOf(value) ? "Longest diameter in an axial slice, and across it; click to go there" : "";
}

addButton.addEventListener("click", () => { addButton.blur(); addLabel(); });
on("labels workspace", show);
on("measured", showMeasurements);
