"""What a check found: a verdict, what was seen, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Verdict = Literal["ok", "warn", "fail", "skipped"]


class Words(msgspec.Struct, frozen=True):
    """A sentence and what stands in its places, kept apart so that the sentence can be translated."""

    template: str
    values: Mapping[str, str] = {}

    def __str__(self) -> str:
        return self.template.format_map(self.values)


class Finding(msgspec.Struct, frozen=True):
    """One check's result. `check` is a stable name; `advice` is empty where there is nothing to do."""

    check: str
    verdict: Verdict
    found: Words
    advice: Words

    def plain(self) -> dict[str, str]:
        """Give it as texts, for programs."""
        return {
            "check": self.check,
            "verdict": self.verdict,
            "found": str(self.found),
            "advice": str(self.advice),
        }


def words(template: str, /, **values: object) -> Words:
    """Make a sentence; `{name}` stands for the value of that name."""
    return Words(template, {name: str(value) for name, value in values.items()})


NOTHING = words("")


def ok(check: str, found: Words, advice: Words = NOTHING) -> Finding:
    """Say that all is well."""
    return Finding(check, "ok", found, advice)


def warn(check: str, found: Words, advice: Words) -> Finding:
    """Say that it works, but not for long, or not well."""
    return Finding(check, "warn", found, advice)


def fail(check: str, found: Words, advice: Words) -> Finding:
    """Say that this keeps deliveries from arriving."""
    return Finding(check, "fail", found, advice)


def skipped(check: str, found: Words) -> Finding:
    """Say that it could not be looked at, or that there is nothing to look at."""
    return Finding(check, "skipped", found, NOTHING)


def any_failed(findings: Iterable[Finding]) -> bool:
    """Say whether a check failed; warnings do not count."""
    return any(finding.verdict == "fail" for finding in findings)


def short_time(seconds: float) -> str:
    """Write how long something took, in milliseconds; in seconds from ten of them on."""
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
