// The start page: derived runs, newest first, as they appear.

import { about, Away, getJson, quoted, readTable, Refused, runAddress, takeKeyFromAddress } from "./api.js";
import { el, formatTime, gradeBadge, replace, sampleName } from "./dom.js";
import { specs } from "./search.js";
import { signIn } from "./sign_in.js";
import { Stream } from "./socket.js";

const PAGE = 25;
const POLL_MS = 5000;
const GRADE = "mean_frame_spottiness";

const main = document.querySelector("main");
const folder = (new URLSearchParams(window.location.search).get("path") ?? "").replace(/^\/+|\/+$/g, "");
const state = { pages: 1, grades: new Map(), runs: [], more: false, tablesMayGrow: false };

const status = el("span", { class: "status", role: "status" }, "loading");
const banner = el("p", { class: "banner warn", role: "alert", hidden: true });
const body = el("tbody");
const older = el("button", { type: "button", hidden: true, onclick: () => ((state.pages += 1), refresh()) }, "Older runs");
const empty = el("p", { class: "quiet", hidden: true }, "No powder run yet. The first one appears by itself.");

const ENDINGS = { success: "complete", abort: "aborted" };

// Rows stay the same elements, and cells that say the same too: a focus or a selection survives what is new elsewhere.
function show() {
  const held = new Map([...body.children].map((row) => [row.dataset.uid, row]));
  const rows = state.runs.map((run) => {
    const { start, stop } = run.attributes.metadata;
    const path = folder ? `${folder}/${run.id}` : run.id;
    const ended = stop ? ENDINGS[stop.exit_status] ?? "failed" : "running";
    const row = held.get(run.id) ?? el("tr", { "data-uid": run.id });
    const cells = [
      ["Time", el("a", { href: runAddress(path) }, formatTime(start.time))],
      ["Sample", sampleName(start)],
      ["Plan", start.raw_plan_name ?? "–"],
      ["Grade", gradeBadge(state.grades.get(run.id)?.value)],
      ["State", el("span", { class: `state ${ended}` }, ended)],
    ].map(([name, content]) => el("td", { "data-name": name }, content));
    cells.forEach((cell, k) => {
      if (!row.children[k]) row.append(cell);
      else if (!row.children[k].isEqualNode(cell)) row.children[k].replaceWith(cell);
    });
    return row;
  });
  if (rows.some((row, k) => body.children[k] !== row) || body.children.length !== rows.length) replace(body, ...rows);
  older.hidden = !state.more;
  empty.hidden = rows.length > 0;
  document.body.dataset.runs = rows.length;
}

async function list() {
  const size = PAGE * state.pages;
  const query = `fields=metadata&page[limit]=${Math.min(size, 300)}&sort=-metadata.start.time&${specs()}`;
  const { data, links } = await getJson(`search/${quoted(folder)}?${query}`);
  state.runs = data ?? [];
  state.more = links?.next != null && size < 300;
}

// The grade is the mean frame's last one. A run's table is read once, when it has ended; before only where it may grow.
async function grade(run) {
  const { stop } = run.attributes.metadata;
  const known = state.grades.get(run.id);
  if (known?.final || !(stop || state.tablesMayGrow)) return;
  const path = `${folder ? `${folder}/` : ""}${run.id}/cumulative`;
  try {
    if (!(await there(path))) {
      if (stop) state.grades.set(run.id, { value: null, final: true }); // it will never have one
      return;
    }
    const column = (await readTable(`${path}/internal`, [GRADE]))[GRADE];
    state.grades.set(run.id, { value: column.at(-1), final: stop != null });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
  }
}

// A run without patterns has no such stream, and a young one not yet; asking for it would be a fault in the console.
async function there(path) {
  const parts = path.split("/");
  for (let depth = parts.length - 1; depth <= parts.length; depth += 1) {
    const name = parts[depth] ?? "internal";
    const found = await getJson(`search/${quoted(parts.slice(0, depth).join("/"))}?fields=&page[limit]=100`);
    if (!(found.data ?? []).some((child) => child.id === name)) return false;
  }
  return true;
}

let busy = null;
let again = false;

function refresh() {
  if (busy) {
    again = true;
    return busy;
  }
  busy = (async () => {
    try {
      await list();
      banner.hidden = true;
      show();
      for (const run of state.runs) await grade(run);
      show();
    } catch (error) {
      await tell(error);
    } finally {
      busy = null;
      if (again) {
        again = false;
        refresh();
      }
    }
  })();
  return busy;
}

async function tell(error) {
  if (error instanceof Away) {
    banner.textContent = "The server does not answer. What is shown is what was known last; trying again.";
    banner.hidden = false;
    status.textContent = "server away";
    document.body.dataset.status = "away";
  } else if (error.isAboutRights) {
    clearInterval(timer);
    stream?.close();
    replace(main, await signIn(error));
    document.body.dataset.status = "refused";
  } else {
    banner.textContent = error.status === 404 ? `There is no folder ${folder} here, or you may not see it.` : `The server refused: ${error.message}`;
    banner.hidden = false;
  }
}

function say(text, tone) {
  status.textContent = text;
  status.className = `status ${tone}`;
  document.body.dataset.status = text;
}

let stream = null;
let timer = null;

await takeKeyFromAddress();
main.classList.add("powder");
const heads = ["Time", "Sample", "Plan", "Grade", "State"].map((name) => el("th", { scope: "col" }, name));
replace(
  main,
  el("header", {}, el("h1", {}, "Powder runs"), status),
  banner,
  el("table", { class: "runs" }, el("caption", { class: "hidden" }, "Derived runs, newest first"), el("thead", {}, el("tr", {}, ...heads)), body),
  empty,
  older,
);
state.tablesMayGrow = await about().then((told) => told.tables_may_grow, () => false);
await refresh();
if (document.body.dataset.status !== "refused") {
  // New runs come by the folder's stream; how they go on, and what the stream did not bring, by asking.
  timer = setInterval(refresh, POLL_MS);
  stream = new Stream(folder, {
    opened: () => (say("live", "good"), refresh()),
    message: (data) => data.type?.startsWith("container-child") && refresh(),
    lost: () => say("reconnecting", "warn"),
    silent: () => say("updated every 5 s", "good"),
  });
}
window.__powder = state;
