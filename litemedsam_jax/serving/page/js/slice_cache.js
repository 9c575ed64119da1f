// Slices that were fetched, bounded by bytes; neighbours of the one on screen come ahead.

import { api } from "./api.js";

const MAX_BYTES = 300e6;

export class SliceCache {
  constructor(caseId) {
    this.caseId = caseId;
    this.entries = new Map(); // in the order of use
    this.coming = new Map();
    this.bytes = 0;
  }

  peek(axis, index) {
    const key = `${axis}/${index}`;
    const slice = this.entries.get(key);
    if (slice) {
      this.entries.delete(key);
      this.entries.set(key, slice);
    }
    return slice;
  }

  async get(axis, index) {
    const known = this.peek(axis, index);
    if (known) return known;
    const key = `${axis}/${index}`;
    if (!this.coming.has(key)) this.coming.set(key, this.fetch(key, axis, index));
    return this.coming.get(key);
  }

  async fetch(key, axis, index) {
    try {
      const slice = await api.sliceValues(this.caseId, axis, index);
      this.entries.set(key, slice);
      this.bytes += slice.values.byteLength;
      for (const [old, entry] of this.entries) {
        if (this.bytes <= MAX_BYTES || old === key) break;
        this.entries.delete(old);
        this.bytes -= entry.values.byteLength;
      }
      return slice;
    } finally {
      this.coming.delete(key);
    }
  }

  ahead(axis, index, count) {
    for (const step of [1, -1, 2, -2, 3, -3]) {
      const next = index + step;
      if (next >= 0 && next < count && this.coming.size < 4) this.get(axis, next).catch(() => {});
    }
  }
}
