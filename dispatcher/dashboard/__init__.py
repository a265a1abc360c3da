"""The dashboard: Settings → Notifications → Webhooks, for people, on the same data as the API."""

from dispatcher.dashboard.app import Dashboard
from dispatcher.dashboard.context import DashboardContext

__all__ = ["Dashboard", "DashboardContext"]
