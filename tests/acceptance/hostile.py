"""Receivers that hurt, and what the history is to say of each."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.backlog import full_backlog
from tests.bombs import gzip_bomb
from tests.certificates import Authority, Flaw
from tests.receiver import (
    Exchange,
    Receiver,
    answer,
    endless,
    half_close,
    hang,
    interim,
    raw,
    reset,
    response,
    stall,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_TEXT: Final = b"\x00\xff\xfe \xc3\x28 \xed\xa0\x80 \xf0\x28\x8c\xbc"  # NUL, and no UTF-8 in several ways
BOMB_MEBIBYTES: Final = 1024
_BODY: Final = b"HTTP/1.1 200 OK\r\n%s\r\n\r\n"
_NO_LENGTH: Final = b"HTTP/1.1 200 OK\r\n\r\n"
_LONG: Final = b"y" * 65_536


class Expected(NamedTuple):
    """What each attempt's fact is to say."""

    error: str | None
    status: int | None = None


class Attack(NamedTuple):
    """A server, how it is reached, and what comes of it."""

    name: str
    server: Receiver | None  # None: one that accepts nothing
    expected: Expected
    tls: bool = False  # it is asked for TLS, whatever it speaks


DELIVERED: Final = Expected(None, 200)
TIMEOUT: Final = Expected("timeout")
CONNECT_TIMEOUT: Final = Expected("connect_timeout")
RESET: Final = Expected("reset")
TLS: Final = Expected("tls")
MALFORMED: Final = Expected("malformed_response")
ONLY_1XX: Final = Expected("informational_only")


def attacks(authority: Authority) -> list[Attack]:
    """Make the servers, not running yet; those with TLS have certificates of this authority."""
    secured = (one._replace(tls=True) for one in _tls(authority))
    return [*_slow(), *_long(), *_wrong(), *_ending(), *secured]


async def start(attack: Attack, stack: AsyncExitStack) -> str:
    """Run the attack's server until the stack ends, and give its URL."""
    if attack.server is None:
        return stack.enter_context(full_backlog())
    url = (await stack.enter_async_context(attack.server)).url("/hook")
    return url.replace("http:", "https:") if attack.tls else url


def _slow() -> Iterator[Attack]:
    yield Attack("says nothing", Receiver(hang()), TIMEOUT)
    yield Attack("a byte a second", Receiver(endless(b"x", start=_NO_LENGTH, every_s=1)), TIMEOUT)
    header = b"HTTP/1.1 200 OK\r\nX: "
    yield Attack("a byte a second of header", Receiver(endless(b"x", start=header, every_s=1)), TIMEOUT)
    yield Attack("a status line and no more", Receiver(raw(b"HTTP/1.1 200 OK\r\n", then=hang())), TIMEOUT)
    yield Attack("1xx for ever", Receiver(endless(response(103), every_s=0.1)), ONLY_1XX)
    yield Attack("reads nothing", Receiver(on_connect=stall()), TIMEOUT)
    yield Attack("accepts nothing", None, CONNECT_TIMEOUT)


def _long() -> Iterator[Attack]:
    yield Attack(
        "a gigabyte", Receiver(endless(_LONG, start=_BODY % b"Content-Length: 1000000000")), DELIVERED
    )
    yield Attack("a body for ever", Receiver(endless(_LONG, start=_NO_LENGTH)), DELIVERED)
    chunks = _BODY % b"Transfer-Encoding: chunked"
    yield Attack("tiny chunks for ever", Receiver(endless(b"1\r\nz\r\n" * 1000, start=chunks)), DELIVERED)
    bomb = gzip_bomb(BOMB_MEBIBYTES)
    yield Attack("gzip bomb", Receiver(answer(200, [("Content-Encoding", "gzip")], bomb)), DELIVERED)
    ok = b"HTTP/1.1 200 OK\r\n"
    yield Attack("fields for ever", Receiver(endless(b"X-Filler: aaaa\r\n" * 100, start=ok)), MALFORMED)
    yield Attack("one field for ever", Receiver(endless(b"a" * 1000, start=ok + b"X: ")), MALFORMED)
    yield Attack("a thousand 1xx", Receiver(interim(1000)), DELIVERED)
    yield Attack("a flood of 1xx", Receiver(endless(response(103) * 100)), ONLY_1XX)


