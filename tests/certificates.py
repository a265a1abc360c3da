"""Certificates for tests: an authority of our own, and what it signs, well or badly."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import ssl
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, assert_never

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

_Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Flaw(enum.Enum):
    """What is wrong with a certificate, or with the chain that a server shows."""

    NOT_YET_VALID = "not yet valid"
    CLIENTS_ONLY = "for clients only"  # by its extended key usage
    INTERMEDIATE_LEFT_OUT = "intermediate left out"
    COMMON_NAME_ONLY = "common name only"  # no subjectAltName (RFC 9525, 6.3)
    SIGNER_NO_AUTHORITY = "signer is no authority"
    WEAK_KEY = "weak key"  # RSA with 1024 bits
    ENDLESS_CHAIN = "endless chain"  # more of it than OpenSSL reads


class _Signer(NamedTuple):
    """Who signs: a name, and the key that belongs to it."""

    name: x509.Name
    key: _Key


class Authority:
    """A certificate authority; a program that is to trust it has `SSL_CERT_FILE` set to `file`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Test Authority")
        self.certificate = self._sign(self._name, self._key, authority=True)
        self.file = directory / "authority.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        self._count = 0

    def server(
        self, *hosts: str, expired: bool = False, self_signed: bool = False, days: int = 1
    ) -> ssl.SSLContext:
        """Make a server's context whose certificate names these hosts (names and addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(hosts[0])
        certificate = self._sign(
            name,
            key,
            hosts,
            ends_in_days=-1 if expired else days,
            signer=_Signer(name, key) if self_signed else None,
        )
        return self._context(key, certificate)

    def flawed(self, host: str, flaw: Flaw) -> ssl.SSLContext:
        """Make a server's context for this host with one thing wrong; ours is the authority all the same."""
        key: _Key = ec.generate_private_key(ec.SECP256R1())
        if flaw is Flaw.WEAK_KEY:
            key = rsa.generate_private_key(65_537, 1024)
        return self._context(key, *self._flawed_chain(host, key, flaw))

    def _flawed_chain(self, host: str, key: _Key, flaw: Flaw) -> list[x509.Certificate]:
        name = _name(host)
        chain = [self._sign(name, key, (host,))]
        match flaw:
            case Flaw.NOT_YET_VALID:
                chain = [self._sign(name, key, (host,), begins_in_days=1, ends_in_days=2)]
            case Flaw.CLIENTS_ONLY:
                usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
                chain = [self._sign(name, key, (host,), extra=usage)]
            case Flaw.INTERMEDIATE_LEFT_OUT:
                chain = self._signed_in_between(host, key)[:1]
            case Flaw.COMMON_NAME_ONLY:
                chain = [self._sign(name, key)]
            case Flaw.SIGNER_NO_AUTHORITY:
                chain = self._signed_in_between(host, key, authority=False)
            case Flaw.WEAK_KEY:
                pass
            case Flaw.ENDLESS_CHAIN:
                chain += [self.certificate] * 400
            case _:
                assert_never(flaw)
        return chain

    def chained(self, host: str) -> ssl.SSLContext:
        """Make a server's context whose certificate was signed by an intermediate, which it shows."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._context(key, *self._signed_in_between(host, key))

    def _signed_in_between(self, host: str, key: _Key, *, authority: bool = True) -> list[x509.Certificate]:
        """Give a certificate that another one signed, and that one, which may or may not sign."""
        between = _Signer(_name("In Between"), ec.generate_private_key(ec.SECP256R1()))
        return [
            self._sign(_name(host), key, (host,), signer=between),
            self._sign(between.name, between.key, authority=authority),
        ]

    def _context(self, key: _Key, *chain: x509.Certificate) -> ssl.SSLContext:
        self._count += 1
        file = self._directory / f"server-{self._count}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain) + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # what is too weak is the other side's to say
        context.load_cert_chain(file)
        return context

    def _sign(  # the arguments are the certificate's fields
        self,
        subject: x509.Name,
        key: _Key,
        hosts: tuple[str, ...] = (),
        *,
        begins_in_days: int = -2,
        ends_in_days: int = 1,
        authority: bool = False,
        signer: _Signer | None = None,
        extra: x509.ExtensionType | None = None,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        issuer = signer or _Signer(self._name, self._key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=begins_in_days))
            .not_valid_after(now + dt.timedelta(days=ends_in_days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
            )
        )
        if authority:
            builder = builder.add_extension(_MAY_SIGN, critical=True)
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        if extra is not None:
            builder = builder.add_extension(extra, critical=False)
        return builder.sign(issuer.key, hashes.SHA256())


_MAY_SIGN = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
