// The line charts: a pattern with its errors, cumulative spottiness, positions.

import { palette } from "./colours.js";
import { formatNumber, GRADES } from "./dom.js";

const FONT = "12px system-ui, sans-serif";
export const X_SYNC = "powder-radial";

export class Chart {
  constructor(node, height) {
    this.node = node;
    this.height = height;
    this.plot = null;
    this.form = null;
    this.observer = new ResizeObserver(() => this.plot?.setSize(this.size));
    this.observer.observe(node);
  }

  get size() {
    return { width: Math.max(this.node.clientWidth, 240), height: this.height };
  }

  // Draw data; the chart is only made anew when `form`, which stands for its options, has changed.
  show(form, options, data) {
    if (this.plot && this.form === form) {
      this.plot.setData(data);
      return;
    }
    this.clear();
    this.form = form;
    this.plot = new window.uPlot({ ...this.size, ...options(palette(this.node)) }, data, this.node);
  }

  clear() {
    this.plot?.destroy();
    this.plot = null;
    this.form = null;
  }

  close() {
    this.observer.disconnect();
    this.clear();
  }
}

export function axis(colours, label, more = {}) {
  return {
    label,
    size: 32,
    labelSize: 22,
    labelFont: FONT,
    font: FONT,
    stroke: colours.text,
    grid: { stroke: colours.grid, width: 1 },
    ticks: { stroke: colours.grid, width: 1 },
    ...more,
  };
}

const yAxis = (colours, label) =>
  axis(colours, label, { size: 62, values: (_, splits) => splits.map((v) => (v == null ? "" : formatNumber(v, 3))) });

// uPlot's own lines of a logarithmic axis never end where the axis does not begin at one of them.
function logSplits(min, max) {
  const splits = [];
  for (let decade = Math.floor(Math.log10(min)); 10 ** decade <= max; decade += 1) {
    for (let digit = 1; digit < 10; digit += 1) {
      const value = Number(`${digit}e${decade}`);
      if (value >= min && value <= max) splits.push(value);
    }
  }
  return splits;
}

// On more than two decades only powers of ten have numbers, else 1, 2 and 5 have.
function logValues(splits) {
  const digits = splits.at(-1) / splits[0] > 100 ? "1" : "125";
  return splits.map((value) => (digits.includes(value.toExponential()[0]) ? formatNumber(value, 3) : ""));
}

const logAxis = (colours, label, more) =>
  axis(colours, label, {
    splits: (_, __, min, max) => logSplits(min, max),
    filter: (_, splits) => splits,
    values: (_, splits) => logValues(splits),
    ...more,
  });

const gap = (values, allowed) => Array.from(values, (value) => (allowed(value) ? value : null));

export function drawPattern(chart, { radial, intensity, sem, xLabel, yLabel, log, onCursor }) {
  const allowed = log ? (value) => value > 0 : Number.isFinite;
  const high = sem ? intensity.map((value, k) => value + sem[k]) : intensity;
  const low = sem ? intensity.map((value, k) => value - sem[k]) : intensity;
  const data = [radial, gap(intensity, allowed), gap(high, allowed), gap(low, allowed)];
  // Below an error bar that reaches zero a logarithmic axis has no end: the band ends at the lowest value shown.
  if (log) {
    const least = data[1].reduce((least, value) => (value != null && value < least ? value : least), Infinity);
    data[3] = data[3].map((value, k) => (data[2][k] == null ? null : Math.max(value ?? least, least)));
  }
  const options = (colours) => ({
    scales: { x: { time: false, range: (_, min, max) => [min, max] }, y: log ? { distr: 3 } : {} },
    axes: [axis(colours, xLabel), log ? logAxis(colours, yLabel, { size: 62 }) : yAxis(colours, yLabel)],
    legend: { show: false },
    cursor: { sync: { key: X_SYNC, scales: ["x", null] }, drag: { x: true, y: false } },
    series: [
      {},
      { stroke: colours.line, width: 1.25, points: { show: false } },
      { width: 0, points: { show: false } },
      { width: 0, points: { show: false } },
    ],
    bands: [{ series: [2, 3], fill: colours.band }],
    hooks: { setCursor: [(plot) => onCursor(plot.cursor.idx)] },
  });
  chart.show(`${xLabel}|${yLabel}|${log}`, options, data);
}

