"""The boundaries between the rooms, executed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dispatcher"

IMPURE = {
    *("asyncio", "socket", "ssl", "select", "selectors", "threading", "subprocess", "multiprocessing"),
    *("os", "pathlib", "io", "logging", "warnings", "random", "secrets", "time"),
    *("aiohttp", "asyncpg", "httptools", "uvloop", "structlog", "prometheus_client"),
}
ENTROPY_OR_CLOCK = {"now", "utcnow", "today", "uuid1", "uuid4", "urandom", "open", "input", "print"}


def test_imports_go_down_only_and_every_room_is_placed() -> None:
    """The contracts of pyproject.toml hold; they are exhaustive, so a new room is placed first."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"]
    linted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == linted.returncode, linted.stdout + linted.stderr


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda path: path.name)
def test_the_core_asks_neither_the_world_nor_the_clock(path: Path) -> None:
    """Time and chance are arguments: no import that could ask for them, no call that does."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Import():
                found += [name.name for name in node.names if name.name.partition(".")[0] in IMPURE]
            case ast.ImportFrom() if (node.module or "").partition(".")[0] in IMPURE:
                found.append(f"from {node.module}")
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in ENTROPY_OR_CLOCK:
                found.append(f"{name}() in line {node.lineno}")
            case _:
                pass
    assert [] == found, (
        f"{path.name} belongs to the core, which is pure; move this out or make it an argument"
    )


def loaded(*modules: str) -> set[str]:
    """Give the names of all modules that are loaded with these."""
    program = f"import sys, {', '.join(modules)}; print(*sorted(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


def test_the_command_line_answers_before_any_room_is_loaded() -> None:
    """`dispatcher --help`, `--version` and a shell's completion cost what reading the arguments costs."""
    heavy = {"asyncpg", "aiohttp", "uvloop", "prometheus_client", "structlog", "cryptography", "jinja2"}
    assert set() == heavy & loaded("dispatcher.cli")


def test_what_sends_is_loaded_without_what_listens() -> None:
    """The first request after a restart waits for no page, no schema, no other command's tool."""
    modules = loaded("dispatcher.cli", "dispatcher.app")
    assert {"asyncpg", "httptools", "uvloop", "dispatcher.daemon.run"} <= modules
    later = {"aiohttp", "babel", "jinja2", "xml", "cryptography.x509", "dispatcher.listeners"}
    later |= {f"dispatcher.{room}" for room in ("api", "dashboard", "diagnosis", "store.embedded")}
    assert set() == later & modules
    tools = {name for name in modules if name.startswith("dispatcher.tools.")}
    needed = {"arguments", "commands", "completion", "terminal"}  # to read the command line
    assert {f"dispatcher.tools.{name}" for name in needed} == tools


def test_opentelemetry_is_loaded_only_where_tracing_is_on() -> None:
    """It is an extra: without it everything else works, and costs nothing more."""
    modules = {name.partition(".")[0] for name in loaded("dispatcher.app", "dispatcher.listeners")}
    assert "asyncpg" in modules
    assert set() == {"opentelemetry", "requests", "google"} & modules
