"""Names are resolved at each connect, every address is judged, and what was judged is connected to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, error_class
from dispatcher.sender import HttpSender
from dispatcher.sender.failure import SendError
from dispatcher.sender.resolver import Resolver
from tests.receiver import Receiver, answer
from tests.sending import LOCAL, message, names

if TYPE_CHECKING:
    from collections.abc import Iterator

STRICT = msgspec.structs.replace(LOCAL, allowed_networks=())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"]
)
async def test_blocked_address_in_the_url(host: str) -> None:
    """An address that is not allowed is not connected to, in whatever notation it is written."""
    async with Receiver() as receiver, HttpSender(STRICT) as sender:
        outcome = await sender.send(message(f"http://{host}:{receiver.port}/"))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is ErrorClass.BLOCKED_ADDRESS
        assert receiver.connections == 0


async def test_other_notation_of_an_allowed_address() -> None:
    """An allowed address is reached in any notation, and nobody is asked for its name."""
    async with Receiver() as receiver, HttpSender(LOCAL, lookup=names()) as sender:
        outcome = await sender.send(message(f"http://0x7f.1:{receiver.port}/"))
    assert error_class(outcome) is None
    assert outcome.address == "127.0.0.1"


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["127.0.0.1", "10.0.0.1"], ["2606:4700::1111", "fe80::1%lo", "127.0.0.1"]],
)
async def test_name_that_leads_to_a_blocked_address(addresses: list[str]) -> None:
    """One address that is not allowed is enough: the others are not tried instead."""
    config = STRICT if len(addresses) == 1 else LOCAL
    async with Receiver() as receiver, HttpSender(config, lookup=names(hook=addresses)) as sender:
        outcome = await sender.send(message(receiver.url(host="hook.test")))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is ErrorClass.BLOCKED_ADDRESS
        assert outcome.address in {text.partition("%")[0] for text in addresses} | set(addresses)
        assert "hook.test" in outcome.message
        assert receiver.connections == 0


async def test_localhost_is_what_it_resolves_to() -> None:
    """The system's own name resolution is used, and judged."""
    async with Receiver() as receiver, HttpSender(STRICT) as sender:
        outcome = await sender.send(message(receiver.url(host="localhost")))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is ErrorClass.BLOCKED_ADDRESS
        assert receiver.connections == 0


async def test_name_is_resolved_once_and_that_address_is_connected_to() -> None:
    """A name that changes its mind between check and connect is not asked again."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    async with Receiver() as receiver, HttpSender(LOCAL, lookup=lambda _: next(answers)) as sender:
        outcome = await sender.send(message(receiver.url("/x", host="rebinding.test")))
        assert isinstance(outcome, Answered)
        assert outcome.address == "127.0.0.1"
        assert outcome.timings.dns_ms is not None
        assert next(answers) == ["10.0.0.1"]
        assert receiver.requests[0].header("Host") == f"rebinding.test:{receiver.port}"


async def test_kept_answer_is_kept_for_a_while() -> None:
    """New connections to a name soon after each other ask for it once."""
    asked = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    closing = answer(200, [("Connection", "close")])
    async with Receiver(closing) as receiver, HttpSender(LOCAL, lookup=look_up) as sender:
        for _ in range(3):
            assert error_class(await sender.send(message(receiver.url(host="hook.test")))) is None
    assert receiver.connections == 3
    assert asked == ["hook.test"]


async def test_next_address_is_tried() -> None:
    """A name's second address is connected to where the first one refuses."""
    lookup = names(hook=["127.0.0.2", "127.0.0.1"])
    async with Receiver() as receiver, HttpSender(LOCAL, lookup=lookup) as sender:
        outcome = await sender.send(message(receiver.url(host="hook.test")))
        assert error_class(outcome) is None
        assert outcome.address == "127.0.0.1"


def _gaierror(_: str) -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def _not_a_name(host: str) -> list[str]:
    raise UnicodeEncodeError("idna", host, 0, 1, "label too long")


@pytest.mark.parametrize("lookup", [_gaierror, _not_a_name, lambda _: []])
async def test_name_that_does_not_resolve(lookup: object) -> None:
    """A name without an address is a failure of DNS, and says which name."""
    assert callable(lookup)
    async with HttpSender(LOCAL, lookup=lookup) as sender:
        outcome = await sender.send(message("http://nowhere.test/"))
    assert isinstance(outcome, NoAnswer)
    assert outcome.error is ErrorClass.DNS
    assert outcome.address is None
    assert "nowhere.test" in outcome.message


async def test_name_whose_servers_hang() -> None:
    """A lookup that hangs ends at the connect timeout, is asked once, and holds up no other name."""
    released = threading.Event()
    asked = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        if host == "hung.test":
            released.wait(30)
        return ["127.0.0.1"]

    config = msgspec.structs.replace(LOCAL, connect_timeout_s=0.3)
    try:
        async with Receiver() as receiver, HttpSender(config, lookup=look_up) as sender:
            async with asyncio.TaskGroup() as tasks:
                hung = [
                    tasks.create_task(sender.send(message(receiver.url(host="hung.test")))) for _ in range(20)
                ]
                healthy = await sender.send(message(receiver.url(host="healthy.test")))
                assert error_class(healthy) is None
                assert not any(task.done() for task in hung)
            assert {error_class(task.result()) for task in hung} == {ErrorClass.CONNECT_TIMEOUT}
            assert asked.count("hung.test") == 1
    finally:
        released.set()


