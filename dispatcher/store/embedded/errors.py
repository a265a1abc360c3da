"""The errors of the embedded PostgreSQL.

OperatorError
└── EmbeddedError
    └── InUseError
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.core.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path


class EmbeddedError(OperatorError):
    """The operator has to act: install, free or choose something; the message says what."""


class InUseError(EmbeddedError):
    """Another process owns the directory."""


def unusable(data_dir: Path, error: OSError) -> EmbeddedError:
    """Say what the system has against the directory, and what can be done."""
    hint = "; run as the user that made it, or as root" if isinstance(error, PermissionError) else ""
    return EmbeddedError(f"data_dir: {data_dir}: {error}{hint}")
