// The cabin's events (docs: apps/common/cabin.py), and how we know that they still come.

import { update } from "./seats.js";
import { gettext } from "./texts.js";

const SILENT_AFTER = 12_000;
const RETRY_FIRST = 1_000;
const RETRY_MAX = 15_000;

const lamp = document.getElementById("lamp");
const silent = document.getElementById("stream-silent");
const since = document.getElementById("stream-silent-since");

let source = null;
let heard = Date.now();
let attempts = 0;

/** Tell htmx's part of the page that something happened. */
function tell(event, detail = {}) {
  document.body.dispatchEvent(new CustomEvent(event, { detail }));
}

function hear() {
  heard = Date.now();
  attempts = 0;
  if (document.body.classList.contains("stale")) {
    document.body.classList.remove("stale");
    silent.hidden = true;
  }
  lamp.classList.add("live");
  lamp.querySelector("span").textContent = gettext("Live");
}

const KINDS = {
  snapshot: ({ seats }) => {
    update(seats);
    tell("attention-changed");
    tell("snapshot");
  },
  seats: (changes) => {
    if (update(changes)) tell("attention-changed");
    tell("seats-changed", { names: Object.keys(changes) });
  },
  command: (progress) => tell("command-progress", progress),
  degraded: () => tell("degraded-changed"),
  ping: () => {},
};

function connect() {
  source?.close();
  source = new EventSource("/api/v1/events");
  for (const [kind, take] of Object.entries(KINDS)) {
    source.addEventListener(kind, (event) => {
      hear();
      take(JSON.parse(event.data));
    });
  }
  source.addEventListener("error", () => {
    // The browser tries again by itself, unless the answer was no stream at all.
    if (source.readyState !== EventSource.CLOSED) return;
    const delay = Math.min(RETRY_MAX, RETRY_FIRST * 2 ** attempts) * (0.5 + Math.random() / 2);
    attempts = Math.min(attempts + 1, 10);
    setTimeout(connect, delay);
  });
}

/** Nothing heard for a while: what the map shows is old, and must look it. */
function watch() {
  if (Date.now() - heard < SILENT_AFTER || document.body.classList.contains("stale")) return;
  document.body.classList.add("stale");
  since.textContent = `${new Date(heard).toISOString().slice(11, 19)} Z`;
  silent.hidden = false;
  lamp.classList.remove("live");
  lamp.querySelector("span").textContent = gettext("Not live");
  connect();
}

connect();
setInterval(watch, 500);
