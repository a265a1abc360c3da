"""A DNS server on a free port of 127.0.0.1 that answers what a test tells it, and the lookup that asks it.

    async with NameServer({"hook.test": [["93.184.216.34"], ["127.0.0.1"]]}) as names:
        HttpSender(config, lookup=names.look_up)

A name has a list of answers, one for each time that it is looked up, the last one for ever. An answer is a
list of addresses, IPv4 and IPv6 mixed as one likes: the server gives the A records to one question and the
AAAA records to the other, as real ones do, with a time to live of 0.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, Self, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

A: Final = 1
AAAA: Final = 28
_HEADER: Final = struct.Struct("!6H")
_WAIT_S: Final = 5.0


class NameServer:
    """The server and its client."""

    def __init__(self, answers: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._answers: Final = answers
        self._asked: dict[tuple[str, int], int] = {}
        self.port = 0

    def times_asked(self, name: str) -> int:
        """Say how often a name was looked up."""
        return max(self._asked.get((name, kind), 0) for kind in (A, AAAA))

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Questions(self), local_addr=("127.0.0.1", 0)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def look_up(self, host: str) -> list[str]:
        """Ask the server for both kinds of addresses, as a resolver of the system does; blocks."""
        found = [address for kind in (AAAA, A) for address in self._ask(host, kind)]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    def _ask(self, host: str, kind: int) -> list[str]:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in host.split("."))
        question = _HEADER.pack(kind, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_WAIT_S)
            sock.sendto(question, ("127.0.0.1", self.port))
            reply = sock.recv(4096)
        number, _, _, count, _, _ = _HEADER.unpack_from(reply)
        assert number == kind, "an answer to another question"
        place, addresses = len(question), []
        for _ in range(count):
            place += 2  # a pointer to the name in the question
            _, _, _, length = struct.unpack_from("!HHIH", reply, place)
            place += 10
            addresses.append(str(ip_address(reply[place : place + length])))
            place += length
        return addresses

    def answer(self, question: bytes) -> bytes:
        """Make the reply to a question."""
        number = _HEADER.unpack_from(question)[0]
        labels, place = [], _HEADER.size
        while length := question[place]:
            labels.append(question[place + 1 : place + 1 + length].decode())
            place += 1 + length
        name, (kind, _) = ".".join(labels), struct.unpack_from("!HH", question, place + 1)
        turn = self._asked.get((name, kind), 0)
        self._asked[name, kind] = turn + 1
        answers = self._answers.get(name, [[]])
        family = IPv4Address if kind == A else IPv6Address
        records = [
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(address.packed)) + address.packed
            for address in map(ip_address, answers[min(turn, len(answers) - 1)])
            if isinstance(address, family)
        ]
        status = 0x8180 if name in self._answers else 0x8183  # no such name
        return _HEADER.pack(number, status, 1, len(records), 0, 0) + question[12:] + b"".join(records)


class _Questions(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._server.answer(data), addr)
