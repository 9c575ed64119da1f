// Outlines of the labels of a slice, along the pixels' edges: as thin on the screen at any zoom.
// Kept in bands of rows, so that a mask that follows the mouse costs what lies under it.

const BAND = 64; // rows

export class Contours {
  constructor(rows, columns) {
    this.rows = rows;
    this.columns = columns;
    this.bands = Array.from({ length: Math.ceil(rows / BAND) }, () => new Map()); // label to Path2D
  }

  // Follows a change of the label map (Uint16Array) between two rows.
  update(labels, first, last) {
    const top = Math.max(Math.floor((first - 1) / BAND), 0);
    const bottom = Math.min(Math.floor(last / BAND), this.bands.length - 1);
    for (let band = top; band <= bottom; band++) this.bands[band] = this.trace(labels, band * BAND);
  }

  trace(labels, start) {
    const { rows, columns } = this;
    const paths = new Map();
    const pathOf = (value) => {
      if (!paths.has(value)) paths.set(value, new Path2D());
      return paths.get(value);
    };
    const line = (value, x0, y0, x1, y1) => {
      const path = pathOf(value);
      path.moveTo(x0, y0);
      path.lineTo(x1, y1);
    };
    for (let y = start; y < Math.min(start + BAND, rows); y++) {
      for (const [step, edge] of [[-columns, y], [columns, y + 1]]) { // above and below, as runs
        const outside = step < 0 ? y === 0 : y === rows - 1;
        let from = 0, run = 0; // the label of the run that is open
        for (let x = 0, at = y * columns; x <= columns; x++, at++) {
          const value = x < columns && (outside || labels[at + step] !== labels[at]) ? labels[at] : 0;
          if (value === run) continue;
          if (run) line(run, from, edge, x, edge);
          run = value;
          from = x;
        }
      }
      for (let x = 0, at = y * columns; x < columns; x++, at++) {
        const value = labels[at];
        if (!value) continue;
        if (x === 0 || labels[at - 1] !== value) line(value, x, y, x, y + 1);
        if (x === columns - 1 || labels[at + 1] !== value) line(value, x + 1, y, x + 1, y + 1);
      }
    }
    return paths;
  }

  // Strokes them; `matrix` takes pixels of the slice to those of the canvas.
  draw(context, matrix, colours, width) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.lineWidth = width;
    context.lineCap = "square";
    for (const [value, [r, g, b]] of colours) {
      const placed = new Path2D();
      for (const band of this.bands) {
        const path = band.get(value);
        if (path) placed.addPath(path, matrix);
      }
      context.strokeStyle = `rgb(${r} ${g} ${b})`;
      context.stroke(placed);
    }
  }
}
