// Mask files that belong to no case by their name: a click loads one into the case that is open.

import { api } from "./api.js";
import { breakable } from "./case_list.js";
import { change } from "./session.js";
import { say } from "./status.js";
import { canEdit, on, store } from "./store.js";

const section = document.getElementById("masks");
const list = document.getElementById("mask-list");

async function load(number) {
  const name = store.workspace.masks[number];
  if (!canEdit()) return;
  say(`Loading ${name} …`);
  if (await change((id) => api.loadMask(id, number))) say(`Loaded ${name}; Ctrl+Z takes it back.`);
}

function show() {
  const { masks } = store.workspace;
  section.hidden = !masks.length;
  list.replaceChildren(...masks.map((name, number) => {
    const item = document.createElement("li");
    item.tabIndex = 0;
    item.append(...breakable(name));
    item.title = "Named as a mask, but not as that of one image: load it into the open case";
    item.addEventListener("click", () => load(number));
    item.addEventListener("keydown", (event) => event.key === "Enter" && load(number));
    return item;
  }));
}

on("workspace", show);
