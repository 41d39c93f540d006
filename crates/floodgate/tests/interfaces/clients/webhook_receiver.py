"""A receiver that asks two libraries about each delivery as it came, and about four that were not signed so.

It prints its URL, reads its secret, and then prints a line for each delivery and library.
"""

import sys
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

import standardwebhooks
import svix.webhooks

LIBRARIES = {"standardwebhooks": standardwebhooks.Webhook, "svix": svix.webhooks.Webhook}
OTHER_SECRET = "whsec_" + "A" * 43 + "="


def answer(webhook, body, headers):
    try:
        webhook.verify(body, headers)
        return "verified"
    # Both libraries raise the same class.
    except svix.webhooks.WebhookVerificationError as refusal:
        return str(refusal)


def answers(library, body, headers):
    webhook = library(secret)
    yield answer(webhook, body, headers)
    yield answer(webhook, body.replace(b"}", b" }", 1), headers)
    yield answer(webhook, body, {**headers, "webhook-id": headers["webhook-id"] + "0"})
    yield answer(library(OTHER_SECRET), body, headers)
    # Signed with the right secret, so that the time is all that is wrong.
    long_ago = datetime.now(timezone.utc) - timedelta(minutes=6)
    signed = webhook.sign(headers["webhook-id"], long_ago, body.decode())
    old = {"webhook-timestamp": str(int(long_ago.timestamp())), "webhook-signature": signed}
    yield answer(webhook, body, {**headers, **old})


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for name, library in LIBRARIES.items():
            print(name, *answers(library, body, dict(self.headers)), sep=" | ", flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
print(f"http://127.0.0.1:{server.server_port}/hook", flush=True)
secret = sys.stdin.readline().strip()
server.serve_forever()
