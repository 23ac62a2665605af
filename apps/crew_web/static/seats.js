// What is known of each seat, and how it is drawn. Shapes and colours: icons.svg, style.css.

import { gettext } from "./texts.js";

/**
 * A seat as seat control tells (apps/common/cabin.py, SeatView), and where it is on the map.
 * @typedef {object} Seat
 * @property {string} name
 * @property {number} row place in the order of rows, from the nose
 * @property {number} column place across the cabin, from the left
 * @property {string} rowName
 * @property {string} letter
 * @property {string} zone
 * @property {string} cabinClass
 * @property {HTMLElement} element
 * @property {Record<string, any>} view
 */

const ICONS = new URL("icons.svg", import.meta.url).href;

/** What a seat can look like, in the order of the state chips; with their words. */
export const LOOKS = {
  playing: () => gettext("playing"),
  paused: () => gettext("paused"),
  idle: () => gettext("idle"),
  announcement: () => gettext("announcement"),
  booting: () => gettext("starting"),
  off: () => gettext("off"),
  waiting: () => gettext("not heard of yet"),
  fault: () => gettext("fault"),
  lost: () => gettext("lost"),
};

/** The marks of a seat, the weightiest first; with their words. */
const MARKS = {
  twice: [(view) => view.claimed_twice, () => gettext("claimed by two players")],
  wrench: [(view) => view.faults?.length > 0, () => gettext("reports a fault")],
  call: [(view) => view.attendant_call, () => gettext("calls for attendance")],
  muted: [(view) => view.muted, () => gettext("muted")],
  locked: [(view) => view.locked, () => gettext("locked")],
};

/** @type {Map<string, Seat>} */
export const seats = new Map();

for (const element of document.querySelectorAll(".seat")) {
  const { seat, row, column, rowName, letter, zone, cabinClass } = element.dataset;
  seats.set(seat, {
    name: seat,
    row: Number(row),
    column: Number(column),
    rowName,
    letter,
    zone,
    cabinClass,
    element,
    view: { presence: "waiting" },
  });
}

/** @param {Seat} seat */
export function lookOf({ view }) {
  if (view.presence !== "live") return view.presence;
  return view.state ?? "waiting";
}

/** Draw a seat anew. @param {Seat} seat */
function draw(seat) {
  const look = lookOf(seat);
  const marks = Object.entries(MARKS).filter(([, [has]]) => has(seat.view));
  seat.element.dataset.look = look;
  seat.element.classList.toggle("calls", Boolean(seat.view.attendant_call));
  seat.element.querySelector(".glyph use").setAttribute("href", `${ICONS}#${look}`);
  seat.element.querySelector(".marks").replaceChildren(...marks.map(([name]) => icon(name)));
  const words = [seat.name, LOOKS[look]?.() ?? look, ...marks.map(([, [, word]]) => word())];
  seat.element.setAttribute("aria-label", words.join(", "));
  seat.element.title = words.join(", ");
}

/** @param {string} name a symbol of icons.svg */
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${ICONS}#${name}`);
  svg.append(use);
  return svg;
}

/**
 * Take up changed fields of some seats.
 * @param {Record<string, Record<string, any>>} changes by seat
 * @returns whether a list of what wants attention may look different now
 */
export function update(changes) {
  let attention = false;
  for (const [name, fields] of Object.entries(changes)) {
    const seat = seats.get(name);
    if (!seat) continue;
    Object.assign(seat.view, fields);
    attention ||= ["presence", "claimed_twice", "faults", "attendant_call", "state"].some(
      (field) => field in fields,
    );
    draw(seat);
  }
  count();
  return attention;
}

/** Show on each state chip how many seats are in that state; a chip without any is hidden. */
function count() {
  const counts = Object.fromEntries(Object.keys(LOOKS).map((look) => [look, 0]));
  for (const seat of seats.values()) counts[lookOf(seat)] += 1;
  for (const chip of document.querySelectorAll("[data-select-look]")) {
    const number = counts[chip.dataset.selectLook];
    chip.hidden = number === 0;
    chip.querySelector(".count").textContent = String(number);
    chip.setAttribute(
      "aria-label",
      gettext("Select by state: {state}, {count}", {
        state: LOOKS[chip.dataset.selectLook](),
        count: number,
      }),
    );
  }
}

for (const seat of seats.values()) draw(seat);
count();
