// The page's live half: a countdown by the server's clock, buying without a reload, and what becomes of it. The server renders
// every word; this only puts it in place. Without this file the page works by plain forms.
const sale = document.getElementById("sale");
const outcome = document.getElementById("outcome");
const form = document.getElementById("buy");
if (sale) start();

function start() {
  const lang = sale.dataset.lang;
  const path = `/api/v1/sales/${sale.dataset.sale}`;
  let opensAt = Number(sale.dataset.opens);
  let state = sale.dataset.state;
  // Until the clock has been compared, the page's own time of rendering will do.
  let offset = Number(sale.dataset.now) - Date.now();
  let polling = false;
  let watched = null;

  // Of a few round trips the shortest says most about the server's clock (NTP's reasoning, RFC 5905).
  async function compareClocks() {
    let best = Infinity;
    for (let i = 0; i < 4; i++) {
      try {
        const sent = performance.now();
        const text = await (await fetch("/time", { cache: "no-store" })).text();
        const trip = performance.now() - sent;
        if (trip < best) {
          best = trip;
          offset = Number(text) + trip / 2 - Date.now();
        }
      } catch { /* the page's own time stays */ }
    }
  }

  const now = () => Date.now() + offset;

  function tick() {
    const countdown = document.getElementById("countdown");
    if (countdown) countdown.textContent = clock(opensAt - now());
    for (const left of document.querySelectorAll("[data-until]")) left.textContent = clock(Number(left.dataset.until) - now());
    if (state === "scheduled" && now() >= opensAt) poll();
    setTimeout(tick, 1000 - (now() % 1000) + 5);
  }

  function clock(ms) {
    const seconds = Math.max(0, Math.ceil(ms / 1000));
    const two = (n) => String(Math.floor(n)).padStart(2, "0");
    return `${two(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
  }

  function localTimes(root) {
    for (const time of root.querySelectorAll("time[data-local]")) {
      time.textContent = new Date(time.dateTime).toLocaleString(lang, { dateStyle: "medium", timeStyle: "medium" });
    }
  }

  // Asks for the sale until it is open, then every few seconds for what is left. The chance in the pauses keeps a crowd from
  // asking in step.
  async function poll() {
    if (polling) return;
    polling = true;
    for (;;) {
      try {
        show(await (await fetch(path, { cache: "no-cache" })).json());
      } catch { /* asked again below */ }
      if (state === "closed" || (state === "scheduled" && now() < opensAt - 2000)) break;
      const pause = state === "scheduled" ? 300 : 3000;
      await new Promise((done) => setTimeout(done, pause + Math.random() * pause));
    }
    polling = false;
  }

  function show(seen) {
    if (!seen.state) return;
    if (state !== "open" && seen.state === "open") {
      const opened = document.getElementById("opened");
      if (opened) opened.textContent = opened.dataset.text;
    }
    state = seen.state;
    opensAt = Date.parse(seen.opens_at);
    const waiting = document.querySelector(".while-closed");
    if (waiting) waiting.hidden = state !== "scheduled";
    document.querySelector(".while-open").hidden = state === "scheduled";
    const tag = document.getElementById("sale-state");
    tag.textContent = tag.dataset[state];
    // The end may have been moved, or have come early.
    const closes = document.getElementById("closes");
    if (Date.parse(closes.dateTime) !== Date.parse(seen.closes_at)) {
      closes.dateTime = seen.closes_at;
      localTimes(closes.parentElement);
    }
    const word = document.getElementById("closes-word");
    word.textContent = state === "closed" ? word.dataset.closed : word.dataset.open;
    for (const item of seen.items) {
      const tag = document.querySelector(`[data-item="${item.item}"]`);
      // What is left at the end is not sold out, and not to be had any more either.
      const word = state === "closed" && item.state === "available" ? "ended" : item.state;
      if (tag && tag.dataset[word]) tag.textContent = tag.dataset[word];
    }
    const button = form && form.querySelector("button");
    if (button && !button.dataset.asking) {
      button.disabled = state !== "open";
      button.textContent = state === "open" ? button.dataset.open : state === "scheduled" ? button.dataset.wait : tag.textContent;
    }
  }

  const send = (form) =>
    fetch(form.action, { method: "POST", headers: { "X-Fragment": "1" }, body: new URLSearchParams(new FormData(form)) });

  function put(html, focus) {
    outcome.innerHTML = html;
    localTimes(outcome);
    tickOnce();
    const pay = outcome.querySelector("form.pay");
    if (pay) pay.addEventListener("submit", (event) => submit(event, pay));
    if (focus) outcome.querySelector("h2")?.focus();
    watch();
  }

  function tickOnce() {
    for (const left of document.querySelectorAll("[data-until]")) left.textContent = clock(Number(left.dataset.until) - now());
  }

  async function submit(event, form) {
    event.preventDefault();
    const button = form.querySelector("button");
    const label = button.textContent;
    button.disabled = true;
    button.dataset.asking = "1";
    if (button.dataset.busy) button.textContent = button.dataset.busy;
    try {
      const response = await send(form);
      const kind = response.headers.get("content-type") || "";
      if (!kind.startsWith("text/html")) throw new Error(String(response.status));
      put(await response.text(), true);
      renewKey();
    } catch {
      // The same key goes out again, so nothing can be bought twice.
      const failed = document.getElementById("buy")?.querySelector("button").dataset.failed;
      // What is shown stays: it may hold the button that is to be pressed again.
      const line = outcome.querySelector("p.failed") || outcome.appendChild(document.createElement("p"));
      line.className = "failed";
      line.textContent = failed || "";
    }
    delete button.dataset.asking;
    button.disabled = false;
    button.textContent = label;
  }

  // A purchase that got an answer for good is over: the next one needs a key of its own.
  function renewKey() {
    const said = outcome.querySelector("section")?.dataset.outcome;
    if (!form || !["granted", "waitlisted"].includes(said)) return;
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    form.elements.key.value = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  }

  // Follows the attempt that the page shows, until nothing more can happen to it.
  async function watch() {
    const section = outcome.querySelector("section[data-attempt]");
    const attempt = section?.dataset.attempt;
    if (!attempt || section.dataset.final === "true" || watched === attempt) return;
    watched = attempt;
    let pause = 1000;
    while (watched === attempt) {
      try {
        const response = await fetch(`${path}/attempts/${attempt}/events`, { headers: { "Floodgate-Pass": form.dataset.pass } });
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (;;) {
          const { value, done } = await reader.read();
          if (done || watched !== attempt) break;
          text += value;
          const events = text.split("\n\n");
          text = events.pop();
          for (const event of events) {
            const data = event.split("\n").find((line) => line.startsWith("data: "));
            if (data) await update(attempt, JSON.parse(data.slice(6)));
          }
          pause = 1000;
        }
      } catch { /* connected again below */ }
      if (outcome.querySelector("section")?.dataset.final === "true") break;
      await new Promise((done) => setTimeout(done, pause + Math.random() * 1000));
      pause = Math.min(pause * 2, 30000);
    }
    if (watched === attempt) watched = null;
  }

  async function update(attempt, seen) {
    const section = outcome.querySelector("section");
    const shown = section && section.dataset.attempt === attempt ? section.dataset.seen || "" : "";
    const key = `${seen.outcome} ${seen.hold?.state} ${seen.position} ${seen.place}`;
    if (shown === key) return;
    const first = shown === "";
    const html = await (await fetch(`/sales/${sale.dataset.sale}/attempts/${attempt}?fragment=1&lang=${lang}${sale.dataset.query}`)).text();
    const hadFocus = outcome.contains(document.activeElement);
    if (!first || !section || section.dataset.outcome !== seen.outcome) put(html, hadFocus);
    const now = outcome.querySelector("section");
    if (now) now.dataset.seen = key;
  }

  if (form) form.addEventListener("submit", (event) => submit(event, form));
  const pay = outcome.querySelector("form.pay");
  if (pay) pay.addEventListener("submit", (event) => submit(event, pay));
  localTimes(document);
  if (outcome.querySelector("section[data-answered=true]")) outcome.querySelector("h2").focus();
  compareClocks().then(tick);
  if (state !== "scheduled") poll();
  watch();
}
