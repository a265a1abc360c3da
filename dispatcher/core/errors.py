"""Errors, named by who must act.

    DispatcherError
    ├── OperatorError         the operator: a setting, a permission, a missing migration
    ├── DatabaseUnavailable   everyone waits: PostgreSQL is away, starting, or refuses connections
    ├── LeaseLost             this process stops: another one leads now
    ├── UnwritableFact        us: PostgreSQL refuses the contents of a fact
    └── DrainExpired          the operator: requests in flight outlived `delivery.drain_s`

What an API client must change is an answer (`api/problems.py`), not an exception that travels. A bug is
whatever else is raised.
"""

from __future__ import annotations


class DispatcherError(Exception):
    """Any error that the dispatcher names."""


class OperatorError(DispatcherError):
    """The operator has to change something; the message says what."""


class DatabaseUnavailable(DispatcherError):
    """PostgreSQL does not answer at the moment; what was asked may or may not have been done."""


class LeaseLost(DispatcherError):
    """Another run took the lead: nothing more may be sent or recorded under this one."""


class UnwritableFact(DispatcherError):
    """PostgreSQL refuses the contents of at least one fact of a batch."""


class DrainExpired(DispatcherError):
    """Requests were cut off at shutdown; the next run records them as interrupted and sends them again."""
