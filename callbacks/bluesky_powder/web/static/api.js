// Tiled's REST interface, from where these files lie: <prefix>/custom/powder/static/ or <prefix>/api/v1/powder/static/.

import { store, stored } from "./dom.js";

export const PAGES = new URL("..", import.meta.url);
const ROOT = PAGES.pathname.replace(/(\/custom|\/api\/v1)?\/powder\/$/, "");
const API = new URL(`${ROOT}/api/v1/`, PAGES);

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
  get isAboutRights() {
    return this.status === 401 || this.status === 403;
  }
}

export class Away extends Error {}

export const quoted = (path) => path.split("/").map(encodeURIComponent).join("/");

export const uiAddress = (path) => `${ROOT}/ui/browse/${quoted(path)}`;
export const loginAddress = () => `${ROOT}/ui/login`;
export const runAddress = (path) => new URL(`run/${quoted(path)}`, PAGES).href;
export const apiAddress = (path) => new URL(path, API).href;

export function streamAddress(path, start) {
  const url = new URL(`stream/${quoted(path)}`, PAGES);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("envelope_format", "json");
  if (start != null) url.searchParams.set("start", start);
  return url.href;
}

// A user who logged in at Tiled's own pages has left a token for pages of the same origin.
export function accessToken() {
  return window.__TILED_ACCESS_TOKEN__ ?? stored("tiled_access_token");
}

async function renewToken() {
  const refresh_token = stored("tiled_refresh_token");
  if (!refresh_token) return false;
  const answer = await fetch(new URL("auth/session/refresh", API), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ refresh_token }),
  }).catch(() => null);
  if (!answer?.ok) return false;
  const tokens = await answer.json();
  store("tiled_access_token", tokens.access_token);
  store("tiled_refresh_token", tokens.refresh_token);
  if (window.__TILED_ACCESS_TOKEN__) window.__TILED_ACCESS_TOKEN__ = tokens.access_token;
  return true;
}

async function ask(url, headers = {}) {
  const token = accessToken();
  try {
    return await fetch(url, {
      headers: token ? { ...headers, Authorization: `Bearer ${token}` } : headers,
      credentials: "same-origin",
    });
  } catch (error) {
    throw new Away(`the server does not answer (${error.message})`);
  }
}

async function get(url, headers) {
  let answer = await ask(url, headers);
  if (answer.status === 401 && accessToken() && (await renewToken())) answer = await ask(url, headers);
  if (answer.status >= 500) throw new Away(`the server is in trouble (${answer.status})`);
  if (!answer.ok) {
    const detail = await answer.json().then((body) => body.detail, () => null);
    throw new Refused(answer.status, typeof detail === "string" ? detail : `error ${answer.status}`);
  }
  return answer;
}

export async function getJson(path) {
  return (await get(new URL(path, API), { Accept: "application/json" })).json();
}

export async function getFile(address) {
  return (await get(new URL(address))).blob();
}

export const metadata = async (path) => (await getJson(`metadata/${quoted(path)}`)).data;

export async function children(path) {
  const found = [];
  let next = `search/${quoted(path)}?fields=structure_family&fields=structure&fields=metadata&page[limit]=100`;
  while (next) {
    const { data, links } = await getJson(next);
    found.push(...(data ?? []));
    // Only the query is taken: behind a proxy a server may not know its own address.
    next = links?.next ? `search/${quoted(path)}${new URL(links.next).search}` : null;
  }
  return found;
}

const READERS = {
  f8: Float64Array,
  f4: Float32Array,
  i8: BigInt64Array,
  u8: BigUint64Array,
  i4: Int32Array,
  u4: Uint32Array,
};

// Return the numbers of a slice of an array, C order; `slices` are texts such as "0:10:2", one for each axis.
export async function readArray(path, type, slices) {
  const query = slices ? `&slice=${slices.join(",")}` : "";
  const url = new URL(`array/full/${quoted(path)}?format=application/octet-stream${query}`, API);
  const buffer = await (await get(url)).arrayBuffer();
  const Reader = READERS[`${type.kind}${type.itemsize}`];
  if (!Reader) throw new Error(`numbers of the kind ${type.kind}${type.itemsize} are not known here`);
  return new Reader(buffer);
}

export async function readTable(path, columns) {
  const query = columns.map((column) => `&column=${encodeURIComponent(column)}`).join("");
  return getJson(`table/full/${quoted(path)}?format=application/json${query}`);
}

// Return {key: "given" | "none", tables_may_grow}; older servers of ours may not tell.
export async function about() {
  return (await get(new URL("about.json", PAGES))).json();
}

export async function giveKey(key) {
  const answer = await fetch(new URL("key", PAGES), { headers: { Authorization: `Apikey ${key}` } });
  if (!answer.ok) throw new Refused(answer.status, (await answer.json()).detail);
}

export async function forgetKey() {
  await fetch(new URL("key", PAGES), { headers: { "X-Powder": "forget" } });
}

const FRAGMENT = /^#api_key=([A-Za-z0-9]+)$/;

// Only what stands behind # has changed then, so nothing is loaded by itself.
window.addEventListener("hashchange", () => {
  if (FRAGMENT.test(window.location.hash)) takeKeyFromAddress().then(() => window.location.reload());
});

// A key in the address goes to the cookie and out of the address, the history and what is copied from there.
export async function takeKeyFromAddress() {
  const url = new URL(window.location.href);
  const inFragment = FRAGMENT.exec(url.hash);
  if (inFragment) {
    await giveKey(inFragment[1]);
    url.hash = "";
  }
  url.searchParams.delete("api_key");
  if (url.href !== window.location.href) window.history.replaceState(window.history.state, "", url.href);
}
