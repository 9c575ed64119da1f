// Level and width: presets, and the numbers that dragging with the right button changes.

import { emit, on, store } from "./store.js";
import { button } from "./toolbar.js";

const root = document.getElementById("windows");
const numbers = document.createElement("div");
numbers.className = "numbers";

export function setWindow(index) {
  const chosen = store.case?.values.windows[index];
  if (!chosen) return;
  store.window = chosen;
  emit("window");
}

function build() {
  const presets = store.case.values.windows.map((preset, index) => {
    const element = button(preset.name, `F${index + 1}`, () => setWindow(index));
    element.dataset.preset = preset.name;
    return element;
  });
  root.replaceChildren(...presets, numbers);
  show();
}

function show() {
  const { name, level, width } = store.window;
  const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
  numbers.textContent = `level ${short(level)}  width ${short(width)}`;
  for (const element of root.querySelectorAll("button")) {
    element.setAttribute("aria-pressed", String(element.dataset.preset === name));
  }
}

on("case", build);
on("window", show);
