// A derived run as it grows: what is stored by REST, what comes by Tiled's live streams, by polling where there are none.

import { about, Away, children, metadata, readArray, readTable, Refused } from "./api.js";
import { Rows, Scalars } from "./rows.js";
import { Stream } from "./socket.js";

const POLL_MS = 2000;
const GATHER_MS = 300;
const CHECK_MS = 8000;
const CURVES = ["intensity", "sem"];
const STREAMS = ["primary", "cumulative", "merged"];
const KINDS = ["", "_weighted", "_excess", "_excess_weighted"];
const COLUMNS = {
  primary: ["seq_num", "time"],
  cumulative: [
    "seq_num",
    "time",
    "frames",
    "independent_frames",
    ...KINDS.flatMap((kind) => [`union_spottiness${kind}`, `mean_frame_spottiness${kind}`]),
  ],
};

export class RunData {
  // changed(what) is called with "state", "axes", "patterns" or "numbers", as often as something is new.
  constructor(path, changed) {
    this.path = path;
    this.changed = changed;
    this.state = { status: "loading", problem: null, away: false };
    this.start = null;
    this.stop = null;
    this.axes = null;
    this.keys = {}; // data keys by stream
    this.rows = {}; // {primary: {intensity: Rows, sem: Rows}, ...}
    this.scalars = {};
    this.sockets = new Map();
    this.heard = false;
    this.closed = false;
    this.tablesMayGrow = false;
    this.checkTimer = setInterval(() => this.check(), CHECK_MS);
    this.load();
  }

  close() {
    this.closed = true;
    for (const socket of this.sockets.values()) socket.close();
    clearTimeout(this.pollTimer);
    clearTimeout(this.retryTimer);
    clearInterval(this.checkTimer);
  }

  get frames() {
    return this.rows.primary?.intensity?.count ?? 0;
  }

  get positionKeys() {
    const keys = this.keys.primary ?? {};
    return Object.keys(keys).filter((key) => keys[key].goniometer_position != null);
  }

  set(state) {
    this.state = { ...this.state, ...state };
    this.changed("state");
  }

  // Do something that needs the server, again and again while it is away; what it refuses is the page's problem to tell.
  async insist(task, pause = 500) {
    for (;;) {
      try {
        const result = await task();
        if (this.state.away) this.set({ away: false });
        return result;
      } catch (error) {
        if (!(error instanceof Away) || this.closed) throw error;
        this.set({ away: true });
        await new Promise((go) => (this.retryTimer = setTimeout(go, pause)));
        pause = Math.min(2 * pause, 3000);
      }
    }
  }

  async load() {
    try {
      const item = await this.insist(() => metadata(this.path));
      const specs = (item.attributes.specs ?? []).map((spec) => spec.name);
      if (!specs.includes("PowderRun")) return this.set({ problem: { kind: "other", item } });
      this.start = item.attributes.metadata.start;
      this.stop = item.attributes.metadata.stop ?? null;
      this.tablesMayGrow = await about().then((told) => told.tables_may_grow, () => false);
      this.changed("axes");
      if (this.stop) return await this.finish();
      this.set({ status: "connecting" });
      this.follow(this.path, {
        opened: (again) => this.live(again),
        message: (data) => data.type === "container-child-created" && this.discoverSoon(),
        ended: () => this.finish(),
        lost: () => !this.stop && this.set({ status: "reconnecting" }),
        silent: () => this.poll(),
      });
      await this.insist(() => this.catchUp());
    } catch (error) {
      this.fail(error);
    }
  }

  // While the server is away, its return is what brings things forward: a stream that is open again, or the next poll.
  fail(error) {
    if (this.closed || error instanceof Away) return;
    // What was there a moment ago is being written again.
    if (error instanceof Refused && error.status === 404 && this.start && !this.stop) {
      this.written = true;
      return this.poll();
    }
    if (error instanceof Refused) this.set({ problem: { kind: "refused", error } });
    else this.set({ problem: { kind: "broken", error } });
  }

  follow(path, handlers, options) {
    if (this.sockets.has(path) || this.closed) return;
    const message = (data) => {
      this.heard = true;
      handlers.message(data);
    };
    this.sockets.set(path, new Stream(path, { ...handlers, message }, options));
  }

  // A run that was written again, as publishers do after an outage, has other nodes of the same names: the streams of
  // the old ones are silent for ever. So after some silence it is looked whether there is more than was told.
  async check() {
    const quiet = !this.heard;
    this.heard = false;
    if (!quiet || this.polling || this.stop || this.state.status !== "live") return;
    const before = this.frames;
    try {
      const item = await metadata(this.path);
      if (item.attributes.metadata.stop) return await this.finish();
      for (const curves of Object.values(this.rows)) for (const rows of Object.values(curves)) await rows.refresh();
      await this.catchUp();
      if (this.frames > before && !this.heard) for (const socket of this.sockets.values()) socket.restart();
    } catch (error) {
      this.fail(error);
    }
  }

  live(again) {
    clearTimeout(this.pollTimer);
    this.polling = false;
    if (this.stop) return;
    this.set({ status: "live", away: false });
    this.discoverSoon();
    if (again) this.catchUp().catch((error) => this.fail(error));
  }

