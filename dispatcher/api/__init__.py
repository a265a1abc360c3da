"""JSON in: the management API under `/v1`."""

from dispatcher.api.app import create_app
from dispatcher.api.context import ApiContext
from dispatcher.api.runner import Runner

__all__ = ["ApiContext", "Runner", "create_app"]
