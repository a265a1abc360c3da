"""The errors of the embedded PostgreSQL.

EmbeddedError
└── InUseError
"""

from __future__ import annotations


class EmbeddedError(Exception):
    """The operator has to act: install, free or choose something; the message says what."""


class InUseError(EmbeddedError):
    """Another process owns the directory."""
