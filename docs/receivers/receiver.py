"""A receiver in Python 3.9 or newer, without packages: `SECRET=whsec_… PORT=9000 python3 receiver.py`."""

import base64
import hashlib
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300  # older requests may have been recorded and sent again by somebody
seen = set()  # yours is a table: a delivery can come again, also after a restart


def key(secret):
    """Give the bytes that a secret signs with."""
    return base64.b64decode(secret[6:] + "==") if secret.startswith("whsec_") else secret.encode()


KEYS = [key(secret) for secret in os.environ.get("SECRET", "").split()]  # two while a secret rotates
if not all(KEYS or [b""]):
    raise SystemExit("SECRET holds no secret: anybody could sign with an empty key")


def verified(headers, body):
    """Check a request's raw bytes: signed by one of the secrets, and not long ago."""
    delivery, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isascii() or not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return False
    signed = f"{delivery}.{timestamp}.".encode() + body
    given = [one.encode() for one in headers.get("webhook-signature", "").split(" ")]
    for one_key in KEYS:
        expected = b"v1," + base64.b64encode(hmac.new(one_key, signed, hashlib.sha256).digest())
        if any(hmac.compare_digest(one, expected) for one in given):
            return True
    return False


class Receiver(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Verify, answer at once, then work."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not verified(self.headers, body):
            self.answer(401, b"invalid signature\n")
            return
        self.answer(200, b"OK\n")
        delivery = self.headers["webhook-id"]
        if delivery in seen:
            return
        seen.add(delivery)
        event = json.loads(body)
        print("drill" if event.get("test") else "event", event["type"], delivery, flush=True)  # noqa: T201

    def answer(self, status, text):
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.wfile.flush()

    def log_message(self, *_):
        """Print no line for each request."""


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Receiver)
print("listening on", server.server_address[1], flush=True)  # noqa: T201
server.serve_forever()