async def test_lookups_are_bounded_and_those_nobody_waits_for_are_dropped() -> None:
    """Names beyond the bound wait for a thread; when their turn comes, only if somebody still waits."""
    released = threading.Event()
    asked = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        released.wait(30)
        return ["127.0.0.1"]

    resolver = Resolver(look_up, max_threads=1)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(resolver.resolve("first.test"))
        given_up = tasks.create_task(resolver.resolve("given-up.test"))
        last = tasks.create_task(resolver.resolve("last.test"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        released.set()
    assert first.result() == last.result()
    assert asked == ["first.test", "last.test"]


async def test_name_that_was_not_looked_up_is_no_failure_of_the_receiver() -> None:
    """Where it found no thread in time, that is a fault of our own: no attempt was made, none is counted."""
    released = threading.Event()

    def look_up(_: str) -> list[str]:
        released.wait(30)
        return ["127.0.0.1"]

    config = msgspec.structs.replace(LOCAL, connect_timeout_s=0.3)
    try:
        async with HttpSender(config, lookup=look_up) as sender, asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(sender.send(message("http://asked.test/")))
            await asyncio.sleep(0)
            with no_more_threads():
                queued = await sender.send(message("http://queued.test/"))
            assert isinstance(queued, NoAnswer)
            assert (ErrorClass.DNS, True) == (queued.error, queued.own_fault)
            assert "nor looked up" in queued.message
        hung = asked.result()
        assert isinstance(hung, NoAnswer)
        assert (ErrorClass.CONNECT_TIMEOUT, False) == (hung.error, hung.own_fault)
    finally:
        released.set()


async def test_names_that_hang_leave_threads_to_the_others() -> None:
    """However many names do not answer, one that was never slow is asked at once."""
    released = [threading.Event(), threading.Event()]

    def look_up(host: str) -> list[str]:
        if host.startswith("hung"):
            released[0].wait(30)
        return ["127.0.0.1"]

    hung = [f"hung{number}.test" for number in range(4)]
    resolver = Resolver(look_up, ttl_s=0.0, slow_s=0.05, max_threads=4)
    async with asyncio.timeout(20):
        async with asyncio.TaskGroup() as tasks:
            for host in hung:
                tasks.create_task(resolver.resolve(host))
            await asyncio.sleep(0.1)
            released.pop(0).set()
        try:
            async with asyncio.TaskGroup() as tasks:
                again = [tasks.create_task(resolver.resolve(host)) for host in hung]
                await asyncio.sleep(0)  # their turn comes first
                await resolver.resolve("healthy.test")
                assert not any(task.done() for task in again)
                released[0].set()
        finally:
            released[0].set()


@contextlib.contextmanager
def no_more_threads() -> Iterator[None]:
    """Let no thread begin in this block: there is no room for so large a stack."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


async def test_lookup_waits_where_the_system_gives_no_more_threads() -> None:
    """As it does where the bound is reached: another one will end."""
    released = threading.Event()

    def look_up(_: str) -> list[str]:
        released.wait(30)
        return ["127.0.0.1"]

    resolver = Resolver(look_up)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(resolver.resolve("first.test"))
        await asyncio.sleep(0)
        with no_more_threads():
            second = tasks.create_task(resolver.resolve("second.test"))
            await asyncio.sleep(0)
        released.set()
    assert first.result() == second.result()


async def test_want_of_threads_is_told_to_all_who_wait() -> None:
    """However many they are, and none waits for ever."""
    released = threading.Event()

    def look_up(_: str) -> list[str]:
        released.wait(30)
        return ["127.0.0.1"]

    resolver = Resolver(look_up, max_threads=1)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(resolver.resolve("first.test"))
        await asyncio.sleep(0)
        others = asyncio.gather(
            *(resolver.resolve(f"host{number}.test") for number in range(2000)), return_exceptions=True
        )
        await asyncio.sleep(0)
        with no_more_threads():
            released.set()
            await first
            assert {errno.ENOMEM} == {getattr(one, "errno", None) for one in await others}
        assert await resolver.resolve("host1.test")


async def test_addresses_of_a_name_are_few() -> None:
    """The first of each family, in their order: each of thousands would be connected to, for one attempt."""
    many = [
        *(f"2001:db8::{number:x}" for number in range(1, 1001)),
        *(f"192.0.2.{number}" for number in range(9)),
    ]
    found = [str(address) for address in await Resolver(lambda _: many).resolve("many.test")]
    assert [*many[:8], *many[1000:1008]] == found


async def test_failed_lookup_is_asked_again() -> None:
    """A failure is not kept."""
    answers = iter([[], ["127.0.0.1"]])
    resolver = Resolver(lambda _: next(answers))
    with pytest.raises(SendError):
        await resolver.resolve("hook.test")
    assert [str(address) for address in await resolver.resolve("hook.test")] == ["127.0.0.1"]


async def test_want_of_file_descriptors_is_no_failure_of_the_receiver(sender: HttpSender) -> None:
    """Our own want of resources is raised: no attempt was made, and none may be counted."""
    async with Receiver() as receiver:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as last:
            resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, hard))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    await sender.send(message(receiver.url()))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert receiver.connections == 0
