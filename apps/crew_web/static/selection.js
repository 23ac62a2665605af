// Which seats are selected: by tap, drag, header, chip and keyboard.

import { lookOf, seats } from "./seats.js";
import { gettext } from "./texts.js";

const map = document.getElementById("map");
const portrait = matchMedia("(orientation: portrait)");

/** @type {Set<string>} */
const selected = new Set();

/** Called with the names of the selected seats after each change. */
const listeners = [];

/** @param {(names: string[]) => void} listener */
export function onSelection(listener) {
  listeners.push(listener);
}

/** Make exactly these seats selected. @param {Iterable<string>} names */
export function select(names) {
  const wanted = new Set([...names].filter((name) => seats.has(name)));
  for (const seat of seats.values()) {
    const is = wanted.has(seat.name);
    if (is !== selected.has(seat.name)) seat.element.setAttribute("aria-selected", String(is));
  }
  selected.clear();
  for (const name of wanted) selected.add(name);
  for (const listener of listeners) listener([...selected]);
}

/** Select these seats too, or no longer when all of them are. @param {string[]} names */
function toggle(names) {
  const all = names.every((name) => selected.has(name));
  const next = new Set(selected);
  for (const name of names) all ? next.delete(name) : next.add(name);
  select(next);
}

/** @param {(seat: import("./seats.js").Seat) => boolean} wanted */
function namesWhere(wanted) {
  return [...seats.values()].filter(wanted).map((seat) => seat.name);
}

function isShown(seat) {
  return seat.element.offsetParent !== null;
}

// -- headers and chips --------------------------------------------------------------------

/** What each data-select-* attribute means. */
const KINDS = {
  selectAll: () => () => true,
  selectClass: (value) => (seat) => seat.cabinClass === value,
  selectZone: (value) => (seat) => seat.zone === value,
  selectRow: (value) => (seat) => seat.rowName === value,
  selectLook: (value) => (seat) => lookOf(seat) === value,
  selectSeats: (value) => {
    const names = new Set(value.split(" "));
    return (seat) => names.has(seat.name);
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.selectNone !== undefined) {
    select([]);
    return;
  }
  const kind = Object.keys(KINDS).find((name) => button.dataset[name] !== undefined);
  if (!kind) return;
  const names = namesWhere(KINDS[kind](button.dataset[kind]));
  if (kind === "selectSeats") {
    select(names);
    reveal(names);
  } else {
    toggle(names);
  }
});

/** Bring the first of these seats into view. @param {string[]} names */
function reveal(names) {
  const first = seats.get(names[0]);
  if (!first) return;
  if (!isShown(first)) show("all");
  rove(first);
  first.element.scrollIntoView({ block: "nearest" });
}

// -- views: the whole cabin, or one zone, larger ------------------------------------------

/** @param {string} view "all" or a zone */
export function show(view) {
  for (const tab of document.querySelectorAll("[data-view]")) {
    tab.setAttribute("aria-pressed", String(tab.dataset.view === view));
  }
  map.classList.toggle("zoomed", view !== "all");
  for (const zone of map.querySelectorAll(".zone")) {
    zone.hidden = view !== "all" && zone.dataset.zone !== view;
  }
  for (const chip of document.querySelectorAll(".chips [data-select-zone]")) {
    chip.hidden = chip.dataset.selectZone !== view;
  }
  measure();
  const focused = [...seats.values()].find((seat) => seat.element.tabIndex === 0);
  if (!focused || !isShown(focused)) rove([...seats.values()].find(isShown));
}

/** Tell the style sheet how many rows, galleys and doors share the map's length. */
function measure() {
  let units = 0;
  for (const zone of map.querySelectorAll(".zone:not([hidden])")) {
    units += zone.querySelectorAll(".row").length;
    units += 0.7 * zone.querySelectorAll(".fixture").length;
  }
  map.style.setProperty("--units", String(units));
}

for (const tab of document.querySelectorAll("[data-view]")) {
  tab.addEventListener("click", () => show(tab.dataset.view));
}

// -- tap and drag -------------------------------------------------------------------------

/**
 * What lies under a pointer, as a rectangle of rows and columns; a row's header is all of it.
 * @param {Element | null} element
 */
function cellOf(element) {
  const seat = seats.get(element?.closest?.(".seat")?.dataset.seat);
  if (seat) return { rows: [seat.row, seat.row], columns: [seat.column, seat.column] };
  const header = element?.closest?.("[data-select-row]");
  if (!header) return null;
  const row = Number(header.closest(".row").dataset.row);
  return { rows: [row, row], columns: [0, 99] };
}

function within(seat, first, last) {
  const low = (kind) => Math.min(first[kind][0], last[kind][0]);
  const high = (kind) => Math.max(first[kind][1], last[kind][1]);
  return (
    seat.row >= low("rows") &&
    seat.row <= high("rows") &&
    seat.column >= low("columns") &&
    seat.column <= high("columns") &&
    isShown(seat)
  );
}

/** The drag under way: where it began, what was selected then, whether it adds or takes. */
let drag = null;
let dragged = false;

map.addEventListener("pointerdown", (event) => {
  dragged = false;
  const start = cellOf(event.target);
  if (!start || event.button !== 0) return;
  const names = namesWhere((seat) => within(seat, start, start));
  drag = {
    start,
    last: start,
    before: new Set(selected),
    adds: !names.every((name) => selected.has(name)),
  };
  // A touch is captured by what it began on; without that, moves tell what they pass over.
  event.target.releasePointerCapture?.(event.pointerId);
});

