"""JSON in: the management API under `/v1`."""

from dispatcher.api.app import create_app
from dispatcher.api.context import ApiContext

__all__ = ["ApiContext", "create_app"]
