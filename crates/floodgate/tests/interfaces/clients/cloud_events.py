"""Events that the CloudEvents SDK makes, posted in each of its modes; and what arrives, read by the SDK again.

It prints its URL, waits for a line, and then prints a line for each event.
"""

import json
import sys
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import requests
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1 import conversion
from cloudevents.v1 import http as version_1

events_url, key = sys.argv[1:]
arrived = Queue()

EVENTS = {
    "json": ({"datacontenttype": "application/json", "subject": "order-7"}, {"n": 1.5, "text": "zwölf €"}),
    # In binary mode it has no Content-Type.
    "untyped": ({"partitionkey": "p"}, {"deep": {"list": [1, None, True]}}),
    "text": ({"datacontenttype": "text/plain; charset=utf-8"}, 'one "line"\nzwölf'),
    "xml": ({"datacontenttype": "application/xml"}, "<größe>7</größe>"),
    "bytes": ({"datacontenttype": "application/octet-stream"}, bytes(range(256))),
    "empty": ({"dataschema": "https://shop.example/schema?a=1#b"}, None),
    "attributes": (
        {
            "subject": '100 % "größer" 北京 %41',
            "time": datetime(2026, 11, 26, 10, 0, 0, 123456, timezone(timedelta(hours=2))),
            "number": 7,
        },
        None,
    ),
}


def event(mode, name):
    attributes, data = EVENTS[name]
    own = {"id": f"{mode}-{name}", "source": "/sdk", "type": "order.paid"}
    return CloudEvent({"time": datetime(2026, 11, 26, tzinfo=timezone.utc), **attributes, **own}, data)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        arrived.put(HTTPMessage(dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def post(message):
    headers = {**message.headers, "Authorization": f"Bearer {key}"}
    return requests.post(events_url, message.body, headers=headers, timeout=20).status_code


def compare(sent, message, is_binary):
    """An attribute has no type in binary mode; data is compared as the bytes that the SDK would send."""
    got = from_http_event(HTTPMessage({name.lower(): value for name, value in message.headers.items()}, message.body))
    plain = str if is_binary else lambda value: value
    attributes = [{name: plain(value) for name, value in of.get_attributes().items()} for of in (sent, got)]
    data = [JSONFormat().write_data(of.get_data(), of.get_datacontenttype()) for of in (sent, got)]
    older = version_1.from_http(message.headers, message.body)
    if attributes[0] != attributes[1] or data[0] != data[1] or older["id"] != got.get_id():
        return f"sent {attributes[0]} {data[0]}, got {attributes[1]} {data[1]}, older {older['id']}"
    return "equal"


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}/hook", flush=True)
sys.stdin.readline()

statuses, sent = {}, {}
for mode, write in {"structured": to_structured_event, "binary": to_binary_event}.items():
    for name in EVENTS:
        made = event(mode, name)
        sent[made.get_id()] = made
        statuses[made.get_id()] = post(write(made))
# The SDK has no batches: an array of what it writes.
batch = [event("batch", name) for name in EVENTS]
body = b"[" + b",".join(JSONFormat().write(made) for made in batch) + b"]"
status = post(HTTPMessage({"content-type": "application/cloudevents-batch+json"}, body))
for made in batch:
    sent[made.get_id()] = made
    statuses[made.get_id()] = status
# The interface that the SDK had before version 2.
attributes = {"id": "older", "source": "/sdk", "type": "order.paid", "time": "2026-11-26T00:00:00Z"}
for mode, write in {"structured": conversion.to_structured, "binary": conversion.to_binary}.items():
    made = version_1.CloudEvent({**attributes, "id": f"{mode}-older", "datacontenttype": "application/json"}, {"n": 1})
    headers, body = write(made)
    sent[made["id"]] = from_http_event(HTTPMessage(headers, body))
    statuses[made["id"]] = post(HTTPMessage(headers, body))

results = {}
while len(results) < len(sent):
    message = arrived.get(timeout=60)
    identity = json.loads(message.body)["id"]
    results[identity] = compare(sent[identity], message, identity.startswith("binary"))
for identity, status in statuses.items():
    print(identity, status, results[identity])
