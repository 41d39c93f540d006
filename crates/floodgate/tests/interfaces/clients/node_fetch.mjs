// fetch, as Node and browsers have it.
const [host, token] = process.argv.slice(2);

async function ask(name, method, path, more = {}, show = () => "") {
  const answer = await fetch(`http://${host}${path}`, { method, redirect: "manual", ...more });
  const text = await answer.text();
  console.log(name, answer.status, show(text));
  return text;
}

const field = (name) => (text) => JSON.parse(text)[name];
const sale = JSON.parse(await ask("sale", "GET", "/api/v1/sales/launch", {}, field("state")));
await ask("head", "HEAD", "/api/v1/sales/launch", {}, (text) => text.length);
await ask("nothing", "GET", "/nothing");
const bearer = { headers: { Authorization: `Bearer ${token}` } };
const passed = JSON.parse(await ask("pass", "POST", "/api/v1/sales/launch/passes", bearer));
const headers = {
  "Floodgate-Pass": passed.pass,
  "Idempotency-Key": "fetch",
  "Content-Type": "application/json",
};
const body = JSON.stringify({ lines: [{ item: "phone", quantity: 1 }] });
await ask("buy", "POST", sale.attempts_url, { headers, body }, field("outcome"));
await ask("again", "POST", sale.attempts_url, { headers, body }, field("outcome"));
const stream = new Blob([body]).stream();
await ask("chunked", "POST", sale.attempts_url, { headers, body: stream, duplex: "half" }, field("outcome"));
await ask("after", "GET", "/api/v1/sales/launch");
