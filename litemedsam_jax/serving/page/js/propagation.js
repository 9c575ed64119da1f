// A box's mask carried to the slices above and below, while other work goes on.

import { api } from "./api.js";
import { adopt } from "./session.js";
import { fail, say } from "./status.js";
import { emit, store } from "./store.js";

export async function propagate() {
  if (!store.case || store.propagating !== null || store.case.shape[0] < 2) return;
  const layer = store.layers.find((l) => l.number === store.selected && l.box && l.adds);
  if (!layer) {
    say("Draw or select a box first; its mask is then carried to the next slices.");
    return;
  }
  const { id, name } = store.case;
  const running = { case: id, layer: layer.number, label: layer.label };
  report({ ...running, done: 0 });
  try {
    const end = await api.propagate(id, layer.number, ({ done }) => report({ ...running, done }));
    const here = store.case?.id === id;
    if (here) adopt(end);
    say((here ? "" : `${name}: `) + outcome(end), end.ended.startsWith("failed"));
  } catch (error) {
    fail(error);
  } finally {
    report(null);
  }
}

export function stopPropagating() {
  if (store.propagating === null) return false;
  api.stopPropagating(store.propagating.case).catch(fail);
  return true;
}

function outcome({ ended, done, guides }) {
  const slices = `${done} slice${done === 1 ? "" : "s"}`;
  const led = guides.length ? ` Led by the box${guides.length === 1 ? "" : "es"} on slice ${guides.map((z) => z + 1).join(", ")}.` : "";
  if (ended === "stopped") return `Stopped after ${slices}; Ctrl+Z takes them away.`;
  if (ended !== "finished") return ended;
  return (done ? `The object was found on ${slices} more.` : "The object is on this slice alone.") + led;
}

function report(progress) {
  store.propagating = progress;
  emit("propagating");
}
