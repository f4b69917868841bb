// The parts of a run's view, as elements: what stands where, and what it is called.

import { uiAddress } from "./api.js";
import { el, formatTime, sampleName } from "./dom.js";

export const STATUS = {
  loading: ["loading", "quiet"],
  connecting: ["connecting", "quiet"],
  live: ["live", "good"],
  polling: ["updated every 2 s", "good"],
  reconnecting: ["reconnecting", "warn"],
  complete: ["complete", "quiet"],
};

export function figure(title, chart, { controls = null, note = null, below = [] } = {}) {
  return el(
    "figure",
    {},
    el("figcaption", {}, el("h2", {}, title), controls),
    chart,
    ...below,
    note,
  );
}

export function checkbox(label, checked, changed) {
  const input = el("input", { type: "checkbox", checked, onchange: () => changed(input.checked) });
  return el("label", { class: "check" }, input, ` ${label}`);
}

export function select(label, choices, changed) {
  const options = Object.entries(choices).map(([value, text]) => el("option", { value }, text));
  const input = el("select", { "aria-label": label, onchange: () => changed(input.value) }, ...options);
  return input;
}

export function radios(legend, choices, chosen, changed) {
  const name = `powder-${Math.random().toString(36).slice(2)}`;
  const buttons = Object.entries(choices).map(([value, text]) =>
    el(
      "label",
      {},
      el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => changed(value) }),
      el("span", {}, text),
    ),
  );
  return el("fieldset", { class: "choices" }, el("legend", { class: "hidden" }, legend), ...buttons);
}

export function facts(data, rawIsThere) {
  const { start, stop } = data;
  const container = data.path.split("/").slice(0, -1);
  const raw = start.raw_uid && [...container, start.raw_uid].join("/");
  const entries = [
    ["Sample", sampleName(start)],
    ["Time", formatTime(start.time)],
    ["Plan", start.raw_plan_name ?? "–"],
    ["Scan", start.raw_scan_id ?? null],
    ["Detector", start.detector ?? start.recipe?.frames ?? null],
    [
      "Raw run",
      raw && rawIsThere ? el("a", { href: uiAddress(raw), class: "raw" }, start.raw_uid) : start.raw_uid ?? "–",
      rawIsThere === false ? "not in this catalog, or not for you to see" : null,
    ],
    ["Frames", stop ? countsOf(stop) : null],
    ["In Tiled", el("a", { href: uiAddress(data.path) }, "all data and downloads")],
  ];
  return el(
    "dl",
    { class: "facts" },
    ...entries
      .filter(([, value]) => value != null)
      .map(([name, value, remark]) =>
        el("div", {}, el("dt", {}, name), el("dd", {}, String(value) === value ? value : wrapped(value), remark && el("small", {}, ` ${remark}`))),
      ),
  );
}

const wrapped = (value) => (value instanceof Node ? value : String(value));

function countsOf(stop) {
  if (stop.frames_seen == null) return null;
  const skipped = stop.frames_skipped ? `, ${stop.frames_skipped} skipped` : "";
  return `${stop.frames_reduced} of ${stop.frames_seen} reduced${skipped}`;
}

// What has to be said about how a run ended; null when there is nothing.
export function ending(stop, frames) {
  if (!stop) return null;
  const reasons = [stop.reason, ...(stop.skip_reasons ?? []).map(reasonText)].filter(Boolean);
  const because = reasons.length ? ` Reason: ${[...new Set(reasons)].join("; ")}.` : "";
  if (stop.exit_status === "abort") return `This run was aborted; what was reduced before is shown.${because}`;
  if (stop.exit_status !== "success") return `This run failed; what was reduced before is shown.${because}`;
  if (!frames) return `This run has no pattern.${because}`;
  return stop.frames_skipped ? `${stop.frames_skipped} frames were skipped.${because}` : null;
}

const reasonText = (reason) => (typeof reason === "string" ? reason : reason?.reason ?? JSON.stringify(reason));
