# The first lines let the guide's own code stand as it is, without annotations and in its own quotes.
# ruff: noqa: ANN001, ANN201, D103, I001, Q000
# mypy: allow-untyped-defs, allow-untyped-calls
"""The guide's Python receiver, as a subscriber runs it: Flask and the guide's code."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading

from flask import Flask, Response, request
from werkzeug.serving import make_server

# fmt: off
# >>> the guide
import hmac
import hashlib

def verify_webhook(payload, signature, secret):
    expected = 'sha256=' + hmac.new(
        secret.encode(),
        payload.encode(),
        hashlib.sha256
    ).hexdigest()

    return hmac.compare_digest(signature, expected)
# <<< the guide
# fmt: on

SECRET = os.environ["WEBHOOK_SECRET"]
app = Flask(__name__)
printing = threading.Lock()


def tell(line: dict[str, object]) -> None:
    """Print one JSON line, whole, whichever thread it comes from."""
    with printing:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


@app.post("/webhook")
def webhook() -> tuple[str, int]:
    """Verify what came as the guide says."""
    if verify_webhook(request.get_data(as_text=True), request.headers["X-Grillo-Signature"], SECRET):
        return "OK", 200
    return "Invalid signature", 401


@app.after_request
def report(response: Response) -> Response:
    """Say which delivery came and whether it was accepted."""
    headers = request.headers
    tell(
        {
            "delivery": headers.get("X-Grillo-Delivery"),
            "event": headers.get("X-Grillo-Event"),
            "ok": response.status_code == 200,
        }
    )
    return response


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # With threads, werkzeug speaks HTTP/1.1 and keeps connections.
    server = make_server("127.0.0.1", 0, app, threaded=True)
    tell({"port": server.port})
    server.serve_forever()
