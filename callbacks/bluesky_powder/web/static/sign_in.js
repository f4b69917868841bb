// What is said where a key is missing or wrong, with a place for one.

import { about, accessToken, forgetKey, giveKey, loginAddress } from "./api.js";
import { el } from "./dom.js";

export async function signIn(error) {
  const given = await about().then((told) => told.key === "given", () => false);
  const user = accessToken() != null;
  const text = given
    ? "Not authorized: the server does not accept this key, or it does not allow this."
    : user
      ? "Not authorized: your login has ended, or you may not see this."
      : "Not authorized: this server wants a key or a login.";
  const input = el("input", { type: "password", name: "key", autocomplete: "off", required: true, id: "powder-key" });
  const said = el("p", { role: "alert", class: "quiet" }, error.message);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await giveKey(input.value.trim());
      window.location.reload();
    } catch (failure) {
      said.textContent = failure.message;
    }
  };
  return el(
    "section",
    { class: "sign-in powder" },
    el("h1", {}, "Powder runs"),
    el("p", { class: "banner warn", role: "alert" }, text),
    el(
      "form",
      { onsubmit: submit },
      el("label", { for: "powder-key" }, "API key"),
      input,
      el("button", { type: "submit" }, "Use this key"),
      given && el("button", { type: "button", onclick: () => forgetKey().then(() => window.location.reload()) }, "Forget the key"),
    ),
    el("p", {}, "With a user account: ", el("a", { href: loginAddress() }, "log in at Tiled"), ", then come back."),
    said,
  );
}
