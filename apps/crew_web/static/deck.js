// The actions, the armed step, the delivery reports and the other panels.

import { go } from "./places.js";
import { onSelection, select } from "./selection.js";
import { gettext } from "./texts.js";

const MOST_REPORTS = 12;
const ACTIVE_EVERY = 60_000;

const htmx = window.htmx;
const csrf = JSON.parse(document.body.getAttribute("hx-headers:inherited"));

// -- sliders ------------------------------------------------------------------------------

/** Say what a slider is at: percent, or the time in a film. @param {HTMLInputElement} slider */
export function showValue(slider) {
  const { duration } = slider.dataset;
  const seconds = Math.floor((Number(slider.value) / 100) * Number(duration));
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  slider.form.querySelector("output").value = duration ? clock : `${slider.value} %`;
}

document.addEventListener("input", (event) => {
  if (event.target.matches("input[type=range]")) showValue(event.target);
});
for (const slider of document.querySelectorAll("input[type=range]")) showValue(slider);

// -- panels -------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];

/** @param {string} name of the panel to show */
function open(name) {
  for (const tab of tabs) {
    const is = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(is));
    tab.tabIndex = is ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !is;
  }
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => open(tab.id.replace("tab-", "")));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(index + step + tabs.length) % tabs.length];
    next.click();
    next.focus();
  });
}

let shownSeat = null;

onSelection((names) => {
  if (names.length !== 1 || names[0] === shownSeat) return;
  [shownSeat] = names;
  htmx.ajax("GET", `/seats/${shownSeat}`, { target: "#panel-seat", swap: "innerHTML" });
  // Who works on a list goes on with it; who taps on the map wants to know.
  if (!document.activeElement.closest(".panels")) open("seat");
});

document.body.addEventListener("seats-changed", ({ detail }) => {
  if (detail.names.includes(shownSeat)) htmx.trigger("#seat-details", "changed");
});

// -- deliveries ---------------------------------------------------------------------------

const reports = document.getElementById("reports");
const asked = new Set();
/** One card after the other: of many requests for the same target htmx drops some. */
let asking = Promise.resolve();

/** Each that is not final asks for itself again, and that of a lost seat may never be. */
function dropOldest() {
  for (const old of [...reports.children].slice(MOST_REPORTS)) old.remove();
}

/** A command got further. Whose it is does not matter: the crew see each other's too. */
document.body.addEventListener("command-progress", ({ detail }) => {
  const card = document.getElementById(`command-${detail.seq}`);
  if (card) {
    htmx.trigger(card.querySelector(".refresh"), "progress");
  } else if (!asked.has(detail.seq)) {
    asked.add(detail.seq);
    // Our own command's card comes with the answer, within this time.
    setTimeout(() => {
      if (document.getElementById(`command-${detail.seq}`)) return;
      const fetchCard = () =>
        htmx.ajax("GET", `/commands/${detail.seq}`, { target: "#reports", swap: "afterbegin" });
      asking = asking.then(fetchCard, fetchCard).finally(dropOldest);
    }, 400);
  }
});

/** The stream has begun anew. What have we missed, or were there no reports to be had at first? */
document.body.addEventListener("snapshot", () => {
  for (const card of reports.querySelectorAll(".refresh")) htmx.trigger(card, "progress");
  if (!reports.querySelector("article")) htmx.trigger(reports, "wanted");
});

document.body.addEventListener("sent", () => {
  open("reports");
  reports.parentElement.scrollTop = 0;
  dropOldest();
  // Where the page is too small for both, the actions make way.
  reports.closest(".panels").scrollIntoView({ block: "nearest" });
});

document.addEventListener("click", (event) => {
  event.target.closest("[data-dismiss]")?.closest("article").remove();
  if (!event.target.closest("[data-deliveries]")) return;
  go("cabin");
  open("reports");
});

// -- the armed step -----------------------------------------------------------------------

const arm = document.getElementById("arm");
let disarming = null;

document.body.addEventListener("armed", () => {
  const countdown = arm.querySelector("progress");
  const seconds = arm.querySelector(".seconds");
  const until = performance.now() + Number(countdown.max) * 1000;
  clearInterval(disarming);
  const tick = () => {
    const left = (until - performance.now()) / 1000;
    countdown.value = Math.max(0, left);
    seconds.textContent = String(Math.max(0, Math.ceil(left)));
    if (left <= 0) arm.close("expired");
  };
  tick();
  disarming = setInterval(tick, 100);
  if (!arm.open) arm.showModal();
  (arm.querySelector("#pin") ?? arm.querySelector("[data-disarm]")).focus();
});

