"""requests, over urllib3: a session, which keeps its connection."""

import json
import sys

import requests

host, token = sys.argv[1:]
session = requests.Session()


def ask(name, method, path, show=lambda answer: "", **more):
    answer = session.request(method, f"http://{host}{path}", timeout=20, allow_redirects=False, **more)
    print(name, answer.status_code, show(answer))
    return answer


field = lambda name: lambda answer: answer.json()[name]
sale = ask("sale", "GET", "/api/v1/sales/launch", field("state")).json()
ask("head", "HEAD", "/api/v1/sales/launch", lambda answer: len(answer.content))
ask("nothing", "GET", "/nothing")
passed = ask("pass", "POST", "/api/v1/sales/launch/passes", headers={"Authorization": "Bearer " + token})
headers = {"Floodgate-Pass": passed.json()["pass"], "Idempotency-Key": "requests"}
basket = {"lines": [{"item": "phone", "quantity": 1}]}
ask("buy", "POST", sale["attempts_url"], field("outcome"), json=basket, headers=headers)
ask("again", "POST", sale["attempts_url"], field("outcome"), json=basket, headers=headers)
headers["Content-Type"] = "application/json"
text = json.dumps(basket).encode()
ask("chunked", "POST", sale["attempts_url"], field("outcome"), data=iter([text[:10], text[10:]]), headers=headers)
ask("after", "GET", "/api/v1/sales/launch")
