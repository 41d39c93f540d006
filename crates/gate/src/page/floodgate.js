// See docs/embedding.md. At most 9 KB.
(() => {
const script = document.currentScript;
const { sale, item, quantity = 1, token, tokenUrl, lang = document.documentElement.lang } = script.dataset;
const base = new URL(script.src).origin;
const path = `${base}/api/v1/sales/${sale}`;
const words = {
  scheduled: ["Opens in", "距开抢"],
  open: ["Open", "抢购中"],
  paused: ["Paused", "已暂停"],
  closed: ["The sale is over", "活动已结束"],
  buy: ["Buy now", "立即抢购"],
  mine: ["See your order", "查看订单"],
  join: ["Sold out: join the waitlist", "已售罄：加入候补"],
  busy: ["Asking…", "提交中…"],
  granted: ["It is yours to pay", "抢购成功，请付款"],
  confirmed: ["Paid: it is yours", "已付款"],
  waitlisted: ["On the waitlist", "您已进入候补名单"],
  sold_out: ["Sold out", "已售罄"],
  limit_reached: ["Your limit is reached", "已达到限购数量"],
  not_eligible: ["Not for this sale", "您不符合条件"],
  released: ["Given back", "已退回"],
  expired: ["The time to pay is over", "付款时间已过"],
  voided: ["Taken back by the shop", "已被商家收回"],
  left: ["Your place on the waitlist is over", "您的候补资格已结束"],
  failed: ["It failed: try again", "未能完成，请再试"],
  signin: ["Sign in to the shop again", "请重新登录商店"],
  again: ["No answer yet: asking again", "暂无回复，正在重试"],
  day: ["d", "天"],
};
const say = (word) => (words[word] || words.failed)[+lang.startsWith("zh")];
const make = (tag, more) => Object.assign(document.createElement(tag), more);
const state = make("p");
const button = make("button", { type: "button", textContent: say("buy"), onclick: () => buy().catch(() => {}) });
const said = make("p", { role: "status" });
const box = make("div", { className: "floodgate" });
box.append(make("a", { href: `${base}/sales/${sale}`, textContent: say("buy") }));
script.after(box);

let seen, pass, asking;
let offset = 0;
const now = () => Date.now() + offset;
// Jitter.
const wait = (ms) => new Promise((done) => setTimeout(done, ms * (1 + Math.random() / 2)));
const tell = (name, detail) => script.dispatchEvent(new CustomEvent(`floodgate:${name}`, { bubbles: true, detail }));
const left = () => (seen?.state === "scheduled" ? Math.max(0, Date.parse(seen.opens_at) - now()) : 0);

function show() {
  const ms = left();
  const days = Math.floor(ms / 864e5);
  const clock = ` ${days ? `${days} ${say("day")} ` : ""}${new Date(ms).toISOString().slice(11, 19)}`;
  state.textContent = say(seen.state) + (ms ? clock : "");
  const [wanted] = seen.items.filter((i) => !item || i.item === item);
  const out = wanted?.state === "sold_out";
  // The same key again gives the same answer.
  const mine = wanted && sessionStorage[placeOf(wanted.item, quantity)];
  button.textContent = say(mine ? "mine" : out ? (wanted.waitlist_open ? "join" : "sold_out") : "buy");
  button.disabled = asking || seen.state !== "open" || (out && !wanted.waitlist_open && !mine);
}

// The tab keeps the key of a purchase; after an answer the attempt, and what was told last.
const prefix = `floodgate ${base} ${sale} `;
const placeOf = (what, count) => `${prefix}${what} ${count}`;
const kept = (place) => (sessionStorage[place] || "").split(" ");
const keep = (place, attempt, last) => (sessionStorage[place] = `${kept(place)[0]} ${attempt} ${last}`);

// What an outcome says of the hold, or of the place.
function word({ outcome, place, hold }) {
  return hold ? (hold.state === "held" ? "granted" : hold.state) : place === "left" ? place : outcome;
}

// Retries with the same key, when Retry-After says.
async function ask(url, options, tries = 60) {
  for (let n = 0; ; n++) {
    const response = await fetch(url, { credentials: "omit", ...options }).catch(() => {});
    const body = await response?.json().catch(() => {});
    const queued = body?.outcome === "queued";
    if (queued) n = 0;
    if (body && response.ok && !queued) return body;
    if (n >= tries || (body && !queued && response.status < 500 && ![408, 429].includes(response.status)))
      throw body || {};
    if (asking && !queued) said.textContent = say("again");
    await wait(1000 * (response?.headers.get("retry-after") || Math.min(2 ** n, 15)));
  }
}

async function look() {
  seen = await ask(path, {}, 0);
  offset = Date.parse(seen.server_time) - Date.now();
  if (!state.isConnected) box.replaceChildren(state, button, said);
  show();
  tell("state", seen);
}

async function follow() {
  for (let failed = 0; seen?.state !== "closed"; ) {
    await look().then(() => (failed = 0), () => failed++);
    await wait(failed ? Math.min(500 * 2 ** failed, 3e4) : left() > 6e4 ? 2e4 : left() > 4000 || seen?.state !== "scheduled" ? 3000 : 300);
  }
}

async function getPass() {
  if (script.dataset.pass) return script.dataset.pass;
  if (!pass || Date.parse(pass.expires_at) < now()) {
    const bearer = token || (await (await fetch(tokenUrl).catch(() => {}))?.text())?.trim();
    // A page for signing in, say, where the shop has no shopper.
    if (!/^[\w-]+(\.[\w-]+){2}$/.test(bearer)) throw { type: "no-token", title: say("signin"), said: "signin" };
    pass = await ask(`${path}/passes`, { method: "POST", headers: { authorization: `Bearer ${bearer}` } });
  }
  return pass.pass;
}

async function attempt(what, count, key, again) {
  try {
    const headers = { "content-type": "application/json", "floodgate-pass": await getPass(), "idempotency-key": key };
    const body = JSON.stringify({ lines: [{ item: what, quantity: +count }] });
    const got = await ask(base + seen.attempts_url, { method: "POST", headers, body });
    // The ticket.
    return got.hold ? ask(`${path}/attempts/${got.attempt}`, { headers }, 2).catch(() => got) : got;
  } catch (problem) {
    // Pass or round ended.
    if (!again || ![401, 404].includes(problem.status)) throw problem;
    pass = null;
    await look();
    return attempt(what, count, key);
  }
}

// Whether nothing follows. Another purchase gets another key then, unless this one was paid for.
function isOver(last, place) {
  if (/granted|waitlisted/.test(last)) return;
  if (last !== "confirmed") delete sessionStorage[place];
  return true;
}

const watches = new Map();

// Tells what becomes of a hold or a place, until that is final.
async function watch(attempt, place, last) {
  if (watches.has(attempt)) return;
  // A browser has six connections to the sale.
  if (watches.size > 3) [...watches.values()][0].abort();
  const stop = new AbortController();
  const { signal } = stop;
  watches.set(attempt, stop);
  for (let pause = 1000; !signal.aborted; await wait((pause = Math.min(pause * 2, 3e4)))) {
    try {
      const headers = { "floodgate-pass": await getPass() };
      const { body, status, headers: told } = await fetch(`${path}/attempts/${attempt}/events`, { credentials: "omit", headers, signal });
      if (status === 401) pass = null;
      if (status !== 200) {
        await wait(1000 * (told.get("retry-after") || 0));
        continue;
      }
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = "", part; !(part = await reader.read()).done; ) {
        const events = (text + part.value).split("\n\n");
        text = events.pop();
        for (const event of events) {
          const data = event.match(/^data: (.*)/m);
          const next = data && JSON.parse(data[1]);
          pause = 1000;
          if (!next || word(next) === last) continue;
          last = word(next);
          // Another shopper's have no outcome.
          if (last !== "none") {
            said.textContent = say(last);
            keep(place, attempt, last);
            // With the ticket.
            tell("outcome", next.hold ? await ask(`${path}/attempts/${attempt}`, { headers }, 2).catch(() => next) : next);
          }
          if (isOver(last, place)) stop.abort();
        }
      }
    } catch (problem) {
      if (problem.said) stop.abort();
    }
  }
  watches.delete(attempt);
}

async function buy(what = item || seen.items[0].item, count = quantity) {
  const place = placeOf(what, count);
  const key = kept(place)[0] || crypto.getRandomValues(new Uint32Array(4)).join("-");
  sessionStorage[place] ||= key;
  asking = button.disabled = true;
  said.textContent = say("busy");
  try {
    const outcome = await attempt(what, count, key, true);
    const last = word(outcome);
    said.textContent = say(last);
    keep(place, outcome.attempt, last);
    tell("outcome", outcome);
    if (!isOver(last, place)) watch(outcome.attempt, place, last);
    return outcome;
  } catch (problem) {
    said.textContent = say(problem.said || "failed");
    tell("problem", problem);
    throw problem;
  } finally {
    asking = false;
    show();
  }
}

// After a reload, too.
for (const place of Object.keys(sessionStorage)) {
  const [, attempt, last] = kept(place);
  if (!place.startsWith(prefix) || !last || isOver(last, place)) continue;
  said.textContent = say(last);
  watch(attempt, place, last);
}
script.buy = buy;
setInterval(() => seen && show(), 1000);
follow();
wait(3000).then(getPass).catch(() => {});
})();
