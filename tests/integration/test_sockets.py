"""The sockets that the daemon listens on: one for each address of its host that there is."""

from __future__ import annotations

import socket

import pytest

from dispatcher.core.errors import OperatorError
from dispatcher.daemon.sockets import addresses, bound
from tests.receiver import free_port

NO_FAMILY = 99, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)


def test_an_address_that_is_named_twice() -> None:
    """As hosts files do with that of localhost: it is listened on once."""
    listen = f"127.0.0.1:{free_port()}"
    (one,) = bound("api", listen, {}, lambda *at: [*addresses(*at), *addresses(*at)])
    one.close()


def test_an_address_that_another_process_has_as_well() -> None:
    """Both can bind it before one of them listens: whoever comes second is told, before anything is sent."""
    listen = f"127.0.0.1:{free_port()}"
    (first,) = bound("api", listen, {})
    with pytest.raises(
        OperatorError, match=rf"^api.listen: cannot listen on {listen}: Address already in use$"
    ):
        bound("api", listen, {})
    first.close()


def test_an_address_that_this_machine_cannot_have() -> None:
    """Such as one of IPv6 where the kernel has none: the others are listened on."""
    (one,) = bound("api", "127.0.0.1:0", {}, lambda *at: [NO_FAMILY, *addresses(*at), NO_FAMILY])
    assert "127.0.0.1" == one.getsockname()[0]
    one.close()


def test_no_address_at_all() -> None:
    """The operator hears why."""
    with pytest.raises(OperatorError, match=r"^ops.listen: cannot listen on \[::1\]:0: Address family not"):
        bound("ops", "[::1]:0", {}, lambda *_: [NO_FAMILY])
