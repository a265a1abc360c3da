from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from dispatcher.core.signature import (
    Signer,
    grillo_signature,
    standard_key,
    standard_signature,
    verify_grillo,
    verify_standard,
)

BODY = '{"type":"event.detected","data":{"location_description":"Álvarez"}}'.encode()
DELIVERY = "dlv_0123456789abcdefghjkmnpqrs"
STANDARD = "whsec_" + base64.b64encode(bytes(range(24))).decode()


def now_s() -> int:
    """Give the time in Unix seconds: the reference library refuses what is older than five minutes."""
    return int(dt.datetime.now(dt.UTC).timestamp())


@pytest.mark.parametrize("secret", ["your_shared_secret", STANDARD, "clé secrète 🔑", "k" * 64, "k" * 65])
def test_guide_signature_is_hmac_over_the_body(secret: str) -> None:
    """The guide's own formula, keyed with the secret's text, gives the header, and it is 71 characters."""
    expected = "sha256=" + hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
    assert expected == grillo_signature(secret, BODY)
    assert ("X-Grillo-Signature", expected) == Signer(secret).sign(DELIVERY, 1, BODY)[0]
    assert len(expected) == 71


def test_guide_signature_has_a_known_value() -> None:
    """RFC 4231, test case 2."""
    expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert expected == grillo_signature("Jefe", b"what do ya want for nothing?")


def test_standard_signature_has_a_known_value() -> None:
    """The example that Standard Webhooks libraries share."""
    key = standard_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert expected == standard_signature(
        key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )


@pytest.mark.parametrize("secret", ["your_shared_secret", STANDARD, "k" * 65])
def test_a_steady_secret_gives_four_headers(secret: str) -> None:
    """Without a rotation there is one signature of each kind, and no `-Next`."""
    expected = ["X-Grillo-Signature", "webhook-id", "webhook-timestamp", "webhook-signature"]
    assert expected == [name for name, _ in Signer(secret).sign(DELIVERY, 1_700_000_000, BODY)]


def test_a_rotating_secret_signs_with_both() -> None:
    """While a secret rotates the guide's header keeps the old one and the others show the new one too."""
    headers = dict(Signer("old secret", STANDARD).sign(DELIVERY, 1_700_000_000, BODY))
    assert {
        "X-Grillo-Signature": grillo_signature("old secret", BODY),
        "X-Grillo-Signature-Next": grillo_signature(STANDARD, BODY),
        "webhook-id": DELIVERY,
        "webhook-timestamp": "1700000000",
        "webhook-signature": " ".join(
            standard_signature(key, DELIVERY, 1_700_000_000, BODY)
            for key in (b"old secret", bytes(range(24)))
        ),
    } == headers


@pytest.mark.parametrize("secret", [STANDARD, STANDARD.rstrip("="), "plain text", "whsec_QQ", "k" * 65])
@pytest.mark.parametrize("rotation", ["steady", "outgoing", "incoming"])
def test_standardwebhooks_package_verifies(secret: str, rotation: str) -> None:
    """The reference library accepts our headers with either secret of a rotation, and no other body."""
    signer = {
        "steady": Signer(secret),
        "outgoing": Signer(secret, "the next"),
        "incoming": Signer("the last", secret),
    }[rotation]
    headers = dict(signer.sign(DELIVERY, now_s(), BODY))
    receiver = Webhook(secret if secret.startswith("whsec_") else secret.encode())
    expected = json.loads(BODY)
    assert expected == receiver.verify(BODY, headers)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        receiver.verify(BODY + b" ", headers)


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("whsec_QUJD", b"ABC"),
        ("whsec_QUI=", b"AB"),
        ("whsec_QUI", b"AB"),
        ("whsec_QQ==", b"A"),
        ("whsec_QQ", b"A"),
        ("whsec_+/+/", b"\xfb\xff\xbf"),
        ("whsec", b"whsec"),
        ("WHSEC_QUJD", b"WHSEC_QUJD"),
        ("é", b"\xc3\xa9"),
    ],
)
def test_standard_key(secret: str, key: bytes) -> None:
    """Behind `whsec_` stands base64, padded or not; any other secret is its UTF-8 bytes."""
    assert key == standard_key(secret)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_=",
        "whsec_A",
        "whsec_QUJDR",
        "whsec_QU-_",
        "whsec_QU JD",
        "whsec_QUJD\n",
        "whsec_é",
        "whsec_Q=Q=",
    ],
)
def test_a_secret_that_libraries_would_read_otherwise_is_refused(secret: str) -> None:
    """What is not base64 behind `whsec_` is an error, not a key that leaves characters out."""
    with pytest.raises(ValueError, match="secret"):
        standard_key(secret)
    with pytest.raises(ValueError, match="secret"):
        Signer(secret)
    with pytest.raises(ValueError, match="secret"):
        Signer("good", secret)


def test_verification_refuses_what_differs() -> None:
    """`listen` accepts our signatures and refuses another body, secret, id, time or a mangled header."""
    headers = dict(Signer(STANDARD, "next").sign(DELIVERY, 1_700_000_000, BODY))
    guide, standard = headers["X-Grillo-Signature"], headers["webhook-signature"]
    assert verify_grillo(STANDARD, BODY, guide)
    assert verify_grillo("next", BODY, headers["X-Grillo-Signature-Next"])
    for secret in (STANDARD, "next"):
        assert verify_standard(secret, DELIVERY, 1_700_000_000, BODY, standard)
    for body, secret, value in [
        (BODY + b" ", STANDARD, guide),
        (BODY, "next", guide),
        (BODY, STANDARD, guide.upper()),
        (BODY, STANDARD, guide[:-1]),
        (BODY, STANDARD, ""),
        (BODY, STANDARD, "sha256=é\udce9"),
    ]:
        assert not verify_grillo(secret, body, value)
    assert not verify_standard("other", DELIVERY, 1_700_000_000, BODY, standard)
    assert not verify_standard(STANDARD, DELIVERY + "x", 1_700_000_000, BODY, standard)
    assert not verify_standard(STANDARD, DELIVERY, 1_700_000_001, BODY, standard)
    assert not verify_standard(STANDARD, DELIVERY, 1_700_000_000, b"", standard)
    assert not verify_standard(STANDARD, DELIVERY, 1_700_000_000, BODY, "v1,é v2," + standard[3:])


def test_secrets_are_never_shown() -> None:
    """A signer in a log or a traceback says nothing of its keys."""
    signer = Signer("first secret", "second secret")
    assert "secret" not in repr(signer) + str(signer)
