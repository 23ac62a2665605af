// The PA, video and content: what is asked for while it is seen, listening in, pictures, the seek dialog.

import { note, showValue } from "./deck.js";
import { onSelection } from "./selection.js";
import { gettext } from "./texts.js";

const LISTEN_SECONDS = 300;
const PICTURES_EVERY = 10_000;
const PICTURE_TIMEOUT = 15_000;
const SEAT_PICTURE_AFTER = 1_000;

const htmx = window.htmx;

const at = () => document.body.dataset.at;
const isSeen = () => document.visibilityState === "visible";

// -- asking, only while it is seen --------------------------------------------------------

/** Elements of a place, the event that makes them ask, and every how many seconds. */
const BEATS = [
  ["pa", "#pa-live", "beat", 1],
  ["pa", "#pa-messages", "slow-beat", 20],
  ["pa", "#pa-announcements", "slow-beat", 10],
  ["video", "#video-channels", "beat", 2],
  ["content", "#content-disks", "beat", 1],
];

let beats = 0;

setInterval(() => {
  beats += 1;
  for (const [place, element, event, every] of BEATS) {
    if (at() === place && isSeen() && beats % every === 0) htmx.trigger(element, event);
  }
}, 1000);

document.body.addEventListener("place-changed", ({ detail }) => {
  for (const [place, element, event] of BEATS) {
    if (detail.name === place) htmx.trigger(element, event);
  }
});

/** Who spoke in each area, to notice that an announcement is over and may be heard again. */
let spoke = "";

document.getElementById("pa-live").addEventListener("htmx:after:swap", () => {
  const areas = [...document.querySelectorAll(".area")].map((area) => area.dataset.source);
  if (areas.join() !== spoke) htmx.trigger("#pa-announcements", "slow-beat");
  spoke = areas.join();
});

// -- listening in, and hearing an announcement again --------------------------------------

const listen = document.getElementById("listen");
const listenToggle = document.getElementById("listen-toggle");
const listenLeft = document.getElementById("listen-left");
const LISTEN_HINT = listenLeft.textContent;
const replay = document.getElementById("replay");
let listenEnd = 0;

/** Stop a sound, and let go of its connection. @param {HTMLAudioElement} audio */
function silence(audio) {
  if (!audio.hasAttribute("src")) return;
  audio.pause();
  audio.removeAttribute("src");
  audio.load();
  show();
}

/** @param {HTMLAudioElement} audio @param {string} url */
function hear(audio, url) {
  silence(listen);
  silence(replay);
  audio.src = url;
  // Whether it plays is told by its events.
  audio.play().catch(() => {});
  show();
}

/** Show what is heard, on the buttons that stop it. */
function show() {
  const listening = listen.hasAttribute("src");
  listenToggle.setAttribute("aria-pressed", String(listening));
  listenToggle.querySelector("span").textContent = listening
    ? gettext("Stop listening")
    : gettext("Listen in");
  const left = Math.max(0, Math.ceil((listenEnd - Date.now()) / 1000));
  const clock = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  listenLeft.textContent = listening
    ? gettext("You hear the cabin for {time} more.", { time: clock })
    : LISTEN_HINT;
  for (const button of document.querySelectorAll("[data-replay]")) {
    const is = replay.getAttribute("src") === button.dataset.replay;
    button.setAttribute("aria-pressed", String(is));
    const icon = button.querySelector("use");
    icon.setAttribute("href", icon.getAttribute("href").replace(/#.*/, is ? "#stop" : "#playing"));
  }
}

listenToggle.addEventListener("click", () => {
  if (listen.hasAttribute("src")) {
    silence(listen);
    return;
  }
  listenEnd = Date.now() + LISTEN_SECONDS * 1000;
  hear(listen, "/api/v1/pa/listen");
});

setInterval(() => {
  if (!listen.hasAttribute("src")) return;
  if (Date.now() >= listenEnd) silence(listen);
  else show();
}, 1000);

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-replay]");
  if (!button) return;
  if (button.getAttribute("aria-pressed") === "true") silence(replay);
  else hear(replay, button.dataset.replay);
});

for (const audio of [listen, replay]) {
  audio.addEventListener("ended", () => silence(audio));
  audio.addEventListener("error", () => {
    if (!audio.hasAttribute("src")) return;
    silence(audio);
    note(gettext("It cannot be heard now. Try again in a moment."));
  });
}

document.getElementById("pa-announcements").addEventListener("htmx:after:swap", show);

// Nothing is heard that cannot be seen, and stopped, where one is.
document.body.addEventListener("place-changed", ({ detail }) => {
  if (detail.name === "pa") return;
  silence(listen);
  silence(replay);
});

// -- pictures of what is on the wire ------------------------------------------------------

/** @param {Element} element */
function isInView(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return element.checkVisibility() && bottom > 0 && top < innerHeight;
}

/**
 * Have a new picture take the old one's place when it is there.
 * @param {HTMLElement} figure
 * @param {string} alt what the picture is of
 * @returns {Promise<boolean>} whether one came
 */
function refresh(figure, alt) {
  const picture = new Image();
  picture.alt = alt;
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), PICTURE_TIMEOUT);
    picture.addEventListener("load", () => figure.replaceChildren(picture));
    for (const kind of ["load", "error"]) {
      picture.addEventListener(kind, () => {
        clearTimeout(timer);
        resolve(kind === "load");
      });
    }
    picture.src = `${figure.dataset.picture}?${Date.now()}`;
  });
}

/** One after the other: the server makes one at a time. */
async function refreshAll() {
  for (const figure of document.querySelectorAll('.channel[data-state="playing"] figure')) {
    const alt = gettext("What {channel} shows", { channel: figure.dataset.name });
    if (at() === "video" && isSeen() && isInView(figure)) await refresh(figure, alt);
  }
}

let refreshing = false;
let refreshed = 0;

setInterval(async () => {
  const isNew = document.querySelector('.channel[data-state="playing"] figure:not(:has(img))');
  const due = PICTURES_EVERY / (isNew ? 4 : 1);
  if (refreshing || at() !== "video" || Date.now() - refreshed < due) return;
  refreshing = true;
  await refreshAll();
  refreshed = Date.now();
  refreshing = false;
}, 500);

// -- what one seat sees, where the server can tell ----------------------------------------

const seatPicture = document.getElementById("seat-picture");

/** Ask for the next when the last has come. @param {Node[]} words instead of a picture */
async function watchSeat(words) {
  if (at() === "video" && isSeen() && isInView(seatPicture)) {
    const alt = document.getElementById("seat-sees").textContent;
    if (!(await refresh(seatPicture, alt))) seatPicture.replaceChildren(...words);
  }
  setTimeout(watchSeat, SEAT_PICTURE_AFTER, words);
}

if (seatPicture) watchSeat([...seatPicture.childNodes]);

// -- where an imposed video is for --------------------------------------------------------

const selectedRadio = document.getElementById("where-selected");

onSelection((names) => {
  document.getElementById("where-count").textContent = String(names.length);
  selectedRadio.disabled = names.length === 0;
  if (selectedRadio.disabled && selectedRadio.checked) {
    document.querySelector("[name=where]").checked = true;
  }
});

// -- the dialog to go to another place ----------------------------------------------------

const seek = document.getElementById("seek");

document.body.addEventListener("seek", () => {
  showValue(seek.querySelector("input[type=range]"));
  if (!seek.open) seek.showModal();
});

seek.addEventListener("click", (event) => {
  if (event.target.closest("[data-close]")) seek.close();
});

document.body.addEventListener("video-changed", () => seek.close());
