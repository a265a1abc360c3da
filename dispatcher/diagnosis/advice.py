"""What to do about an attempt that failed, by what came of it: words for the receiver's owner."""

from __future__ import annotations

from typing import Final

from dispatcher.core.outcome import ErrorClass
from dispatcher.diagnosis.finding import Words, words

BY_CLASS: Final[dict[ErrorClass, Words]] = {
    ErrorClass.REDIRECT: words("Redirects are never followed: register the URL that finally answers."),
    ErrorClass.CLIENT_ERROR: words(
        "The server refuses the request: check the path, the method (POST) and what it expects."
    ),
    ErrorClass.SERVER_ERROR: words(
        "The server fails while it handles the request: look into its log. Answer 200 first, process later."
    ),
    ErrorClass.UNEXPECTED_STATUS: words("Answer with 200; what came is no status of HTTP."),
    ErrorClass.INFORMATIONAL_ONLY: words("Send a final answer after 1xx: 200 acknowledges receipt."),
    ErrorClass.CONNECT_TIMEOUT: words(
        "Nothing answers at that address and port: check the firewall, and that the port is open."
    ),
    ErrorClass.TIMEOUT: words(
        "The answer takes too long: return 200 at once, and process in the background or through a queue."
    ),
    ErrorClass.DNS: words("Check the spelling of the host's name and its records in DNS."),
    ErrorClass.BLOCKED_ADDRESS: words(
        "The name leads to an address that is not public. Use a public one; an operator can open exceptions "
        "in delivery.allowed_networks."
    ),
    ErrorClass.REFUSED: words("Nothing listens on that port: start the server, or correct the URL's port."),
    ErrorClass.UNREACHABLE: words("There is no route to that address: check the network and its firewall."),
    ErrorClass.RESET: words(
        "The server, or something before it, ends connections: look into the logs of server and firewall."
    ),
    ErrorClass.TLS: words(
        "Check the certificate: that it is valid, names this host, and is sent with its intermediates."
    ),
    ErrorClass.MALFORMED_RESPONSE: words(
        "What answers does not speak HTTP: check port and scheme of the URL."
    ),
    ErrorClass.PROXY: words("The egress proxy made no connection: check delivery.proxy_url and its rules."),
    ErrorClass.INVALID_REQUEST: words("The webhook's URL or headers form no request: correct them."),
}
BY_STATUS: Final[dict[int, Words]] = {
    401: words(
        "Usually the signature is refused: check that the secret matches, that the raw body is verified (not "
        "a re-serialised one), and that it is read as UTF-8."
    ),
    403: words("Access is denied: check the signature's secret, and firewalls or rules before the server."),
    404: words("There is nothing at that path: check the URL."),
    405: words("The server does not take POST at that path: check the URL and its routes."),
    410: words("The server says that this endpoint is gone for good: change the URL or delete the webhook."),
    429: words("The server limits requests: raise its limit; alerts can come in a burst."),
}


def advice_for(error: str | None, status_code: int | None) -> Words:
    """Give the advice for an attempt's error class and status, where it has them."""
    if status_code in BY_STATUS:
        return BY_STATUS[status_code]
    if error is None:
        return words("Look at the delivery's attempts.")
    return BY_CLASS[ErrorClass(error)]
