// The cabin's events (docs: apps/common/cabin.py), and how we know that they still come.

import { update } from "./seats.js";
import { gettext } from "./texts.js";

const SILENT_AFTER = 12_000;
const RETRY_FIRST = 2_000;
const RETRY_MAX = 10_000;
const MOST_MISSED = 5;

const lamp = document.getElementById("lamp");
const silent = document.getElementById("stream-silent");
const since = document.getElementById("stream-silent-since");

let source = null;
let heard = Date.now();
let began = Date.now();
let retry = RETRY_FIRST;
/** The number of the last command that we heard of. */
let lastSeq = null;

/** Tell htmx's part of the page that something happened. */
function tell(event, detail = {}) {
  document.body.dispatchEvent(new CustomEvent(event, { detail }));
}

function hear() {
  heard = Date.now();
  retry = RETRY_FIRST;
  if (document.body.classList.contains("stale")) {
    document.body.classList.remove("stale");
    silent.hidden = true;
  }
  lamp.classList.add("live");
  lamp.querySelector("span").textContent = gettext("Live");
}

const KINDS = {
  snapshot: ({ seats, seq }) => {
    update(seats);
    tell("attention-changed");
    tell("snapshot");
    // Commands that were issued while the stream was away.
    const first = Math.max((lastSeq ?? seq) + 1, seq - MOST_MISSED + 1);
    for (let missed = first; missed <= seq; missed++) tell("command-progress", { seq: missed });
    lastSeq = seq;
  },
  seats: (changes) => {
    if (update(changes)) tell("attention-changed");
    tell("seats-changed", { names: Object.keys(changes) });
  },
  command: (progress) => {
    lastSeq = Math.max(lastSeq, progress.seq);
    tell("command-progress", progress);
  },
  degraded: () => tell("degraded-changed"),
  ping: () => {},
};

function connect() {
  began = Date.now();
  source = new EventSource("/api/v1/events");
  for (const [kind, take] of Object.entries(KINDS)) {
    source.addEventListener(kind, (event) => {
      hear();
      take(JSON.parse(event.data));
    });
  }
  source.addEventListener("error", lose);
}

/**
 * The stream is lost: begin anew after 1 to 10 s, longer each time. The browser would do so
 * after the same time on every panel, and they would all be there at once.
 */
function lose() {
  source.close();
  source = null;
  setTimeout(connect, retry * (0.5 + Math.random() / 2));
  retry = Math.min(RETRY_MAX, retry * 2);
}

/** Nothing heard for a while: what the map shows is old, and must look it. */
function watch() {
  if (Date.now() - heard < SILENT_AFTER) return;
  if (source && Date.now() - began >= SILENT_AFTER) lose();
  if (document.body.classList.contains("stale")) return;
  document.body.classList.add("stale");
  since.textContent = `${new Date(heard).toISOString().slice(11, 19)} Z`;
  silent.hidden = false;
  lamp.classList.remove("live");
  lamp.querySelector("span").textContent = gettext("Not live");
}

connect();
setInterval(watch, 500);
