"""A loss is not made good by a second run: what `.ci/run` runs once more is refused after one.

Faults do not come back by their seed, so a delivery that was lost or doubled is rarely lost again. Other
failures of tests that drive real processes may have been the machine's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

OPTION: Final = "--unless-lost"
_NOTE: Final = "dispatcher/lost"  # in pytest's cache: the tests of the last run that told of a loss


class NotConserved(AssertionError):
    """Something committed was lost, was delivered twice without cause, or cannot be explained."""


class Losses:
    """A plugin of pytest that notes which tests failed with `NotConserved`, whatever came of it later."""

    def __init__(self, config: pytest.Config) -> None:
        self._lost: list[str] = []
        # Each of xdist's workers has the plugin as well, and some runs have no cache; they note nothing.
        cache: pytest.Cache | None = getattr(config, "cache", None)
        self._cache = None if hasattr(config, "workerinput") else cache
        if self._cache is None:
            return
        if not config.getoption(OPTION):
            self._cache.set(_NOTE, [])
        elif lost := self._cache.get(_NOTE, []):
            raise pytest.UsageError(f"not once more: deliveries were lost or doubled in {', '.join(lost)}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Mark the report of a loss; a worker's reports travel to where they are decided on."""
        report = yield
        if call.excinfo is not None and _tells_of_loss(call.excinfo.value):
            report.user_properties.append((_NOTE, ""))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a loss at once: the run may not live to its end."""
        if self._cache is not None and (_NOTE, "") in map(tuple, report.user_properties):
            self._lost.append(report.nodeid)
            self._cache.set(_NOTE, self._lost)


def _tells_of_loss(error: BaseException) -> bool:
    """Look for `NotConserved` in groups, and behind errors that came of leaving after it."""
    known: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if isinstance(one, NotConserved):
            return True
        if id(one) in known:
            continue
        known.add(id(one))
        inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        left += (other for other in (one.__cause__, one.__context__, *inner) if other is not None)
    return False
