// The page's live half: a countdown by the server's clock, buying without a reload, and what becomes of it. The server renders
// every word; this only puts it in place. Without this file the page works by plain forms.
const sale = document.getElementById("sale");
localTimes(document);
if (sale) start();
const work = document.getElementById("work");
if (work) solve(work);

// The proof of work before a shopper gets in: the number for which the hash of the salt and its digits is the challenge. A
// thousand are asked for at once, because each answer takes a turn of the browser's.
async function solve({ dataset: made, firstElementChild: said }) {
  const text = new TextEncoder();
  const hash = async (n) => {
    const bytes = await crypto.subtle.digest(made.algorithm, text.encode(made.salt + n));
    return Array.from(new Uint8Array(bytes), (b) => b.toString(16).padStart(2, "0")).join("");
  };
  try {
    for (let from = 0; from <= Number(made.maxnumber); from += 1000) {
      const found = (await Promise.all(Array.from({ length: 1000 }, (_, i) => hash(from + i)))).indexOf(made.challenge);
      if (found < 0) continue;
      const { algorithm, challenge, salt, signature } = made;
      const solution = JSON.stringify({ algorithm, challenge, number: from + found, salt, signature });
      const form = document.querySelector("form.enter");
      form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "altcha", value: btoa(solution) }));
      return form.submit();
    }
  } catch { /* an old browser, or a page that is not over TLS */ }
  said.textContent = made.failed;
}

function localTimes(root) {
  const { lang } = document.documentElement;
  for (const time of root.querySelectorAll("time[data-local]")) {
    time.textContent = new Date(time.dateTime).toLocaleString(lang, { dateStyle: "medium", timeStyle: "medium" });
  }
}

