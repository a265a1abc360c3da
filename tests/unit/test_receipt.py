"""What a receiver says about a request, and how a listener answers."""

from __future__ import annotations

import math

import pytest

from dispatcher.core.signature import Signer
from dispatcher.tools.listen import Manner
from dispatcher.tools.receipt import Check, Receipt, examine
from tests.signed import NOW, SECRET, request


class TestReceipt:
    """What a receiver says about a request."""

    def test_a_request_of_the_dispatcher_verifies(self) -> None:
        """Both signatures hold, whatever the case of header names."""
        receipt = request(b'{"timestamp":"2024-01-15T14:32:49.500Z"}')
        assert ("event.detected", "dlv_1", 2) == (receipt.event, receipt.delivery_id, receipt.attempt)
        assert receipt.verified
        assert 0.5 == receipt.age_s()

    @pytest.mark.parametrize(
        ("receipt", "grillo", "standard"),
        [
            (request(signer="another"), Check.INVALID, Check.INVALID),
            (request(secrets=()), Check.UNCHECKED, Check.UNCHECKED),
            (request(secrets=("another", SECRET)), Check.VALID, Check.VALID),
            (request(changes={"X-Grillo-Signature": None}), Check.MISSING, Check.VALID),
            (request(changes={"webhook-id": None}), Check.VALID, Check.MISSING),
            (request(changes={"webhook-timestamp": "soon"}), Check.VALID, Check.INVALID),
            (request(changes={"webhook-id": "dlv_2"}), Check.VALID, Check.INVALID),
            (request(changes={"X-Grillo-Signature": "sha256=é"}), Check.INVALID, Check.VALID),
        ],
    )
    def test_each_signature_is_judged_by_itself(
        self, receipt: Receipt, grillo: Check, standard: Check
    ) -> None:
        """Wrong, missing and unchecked are different findings."""
        assert (grillo, standard) == (receipt.grillo, receipt.standard)

    def test_a_rotating_secret_is_found_in_either_header(self) -> None:
        """A receiver that holds only the coming secret accepts too."""
        body = b"{}"
        headers = Signer("old", "new").sign("dlv_1", int(NOW.timestamp()), body)
        receipt = examine(
            method="POST", path="/", headers=headers, body=body, secrets=["new"], arrived_at=NOW
        )
        assert (Check.VALID, Check.VALID) == (receipt.grillo, receipt.standard)

    def test_an_old_signature_is_stale(self) -> None:
        """A replayed request is right in every byte but its time."""
        body = b"{}"
        headers = Signer(SECRET).sign("dlv_1", int(NOW.timestamp()) - 301, body)
        receipt = examine(
            method="POST", path="/", headers=headers, body=body, secrets=[SECRET], arrived_at=NOW
        )
        assert (Check.VALID, Check.STALE) == (receipt.grillo, receipt.standard)

    @pytest.mark.parametrize("body", [b"", b"[1]", b"\xff", b'{"timestamp":1}', b'{"timestamp":"x"}'])
    def test_any_body_is_bearable(self, body: bytes) -> None:
        """A body that is no envelope has no age."""
        assert request(body).age_s() is None

    @pytest.mark.parametrize("text", ["0", "-1", "x", "9" * 5000, "²"])
    def test_a_nonsense_attempt_is_the_first(self, text: str) -> None:
        """Whoever calls by hand need not number the attempts."""
        assert 1 == request(changes={"X-Grillo-Attempt": text}).attempt


@pytest.mark.parametrize(
    ("manner", "statuses"),
    [
        (Manner(), [200, 200, 200]),
        (Manner(2), [500, 500, 200]),
        (Manner(1, 429), [429, 200, 200]),
        (Manner(math.inf, 410), [410, 410, 410]),
        (Manner(1, hang=True), [None, 200, 200]),
    ],
)
def test_a_listener_fails_as_it_is_told(manner: Manner, statuses: list[int | None]) -> None:
    """By the number of the attempt, so that every delivery is treated alike."""
    got = [manner.reply(request(changes={"X-Grillo-Attempt": str(number)})).status for number in (1, 2, 3)]
    assert statuses == got
