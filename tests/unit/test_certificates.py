"""What a webhook may name as its authorities."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dispatcher.core.certificates import certificates_problems, read_certificates
from tests.certificates import Authority

CUT = "-----BEGIN CERTIFICATE-----\nMIIB\n"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make a certificate."""
    return Authority(Path(tmp_path_factory.mktemp("authority"))).file.read_text()


def test_certificates_alone_are_kept(pem: str) -> None:
    """Comments and repetitions of a bundle are left out, line ends are mended, the order stays."""
    bundle = f"# Test Authority\r\n{pem.replace(chr(10), chr(13) + chr(10))}\nsubject=x\n{pem}"
    assert pem == read_certificates(bundle)
    assert [] == certificates_problems(bundle)


def test_private_keys_are_refused(pem: str) -> None:
    """A key that was pasted along is named as what it is."""
    key = (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )
    for text in (key, pem + key):
        assert ["contains a private key: give certificates alone, and replace that key"] == (
            certificates_problems(text)
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be certificates in PEM"),
        ("hello", "must be certificates in PEM"),
        (
            "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----",
            "must be certificates",
        ),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "cannot be read"),
        ("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "cannot be read"),
        (CUT, "cannot be read"),
        ("x" * 32_769, "must have at most 32768 characters, has 32769"),
        ("-----BEGIN CERTIFICATE-----\n\u00e9\n-----END CERTIFICATE-----\n", "cannot be read"),
    ],
)
def test_what_is_no_certificate(text: str, words: str) -> None:
    """One sentence says what is wrong."""
    (problem,) = certificates_problems(text)
    assert words in problem


def test_a_second_certificate_that_is_cut(pem: str) -> None:
    """One good certificate does not hide a bad one."""
    (problem,) = certificates_problems(pem + CUT)
    assert "contains a certificate that" in problem
