"""The errors of the embedded PostgreSQL.

OperatorError
└── EmbeddedError
    └── InUseError
"""

from __future__ import annotations

from dispatcher.core.errors import OperatorError


class EmbeddedError(OperatorError):
    """The operator has to act: install, free or choose something; the message says what."""


class InUseError(EmbeddedError):
    """Another process owns the directory."""
