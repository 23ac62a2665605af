// The page's places: the cabin, the PA, video, content. The address keeps which is shown.

const buttons = [...document.querySelectorAll("[data-place]")];

/** Show a place. @param {string} name */
export function go(name) {
  for (const button of buttons) {
    const is = button.dataset.place === name;
    if (is) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
    document.getElementById(`place-${button.dataset.place}`).hidden = !is;
  }
  document.body.dataset.at = name;
  history.replaceState(null, "", name === "cabin" ? "/" : `#${name}`);
  document.body.dispatchEvent(new CustomEvent("place-changed", { detail: { name } }));
}

for (const button of buttons) {
  button.addEventListener("click", () => go(button.dataset.place));
  // A press before somebody listens would be lost without a sign.
  button.disabled = false;
}

/** Show the place that the address names; to be called when everybody listens. */
export function start() {
  const wanted = location.hash.slice(1);
  go(buttons.some((button) => button.dataset.place === wanted) ? wanted : "cabin");
}
