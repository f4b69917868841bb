// The page of one run.

import { getJson, PAGES, runAddress, takeKeyFromAddress } from "./api.js";
import { el, formatTime, replace, sampleName } from "./dom.js";
import { signIn } from "./sign_in.js";
import { specs } from "./search.js";
import { RunView } from "./view.js";

const main = document.querySelector("main");

function pathOfPage() {
  const { pathname } = window.location;
  return decodeURIComponent(pathname.slice(pathname.indexOf("/powder/run/") + "/powder/run/".length)).replace(/\/+$/, "");
}

// A raw run's uid leads to what was derived from it.
async function derivedFrom(item) {
  const parent = item.attributes.ancestors.map(encodeURIComponent).join("/");
  const query = `filter[eq][condition][key]=start.raw_uid&filter[eq][condition][value]=${encodeURIComponent(JSON.stringify(item.id))}`;
  const { data } = await getJson(`search/${parent}?fields=metadata&${specs()}&${query}`);
  const links = (data ?? []).map((run) => {
    const { start } = run.attributes.metadata;
    const path = [...item.attributes.ancestors, run.id].join("/");
    return el("li", {}, el("a", { href: runAddress(path) }, `${sampleName(start)}, ${formatTime(start.time)}`));
  });
  replace(
    main,
    el("section", { class: "powder" },
      el("h1", {}, item.id),
      el("p", { class: "banner" }, links.length ? "This is not a powder run, but these were derived from it:" : "This is not a powder run, and none was derived from it."),
      el("ul", {}, ...links),
      el("p", {}, el("a", { href: PAGES.href }, "All powder runs"))),
  );
}

await takeKeyFromAddress();
const path = pathOfPage();
const view = new RunView(main, path, {
  refused: async (error) => {
    const form = await signIn(error);
    view.close();
    replace(main, form);
    main.dataset.status = "refused";
  },
  other: (item) => {
    view.close();
    derivedFrom(item);
  },
});
document.title = `${path.slice(-36, -28) || "run"} · powder`;
window.__powder = view;
