// Between a slice's own pixels and the screen: upright in the patient, zoomed, moved.
// Pixel k of a slice reaches from k to k + 1; everything else on the page knows native pixels only.

export class View {
  constructor(plane, rows, columns) {
    this.plane = plane;
    this.rows = rows;
    this.columns = columns;
    const smallest = Math.min(...plane.spacing);
    this.size = [plane.spacing[0] / smallest, plane.spacing[1] / smallest]; // of a pixel
    this.width = plane.exchange ? rows * this.size[1] : columns * this.size[0];
    this.height = plane.exchange ? columns * this.size[0] : rows * this.size[1];
    this.zoom = 1;
    this.left = 0;
    this.top = 0;
    this.fitted = true;
  }

  fit(width, height) {
    this.zoom = Math.min(width / this.width, height / this.height);
    this.left = (width - this.width * this.zoom) / 2;
    this.top = (height - this.height * this.zoom) / 2;
    this.fitted = true;
  }

  zoomAt(factor, x, y) {
    const zoom = Math.min(Math.max(this.zoom * factor, 0.02), 80);
    this.left = x - (x - this.left) * zoom / this.zoom;
    this.top = y - (y - this.top) * zoom / this.zoom;
    this.zoom = zoom;
    this.fitted = false;
  }

  move(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.fitted = false;
  }

  // Pixel coordinates to the screen.
  toScreen(u, v) {
    const { exchange, flip_columns, flip_rows } = this.plane;
    let a = u * this.size[0], b = v * this.size[1];
    if (exchange) [a, b] = [b, a];
    if (flip_columns) a = this.width - a;
    if (flip_rows) b = this.height - b;
    return [this.left + a * this.zoom, this.top + b * this.zoom];
  }

  // The screen to pixel coordinates.
  toPixel(x, y) {
    const { exchange, flip_columns, flip_rows } = this.plane;
    let a = (x - this.left) / this.zoom, b = (y - this.top) / this.zoom;
    if (flip_columns) a = this.width - a;
    if (flip_rows) b = this.height - b;
    if (exchange) [a, b] = [b, a];
    return [a / this.size[0], b / this.size[1]];
  }

  // The transform with which a canvas draws the slice.
  apply(context, ratio) {
    const [x, y] = this.toScreen(0, 0);
    const [xu, yu] = this.toScreen(1, 0);
    const [xv, yv] = this.toScreen(0, 1);
    context.setTransform(
      (xu - x) * ratio, (yu - y) * ratio, (xv - x) * ratio, (yv - y) * ratio, x * ratio, y * ratio,
    );
  }

  // A step on the screen (dx, dy of -1, 0, 1) as a step in pixels.
  stepOf(dx, dy) {
    const [u0, v0] = this.toPixel(0, 0);
    const [u1, v1] = this.toPixel(dx * 1000, dy * 1000);
    return [Math.sign(Math.round(u1 - u0)), Math.sign(Math.round(v1 - v0))];
  }
}

// Native x, y, z of a pixel (u, v) of slice `index` across `axis` of (D, H, W).
export function toVoxel(axis, index, u, v) {
  if (axis === 0) return [u, v, index];
  return axis === 1 ? [u, index, v] : [index, u, v];
}

// The pixel (u, v) and slice of a voxel.
export function toSlice(axis, [x, y, z]) {
  if (axis === 0) return { u: x, v: y, index: z };
  return axis === 1 ? { u: x, v: z, index: y } : { u: y, v: z, index: x };
}
