// One line below: where the cursor is, whether the slice is ready, what happened.

import { on, store } from "./store.js";
import { toSlice } from "./view.js";

const at = (id) => document.getElementById(id);
let timer = 0;

export function say(text, error = false) {
  const message = at("message");
  message.textContent = text;
  message.title = text;
  message.classList.toggle("error", error && text !== "");
  clearTimeout(timer);
  if (!text) return;
  timer = setTimeout(() => say(""), error ? 15000 : 8000);
}

// An error goes when something works again.
export function endError() {
  if (at("message").classList.contains("error")) say("");
}

export const fail = (error) => say(error.message, true);

export function showReady(state) { // "", "busy", "yes"
  const ready = at("ready");
  ready.className = state;
  ready.textContent = { "": "", busy: "encoding …", yes: "ready" }[state];
}

function showPlace() {
  const opened = store.case;
  if (!opened) return;
  const [x, y, z] = store.position;
  const slices = opened.flat ? "" : `   slice ${z + 1} of ${opened.shape[0]}`;
  at("place").textContent = `x ${x}  y ${y}${opened.flat ? "" : `  z ${z}`}${slices}`;
  at("value").textContent = valueAt(x, y, z);
}

function valueAt(x, y, z) {
  for (const axis of [0, 1, 2]) {
    const { u, v, index } = toSlice(axis, [x, y, z]);
    const slice = store.cache?.peek(axis, index);
    if (!slice || u < 0 || v < 0 || u >= slice.columns || v >= slice.rows) continue;
    const start = (v * slice.columns + u) * slice.channels;
    const values = Array.from(slice.values.subarray(start, start + slice.channels));
    const text = values.map((value) => (Number.isInteger(value) ? value : value.toPrecision(5)));
    return `${text.join(" ")} ${store.case.unit}`.trim();
  }
  return "";
}

function showModel() {
  const { state, message } = store.workspace.model;
  const model = at("model");
  model.className = state;
  const readOnly = store.workspace.read_only ? "read only · " : "";
  model.textContent = readOnly + (state === "missing" ? "no model: boxes have no masks (why?)" : message);
  model.title = message;
}

at("model").addEventListener("click", () => {
  const { state, message } = store.workspace.model;
  if (state === "missing") say(message, true);
});
on("position case shown", showPlace);
on("workspace", showModel);
