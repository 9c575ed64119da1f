// Labels: name, colour, visible, locked, and which one is drawn with.

import { emit, on, store } from "./store.js";

const list = document.getElementById("labels");

export function chooseLabel(value) {
  if (!store.labels.some((label) => label.value === value)) return;
  store.label = value;
  emit("labels");
}

function show() {
  if (list.contains(document.activeElement) && document.activeElement.type === "text") return;
  list.replaceChildren(...store.labels.map((label, index) => {
    const item = document.createElement("li");
    item.dataset.value = label.value;
    item.className = label.value === store.label ? "active" : "";
    item.title = index < 9 ? `${index + 1}` : "";
    const colour = document.createElement("input");
    colour.type = "color";
    colour.value = label.colour;
    const name = document.createElement("input");
    name.type = "text";
    name.value = label.name;
    item.append(colour, name);
    item.addEventListener("pointerdown", () => { if (store.label !== label.value) chooseLabel(label.value); });
    return item;
  }));
}

on("labels", show);
