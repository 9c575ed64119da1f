// Learning from annotated cases: a process of the server's, its newest line, and the weights in use.

import { api } from "./api.js";
import { fail, say } from "./status.js";
import { on, store } from "./store.js";

const POLL_MS = 1000;
const section = document.getElementById("learning");
const button = document.getElementById("learn");
const line = document.getElementById("learn-line");
const row = document.getElementById("weights-row");
const weights = document.getElementById("weights");
const note = document.getElementById("weights-note");
let running = false;

function show(learning) {
  const ended = running && learning.state !== "running";
  running = learning.state === "running";
  button.textContent = running ? "Cancel learning" : "Learn from these cases";
  line.textContent = learning.state === "idle" ? "" : learning.line;
  row.hidden = !learning.learned;
  weights.value = learning.chosen;
  note.textContent = learning.note;
  if (ended && learning.state === "done") say("Learned: choose the weights beside the list of cases.");
  if (running) setTimeout(() => attempt(api.learning), POLL_MS);
}

async function attempt(step) {
  try {
    show(await step());
  } catch (error) {
    fail(error);
  }
}

button.addEventListener("click", () => attempt(running ? api.cancelLearning : api.startLearning));
weights.addEventListener("change", async () => {
  weights.disabled = true;
  await attempt(() => api.chooseWeights(weights.value));
  weights.disabled = false;
});
on("workspace", () => {
  section.hidden = store.workspace.read_only;
  if (!section.hidden) attempt(api.learning);
});
