"""A webhook's own certificate authorities, as its subscriber gives them: certificates in PEM."""

from __future__ import annotations

import re
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

MAX_CERTIFICATES_CHARACTERS: Final = 32_768

_BLOCK: Final = re.compile(r"-----BEGIN ([^-\r\n]*)-----")


def read_certificates(text: str) -> str:
    """Give the certificates alone, in the order given, each once: without the comments that bundles have.

    Raises ValueError with a sentence that follows the name of the field.
    """
    if len(text) > MAX_CERTIFICATES_CHARACTERS:
        raise ValueError(f"must have at most {MAX_CERTIFICATES_CHARACTERS} characters, has {len(text)}")
    kinds = _BLOCK.findall(text)
    if any("PRIVATE KEY" in kind for kind in kinds):
        raise ValueError("contains a private key: give certificates alone, and replace that key")
    if not kinds or any(kind != "CERTIFICATE" for kind in kinds):
        raise ValueError("must be certificates in PEM (-----BEGIN CERTIFICATE-----) and nothing else")
    try:
        certificates = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ValueError("contains a certificate that cannot be read") from None
    if len(certificates) != len(kinds):
        raise ValueError("contains a certificate that does not end")
    return "".join(dict.fromkeys(one.public_bytes(Encoding.PEM).decode() for one in certificates))


def certificates_problems(text: str) -> list[str]:
    """Judge the certificates that a webhook is to trust."""
    try:
        read_certificates(text)
    except ValueError as error:
        return [str(error)]
    return []
