// A product of a sale: once the sale has granted a hold, the shop's order for it is next. A shopper
// who has just pressed the button is led there; one who comes back to the page gets a link.
let pressed = false;
document.addEventListener("click", ({ target }) => {
  pressed ||= Boolean(target.closest?.(".floodgate button"));
});
document.addEventListener("floodgate:outcome", ({ detail, target }) => {
  const next = document.getElementById("to-order");
  const hold = detail.hold;
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
