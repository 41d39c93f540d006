// Node's http module with an agent that keeps its connection.
import http from "node:http";

const [host, token] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function ask(name, method, path, { headers = {}, body = [], show = () => "" } = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request(`http://${host}${path}`, { method, headers, agent }, (answer) => {
      let text = "";
      answer.on("data", (part) => (text += part)).on("error", reject);
      answer.on("end", () => {
        console.log(name, answer.statusCode, show(text));
        resolve(text);
      });
    });
    request.on("error", reject);
    body.forEach((part) => request.write(part));
    request.end();
  });
}

const field = (name) => (text) => JSON.parse(text)[name];
const sale = JSON.parse(await ask("sale", "GET", "/api/v1/sales/launch", { show: field("state") }));
await ask("head", "HEAD", "/api/v1/sales/launch", { show: (text) => text.length });
await ask("nothing", "GET", "/nothing");
// Node says of a POST without a body that it comes in chunks, if nobody says how long it is.
const bearer = { Authorization: `Bearer ${token}`, "Content-Length": 0 };
const passed = JSON.parse(await ask("pass", "POST", "/api/v1/sales/launch/passes", { headers: bearer }));
const headers = {
  "Floodgate-Pass": passed.pass,
  "Idempotency-Key": "node",
  "Content-Type": "application/json",
};
const basket = JSON.stringify({ lines: [{ item: "phone", quantity: 1 }] });
const whole = { headers: { ...headers, "Content-Length": basket.length }, body: [basket], show: field("outcome") };
await ask("buy", "POST", sale.attempts_url, whole);
await ask("again", "POST", sale.attempts_url, whole);
const parts = { headers, body: [basket.slice(0, 10), basket.slice(10)], show: field("outcome") };
await ask("chunked", "POST", sale.attempts_url, parts);
await ask("after", "GET", "/api/v1/sales/launch");
agent.destroy();