def _wrong() -> Iterator[Attack]:
    yield Attack("no HTTP", Receiver(raw(b"SSH-2.0-OpenSSH_9.7\r\n")), MALFORMED)
    yield Attack("no text", Receiver(raw(NO_TEXT + b"\r\n\r\n")), MALFORMED)
    yield Attack("two lengths", Receiver(raw(_BODY % b"Content-Length: 1\r\nContent-Length: 2")), MALFORMED)
    yield Attack("NUL in a header", Receiver(answer(200, [("X-Nul", "a\0b")])), MALFORMED)
    yield Attack("no UTF-8 in a header", Receiver(answer(200, [("X-No", "\xff\xc3\x28")])), DELIVERED)
    yield Attack("no UTF-8 in the reason", Receiver(raw(b"HTTP/1.1 500 \xff\xfe\r\n\r\n")), _status(500))
    yield Attack("NUL and no UTF-8 in a body", Receiver(answer(200, [], NO_TEXT)), DELIVERED)
    yield Attack("the same in a refusal", Receiver(answer(400, [], NO_TEXT)), _status(400))
    yield Attack("a status beyond all", Receiver(answer(999)), Expected("unexpected_status", 999))
    yield Attack("redirects to itself", Receiver(_redirect), Expected("redirect", 302))


def _ending() -> Iterator[Attack]:
    for name, ending in (("reset", reset()), ("half-closed", half_close())):
        yield Attack(f"{name} on connecting", Receiver(on_connect=ending), RESET)
        yield Attack(f"{name} amid the request", Receiver(on_head=ending), RESET)
        yield Attack(f"{name} before the answer", Receiver(ending), RESET)
        yield Attack(f"{name} in its header", Receiver(raw(b"HTTP/1.1 200 OK\r\nX", then=ending)), RESET)
        part = _BODY % b"Content-Length: 9" + b"part"
        yield Attack(f"{name} in its body", Receiver(raw(part, then=ending)), RESET)
        yield Attack(f"{name} after 1xx", Receiver(interim(3, then=ending)), ONLY_1XX)
    ended = Receiver(raw(_NO_LENGTH + b"all", then=half_close()))
    yield Attack("half-closed as the end of its body", ended, DELIVERED)


def _tls(authority: Authority) -> Iterator[Attack]:
    host = "127.0.0.1"
    for flaw in Flaw:
        yield Attack(flaw.value, Receiver(ssl_context=authority.flawed(host, flaw)), TLS)
    yield Attack("expired", Receiver(ssl_context=authority.server(host, expired=True)), TLS)
    yield Attack("self-signed", Receiver(ssl_context=authority.server(host, self_signed=True)), TLS)
    yield Attack("wrong name", Receiver(ssl_context=authority.server("other.test")), TLS)
    yield Attack("plain text", Receiver(on_connect=raw(response(), then=hang())), TLS)
    yield Attack("hangs instead of TLS", Receiver(on_connect=hang()), CONNECT_TIMEOUT)
    drip = endless(b"\0", start=b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", every_s=0.02)
    yield Attack("drips TLS", Receiver(on_connect=drip), CONNECT_TIMEOUT)
    yield Attack("resets instead of TLS", Receiver(on_connect=reset()), RESET)
    context = authority.server(host)
    yield Attack("hangs behind TLS", Receiver(hang(), ssl_context=context), TIMEOUT)
    yield Attack("resets behind TLS", Receiver(reset(), ssl_context=context), RESET)
    body = endless(_LONG, start=_NO_LENGTH)
    yield Attack("a body for ever behind TLS", Receiver(body, ssl_context=context), DELIVERED)


def _status(status: int) -> Expected:
    return Expected("client_error" if status < 500 else "server_error", status)


async def _redirect(exchange: Exchange) -> None:
    await exchange.send(response(302, [("Location", exchange.receiver.url("/hook"))]))
