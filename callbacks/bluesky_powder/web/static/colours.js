// Colours of charts: from the page's style, so that light and dark are decided in one place; and of maps.

export function palette(node) {
  const style = getComputedStyle(node);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: colour("text"),
    grid: colour("grid"),
    line: colour("line"),
    second: colour("second"),
    third: colour("third"),
    band: colour("band"),
    smooth: colour("smooth-area"),
    mild: colour("mild-area"),
    strong: colour("strong-area"),
  };
}

// viridis at nine places: readable in print, in grey and by colour-blind eyes.
const PLACES = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
  [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
];

export const MAP = Uint32Array.from({ length: 256 }, (_, k) => {
  const at = (k / 255) * (PLACES.length - 1);
  const low = Math.min(Math.floor(at), PLACES.length - 2);
  const mix = (c) => Math.round(PLACES[low][c] + (at - low) * (PLACES[low + 1][c] - PLACES[low][c]));
  return (255 << 24) | (mix(2) << 16) | (mix(1) << 8) | mix(0); // little endian, as all browsers are
});

// Limits of the colours: nearly all values lie between them, so that one hot bin does not darken the rest.
export function limits(rows, log) {
  const values = [];
  const total = rows.reduce((sum, row) => sum + row.length, 0);
  const step = Math.max(1, Math.floor(total / 20000));
  let k = 0;
  for (const row of rows) {
    for (; k < row.length; k += step) if (Number.isFinite(row[k]) && (!log || row[k] > 0)) values.push(row[k]);
    k -= row.length;
  }
  if (!values.length) return null;
  values.sort((a, b) => a - b);
  const low = values[Math.floor(0.005 * (values.length - 1))];
  const high = values[Math.ceil(0.998 * (values.length - 1))];
  return high > low ? [low, high] : [low, low + (Math.abs(low) || 1)];
}
