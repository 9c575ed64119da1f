// Values of a slice as grey levels: level and width, by a table where the type allows one.

export function paintValues(slice, window, pixels) {
  const { values, channels } = slice;
  const low = window.level - window.width / 2;
  const scale = 255 / window.width;
  const out = new Uint32Array(pixels.data.buffer);
  if (channels === 3) {
    const table = tableOf(values, low, scale);
    for (let k = 0, j = 0; k < out.length; k++, j += 3) {
      out[k] = 0xff000000 | table[values[j + 2]] << 16 | table[values[j + 1]] << 8 | table[values[j]];
    }
    return;
  }
  if (values instanceof Float32Array) {
    for (let k = 0; k < out.length; k++) {
      const grey = Math.max(0, Math.min(255, (values[k] - low) * scale)) | 0; // NaN becomes 0
      out[k] = 0xff000000 | grey << 16 | grey << 8 | grey;
    }
    return;
  }
  const table = tableOf(values, low, scale);
  const offset = values instanceof Int16Array ? 32768 : 0;
  for (let k = 0; k < out.length; k++) {
    const grey = table[values[k] + offset];
    out[k] = 0xff000000 | grey << 16 | grey << 8 | grey;
  }
}

function tableOf(values, low, scale) {
  const first = values instanceof Int16Array ? -32768 : 0;
  const table = new Uint8ClampedArray(values instanceof Uint8Array ? 256 : 65536);
  for (let k = 0; k < table.length; k++) table[k] = (k + first - low) * scale;
  return table;
}
