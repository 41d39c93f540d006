"""Python's own http.client: one connection, opened again when the server ends it."""

import http.client
import json
import sys

host, token = sys.argv[1:]
connection = http.client.HTTPConnection(host, timeout=20)


def ask(name, method, path, body=None, headers={}, show=lambda text: ""):
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    print(name, answer.status, show(text))
    return text


field = lambda name: lambda text: json.loads(text)[name]
sale = json.loads(ask("sale", "GET", "/api/v1/sales/launch", show=field("state")))
ask("head", "HEAD", "/api/v1/sales/launch", show=len)
ask("nothing", "GET", "/nothing")
passed = ask("pass", "POST", "/api/v1/sales/launch/passes", headers={"Authorization": "Bearer " + token})
headers = {
    "Floodgate-Pass": json.loads(passed)["pass"],
    "Idempotency-Key": "http.client",
    "Content-Type": "application/json",
}
basket = json.dumps({"lines": [{"item": "phone", "quantity": 1}]}).encode()
ask("buy", "POST", sale["attempts_url"], basket, headers, field("outcome"))
ask("again", "POST", sale["attempts_url"], basket, headers, field("outcome"))
# Of an iterator it does not know the length.
chunks = iter([basket[:10], basket[10:]])
ask("chunked", "POST", sale["attempts_url"], chunks, headers, field("outcome"))
ask("after", "GET", "/api/v1/sales/launch")
