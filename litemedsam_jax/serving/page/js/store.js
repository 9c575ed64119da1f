// What the page knows, and who wants to hear when it changes.

export const store = {
  workspace: { cases: [], masks: [], read_only: true, model: { state: "loading", message: "" } },
  case: null, // as the server describes it
  opening: null, // number of the case that is being opened, or that could not be
  cache: null, // of its slices
  labels: [],
  layers: [],
  ranges: {},
  revision: -1,
  canUndo: false,
  canRedo: false,
  position: [0, 0, 0], // voxel under the cursor, or last under it: x, y, z
  tool: "box",
  label: 1,
  selected: null, // number of a box
  window: { name: "", level: 0, width: 1 },
  fill: "filled", // or "outlines", "hidden"
  diameters: false, // whether they are measured and shown
  brush: 15, // diameter in pixels
  propagating: null, // { case, layer, label, done }: done is the number of slices
  layout: "one",
  main: 0, // the axis of the large pane of three
  single: 0, // the axis of the only pane
};

const listeners = new Map();

export function on(names, listener) {
  for (const name of names.split(" ")) {
    if (!listeners.has(name)) listeners.set(name, []);
    listeners.get(name).push(listener);
  }
}

export function emit(name, detail) {
  for (const listener of listeners.get(name) ?? []) listener(detail);
}

export const labelOf = (value) => store.labels.find((label) => label.value === value);
export const layerOf = (number) => store.layers.find((layer) => layer.number === number);
export const canEdit = () => store.case !== null && store.opening === null && !store.workspace.read_only;