map.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const cell = cellOf(document.elementFromPoint(event.clientX, event.clientY));
  if (!cell || (cell.rows[0] === drag.last.rows[0] && cell.columns[0] === drag.last.columns[0])) {
    return;
  }
  drag.last = cell;
  dragged = true;
  const names = namesWhere((seat) => within(seat, drag.start, cell));
  const next = new Set(drag.before);
  for (const name of names) drag.adds ? next.add(name) : next.delete(name);
  select(next);
});

for (const end of ["pointerup", "pointercancel"]) {
  window.addEventListener(end, () => {
    drag = null;
  });
}

map.addEventListener(
  "click",
  (event) => {
    if (dragged) {
      // The drag has selected; the click that ends it must not take a header's row back.
      event.stopPropagation();
      dragged = false;
      return;
    }
    const seat = seats.get(event.target.closest(".seat")?.dataset.seat);
    if (seat) {
      rove(seat);
      toggle([seat.name]);
    }
  },
  true,
);

// -- keyboard -----------------------------------------------------------------------------

/** One seat can be reached by Tab; arrows move on from there. */
function rove(seat) {
  if (!seat) return;
  for (const other of map.querySelectorAll('.seat[tabindex="0"]')) other.tabIndex = -1;
  seat.element.tabIndex = 0;
}

function focusSeat(seat) {
  rove(seat);
  seat.element.focus();
}

/** The next seat from `from` in a direction; over aisles and galleys, not beyond the cabin. */
function neighbour(from, rows, columns) {
  const shown = [...seats.values()].filter(isShown);
  if (columns) {
    const line = shown.filter((seat) => seat.row === from.row);
    return line
      .filter((seat) => (seat.column - from.column) * columns > 0)
      .sort((a, b) => (a.column - b.column) * columns)[0];
  }
  const ahead = shown.filter((seat) => (seat.row - from.row) * rows > 0);
  const distance = (seat) =>
    Math.abs(seat.row - from.row) * 100 + Math.abs(seat.column - from.column);
  return ahead.sort((a, b) => distance(a) - distance(b))[0];
}

const ALONG = { ArrowRight: 1, ArrowLeft: -1 };
const ACROSS = { ArrowUp: 1, ArrowDown: -1 };

/** Rows and columns that an arrow moves by. The nose is on the left, or on top if upright. */
function direction(key) {
  if (portrait.matches) {
    return { rows: -(ACROSS[key] ?? 0), columns: ALONG[key] ?? 0 };
  }
  return { rows: ALONG[key] ?? 0, columns: ACROSS[key] ?? 0 };
}

/** Where Shift and arrows extend from. */
let anchor = null;

function move(event, seat) {
  const { rows, columns } = direction(event.key);
  const next = neighbour(seat, rows, columns);
  if (!next) return;
  if (event.shiftKey) {
    anchor ??= { seat, before: new Set(selected) };
    const cell = (one) => ({ rows: [one.row, one.row], columns: [one.column, one.column] });
    const names = namesWhere((one) => within(one, cell(anchor.seat), cell(next)));
    select([...anchor.before, ...names]);
  } else {
    anchor = null;
  }
  focusSeat(next);
}

/** Keys that work while the map has the focus; the help dialog lists them. */
function keyAction(event, seat) {
  if (event.key in ALONG || event.key in ACROSS) return () => move(event, seat);
  const same = (field) => () => toggle(namesWhere((one) => one[field] === seat[field]));
  const actions = {
    " ": () => toggle([seat.name]),
    Enter: () => toggle([seat.name]),
    r: same("rowName"),
    z: same("zone"),
    c: same("cabinClass"),
    a: () => toggle(namesWhere(() => true)),
    Escape: () => select([]),
    Home: () => focusSeat([...seats.values()].filter(isShown)[0]),
    End: () => focusSeat([...seats.values()].filter(isShown).at(-1)),
  };
  return actions[event.key];
}

map.addEventListener("keydown", (event) => {
  const seat = seats.get(event.target.dataset?.seat);
  if (!seat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^[0-9]$/.test(event.key)) {
    document.querySelectorAll("[data-view]")[Number(event.key)]?.click();
    event.preventDefault();
    [...seats.values()].find((one) => one.element.tabIndex === 0)?.element.focus();
    return;
  }
  const action = keyAction(event, seat);
  if (!action) return;
  if (!event.shiftKey) anchor = null;
  action();
  event.preventDefault();
});

// -- what is said of it -------------------------------------------------------------------

const count = document.getElementById("selected-count");
const field = document.getElementById("selected-seats");

onSelection((names) => {
  count.textContent = names.length
    ? gettext("{count} of {total} selected", { count: names.length, total: seats.size })
    : gettext("Nothing selected");
  field.value = names.join(" ");
  document.body.classList.toggle("has-selection", names.length > 0);
  for (const part of document.querySelectorAll("[data-needs-selection]")) {
    part.disabled = names.length === 0;
  }
  for (const button of document.querySelectorAll("[data-select-zone], [data-select-class]")) {
    const kind = button.dataset.selectZone === undefined ? "selectClass" : "selectZone";
    const wanted = namesWhere(KINDS[kind](button.dataset[kind]));
    button.setAttribute("aria-pressed", String(wanted.every((name) => selected.has(name))));
  }
});

show("all");
select([]);
