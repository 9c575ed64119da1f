// The case that is open: opened, kept in step with the server, changed.

import { api } from "./api.js";
import { SliceCache } from "./slice_cache.js";
import { endError, fail, say } from "./status.js";
import { canEdit, emit, store } from "./store.js";

let stopListening = null;

export async function loadWorkspace() {
  store.workspace = await api.workspace();
  emit("workspace");
}

// Gives false where another case was asked for meanwhile.
export async function openCase(id) {
  store.opening = id;
  const opened = await api.openCase(id);
  if (store.opening !== id) return false;
  store.opening = null;
  stopListening?.();
  store.case = opened;
  store.cache = new SliceCache(id);
  store.window = opened.values.windows[0];
  store.selected = null;
  const [depth, height, width] = opened.shape;
  store.position = [width >> 1, height >> 1, depth >> 1];
  store.main = opened.planes.find((plane) => plane.name === "axial")?.axis ?? 0;
  store.single = store.main;
  adopt(opened, true);
  store.label = store.labels[0]?.value ?? 1;
  emit("case");
  emit("labels");
  const lost = () => say("The server does not answer; waiting for it.", true);
  stopListening = api.listen(id, (event) => heard(id, event).catch(fail), lost);
  say(opened.notes.join("; "));
  return true;
}

// Takes over what the server says of labels and layers.
export function adopt(state, force = false) {
  if (!force && state.revision < store.revision) return;
  store.revision = state.revision;
  store.labels = state.labels;
  store.layers = state.layers;
  store.ranges = state.ranges;
  store.canUndo = state.can_undo;
  store.canRedo = state.can_redo;
  if (!store.labels.some((label) => label.value === store.label)) {
    store.label = store.labels[0]?.value ?? 0;
  }
  if (!store.layers.some((layer) => layer.number === store.selected)) store.selected = null;
  if (force) return; // a case that is being opened: the panes are still those of the one before
  emit("labels");
  emit("masks", state.slices ?? null);
}

async function heard(id, event) {
  if (event.model || event.saved !== undefined) await loadWorkspace();
  const newer = event.revision !== undefined && event.revision !== store.revision;
  if ((newer || event.missed) && store.case?.id === id) adopt({ ...(await api.state(id)), slices: event.slices });
}

// Runs a change on the server and takes over what comes of it; errors go to the status line.
export async function change(work) {
  if (!store.case) return null;
  try {
    const state = await work(store.case.id);
    if (state?.revision !== undefined) {
      endError();
      adopt(state);
      const entry = store.workspace.cases.find(({ id }) => id === store.case.id);
      if (entry.progress !== "edited") {
        entry.progress = "edited";
        emit("progress");
      }
    }
    return state;
  } catch (error) {
    fail(error);
    return null;
  }
}

// Shows the slices through a place of a pane in the other panes.
export function goTo(pane, place) {
  showVoxel(pane.voxel(place));
}

// Shows the slices through a voxel.
export function showVoxel(position) {
  store.position = position;
  emit("position");
  emit("goto");
}

export const undo = () => store.canUndo && revert((id) => api.undo(id));
export const redo = () => store.canRedo && revert((id) => api.redo(id));

// What comes or goes is shown: the nearest slice of it, where none of it is in sight.
async function revert(work) {
  const slices = (await change(work))?.slices ?? [];
  const [x, y, z] = store.position;
  if (!slices.length || slices.includes(z)) return;
  const nearest = slices.reduce((a, b) => (Math.abs(b - z) < Math.abs(a - z) ? b : a));
  showVoxel([x, y, nearest]);
}

export async function save(challenge = false) {
  if (!canEdit()) return;
  say("Saving …");
  const done = await change((id) => api.save(id, challenge));
  if (done) say(`saved ${done.files[0]} and ${done.files.length - 1} files beside it in ${done.folder}`);
  await loadWorkspace().catch(fail);
}
