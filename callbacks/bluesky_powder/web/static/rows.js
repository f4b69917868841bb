// What a page holds of a growing array, and of a growing table: little, however long the run.

import { metadata, readArray } from "./api.js";

const MOST_HELD = 40; // whole rows
const MOST_MAPPED = 512; // rows of the map
const MOST_COLUMNS = 1024;

// An array (frames, [1,] bins) in Tiled. Whole rows are held for a while; every `stride`-th one, thinned, for the map.
export class Rows {
  constructor(path, structure, { mapped }) {
    this.path = path;
    this.type = structure.data_type;
    this.take(structure.shape);
    this.held = new Map();
    this.mapped = mapped ? new Map() : null;
    this.stride = 1;
    this.filling = null;
  }

  take(shape) {
    this.inner = shape.slice(1, -1);
    this.bins = shape.at(-1);
    this.step = Math.ceil(this.bins / MOST_COLUMNS);
    this.count = Math.max(this.count ?? 0, shape[0] * this.inner.reduce((a, b) => a * b, 1));
  }

  get columns() {
    return Math.ceil(this.bins / this.step);
  }

  put(row, values) {
    this.held.delete(row);
    this.held.set(row, values);
    if (this.held.size > MOST_HELD) this.held.delete(this.held.keys().next().value);
    this.count = Math.max(this.count, row + 1);
    if (this.mapped) this.putMapped(row, Float32Array.from({ length: this.columns }, (_, k) => values[k * this.step]));
  }

  putMapped(row, values) {
    this.thinOut();
    if (row % this.stride === 0) this.mapped.set(row, values);
  }

  thinOut() {
    while (this.count / this.stride > MOST_MAPPED) {
      this.stride *= 2;
      for (const row of this.mapped.keys()) if (row % this.stride) this.mapped.delete(row);
    }
  }

  slices(rows, columns) {
    // Several frames of one event stand in one row of the file; they are rows here only where there is one.
    return [rows, ...this.inner.map(() => ":"), columns];
  }

  async read(row) {
    if (!this.held.has(row)) {
      const values = await readArray(this.path, this.type, this.slices(`${row}:${row + 1}`, ":"));
      this.put(row, Float64Array.from(values, Number));
    }
    return this.held.get(row);
  }

  get missing() {
    if (!this.mapped) return [];
    this.thinOut();
    const rows = [];
    for (let row = 0; row < this.count; row += this.stride) if (!this.mapped.has(row)) rows.push(row);
    return rows;
  }

  // Read the rows of the map that are not there yet. What is pushed before it is stored comes with a later call.
  async fill() {
    const rows = this.missing;
    if (!rows.length) return;
    const stored = (await metadata(this.path)).attributes.structure.shape[0];
    const [first, end] = [rows[0], Math.min(rows.at(-1) + 1, stored)];
    if (first >= end) return;
    const values = await readArray(
      this.path,
      this.type,
      this.slices(`${first}:${end}:${this.stride}`, `::${this.step}`),
    );
    const { columns, stride } = this;
    for (let k = 0; (k + 1) * columns <= values.length; k += 1) {
      this.putMapped(first + k * stride, Float32Array.from(values.subarray(k * columns, (k + 1) * columns), Number));
    }
  }

  async refresh() {
    this.take((await metadata(this.path)).attributes.structure.shape);
  }
}

// The scalars of a stream, in the order in which they were written. A frame that was repeated after a pause has two
// rows; `last` says which one counts.
export class Scalars {
  constructor(path) {
    this.path = path;
    this.rows = new Map();
    this.complete = true;
  }

  add(columns) {
    const names = Object.keys(columns);
    const size = columns.seq_num?.length ?? 0;
    for (let k = 0; k < size; k += 1) {
      const row = Object.fromEntries(names.map((name) => [name, columns[name][k]]));
      const key = `${row.seq_num} ${row.time}`;
      if (!this.rows.has(key)) this.rows.set(key, { ...row, row: this.rows.size });
    }
  }

  // Take the whole table as it is stored; rows that were pushed, but are not stored yet, stay behind it.
  renew(columns) {
    const pushed = [...this.rows.values()];
    this.rows.clear();
    this.complete = true;
    this.add(columns);
    for (const row of pushed) {
      const key = `${row.seq_num} ${row.time}`;
      if (!this.rows.has(key)) this.rows.set(key, { ...row, row: this.rows.size });
    }
  }

  // The row that counts for each frame, by frame number.
  get last() {
    const found = new Map();
    for (const row of this.rows.values()) found.set(row.seq_num, row);
    return [...found.values()].sort((a, b) => a.seq_num - b.seq_num);
  }
}
