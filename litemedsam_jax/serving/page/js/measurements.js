// How large the labels are: volumes after every change, diameters where they are wanted.

import { api } from "./api.js";
import { showVoxel } from "./session.js";
import { emit, on, store } from "./store.js";
import { toVoxel } from "./view.js";

const AFTER = 400; // ms; measuring looks at the whole volume
const button = document.getElementById("diameters");
let sizes = new Map(); // texts by label
let diameters = new Map();
let timer = 0;
let measuring = false;

export const diametersOf = (value) => store.diameters && diameters.get(value);
export const textOf = (value) => [sizes.get(value), diametersOf(value)?.text].filter(Boolean).join(" · ");

export function diametersOn(pane) {
  if (!store.diameters) return [];
  return [...diameters.values()].filter(({ axis, slice }) => axis === pane.plane.axis && slice === pane.index);
}

export function goToDiameters(value) {
  const measured = diametersOf(value);
  if (!measured) return;
  const [x0, y0, x1, y1] = measured.lines[0];
  showVoxel(toVoxel(measured.axis, measured.slice, (x0 + x1) >> 1, (y0 + y1) >> 1));
}

export function toggleDiameters() {
  store.diameters = !store.diameters;
  button.setAttribute("aria-pressed", String(store.diameters));
  emit("measured");
  if (store.diameters) measure();
}

async function measure() {
  const id = store.case?.id;
  if (id === undefined || store.propagating?.case === id) return;
  if (measuring) { later(); return; }
  measuring = true;
  button.textContent = store.diameters ? "Measuring …" : "Diameters";
  try {
    const [volumes, lines] = await Promise.all([api.measurements(id), store.diameters ? api.diameters(id) : null]);
    if (store.case?.id !== id) return;
    sizes = new Map(volumes.labels.map((entry) => [entry.label, entry.text]));
    if (lines) diameters = new Map(lines.labels.map((entry) => [entry.label, entry]));
    emit("measured");
  } catch { /* the next change asks again */ } finally {
    measuring = false;
    button.textContent = "Diameters";
  }
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(measure, AFTER);
}

button.addEventListener("click", () => { button.blur(); toggleDiameters(); });
on("masks propagating", later);
on("case", () => {
  sizes = new Map();
  diameters = new Map();
  later();
});
