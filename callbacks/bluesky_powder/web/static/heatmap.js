// Patterns over frames as a map: uPlot has the axes and the cursor, a canvas of one pixel per value the colours.

import { axis, X_SYNC } from "./charts.js";
import { limits, MAP } from "./colours.js";
import { formatNumber } from "./dom.js";

export function drawMap(chart, scale, { rows, radial, xLabel, log, onCursor, onChoose }) {
  const { stride, columns } = rows;
  const lines = Math.ceil(rows.count / stride);
  const between = limits([...rows.mapped.values()], log);
  chart.map = { image: between && paint(rows, lines, columns, between, log), rows, end: 0.5 + lines * stride };
  drawScale(scale, between, log);
  const edge = (radial.at(-1) - radial[0]) / Math.max(radial.length - 1, 1) / 2;
  chart.span = [radial[0] - edge, radial.at(-1) + edge];
  const options = (colours) => ({
    scales: {
      x: { time: false, range: (_, min, max) => [min, max] },
      y: { range: () => [0.5, chart.map.end] },
    },
    axes: [
      axis(colours, xLabel, { grid: { show: false } }),
      axis(colours, "frame", { grid: { show: false }, size: 62, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }),
    ],
    legend: { show: false },
    cursor: {
      sync: { key: X_SYNC, scales: ["x", null] },
      drag: { x: true, y: false },
      points: { show: false },
    },
    series: [{}, { stroke: null, width: 0, points: { show: false } }],
    hooks: {
      drawClear: [(plot) => place(plot, chart)],
      setCursor: [(plot) => onCursor(cellAt(plot, chart))],
      ready: [(plot) => plot.over.addEventListener("click", () => onChoose(cellAt(plot, chart)))],
    },
  });
  chart.show(xLabel, options, [chart.span, [0, 0]]);
}

function paint(rows, lines, columns, [low, high], log) {
  const image = new ImageData(columns, lines);
  const pixels = new Uint32Array(image.data.buffer);
  const [from, to] = log ? [Math.log(low), Math.log(high)] : [low, high];
  for (const [row, values] of rows.mapped) {
    const line = (lines - 1 - row / rows.stride) * columns; // the first frame is at the bottom
    for (let k = 0; k < columns; k += 1) {
      const value = log ? Math.log(values[k]) : values[k];
      // NaN, and in a logarithm what is not positive, stays clear.
      if (value === value && value !== -Infinity) {
        const at = Math.round((255 * (value - from)) / (to - from));
        pixels[line + k] = MAP[Math.max(0, Math.min(255, at))];
      }
    }
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, lines];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function place(plot, chart) {
  const { image, end } = chart.map;
  if (!image) return;
  const [left, right] = chart.span.map((value) => plot.valToPos(value, "x", true));
  const [top, bottom] = [end, 0.5].map((value) => plot.valToPos(value, "y", true));
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(image, left, top, right - left, bottom - top);
  ctx.restore();
}

function cellAt(plot, chart) {
  const { left, top } = plot.cursor;
  if (left == null || left < 0 || top < 0) return null;
  const { rows } = chart.map;
  const row = Math.floor(plot.posToVal(top, "y") - 0.5);
  const held = rows.mapped.get(row - (row % rows.stride));
  const x = plot.posToVal(left, "x");
  const [from, to] = chart.span;
  const column = Math.floor(((x - from) / (to - from)) * rows.columns);
  return row >= 0 && row < rows.count ? { row, x, value: held?.[column] } : null;
}

function drawScale(scale, between, log) {
  const bar = scale.querySelector("canvas");
  const context = bar.getContext("2d");
  const image = new ImageData(256, 1);
  new Uint32Array(image.data.buffer).set(MAP);
  context.putImageData(image, 0, 0);
  const [low, high] = between ?? [NaN, NaN];
  const middle = log ? Math.sqrt(low * high) : (low + high) / 2;
  scale.querySelectorAll("span").forEach((node, k) => {
    node.textContent = ["≤ ", "", "≥ "][k] + formatNumber([low, middle, high][k], 3);
  });
}
