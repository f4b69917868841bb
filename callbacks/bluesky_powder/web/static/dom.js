// Small helpers: elements, numbers as text, storage that may be forbidden.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

export function replace(node, ...children) {
  node.replaceChildren(...children.filter((child) => child != null && child !== false));
}

export function formatNumber(value, digits = 4) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(digits - 2) : String(Number(value.toPrecision(digits)));
}

export function formatTime(seconds) {
  return seconds ? new Date(seconds * 1000).toLocaleString() : "–";
}

// What a scientist calls a sample: a text, a name among other things, or whatever was recorded.
export function sampleName(start) {
  const { sample_name: name, sample } = start;
  if (name != null) return String(name);
  if (sample != null && typeof sample === "object") return String(sample.name ?? JSON.stringify(sample));
  return sample != null ? String(sample) : "–";
}

export const GRADES = { mild: 0.05, strong: 0.15 };

export function gradeOf(spottiness) {
  if (spottiness == null || !Number.isFinite(spottiness)) return null;
  return spottiness < GRADES.mild ? "smooth" : spottiness <= GRADES.strong ? "mild" : "strong";
}

export function gradeBadge(spottiness) {
  const grade = gradeOf(spottiness);
  if (!grade) return el("span", { class: "quiet" }, "–");
  return el("span", { class: `grade ${grade}` }, `${grade} ${formatNumber(spottiness, 2)}`);
}

export function stored(name) {
  try {
    return window.localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function store(name, value) {
  try {
    window.localStorage.setItem(name, value);
  } catch {
    // A browser may forbid it; then it is not remembered.
  }
}
