"""Values of `traceparent` that W3C Trace Context allows, and some that it does not."""

from __future__ import annotations

from typing import Final

_TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
_SPAN: Final = "00f067aa0ba902b7"

ACCEPTED: Final = (
    f"00-{_TRACE}-{_SPAN}-01",
    f"00-{_TRACE}-{_SPAN}-00",
    f"00-{_TRACE}-{_SPAN}-ff",
    f"00-{'0' * 31}1-{'0' * 15}1-02",
    f"01-{_TRACE}-{_SPAN}-01",
    f"cc-{_TRACE}-{_SPAN}-01-what-comes-later",
)
LEFT_OUT: Final = (
    "",
    "null",
    f"00-{_TRACE}-{_SPAN}",
    f"00-{_TRACE}-{_SPAN}-1",
    f"00-{_TRACE}-{_SPAN}-01-",
    f"00-{_TRACE}-{_SPAN}-01-more",
    f"00-{_TRACE}-{_SPAN}-01\n",
    f" 00-{_TRACE}-{_SPAN}-01",
    f"ff-{_TRACE}-{_SPAN}-01",
    f"00-{'0' * 32}-{_SPAN}-01",
    f"00-{_TRACE}-{'0' * 16}-01",
    f"00-{_TRACE.upper()}-{_SPAN}-01",
    f"00-{_TRACE[:-1]}-{_SPAN}-01",
    f"00-{_TRACE[:-1]}g-{_SPAN}-01",
    f"00_{_TRACE}_{_SPAN}_01",
    f"01-{_TRACE}-{_SPAN}-01more",
    f"01-{_TRACE}-{_SPAN}-01-",
    f"01-{_TRACE}-{_SPAN}-01-with space",
    f"01-{_TRACE}-{_SPAN}-01-{'x' * 201}",
)
