// What pages do by themselves. Each works without this, too.

// A page that waits for something looks again, as often as it says, and is replaced once it would
// say something else. Its reader stays where they are meanwhile.
const main = document.getElementById("main");
const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
async function lookAgain({ again, after }) {
  let failed = 0;
  while (again) {
    // A shop that has trouble is asked less and less often, by all at different times.
    await pause(after * 2 ** Math.min(failed, 5) * (failed ? 1 + Math.random() : 1));
    const response = await fetch(again).catch(() => {});
    if (!response?.ok) {
      if (response?.status < 500 && ![408, 429].includes(response.status)) return;
      failed += 1;
      continue;
    }
    failed = 0;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const next = page.getElementById("main");
    if (response.redirected || next?.textContent !== main.textContent) return location.replace(response.url);
    ({ again, after } = next.dataset);
  }
}
lookAgain(main.dataset);

// A product of a sale: once the sale has granted a hold, the shop's order for it is next. A shopper
// who has just pressed the button is led there; one who comes back to the page gets a link.
let pressed = false;
document.addEventListener("click", ({ target }) => {
  pressed ||= Boolean(target.closest?.(".floodgate button"));
});
// A button that is disabled while it asks loses the focus.
const refocus = (script) =>
  setTimeout(() => {
    if (document.activeElement === document.body) script.parentElement.querySelector(".floodgate button")?.focus();
  });
document.addEventListener("floodgate:outcome", ({ detail, target }) => {
  const next = document.getElementById("to-order");
  const hold = detail.hold;
  if (pressed) refocus(target);
  if (!hold || !["held", "confirmed"].includes(hold.state)) {
    next?.setAttribute("hidden", "");
    return;
  }
  const query = new URLSearchParams({ sale: target.dataset.sale, hold: detail.attempt });
  const path = `/checkout?${query}`;
  if (pressed && hold.state === "held") return location.assign(path);
  next?.setAttribute("href", path);
  next?.removeAttribute("hidden");
});
document.addEventListener("floodgate:problem", ({ target }) => pressed && refocus(target));
// The sale's state, for the style sheet; and its opening, for those who do not see the button.
document.addEventListener("floodgate:state", ({ detail, target }) => {
  const box = target.parentElement;
  const item = detail.items.find((of) => of.item === target.dataset.item);
  const isOut = item?.state === "sold_out" && !item.waitlist_open;
  const opened = box.querySelector("[data-opened]");
  if (opened && box.dataset.state === "scheduled" && detail.state === "open") opened.textContent = opened.dataset.opened;
  box.dataset.state = isOut ? "out" : detail.state;
});
