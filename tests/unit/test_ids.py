"""Public ids: the names that are shown outside, and the row keys behind them."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.ids import (
    ALPHABET,
    DeliveryIds,
    DeliveryKey,
    OutboxId,
    WebhookId,
    decode128,
    encode128,
    public_id,
)

KEY = bytes(range(16))
KEYS = st.builds(
    DeliveryKey,
    st.dates(dt.date(2000, 1, 1), dt.date(2179, 6, 5)),
    st.integers(0, 2**63 - 1).map(OutboxId),
    st.integers(0, 2**48 - 1).map(WebhookId),
)


@given(KEYS)
def test_delivery_ids_are_a_bijection(key: DeliveryKey) -> None:
    """Every key has an id of 26 characters, and the id leads back to the key."""
    ids = DeliveryIds(KEY)
    text = ids.encode(key)
    assert re.fullmatch(rf"dlv_[{ALPHABET}]{{26}}", text)
    assert key == ids.decode(text)


@given(st.lists(KEYS))
def test_many_ids_at_a_time(keys: list[DeliveryKey]) -> None:
    """They are those that each delivery has by itself, and the cipher is as it was afterwards."""
    ids = DeliveryIds(KEY)
    assert [DeliveryIds(KEY).encode(key) for key in keys] == ids.encode_all(keys)
    assert keys == [ids.decode(ids.encode(key)) for key in keys]


@given(st.integers(0, 2**128 - 1))
def test_every_number_of_128_bits_has_one_spelling(value: int) -> None:
    """What is read is what was written, and nothing else reads as it."""
    text = encode128(value)
    assert value == decode128(text)
    assert len(text) == 26


@given(st.text(max_size=30))
def test_what_is_no_id_names_no_delivery(text: str) -> None:
    """Whatever a client sends: None or a key that has this very id, never an error."""
    ids = DeliveryIds(KEY)
    for candidate in (text, f"dlv_{text}"):
        key = ids.decode(candidate)
        assert key is None or candidate == ids.encode(key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dlv_",
        "whk_" + "0" * 26,
        "dlv_" + "0" * 25,
        "dlv_" + "0" * 27,
        "dlv_" + "z" * 26,  # 130 bits
        "dlv_" + "U" + "0" * 25,
        "DLV_" + "0" * 26,
    ],
)
def test_malformed_ids_are_refused(text: str) -> None:
    """Of the wrong length, alphabet, prefix or range."""
    assert DeliveryIds(KEY).decode(text) is None


def test_neighbours_have_unlike_ids() -> None:
    """An id gives neither the next one nor its age away."""
    ids = DeliveryIds(KEY)
    day = dt.date(2026, 11, 21)
    texts = [ids.encode(DeliveryKey(day, OutboxId(number), WebhookId(1))) for number in range(1, 200)]
    assert len(texts) == len(set(texts))
    assert len({text[4:8] for text in texts}) > 190  # any four characters differ already


def test_each_installation_has_ids_of_its_own() -> None:
    """The same key under another installation's key has another id."""
    key = DeliveryKey(dt.date(2026, 11, 21), OutboxId(1), WebhookId(1))
    assert DeliveryIds(KEY).encode(key) != DeliveryIds(bytes(16)).encode(key)


@pytest.mark.parametrize("value", [-1, 2**128])
def test_numbers_beyond_128_bits_have_no_id(value: int) -> None:
    """Rather an error than an id that leads elsewhere."""
    with pytest.raises(ValueError, match="128 bits"):
        encode128(value)


def test_drawn_ids_hold_all_the_chance_they_were_given() -> None:
    """A prefix, and 16 bytes of chance."""
    assert "whk_" + "7" + "z" * 25 == public_id("whk", b"\xff" * 16)
    assert "whk_" + "0" * 26 == public_id("whk", bytes(16))
