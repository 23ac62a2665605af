// Keeps what is marked with data-live fresh, and says when it is not.
const EVERY = 15_000;
const alarm = document.getElementById("alarm");

async function refresh() {
  const answer = await fetch(location.href, { signal: AbortSignal.timeout(10_000) });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelectorAll("[data-live]");
  document.querySelectorAll("[data-live]").forEach((old, index) => {
    if (old.innerHTML === fresh[index].innerHTML) return;
    // Who works by the keyboard, or has scrolled a table, stays where they are.
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const left = old.querySelector(".scroll")?.scrollLeft;
    old.replaceChildren(...fresh[index].childNodes);
    if (left) old.querySelector(".scroll").scrollLeft = left;
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  });
}

setInterval(() => {
  if (document.hidden || !document.querySelector("[data-live]")) return;
  refresh().then(
    () => (alarm.textContent = ""),
    () => (alarm.textContent = "The Hangar does not answer: what you see is not fresh."),
  );
}, EVERY);
