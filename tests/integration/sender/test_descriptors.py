"""A descriptor is closed once, and by whom it belongs to, whatever a receiver does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Final

from dispatcher.core.outcome import ErrorClass, error_class
from dispatcher.sender import HttpSender
from tests.sending import LOCAL, message

if TYPE_CHECKING:
    from collections.abc import Iterator

RESETS: Final = 640
AT_A_TIME: Final = 8


async def test_reset_while_the_connection_is_made_closes_nobody_elses() -> None:
    """What is opened while receivers reset TLS connections stays open: old numbers close nothing."""
    opened: list[tuple[int, os.stat_result]] = []
    sending = True

    async def open_others() -> None:
        while sending:
            if len(opened) < 4000:
                opened.extend((end, os.fstat(end)) for end in os.pipe())
            await asyncio.sleep(0)

    with _resetting() as url:
        async with HttpSender(LOCAL) as sender, asyncio.TaskGroup() as tasks:
            tasks.create_task(open_others())
            found = set()
            for _ in range(RESETS // AT_A_TIME):
                sends = (sender.send(message(url)) for _ in range(AT_A_TIME))
                found |= {error_class(one) for one in await asyncio.gather(*sends)}
            sending = False
    strangers = 0
    for number, status in opened:
        try:
            strangers += os.fstat(number).st_ino != status.st_ino
            os.close(number)
        except OSError:
            strangers += 1
    assert 0 == strangers
    assert {ErrorClass.RESET} == found


@contextlib.contextmanager
def _resetting() -> Iterator[str]:
    """Accept connections and reset each, at once or a moment later; gives a URL that leads there."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                for number in itertools.count():
                    connection, _ = listener.accept()
                    time.sleep(number % 6 / 10_000)  # the handshake is under way, or about to be
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
