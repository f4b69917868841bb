// The view of one derived run, in any element: on our page, and in Tiled's own.

import { Away, metadata, Refused } from "./api.js";
import { Chart, drawPattern, drawPositions, drawSpottiness } from "./charts.js";
import { Downloads } from "./downloads.js";
import { el, formatNumber, gradeBadge, gradeOf, replace, sampleName } from "./dom.js";
import { drawMap } from "./heatmap.js";
import { checkbox, ending, facts, figure, radios, select, STATUS } from "./parts.js";
import { RunData } from "./run_data.js";

const VIEWS = { last: "last frame", cumulative: "all so far", merged: "merged", frame: "frame" };
const KINDS = {
  "": "plain",
  _excess: "excess over counting",
  _weighted: "weighted by intensity",
  _excess_weighted: "excess, weighted",
};

export class RunView {
  // refused(error, path) is called where a key may help, other(item) where the path is not a derived run's.
  constructor(node, path, { refused, other, headed = true } = {}) {
    this.root = node;
    this.options = { refused, other };
    this.which = "last";
    this.frame = 1;
    this.logPattern = false;
    this.logMap = true;
    this.kind = "";
    this.errors = [];
    this.build(headed);
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.restyle = () => {
      for (const chart of Object.values(this.charts)) chart.clear();
      this.redraw();
    };
    this.dark.addEventListener("change", this.restyle);
    this.data = new RunData(path, (what) => this.changed(what));
  }

  close() {
    this.closed = true;
    this.dark.removeEventListener("change", this.restyle);
    this.data.close();
    this.downloads.close();
    for (const chart of Object.values(this.charts)) chart.close();
    replace(this.root);
  }

  build(headed) {
    const place = (name, label) => el("div", { class: `chart ${name}`, role: "img", "aria-label": label });
    this.nodes = {
      title: el(headed ? "h1" : "h2", {}, "Powder run"),
      status: el("span", { class: "status", role: "status" }),
      banner: el("p", { class: "banner", role: "alert", hidden: true }),
      facts: el("div", {}),
      pattern: place("pattern", "Pattern"),
      map: place("map", "Patterns over frames"),
      spottiness: place("spottiness", "Cumulative spottiness"),
      positions: place("positions", "Positions"),
      readout: el("p", { class: "note readout" }, " "),
      mapReadout: el("p", { class: "note readout" }, " "),
      summary: el("p", { class: "note" }),
      number: el("output", { class: "number" }),
      scale: el("div", { class: "scale", "aria-label": "Colour scale" },
        el("canvas", { width: 256, height: 1, "aria-hidden": "true" }), el("span"), el("span"), el("span")),
    };
    const n = this.nodes;
    this.slider = el("input", {
      type: "range", min: 1, max: 1, value: 1, "aria-label": "Frame", disabled: true,
      oninput: () => this.choose("frame", Number(this.slider.value)),
    });
    this.choices = radios("Pattern to show", VIEWS, this.which, (value) => this.choose(value, this.frame));
    this.downloads = new Downloads();
    const patternControls = el("div", { class: "controls" }, this.choices,
      checkbox("log", this.logPattern, (on) => ((this.logPattern = on), this.redraw())), this.downloads.node);
    const slide = el("div", { class: "slide" }, this.slider, n.number);
    const kinds = select("Kind of spottiness", KINDS, (value) => ((this.kind = value), this.redraw()));
    const legend = el("p", { class: "legend" },
      el("span", { class: "key line" }, "union"),
      el("span", { class: "key second" }, "mean frame"),
      el("span", { class: "key third" }, "1/√N"));
    this.positionsFigure = figure("Positions", n.positions);
    this.body = el("div", { class: "figures", hidden: true },
      figure("Pattern", n.pattern, { controls: patternControls, below: [slide, n.readout] }),
      figure("Patterns over frames", n.map, {
        controls: checkbox("log", this.logMap, (on) => ((this.logMap = on), this.redraw())),
        below: [n.scale, n.mapReadout],
      }),
      figure("Cumulative spottiness", n.spottiness, { controls: kinds, below: [legend, n.summary] }),
      this.positionsFigure);
    this.waiting = el("p", { class: "waiting quiet" }, "Loading …");
    this.root.classList.add("powder");
    replace(this.root, el("header", {}, n.title, n.status), n.banner, n.facts, this.waiting, this.body);
    this.charts = {
      pattern: new Chart(n.pattern, 320),
      map: new Chart(n.map, 320),
      spottiness: new Chart(n.spottiness, 300),
      positions: new Chart(n.positions, 200),
    };
  }

