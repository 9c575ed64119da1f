// The page's one way to its engine. An engine inside the browser could take this module's place.

const ROOT = "/api/v1";

async function call(method, path, body, signal) {
  let response;
  try {
    response = await fetch(ROOT + path, {
      method,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Start `litemedsam annotate` again: nothing is lost.");
  }
  if (response.ok) return response;
  let message = `The server refused (${response.status}).`;
  try {
    message = (await response.json()).error ?? message;
  } catch { /* a page of another kind */ }
  throw new Error(message);
}

async function json(method, path, body, signal) {
  const answer = await (await call(method, path, body, signal)).json();
  return answer.superseded ? null : answer;
}

const TYPES = { uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, float32: Float32Array };

export const api = {
  // Tabs do not take each other's answers: each is a client of its own.
  client: Math.random().toString(36).slice(2),

  workspace: () => json("GET", "/workspace"),
  openCase: (id) => json("GET", `/cases/${id}`),
  state: (id) => json("GET", `/cases/${id}/state`),

  async sliceValues(id, axis, index) {
    const response = await call("GET", `/cases/${id}/slices/${axis}/${index}`);
    const shape = response.headers.get("X-Shape").split(",").map(Number);
    const values = new TYPES[response.headers.get("X-Dtype")](await response.arrayBuffer());
    return { values, rows: shape[0], columns: shape[1], channels: shape[2] ?? 1 };
  },

  sliceLabels: (id, axis, index) => json("GET", `/cases/${id}/labels/${axis}/${index}`),
  // Both give null where a later request has taken this one's place.
  encode(id, slice) { return json("POST", `/cases/${id}/encode`, { slice, client: this.client }); },
  predict(id, box) { return json("POST", `/cases/${id}/predict`, { ...box, client: this.client }); },
  putBox: (id, box) => json("POST", `/cases/${id}/boxes`, box),
  dropLayer: (id, layer) => json("DELETE", `/cases/${id}/layers/${layer}`),
  paint: (id, stroke) => json("POST", `/cases/${id}/paint`, stroke),
  tidy: (id, what, label, slice = null) => json("POST", `/cases/${id}/tidy`, { what, label, slice }),
  loadMask: (id, mask) => json("POST", `/cases/${id}/masks`, { mask }),
  putLabel: (id, label) => json("POST", `/cases/${id}/labels`, label),
  dropLabel: (id, value) => json("DELETE", `/cases/${id}/labels/${value}`),
  putRange: (id, range) => json("POST", `/cases/${id}/ranges`, range),
  measurements: (id) => json("GET", `/cases/${id}/measurements`),
  diameters: (id) => json("GET", `/cases/${id}/diameters`),
  stopPropagating: (id) => json("POST", `/cases/${id}/propagate/stop`, {}),

  // Calls back for every slice; gives the last line, which says how it ended.
  async propagate(id, layer, onSlice) {
    const response = await call("POST", `/cases/${id}/propagate`, { layer });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", last = null;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return last;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        last = JSON.parse(line);
        if (last.slice !== undefined) onSlice(last);
      }
    }
  },

  learning: () => json("GET", "/learn"),
  startLearning: () => json("POST", "/learn/start", {}),
  cancelLearning: () => json("POST", "/learn/cancel", {}),
  chooseWeights: (weights) => json("POST", "/learn/model", { weights }),

  undo: (id) => json("POST", `/cases/${id}/undo`, {}),
  redo: (id) => json("POST", `/cases/${id}/redo`, {}),
  save: (id, challenge) => json("POST", `/cases/${id}/save`, { case: challenge }),

  listen(id, onEvent, onLost) {
    const source = new EventSource(`${ROOT}/cases/${id}/events`);
    source.onmessage = (message) => onEvent(JSON.parse(message.data));
    source.onerror = onLost;
    return () => source.close();
  },
};
