// Starts the builder for a developer: with the connection in the address that `make builder` prints, or that of a form.
//
// The address has the connection after a `#`, which browsers never send to a server. It moves into this tab's session
// storage and leaves the address at once. A page of a product does not load this file: it calls startBuilder itself.

import { startBuilder } from "./builder.js";
import { h } from "./dom.js";

const STORED = "audience-builder-connection";
const FIELDS = [
  ["gateway", "Address of the HTTP gateway", "http://127.0.0.1:8080"],
  ["org", "Org", "demo"],
  ["token", "Token", ""],
];

function connectionOfAddress() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const connection = Object.fromEntries(FIELDS.map(([name]) => [name, fields.get(name)]));
  history.replaceState(null, "", location.pathname);
  // All three or nothing: a link must not send the stored token to another gateway.
  return Object.values(connection).every(Boolean) ? connection : null;
}

function start(connection) {
  sessionStorage.setItem(STORED, JSON.stringify(connection));
  startBuilder(document.getElementById("builder"), { ...connection, token: async () => connection.token });
}

function askForConnection() {
  const inputs = FIELDS.map(([name, label, value]) =>
    h("label", {}, label, h("input", { name, value, required: true, autocomplete: "off", type: name === "token" ? "password" : "text" })),
  );
  const form = h(
    "form",
    {
      class: "card connect",
      onsubmit: (event) => {
        event.preventDefault();
        start(Object.fromEntries(new FormData(form)));
      },
    },
    h("h1", {}, "Audience builder"),
    h("p", {}, "Open the address that ", h("code", {}, "make builder"), " prints, or connect to a gateway here."),
    inputs,
    h("button", { class: "primary" }, "Connect"),
  );
  document.getElementById("builder").replaceChildren(h("main", {}, form));
  form.elements.gateway.focus();
}

const connection = connectionOfAddress() ?? JSON.parse(sessionStorage.getItem(STORED));
if (connection) start(connection);
else askForConnection();
