"""Compares what is locked with a copy of an advisory database in the OSV format, without the network.

    python packages/audit.py ADVISORIES [--ignore ID]…

ADVISORIES is a folder of JSON files, or the archive of them that osv.dev exports for PyPI. A line for each
finding; the status is 0 without one, 1 with some, 2 where the copy holds nothing to compare with.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from build_deb import ROOT, needed
from packaging.version import InvalidVersion, Version

_LOCKED: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)
_ECOSYSTEM: Final = "PyPI"


class Finding(NamedTuple):
    """An advisory that speaks of what is locked."""

    advisory: str
    names: tuple[str, ...]  # of the same advisory elsewhere, such as CVE-…
    package: str
    version: str
    fixed_in: tuple[str, ...]
    summary: str


class Unreadable(Exception):
    """The copy cannot be compared with."""


def normal(name: str) -> str:
    """Write a package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def advisories(source: Path) -> Iterator[dict[str, Any]]:
    """Read every advisory of a folder or an archive; raises `Unreadable` for what is none."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            texts = {name: archive.read(name) for name in archive.namelist() if name.endswith(".json")}
    else:
        texts = {str(path): path.read_bytes() for path in sorted(source.rglob("*.json"))}
    for name, text in texts.items():
        try:
            document = json.loads(text)
        except ValueError as error:
            raise Unreadable(f"{name}: expected JSON: {error}") from error
        if not isinstance(document, dict) or not {"id", "modified"} <= document.keys():
            raise Unreadable(f"{name}: expected an advisory in the OSV format")
        yield document


def affects(affected: dict[str, Any], version: Version) -> bool:
    """Evaluate an advisory about a package by OSV's own rule: listed, or inside a range."""
    listed = affected.get("versions", ())
    if any(_read(one) == version for one in listed):
        return True
    return any(
        _inside(one["events"], version) for one in affected.get("ranges", ()) if one["type"] == "ECOSYSTEM"
    )


def _inside(events: Iterable[dict[str, str]], version: Version) -> bool:
    inside = False
    marks = [(_read(mark), kind) for event in events for kind, mark in event.items() if kind != "limit"]
    for mark, kind in sorted(marks, key=lambda one: one[0]):
        if kind == "introduced":
            inside = inside or version >= mark
        elif (kind == "fixed" and version >= mark) or (kind == "last_affected" and version > mark):
            inside = False
    return inside


def _read(text: str) -> Version:
    """Read a version; one that PyPI would not take any more is older than everything."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0.dev0")


def findings(documents: Iterable[dict[str, Any]], locked: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    """Give what the advisories say about the locked packages; those that were withdrawn say nothing."""
    versions: dict[str, set[str]] = {}
    for name, version in locked:
        versions.setdefault(normal(name), set()).add(version)
    for document in documents:
        if document.get("withdrawn"):
            continue
        for affected in document.get("affected", ()):
            package = affected.get("package", {})
            if package.get("ecosystem") != _ECOSYSTEM:
                continue
            name = normal(package["name"])
            for version in sorted(versions.get(name, ())):
                if affects(affected, Version(version)):
                    yield Finding(
                        document["id"],
                        tuple(document.get("aliases", ())),
                        name,
                        version,
                        _fixes(affected),
                        str(document.get("summary") or document.get("details", "")).partition("\n")[0],
                    )


def _fixes(affected: dict[str, Any]) -> tuple[str, ...]:
    events = [event for one in affected.get("ranges", ()) for event in one["events"]]
    return tuple(event["fixed"] for event in events if "fixed" in event)


def main() -> int:
    """Compare, and say what was found."""
    parser = argparse.ArgumentParser(description="Compare requirements.lock with advisories (OSV).")
    parser.add_argument("advisories", type=Path, metavar="ADVISORIES", help="a folder of JSON, or an archive")
    parser.add_argument("--ignore", action="append", default=[], metavar="ID", help="accepted; repeatable")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock", help=argparse.SUPPRESS)
    given = parser.parse_args()
    locked = _LOCKED.findall(given.lock.read_text("utf-8"))
    try:
        documents = [
            one
            for one in advisories(given.advisories)
            if any(part.get("package", {}).get("ecosystem") == _ECOSYSTEM for part in one.get("affected", ()))
        ]
    except Unreadable as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not documents:
        sys.stderr.write(f"{given.advisories}: no advisory about packages of {_ECOSYSTEM} is in it\n")
        return 2
    found = [one for one in findings(documents, locked) if not {one.advisory, *one.names} & set(given.ignore)]
    operators = set(needed())
    for one in found:
        reach = "run by operators" if one.package in operators else "for development or an extra"
        fixed = f"fixed in {', '.join(one.fixed_in)}" if one.fixed_in else "no fix named"
        names = f" ({', '.join(one.names)})" if one.names else ""
        sys.stdout.write(
            f"{one.package} {one.version}, {reach}: {one.advisory}{names}, {fixed}: {one.summary}\n"
        )
    newest = max(str(one["modified"]) for one in documents)
    compared = f"{len(locked)} locked packages, {len(documents)} advisories, the newest of {newest}"
    sys.stdout.write(f"{compared}: {len(found)} findings\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
