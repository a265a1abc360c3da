"""What the states, triggers and error classes are called, and what to do about each, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.core.outcome import ErrorClass
from dispatcher.dashboard.language import mark as _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.dashboard.language import Speech
    from dispatcher.store.webhooks import Webhook

STATES: Final[Mapping[str, str]] = {
    "healthy": _("Healthy"),
    "failing": _("Failing"),
    "disabled": _("Paused"),
    "deactivated": _("Deactivated"),
    "idle": _("Waiting for its first event"),
    "pending": _("Pending"),
    "delivered": _("Delivered"),
    "failed": _("Failed"),
    "cancelled": _("Cancelled"),
}
TRIGGERS: Final[Mapping[str, str]] = {
    "first": _("first attempt"),
    "retry": _("retry"),
    "manual": _("redelivered by hand"),
    "recover": _("recovery"),
    "test": _("test"),
}
ORDERINGS: Final[Mapping[str, str]] = {
    "subject": _("in order, unless a retry is slow"),
    "strict": _("in order, whatever it takes"),
    "none": _("in no order"),
}
CHECKS: Final[Mapping[str, str]] = {  # of `dispatcher doctor`, in the order of the guide's list
    "active": _("Is it active?"),
    "subscription": _("Is it told of anything?"),
    "url": _("Is the URL right?"),
    "name": _("Does the name lead somewhere?"),
    "addresses": _("Is the address public?"),
    "connect": _("Does the server let us in?"),
    "tls": _("Is the certificate good?"),
    "speed": _("Does it answer quickly?"),
    "deliveries": _("What does the history say?"),
}
VERDICTS: Final[Mapping[str, str]] = {
    "ok": _("Good"),
    "warn": _("Look at this"),
    "fail": _("Wrong"),
    "skipped": _("Not checked"),
}
IN_FINDINGS: Final = (  # what stands in sentences of the doctor and is no name or number
    _("all networks"),
    _("a public authority"),
    _("the webhook's own ca_certificates"),
    _(" through the egress proxy"),
)
EVENT_TYPES: Final = (  # the descriptions of the built-in types, as schema.sql has them
    _("An earthquake was detected"),
    _("Parameters of an earthquake were revised"),
    _("A sensor went offline"),
    _("A sensor came back online"),
    _("A test, sent on request to one webhook"),
    _("A webhook has answered nothing but failures for a day"),
    _("A webhook was deactivated after failing for days, or because it is gone"),
)


class Failure(msgspec.Struct, frozen=True):
    """Why an attempt failed."""

    what: str
    todo: str


_CLASSES: Final[Mapping[str, Failure]] = {
    ErrorClass.REDIRECT: Failure(
        _("Your server sent us to another address. Redirects are never followed."),
        _("Enter the final address as the webhook's URL: mind http or https, www, and a slash at the end."),
    ),
    ErrorClass.CLIENT_ERROR: Failure(
        _("Your server refused the request."),
        _("Its answer below says why. Check that the path is right and that POST is allowed there."),
    ),
    ErrorClass.SERVER_ERROR: Failure(
        _("Your server failed while it worked on the request."),
        _("Look into its log at this time. Answer 200 first and do the work afterwards."),
    ),
    ErrorClass.UNEXPECTED_STATUS: Failure(
        _("Your server answered with a status that is none of HTTP's."),
        _("Answer with 200."),
    ),
    ErrorClass.INFORMATIONAL_ONLY: Failure(
        _("Your server began to answer and never finished."),
        _("Answer with 200; a status from 100 to 199 is no answer yet."),
    ),
    ErrorClass.CONNECT_TIMEOUT: Failure(
        _("Nobody answered at this address: the connection was never made."),
        _("Check that the server runs, that its firewall lets us in, and that the address is a public one."),
    ),
    ErrorClass.TIMEOUT: Failure(
        _("Your server took too long to answer."),
        _("Answer 200 at once and do the work afterwards, in a queue if need be."),
    ),
    ErrorClass.DNS: Failure(
        _("The name in the URL leads nowhere: it could not be resolved."),
        _("Check the spelling of the name, and its DNS record."),
    ),
    ErrorClass.BLOCKED_ADDRESS: Failure(
        _("The name in the URL leads to a private address, which must not be reached from here."),
        _("Use a public address, or ask the operator to allow the network."),
    ),
    ErrorClass.REFUSED: Failure(
        _("The connection was refused: nothing listens at this address and port."),
        _("Start your server, and check the port in the URL."),
    ),
    ErrorClass.UNREACHABLE: Failure(
        _("There is no way to this address."),
        _("Check that the address is a public one, and the rules of the firewall."),
    ),
    ErrorClass.RESET: Failure(
        _("Your server ended the connection before it had answered."),
        _("Its log, or that of the proxy before it, says why: often a crash or a limit."),
    ),
    ErrorClass.TLS: Failure(
        _("No secure connection could be made: the certificate or the handshake is wrong."),
        _("Renew the certificate, send the whole chain, and check that it is for this very name."),
    ),
    ErrorClass.MALFORMED_RESPONSE: Failure(
        _("What came back is not HTTP."),
        _("Check the port: perhaps another service listens there."),
    ),
    ErrorClass.PROXY: Failure(
        _("Our own proxy could not make the connection."),
        _("If it happens again, tell the operator."),
    ),
    ErrorClass.INVALID_REQUEST: Failure(
        _("The URL or the headers cannot be made into a request."),
        _("Edit the webhook and check both."),
    ),
}
_STATUSES: Final[Mapping[int, Failure]] = {
    400: Failure(
        _("Your server did not understand the request."),
        _("Check that it reads the body as JSON, and verifies the signature over the raw body."),
    ),
    401: Failure(
        _("Your server did not accept the signature, or wants to be logged in to."),
        _("Check that it uses this webhook's secret, over the raw body, before anything parses it."),
    ),
    403: Failure(
        _("Your server forbids the request."),
        _("Check the secret, and that no firewall or bot protection stands before the path."),
    ),
    404: Failure(
        _("Your server is there, but has nothing at this path."),
        _("Check the path in the URL."),
    ),
    405: Failure(
        _("Your server does not take POST at this path."),
        _("Add a route for POST, or correct the path in the URL."),
    ),
    410: Failure(
        _("Your server says that this address is gone for good."),
        _("Enter the new URL. A webhook that answers 410 to every attempt is deactivated."),
    ),
    413: Failure(
        _("The request was too large for your server."),
        _("Allow bodies of up to 300 KiB."),
    ),
    429: Failure(
        _("Your server asked us to slow down."),
        _("Answer 200 at once and put the work into a queue; raise the limit for our requests."),
    ),
    502: Failure(
        _("The proxy before your server could not reach it."),
        _("Start the application behind the proxy."),
    ),
    503: Failure(
        _("Your server says that it is not available at the moment."),
        _("Wait until it is back; what failed meanwhile can be recovered."),
    ),
    504: Failure(
        _("The proxy before your server gave up waiting for it."),
        _("Answer 200 at once and do the work afterwards, in a queue if need be."),
    ),
}


def state_of(webhook: Webhook) -> str:
    """Give a webhook's state; one that the dispatcher gave up on is told from one that somebody paused."""
    given_up = not webhook.active and webhook.disabled_reason is not None
    return "deactivated" if given_up else webhook.health.state(active=webhook.active)


def failure(speech: Speech, status: int | None, error_class: str | None) -> Failure | None:
    """Say what a failed attempt means; None for one that did not fail."""
    if error_class is None:
        return None
    found = _STATUSES.get(status or 0) or _CLASSES[error_class]
    return Failure(speech.gettext(found.what), speech.gettext(found.todo))
