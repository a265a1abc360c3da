"""The rules for a webhook's fields."""

from __future__ import annotations

import pytest

from dispatcher.core.webhook import (
    closest,
    events_problems,
    headers_problems,
    network_problems,
    patterns,
    secret_problems,
)

TYPES = ["event.detected", "event.updated", "sensor.offline", "sensor.online", "webhook.disabled"]


@pytest.mark.parametrize(
    "events",
    [["event.detected"], ["*"], ["event.*", "sensor.*"], ["event.*", "event.detected"], ["webhook.disabled"]],
)
def test_known_types_and_patterns_are_good(events: list[str]) -> None:
    """Types, families and `*` can be subscribed to, also where they overlap."""
    assert [] == events_problems(events, TYPES)


def test_an_operators_family_has_a_pattern() -> None:
    """A type that an operator registered brings the pattern of its family; operational ones have none."""
    assert ["*", "event.*", "sensor.*", "station.*"] == patterns([*TYPES, "station.moved"])


@pytest.mark.parametrize(
    ("events", "problems"),
    [
        ([], ["must not be empty"]),
        (["event.detcted"], ['"event.detcted" is not a known event type; did you mean "event.detected"?']),
        (["SENSOR.OFFLINE"], ['"SENSOR.OFFLINE" is not a known event type; did you mean "sensor.offline"?']),
        (["zzz"], ['"zzz" is not a known event type']),
        (["webhook.*"], ['"webhook.*": operational events must be named one by one']),
        (["event.*", "event.*"], ['"event.*" is given 2 times']),
        (["a", "a"], ['"a" is given 2 times', '"a" is not a known event type']),
        (["*"] * 101, ["has 101 entries, at most 100 are allowed"]),
    ],
)
def test_each_problem_with_events_is_named(events: list[str], problems: list[str]) -> None:
    """Unknown types come with the closest known one, duplicates with their number."""
    assert problems == events_problems(events, TYPES)


def test_nothing_is_close_to_a_very_long_name() -> None:
    """What is longer than any name is not compared, whatever it begins with."""
    assert closest("event.detected" * 1000, TYPES) == ""


@pytest.mark.parametrize(
    ("network_ids", "owned", "problems"),
    [
        (["net_a"], {"net_a", "net_b"}, []),
        (["net_a"], {"*"}, []),
        (["net_c"], {"net_a"}, ['"net_c" is not one of your organization\'s networks']),
        (["*"], {"*"}, ['"*" is not a network\'s id; leave network_ids out to hear of every network']),
        ([""], {"*"}, ['"" is not a network\'s id']),
        ([], {"*"}, ["must not be empty"]),
        (["net_a", "net_a"], {"*"}, ['"net_a" is given 2 times']),
    ],
)
def test_networks_are_the_organizations_own(
    network_ids: list[str], owned: set[str], problems: list[str]
) -> None:
    """A webhook can be limited to networks that its organization hears of."""
    assert problems == network_problems(network_ids, owned)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer abc", "X-Api-Key": "k"},
        {"User-Agent": "mine/1"},
        {"X-Grillo-API-Key": "k"},
        {"X-Empty": ""},
        {"X-Inner": "a b\tc"},
    ],
)
def test_custom_headers_are_good(headers: dict[str, str]) -> None:
    """Whatever the dispatcher and HTTP itself do not need can be sent."""
    assert [] == headers_problems(headers)


@pytest.mark.parametrize(
    "name",
    [
        *("Content-Type", "content-length", "HOST", "Transfer-Encoding", "Connection", "Upgrade", "Expect"),
        *("X-Grillo-Event", "X-Grillo-Delivery", "x-grillo-signature", "X-Grillo-Signature-Next"),
        *("X-Grillo-Attempt", "webhook-id", "Webhook-Timestamp", "webhook-signature"),
    ],
)
def test_protected_headers_are_refused(name: str) -> None:
    """The dispatcher's own headers and those of the framing cannot be overridden, in any spelling."""
    assert [f'"{name}" is set by the dispatcher and cannot be overridden'] == headers_problems({name: "x"})


@pytest.mark.parametrize("name", ["", " ", "X Y", "X:Y", "X\r\nY", "Ünï", "X-Ä"])
def test_a_header_name_is_a_token(name: str) -> None:
    """A name that could end a header, or is none, is refused (RFC 9110, 5.6.2)."""
    assert [f'"{name}" is not a header name'] == headers_problems({name: "x"})


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "\x00", "a\x7f", " a", "a ", "\ta", "é", "a\x0bb"])
def test_a_header_value_is_printable(value: str) -> None:
    """A value that could smuggle in another header is refused, and so is what HTTP would trim."""
    expected = ['the value of "X-A" must be printable ASCII without spaces at its ends']
    assert expected == headers_problems({"X-A": value})


def test_headers_are_bounded() -> None:
    """At most 20 headers and 4 KiB in total; names are told apart without regard to case."""
    assert [] == headers_problems({f"X-{number}": "v" for number in range(20)})
    assert ["has 21 headers, at most 20 are allowed"] == headers_problems({f"X-{n}": "v" for n in range(21)})
    assert [] == headers_problems({"X-A": "v" * 4093})
    expected = ["has 4097 bytes of names and values, at most 4096 are allowed"]
    assert expected == headers_problems({"X-A": "v" * 4094})
    expected = ['"x-a" is given 2 times; case does not tell header names apart']
    assert expected == headers_problems({"X-A": "1", "x-a": "2"})


@pytest.mark.parametrize(
    "secret",
    [
        "your_shared_secret",
        "x" * 8,
        "x" * 256,
        "con eñe y más",
        "two words",
        "whsec_" + "A" * 43 + "=",
        "whsec_AAAA",
    ],
)
def test_good_secrets(secret: str) -> None:
    """Any printable text of 1 to 256 characters is a secret."""
    assert [] == secret_problems(secret)


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "must have 1 to 256 characters, has 0"),
        ("x" * 257, "must have 1 to 256 characters, has 257"),
        ("with\x00nul....", "must not contain control characters or line breaks"),
        ("with\nline....", "must not contain control characters or line breaks"),
        ("with\ud800half", "must not contain control characters or line breaks"),
        (" leading....", "must not begin or end with a space"),
        ("trailing....\N{NO-BREAK SPACE}", "must not begin or end with a space"),
        ("whsec_not base64!", "begins with whsec_, so base64 must follow it"),
        ("whsec_AAAAA", "begins with whsec_, so base64 must follow it"),
    ],
)
def test_bad_secrets(secret: str, problem: str) -> None:
    """What a receiver could not copy faithfully, or not decode, is refused."""
    assert [problem] == secret_problems(secret)
