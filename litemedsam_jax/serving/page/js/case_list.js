// The cases at the left: which there are, what is done.

import { openCase } from "./session.js";
import { on, store } from "./store.js";

const list = document.getElementById("case-list");
const welcome = document.getElementById("welcome");
const MARKS = { new: ["○", "nothing drawn yet"], edited: ["◐", "edited since it was saved"], saved: ["●", "saved"] };
const SHOWN_AFTER = 150; // ms; what opens sooner needs no sign

export async function open(id) {
  const { name } = store.workspace.cases.find((entry) => entry.id === id);
  const timer = setTimeout(() => { if (store.opening === id) cover(`Opening ${name} …`); }, SHOWN_AFTER);
  const opened = openCase(id);
  show();
  try {
    if (await opened) welcome.hidden = true;
  } catch (error) {
    if (store.opening === id) cover(error.message, "error");
  }
  clearTimeout(timer);
  show();
}

// A name that breaks after its words.
export const breakable = (name) =>
  name.split(/(?<=[_.\-])/).flatMap((part) => [part, document.createElement("wbr")]);

// Names and messages are text, never markup.
function cover(text, kind = "") {
  welcome.hidden = false;
  welcome.className = kind;
  welcome.textContent = text;
}

export function step(by) {
  const cases = store.workspace.cases;
  const at = cases.findIndex((entry) => entry.id === (store.opening ?? store.case?.id));
  const next = cases[at + by];
  if (next) open(next.id);
}

export function fold() {
  document.getElementById("app").classList.toggle("folded");
}

function show() {
  const current = store.opening ?? store.case?.id;
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
    name.append(...breakable(entry.name));
    item.append(dot, name);
    item.addEventListener("click", () => open(entry.id));
    item.addEventListener("keydown", (event) => event.key === "Enter" && open(entry.id));
    return item;
  }));
  list.querySelector(".current")?.scrollIntoView({ block: "nearest" });
}

document.getElementById("fold").addEventListener("click", fold);
on("workspace progress", show);
