"""aiohttp: a session, which keeps its connection."""

import asyncio
import json
import sys

import aiohttp

host, token = sys.argv[1:]


async def main():
    async with aiohttp.ClientSession(f"http://{host}") as session:

        async def ask(name, method, path, show=lambda text: "", **more):
            async with session.request(method, path, allow_redirects=False, **more) as answer:
                text = await answer.text()
                print(name, answer.status, show(text))
                return text

        def field(name):
            return lambda text: json.loads(text)[name]

        async def chunks():
            yield text[:10]
            yield text[10:]

        sale = json.loads(await ask("sale", "GET", "/api/v1/sales/launch", field("state")))
        await ask("head", "HEAD", "/api/v1/sales/launch", len)
        await ask("nothing", "GET", "/nothing")
        bearer = {"Authorization": "Bearer " + token}
        passed = json.loads(await ask("pass", "POST", "/api/v1/sales/launch/passes", headers=bearer))
        url, headers = sale["attempts_url"], {"Floodgate-Pass": passed["pass"], "Idempotency-Key": "aiohttp"}
        basket = {"lines": [{"item": "phone", "quantity": 1}]}
        await ask("buy", "POST", url, field("outcome"), json=basket, headers=headers)
        await ask("again", "POST", url, field("outcome"), json=basket, headers=headers)
        text, headers["Content-Type"] = json.dumps(basket).encode(), "application/json"
        await ask("chunked", "POST", url, field("outcome"), data=chunks(), headers=headers)
        await ask("after", "GET", "/api/v1/sales/launch")


asyncio.run(main())