  choose(which, frame) {
    this.which = which;
    this.frame = frame;
    this.choices.querySelector(`input[value=${which}]`).checked = true;
    this.redraw();
  }

  changed(what) {
    if (this.closed) return;
    if (what === "state") this.tellState();
    if (what === "axes") this.tellFacts();
    this.redraw();
  }

  tellState() {
    const { status, problem, away } = this.data.state;
    const n = this.nodes;
    if (problem) return this.tellProblem(problem);
    const [text, tone] = away ? ["server away", "warn"] : STATUS[status];
    n.status.textContent = text;
    n.status.className = `status ${tone}`;
    this.root.dataset.status = away ? "away" : status;
    const lost = away || status === "reconnecting";
    const said = lost
      ? "The server does not answer. What is shown is what was known last; trying again."
      : ending(this.data.stop, this.data.frames);
    n.banner.textContent = said ?? "";
    n.banner.hidden = !said;
    n.banner.classList.toggle("warn", lost || this.data.stop?.exit_status !== "success");
    if (status === "complete") this.tellFacts();
  }

  tellProblem({ kind, error, item }) {
    const { refused, other } = this.options;
    this.root.dataset.status = kind;
    this.waiting.hidden = this.body.hidden = true;
    this.nodes.status.textContent = "";
    if (kind === "refused" && error.isAboutRights && refused) return refused(error);
    if (kind === "other" && other) return other(item);
    const text = {
      refused: error?.status === 404
        ? `There is no run ${this.data.path} here, or you may not see it.`
        : `The server refused: ${error?.message}`,
      other: "This is not a powder run.",
      broken: `This page has a fault: ${error?.message}`,
    }[kind];
    if (kind === "broken") this.errors.push(String(error?.stack ?? error));
    this.nodes.banner.textContent = text;
    this.nodes.banner.hidden = false;
    this.nodes.banner.classList.add("warn");
  }

  async tellFacts() {
    const { start } = this.data;
    if (!start) return;
    this.nodes.title.textContent = sampleName(start) === "–" ? "Powder run" : sampleName(start);
    if (this.rawIsThere === undefined && start.raw_uid) {
      this.rawIsThere = null;
      const path = [...this.data.path.split("/").slice(0, -1), start.raw_uid].join("/");
      metadata(path).then(() => true, (error) => (error instanceof Refused ? false : undefined)).then((there) => {
        this.rawIsThere = there;
        replace(this.nodes.facts, facts(this.data, there));
      });
    }
    replace(this.nodes.facts, facts(this.data, this.rawIsThere));
  }