export function drawSpottiness(chart, { frames, union, meanFrame, label }) {
  const positive = (value) => value > 0;
  const [u, m] = [gap(union, positive), gap(meanFrame, positive)];
  const first = u.findIndex((value) => value != null);
  const guide = frames.map((n, k) => (first < 0 || k < first ? null : u[first] * Math.sqrt(frames[first] / n)));
  const all = [...u, ...m, ...guide].filter(positive);
  const range = {
    x: [0.8, Math.max(10, 1.3 * (frames.at(-1) ?? 1))],
    y: [Math.min(0.02, 0.7 * Math.min(...all)), Math.max(0.3, 1.4 * Math.max(...all))],
  };
  chart.range = range;
  const options = (colours) => ({
    scales: {
      x: { time: false, distr: 3, range: () => chart.range.x },
      y: { distr: 3, range: () => chart.range.y },
    },
    axes: [logAxis(colours, "frames"), logAxis(colours, label, { size: 62 })],
    legend: { show: false },
    cursor: { drag: { x: false, y: false } },
    series: [
      {},
      { stroke: colours.line, width: 2, points: { size: 5 } },
      { stroke: colours.second, width: 2, dash: [8, 3], points: { size: 5 } },
      { stroke: colours.third, width: 1, dash: [2, 4], points: { show: false } },
    ],
    // The areas below the grid, their names above it.
    hooks: { drawClear: [(plot) => fillGrades(plot, colours)], draw: [(plot) => nameGrades(plot, colours)] },
  });
  chart.show(label, options, [frames, u, m, guide]);
}

function grades(plot, colours) {
  const [low, high] = [plot.scales.y.min, plot.scales.y.max];
  return [
    ["smooth", low, Math.min(GRADES.mild, high), colours.smooth],
    ["mild", GRADES.mild, Math.min(GRADES.strong, high), colours.mild],
    ["strong", GRADES.strong, high, colours.strong],
  ]
    .filter(([, from, to]) => to > from)
    .map(([name, from, to, colour]) => ({ name, colour, top: plot.valToPos(to, "y", true), bottom: plot.valToPos(from, "y", true) }));
}

function fillGrades(plot, colours) {
  const { ctx, bbox } = plot;
  ctx.save();
  for (const { colour, top, bottom } of grades(plot, colours)) {
    ctx.fillStyle = colour;
    ctx.fillRect(bbox.left, top, bbox.width, bottom - top);
  }
  ctx.restore();
}

function nameGrades(plot, colours) {
  const { ctx, bbox } = plot;
  const scale = window.devicePixelRatio || 1;
  ctx.save();
  ctx.font = `${11 * scale}px system-ui, sans-serif`;
  ctx.textAlign = "right";
  ctx.textBaseline = "top";
  ctx.fillStyle = colours.text;
  for (const { name, top, bottom } of grades(plot, colours)) {
    if (bottom - top >= 16 * scale) ctx.fillText(name, bbox.left + bbox.width - 6 * scale, top + 3 * scale);
  }
  ctx.restore();
}

export function drawPositions(chart, { frames, positions }) {
  const names = positions.map(({ name, units }) => `${name}${units ? ` (${units})` : ""}`);
  const options = (colours) => {
    const strokes = [colours.line, colours.second, colours.third];
    return {
      scales: { x: { time: false } },
      axes: [axis(colours, "frame"), yAxis(colours, names.join(", "))],
      legend: { show: positions.length > 1 },
      cursor: { drag: { x: false, y: false } },
      series: [
        { label: "frame" },
        ...names.map((label, k) => ({
          label,
          stroke: strokes[k % strokes.length],
          width: 1,
          points: { show: true, size: 5 },
        })),
      ],
    };
  };
  chart.show(names.join("|"), options, [frames, ...positions.map(({ values }) => gap(values, Number.isFinite))]);
}