  // The run has ended: everything is stored, so everything can be read once more.
  async finish() {
    try {
      const item = await this.insist(() => metadata(this.path));
      this.stop = item.attributes.metadata.stop ?? null;
      if (!this.stop) return this.poll(); // closed by other hands than the writer's
      clearTimeout(this.pollTimer);
      clearInterval(this.checkTimer);
      await this.insist(() => this.catchUp());
      for (const socket of this.sockets.values()) socket.close();
      this.set({ status: "complete" });
    } catch (error) {
      this.fail(error);
    }
  }

  poll() {
    if (this.polling || this.stop || this.closed) return;
    this.polling = true;
    this.set({ status: "polling" });
    const turn = async () => {
      try {
        const item = await metadata(this.path);
        if (this.state.away) this.set({ away: false });
        if (item.attributes.metadata.stop) return this.finish();
        await this.catchUp();
        if (this.written) for (const socket of this.sockets.values()) socket.restart();
        this.written = false;
      } catch (error) {
        if (error instanceof Away) this.set({ away: true });
        else if (!(error instanceof Refused && error.status === 404)) return this.fail(error);
      }
      if (this.polling && !this.closed) this.pollTimer = setTimeout(turn, POLL_MS);
    };
    turn();
  }

  discoverSoon() {
    if (this.discovering) return;
    this.discovering = setTimeout(() => {
      this.discovering = null;
      this.discover().catch((error) => this.fail(error));
    }, 50);
  }

  // Find streams and their arrays and tables, which appear one by one.
  async discover() {
    const open = !this.stop;
    for (const stream of await children(this.path)) {
      const path = `${this.path}/${stream.id}`;
      this.keys[stream.id] ??= stream.attributes.metadata?.data_keys ?? {};
      if (stream.id === "axes") {
        await this.readAxes(path);
      } else if (STREAMS.includes(stream.id)) {
        const message = (data) => data.type === "container-child-created" && this.discoverSoon();
        if (open) this.follow(path, { opened: () => this.discoverSoon(), message });
        for (const child of await children(path)) this.meet(stream.id, path, child, open);
      }
    }
    this.changed("axes");
    await this.fill();
  }

  meet(stream, parent, child, open) {
    const path = `${parent}/${child.id}`;
    const { structure_family: family, structure } = child.attributes;
    if (family === "array" && CURVES.includes(child.id)) {
      this.rows[stream] ??= {};
      if (this.rows[stream][child.id]) this.rows[stream][child.id].take(structure.shape);
      else this.rows[stream][child.id] = new Rows(path, structure, { mapped: stream === "primary" && child.id === "intensity" });
      const rows = this.rows[stream][child.id];
      if (open) this.follow(path, { message: (data) => this.pushedArray(rows, data) });
    } else if (family === "table" && COLUMNS[stream] && !this.scalars[stream]) {
      const scalars = (this.scalars[stream] = new Scalars(path));
      if (open) {
        // From the first row on: where tables may not be read while they grow, this is all there is until the end.
        this.follow(path, { message: (data) => this.pushedTable(scalars, data) }, { whole: true });
      }
    }
  }

  async readAxes(path) {
    if (this.axes) return;
    const radial = (await children(path)).find((child) => child.id === "radial");
    if (!radial) return;
    const values = await readArray(`${path}/radial`, radial.attributes.structure.data_type, ["0:1", ":"]);
    const { label, units, radial_unit: unit } = this.keys.axes.radial ?? {};
    this.axes = { radial: Float64Array.from(values), label: label ?? unit ?? "radial", units: units ?? "" };
  }

  pushedArray(rows, data) {
    if (data.type === "array-data" && Array.isArray(data.payload)) {
      const offset = data.offset?.[0] ?? 0;
      for (let k = 0; k < data.shape[0]; k += 1) {
        // null is JSON's NaN.
        const row = data.payload[k].flat(Infinity);
        if (row.length === rows.bins) rows.put(offset + k, Float64Array.from(row, (v) => v ?? NaN));
      }
      if (rows.missing.length) this.fillSoon();
    } else if (data.type === "array-ref") {
      rows.take(data.shape);
      this.fillSoon();
    } else {
      return;
    }
    this.changed("patterns");
  }

  pushedTable(scalars, data) {
    if (data.type !== "table-data" || data.payload == null) return;
    if (!scalars.heard && data.sequence > 1) scalars.complete = false; // older messages are not kept any more
    scalars.heard = true;
    scalars.add(data.payload);
    this.changed("numbers");
  }

  fillSoon() {
    if (this.fillTimer) return;
    this.fillTimer = setTimeout(async () => {
      this.fillTimer = null;
      await this.fill().catch((error) => this.fail(error));
    }, GATHER_MS);
  }

  async fill() {
    const mapped = this.rows.primary?.intensity;
    if (!mapped?.missing.length) return;
    await mapped.fill();
    this.changed("patterns");
    if (mapped.missing.length && !this.stop) this.fillSoon();
  }

  // Read what was stored meanwhile.
  async catchUp() {
    await this.discover();
    for (const [stream, columns] of Object.entries(COLUMNS)) {
      const scalars = this.scalars[stream];
      if (!scalars || !(this.stop || this.tablesMayGrow)) continue;
      const known = new Set(Object.keys(this.keys[stream] ?? {}));
      const more = stream === "primary" ? this.positionKeys : [];
      const wanted = [...columns, ...more].filter((name) => ["seq_num", "time"].includes(name) || known.has(name));
      scalars.renew(await readTable(scalars.path, wanted));
    }
    this.changed("numbers");
  }
}
