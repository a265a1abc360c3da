"""Webhook dispatcher for seismic and sensor networks."""

from typing import Final

__version__: Final = "0.1.0"
