// Patterns as files for refinement programs: the links, and fetching what is behind them.

import { apiAddress, Away, getFile, quoted, Refused } from "./api.js";
import { el, replace, sampleName } from "./dom.js";

// Extension -> media type, as the server's exports have them.
const FORMATS = {
  xye: "text/x-xye",
  chi: "text/x-chi",
  fxye: "text/x-fxye",
  h5: "application/x-nxazint",
  csv: "text/csv",
};

const safe = (text) => text.replace(/[^\w.+-]+/g, "_").replace(/^[_.]+|[_.]+$/g, "").slice(0, 60);

// The merged pattern, the union of all frames so far, and the frame with the number `frame`.
function choices(frame) {
  return [
    { label: "merged", name: "merged", parameters: ";which=merged" },
    { label: "all so far", name: "cumulative", parameters: ";which=cumulative" },
    ...(frame == null ? [] : [{ label: `frame ${frame}`, name: `frame${frame}`, parameters: `;which=frame;frame=${frame}` }]),
  ];
}

export class Downloads {
  constructor() {
    this.links = el("div", { class: "links" });
    this.said = el("p", { class: "note", role: "alert", hidden: true });
    this.node = el("details", { class: "downloads" }, el("summary", {}, "Download"),
      el("div", { class: "menu" }, this.links, this.said));
    this.shown = null;
    // A menu closes where one clicks elsewhere, and by the key that closes menus.
    this.leave = (event) => this.node.contains(event.target) || (this.node.open = false);
    document.addEventListener("click", this.leave);
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.node.open) return;
      this.node.open = false;
      this.node.querySelector("summary").focus();
    });
  }

  close() {
    document.removeEventListener("click", this.leave);
  }

  // Offer the files of a run; `frame` is the number of the one that is shown.
  offer(path, start, frame) {
    const shown = `${path} ${frame}`;
    if (this.shown === shown) return;
    this.shown = shown;
    const stem = [sampleName(start) === "–" ? "powder" : safe(sampleName(start)) || "powder", start.uid.slice(0, 8)].join("-");
    const rows = choices(frame).map(({ label, name, parameters }) => [
      el("span", {}, label),
      ...Object.entries(FORMATS).map(([extension, mediaType]) =>
        this.link(`${stem}-${name}.${extension}`, path, `${mediaType}${parameters}`, `${label} as .${extension}`, extension)),
    ]);
    replace(this.links, ...rows.flat());
  }

  link(filename, path, format, label, extension) {
    const query = new URLSearchParams({ format, filename });
    // An address of its own, to be copied; followed by hand, as a link cannot carry a user's token, nor tell an error.
    const link = el("a", { href: apiAddress(`container/full/${quoted(path)}?${query}`), download: filename, "aria-label": label }, `.${extension}`);
    link.addEventListener("click", (event) => {
      event.preventDefault();
      this.fetch(link);
    });
    return link;
  }

  async fetch(link) {
    this.tell("Fetching …");
    try {
      const address = URL.createObjectURL(await getFile(link.href));
      el("a", { href: address, download: link.download }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
      this.tell(null);
      this.node.open = false;
    } catch (error) {
      if (error instanceof Away) this.tell("The server does not answer; try again.");
      else if (error instanceof Refused) this.tell(`Not to be had: ${error.message}`);
      else throw error;
    }
  }

  tell(text) {
    this.said.textContent = text ?? "";
    this.said.hidden = !text;
  }
}
