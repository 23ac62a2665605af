// The PIN pad, and the wait after too many wrong PINs. Without this the log-in works too.

const pin = document.getElementById("pin");
const people = document.getElementById("people");

for (const key of document.querySelectorAll("[data-digit]")) {
  key.addEventListener("click", () => {
    if (pin.value.length < Number(pin.maxLength)) pin.value += key.dataset.digit;
  });
}

document.getElementById("erase")?.addEventListener("click", () => {
  pin.value = pin.value.slice(0, -1);
});

people.addEventListener("change", () => {
  pin.value = "";
});

people.addEventListener("click", (event) => {
  // Not after a key, which may go on to another name; and not on a touch panel, where the pad
  // is there already and a keyboard on the screen would hide it.
  if (event.detail > 0 && matchMedia("(pointer: fine)").matches) pin.focus();
});

const wait = document.getElementById("wait");
if (wait) {
  const until = performance.now() + Number(wait.dataset.seconds) * 1000;
  const timer = setInterval(() => {
    const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
    wait.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (left === 0) {
      clearInterval(timer);
      wait.closest("[role=alert]").hidden = true;
    }
  }, 250);
}
