// The cases at the left: which there are, what is done.

import { openCase } from "./session.js";
import { emit, on, store } from "./store.js";

const list = document.getElementById("case-list");
const welcome = document.getElementById("welcome");
const MARKS = { new: ["○", "nothing drawn yet"], edited: ["◐", "edited since it was saved"], saved: ["●", "saved"] };
let opening = null;

export async function open(id) {
  opening = id;
  welcome.hidden = Boolean(store.case);
  welcome.className = "";
  welcome.textContent = "Opening …";
  show();
  try {
    await openCase(id);
    welcome.hidden = true;
  } catch (error) {
    welcome.hidden = false;
    welcome.className = "error";
    welcome.textContent = error.message; // names and messages are text, never markup
  }
  if (opening === id) opening = null;
  show();
}

export function step(by) {
  const cases = store.workspace.cases;
  const at = cases.findIndex((entry) => entry.id === store.case?.id);
  const next = cases[at + by];
  if (next) open(next.id);
}

export function fold() {
  document.getElementById("app").classList.toggle("folded");
  emit("folded");
}

function show() {
  const current = opening ?? store.case?.id;
  list.replaceChildren(...store.workspace.cases.map((entry) => {
    const item = document.createElement("li");
    const state = entry.progress;
    item.tabIndex = 0;
    item.className = `${state}${entry.id === current ? " current" : ""}`;
    item.dataset.id = entry.id;
    const dot = document.createElement("span");
    dot.className = "dot";
    [dot.textContent, item.title] = MARKS[state];
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = entry.name;
    item.append(dot, name);
    item.addEventListener("click", () => open(entry.id));
    item.addEventListener("keydown", (event) => event.key === "Enter" && open(entry.id));
    return item;
  }));
}

document.getElementById("fold").addEventListener("click", fold);
on("workspace progress", show);