  redraw() {
    if (this.drawing || this.closed) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      if (this.closed) return;
      this.draw().catch((error) => {
        // A row that was pushed may not be stored yet, or the server is away; what comes next draws it.
        if (!(error instanceof Refused || error instanceof Away)) this.errors.push(String(error.stack ?? error));
      });
    });
  }

  async draw() {
    const { data } = this;
    const ready = data.axes && data.frames > 0;
    this.body.hidden = !ready;
    const { status, problem } = data.state;
    this.waiting.hidden = ready || status === "complete" || problem != null;
    this.waiting.textContent = status === "loading" ? "Loading …" : "No pattern yet. The first one appears by itself.";
    this.root.dataset.frames = data.frames;
    if (!ready) return;
    this.drawSpottiness();
    this.drawPositions();
    this.drawMap();
    await this.drawPattern();
  }

  numberOf(row) {
    const scalars = this.data.scalars.primary;
    if (scalars?.complete) for (const each of scalars.rows.values()) if (each.row === row) return each.seq_num;
    return row + 1;
  }

  async drawPattern() {
    const { data } = this;
    this.slider.max = data.frames;
    this.slider.disabled = false;
    const stream = { cumulative: "cumulative", merged: "merged" }[this.which] ?? "primary";
    const rows = data.rows[stream];
    if (!rows?.intensity) {
      this.nodes.number.textContent = `${VIEWS[this.which]}: not there yet`;
      this.charts.pattern.clear();
      return;
    }
    const row = this.which === "frame" ? Math.min(this.frame, data.frames) - 1 : rows.intensity.count - 1;
    if (stream === "primary") this.slider.value = row + 1;
    this.downloads.offer(data.path, data.start, this.numberOf(Number(this.slider.value) - 1));
    const shown = (this.shown = { stream, row });
    const [intensity, sem] = await Promise.all([rows.intensity.read(row), rows.sem?.read(row).catch(() => null)]);
    if (this.shown !== shown || this.closed) return; // something newer was drawn meanwhile
    const units = data.keys[stream]?.intensity?.units;
    this.curve = { intensity, sem };
    const number = stream === "primary" ? this.numberOf(row) : null;
    const title = number == null ? VIEWS[this.which] : `frame ${number}${this.which === "last" ? " (last)" : ""}`;
    this.nodes.number.textContent = title;
    drawPattern(this.charts.pattern, {
      radial: data.axes.radial,
      intensity,
      sem,
      xLabel: data.axes.label,
      yLabel: `intensity${units ? ` (${units})` : ""}`,
      log: this.logPattern,
      onCursor: (k) => this.tellCursor(k),
    });
    const top = intensity.reduce((best, value, k) => (best < 0 ? value === value : value > intensity[best]) ? k : best, -1);
    this.nodes.pattern.setAttribute("aria-label",
      `Pattern, ${title}: highest ${formatNumber(intensity[top])} ${units ?? ""} at ${data.axes.label} ${formatNumber(data.axes.radial[top])}`);
    this.root.dataset.shown = `${stream} ${row}`;
  }

  tellCursor(k) {
    const { axes } = this.data;
    this.nodes.readout.textContent = k == null || !this.curve
      ? " "
      : `${axes.label} ${formatNumber(axes.radial[k], 5)}: ${formatNumber(this.curve.intensity[k])} ± ${formatNumber(this.curve.sem?.[k], 2)}`;
  }

  drawMap() {
    const { data } = this;
    const rows = data.rows.primary.intensity;
    if (!rows.mapped.size) return;
    drawMap(this.charts.map, this.nodes.scale, {
      rows,
      radial: data.axes.radial,
      xLabel: data.axes.label,
      log: this.logMap,
      onChoose: (cell) => cell && this.choose("frame", cell.row + 1),
      onCursor: (cell) => {
        this.nodes.mapReadout.textContent = cell
          ? `frame ${this.numberOf(cell.row)}, ${data.axes.label} ${formatNumber(cell.x, 5)}: ${formatNumber(cell.value)}`
          : " ";
      },
    });
    this.nodes.map.setAttribute("aria-label", `Map of ${data.frames} patterns over frames; choose a frame with the slider above`);
  }

  drawSpottiness() {
    const numbers = this.data.scalars.cumulative?.last ?? [];
    const n = this.nodes;
    if (!numbers.length) {
      n.summary.textContent = this.data.stop || this.data.tablesMayGrow || this.data.state.status === "live"
        ? "No numbers yet."
        : "The numbers are read when the run has ended.";
      return;
    }
    const last = numbers.at(-1);
    const of = (row, which) => row[`${which}_spottiness${this.kind}`];
    drawSpottiness(this.charts.spottiness, {
      frames: numbers.map((row) => row.frames),
      union: numbers.map((row) => of(row, "union")),
      meanFrame: numbers.map((row) => of(row, "mean_frame")),
      label: `spottiness, ${KINDS[this.kind]}`,
    });
    const [union, mean] = [of(last, "union"), of(last, "mean_frame")];
    replace(n.summary, `After ${last.frames} frames: union `, gradeBadge(union), ", mean frame ", gradeBadge(mean),
      `, independent frames ${formatNumber(last.independent_frames, 3)}.`);
    n.spottiness.setAttribute("aria-label",
      `Cumulative spottiness (${KINDS[this.kind]}) after ${last.frames} frames: union ${formatNumber(union, 3)}, ${gradeOf(union) ?? ""}; mean frame ${formatNumber(mean, 3)}, ${gradeOf(mean) ?? ""}`);
    this.root.dataset.numbers = numbers.length;
  }

  drawPositions() {
    const keys = this.data.positionKeys;
    const numbers = this.data.scalars.primary?.last ?? [];
    this.positionsFigure.hidden = !keys.length || !numbers.length;
    if (this.positionsFigure.hidden) return;
    const described = this.data.keys.primary;
    const last = numbers.at(-1);
    const positions = keys.map((name) => ({
      name,
      units: described[name].units,
      values: numbers.map((row) => row[name]),
    }));
    drawPositions(this.charts.positions, { frames: numbers.map((row) => row.seq_num), positions });
    this.nodes.positions.setAttribute("aria-label",
      `Positions at frame ${last.seq_num}: ${keys.map((name) => `${name} ${formatNumber(last[name])}`).join(", ")}`);
  }
}
