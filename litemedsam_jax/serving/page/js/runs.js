// Label maps as runs, as the server sends them and takes them.

// Writes a patch into a full slice (Uint16Array of rows x columns).
export function paste(patch, target, columns) {
  const { x, y, width, height, values, lengths } = patch;
  if (!width || !height) return;
  let row = 0, column = 0;
  for (let k = 0; k < values.length; k++) {
    let left = lengths[k];
    while (left > 0) {
      const step = Math.min(left, width - column);
      const start = (y + row) * columns + x + column;
      target.fill(values[k], start, start + step);
      left -= step;
      column += step;
      if (column === width) { column = 0; row++; }
    }
  }
}

// The smallest patch of a mask (Uint8Array of rows x columns) within bounds [x0, y0, x1, y1).
export function encode(mask, columns, bounds) {
  const [x0, y0, x1, y1] = bounds;
  const values = [], lengths = [];
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      const value = mask[y * columns + x];
      if (values.length && values[values.length - 1] === value) lengths[lengths.length - 1]++;
      else { values.push(value); lengths.push(1); }
    }
  }
  return { x: x0, y: y0, width: x1 - x0, height: y1 - y0, values, lengths };
}

// The bounds of a patch, [x0, y0, x1, y1).
export const boundsOf = (p) => [p.x, p.y, p.x + p.width, p.y + p.height];

// The bounds that hold both; either may be null.
export function join(a, b) {
  if (!a) return b;
  if (!b) return a;
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
}