function start() {
  const lang = sale.dataset.lang;
  const path = `/api/v1/sales/${sale.dataset.sale}`;
  const page = `/sales/${sale.dataset.sale}`;
  let opensAt = Number(sale.dataset.opens);
  let state = sale.dataset.state;
  // Until the clock has been compared, the page's own time of rendering will do.
  let offset = Number(sale.dataset.now) - Date.now();
  let polling = false;
  // Attempts whose events are being followed, and what was last heard of each.
  const watched = new Map();
  let seen = null;

  // Of a few round trips the shortest says most about the server's clock (NTP's reasoning, RFC 5905).
  async function compareClocks() {
    let best = Infinity;
    for (let i = 0; i < 4; i++) {
      try {
        const sent = performance.now();
        const text = await (await fetch("/time", { cache: "no-store", credentials: "omit" })).text();
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
    const left = Math.max(0, Math.ceil((opensAt - now()) / 1000));
    const parts = { d: left / 86400, h: (left / 3600) % 24, m: (left / 60) % 60, s: left % 60 };
    for (const part of document.querySelectorAll("#countdown [data-unit]")) part.textContent = two(parts[part.dataset.unit]);
    tickOnce();
    if (state === "scheduled" && now() >= opensAt) poll();
    if (now() >= Number(sale.dataset.knows)) return again();
    setTimeout(tick, 1000 - (now() % 1000) + 5);
  }

  function tickOnce() {
    for (const left of document.querySelectorAll("[data-until]")) {
      left.textContent = clock(Number(left.dataset.until) - now());
      left.hidden = false;
    }
  }

  const two = (n) => String(Math.floor(n)).padStart(2, "0");

  function clock(ms) {
    const seconds = Math.max(0, Math.ceil(ms / 1000));
    const days = Math.floor(seconds / 86400);
    const time = `${two((seconds / 3600) % 24)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
    return days ? `${days} ${sale.dataset.day} ${time}` : time;
  }

  // Asks for the sale until it is open, then every few seconds for what is left. The chance in the pauses keeps a crowd from
  // asking in step.
  async function poll() {
    if (polling) return;
    polling = true;
    for (;;) {
      try {
        show(await (await fetch(path, { cache: "no-cache", credentials: "omit" })).json());
      } catch { /* asked again below */ }
      if (state === "closed" || (state === "scheduled" && now() < opensAt - 2000)) break;
      const pause = state === "scheduled" ? 300 : 3000;
      await new Promise((done) => setTimeout(done, pause + Math.random() * pause));
    }
    polling = false;
  }

  function show(news) {
    if (!news.state) return;
    if (state !== "open" && news.state === "open") {
      const opened = document.getElementById("opened");
      if (opened) opened.textContent = opened.dataset.text;
    }
    seen = news;
    state = seen.state;
    opensAt = Date.parse(seen.opens_at);
    const waiting = document.querySelector(".while-closed");
    if (waiting) waiting.hidden = state !== "scheduled";
    document.querySelector(".while-open").hidden = state === "scheduled";
    const tag = document.getElementById("sale-state");
    tag.textContent = tag.dataset[state];
    // The opening may have been moved.
    const opens = document.getElementById("opens");
    if (opens && Date.parse(opens.dateTime) !== opensAt) {
      opens.dateTime = seen.opens_at;
      localTimes(opens.parentElement);
    }
    // The end may have been moved, or have come early.
    const closes = document.getElementById("closes");
    if (Date.parse(closes.dateTime) !== Date.parse(seen.closes_at)) {
      closes.dateTime = seen.closes_at;
      localTimes(closes.parentElement);
    }
    const word = document.getElementById("closes-word");
    word.textContent = state === "closed" ? word.dataset.closed : word.dataset.open;
    buttons();
  }

  // What each item's button does at the moment, in the order of the server's own rules.
  function buttons() {
    const had = document.getElementById("yours").dataset.have.split(" ");
    for (const item of seen ? seen.items : []) {
      const row = document.querySelector(`[data-row="${item.item}"]`);
      if (!row) continue;
      const tag = row.querySelector("[data-item]");
      // What is left at the end is not sold out, and not to be had any more either.
      const word = (state === "closed" || row.dataset.offered === "false") && item.state === "available" ? "ended" : item.state;
      if (tag.dataset[word]) tag.textContent = tag.dataset[word];
      const button = row.querySelector("form.buy button");
      if (!button || button.dataset.asking) continue;
      const open = item.state === "available" ? "buy" : item.state === "sold_out" && item.waitlist_open ? "waitlist" : item.state;
      // An item that no further round offers is over, whatever is left of it.
      const over = row.dataset.offered === "false";
      const does = over ? "closed" : state !== "closed" && had.includes(item.item) ? "have" : state === "open" ? open : state;
      button.disabled = !["buy", "waitlist"].includes(does);
      button.querySelector(".does").textContent = button.dataset[does];
    }
  }

  const send = (form) =>
    fetch(form.action, { method: "POST", headers: { "X-Fragment": "1" }, body: new URLSearchParams(new FormData(form)) });

  // Puts the parts that the server rendered in the place of those that the page has.
  function put(html, focus) {
    const parts = new DOMParser().parseFromString(html, "text/html");
    for (const id of ["answer", "yours"]) {
      const [part, old] = [parts.getElementById(id), document.getElementById(id)];
      if (!part) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement : null;
      const button = focused?.form;
      old.replaceChildren(...part.childNodes);
      Object.assign(old.dataset, part.dataset);
      localTimes(old);
      if (focused?.id) document.getElementById(focused.id)?.focus();
      if (button) old.querySelector(`form.${button.className} input[value="${button.elements.hold.value}"] ~ button`)?.focus();
    }
    tickOnce();
    buttons();
    if (focus) document.getElementById("answer-title")?.focus();
    watch();
  }

  async function submit(event) {
    const form = event.target;
    if (form.className === "leave") return;
    event.preventDefault();
    const button = form.querySelector("button");
    const label = button.querySelector(".does");
    const words = label && label.textContent;
    button.disabled = true;
    button.dataset.asking = "1";
    if (label) label.textContent = button.dataset.busy;
    try {
      const response = await send(form);
      const kind = response.headers.get("content-type") || "";
      if (!kind.startsWith("text/html")) {
        const problem = await response.json();
        // The cookie is over, or another shopper's: the page must be that of now.
        if (problem.type.endsWith("form-refused")) return again();
        return say(problem.detail);
      }
      const html = await response.text();
      delete button.dataset.asking;
      put(html, true);
      form.dataset.attempt = document.querySelector("#answer section")?.dataset.attempt || "";
      renewKey(form);
    } catch {
      // The same key goes out again, so nothing can be bought twice.
      say(sale.dataset.failed);
    } finally {
      delete button.dataset.asking;
      button.disabled = false;
      if (label) label.textContent = words;
      buttons();
    }
  }

  // What an earlier request got is no answer to this one.
  function say(text) {
    const line = document.createElement("p");
    line.className = "card notice";
    line.textContent = text;
    document.getElementById("answer").replaceChildren(line);
  }

  // The page as the server has it now, which says so if it does not know the shopper any more.
  function again() {
    location.assign(`${page}?lang=${lang}&entered=1${sale.dataset.query}`);
  }

  // A purchase that got an answer for good is over: the next one needs a key of its own.
  function renewKey(form) {
    const said = document.querySelector("#answer section")?.dataset.outcome;
    if (!form.elements.key || !["granted", "waitlisted"].includes(said)) return;
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    form.elements.key.value = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  }

  // Follows the attempts that the page shows, until nothing more can happen to them: four at most, for a browser opens six
  // connections.
  function watch() {
    if (!sale.dataset.pass) return;
    for (const { dataset } of document.querySelectorAll("[data-attempt][data-final=false]")) {
      if (watched.size < 4 && !watched.has(dataset.attempt)) follow(dataset.attempt);
    }
  }

  async function follow(attempt) {
    watched.set(attempt, "");
    let pause = 1000;
    while (document.querySelector(`[data-attempt="${attempt}"][data-final=false]`)) {
      try {
        const response = await fetch(`${path}/attempts/${attempt}/events`, { credentials: "omit", headers: { "Floodgate-Pass": sale.dataset.pass } });
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
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
      await new Promise((done) => setTimeout(done, pause + Math.random() * 1000));
      pause = Math.min(pause * 2, 30000);
    }
    watched.delete(attempt);
    watch();
  }

  // The answer to the last request stays as it is, unless the news is about that request.
  async function update(attempt, news) {
    const heard = `${news.outcome} ${news.hold?.state} ${news.position} ${news.place}`;
    if (watched.get(attempt) === heard) return;
    watched.set(attempt, heard);
    const shown = document.querySelector("#answer section")?.dataset ?? {};
    const from = shown.attempt === attempt ? `${page}/attempts/${attempt}` : page;
    const known = (shown.attempt ? `&above=${shown.attempt}` : "") + (shown.from ? `&from=${shown.from}` : "");
    put(await (await fetch(`${from}?fragment=1&lang=${lang}${known}${sale.dataset.query}`)).text(), false);
    // What was in line when the button was pressed has an answer now.
    for (const form of document.querySelectorAll("form.buy")) if (form.dataset.attempt === attempt) renewKey(form);
  }

  addEventListener("submit", submit);
  document.getElementById("answer-title")?.focus();
  compareClocks().then(tick);
  if (state !== "scheduled") poll();
  watch();
}