// What is on its way cannot be disarmed: its answer closes the dialog.
arm.addEventListener("htmx:before:request", () => clearInterval(disarming));

arm.addEventListener("close", () => {
  clearInterval(disarming);
  if (arm.returnValue === "expired") note(gettext("Disarmed: the time was up. Nothing was sent."));
  arm.returnValue = "";
  arm.replaceChildren();
});

arm.addEventListener("click", (event) => {
  const pin = arm.querySelector("#pin");
  const { digit } = event.target.closest("[data-digit]")?.dataset ?? {};
  if (digit && pin.value.length < Number(pin.maxLength)) pin.value += digit;
  if (event.target.closest("#erase")) pin.value = pin.value.slice(0, -1);
  if (event.target.closest("[data-disarm]")) arm.close("disarmed");
});

for (const kind of ["sent", "video-changed", "content-changed"]) {
  document.body.addEventListener(kind, () => {
    if (arm.open) arm.close("sent");
  });
}

// -- what went wrong on the way -----------------------------------------------------------

const mediaNotes = document.getElementById("media-notes");

/** Put a note of our own where the crew look. @param {string} text */
export function note(text) {
  const card = document.getElementById("note").content.firstElementChild.cloneNode(true);
  card.querySelector("p").textContent = text;
  if (document.body.dataset.at === "cabin") {
    reports.prepend(card);
    open("reports");
  } else {
    mediaNotes.replaceChildren(card);
  }
}

// The last order's note is about that one alone.
document.body.addEventListener("htmx:before:request", ({ detail }) => {
  if (detail.ctx.request.method === "POST") mediaNotes.replaceChildren();
});
document.body.addEventListener("place-changed", () => mediaNotes.replaceChildren());

const unreachable = document.getElementById("page-unreachable");

/** The page's server did not answer. @param {string} [method] of the request */
function noAnswer(method) {
  unreachable.hidden = false;
  if (method !== "POST") return;
  if (arm.open) arm.close("failed");
  const text =
    document.body.dataset.at === "cabin"
      ? gettext(
          "No answer from this page's server: the command may or may not have been sent. Look at the deliveries before you try again.",
        )
      : gettext(
          "No answer from this page's server: it may or may not have been done. Look before you try again.",
        );
  note(text);
}

document.body.addEventListener("htmx:error", ({ detail }) => noAnswer(detail.ctx?.request.method));

document.body.addEventListener("htmx:before:response", (event) => {
  const { response, request } = event.detail.ctx;
  // What nginx says in the server's place is no part of this page.
  const away = response.status === 502 || response.status === 504;
  // Of the page's own answers each has this header: theirs say what to do.
  const busy = response.status === 429 && !response.headers.has("X-Content-Type-Options");
  // A refresh that fails leaves what is there; a banner says what is wrong.
  if (away || busy || (response.status >= 500 && request.method === "GET")) event.preventDefault();
  if (away) noAnswer(request.method);
  else unreachable.hidden = true;
  // Notes of what went wrong are beneath the dialog.
  if (response.status >= 400 && request.method === "POST" && arm.open) arm.close("failed");
  if (busy && request.method === "POST") {
    note(gettext("That was too much at once. Nothing was sent: try again in a moment."));
  }
});

// -- the rest -----------------------------------------------------------------------------

const deckToggle = document.getElementById("deck-toggle");
deckToggle.addEventListener("click", () => {
  const is = document.body.classList.toggle("deck-open");
  deckToggle.setAttribute("aria-expanded", String(is));
});

const help = document.getElementById("help");
for (const button of document.querySelectorAll("[data-help]")) {
  button.addEventListener("click", () => help.showModal());
}
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, textarea, select");
  if (event.key === "?" && !typing && !help.open && !arm.open) help.showModal();
});

// Whoever looks at the map and taps on it is here, though nothing is sent to the server.
let active = Date.now();
for (const kind of ["pointerdown", "keydown"]) {
  document.addEventListener(kind, () => {
    if (Date.now() - active < ACTIVE_EVERY) return;
    active = Date.now();
    fetch("/session/active", { method: "POST", headers: csrf }).catch(() => {});
  });
}

// Back from the browser's cache after a log-out: ask the server who is here.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

select([]);
